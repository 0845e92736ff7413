"""The nouns: what a resource is called, what it wants, and how a secret is named without being known.

Pure values. This room may import only pydantic and the standard library's data modules; it does no I/O and knows no vendor.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

JSONObject: TypeAlias = dict[str, Any]
"""A JSON object: string keys; values are None, bool, int, float, str, lists and objects of the same."""


def _without_credentials(text: str) -> str:
    if "@" in text.partition("?")[0] or "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("must hold no user name or password, because every message names the address; give them in settings of their own")
    return text


Address: TypeAlias = Annotated[str, AfterValidator(_without_credentials)]
"""An address in settings that may be shown. Raises ValueError for one that holds a user name or a password."""


@dataclass(frozen=True, slots=True, order=True)
class ResourceId:
    """What a resource is called everywhere: ``driver/Kind/name``; the name may itself contain slashes."""

    driver: str
    kind: str
    name: str

    def __str__(self) -> str:
        """Give the one written form, e.g. ``k8s/Service/mailserver/mailserver-proxy``."""
        return f"{self.driver}/{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the written form. Raises ValueError when it has fewer than three parts."""
        parts = text.split("/", 2)
        if len(parts) != 3 or not all(parts):
            raise ValueError(f"{text!r} is not a resource id; write driver/Kind/name")
        return cls(*parts)


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a resource is written: path inside the repository and line (from 1)."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        """Give ``file:line``."""
        return f"{self.file}:{self.line}"


class SecretRef:
    """A text that needs a secret to be complete. It names the secret and never holds its value.

    ``template`` is the text as written, expressions included; ``inputs`` are the ``(path, key)`` pairs it reads; ``scope`` is the
    canonical JSON of every other value its expressions use, so that two equal references always mean the same text.

    It is no dataclass, because ``model_dump`` would take a dataclass apart, and nobody downstream would know it for a secret.
    """

    __slots__ = ("inputs", "scope", "template")
    template: str
    inputs: tuple[tuple[str, str], ...]
    scope: str

    def __init__(self, template: str, inputs: tuple[tuple[str, str], ...], scope: str = "{}") -> None:
        """Name the secrets that ``template`` reads."""
        for name, value in (("template", template), ("inputs", inputs), ("scope", scope)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: a reference is a value."""
        raise AttributeError(f"a secret reference cannot be changed ({name})")

    def __eq__(self, other: object) -> bool:
        """Compare what they mean."""
        return isinstance(other, SecretRef) and self._key == other._key

    def __hash__(self) -> int:
        """Hash what it means."""
        return hash(self._key)

    def __repr__(self) -> str:
        """Show the text as written, which holds no value."""
        return f"SecretRef({self.template!r})"

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[tuple[str, str], ...], str]]:
        """Copy and pickle by building anew."""
        return type(self), self._key

    @property
    def _key(self) -> tuple[str, tuple[tuple[str, str], ...], str]:
        return self.template, self.inputs, self.scope

    @property
    def paths(self) -> tuple[str, ...]:
        """The secret paths read, sorted, each once."""
        return tuple(sorted({path for path, _ in self.inputs}))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept an instance only: text from YAML becomes a reference in the loader and nowhere else."""
        return core_schema.is_instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe it to editors as the text that a person writes."""
        return {"type": "string", "pattern": r"\$\{.*\}", "description": "a text with a ${vault(path, key)} reference"}


Text: TypeAlias = str | SecretRef
"""A string field that may also be given as a secret reference."""

Fingerprint: TypeAlias = Callable[[SecretRef], str]
"""Gives the keyed fingerprint of a reference at its present versions; reads no value."""


class SecretValue:
    """A secret in memory between its reading and its writing. Every way of printing it gives ``***``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Hold ``value``."""
        self._value = value

    def reveal(self) -> str:
        """Give the value. Call it only in the expression that builds the request body."""
        return self._value

    def out_of(self, text: str) -> str:
        """Give ``text`` with ``***`` in the place of the value, in each spelling by which a server may quote it.

        A value of less than four characters is left: it would be found where it does not stand.
        """
        for spelled in sorted(_spellings(self._value), key=len, reverse=True):
            text = text.replace(spelled, "***")
        return text

    def __repr__(self) -> str:
        """Never show the value."""
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> str:
        """Refuse pickling, so that no queue or cache ever stores a value."""
        raise TypeError("a secret value cannot be serialised")


_UNQUOTED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""What stands for itself in an address (RFC 3986, section 2.3)."""


def _spellings(value: str) -> set[str]:
    """Give a value in clear, as JSON and an address write it, and what base64 makes of it at each of the three places of a group."""
    raw = value.encode("utf-8", "surrogatepass")
    found = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    quoted = "".join(chr(one) if chr(one) in _UNQUOTED else f"%{one:02X}" for one in raw)
    found |= {quoted, quoted.replace("%2F", "/"), quoted.replace("%20", "+")}
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode()
        end = len(whole) if (before + len(raw)) % 3 == 0 else len(whole) - 4  # the last group says what follows, too
        inner = whole[4 if before else 0 : end]
        found |= {inner, inner.replace("+", "-").replace("/", "_")} if len(inner) >= 8 else set()
    return {one for one in found if len(one) >= 4}


class Drift(StrEnum):
    """What to do with a change that somebody made behind our back."""

    ENFORCE = "enforce"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """How one resource may be treated. Each field comes from the annotation ``reconciler/<field>``.

    ``ignore`` holds JSON pointers into the canonical form that are neither compared nor written; ``waive`` names rules of ``checks`` whose
    findings about this resource are known and accepted.
    """

    adopt: bool = False
    prune: bool = True
    protect: bool = False
    replace: bool = False
    drift: Drift = Drift.ENFORCE
    ignore: tuple[str, ...] = ()
    target: str = ""
    waive: tuple[str, ...] = ()


class Spec(BaseModel):
    """What a resource wants, in canonical form. Subclasses are total: a field left out means its documented default.

    Canonical form is made by the validators, so that two spellings of one wish are equal values. ``canonical`` is the form the core
    compares with ``Observation.live``; both must have exactly the same keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    immutable: ClassVar[tuple[str, ...]] = ()
    """JSON pointers of fields that the system cannot change in place; a difference there plans a replace."""

    identity_bearing: ClassVar[bool] = False
    """True when history or references hang on the system's own id, so that a replace needs ``reconciler/replace: "true"``."""

    @classmethod
    def kind_of(cls, document: JSONObject) -> str:
        """Give the kind that the id of this document has: its own, unless two groups of one driver may share a kind."""
        return str(document["kind"])

    @classmethod
    def from_document(cls, document: JSONObject) -> "tuple[str, Self]":
        """Build ``(name, spec)`` from a whole YAML document. Raises pydantic.ValidationError, its paths starting below ``spec``."""
        return str(document["metadata"]["name"]), cls.model_validate(document.get("spec") or {})

    def canonical(self, fingerprint: Fingerprint) -> JSONObject:
        """Give the comparable form: plain JSON, secrets as fingerprints."""
        plain = seal(self.model_dump(mode="python"), fingerprint)
        assert isinstance(plain, dict)
        return plain

    def stands_for(self) -> str:
        """Name the object in its system's own terms, so that two resources for one object are found before anything is asked.

        Empty where only the system can tell.
        """
        return ""

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Name resources of the same driver that must exist first. An id that the stack does not declare is no edge."""
        return ()

    def exports(self, name: str) -> JSONObject:
        """Give computed facts that ``ref()`` offers beside the document itself, e.g. a URL derived from the name."""
        return {}

    def with_live(self, paths: tuple[str, ...], live: JSONObject) -> Self:
        """Give a copy that wants what is live at ``paths``, for differences that are acknowledged or ignored.

        A secret stays as git has it: what is live is known by its fingerprint only, which must never be written in its place.
        Raises ValueError (pydantic's) when this spec cannot want what is live.
        """
        data = _listed(self.model_dump(mode="python"))
        for path in paths:
            if not is_sealed(found := get(live, path)):
                put(data, path, found)
        return self.model_validate(data)

    def secrets(self) -> tuple[SecretRef, ...]:
        """List every reference in the spec, in document order."""
        return tuple(find_secrets(self.model_dump(mode="python")))


@dataclass(frozen=True, slots=True)
class Resource:
    """One wish: the unit that its system writes.

    ``needs`` gate: this resource is not touched until they are applied and healthy. ``refs`` only order: they must be applied first.
    """

    id: ResourceId
    spec: Spec
    needs: tuple[ResourceId, ...] = ()
    refs: tuple[ResourceId, ...] = ()
    policy: ResourcePolicy = ResourcePolicy()
    origin: Origin = Origin()
    digest: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Compute the digest of what git asks for; versions of secrets are not part of it."""
        if not self.digest:
            object.__setattr__(self, "digest", digest(self.spec.canonical(lambda ref: f"{ref.template}\n{ref.scope}")))


def digest(value: object) -> str:
    """Give the SHA-256 of canonical JSON, 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(value: Any, fingerprint: Fingerprint) -> Any:
    """Replace every reference in nested data by ``secret:<fingerprint>``; tuples become lists, enums their values."""
    match value:
        case SecretRef():
            return f"secret:{fingerprint(value)}"
        case Mapping():
            return {str(key): seal(item, fingerprint) for key, item in value.items()}
        case list() | tuple():
            return [seal(item, fingerprint) for item in value]
        case set() | frozenset():
            return sorted((seal(item, fingerprint) for item in value), key=str)
        case StrEnum():
            return value.value
    return value


def is_sealed(value: Any) -> bool:
    """Say whether nested data of a canonical form holds the fingerprint of a secret."""
    match value:
        case str():
            return value.startswith("secret:")
        case Mapping():
            return any(is_sealed(item) for item in value.values())
        case list() | tuple():
            return any(is_sealed(item) for item in value)
    return False


def find_secrets(value: Any) -> Iterator[SecretRef]:
    """Yield every reference in nested data, in order."""
    match value:
        case SecretRef():
            yield value
        case Mapping():
            for item in value.values():
                yield from find_secrets(item)
        case list() | tuple() | set() | frozenset():
            for item in value:
                yield from find_secrets(item)


def _listed(value: Any) -> Any:
    """Make tuples lists, so that a pointer can lead into them."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def split_pointer(pointer: str) -> list[str]:
    """Split a JSON pointer (RFC 6901) into its keys. Raises ValueError when it does not start with a slash."""
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is not a JSON pointer; write it as /spec/replicas")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def join_pointer(parts: tuple[str, ...]) -> str:
    """Build a JSON pointer (RFC 6901) from its keys."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


def get(data: Any, pointer: str) -> Any:
    """Give what stands at ``pointer``, or None when nothing does."""
    for part in split_pointer(pointer):
        if isinstance(data, Mapping):
            data = data.get(part)
        elif isinstance(data, list | tuple) and part.isdecimal() and int(part) < len(data):
            data = data[int(part)]
        else:
            return None
    return data


def put(data: Any, pointer: str, value: Any) -> None:
    """Set what stands at ``pointer`` in place; a None removes the key of an object. A path that does not exist is left alone."""
    *parents, last = split_pointer(pointer)
    if parents:
        data = get(data, join_pointer(tuple(parents)))
    if isinstance(data, dict):
        if value is None:
            data.pop(last, None)
        else:
            data[last] = value
    elif isinstance(data, list) and last.isdecimal() and int(last) < len(data):
        data[int(last)] = value

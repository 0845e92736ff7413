"""What the kinds of pfSense have in common: names, ports and addresses in one spelling, and texts that its file can hold. Pure."""

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from reconciler.resource import JSONObject, ResourceId, Spec

DRIVER = "pfsense"
ALIAS_NAME = re.compile(r"[A-Za-z0-9_]{1,31}")
NEW_ALIAS_NAME = re.compile(r"(?!(?:\d+|_+|any|pass|port|(?:wan|lan|opt\d+)(?:ip)?)\Z)[A-Za-z0-9_]{1,31}")
PROXY_NAME = re.compile(r"[A-Za-z0-9._-]+")
SPECIAL_NETWORK = re.compile(r"(wan|lan|opt\d+)(ip)?|\(self\)")
SERVER_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
NUMERIC_PORT = re.compile(r"(\d{1,5})(?:[-:](\d{1,5}))?")


def _ascii(text: str) -> str:
    """Refuse what pfSense loses: outside its CDATA tags it writes ``ü`` as an HTML entity and then cannot read its own file."""
    if not text.isascii() or not text.isprintable():
        raise ValueError(
            f"{text!r} must be printable ASCII: pfSense writes other letters in this tag as HTML entities that it cannot read back, "
            "and then silently restores a backup of its whole configuration"
        )
    return text.strip()


def _line(text: str) -> str:
    """Allow any letters, on one line: these tags are written as CDATA."""
    if not text.isprintable():
        raise ValueError(f"{text!r} must be one line without control characters")
    return text.strip()


def named(pattern: re.Pattern[str], rule: str) -> Callable[[str], str]:
    """Make a check of a name."""

    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{text!r} is not a name that pfSense takes here: {rule}; set spec.name if metadata.name cannot be used")
        return text

    return check


def normal_port(text: str, separator: str = "-") -> str:
    """Give a port, a range with ``separator``, or the name of a port alias, in one spelling. Live text that is none is left alone."""
    found = NUMERIC_PORT.fullmatch(text.strip())
    if found is None:
        return text.strip()
    first, last = int(found[1]), int(found[2] or found[1])
    return str(first) if first == last else f"{first}{separator}{last}"


def port_of(value: Any) -> Any:
    """Accept a number, a range or a port alias."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return value
    text = normal_port(str(value))
    if not text:
        return text
    found = NUMERIC_PORT.fullmatch(text)
    if found and not 1 <= int(found[1]) <= int(found[2] or found[1]) <= 65535:
        raise ValueError(f"{text!r} is not a port or a range of ports from 1 to 65535")
    if not found and not ALIAS_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither a port, a range such as 2000-2010, nor the name of a port alias")
    return text


def normal_address(text: str) -> str:
    """Give one spelling for an address, a network, a special network or an alias, with ``!`` before it when negated."""
    text = text.strip()
    if text.startswith("!"):
        return "!" + normal_address(text[1:])
    try:
        return str(ip_network(text, strict=False)) if "/" in text else str(ip_address(text))
    except ValueError:
        return text


def family(text: str) -> str:
    """Say of which family a literal address or network is, in pfSense's words; empty for an alias or any other name."""
    try:
        return "inet6" if ip_network(text.removeprefix("!"), strict=False).version == 6 else "inet"
    except ValueError:
        return ""


def check_families(ipprotocol: str, *texts: str) -> None:
    """Raise ValueError for an address that no packet of this protocol has; pf refuses to load a rule that names one."""
    for text in texts:
        if family(text) not in ("", ipprotocol):
            raise ValueError(f"{text} does not go with ipprotocol {ipprotocol}; pf refuses a rule that mixes IPv4 and IPv6")


def one_place(text: str) -> str:
    """Refuse what names more or less than one place: a negation, a network, or everything."""
    if text.startswith("!") or "/" in text or text == "any":
        raise ValueError(f"{text!r} is no place to go or to listen at; give one address or an alias")
    return text


Word: TypeAlias = Annotated[str, AfterValidator(_ascii)]
"""A text in a plain tag of config.xml: printable ASCII."""

Line: TypeAlias = Annotated[str, AfterValidator(_line)]
"""A text in a CDATA tag of config.xml: any letters, one line."""

ALIAS_RULE = (
    "1 to 31 letters, digits and underscores, not only digits or underscores, and no word of its own such as any, pass, port or lan"
)
AliasName: TypeAlias = Annotated[str, AfterValidator(named(NEW_ALIAS_NAME, ALIAS_RULE))]
ProxyName: TypeAlias = Annotated[str, AfterValidator(named(PROXY_NAME, "letters, digits, dots, dashes and underscores"))]
Port: TypeAlias = Annotated[str, BeforeValidator(port_of), AfterValidator(_ascii)]
Address: TypeAlias = Annotated[str, AfterValidator(_ascii), AfterValidator(normal_address)]
Place: TypeAlias = Annotated[Address, AfterValidator(one_place)]
Milliseconds: TypeAlias = Annotated[int, Field(ge=1)]


def tokens_without(*reserved: str) -> Callable[[str], str]:
    """Make a check that words with a field of their own do not stand among free ones."""

    def check(text: str) -> str:
        for word in text.split():
            if word in reserved:
                raise ValueError(f"{word!r} has its own field here; remove it from advanced")
        return " ".join(text.split())

    return check


class Part(BaseModel):
    """A nested value of a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Named(Spec):
    """A kind whose name in pfSense is ``spec.name``, which defaults to ``metadata.name``. Others refer to it by name."""

    immutable: ClassVar[tuple[str, ...]] = ("/name",)

    @classmethod
    def from_document(cls, document: JSONObject) -> tuple[str, Self]:
        """Put ``metadata.name`` where ``spec.name`` is not given."""
        name, spec = str(document["metadata"]["name"]), document.get("spec") or {}
        return name, cls.model_validate({"name": name, **spec} if isinstance(spec, dict) else spec)


def aliases_in(*texts: str) -> tuple[ResourceId, ...]:
    """Give the ids of the aliases that ``texts`` may name; one that the stack does not declare is no edge."""
    names = sorted({text.removeprefix("!") for text in texts})
    return tuple(ResourceId(DRIVER, "Alias", name) for name in names if ALIAS_NAME.fullmatch(name) and not name.isdigit())

"""What can be wished of a Vault, in canonical form, and the native shapes of it. Pure; knows no client.

Values of secrets are never part of a wish. A ``Secret`` names keys, their shape, their consumers, and how a value is made when none is
there; people and other tools put the other values in.
"""

import re
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from reconciler.resource import Fingerprint, JSONObject, ResourceId, Spec, digest, split_pointer
from reconciler_vault.forms import as_cidrs, as_set, plain_path, references, seconds, tidy

DECLARED = "declared"
"""What is recorded of a key whose value other hands put in."""

BUILT_IN_POLICIES = frozenset({"root", "default", "default-ceiling"})
"""Policies that the server itself makes and does not let go."""

KEY_TYPES = frozenset({"rsa-2048", "rsa-3072", "rsa-4096", "ed25519", "uuid"})


Seconds = Annotated[int, BeforeValidator(seconds, json_schema_input_type=int | str), Field(ge=0)]
Names = Annotated[tuple[str, ...], BeforeValidator(as_set, json_schema_input_type=list[str] | str)]
Networks = Annotated[tuple[str, ...], BeforeValidator(as_cidrs, json_schema_input_type=list[str] | str)]


class VaultSpec(Spec):
    """What all kinds share: a natural name."""

    named_by: ClassVar[str] = ""
    """The field that defaults to ``metadata.name``."""

    @classmethod
    def from_document(cls, document: JSONObject) -> tuple[str, Self]:
        """Build ``(name, spec)``; the field in ``named_by`` may be left out."""
        name = str(document["metadata"]["name"])
        return name, cls.model_validate(({cls.named_by: name} if cls.named_by else {}) | (document.get("spec") or {}))

    @property
    @abstractmethod
    def natural(self) -> str:
        """What the object is called in the system, unique within its kind."""


class Generate(BaseModel):
    """How to make a value that nobody has to know. The hash of this is recorded beside the secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["password", "hex", "base64", "uuid", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519"] = Field(
        description="what to make; private keys come as PKCS#8 PEM"
    )
    length: int = Field(default=32, ge=8, le=4096, description="characters of a password, else random bytes; keys and uuids have their own")
    symbols: bool = Field(default=False, description="mix !#%*+-./:=?@_~ into a password; off, because not every consumer quotes well")
    epoch: int = Field(default=1, ge=1, description="raise it to have a new value made: a rotation is a commit")

    @property
    def record(self) -> str:
        """The text recorded for a key made by this: type and hash, never anything of the value."""
        plain = self.model_dump() | ({"length": 0} if self.type in KEY_TYPES else {})
        return f"generated {self.type} {digest(plain)[:16]}"


class KeySpec(BaseModel):
    """What one key of a secret must be. Shape is checked when a value is read for a write, never while observing."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    required: bool = Field(default=True, description="the secret is degraded while the key is missing")
    pattern: str | None = Field(default=None, description="regular expression to be found in the value; anchor it with ^ and $")
    json_schema: JSONObject | None = Field(default=None, alias="schema", description="JSON Schema of a value that is JSON text")
    form: Literal["password-map", "private-key", "json"] | None = Field(
        default=None,
        description="what the value is, so that it is checked and what is no secret of it is compared with other systems: the hosts of a "
        "Postfix password map, the public half of a private key in PEM; json is only checked",
    )
    published_by: str = Field(
        default="", description="id of the DNS record that publishes the public half of a private-key, for example that of a DKIM key"
    )
    consumers: tuple[str, ...] = Field(default=(), description="who uses it: resource ids or free text; none is reported")
    description: str = Field(default="", description="for people")
    generate: Generate | None = Field(default=None, description="make the value when the key is missing; never replaces one that is there")

    _left_alone: bool = PrivateAttr(default=False)

    @property
    def left_alone(self) -> bool:
        """True when a difference of this key is accepted for now: neither its value nor its record is written."""
        return self._left_alone

    def leave_alone(self) -> Self:
        """Give a copy that is not written."""
        copy = self.model_copy(update={"generate": None})
        copy._left_alone = True
        return copy

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: JSONObject | None) -> JSONObject | None:
        from jsonschema import SchemaError  # takes 0.1 s to import, and few secrets hold JSON
        from jsonschema.validators import validator_for

        if value is not None:
            try:
                validator_for(value).check_schema(value)
            except SchemaError as error:
                raise ValueError(f"not a JSON Schema: {error.message}") from None
            if any(not ref.startswith("#") for ref in references(value)):
                raise ValueError("a $ref may only lead into the same schema, such as #/$defs/address; nothing is fetched")
        return value

    @field_validator("published_by")
    @classmethod
    def _is_id(cls, value: str) -> str:
        if value:
            ResourceId.parse(value)
        return value

    @property
    def asks(self) -> bool:
        """True when something is asked of the value itself."""
        return bool(self.pattern or self.json_schema or self.form)

    @property
    def record(self) -> str:
        """What is recorded of the key in the metadata: how it is made, or which shape was asked of it, so that a new shape is a change."""
        if self.generate:
            return self.generate.record
        shape = self.model_dump(include={"required", "pattern", "json_schema", *({"form"} if self.form else ())})
        return f"{DECLARED} {digest(shape)[:16]}" if self.asks else DECLARED


class Secret(VaultSpec):
    """Keys of one KV v2 path. Other keys on the path belong to others and are never written, and no value is read to observe it."""

    immutable: ClassVar[tuple[str, ...]] = ("/path",)
    identity_bearing: ClassVar[bool] = True

    path: str = Field(description="mount and path below it, for example secret/platform")
    keys: Mapping[str, KeySpec] = Field(description="the keys this resource answers for")
    delete: Literal["retain", "soft", "purge"] = Field(
        default="retain",
        description="when taken out of git: leave it, soft-delete the version that was planned (a newer one stays), or destroy all "
        "versions for good",
    )
    recreate_deleted: bool = Field(
        default=False, description="make generated keys anew when the newest version was deleted; off, because a deletion is deliberate"
    )

    @field_validator("path")
    @classmethod
    def _has_mount(cls, value: str) -> str:
        path = plain_path(value)
        if "/" not in path:
            raise ValueError(f"{value!r} needs a mount and a path below it, such as secret/platform")
        return path

    @field_validator("keys")
    @classmethod
    def _fit_metadata(cls, value: Mapping[str, KeySpec]) -> Mapping[str, KeySpec]:
        if not 1 <= len(value) <= 48:
            raise ValueError("between 1 and 48 keys: each is recorded in custom_metadata, which holds 64 entries")
        for key in value:
            if not re.fullmatch(r"[\x21-\x7e]{1,100}", key):
                raise ValueError(f"{key!r} is not a key of 1 to 100 printable characters without blanks")
        return value

    @property
    def natural(self) -> str:
        """The path."""
        return self.path

    def canonical(self, fingerprint: Fingerprint) -> JSONObject:
        """Give what can be compared without reading a value: the path, and what is recorded of each key."""
        records = {key: wish.record for key, wish in self.keys.items()}
        return {"path": self.path, "keys": records, "delete": self.delete}

    def with_live(self, paths: tuple[str, ...], live: JSONObject) -> Self:
        """Want what is live: a key whose difference is accepted is left alone, and made or recorded when the acceptance ends."""
        places = [split_pointer(path) for path in paths]
        accepted = {key for key in self.keys if ["keys"] in places or ["keys", key] in places}
        keys = {key: wish.leave_alone() if key in accepted else wish for key, wish in self.keys.items()}
        return super().with_live(tuple(p for p in paths if split_pointer(p)[0] != "keys"), live).model_copy(update={"keys": keys})

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Come after the mount, where the stack declares one of this name."""
        return (ResourceId("vault", "Mount", self.path.split("/", 1)[0]),)


class Policy(VaultSpec):
    """An ACL policy. The mark is the first line of its text, a comment."""

    immutable: ClassVar[tuple[str, ...]] = ("/name",)
    named_by: ClassVar[str] = "name"

    name: str = Field(description="name of the policy; Vault writes it in lower case; metadata.name by default")
    policy: str = Field(description="the rules in HCL or JSON, compared without blanks at line ends")

    @field_validator("name")
    @classmethod
    def _lower(cls, value: str) -> str:
        name = plain_path(value).lower()
        if name in BUILT_IN_POLICIES:
            raise ValueError(f"the policy {name} belongs to the server; declare one of your own")
        return name

    @field_validator("policy")
    @classmethod
    def _tidy(cls, value: str) -> str:
        return tidy(value)

    @property
    def natural(self) -> str:
        """The name."""
        return self.name


class TokenRole(VaultSpec):
    """The fields of the tokens that a role gives, the same in every auth method."""

    immutable: ClassVar[tuple[str, ...]] = ("/mount", "/role")
    named_by: ClassVar[str] = "role"

    mount: str = Field(description="path of the auth method")
    role: str = Field(description="name of the role; metadata.name by default")
    token_policies: Names = Field(default=(), description="policies of the tokens; a set")
    token_ttl: Seconds = Field(default=0, description="life of a token; 0 for the mount's own")
    token_max_ttl: Seconds = Field(default=0, description="longest life with renewals; 0 for the mount's own")
    token_explicit_max_ttl: Seconds = Field(default=0, description="hard end of a token's life; 0 for none")
    token_period: Seconds = Field(default=0, description="period of a token that renews for ever; 0 for none")
    token_num_uses: int = Field(default=0, ge=0, description="uses of a token; 0 for no limit")
    token_no_default_policy: bool = Field(default=False, description="leave the policy called default out")
    token_bound_cidrs: Networks = Field(default=(), description="networks tokens may be used from; a set, empty for all")
    token_type: Literal["default", "default-service", "default-batch", "service", "batch"] = Field(
        default="default", description="kind of token"
    )

    @field_validator("mount", "role")
    @classmethod
    def _path(cls, value: str) -> str:
        return plain_path(value)

    @field_validator("role")
    @classmethod
    def _one_part(cls, value: str) -> str:
        if "/" in value:
            raise ValueError(f"{value!r} is not the name of a role; it has no slash")
        return value

    @property
    def natural(self) -> str:
        """Mount and role."""
        return f"{self.mount}/{self.role}"

    @property
    def endpoint(self) -> str:
        """The API path of the role, below ``/v1/``."""
        return f"auth/{self.mount}/role/{self.role}"

    def native(self) -> JSONObject:
        """Give the body that writes the role; every field is stated, so that a field taken out of git goes back to its default."""
        return self.model_dump(mode="json", exclude={"mount", "role"})

    @classmethod
    def from_native(cls, mount: str, role: str, data: Mapping[str, Any]) -> Self:
        """Read the answer of the server. Old aliases and fields of newer servers are left out."""
        known = {key: data[key] for key in cls.model_fields if data.get(key) not in (None, "")}
        return cls.model_validate(known | {"mount": mount, "role": role})

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Come after the auth method and the policies, where the stack declares them by these names."""
        return (ResourceId("vault", "AuthMount", self.mount), *(ResourceId("vault", "Policy", policy) for policy in self.token_policies))


class KubernetesRole(TokenRole):
    """Which service accounts may log in, and what they get."""

    mount: str = Field(default="kubernetes", description="path of the auth method")
    bound_service_account_names: Names = Field(description="service accounts that may log in; * for all")
    bound_service_account_namespaces: Names = Field(default=(), description="their namespaces; * for all")
    bound_service_account_namespace_selector: str = Field(
        default="", description="label selector of namespaces, JSON or YAML, instead of a list"
    )
    audience: str = Field(default="", description="audience that the token must have been made for; empty accepts any")
    alias_name_source: Literal["serviceaccount_uid", "serviceaccount_name"] = Field(
        default="serviceaccount_uid", description="what identifies the account; its name survives a re-creation"
    )


class AppRole(TokenRole):
    """A role for machines that hold a role id and a secret id. Secret ids are made by whoever needs them, not here."""

    mount: str = Field(default="approle", description="path of the auth method")
    bind_secret_id: bool = Field(default=True, description="ask for a secret id at login")
    secret_id_bound_cidrs: Networks = Field(default=(), description="networks a secret id may be used from; a set, empty for all")
    secret_id_num_uses: int = Field(default=0, ge=0, description="uses of a secret id; 0 for no limit")
    secret_id_ttl: Seconds = Field(default=0, description="life of a secret id; 0 for ever")


class MountBase(VaultSpec):
    """What secret engines and auth methods share. Both are made and tuned, never disabled: that would delete all they hold."""

    immutable: ClassVar[tuple[str, ...]] = ("/path",)
    identity_bearing: ClassVar[bool] = True
    named_by: ClassVar[str] = "path"
    table: ClassVar[str]
    """The API path of the table of mounts, below ``/v1/``."""

    path: str = Field(description="where it is mounted, without slashes at the ends; metadata.name by default")
    type: str = Field(description="kind of engine or method, for example kv or kubernetes; cannot be changed")
    description: str = Field(default="", description="for people; our mark is kept behind it")
    default_lease_ttl: Seconds = Field(default=0, description="default life of leases and tokens; 0 for the server's")
    max_lease_ttl: Seconds = Field(default=0, description="longest life of leases and tokens; 0 for the server's")

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        return plain_path(value)

    @property
    def natural(self) -> str:
        """The path."""
        return self.path

    @classmethod
    def from_native(cls, path: str, data: Mapping[str, Any], description: str) -> Self:
        """Read one entry of the table; ``description`` comes without the mark."""
        config = data.get("config") or {}
        leases = {key: config.get(key) or 0 for key in ("default_lease_ttl", "max_lease_ttl")}
        options = {"options": data.get("options") or {}} if "options" in cls.model_fields else {}
        return cls.model_validate({"path": path, "type": data["type"], "description": description} | leases | options)


class Mount(MountBase):
    """A secrets engine."""

    table: ClassVar[str] = "sys/mounts"

    options: Mapping[str, str] = Field(default_factory=dict, description='engine options, all texts; for kv {"version": "2"}')

    @model_validator(mode="before")
    @classmethod
    def _texts(cls, data: Any) -> Any:
        if isinstance(data, dict):
            options = {str(key): str(value) for key, value in (data.get("options") or {}).items()}
            data = data | {"options": ({"version": "1"} if data.get("type") == "kv" else {}) | options}
        return data


class AuthMount(MountBase):
    """An auth method."""

    table: ClassVar[str] = "sys/auth"

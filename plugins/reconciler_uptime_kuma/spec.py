"""What a person may wish of Uptime Kuma, in canonical form. Pure: models and validators, no network."""

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from reconciler.resource import JSONObject, ResourceId, SecretRef, Spec, Text, find_secrets
from reconciler_uptime_kuma import marks
from reconciler_uptime_kuma.dialect import COMPUTED, EXTRA_DEFAULTS, EXTRA_DEFAULTS_2, MANAGED

DRIVER = "uptime-kuma"
TOKEN_LENGTH = 32

_HTTP = ("url", "method")
SHAPES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "port": (("hostname", "port"), ()),
    "http": (("url",), ("method",)),
    "keyword": (("url", "keyword"), ("method",)),
    "json-query": (("url", "json_path", "expected_value"), ("method", "json_path_operator")),
    "ping": (("hostname",), ()),
    "dns": (("hostname",), ("port", "dns_resolve_type", "dns_resolve_server")),
    "push": ((), ("push_token",)),
    "group": ((), ()),
    "docker": ((), ()),
    "tailscale-ping": (("hostname",), ()),
    "real-browser": (("url",), ()),
    "mqtt": (("hostname",), ("port",)),
    "radius": (("hostname",), ("port",)),
    "steam": (("hostname", "port"), ()),
    "gamedig": (("hostname", "port"), ()),
    "smtp": (("hostname",), ("port",)),
    "snmp": (("hostname",), ("port", "json_path", "json_path_operator", "expected_value")),
    "grpc-keyword": (("keyword",), ()),
    "websocket-upgrade": (("url",), ()),
    "sqlserver": ((), ()),
    "postgres": ((), ()),
    "mysql": ((), ()),
    "mongodb": ((), ("json_path", "expected_value")),
    "redis": ((), ()),
    "kafka-producer": ((), ()),
    "rabbitmq": ((), ()),
    "manual": ((), ()),
    "sip-options": (("hostname",), ("port",)),
    "system-service": ((), ()),
}
"""For each type of monitor, the fields that say what is watched: those it needs, and those it also knows."""

TARGETS = (
    "hostname",
    "port",
    "url",
    "method",
    "keyword",
    "json_path",
    "json_path_operator",
    "expected_value",
    "dns_resolve_type",
    "dns_resolve_server",
    "push_token",
)
"""Every field that says what is watched. One that a type does not know must keep its default, and is not compared."""

EXTRAS = frozenset(EXTRA_DEFAULTS) | frozenset(EXTRA_DEFAULTS_2)
REQUIRED_EXTRAS: Mapping[str, tuple[str, ...]] = {"docker": ("docker_container", "docker_host"), "grpc-keyword": ("grpcUrl",)}


def knows(type: str) -> frozenset[str]:
    """Name the target fields that ``type`` knows; every one for a type that is newer than this table."""
    if type not in SHAPES:
        return frozenset(TARGETS)
    needed, optional = SHAPES[type]
    return frozenset(needed) | frozenset(optional)


def derived_token(name: str) -> str:
    """Give the push token of a monitor that names none: always the same for one resource name, so that it can be written down once.

    It is no secret for those who can read git; a monitor that anybody may reach should get its token from a secret store.
    """
    return hashlib.sha256(f"{DRIVER}/Monitor/{name}".encode()).hexdigest()[:TOKEN_LENGTH]


def _title(value: str) -> str:
    return value.strip()


def _human(value: str) -> str:
    text, tag = marks.split(value)
    if tag is not None:
        raise ValueError("must not contain a mark; leave the line that begins with reconciler: out")
    return text


def _sorted_set(values: list[str]) -> list[str]:
    return sorted(set(values))


def _canonical_extra(value: Any) -> Any:
    """Bring JSON that a column holds as text into one spelling: the web page indents it anew at each edit."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(value), separators=(",", ":"), sort_keys=True)
        except ValueError:
            return value
    return None if value == "" else value


_JSON_TEXTS = frozenset({"headers", "body", "grpcBody", "grpcMetadata"})


def canonical_extras(values: Mapping[str, Any]) -> dict[str, Any]:
    """Bring extra columns into canonical form; used for both what is wanted and what is live."""
    texts = {
        key: json.dumps(value) if key in _JSON_TEXTS and isinstance(value, dict) and not any(find_secrets(value)) else value
        for key, value in values.items()
    }
    return {key: value if isinstance(value, SecretRef) else _canonical_extra(value) for key, value in sorted(texts.items())}


Title: TypeAlias = Annotated[str, AfterValidator(_title), Field(min_length=1, max_length=150)]
Names: TypeAlias = Annotated[list[str], AfterValidator(_sorted_set)]


class _Named(Spec):
    """A spec whose ``title`` is the resource's name unless it says otherwise."""

    title: Title = Field(default="", description="What people see in Uptime Kuma; the resource's name when left out.")

    @classmethod
    def from_document(cls, document: JSONObject) -> tuple[str, Self]:
        """Build ``(name, spec)``; the name is where defaults come from."""
        name = str(document["metadata"]["name"])
        return name, cls.model_validate(document.get("spec") or {}, context={"name": name})

    @model_validator(mode="before")
    @classmethod
    def _defaults_from_name(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        name = (info.context or {}).get("name", "")
        if name and not data.get("title"):
            data["title"] = name
        return cls._derive(data, name or str(data.get("title", "")))

    @classmethod
    def _derive(cls, data: dict[str, Any], name: str) -> dict[str, Any]:
        return data


class Monitor(_Named):
    """One thing that Uptime Kuma watches. History hangs on its number, so every change is an edit, even one of ``type``."""

    identity_bearing: ClassVar[bool] = True

    type: str = Field(description="What kind of check: port, http, keyword, json-query, ping, dns, push, group, docker, …")
    hostname: Annotated[str, AfterValidator(str.strip)] = Field(default="", description="Host name or address to watch.")
    port: int | None = Field(default=None, ge=1, le=65535, description="TCP or UDP port to watch; 53 for dns when left out.")
    url: Annotated[str, AfterValidator(str.strip)] = Field(default="", description="Address to fetch.")
    method: Annotated[str, AfterValidator(str.upper)] = Field(default="GET", description="HTTP method.")
    keyword: str = Field(default="", description="Text that the answer must contain.")
    json_path: str = Field(default="", description="JSONata expression that picks a value out of the answer.")
    json_path_operator: str = Field(default="==", description="How the picked value is compared; 2.x only.")
    expected_value: str = Field(default="", description="What the picked value is compared with.")
    dns_resolve_type: Annotated[str, AfterValidator(str.upper)] = Field(default="A", description="Record type to ask for.")
    dns_resolve_server: str = Field(default="1.1.1.1", description="Resolver to ask.")
    interval: int = Field(default=60, ge=1, description="Seconds between checks; at least 20 before 2.1.")
    retry_interval: int = Field(default=60, ge=1, description="Seconds between checks while it fails; 0 would make every later edit fail.")
    resend_interval: int = Field(default=0, ge=0, description="Announce again after so many failed checks; 0 never.")
    max_retries: int = Field(default=0, ge=0, description="Failed checks to wait for before it counts as down.")
    timeout: float = Field(default=48, ge=0, description="Seconds until a check counts as failed; 48 is 0.8 of the default interval.")
    upside_down: bool = Field(default=False, description="Whether an answer means down.")
    accepted_statuscodes: Names = Field(default=["200-299"], min_length=1, description="HTTP status codes that mean up.")
    parent: str = Field(default="", description="Name of the Monitor of type group that this one stands under.")
    notifications: Names = Field(default=[], description="Names of the Notifications to use; also the title of one made by hand.")
    description: Annotated[str, AfterValidator(_human)] = Field(default="", description="Text for people; our mark is added below it.")
    active: bool = Field(default=True, description="Whether it checks; false means paused.")
    push_token: Text = Field(default="", description="Token of a push monitor's address; derived from the resource's name when left out.")
    extra: dict[str, Any] = Field(default_factory=dict, description="Further columns by their own names, e.g. ignoreTls, maxredirects.")
    id: int | None = Field(default=None, ge=1, description="Number of the existing monitor to adopt and edit; never created anew.")

    @classmethod
    def _derive(cls, data: dict[str, Any], name: str) -> dict[str, Any]:
        if data.get("type") == "push" and not data.get("push_token"):
            data["push_token"] = derived_token(name)
        if data.get("type") == "dns" and data.get("port") is None:
            data["port"] = 53
        if isinstance(data.get("extra"), dict):
            data["extra"] = canonical_extras(data["extra"])
        return data

    @model_validator(mode="after")
    def _fits_its_type(self, info: ValidationInfo) -> Self:
        if not self.title:
            raise ValueError("title is empty; write one")
        if self.type not in SHAPES:
            close = get_close_matches(self.type, SHAPES, n=1)
            raise ValueError(
                f"type {self.type!r} is not known" + (f"; did you mean {close[0]}?" if close else f"; use one of {', '.join(SHAPES)}")
            )
        self._check_targets()
        self._check_extra()
        if self.parent and self.parent == (info.context or {}).get("name"):
            raise ValueError("parent names the monitor itself, which would make Uptime Kuma hang; name its group")
        return self

    def _check_targets(self) -> None:
        needed, _ = SHAPES[self.type]
        for field in needed:
            if not getattr(self, field):
                raise ValueError(f"a {self.type} monitor needs {field}")
        for field in sorted(set(TARGETS) - knows(self.type)):
            if getattr(self, field) != type(self).model_fields[field].default:
                raise ValueError(f"a {self.type} monitor has no {field}; leave it out")
        if "url" in needed and "://" not in self.url:
            raise ValueError(f"url {self.url!r} has no scheme; write https://…")

    def _check_extra(self) -> None:
        for key in self.extra:
            if key in MANAGED or key in COMPUTED:
                raise ValueError(f"extra.{key} is not for extra; use the field of its own, or leave it out")
            if not isinstance(self.extra[key], SecretRef) and any(find_secrets(self.extra[key])):
                raise ValueError(f"extra.{key} holds a secret reference inside a list or object; write the whole value as one text")
            if key not in EXTRAS:
                close = get_close_matches(key, EXTRAS, n=1)
                raise ValueError(f"extra.{key} is no column of a monitor" + (f"; did you mean {close[0]}?" if close else ""))
        for key in REQUIRED_EXTRAS.get(self.type, ()):
            if not self.extra.get(key):
                raise ValueError(f"a {self.type} monitor needs extra.{key}")

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Come after the group and the notifications that are named."""
        parent = (ResourceId(DRIVER, "Monitor", self.parent),) if self.parent and self.parent != name else ()
        return (*parent, *(ResourceId(DRIVER, "Notification", one) for one in self.notifications))


class Notification(_Named):
    """One channel that Uptime Kuma can announce through. ``config`` holds what its type asks for, under Uptime Kuma's own names."""

    type: str = Field(min_length=1, description="The channel, as Uptime Kuma calls it: slack, smtp, webhook, telegram, ntfy, …")
    config: dict[str, bool | int | float | Text] = Field(
        default_factory=dict, description="Settings of the channel; secrets as references."
    )
    default: bool = Field(default=False, description="Whether the web page preselects it for new monitors.")

    @model_validator(mode="after")
    def _leaves_our_keys_alone(self) -> Self:
        if not self.title:
            raise ValueError("title is empty; write one")
        for key in sorted({"name", "type", "isDefault", "applyExisting", marks.CONFIG_KEY} & self.config.keys()):
            raise ValueError(f"config.{key} is not for config; use title, type and default")
        return self

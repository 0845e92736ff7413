"""What a person may wish to be watched and announced, in canonical form. Pure: models and validators, no network."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from reconciler.resource import JSONObject, ResourceId, SecretRef, Text, find_secrets
from reconciler_uptime_kuma import marks
from reconciler_uptime_kuma.dialect import COMPUTED, MANAGED
from reconciler_uptime_kuma.named import DRIVER, Human, Named, Names
from reconciler_uptime_kuma.shapes import EXTRAS, REQUIRED_EXTRAS, SHAPES, TARGETS, knows

TOKEN_LENGTH = 32


def derived_token(name: str) -> str:
    """Give the push token of a monitor that names none: always the same for one resource name, so that it can be written down once.

    It is no secret for those who can read git; a monitor that anybody may reach should get its token from a secret store.
    """
    return hashlib.sha256(f"{DRIVER}/Monitor/{name}".encode()).hexdigest()[:TOKEN_LENGTH]


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


def _base(value: str) -> str:
    value = value.strip().rstrip("/")
    if value and "://" not in value:
        raise ValueError(f"{value!r} has no scheme; write https://…")
    return value


class Monitor(Named):
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
    description: Human = Field(default="", description="Text for people; our mark is added below it.")
    active: bool = Field(default=True, description="Whether it checks; false means paused.")
    push_token: Text = Field(default="", description="Token of a push monitor's address; derived from the resource's name when left out.")
    push_base: Annotated[str, AfterValidator(_base)] = Field(
        default="",
        description="Address of Uptime Kuma as the caller of a push monitor reaches it, e.g. https://status.example.org; "
        '`ref("uptime-kuma/Monitor/<name>").pushUrl` begins with it.',
    )
    docker_container: str = Field(default="", description="Name of the container to watch.")
    docker_host: str = Field(default="", description="Name of the Docker host, as made in the settings of Uptime Kuma.")
    tags: dict[str, str] = Field(
        default_factory=dict,
        description="Labels with a value, which may be empty. Decoration only: tags that people put stay, and none says whose it is.",
    )
    extra: dict[str, Any] = Field(default_factory=dict, description="Further columns by their own names, e.g. ignoreTls, maxredirects.")
    id: int | None = Field(default=None, ge=1, description="Number of the existing monitor to adopt and edit; never created anew.")
    copies: Literal["report", "delete"] = Field(
        default="report",
        description="What to do with further monitors that carry the same mark, because somebody cloned it or a pass died: only say so, "
        "or delete them with their history.",
    )

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
        if self.type not in SHAPES:
            close = get_close_matches(self.type, SHAPES, n=1)
            raise ValueError(
                f"type {self.type!r} is not known" + (f"; did you mean {close[0]}?" if close else f"; use one of {', '.join(SHAPES)}")
            )
        faults = [*self._target_faults(), *self._extra_faults()]
        if self.parent and self.parent == (info.context or {}).get("name"):
            faults.append("parent names the monitor itself, which would make Uptime Kuma hang; name its group")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _target_faults(self) -> Iterator[str]:
        needed, _ = SHAPES[self.type]
        for field in needed:
            if not getattr(self, field):
                yield f"a {self.type} monitor needs {field}"
        for field in sorted({*TARGETS, "push_base"} - knows(self.type) - ({"push_base"} if self.type == "push" else set())):
            if getattr(self, field) != type(self).model_fields[field].default:
                yield f"a {self.type} monitor has no {field}; leave it out"
        if "url" in needed and self.url and "://" not in self.url:
            yield f"url {self.url!r} has no scheme; write https://…"

    def _extra_faults(self) -> Iterator[str]:
        for key in self.extra:
            if key in MANAGED or key in COMPUTED:
                yield f"extra.{key} is not for extra; use the field of its own, or leave it out"
            elif not isinstance(self.extra[key], SecretRef) and any(find_secrets(self.extra[key])):
                yield f"extra.{key} holds a secret reference inside a list or object; write the whole value as one text"
            elif key not in EXTRAS:
                close = get_close_matches(key, EXTRAS, n=1)
                yield f"extra.{key} is no column of a monitor" + (f"; did you mean {close[0]}?" if close else "")
        for key in REQUIRED_EXTRAS.get(self.type, ()):
            if not self.extra.get(key):
                yield f"a {self.type} monitor needs extra.{key}"

    def exports(self, name: str) -> JSONObject:
        """Offer ``pushUrl``, which whoever proves a push monitor calls; none where the token is a secret, or where it is not known."""
        if self.type != "push" or not isinstance(self.push_token, str) or not self.push_base:
            return {}
        return {"pushUrl": f"{self.push_base}/api/push/{self.push_token}"}

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Come after the group and the notifications that are named."""
        parent = (ResourceId(DRIVER, "Monitor", self.parent),) if self.parent and self.parent != name else ()
        return (*parent, *(ResourceId(DRIVER, "Notification", one) for one in self.notifications))


class Notification(Named):
    """One channel that Uptime Kuma can announce through. ``config`` holds what its type asks for, under Uptime Kuma's own names."""

    type: str = Field(min_length=1, description="The channel, as Uptime Kuma calls it: slack, smtp, webhook, telegram, ntfy, …")
    config: dict[str, bool | int | float | Text] = Field(
        default_factory=dict, description="Settings of the channel; secrets as references."
    )
    default: bool = Field(default=False, description="Whether the web page preselects it for new monitors.")

    @model_validator(mode="after")
    def _leaves_our_keys_alone(self) -> Self:
        for key in sorted({"name", "type", "isDefault", "applyExisting", marks.CONFIG_KEY} & self.config.keys()):
            raise ValueError(f"config.{key} is not for config; use title, type and default")
        return self

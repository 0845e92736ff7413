"""What a DNS record wants, in canonical form, and its shape in Cloudflare's API in both directions. Pure."""

import json
from functools import cached_property, partial
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from reconciler.driver import Mark
from reconciler.resource import Fingerprint, JSONObject, Spec
from reconciler_cloudflare.data import MODELS, known, structured
from reconciler_cloudflare.values import address, host, record_name, txt_join, txt_quote, txt_text

RecordType: TypeAlias = Literal[
    "A", "AAAA", "CAA", "CERT", "CNAME", "DNSKEY", "DS", "HTTPS", "LOC", "MX", "NAPTR",
    "NS", "OPENPGPKEY", "PTR", "SMIMEA", "SRV", "SSHFP", "SVCB", "TLSA", "TXT", "URI",
]  # fmt: skip

PROXIABLE = frozenset({"A", "AAAA", "CNAME"})
RANKED = frozenset({"MX", "URI"})
HOSTED = frozenset({"CNAME", "MX", "NS", "PTR"})
AUTOMATIC = 1
"""The TTL that leaves the choice to Cloudflare; a proxied record has no other."""


class RecordSettings(BaseModel):
    """Cloudflare's switches beside a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ipv4_only: bool = Field(default=False, description="Answer only with IPv4 addresses; proxied records only.")
    ipv6_only: bool = Field(default=False, description="Answer only with IPv6 addresses; proxied records only.")
    flatten_cname: bool = Field(default=False, description="Answer with the addresses behind a CNAME; paid plans only.")


SWITCHES = tuple(RecordSettings.model_fields)


class DNSRecord(Spec):
    """One record of one zone. Two records differ when their type, name, content or (MX) priority differ."""

    immutable = ("/zone", "/type")

    zone: str = Field(description="The zone's name, such as example.com.")
    name: str = Field(description="The full name, such as www.example.com; @ means the zone itself.")
    type: Annotated[RecordType, BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)] = Field(
        description="The record type."
    )
    content: str | None = Field(
        default=None,
        validate_default=True,
        description="The value of a plain type: an address, a host, or for TXT the whole text, however long and without quotes.",
    )
    data: JSONObject | None = Field(
        default=None,
        validate_default=True,
        description="The value of a structured type (" + ", ".join(MODELS) + "), field by field.",
    )
    priority: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        default=None, validate_default=True, description="MX: required. URI: default 0. Not for other types."
    )
    proxied: bool = Field(default=False, description="Whether traffic goes through Cloudflare; A, AAAA and CNAME only. Never for mail.")
    ttl: int = Field(
        default=AUTOMATIC,
        description="Seconds, 60 to 86400 (30 on Enterprise), or auto (written 1). A proxied record is always auto.",
    )
    settings: RecordSettings = RecordSettings()
    comment: str = Field(default="", description="A remark for people; it shares Cloudflare's limit with our mark.")
    tags: tuple[str, ...] = Field(default=(), description="name:value pairs, in any order; paid plans only.")
    exclusive: bool = Field(
        default=False,
        description="Whether the records of this type and name must all be this stack's; others are reported, never deleted.",
    )

    @field_validator("zone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return host(value)

    @field_validator("name")
    @classmethod
    def _name(cls, value: str, info: ValidationInfo) -> str:
        return record_name(value, info.data["zone"]) if "zone" in info.data else value

    @field_validator("content")
    @classmethod
    def _content(cls, value: str | None, info: ValidationInfo) -> str | None:
        type = info.data.get("type")
        if type is None:
            return value
        if (value is None) is not (type in MODELS):
            raise ValueError(f"{type} takes data, not content" if type in MODELS else f"{type} needs content")
        return None if value is None else plain(type, value)

    @field_validator("data")
    @classmethod
    def _data(cls, value: JSONObject | None, info: ValidationInfo) -> JSONObject | None:
        type = info.data.get("type")
        if type is None:
            return value
        if (value is not None) is not (type in MODELS):
            raise ValueError(
                f"{type} needs data with {', '.join(MODELS[type].model_fields)}" if type in MODELS else f"{type} takes no data"
            )
        return None if value is None else structured(type, value)

    @field_validator("priority")
    @classmethod
    def _priority(cls, value: int | None, info: ValidationInfo) -> int | None:
        type = info.data.get("type")
        if type == "MX" and value is None:
            raise ValueError("MX needs a priority")
        if type is not None and type not in RANKED and value is not None:
            raise ValueError(f"{type} takes no priority here; structured types have it inside data")
        return 0 if type == "URI" and value is None else value

    @field_validator("proxied")
    @classmethod
    def _proxied(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("type", "A") not in PROXIABLE:
            raise ValueError(f"{info.data['type']} cannot be proxied; only A, AAAA and CNAME can")
        return value

    @field_validator("ttl", mode="before")
    @classmethod
    def _auto(cls, value: Any) -> Any:
        return AUTOMATIC if value == "auto" else value

    @field_validator("ttl")
    @classmethod
    def _ttl(cls, value: int, info: ValidationInfo) -> int:
        if value != AUTOMATIC and not 30 <= value <= 86400:
            raise ValueError(f"{value} is not a ttl; write auto, or 60 to 86400 seconds")
        return AUTOMATIC if info.data.get("proxied") else value

    @field_validator("comment")
    @classmethod
    def _comment(cls, value: str) -> str:
        if "\n" in value.strip() or "\r" in value.strip():
            raise ValueError("a comment is one line")
        return value.strip()

    @field_validator("tags")
    @classmethod
    def _tags(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _switches(self) -> "DNSRecord":
        if self.settings.ipv4_only and self.settings.ipv6_only:
            raise ValueError("settings: ipv4_only and ipv6_only exclude each other")
        if self.settings.flatten_cname and self.type != "CNAME":
            raise ValueError("settings: flatten_cname is for CNAME only")
        return self

    def stands_for(self) -> str:
        """A record is its type, name, content and, for MX, priority."""
        return "/".join(str(part) for part in key_of(self.form))

    def canonical(self, fingerprint: Fingerprint) -> JSONObject:
        """Give the comparable form, which is the same whatever ``fingerprint`` says: DNS holds no secrets."""
        return self.form

    @cached_property
    def form(self) -> JSONObject:
        """The canonical form, made once because a pass reads it often; not to be changed.

        ``exclusive`` is about the neighbours and no field of the record.
        """
        form = super().canonical(lambda ref: ref.template)
        del form["exclusive"]
        return form


def plain(type: str, content: str) -> str:
    """Give the canonical content of a plain type. Raises ValueError when it cannot be one."""
    if type in ("A", "AAAA"):
        return address(content, 4 if type == "A" else 6)
    if type in HOSTED:
        return host(content)
    if type == "OPENPGPKEY":
        return "".join(content.split())
    octets = len(txt_join(content))
    if not octets:
        raise ValueError("a TXT record needs some text")
    if octets + -(-octets // 255) > 4096:
        raise ValueError("a TXT record holds at most 4096 octets, one more for every 255 included")
    return txt_text(content)


def form_of(record: JSONObject, zone: str) -> JSONObject:
    """Give the canonical form of a record as the API answers it; its comment as it stands.

    Never refuses: what cannot be put into canonical form is left as it is, so that one odd neighbour does not hide a zone.
    """
    type = str(record["type"])
    settings, tags = record.get("settings"), record.get("tags")
    ranked = type in RANKED
    return {
        "zone": zone,
        "name": _or_same(host, str(record["name"])),
        "type": type,
        "content": None if type in MODELS else _or_same(partial(plain, type), str(record.get("content") or "")),
        "data": _live_data(type, record.get("data")) if type in MODELS else None,
        "priority": int(record.get("priority") or 0) if ranked else None,
        "proxied": bool(record.get("proxied")),
        "ttl": AUTOMATIC if record.get("proxied") else int(record.get("ttl") or AUTOMATIC),
        "settings": {name: bool(settings.get(name)) for name in SWITCHES} if settings else dict.fromkeys(SWITCHES, False),
        "comment": (record.get("comment") or "").strip(),
        "tags": sorted(set(tags)) if tags else [],
    }


def _or_same(read: Any, text: str) -> str:
    try:
        return str(read(text))
    except ValueError:
        return text


def _live_data(type: str, data: Any) -> JSONObject:
    try:
        return structured(type, known(type, data))
    except ValidationError:
        return dict(data) if isinstance(data, dict) else {}


Key: TypeAlias = tuple[str, str, str, int]


def key_of(form: JSONObject) -> Key:
    """Give what makes a record that record: type, name, canonical content and, for MX, the priority."""
    value = form["content"] if form["content"] is not None else json.dumps(form["data"], sort_keys=True)
    return form["type"], form["name"], value, form["priority"] if form["type"] == "MX" else -1


def body_of(form: JSONObject, comment: str) -> JSONObject:
    """Give the body that creates a record; switches and tags only where used: plans without them refuse the mere mention."""
    body = {"name": form["name"], "type": form["type"], **_value(form), "ttl": form["ttl"], "comment": comment}
    if form["type"] in PROXIABLE:
        body["proxied"] = form["proxied"]
    if any(form["settings"].values()):
        body["settings"] = _switches_of(form)
    if form["tags"]:
        body["tags"] = list(form["tags"])
    return body


def patch_of(live: JSONObject, wanted: JSONObject, comments: tuple[str, str]) -> JSONObject:
    """Give the fields that lead from ``live`` to ``wanted``, with comments (before, after); empty when there is nothing to do.

    Name and type go along with every patch: the API describes its body as one of 21 shapes, told apart by the type.
    """
    changed = {key for key in wanted if key != "comment" and wanted[key] != live[key]}
    patch: JSONObject = {}
    if changed & {"content", "data", "priority"}:
        patch |= _value(wanted)
    if changed & {"proxied", "ttl"}:
        patch |= {"ttl": wanted["ttl"]} | ({"proxied": wanted["proxied"]} if wanted["type"] in PROXIABLE else {})
    if "settings" in changed:
        patch["settings"] = _switches_of(wanted)
    if "tags" in changed:
        patch["tags"] = list(wanted["tags"])
    if comments[0] != comments[1]:
        patch["comment"] = comments[1]
    return {"name": wanted["name"], "type": wanted["type"], **patch} if patch or "name" in changed else {}


def _value(form: JSONObject) -> JSONObject:
    if form["type"] in MODELS:
        value: JSONObject = {"data": form["data"]}
    else:
        value = {"content": txt_quote(txt_join(form["content"])) if form["type"] == "TXT" else form["content"]}
    return value | ({"priority": form["priority"]} if form["type"] in RANKED else {})


def _switches_of(form: JSONObject) -> JSONObject:
    return {name: value for name, value in form["settings"].items() if name != "flatten_cname" or form["type"] == "CNAME"}


def split_comment(comment: str) -> tuple[Mark | None, str]:
    """Split a record's comment into our mark and what people wrote behind it."""
    first, _, rest = comment.partition(" ")
    mark = Mark.parse(first)
    return (mark, rest.strip()) if mark is not None else (None, comment)


def join_comment(mark: Mark, text: str) -> str:
    """Write the comment of a record that is ours."""
    return f"{mark} {text}".rstrip()


def describe(form: JSONObject) -> str:
    """Name a record for a person, e.g. ``MX example.com "10 mail.example.com"``; long contents are cut."""
    value = form["content"] if form["content"] is not None else json.dumps(form["data"], sort_keys=True)
    text = f"{form['priority']} {value}" if form["type"] in RANKED else value
    return f'{form["type"]} {form["name"]} "{text if len(text) <= 60 else text[:57] + "..."}"'


def clash(one: str, other: str) -> bool:
    """Say whether records of these two types cannot stand at one name: a CNAME tolerates no address and no second CNAME."""
    types = {one, other}
    return "CNAME" in types and types <= PROXIABLE

"""What Cloudflare does to a record that is sent to it: which it refuses, with which code, and how it spells the rest.

Written without the driver's own code, so that the two can be held against each other. Codes are Cloudflare's where they are
publicly known; for other refusals the general 1004 with the reason in its chain is answered.
"""

import ipaddress
import re
from dataclasses import dataclass

import idna

from reconciler.resource import JSONObject

PLAIN = {"A", "AAAA", "CNAME", "MX", "NS", "OPENPGPKEY", "PTR", "TXT"}
STRUCTURED = {"CAA", "CERT", "DNSKEY", "DS", "HTTPS", "LOC", "NAPTR", "SMIMEA", "SRV", "SSHFP", "SVCB", "TLSA", "URI"}
_TXT = re.compile(r'"(?:[^"\\]|\\.)*"(?:[ \t]*"(?:[^"\\]|\\.)*")*', re.DOTALL)
_PIECE = re.compile(r"\\[0-9]{3}|\\.|[^\\]", re.DOTALL)


class Refused(Exception):
    """One error answer: HTTP status, code and text."""

    def __init__(self, code: int, message: str, *, status: int = 400) -> None:
        """Keep the parts of the answer."""
        self.code, self.message, self.status = code, message, status
        super().__init__(message)

    def errors(self) -> list[JSONObject]:
        """Give the list for the envelope."""
        if self.code:
            return [{"code": self.code, "message": self.message}]
        return [{"code": 1004, "message": "DNS Validation Error", "error_chain": [{"code": 9999, "message": self.message}]}]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a plan allows. The defaults are those of a free zone made after September 2024."""

    quota: int | None = 200
    batch: int = 200
    comment: int = 100
    tags: int = 0
    lowest_ttl: int = 60
    flatten: bool = False


def check_shape(fields: JSONObject) -> None:
    """Refuse a part of a record that is of another JSON type than the description says."""
    for key, sort in (("settings", dict), ("data", dict), ("tags", list)):
        if fields.get(key) is not None and not isinstance(fields[key], sort):
            raise Refused(0, f"Invalid {key!r} value, must be {'an object' if sort is dict else 'an array'}.")


def normalised(fields: JSONObject, zone: str, limits: Limits) -> JSONObject:
    """Give the stored form of a complete record. Raises Refused."""
    check_shape(fields)
    type = fields.get("type")
    if type not in PLAIN | STRUCTURED:
        raise Refused(0, f"Invalid DNS record type {type!r}.")
    name = _name(str(fields.get("name") or ""), zone)
    proxiable = type in {"A", "AAAA", "CNAME"}
    proxied = fields.get("proxied") or False
    if not isinstance(proxied, bool):
        raise Refused(9003, "Invalid 'proxied' value, must be a boolean.")
    if proxied and not proxiable:
        raise Refused(9004, "This record type cannot be proxied.")
    record = {
        "name": name,
        "type": type,
        **_value(type, fields),
        "proxiable": proxiable,
        "proxied": proxied,
        "ttl": 1 if proxied else _ttl(fields.get("ttl", 1), limits),
        "settings": _settings(type, fields.get("settings") or {}, limits),
        "comment": _comment(fields.get("comment"), limits),
        "tags": _tags(fields.get("tags") or [], limits),
    }
    if len(record["content"].encode()) > 4096:
        raise Refused(9015, "Record content exceeds the allowed length of 4096 wire format bytes.")
    return record


def _name(name: str, zone: str) -> str:
    name = name.strip().rstrip(".")
    if name in ("@", ""):
        return zone
    labels = name.split(".")
    if not all(labels) or any(len(label) > 63 or re.search(r"\s", label) for label in labels) or len(name) > 255:
        raise Refused(9000, "DNS name is invalid.")
    try:
        full = ".".join(label.lower() if label.isascii() else idna.encode(label, uts46=True).decode() for label in labels)
    except idna.IDNAError:
        raise Refused(9000, "DNS name is invalid.") from None
    return full if full == zone or full.endswith(f".{zone}") else f"{full}.{zone}"


def _value(type: str, fields: JSONObject) -> JSONObject:
    if type in STRUCTURED:
        data = fields.get("data")
        if not isinstance(data, dict):
            raise Refused(0, f"data is a required field for {type} records.")
        text = " ".join(f'"{item}"' if type == "CAA" and key == "value" else str(item) for key, item in data.items())
        value: JSONObject = {"content": text, "data": dict(data)}
        return value | ({"priority": _priority(fields)} if type == "URI" else {})
    content = fields.get("content")
    if not isinstance(content, str) or not content.strip():
        raise Refused(0, f"Content for {type} record is invalid.")
    return {"content": _content(type, content.strip())} | ({"priority": _priority(fields)} if type == "MX" else {})


def _content(type: str, content: str) -> str:
    match type:
        case "A" | "AAAA":
            return _address(type, content)
        case "CNAME" | "MX" | "NS" | "PTR":
            return _target(type, content)
        case "TXT":
            return split(content)
    return content


def _address(type: str, content: str) -> str:
    try:
        return str(ipaddress.IPv4Address(content) if type == "A" else ipaddress.IPv6Address(content))
    except ValueError:
        code, kind = (9005, "IPv4") if type == "A" else (9006, "IPv6")
        raise Refused(code, f"Content for {type} record must be a valid {kind} address.") from None


def _target(type: str, content: str) -> str:
    host = content if content == "." else content.rstrip(".").lower()
    codes = {"CNAME": 9007, "MX": 9009}
    if host != "." and not re.fullmatch(r"[^\s.]{1,63}(\.[^\s.]{1,63})*", host):
        raise Refused(codes.get(type, 0), f"Content for {type} record is invalid.")
    try:
        return host if host.isascii() else idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        raise Refused(codes.get(type, 0), f"Content for {type} record is invalid.") from None


def split(content: str) -> str:
    """Keep a TXT content as it was sent, except that quoted strings of more than 255 octets are split."""
    if not content.startswith('"'):
        if content.endswith('"'):
            raise Refused(0, "Content for TXT record has inconsistent quotes.")
        return content
    if not _TXT.fullmatch(content):
        raise Refused(0, "Content for TXT record has inconsistent quotes.")
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', content, re.DOTALL)
    if not any(strings):
        raise Refused(0, "Content for TXT record must not be empty.")
    if all(len(_PIECE.findall(one)) <= 255 for one in strings):
        return content
    pieces = [_PIECE.findall(one) for one in strings]
    return " ".join('"' + "".join(one[start : start + 255]) + '"' for one in pieces for start in range(0, len(one), 255))


def _priority(fields: JSONObject) -> int:
    priority = fields.get("priority")
    if not isinstance(priority, int | float) or not 0 <= priority <= 65535:
        raise Refused(0, "priority is a required field and must be between 0 and 65535.")
    return int(priority)


def _ttl(ttl: object, limits: Limits) -> int:
    if not isinstance(ttl, int | float) or (ttl != 1 and not limits.lowest_ttl <= ttl <= 86400):
        raise Refused(9021, f"Invalid TTL. Must be between {limits.lowest_ttl} and 86400 seconds, or 1 for Automatic.")
    return int(ttl)


def _settings(type: str, settings: JSONObject, limits: Limits) -> JSONObject:
    kept = {
        key: value for key, value in settings.items() if key in ("ipv4_only", "ipv6_only") or (key == "flatten_cname" and type == "CNAME")
    }
    if kept.get("flatten_cname") and not limits.flatten:
        raise Refused(0, "CNAME flattening per record is not available on this plan.")
    return kept


def _comment(comment: object, limits: Limits) -> str | None:
    if not comment:
        return None
    text = str(comment)
    if len(text) > limits.comment or "\n" in text or "\r" in text:
        raise Refused(0, f"comment must be one line of at most {limits.comment} characters.")
    return text


def _tags(tags: list[str], limits: Limits) -> list[str]:
    if len(tags) > limits.tags:
        raise Refused(9300, f"DNS record has {len(tags)} tags, exceeding the quota of {limits.tags}.")
    return sorted(map(str, tags))


def check_neighbours(record: JSONObject, others: list[JSONObject]) -> None:
    """Hold a record against all others of its zone. Raises Refused."""
    same_name = [one for one in others if one["name"] == record["name"]]
    for one in same_name:
        if (one["type"], one["content"], one.get("priority")) == (record["type"], record["content"], record.get("priority")):
            raise Refused(81058, "An identical record already exists.")
    types = {one["type"] for one in same_name}
    if record["type"] in ("A", "AAAA", "CNAME") and "CNAME" in types:
        raise Refused(81054, "A CNAME record with that host already exists.")
    if record["type"] == "CNAME" and types & {"A", "AAAA"}:
        raise Refused(81053, "An A, AAAA, or CNAME record with that host already exists.")
    if (record["type"] == "NS" and types - {"NS", "DS"}) or (record["type"] not in ("NS", "DS") and "NS" in types):
        raise Refused(81056, "NS records with that host already exist.")
    together = sum(len(one["content"]) for one in same_name if one["type"] == record["type"]) + len(record["content"])
    if together > 8192:
        raise Refused(83011, "Combined content length of records with this name and type must not exceed 8192 characters.")

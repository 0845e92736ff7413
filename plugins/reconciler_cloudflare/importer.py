"""From the records of a zone to desired state, so that a zone that already runs can be taken over without a change."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reconciler.driver import Mark, Ownership
from reconciler.errors import Permanent
from reconciler.resource import JSONObject
from reconciler_cloudflare.match import Live
from reconciler_cloudflare.spec import AUTOMATIC, DNSRecord, describe, join_comment
from reconciler_cloudflare.values import host

if TYPE_CHECKING:
    from reconciler_cloudflare.driver import CloudflareDriver

GROUPS = ("Mail", "Addresses", "Aliases", "Other texts", "Other records", "Not taken over")
_POLICIES = ("v=spf1", "v=dmarc1", "v=stsv1", "v=tlsrptv1", "v=dkim1")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def write_down(driver: "CloudflareDriver", arguments: Mapping[str, str]) -> dict[str, str]:
    """Write the zone that ``--zone`` names into a file called as the zone is. Raises DriverError."""
    strange = sorted(arguments.keys() - {"zone", "owner"})
    if strange or not arguments.get("zone"):
        given = f"there is no --{strange[0]}; " if strange else ""
        raise Permanent(f"cloudflare: {given}say which zone to import, such as --zone example.com")
    try:
        zone = host(arguments["zone"])
    except ValueError as error:
        raise Permanent(f"cloudflare: --zone: {error}") from None
    text = desired_yaml(driver.records(zone), zone, owner=arguments["owner"], comment_limit=driver.comment_limit)
    return {f"{zone}.yaml": text}


def desired_yaml(records: Iterable[JSONObject], zone: str, *, owner: str, comment_limit: int = 100) -> str:
    """Write the desired state of a zone as it is: YAML documents, grouped, each with the annotation that lets it be adopted.

    ``records`` are those of a complete listing. The plan of the result only adopts: no field of any record changes. Records that
    must not be taken over (another owner's, or locked by Cloudflare) are named in comments. ``owner`` is the mark to come.
    """
    lives = sorted((Live.read(zone, record) for record in records), key=lambda live: (live.form["name"].split(".")[::-1], live.key))
    taken: set[str] = set()
    parts: dict[str, list[str]] = {group: [] for group in GROUPS}
    for live in lives:
        reason = _reason_against(live, owner)
        if reason:
            parts["Not taken over"].append(f"# {describe(live.form)}: {reason}\n")
        else:
            parts[_group(live.form)].append("".join(_document(live, owner, comment_limit, taken)))
    return "".join(f"# {group}\n{_body(group, texts)}" for group, texts in parts.items() if texts)


def _body(group: str, texts: Sequence[str]) -> str:
    return "".join(texts) if group == GROUPS[-1] else "".join(f"---\n{text}" for text in texts)


def _reason_against(live: Live, owner: str) -> str:
    if live.locked:
        return "locked by Cloudflare"
    if live.mark is not None and live.ownership(owner) is Ownership.FOREIGN:
        return f"belongs to {live.mark.owner}"
    try:
        DNSRecord.model_validate(live.form)
    except ValueError:
        return "is in a form that this program does not write"
    return ""


def _group(form: JSONObject) -> str:
    type, name = form["type"], form["name"]
    text = (form["content"] or "").lower() if type == "TXT" else ""
    labels = name.split(".")
    if type == "MX" or text.startswith(_POLICIES) or "_domainkey" in labels or labels[0] in ("_dmarc", "_mta-sts") or "_report" in labels:
        return "Mail"
    return {"A": "Addresses", "AAAA": "Addresses", "CNAME": "Aliases", "TXT": "Other texts"}.get(type, "Other records")


def _document(live: Live, owner: str, comment_limit: int, taken: set[str]) -> Iterator[str]:
    form, mark = live.form, live.mark
    name = mark.name if mark is not None else _name(form, taken)
    taken.add(name)
    yield f"apiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata:\n  name: {_scalar(name)}\n"
    if mark is None:
        yield '  annotations: {reconciler/adopt: "true"}\n'
    comment = form["comment"]
    if len(join_comment(Mark(owner, "DNSRecord", name), comment)) > comment_limit:
        yield f"# too long to stand beside our mark, so it would be lost: {_scalar(comment)}\n"
        comment = ""
    yield "spec:\n"
    for key, value in _fields(form | {"comment": comment}):
        yield f"  {key}: {_scalar(value)}\n"


def _fields(form: JSONObject) -> Iterator[tuple[str, object]]:
    """Give the fields that differ from their defaults, in the order in which people read a record."""
    for key in ("zone", "name", "type", "content", "data", "priority"):
        if form[key] is not None:
            yield key, form[key]
    if form["ttl"] != AUTOMATIC:
        yield "ttl", form["ttl"]
    if form["proxied"]:
        yield "proxied", True
    switches = {name: True for name, value in form["settings"].items() if value}
    yield from ((key, value) for key, value in (("settings", switches), ("comment", form["comment"]), ("tags", form["tags"])) if value)


def _scalar(value: object) -> str:
    """Write a value as JSON, which is YAML, too; what would begin an expression is made literal."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value).replace("${", "$${")


def _name(form: JSONObject, taken: set[str]) -> str:
    """Make a short name that no other record of the zone has, e.g. ``spf``, ``dkim-mail`` or ``www-cname``."""
    base = _role(form) or f"{_slug(form['name'].removesuffix(form['zone']).rstrip('.') or 'apex')}-{form['type'].lower()}"
    number, name = 1, base
    while name in taken:
        number += 1
        name = f"{base}-{number}"
    return name


def _role(form: JSONObject) -> str:
    """Name what a record is for, where mail has a word for it."""
    place = form["name"].removesuffix(form["zone"]).rstrip(".")
    text = (form["content"] or "").lower() if form["type"] == "TXT" else ""
    if not place and form["type"] == "MX":
        return "mx"
    if not place and text.startswith("v=spf1"):
        return "spf"
    if place.endswith("._domainkey"):
        return f"dkim-{_slug(place.removesuffix('._domainkey'))}"
    return {"_dmarc": "dmarc", "_mta-sts": "mta-sts", "_smtp._tls": "tls-rpt"}.get(place, "")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.replace("*", "wildcard")).strip("-")[:32].strip("-") or "record"

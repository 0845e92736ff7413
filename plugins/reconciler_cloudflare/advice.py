"""What is legal DNS and still loses mail: findings about the records of a zone as they will be. Pure; reported, never repaired."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from reconciler.resource import JSONObject
from reconciler_cloudflare.spec import PROXIABLE, describe

Place: TypeAlias = tuple[str, str]
"""A type and a name: the set of records that a finding is about."""

SINGLE = ("v=spf1", "v=DMARC1", "v=STSv1", "v=TLSRPTv1")
"""Beginnings of TXT policies of which a name may have one only (RFC 7208 4.5, RFC 7489 6.6.3, RFC 8461 3.1, RFC 8460 3)."""


def findings(forms: Sequence[JSONObject]) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with the mail records among ``forms``, each with the set it is about."""
    by_name: dict[str, list[JSONObject]] = {}
    for form in forms:
        by_name.setdefault(form["name"], []).append(form)
    for form in forms:
        place = (form["type"], form["name"])
        if form["type"] == "MX":
            yield from ((place, text) for text in _exchange(form, by_name))
        if form["type"] == "CNAME" and "._domainkey." in form["name"] and (form["proxied"] or form["settings"]["flatten_cname"]):
            yield (
                place,
                f"{describe(form)} is answered with addresses, so that verifiers find no DKIM key; neither proxy nor flatten it",
            )
    for name, group in by_name.items():
        yield from ((("TXT", name), text) for text in _repeated(group))


def _exchange(form: JSONObject, by_name: dict[str, list[JSONObject]]) -> Iterator[str]:
    """Look at the host that an MX record names, as far as it lies in this zone."""
    target, zone = form["content"], form["zone"]
    if target != zone and not target.endswith(f".{zone}"):
        return
    hosts = [one for one in by_name.get(target, []) if one["type"] in PROXIABLE]
    for host in hosts:
        if host["proxied"]:
            yield f"{describe(form)} leads to {describe(host)}, which is proxied; Cloudflare does not pass port 25 on, so mail is lost"
        elif host["type"] == "CNAME":
            yield f"{describe(form)} leads to a CNAME, which an MX must not (RFC 2181 10.3)"
    if not hosts and not _wildcard(target, by_name):
        yield f"{describe(form)} leads to a host that has no address"


def _wildcard(name: str, by_name: dict[str, list[JSONObject]]) -> bool:
    labels = name.split(".")
    return any("*." + ".".join(labels[start:]) in by_name for start in range(1, len(labels)))


def _repeated(group: Iterable[JSONObject]) -> Iterator[str]:
    texts = [form["content"] for form in group if form["type"] == "TXT"]
    for beginning in SINGLE if len(texts) > 1 else ():
        found = [text for text in texts if _begins(text, beginning)]
        if len(found) > 1:
            yield f"there are {len(found)} {beginning} records at one name, so that receivers ignore all of them; keep one"


def _begins(text: str, version: str) -> bool:
    """Compare the version tag as a whole: ``v=spf10`` is none."""
    return text.lower().startswith(version.lower()) and not text[len(version) : len(version) + 1].isalnum()

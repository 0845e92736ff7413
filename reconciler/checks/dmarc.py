"""Domain-based message authentication (RFC 9989): one record that begins with its version, and reports that arrive (RFC 9990). Pure."""

from collections.abc import Callable, Iterator

from reconciler.checks import mailbox
from reconciler.checks.findings import Finding, error, info, warning
from reconciler.checks.tags import addresses, tags
from reconciler.checks.view import MailView, Record

POLICIES = frozenset({"none", "quarantine", "reject"})
REMOVED = ("pct", "rf", "ri")


def records(view: MailView) -> Iterator[tuple[str, Record]]:
    """Give each domain with its DMARC records."""
    return ((name.removeprefix("_dmarc."), one) for name, found in view.texts("_dmarc") for one in found)


def is_dmarc(text: str) -> bool:
    """Say whether a TXT is a DMARC record: v=DMARC1 is its first tag, exactly so written."""
    return text.partition(";")[0].replace(" ", "") == "v=DMARC1"


def one_record(view: MailView) -> Iterator[Finding]:
    """Two records are as good as none."""
    for name, found in view.texts("_dmarc"):
        real = [one for one in found if is_dmarc(one.content)]
        for extra in real[1:]:
            yield error("dmarc-one", extra.id, f"{name} has {len(real)} DMARC records; receivers then use none of them")


def syntax(view: MailView) -> Iterator[Finding]:
    """Check each record by itself."""
    for _, record in records(view):
        found = tags(record.content)
        if not is_dmarc(record.content):
            if found is None or {"v", "p", "rua", "ruf", "sp"} & set(found):
                yield error("dmarc-syntax", record.id, "does not begin with v=DMARC1, so it is no DMARC record at all")
            continue
        if found is None:
            yield error("dmarc-syntax", record.id, "is not a list of tags, name=value; name=value")
            continue
        yield from _policies(record, found)
        for name in ("rua", "ruf"):
            for wrong in addresses(found[name])[1] if found.get(name) else ():
                yield error("dmarc-syntax", record.id, f"{name}={wrong} is no address; write mailto:somebody@example.com")
        for name in [name for name in REMOVED if name in found]:
            yield warning("dmarc-removed", record.id, f"{name} has no meaning any more; take it out")


def _policies(record: Record, found: dict[str, str]) -> Iterator[Finding]:
    for name in ("p", "sp", "np"):
        value = found.get(name, "none" if name != "p" or "rua" in found else "")
        if value.lower() not in POLICIES:
            said = f"{name}={value}" if value else f"no {name}"
            yield error("dmarc-syntax", record.id, f"has {said}; there are none, quarantine and reject")
        elif name == "p" and "p" not in found:
            yield warning("dmarc-syntax", record.id, "has no p, which is read as p=none; write what is meant")
    for name in ("adkim", "aspf"):
        if found.get(name, "r") not in ("r", "s"):
            yield warning("dmarc-syntax", record.id, f"has {name}={found[name]}, which counts as r; there are r and s")


def reports(view: MailView) -> Iterator[Finding]:
    """Reports go where somebody takes them."""
    for domain, record in records(view):
        found = tags(record.content) or {}
        boxes = [box for name in ("rua", "ruf") for box in (addresses(found[name])[0] if found.get(name) else ())]
        yield from mailbox.unknown(view, record.id, boxes)
        for host in sorted({box.rpartition("@")[2] for box in boxes}):
            if not related(host, domain):
                yield from _agreed(view, record, domain, host)


def _agreed(view: MailView, record: Record, domain: str, host: str) -> Iterator[Finding]:
    name = f"{domain}._report._dmarc.{host}"
    answer = view.lookup(name, "TXT")
    if answer is None:
        yield info("dmarc-reports", record.id, f"whether {host} agrees to receive reports ({name}) is unknown here")
    elif not any(is_dmarc(text) for text in answer):
        yield warning("dmarc-reports", record.id, f"{host} does not agree to receive reports: it needs a TXT {name} with v=DMARC1")


def related(one: str, other: str) -> bool:
    """Say whether two names belong to one organisation, as far as that can be said without a list of public suffixes."""
    return one == other or organisation(one) == organisation(other)


def organisation(name: str) -> str:
    """Give the last two labels, or three where the second is one under which countries register."""
    labels = name.rstrip(".").lower().split(".")
    three = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in ("ac", "co", "com", "edu", "gov", "net", "or", "org")
    return ".".join(labels[-3 if three else -2 :])


def source(view: MailView) -> Iterator[Finding]:
    """A policy that refuses needs something by which our own mail passes."""
    for domain, record in records(view):
        refuses = (tags(record.content) or {}).get("p", "none").lower() in ("quarantine", "reject")
        signed = any(one.name.endswith(f"._domainkey.{domain}") for one in view.records)
        if refuses and domain in view.domains and not view.spf.get(domain) and not signed:
            yield warning("dmarc-source", record.id, f"refuses what does not pass, and the stack has neither SPF nor a key of {domain}")


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (one_record, syntax, reports, source)

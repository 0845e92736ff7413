"""Outgoing mail: the relay in use may send for the domain, and the credentials are the relay's. Pure.

Host, SPF record, delegated keys and credentials stand in four systems; changing one of them alone lets every letter fail.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reconciler.checks.dmarc import organisation, related
from reconciler.checks.dns import is_address
from reconciler.checks.findings import Finding, error, info, warning
from reconciler.checks.spf import Term, terms, tree
from reconciler.checks.view import MailView
from reconciler.resource import ResourceId

FAMILIES = (
    frozenset({"amazonaws.com", "amazonses.com"}),
    frozenset({"gmail.com", "google.com", "googlemail.com"}),
    frozenset({"office365.com", "outlook.com", "onmicrosoft.com"}),
    frozenset({"postmarkapp.com", "mtasv.net"}),
    frozenset({"sparkpostmail.com", "sparkpost.com"}),
    frozenset({"mandrillapp.com", "mcsv.net"}),
    frozenset({"brevo.com", "sendinblue.com"}),
)
"""Relays that send under another name than the one they are reached by."""

OPEN = frozenset({"ip4", "ip6", "exists", "ptr"})
"""Mechanisms of which it cannot be said here whether they mean the relay."""

_RELAY = re.compile(r"\[?(?P<host>[A-Za-z0-9.-]+)\]?(?::(?P<port>\d+))?\s*\Z")
_MAIN = re.compile(r"^relayhost\s*=\s*(?P<value>\S+)", re.MULTILINE)
_MAP = re.compile(r"\\?\[(?P<host>(?:[A-Za-z0-9-]|\\?\.)+)\\?\](?::(?P<port>\d+))?")


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay in use, and the resource that says so."""

    id: ResourceId
    host: str
    port: str


def relays(view: MailView) -> Iterator[Relay]:
    """Give the relays outside that the settings of Postfix name; one without dots or in the cluster passes on what it gets."""
    for config in view.cluster.configs:
        values = [config.texts.get(name, "") for name in ("DEFAULT_RELAY_HOST", "RELAY_HOST")]
        values += [found["value"] for found in _MAIN.finditer(config.texts.get("postfix-main.cf", ""))]
        for value in values:
            found = _RELAY.match(value)
            if found and "." in (host := found["host"].lower()) and not host.endswith((".local", ".internal")) and not is_address(host):
                yield Relay(config.id, host, found["port"] or "")


def authorised(view: MailView) -> Iterator[Finding]:
    """Ask for each domain of ours whether the relay may send for it."""
    for relay in relays(view):
        for domain in view.domains:
            yield from _authorised(view, relay, domain)


def _authorised(view: MailView, relay: Relay, domain: str) -> Iterator[Finding]:
    by_spf, signed = _by_spf(view, relay, domain), _by_key(view, relay, domain)
    if by_spf is None and not signed:
        yield info("relay-authorised", relay.id, f"whether {relay.host} may send for {domain} is unknown here")
    elif by_spf is False and signed:
        message = f"{relay.host} is not in the SPF record of {domain}; its delegated keys pass DMARC, but not those who look at SPF alone"
        yield warning("relay-authorised", relay.id, message)
    elif by_spf is False:
        message = f"sends by {relay.host}, which {domain} authorises neither by SPF nor by a delegated key; every letter will fail"
        yield error("relay-authorised", relay.id, message)


def _by_spf(view: MailView, relay: Relay, domain: str) -> bool | None:
    """Say whether the SPF record means the relay; None when there is none here or it names what cannot be judged.

    An include of another company is taken for that company's senders; one of our own that is not here may hold anything.
    """
    records = view.spf.get(domain, ())
    if not records:
        return None
    found = tree(view, domain, records[0].content)
    if any(_means(term, relay.host) for term in found.terms):
        return True
    own = [term for term in terms(records[0].content) if isinstance(term, Term)]
    ours = any(related(name, domain) for name in found.unknown)
    return None if ours or any(term.name in OPEN or "%{" in term.value or _passes_all(term) for term in own) else False


def _means(term: Term, host: str) -> bool:
    return term.name in ("include", "redirect", "a", "mx") and bool(term.value) and same_sender(term.value.partition("/")[0], host)


def _passes_all(term: Term) -> bool:
    return term.name == "all" and term.qualifier == "+"


def same_sender(one: str, other: str) -> bool:
    """Say whether two names are the same company's."""
    names = {organisation(one), organisation(other)}
    return related(one, other) or any(names <= family for family in FAMILIES)


def _by_key(view: MailView, relay: Relay, domain: str) -> bool:
    """Say whether a selector of the domain is delegated to the relay, so that its signatures are the domain's (aligned)."""
    suffix = f"._domainkey.{domain}"
    return any(one.type == "CNAME" and one.name.endswith(suffix) and same_sender(one.content, relay.host) for one in view.records)


def credentials(view: MailView) -> Iterator[Finding]:
    """A password map names the host that it is for; with another relay Postfix finds no password and sends none."""
    wanted = list(relays(view))
    for (path, key), (id, wish) in sorted(view.keys.items()):
        for found in _MAP.finditer(str(wish.get("pattern") or "")):
            host, port = found["host"].replace("\\", "").lower(), found["port"] or ""
            if "." in host and wanted and (host, port) not in {(one.host, one.port) for one in wanted}:
                message = f"{path}#{key} must be for [{host}]:{port or 25}, but the relay in use is {_named(wanted)}"
                yield error("relay-credentials", id, message)


def _named(relays: list[Relay]) -> str:
    return ", ".join(f"[{one.host}]:{one.port}" if one.port else f"[{one.host}]" for one in relays)


def live_credentials(view: MailView) -> Iterator[Finding]:
    """Hold the hosts that the stored password maps name against the relays in use; nobody reads the passwords for it."""
    wanted = list(relays(view))
    for (path, key), (id, _) in sorted(view.keys.items()):
        hosts = view.facts.get((path, key), {}).get("hosts", "").split()
        named = {(found["host"].lower(), found["port"] or "") for host in hosts if (found := _RELAY.match(host))}
        for one in wanted if named else ():
            if (one.host, one.port) not in named:
                yield error("relay-stored", id, f"{path}#{key} names {' '.join(hosts)}, the relay in use is {_named([one])}")


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (authorised, credentials, live_credentials)

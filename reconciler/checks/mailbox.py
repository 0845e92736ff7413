"""Whether a mailbox of our own is known to exist. Values of secrets are never read, so it is their declared shape that tells. Pure."""

import re
from collections.abc import Iterator

from reconciler.checks.findings import Finding, info
from reconciler.checks.view import MailView
from reconciler.resource import ResourceId


def delivered(view: MailView, address: str) -> bool:
    """Say whether a file names the mailbox or a catch-all, or a declared secret must hold one."""
    domain = address.rpartition("@")[2]
    return any(_names(text, address, domain) for text in _texts(view)) or any(
        address in ((wish.get("json_schema") or {}).get("required") or ()) for _, wish in view.keys.values()
    )


def _texts(view: MailView) -> Iterator[str]:
    for config in view.cluster.configs:
        yield from (text for name, text in config.texts.items() if "virtual" in name or "accounts" in name)
    yield from (str(wish.get("pattern") or "").replace("\\.", ".") for _, wish in view.keys.values())


def _names(text: str, address: str, domain: str) -> bool:
    """Find the address or ``@domain`` at the beginning of a line, or of the pattern of one."""
    return re.search(rf"(?mi)(?:^|\^)(?:{re.escape(address)}|@{re.escape(domain)})(?:[\s|]|\\s)", text) is not None


def unknown(view: MailView, id: ResourceId, mailboxes: list[str]) -> Iterator[Finding]:
    """Name the mailboxes of our own domains of which nothing is known."""
    for one in mailboxes:
        if one.rpartition("@")[2] in view.domains and not delivered(view, one):
            yield info("mailbox", id, f"whether {one} is delivered is unknown here")

"""Tag lists, ``name=value; name=value``, as DKIM, DMARC, MTA-STS and TLS reports write them (RFC 6376 3.2). Pure."""

import re

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\Z")


def tags(text: str) -> dict[str, str] | None:
    """Read a list: names in lower case and in their order, the first of two equal ones counts. None when it is none."""
    found: dict[str, str] = {}
    for part in (part.strip() for part in text.split(";")):
        name, equals, value = part.partition("=")
        if part and not (equals and re.fullmatch(r"[A-Za-z]\w*", name.strip())):
            return None
        if part:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def addresses(text: str) -> tuple[list[str], list[str]]:
    """Split a list of report addresses: the mailboxes of the mailto ones, and what is no URI at all."""
    mailboxes, wrong = [], []
    for uri in (part.strip() for part in text.split(",")):
        scheme, colon, rest = uri.partition(":")
        mailbox = re.split(r"[?!]", rest, maxsplit=1)[0].lower()
        if scheme.lower() == "mailto" and _ADDRESS.match(mailbox):
            mailboxes.append(mailbox)
        elif not (scheme.lower() == "https" and colon and rest.startswith("//")):
            wrong.append(uri)
    return mailboxes, wrong

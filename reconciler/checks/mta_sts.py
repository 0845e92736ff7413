"""Strict transport security (RFC 8461): record, host and policy belong together, and the policy lists every MX. Pure.

Senders keep a policy and fetch it anew only when the id of the record has changed. What was published is known from the live objects of a
plan and from nowhere else, so an id that is computed from its policy (``mtaStsId``) is the only one that needs no look at them.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from reconciler.checks.findings import Finding, error, info, warning
from reconciler.checks.tags import tags
from reconciler.checks.view import MailView, Record
from reconciler.driver import Action, Cause, Change
from reconciler.expressions import mta_sts_id
from reconciler.resource import ResourceId

LONGEST = 31557600
"""Seconds that a policy may be kept: a year (RFC 8461 3.2)."""
MODES = ("enforce", "testing", "none")


def record(view: MailView) -> Iterator[Finding]:
    """Check each record by itself and that there is one."""
    for name, found in view.texts("_mta-sts"):
        real = [one for one in found if one.content.startswith("v=STSv1")]
        for extra in real[1:]:
            yield error("mta-sts-record", extra.id, f"{name} has {len(real)} records; senders then use none of them")
        for one in found:
            if one not in real:
                yield error("mta-sts-record", one.id, "does not begin with v=STSv1")
            elif not re.fullmatch(r"[A-Za-z0-9]{1,32}", (tags(one.content) or {}).get("id", "")):
                yield error("mta-sts-record", one.id, "needs an id of 1 to 32 letters and digits, which changes when the policy does")


def host(view: MailView) -> Iterator[Finding]:
    """A record without the host of its policy enforces nothing. They are declared together, or neither."""
    for name, found in view.texts("_mta-sts"):
        place = name.replace("_mta-sts.", "mta-sts.", 1)
        if not any(view.lookup(place, type) for type in ("A", "AAAA", "CNAME")):
            yield error(
                "mta-sts-host", found[0].id, f"speaks of a policy, but {place} is not in this stack; declare its record and the policy"
            )


@dataclass(frozen=True, slots=True)
class Served:
    """A policy of the stack: the ConfigMap and its key, the text and what it says."""

    id: ResourceId
    key: str
    text: str
    said: Mapping[str, list[str]]


def served(view: MailView, domain: str) -> Served | None:
    """Find the policy of a domain. Of several in a stack the one that lists an MX of the domain is its own; None: it is not here."""
    texts = ((one.id, key, text, parse(text)) for one in view.cluster.configs for key, text in one.texts.items())
    found = [Served(id, key, text, said) for id, key, text, said in texts if said]
    hosts = [one.content for one in view.at("MX", domain)]
    own = [one for one in found if any(matches(pattern, host) for pattern in one.said["mx"] for host in hosts)]
    return next(iter(own or (found if len(found) == 1 else [])), None)


def policy(view: MailView) -> Iterator[Finding]:
    """Check what is served."""
    for name, found in view.texts("_mta-sts"):
        domain = name.removeprefix("_mta-sts.")
        own = served(view, domain)
        if own is None:
            yield info("mta-sts-policy", found[0].id, f"the policy of {domain} is served from outside this stack and unknown here")
            continue
        yield from _faults(own.id, own.said, sorted(one.content for one in view.at("MX", domain)))


def identity(view: MailView) -> Iterator[Finding]:
    """Hold the change of a policy against that of its id. An id that is computed from the policy cannot go wrong."""
    for name, found in view.texts("_mta-sts"):
        own, real = served(view, name.removeprefix("_mta-sts.")), [one for one in found if one.content.startswith("v=STSv1")]
        if own is None or len(real) != 1 or _id(real[0].content) == mta_sts_id(own.text):
            continue
        yield info("mta-sts-id", real[0].id, f"its id is not made from the policy; {_computed(own)} changes exactly when that does")
        if not {real[0].id, own.id} & view.waiting:
            yield from _moved(view, real[0], own)


def _moved(view: MailView, record: Record, own: Served) -> Iterator[Finding]:
    before = _live(view.changes.get(own.id), "data", own.key)
    old = _live(view.changes.get(record.id), "content")
    moves = before is not None and parse(before) != own.said
    renamed = old is not None and _id(old) != _id(record.content)
    if moves and not renamed:
        message = f"its id stays while the policy in {own.id} changes, so senders go on with the old one; write {_computed(own)}"
        yield error("mta-sts-id", record.id, message)
    elif renamed and own.id not in view.changes:
        message = (
            f"its id changes, and the policy in {own.id} does not; if the policy was not changed before, every sender fetches it in vain"
        )
        yield warning("mta-sts-id", record.id, message)


def _live(change: Change | None, *path: str) -> str | None:
    """Give the text that a commit is about to replace; None where nothing is replaced, or it is not known."""
    if change is None or change.cause is not Cause.COMMIT or change.action not in (Action.UPDATE, Action.ADOPT):
        return None
    value: object = change.live
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else None


def _id(content: str) -> str:
    return (tags(content) or {}).get("id", "")


def _computed(own: Served) -> str:
    return f"id=${{mtaStsId(ref({json.dumps(str(own.id))}).data[{json.dumps(own.key)}])}}"


def _faults(id: ResourceId, policy: Mapping[str, list[str]], hosts: list[str]) -> Iterator[Finding]:
    mode, age = (policy.get(name, [""])[0] for name in ("mode", "max_age"))
    if mode not in MODES:
        yield error("mta-sts-policy", id, f"has the mode {mode!r}; there are {', '.join(MODES)}")
    if not age.isdecimal() or int(age) > LONGEST:
        yield error("mta-sts-policy", id, f"has the max_age {age!r}; write seconds, at most {LONGEST}")
    if not policy["mx"] and mode != "none":
        yield error("mta-sts-policy", id, "lists no mx, so no mail may be delivered")
    for host in hosts:
        if policy["mx"] and host != "." and not any(matches(pattern, host) for pattern in policy["mx"]):
            yield error("mta-sts-policy", id, f"does not list the MX {host}; senders that keep the policy refuse to deliver there")


def parse(text: str) -> dict[str, list[str]]:
    """Read a policy: values by key, ``mx`` always there. Empty when the text is none."""
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    if not lines or (lines[0][0].strip(), lines[0][2].strip()) != ("version", "STSv1"):
        return {}
    found: dict[str, list[str]] = {"mx": []}
    for key, _, value in lines:
        found.setdefault(key.strip(), []).append(value.strip().lower())
    return found


def matches(pattern: str, host: str) -> bool:
    """Say whether a pattern covers a host; a wildcard stands for exactly one label at the left (RFC 8461 4.1)."""
    if pattern.startswith("*."):
        return host.partition(".")[2] == pattern[2:] and bool(host.partition(".")[0])
    return host == pattern


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (record, host, policy, identity)

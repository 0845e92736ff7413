"""Strict transport security (RFC 8461): record, host and policy belong together, and the policy lists every MX. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping

from reconciler.checks.findings import Finding, error, info
from reconciler.checks.tags import tags
from reconciler.checks.view import MailView
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


def policy(view: MailView) -> Iterator[Finding]:
    """Check what is served. Of several policies in a stack the one that lists an MX of the domain is its own."""
    served = [(one.id, policy) for one in view.cluster.configs for text in one.texts.values() if (policy := parse(text))]
    for name, found in view.texts("_mta-sts"):
        domain = name.removeprefix("_mta-sts.")
        hosts = sorted(one.content for one in view.at("MX", domain))
        own = [one for one in served if any(matches(pattern, host) for pattern in one[1]["mx"] for host in hosts)]
        own = own or (served if len(served) == 1 else [])
        if not own:
            yield info("mta-sts-policy", found[0].id, f"the policy of {domain} is served from outside this stack and unknown here")
            continue
        yield from _faults(*own[0], hosts)


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


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (record, host, policy)

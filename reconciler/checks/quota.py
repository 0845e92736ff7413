"""What runs by a schedule, how much it sends in a day, who waits for its sign of life, and how many records a zone takes. Pure.

A limit is known from the variables of the stack: a mapping with ``sender`` and ``daily_limit`` speaks of every job whose environment names
that sender, one with ``zone`` and ``record_limit`` of that zone. What else a zone holds is not known here; a driver that can ask refuses
what does not fit beside it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.checks.cluster import Workload
from reconciler.checks.findings import Finding, error, info, warning
from reconciler.checks.view import MailView, Record, secrets_in

FREE, PAID = 200, 3500
"""Records that Cloudflare's plans take in one zone: a free one made since September 2024 (an older one takes 1000), and a paid one."""
MINUTES, HOURS = range(60), range(24)


def runs(schedule: str) -> list[int] | None:
    """Give the minutes of a day at which a cron schedule starts, days left aside; None when it is written in another way."""
    fields = schedule.split()
    if len(fields) != 5:
        return None
    minutes, hours = _values(fields[0], MINUTES), _values(fields[1], HOURS)
    return None if minutes is None or hours is None else [hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes)]


def _values(text: str, all_: range) -> set[int] | None:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if (
            not (step or "1").isdecimal()
            or int(step or 1) == 0
            or (span != "*" and not (first.isdecimal() and (last or first).isdecimal()))
        ):
            return None
        chosen = all_ if span == "*" else range(int(first), int(last or (all_[-1] if step else first)) + 1)
        found.update(chosen[:: int(step or 1)])
    return found


def period(schedule: str) -> int | None:
    """Give the longest pause between two runs in minutes; None when it cannot be said."""
    found = runs(schedule)
    if not found:
        return None
    return max(later - earlier for earlier, later in zip(found, [*found[1:], found[0] + 24 * 60], strict=True))


def sender_quota(view: MailView) -> Iterator[Finding]:
    """Runs of a day, at most the limit."""
    for limits in _limits(view.variables, "sender", "daily_limit"):
        for job in view.cluster.workloads:
            found = runs(job.schedule)
            if found and str(limits["sender"]) in job.environment.values() and len(found) > limits["daily_limit"]:
                message = f"sends {len(found)} letters a day by {limits['sender']}, whose limit is {limits['daily_limit']}"
                yield error("sender-quota", job.id, f"{message}; run less often than {job.schedule!r}")


def _limits(data: Any, name: str, limit: str) -> Iterator[Mapping[str, Any]]:
    """Find every mapping that says whose (``name``) and how much (``limit``)."""
    if isinstance(data, Mapping):
        if isinstance(data.get(limit), int) and isinstance(data.get(name), str):
            yield data
        data = list(data.values())
    for one in data if isinstance(data, list | tuple) else ():
        yield from _limits(one, name, limit)


def record_quota(view: MailView) -> Iterator[Finding]:
    """A zone that is full refuses the record that would have repaired it."""
    declared = {str(one["zone"]).rstrip(".").lower(): int(one["record_limit"]) for one in _limits(view.variables, "zone", "record_limit")}
    zones: dict[str, list[Record]] = {}
    for record in view.records:
        zones.setdefault(record.zone, []).append(record)
    for zone, records in sorted(zones.items()):
        last, count, limit = records[-1].id, len(records), declared.get(zone)
        if limit is not None and count > limit:
            yield error("record-quota", last, f"{zone} is to hold {count} records of this stack, and its limit is {limit}; take some out")
        elif limit is None and count > PAID:
            yield warning(
                "record-quota", last, f"{zone} is to hold {count} records of this stack; no plan but Enterprise takes over {PAID}"
            )
        elif limit is None and count > FREE:
            yield info("record-quota", last, f"{zone} is to hold {count} records of this stack; a free plan takes {FREE}")


def push_interval(view: MailView) -> Iterator[Finding]:
    """A monitor that waits for a shorter time than the pause between two reports is down between any two."""
    for monitor in view.items["Monitor"]:
        tokens = {place for ref in secrets_in(monitor.data.get("push_token")) for place in ref.inputs}
        readers = {id.name for place in tokens for id in view.reads.get(place, ()) if id.kind == "Secret"}
        for job in view.cluster.workloads:
            pause = period(job.schedule)
            if pause and _reads(job, readers) and monitor.data["interval"] <= pause * 60:
                message = f"waits {monitor.data['interval']} s for {job.id}, which reports every {pause * 60} s"
                yield error("push-interval", monitor.id, f"{message}; wait longer")


def _reads(job: Workload, secrets: set[str]) -> bool:
    return any(f"{job.namespace}/{name}" in secrets for name in job.secrets)


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (sender_quota, push_interval, record_quota)

"""What failed lately and is left in peace for a while, so that one hopeless resource does not cost a call at every look.

Kept in the memory of one process: after a restart everything is tried at once. A change that is another than the one that failed
(a new commit, another live state) is tried at once, too. Pure but for the lock; time comes in as a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

from reconciler.driver import Change, Status
from reconciler.plan import Resting, essence
from reconciler.report import Report
from reconciler.resource import ResourceId

FIRST, MOST = 10.0, 300.0
"""Seconds of rest after the second failure in a row; doubled with each further one. The first is tried again at the next look."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How often one change failed in a row, and until when (monotonic seconds) it rests."""

    essence: str
    count: int
    until: float
    message: str


@dataclass(slots=True)
class Rests:
    """The failures of every stack. Thread-safe."""

    _failures: dict[str, dict[ResourceId, Failure]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def of(self, stack: str, now: float) -> Mapping[ResourceId, Resting]:
        """Give what rests at the monotonic time ``now``."""
        with self._lock:
            found = self._failures.get(stack, {})
            return {id: Resting(one.essence, _said(id, one, now)) for id, one in found.items() if now < one.until}

    def wake(self, stack: str) -> None:
        """Let everything of a stack be tried at the next look, because a person asks for it."""
        with self._lock:
            self._failures.pop(stack, None)

    def learn(self, report: Report, now: float) -> None:
        """Take note of what a pass could not do, and forget what is done or no longer asked for."""
        changes = {change.id: change for change in (*report.plan.changes, *report.remaining.changes)}
        open_ids = {change.id for change in report.remaining.changes} | {one.id for one in report.remaining.stuck}
        failed = {one.id: one.message for one in report.outcomes if one.status is Status.FAILED}
        with self._lock:
            before = self._failures.pop(report.stack, {})
            kept = {id: one for id, one in before.items() if id in open_ids and id not in failed}
            again = {id: _again(before.get(id), changes[id], message, now) for id, message in failed.items() if id in changes}
            if kept or again:
                self._failures[report.stack] = kept | again


def _again(before: Failure | None, change: Change, message: str, now: float) -> Failure:
    print_ = essence(change)
    count = before.count + 1 if before is not None and before.essence == print_ else 1
    rest = 0.0 if count == 1 else min(FIRST * 2.0 ** min(count - 2, 16), MOST)
    return Failure(print_, count, now + rest, message)


def _said(id: ResourceId, one: Failure, now: float) -> str:
    why = one.message.removeprefix(f"{id}: ")  # whoever tells of it begins with the resource
    return f"failed {one.count} times and rests for {one.until - now:.0f} s more, or until it is another change: {why}"

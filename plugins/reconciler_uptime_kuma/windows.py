"""The maintenance window round a pass: one for each stack, with just the monitors in question, found by its mark alone.

It is of strategy *single*, so that it ends by itself: where nobody is left to close it, alarms come back. A group is never put into it,
because a group takes all below it along.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta

from reconciler.driver import Mark, Quieted, Scope
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import JSONObject, ResourceId
from reconciler_uptime_kuma import maintenance, match
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.marks import Tag
from reconciler_uptime_kuma.match import Live
from reconciler_uptime_kuma.named import DRIVER

KIND, NAME = "Window", "pass"
"""What stands in its mark; no resource can have this kind."""
EARLY = timedelta(minutes=10)
"""How far back it begins, so that it is in force at once when Uptime Kuma's clock is slow."""


class Windows:
    """The windows of one stack."""

    def __init__(self, client: Client, scope: Scope, now: Callable[[], datetime]) -> None:
        self._client, self._scope, self._now = client, scope, now

    def open(self, ids: Collection[ResourceId], reason: str, seconds: float) -> None:
        """Put monitors into the window, and open it when there is none; one that is open keeps its end."""
        numbers = self._numbers(ids)
        if not numbers:
            return
        ours = self._ours()
        window = ours[0].id if ours else self._add(reason, seconds)
        inside = self._client.maintenance_monitors(window)
        if missing := numbers - set(inside):
            with self._scope.span("EMIT addMonitorMaintenance", maintenance=window, monitors=len(missing)):
                self._client.link_maintenance(window, sorted({*inside, *numbers}), self._client.maintenance_pages(window))
        self._check(window)

    def now(self) -> Quieted | None:
        """Say what the windows of this stack are for, and when the last of them ends."""
        ours = self._ours()
        if not ours:
            return None
        inside = {number for one in ours for number in self._client.maintenance_monitors(one.id)}
        rows = self._client.monitors() if inside else []
        found = match.of_monitors(self._scope.owner, [row for row in rows if row["id"] in inside])
        ends = [end for one in ours if (end := _end(one.row)) is not None]
        return Quieted(tuple(one.id for one in found.all([])), max(ends, default=None))

    def close(self) -> None:
        """Delete every window of this stack."""
        for one in self._ours():
            with self._scope.span("EMIT deleteMaintenance", maintenance=one.id):
                self._client.delete_maintenance(one.id)
        if left := self._ours():
            raise Transient(f"maintenance {left[0].id} is still there after its deletion was accepted")

    def _numbers(self, ids: Collection[ResourceId]) -> set[int]:
        with self._scope.span("EMIT getMonitorList"):
            rows = self._client.monitors()
        found = match.of_monitors(self._scope.owner, [row for row in rows if row.get("type") != "group"])
        marked = (found.marked(one.name) for one in ids if (one.driver, one.kind) == (DRIVER, "Monitor"))
        return {ours[0].id for ours in marked if ours}

    def _add(self, reason: str, seconds: float) -> int:
        begin = self._now().astimezone(UTC)
        spec = Maintenance(
            title="Planned change",
            strategy="single",
            start=(begin - EARLY).strftime("%Y-%m-%d %H:%M:%S"),
            end=(begin + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S"),
            description=reason,
        )
        mark = Tag(Mark(self._scope.owner, KIND, NAME))
        try:
            with self._scope.span("EMIT addMaintenance"):
                return self._client.add_maintenance(maintenance.payload(spec, mark.line()))
        except DriverError:
            made = self._ours()  # an error, or no answer, does not mean that nothing was made
            if not made:
                raise
            return made[0].id

    def _check(self, window: int) -> None:
        """See that it is in force. One that ended, because the trouble outlasted it, stays ended."""
        state = next((str(one.row.get("status")) for one in self._ours() if one.id == window), "gone")
        if state not in ("under-maintenance", "ended"):
            raise Permanent(f"maintenance {window} was opened and is {state}; is the clock of Uptime Kuma right?")

    def _ours(self) -> Sequence[Live]:
        with self._scope.span("EMIT getMaintenanceList"):
            rows = self._client.maintenances()
        return [one for one in map(match.maintenance, rows) if one.tag is not None and _is_window(one.tag.mark, self._scope.owner)]


def _is_window(mark: Mark, owner: str) -> bool:
    return (mark.owner, mark.kind) == (owner, KIND)


def _end(row: JSONObject) -> datetime | None:
    """Give the end of a window; None when somebody took it away by hand."""
    dates = list(row.get("dateRange") or ())
    try:
        return datetime.fromisoformat(str(dates[1])).replace(tzinfo=UTC)
    except (IndexError, ValueError):
        return None

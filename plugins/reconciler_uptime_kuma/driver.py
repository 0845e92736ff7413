"""Observe and apply for Uptime Kuma: one list per pass, one write at a time."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from threading import Event
from time import monotonic

from reconciler.driver import Change, Health, Level, Observation, Outcome, Ownership, Quieted, Scope
from reconciler.errors import DriverError
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.writing import apply_each
from reconciler_uptime_kuma import maintenance, page
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.login import shared_login
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.match import Live, Match
from reconciler_uptime_kuma.native import Links, monitor_live, notification_live
from reconciler_uptime_kuma.page import StatusPage
from reconciler_uptime_kuma.sight import look
from reconciler_uptime_kuma.spec import Monitor, Notification
from reconciler_uptime_kuma.watch import Watch
from reconciler_uptime_kuma.windows import Windows
from reconciler_uptime_kuma.writer import Writer

log = logging.getLogger(__name__)

CROWDED = 100
"""Monitors above which every write of 1.23 becomes slow, because it sends the whole list to every client."""

STEP = 25
"""Changes after which the log says how many are left."""

_STATES = {
    0: (Level.DEGRADED, "down"),
    1: (Level.HEALTHY, "up"),
    2: (Level.PROGRESSING, "pending"),
    3: (Level.HEALTHY, "under maintenance"),
}


class UptimeKumaDriver:
    """One Uptime Kuma."""

    def __init__(self, config: UptimeKumaConfig) -> None:
        self._config = config
        self._login = shared_login(config)
        self._client = Client(config, self._login)
        self._warned = False

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """List everything once and say what of it is wanted or ours. Raises Transient or Permanent when the list cannot be had."""
        sight = look(self._client, wanted, scope)
        self._warn_of_a_crowd(len(sight.rows))
        tokens = Counter(row["pushToken"] for row in sight.rows if row.get("pushToken"))
        unseen = [Observation(one.id, None, unknown=sight.blind) for one in wanted if sight.blind and isinstance(one.spec, Maintenance)]
        return [
            *(self._monitor(one, sight.links, scope, tokens) for one in sight.monitors),
            *(_channel(one, scope) for one in sight.notifications),
            *(_maintenance(one, sight.links, scope) for one in sight.maintenances),
            *(_page(one, sight.links, scope) for one in sight.pages),
            *unseen,
        ]

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make the changes one after another, because 1.23 becomes slower when writes overlap."""
        try:
            write: Callable[[Change], str | None] = Writer(self._client, scope, self._config.settle).write
        except DriverError as error:  # nothing was sent; one login attempt is enough for all of them
            write = _failing(error)
        slow = not self._client.dialect.modern and len(changes) >= STEP
        return apply_each(changes, self._told(write, len(changes)) if slow else write)

    def _told(self, write: Callable[[Change], str | None], total: int) -> Callable[[Change], str | None]:
        """Have the log say how far it is: hundreds of writes take minutes in 1.23."""
        begun, done = monotonic(), 0

        def told(change: Change) -> str | None:
            nonlocal done
            try:
                return write(change)
            finally:
                done += 1
                if done % STEP == 0 and done < total:
                    left = (monotonic() - begun) / done * (total - done)
                    log.info("%s: %d of %d changes made, about %.0f s left", self._config.url, done, total, left)

        return told

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    # -- the second face: it gives hints -------------------------------------------------------------------------------------

    def watch(self, scope: Scope, stop: Event) -> Iterator[ResourceId | None]:
        """Yield what is not as git wants it whenever that changes, over a connection of its own, until ``stop`` is set."""
        return Watch(self._config, self._login, scope, stop).run()

    # -- the third face: it can keep quiet -----------------------------------------------------------------------------------

    def quiet(self, ids: Sequence[ResourceId], scope: Scope, reason: str, seconds: float) -> None:
        """Put monitors into the maintenance window of this stack; it ends by itself after ``seconds``."""
        self._windows(scope).open(ids, reason, seconds)

    def quieted(self, scope: Scope) -> Quieted | None:
        """Say which monitors the window of this stack is for; None when there is none."""
        return self._windows(scope).now()

    def unquiet(self, scope: Scope) -> None:
        """Close the window of this stack."""
        self._windows(scope).close()

    def _windows(self, scope: Scope) -> Windows:
        return Windows(self._client, scope, lambda: datetime.now(UTC))

    def _monitor(self, found: Match, links: Links, scope: Scope, tokens: Mapping[str, int]) -> Observation:
        if found.live is None:
            return Observation(found.id, None, refused=found.refused)
        wanted = found.resource.spec if found.resource is not None else None
        assert wanted is None or isinstance(wanted, Monitor)
        row = found.live.row
        live = monitor_live(row, wanted, found.live.tag, links, found.copies)
        health, state = self._health(row, scope) if wanted is not None else (Health(), "")
        shared = wanted is not None and row.get("type") == "push" and tokens.get(row.get("pushToken") or "", 0) > 1
        notes = ("its push token is also that of another monitor, and a call reaches one of them only; give one another token",)
        return _observation(found, found.live, live, scope, health, {"id": row["id"], "state": state}, notes if shared else ())

    def _health(self, row: JSONObject, scope: Scope) -> tuple[Health, str]:
        if not row.get("active"):
            return Health(message="paused"), "paused"
        with scope.span("EMIT getMonitorBeats", monitor=row["id"]):
            beat = self._client.beat(row["id"])
        health, state = _judged(row, beat)
        return (health if self._config.report_status else Health()), state

    def _warn_of_a_crowd(self, count: int) -> None:
        if count > CROWDED and not self._client.dialect.modern and not self._warned:
            self._warned = True
            log.warning(
                "%s: %d monitors in Uptime Kuma 1.23, whose writes take ever longer; 2.x has no such limit", self._config.url, count
            )


def _channel(found: Match, scope: Scope) -> Observation:
    if found.live is None:
        return Observation(found.id, None, refused=found.refused)
    wanted = found.resource.spec if found.resource is not None else None
    assert wanted is None or isinstance(wanted, Notification)
    live = notification_live(found.live.row, wanted, found.live.tag)
    return _observation(found, found.live, live, scope, Health(), {"id": found.live.id})


def _maintenance(found: Match, links: Links, scope: Scope) -> Observation:
    if found.live is None:
        return Observation(found.id, None, refused=found.refused)
    state = str(found.live.row.get("status") or "")
    live = maintenance.live(found.live.row, links)
    return _observation(found, found.live, live, scope, Health(message=state), {"id": found.live.id, "state": state})


def _page(found: Match, links: Links, scope: Scope) -> Observation:
    if found.live is None:
        return Observation(found.id, None, refused=found.refused)
    wanted = found.resource.spec if found.resource is not None else None
    assert wanted is None or isinstance(wanted, StatusPage)
    live = page.live(found.live.row, wanted, found.live.tag, links)
    return _observation(found, found.live, live, scope, Health(), {"id": found.live.id})


def _judged(row: JSONObject, beat: JSONObject | None) -> tuple[Health, str]:
    """Say how a monitor fares by its last heartbeat. One that needs others to move, and was not let down yet, is as it should be."""
    if row.get("type") == "group" and not row.get("childrenIDs"):
        return Health(message="has no monitors below it"), "empty"
    if beat is None and row.get("type") == "push":
        return Health(message="waits for its first call"), "waiting"
    if beat is None:
        return Health(Level.PROGRESSING, "not checked yet"), "not checked yet"
    level, state = _STATES.get(int(beat.get("status", -1)), (Level.UNKNOWN, f"status {beat.get('status')}"))
    said = str(beat.get("msg") or "")
    return Health(level, f"{state}: {said}" if said and level is not Level.HEALTHY else state), state


def _failing(error: DriverError) -> Callable[[Change], str | None]:
    def write(change: Change) -> str | None:
        raise error

    return write


def _observation(
    found: Match, one: Live, live: JSONObject, scope: Scope, health: Health, status: JSONObject, notes: tuple[str, ...] = ()
) -> Observation:
    tag, ownership = one.tag, one.ownership(scope.owner)
    copies = ", ".join(str(id) for id in found.copies)
    said = f"{one.id} is used; its copies {copies} carry the same mark: delete them or their mark by hand"
    if found.id.kind == "Monitor":
        said += ", or set copies: delete"
    return Observation(
        id=found.id,
        live=live,
        ownership=ownership,
        health=health,
        handle={"id": one.id, "mark": str(tag.mark) if tag is not None else ""},
        refused=found.refused,
        keep=tag is not None and tag.mark.keep,
        protect=tag is not None and tag.mark.protect,
        applied=tag.digest if tag is not None and ownership is Ownership.OURS else "",
        owner=tag.mark.owner if tag is not None and ownership is Ownership.FOREIGN else "",
        stale_mark=_stale(found, one, ownership),
        status=status if found.id in scope.status_of else None,
        notes=(*notes, *((said,) if copies else ())),
    )


def _stale(found: Match, one: Live, ownership: Ownership) -> str:
    """Give what a mark of ours says wrongly: the name that git no longer uses, or whether it outlives its removal from git."""
    if found.stale or one.tag is None or found.resource is None or ownership is not Ownership.OURS:
        return found.stale
    mark, policy = one.tag.mark, found.resource.policy
    if (mark.keep, mark.protect) == (not policy.prune, policy.protect and policy.prune):
        return ""
    return f"{mark.name} ({'kept' if mark.keep else 'protected' if mark.protect else 'pruned'} when removed from git)"

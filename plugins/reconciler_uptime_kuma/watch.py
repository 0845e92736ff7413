"""Hints from Uptime Kuma: what it pushes to every client, judged by the same local compare as a listing.

An object that is as git wants it gives no hint, so our own writes are silent without any bookkeeping. A push may be lost, so everything
is listed after each reconnect and on a slow sweep. What a maintenance is for, and status pages, are never pushed: the passes find those.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from time import monotonic
from typing import Any

from reconciler.driver import Ownership, Scope
from reconciler.errors import Transient
from reconciler.resource import JSONObject, Resource, ResourceId, digest
from reconciler_uptime_kuma import maintenance, match
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.login import Login
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.match import Match
from reconciler_uptime_kuma.native import Links, monitor_live, notification_live
from reconciler_uptime_kuma.spec import Monitor, Notification

SWEEP = 300.0
"""Seconds between two listings while nothing is pushed."""
GATHER = 0.3
"""Seconds to wait for more before judging: 1.23 sends its whole list with every write of anybody."""
TICK = 0.2
"""Seconds between two looks at ``stop``."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""Seconds before another try to connect; short, because an attempt on a dead port costs nothing and is no login."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class World:
    """What is known of the server. ``maintenances`` is None while its list cannot be had."""

    monitors: dict[int, JSONObject] = field(default_factory=dict)
    notifications: Sequence[JSONObject] = ()
    maintenances: Sequence[JSONObject] | None = None
    dockers: Sequence[JSONObject] = ()

    def take(self, event: str, args: Sequence[Any]) -> None:
        """Take in one push. An unknown shape changes nothing: the sweep will see."""
        given = args[0] if args else None
        if event == "monitorList" and isinstance(given, dict):
            self.monitors = {int(id): row for id, row in given.items()}
        elif event == "updateMonitorIntoList" and isinstance(given, dict):
            self.monitors |= {int(id): row for id, row in given.items()}
        elif event == "deleteMonitorFromList" and isinstance(given, int):
            self.monitors.pop(given, None)
        elif event == "notificationList" and isinstance(given, list):
            self.notifications = given
        elif event == "maintenanceList" and isinstance(given, dict):
            self.maintenances = list(given.values())


def differences(world: World, scope: Scope) -> dict[ResourceId, str]:
    """Give what is not as git wants it, each with a digest of how it is. Pure."""
    wanted = list(scope.wanted.values())
    links = Links(scope.owner, list(world.monitors.values()), world.notifications, world.dockers)
    found: dict[ResourceId, str] = {}
    monitors = [one for one in wanted if isinstance(one.spec, Monitor)]
    _compare(found, match.of_monitors(scope.owner, world.monitors.values()).all(monitors), monitors, scope, links)
    channels = [one for one in wanted if isinstance(one.spec, Notification)]
    _compare(found, match.of_notifications(scope.owner, world.notifications).all(channels), channels, scope, links)
    if world.maintenances is not None:
        times = [one for one in wanted if isinstance(one.spec, Maintenance)]
        _compare(found, match.of_maintenances(scope.owner, world.maintenances).all(times), times, scope, links)
    return found


def _compare(found: dict[ResourceId, str], matches: Sequence[Match], wanted: Sequence[Resource], scope: Scope, links: Links) -> None:
    seen = {one.id: one for one in matches}
    for resource in wanted:
        if resource.id not in seen:
            found[resource.id] = "missing"
    for one in matches:
        if one.resource is None or one.live is None or one.stale or one.live.ownership(scope.owner) is not Ownership.OURS:
            found[one.id] = digest([one.refused, one.stale, one.copies, one.live.row.get("description") if one.live is not None else ""])
            continue
        live, wish = _live(one, links), one.resource.spec.canonical(scope.fingerprint)
        if one.copies or any(wish[key] != value for key, value in live.items()):
            found[one.id] = digest([live, one.copies])


def _live(one: Match, links: Links) -> Mapping[str, Any]:
    assert one.resource is not None
    assert one.live is not None
    spec, row, tag = one.resource.spec, one.live.row, one.live.tag
    if isinstance(spec, Monitor):
        return monitor_live(row, spec, tag, links, one.copies)
    if isinstance(spec, Notification):
        return notification_live(row, spec, tag)
    live = maintenance.live({**row, "monitors": (), "pages": ()}, links)
    return {key: value for key, value in live.items() if key not in ("monitors", "pages")}


@dataclass(slots=True)
class Watch:
    """One connection of its own, on behalf of one stack."""

    config: UptimeKumaConfig
    login: Login
    scope: Scope
    stop: Event
    sweep: float = SWEEP
    now: Callable[[], float] = monotonic
    _news: "SimpleQueue[tuple[str, tuple[Any, ...]]]" = field(default_factory=SimpleQueue)
    _world: World = field(default_factory=World)
    _told: dict[ResourceId, str] = field(default_factory=dict)

    def run(self) -> Iterator[ResourceId | None]:
        """Yield hints until ``stop`` is set. Raises Permanent when it cannot log in."""
        client = Client(self.config, self.login, lambda event, args: self._news.put((event, args)))
        pause = FIRST_PAUSE
        try:
            while not self.stop.is_set():
                try:
                    self._list(client)
                except Transient as error:
                    log.info("%s; the watch is taken up again", error)
                    if self.stop.wait(error.retry_after if error.retry_after is not None else pause):
                        return
                    pause = min(pause * 2, LONGEST_PAUSE)
                    continue
                pause = FIRST_PAUSE
                yield from self._judge()
                yield from self._follow(client)
        finally:
            client.close()

    def _list(self, client: Client) -> None:
        """Learn everything anew; on a dead connection this connects and logs in."""
        monitors = client.monitors()
        self._world = World({int(row["id"]): row for row in monitors}, client.notifications(), self._world.maintenances)
        self._world.dockers = client.docker_hosts()
        self._drain()

    def _follow(self, client: Client) -> Iterator[ResourceId | None]:
        """Follow the pushes until the connection is lost or the sweep is due."""
        due = self.now() + self.sweep
        while client.connected and not self.stop.is_set() and self.now() < due:
            try:
                self._world.take(*self._news.get(timeout=TICK))
            except Empty:
                continue
            self.stop.wait(GATHER)
            self._drain()
            yield from self._judge()

    def _drain(self) -> None:
        """Take in what has been pushed meanwhile, the lists that were asked for among it."""
        while True:
            try:
                self._world.take(*self._news.get_nowait())
            except Empty:
                return

    def _judge(self) -> Iterator[ResourceId]:
        """Hint at what differs otherwise than when it was last hinted at."""
        found = differences(self._world, self.scope)
        fresh = [id for id, state in found.items() if self._told.get(id) != state]
        self._told = found
        yield from sorted(fresh)

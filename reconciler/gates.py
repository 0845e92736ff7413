"""The gates of a pass while it writes: what must be healthy before something else may be made, and what is known of that.

Pure but for what it is told: time and health come in as values. May import only the nouns, the driver's values and the graph. What was
healthy before a write says nothing once the thing itself, or something that it depends on, was written: it must be seen again.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from reconciler.driver import Change, Health, Level
from reconciler.graph import Graph
from reconciler.resource import ResourceId

EAGER = 4
"""The first look after one that found a gate closed comes after this part of a poll: much is ready within a moment."""
SLOWEST = 10.0
"""Seconds between two looks at a target at most."""
UNSEEN = Health(Level.UNKNOWN, "cannot be seen")


@dataclass(frozen=True, slots=True)
class Look:
    """What was asked for in one look, and how that fares which was seen."""

    asked: frozenset[ResourceId]
    health: Mapping[ResourceId, Health]


@dataclass(slots=True)
class Gates:
    """``health`` is what was seen last; ``poll`` is the pace of looks at a target: sooner at first, then ever slower."""

    graph: Graph
    health: Mapping[ResourceId, Health]
    poll: float
    _stale: set[ResourceId] = field(default_factory=set)
    _looked: set[ResourceId] = field(default_factory=set)
    _next: dict[str, float] = field(default_factory=dict)
    _pause: dict[str, float] = field(default_factory=dict)

    def before(self, change: Change) -> Iterator[ResourceId]:
        """Name what this change needs and what is not known to be healthy."""
        if change.desired is not None:
            needs = self.graph.resources[change.id].needs
            yield from (id for id in needs if id in self._stale or not self.health.get(id, Health()).ok)

    def closed(self, change: Change) -> bool:
        """Say whether a change has to wait for health."""
        return next(self.before(change), None) is not None

    def never(self, change: Change, *, over: bool) -> str:
        """Say why a change will not be made in this pass: what it needs is not there or, once the time is ``over``, not well."""
        for id in self.graph.resources[change.id].needs if change.desired is not None else ():
            if id not in self.health and id not in self._stale:
                return f"waits for {id}: it does not exist yet"
        closed = [*self.before(change)]
        if not over or not closed or not self._looked.issuperset(closed):
            return ""
        health = self._of(closed[0])
        return f"waits for {closed[0]}: {health.level.name.lower()}: {health.message}"

    def waiting(self, ids: Iterable[ResourceId]) -> dict[ResourceId, Health]:
        """Give how those fare that are waited for."""
        return {id: self._of(id) for id in ids}

    def moved(self, written: Iterable[ResourceId]) -> None:
        """Take note of what was written: it, and what depends on it, must be seen again, and soon."""
        ids = {id for id in written if id in self.graph.resources}
        if ids:
            ids |= self.graph.downstream(ids)
            self._stale |= ids
            self._looked -= ids
            self._next.clear()
            self._pause.clear()

    def due(self, target: str, now: float) -> bool:
        """Say whether a target may be looked at again."""
        return now >= self._next.get(target, now)

    def next_look(self, target: str) -> float:
        """Give the monotonic time of the next look at a target."""
        return self._next.get(target, 0.0)

    def looked(self, target: str, look: Look, now: float, deadline: float) -> None:
        """Take what a look at ``target`` has shown; what it did not show is not taken for well."""
        self.health = {**self.health, **look.health}
        self._stale -= look.health.keys()
        self._looked |= look.asked
        pause = self._pause.get(target, self.poll / EAGER)
        self._next[target] = now + min(pause, max(0.0, deadline - now))
        self._pause[target] = min(pause * (2 if pause < self.poll else 1.5), SLOWEST)

    def _of(self, id: ResourceId) -> Health:
        return UNSEEN if id in self._stale else self.health.get(id, UNSEEN)

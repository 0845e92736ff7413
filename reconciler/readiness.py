"""Which changes of a plan can be made at this moment, and which of them only wait for the health of something.

Pure. May import only the nouns, the driver's values and the graph. The order of a plan's waves is what people read and what a transaction
is cut by; inside of it every change goes as soon as what it depends on allows, so that a slow gate or a slow system delays its own
dependents. Nothing is ever made before a change that it depends on, directly or through what does not change, and deletes come last.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from reconciler.driver import Action, Change
from reconciler.graph import Graph
from reconciler.resource import ResourceId

Batch: TypeAlias = tuple[str, tuple[Change, ...]]
"""A target and what it is given at once."""
Group: TypeAlias = tuple[str, int]
"""A target and the number of a wave: what stands in both is one transaction where the target writes as one."""
TOGETHER = 10.0
"""Seconds for which the ready part of a transaction waits for the rest of it: each transaction is a reload of a whole system."""


@dataclass(slots=True)
class Agenda:
    """What is still to be made of a plan, in its order. ``flying`` is what was handed out and has no outcome yet."""

    graph: Graph
    transactional: Collection[str]
    todo: dict[ResourceId, Change] = field(default_factory=dict)
    flying: dict[ResourceId, Change] = field(default_factory=dict)
    number: dict[ResourceId, int] = field(default_factory=dict)
    _behind: dict[ResourceId, frozenset[ResourceId]] = field(default_factory=dict)
    _since: dict[Group, float] = field(default_factory=dict)
    _whole: set[Group] = field(default_factory=set)

    @classmethod
    def of(cls, graph: Graph, waves: Sequence[Sequence[Change]], transactional: Collection[str]) -> "Agenda":
        """Take the waves of a plan."""
        agenda = cls(graph, transactional)
        agenda.todo = {change.id: change for wave in waves for change in wave}
        agenda.number = {change.id: number for number, wave in enumerate(waves, 1) for change in wave}
        agenda._behind = _nearest(graph, {id for id, change in agenda.todo.items() if change.action is not Action.DELETE})
        for number, wave in enumerate(waves, 1):
            gone = {change.target for change in wave if change.action is Action.DELETE}
            made = {change.target for change in wave if change.action is not Action.DELETE}
            agenda._whole |= {(target, number) for target in gone & made}
        return agenda

    def settled(self, ids: Iterable[ResourceId]) -> None:
        """Take off what has an outcome."""
        for id in ids:
            self.todo.pop(id, None)
            self.flying.pop(id, None)

    def reached(self, gated: Callable[[Change], bool]) -> Iterator[Change]:
        """Walk what comes after nothing that is still to be made, but for its own transaction; what is ``gated`` holds that up.

        Deletes come after all that is made, wave by wave; one that shares the last transaction goes with it.
        """
        joined: set[ResourceId] = set()
        for change in self.todo.values():
            if change.action is not Action.DELETE and all(self._is_behind_us(id, change, joined) for id in self._behind[change.id]):
                if not gated(change):
                    joined.add(change.id)
                yield change
        open_ = [*self.todo.values(), *self.flying.values()]
        making = {self._group(one) if one.id in joined else None for one in open_ if one.action is not Action.DELETE}
        deletes = [one for one in open_ if one.action is Action.DELETE]
        first = min((self.number[one.id] for one in deletes), default=0)
        for change in self.todo.values():
            if change.action is Action.DELETE and self.number[change.id] == first and making <= {self._group(change)}:
                yield change

    def ready(self, gated: Callable[[Change], bool], now: float, busy: Collection[str] = ()) -> list[Batch]:
        """Hand out what can be made now, at most one batch for each target that is not ``busy`` and has none yet.

        ``gated`` says what waits for health; ``now`` in monotonic seconds.
        """
        taken = {change.target for change in self.flying.values()} | set(busy)
        parts: dict[Group, list[Change]] = {}
        for change in self.reached(gated):
            if not gated(change) and change.target not in taken:
                parts.setdefault(self._group(change), []).append(change)
        sizes = Counter(self._group(change) for change in self.todo.values())
        self._since = {group: self._since.get(group, now) for group, part in parts.items() if self._lacks(group, part, sizes)}
        batches: dict[str, list[Change]] = {}
        for group, part in parts.items():
            if group not in self._since or (now - self._since[group] >= TOGETHER and group not in self._whole):
                self._since.pop(group, None)
                batches.setdefault(group[0], []).extend(part)
        self.flying |= {change.id: self.todo.pop(change.id) for part in batches.values() for change in part}
        return [(target, tuple(part)) for target, part in batches.items()]

    def held_back(self, now: float) -> float | None:
        """Give the seconds until a part of a transaction waits for the rest no longer; None when none waits."""
        return min((max(0.0, began + TOGETHER - now) for group, began in self._since.items() if group not in self._whole), default=None)

    def _lacks(self, group: Group, part: Sequence[Change], sizes: Mapping[Group, int]) -> bool:
        return group[0] in self.transactional and sizes[group] > len(part)

    def _is_behind_us(self, id: ResourceId, change: Change, joined: Collection[ResourceId]) -> bool:
        if id not in self.todo and id not in self.flying:
            return True
        return id in joined and change.target in self.transactional and self._group(self.todo[id]) == self._group(change)

    def _group(self, change: Change) -> Group:
        return change.target, self.number[change.id]


def _nearest(graph: Graph, changed: Collection[ResourceId]) -> dict[ResourceId, frozenset[ResourceId]]:
    """Give, of each change, the changes that it comes after with no other change between them."""
    found: dict[ResourceId, frozenset[ResourceId]] = {}
    for resource in graph:
        before = (frozenset({one}) if one in changed else found[one] for one in graph.before[resource.id])
        found[resource.id] = frozenset().union(*before)
    return found

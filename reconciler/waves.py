"""In which order the changes of a plan are made: wave after wave, deletes last, and together what its system writes as one transaction.

Pure. May import only the nouns, the driver's values and the graph. It decides nothing about what is changed: that is ``plan``.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

from reconciler.driver import Change
from reconciler.graph import Graph
from reconciler.resource import ResourceId

Wave: TypeAlias = tuple[Change, ...]
Edges: TypeAlias = Mapping[ResourceId, Sequence[ResourceId]]


def in_waves(
    graph: Graph,
    changes: Mapping[ResourceId, Change],
    deletes: Mapping[ResourceId, Change],
    remembered: Edges,
    targets: Mapping[ResourceId, str],
    transactional: Collection[str],
) -> tuple[Wave, ...]:
    """Order creates and updates by ``graph``, and deletes after them by the ``remembered`` edges, backwards.

    Of a ``transactional`` target, changes stand in one wave unless a gate or another system lies between them: its driver brings them
    into order itself. Deletes of such a target join its last wave when no other system has a change in either.
    """
    made = [*_made(graph, changes, targets, transactional)]
    gone = [*_gone(graph, deletes, remembered, transactional)]
    if made and gone and (alone := _alone(made[-1])) and alone == _alone(gone[0]) and alone in transactional:
        made[-1] += gone.pop(0)
    return (*made, *gone)


def _alone(wave: Wave) -> str:
    """Give the one target of a wave; empty when there are several."""
    targets = {change.target for change in wave}
    return targets.pop() if len(targets) == 1 else ""


def _made(
    graph: Graph, changes: Mapping[ResourceId, Change], targets: Mapping[ResourceId, str], transactional: Collection[str]
) -> Iterator[Wave]:
    """Give the waves of ``changes``; within one, what comes first in the graph stands first."""
    used = {change.target for change in changes.values()} & set(transactional)
    place = _places(graph, changes, targets, used) if used else graph.level()
    waves: dict[int, list[Change]] = {}
    for id in (id for level in graph.waves for id in level if id in changes):
        waves.setdefault(place[id], []).append(changes[id])
    return (tuple(waves[number]) for number in sorted(waves))


def _places(
    graph: Graph, changes: Collection[ResourceId], targets: Mapping[ResourceId, str], transactional: Collection[str]
) -> dict[ResourceId, int]:
    """Give the wave of each change: the level of the graph, and the earliest possible one where the target is transactional.

    For every resource on the way, ``inside`` is the last wave of a change that reaches it without leaving its target and without a gate,
    and ``after`` the first one after all other changes that reach it. A change is never later than its level in the graph, so what is
    ordered by levels stays behind it.
    """
    level, inside, after, place = graph.level(), dict[ResourceId, int](), dict[ResourceId, int](), dict[ResourceId, int]()
    for resource in graph:
        id, target = resource.id, targets[resource.id]
        joins = target in transactional
        within, beyond = -1, 0
        for one in graph.before[id]:
            if joins and targets[one] == target and one not in resource.needs:
                within, beyond = max(within, inside[one]), max(beyond, after[one])
            else:
                beyond = max(beyond, after[one], inside[one] + 1)
        if id in changes:
            within = place[id] = max(within, beyond) if joins else level[id]
        inside[id], after[id] = within, beyond
    return place


def _gone(graph: Graph, deletes: Mapping[ResourceId, Change], remembered: Edges, transactional: Collection[str]) -> Iterator[Wave]:
    """Order deletes in reverse: by the remembered edges where there are any, otherwise by how late their driver comes in the graph."""
    latest: dict[str, int] = {}
    for id, number in graph.level().items():
        latest[id.driver] = max(latest.get(id.driver, 0), number)
    depth: dict[ResourceId, int] = {}

    def rank(id: ResourceId, trail: tuple[ResourceId, ...] = ()) -> int:
        if id not in depth:
            trail = (*trail, id)
            earlier = [one for one in remembered.get(id, ()) if one in deletes and one not in trail]
            depth[id] = max((rank(one, trail) + step(one, id) for one in earlier), default=latest.get(id.driver, 0) * 1000 + 1)
        return depth[id]

    def step(one: ResourceId, other: ResourceId) -> int:
        target = deletes[one].target
        return 0 if target == deletes[other].target and target in transactional else 1

    for number in sorted({rank(id) for id in deletes}, reverse=True):
        yield tuple(deletes[id] for id in sorted(deletes) if depth[id] == number)

"""The order of things: which resource comes after which, in which wave, and who depends on whom.

Pure. May import only ``resource`` and ``errors``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from reconciler.errors import InputError, Problem
from reconciler.resource import Resource, ResourceId

Node = TypeVar("Node", ResourceId, str)


@dataclass(frozen=True, slots=True)
class Graph:
    """The resources of one stack and the edges between them; ``before[x]`` are those that come before x."""

    resources: Mapping[ResourceId, Resource]
    before: Mapping[ResourceId, frozenset[ResourceId]]
    waves: tuple[tuple[ResourceId, ...], ...]

    def __iter__(self) -> Iterator[Resource]:
        """Walk the resources in wave order, by id within a wave."""
        return (self.resources[id] for wave in self.waves for id in wave)

    def level(self) -> dict[ResourceId, int]:
        """Give the wave number of each resource, from 0."""
        return {id: number for number, wave in enumerate(self.waves) for id in wave}

    def after(self) -> dict[ResourceId, set[ResourceId]]:
        """Give the direct dependents of each resource."""
        result: dict[ResourceId, set[ResourceId]] = {id: set() for id in self.resources}
        for id, earlier in self.before.items():
            for one in earlier:
                result[one].add(id)
        return result

    def downstream(self, starts: Iterable[ResourceId]) -> set[ResourceId]:
        """Give everything that depends on ``starts``, directly or not; the starts themselves only when they depend on one another."""
        after, found, queue = self.after(), set[ResourceId](), list(starts)
        while queue:
            for dependent in after.get(queue.pop(), ()):
                if dependent not in found:
                    found.add(dependent)
                    queue.append(dependent)
        return found

    def upstream(self, start: ResourceId) -> set[ResourceId]:
        """Give everything that ``start`` depends on, directly or not."""
        found, queue = set[ResourceId](), list(self.before.get(start, ()))
        while queue:
            id = queue.pop()
            if id not in found:
                found.add(id)
                queue.extend(self.before[id])
        return found

    def subgraph(self, roots: Iterable[ResourceId]) -> "Graph":
        """Give the graph of ``roots`` and everything that they need."""
        wanted, queue = set[ResourceId](), list(roots)
        while queue:
            id = queue.pop()
            if id in self.resources and id not in wanted:
                wanted.add(id)
                queue.extend(self.before[id])
        return build([self.resources[id] for id in wanted])


def build(resources: Iterable[Resource]) -> Graph:
    """Order ``resources``. Raises InputError for two resources of one id, a dangling edge, or a cycle, which is named as a path."""
    known: dict[ResourceId, Resource] = {}
    problems: list[Problem] = []
    for resource in resources:
        if resource.id in known:
            problems.append(_problem(resource, f"is declared twice; the other one is at {known[resource.id].origin}"))
        known.setdefault(resource.id, resource)
    before = {id: _edges(resource, known, problems) for id, resource in known.items()}
    if problems:
        raise InputError(problems)
    return Graph(known, before, _waves(known, before))


def rivals(resources: Iterable[Resource]) -> Iterator[Problem]:
    """Find resources that stand for one object of one target under different names."""
    first: dict[tuple[str, str, str], Resource] = {}
    for resource in resources:
        if not (natural := resource.spec.stands_for()):
            continue
        other = first.setdefault((resource.id.driver, resource.policy.target, natural), resource)
        if other is not resource:
            yield _problem(resource, f"is the same object as {other.id} at {other.origin}; keep one of them")


def _edges(resource: Resource, known: Mapping[ResourceId, Resource], problems: list[Problem]) -> frozenset[ResourceId]:
    dangling = (id for id in (*resource.needs, *resource.refs) if id not in known)
    problems.extend(_problem(resource, f"refers to {id}, which this stack does not declare{_hint(id, known)}") for id in dangling)
    soft = (id for id in resource.spec.requires(resource.id.name) if id in known and id != resource.id)
    return frozenset((*(id for id in (*resource.needs, *resource.refs) if id in known), *soft))


def _hint(id: ResourceId, known: Mapping[ResourceId, Resource]) -> str:
    from difflib import get_close_matches  # only on the way to an error

    close = get_close_matches(str(id), [str(other) for other in known], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _waves(known: Mapping[ResourceId, Resource], before: Mapping[ResourceId, frozenset[ResourceId]]) -> tuple[tuple[ResourceId, ...], ...]:
    sorter = TopologicalSorter(before)
    try:
        sorter.prepare()
    except CycleError:
        ring = cycle(before)
        problem = _problem(known[ring[0]], "depends on itself: " + " -> ".join(str(id) for id in ring))
        raise InputError([problem]) from None
    waves = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        waves.append(tuple(ready))
        sorter.done(*ready)
    return tuple(waves)


def cycle(edges: Mapping[Node, Iterable[Node]]) -> list[Node]:
    """Give one cycle as a path from its smallest member back to it, each followed by what it comes after; empty when there is none."""
    try:
        TopologicalSorter({one: [other for other in sorted(edges[one]) if other in edges] for one in sorted(edges)}).prepare()
    except CycleError as error:
        ring: list[Node] = list(reversed(error.args[1]))[:-1]
        start = ring.index(min(ring))
        return ring[start:] + ring[: start + 1]
    return []


def _problem(resource: Resource, message: str) -> Problem:
    return Problem(resource.origin.file, resource.origin.line, message, str(resource.id))

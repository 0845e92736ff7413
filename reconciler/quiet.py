"""Keeping quiet: while a pass changes what somebody watches, and until that is proven to work again, no alarm is raised about it.

Called by the engine only. It asks drivers with the ``Quieter`` face and knows no vendor. Nothing here is remembered: what a process that
died has left is found in the system itself by its mark. A system that cannot keep quiet stops no write; it is said in a note.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from reconciler.driver import Outcome, Ownership, Quieted, Quieter, Scope, Status
from reconciler.errors import DriverError, SettingsError
from reconciler.graph import Graph
from reconciler.observing import Observer, Seen
from reconciler.plan import Plan
from reconciler.report import about
from reconciler.resource import ResourceId
from reconciler.telemetry import span

T = TypeVar("T")


@dataclass(slots=True)
class Hush:
    """The quiet of one pass: ``begin`` before its first write, ``end`` after its last look.

    ``touched`` names the targets that ``end`` changed something in.
    """

    observer: Observer
    touched: set[str] = field(default_factory=set)
    _notes: list[str] = field(default_factory=list)

    def begin(self, seen: Seen, plan: Plan) -> None:
        """Keep quiet about whatever watches what ``plan`` changes, where the stack asks for that."""
        if not seen.stack.spec.monitoring.quiet:
            return
        touched = {change.id for change in plan.changes if change.id in seen.graph.resources}
        for target in self._quieters(seen):
            watching = _watching(seen, target, touched)
            if not watching:
                continue
            reason = f"{seen.stack.name}: {_some(sorted(touched - set(watching)))} being changed"
            with span(f"quiet {target}", resources=len(watching)):
                self._try(target, "it may raise alarms", seen, _quiet(watching, reason, seen.stack.spec.monitoring.at_most))

    def end(self, seen: Seen, remaining: Plan, outcomes: Mapping[ResourceId, Outcome], *, interrupted: bool) -> Plan:
        """End the quiet of this stack, also what a dead process left, or say why it stays. Gives ``remaining`` with what is to be told."""
        for target in self._quieters(seen):
            found = self._try(target, "it may still be quiet", seen, lambda driver, scope: driver.quieted(scope))
            if found is None:
                continue
            reason = "the pass was interrupted" if interrupted else next(_trouble(seen, remaining, outcomes, found.ids), "")
            if reason:
                self._notes.append(_stays(target, found, reason))
            else:
                self.touched.add(target)
                with span(f"unquiet {target}", resources=len(found.ids)):
                    self._try(target, "it stays quiet", seen, lambda driver, scope: driver.unquiet(scope))
        return replace(remaining, notes=tuple(sorted({*remaining.notes, *self._notes})))

    def _quieters(self, seen: Seen) -> Iterator[str]:
        """Give the targets of this stack that can keep quiet and could be seen."""
        for target in sorted(seen.by_target):
            if target not in seen.blind and self.observer.has_face(target, "quiet"):
                yield target

    def _try(self, target: str, otherwise: str, seen: Seen, work: Callable[[Quieter, Scope], T]) -> T | None:
        """Call a driver as patiently as everywhere else; what fails, or is a bug of the driver, becomes a note."""
        try:
            return self.observer.ask(target, seen.scope, work, writes=True)
        except (DriverError, SettingsError) as error:
            self._notes.append(f"{target}: {otherwise}: {error}")
        except Exception as error:  # a bug in one driver must not stop the pass
            self._notes.append(f"{target}: {otherwise}: bug: {type(error).__name__} in the driver")
        return None


def _quiet(watching: Collection[ResourceId], reason: str, seconds: float) -> Callable[[Quieter, Scope], None]:
    return lambda driver, scope: driver.quiet(sorted(watching), scope, reason, seconds)


def _watching(seen: Seen, target: str, touched: Collection[ResourceId]) -> set[ResourceId]:
    """Name what of ours in ``target`` depends on what is touched elsewhere, directly or not."""
    elsewhere = {id for id in touched if seen.target(id) != target}
    there = {one.id for one in seen.by_target[target] if one.live is not None and one.ownership is Ownership.OURS}
    return there & seen.graph.downstream(elsewhere)


def _trouble(seen: Seen, remaining: Plan, outcomes: Mapping[ResourceId, Outcome], ids: Collection[ResourceId]) -> Iterator[str]:
    """Say what is not proven to work of what ``ids`` watch."""
    watched = _upstream(seen.graph, ids)
    for id in sorted(watched & outcomes.keys()):
        if outcomes[id].status in (Status.FAILED, Status.BLOCKED):
            yield about(id, f"{outcomes[id].status}: {outcomes[id].message.removeprefix(f'{id}: ')}")
    for change in remaining.changes:
        if change.id in watched:
            yield f"{change.id} is still to be changed"
    for stuck in remaining.stuck:
        if stuck.id in watched:
            yield about(stuck.id, stuck.reason)
    for id, health in sorted(seen.health().items()):
        if id in watched and not health.ok:
            yield f"{id} is {health.level.name.lower()}: {health.message}"


def _upstream(graph: Graph, ids: Collection[ResourceId]) -> set[ResourceId]:
    """Give everything that ``ids`` depend on, directly or not, without themselves."""
    found, queue = set[ResourceId](), [id for id in ids if id in graph.resources]
    while queue:
        for earlier in graph.before[queue.pop()]:
            if earlier not in found:
                found.add(earlier)
                queue.append(earlier)
    return found - set(ids)


def _stays(target: str, found: Quieted, reason: str) -> str:
    until = f" until {found.until:%Y-%m-%d %H:%M} UTC at most" if found.until is not None else ""
    return f"{target}: stays quiet about {_some(list(found.ids))}{until}, because {reason}"


def _some(ids: Collection[ResourceId], most: int = 3) -> str:
    shown = [str(id) for id in ids][:most]
    return ", ".join(shown) + (f" and {len(ids) - most} more" if len(ids) > most else "")

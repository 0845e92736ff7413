"""The writing half of a pass: wave after wave, each gated by the health of what it needs, deletes last.

Called by the engine only. A failure blocks the dependents of what failed and nothing else.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TypeAlias

from reconciler.driver import Change, Health, Level, Outcome, Status
from reconciler.errors import DriverError, SettingsError, Transient
from reconciler.graph import Graph
from reconciler.lanes import Call, Overdue
from reconciler.observing import Observer, Seen
from reconciler.plan import Plan
from reconciler.resource import ResourceId
from reconciler.retry import Retry
from reconciler.telemetry import at, completed, span
from reconciler.writing import gated


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a pass, for whoever watches it live. ``stage``: observe, plan, wave, outcome, wait, verify or done."""

    stage: str
    text: str = ""
    plan: Plan | None = None
    changes: tuple[Change, ...] = ()
    outcome: Outcome | None = None
    health: Mapping[ResourceId, Health] = field(default_factory=dict)


EAGER = 4
"""The first look after one that found a gate closed comes after this part of a poll: much is ready within a moment."""
Listener: TypeAlias = Callable[[Event], None]


@dataclass(slots=True)
class Applier:
    """Applies one plan.

    ``deadline`` is the monotonic time after which nothing more is waited for; ``held`` says before each write whether the stack is ours.
    """

    observer: Observer
    retry: Retry
    seen: Seen
    listen: Listener
    poll: float
    deadline: float
    held: Callable[[], bool] = lambda: True
    health: dict[ResourceId, Health] = field(default_factory=dict)
    outcomes: dict[ResourceId, Outcome] = field(default_factory=dict)

    def run(self, plan: Plan) -> dict[ResourceId, Outcome]:
        """Apply the waves in order; stop between two writes when asked to."""
        self.health.update(self.seen.health())
        for number, wave in enumerate(plan.waves, 1):
            if self.retry.stop.is_set() or not self.held():
                break
            with span(f"wave {number}", changes=len(wave)):
                self._wave(wave)
        return self.outcomes

    def _wave(self, wave: Sequence[Change]) -> None:
        if gates := self._gates(wave):
            self._await(gates)
        ready: dict[str, list[Change]] = {}
        for change in wave:
            if reason := self._waits(change):
                self._settle(Outcome(change.id, Status.BLOCKED, reason))
            else:
                ready.setdefault(change.target, []).append(change)
        self.listen(Event("wave", changes=tuple(change for changes in ready.values() for change in changes)))
        contexts = [copy_context() for _ in ready]
        with ThreadPoolExecutor(max(1, min(self.observer.workers, len(ready)))) as pool:
            for outcomes in pool.map(lambda context, pair: context.run(self._write, *pair), contexts, ready.items()):
                for outcome in outcomes:
                    self._settle(outcome)
        self.seen = self.seen.written(self.retry.clock.monotonic())
        if any(self.observer.keeps_secrets(target) for target in ready):
            self.seen = self.observer.renewed(self.seen)

    def _settle(self, outcome: Outcome) -> None:
        self.outcomes[outcome.id] = outcome
        completed(f"resource {outcome.id}", outcome.duration, well=outcome.status is not Status.FAILED, status=outcome.status.value)
        self.listen(Event("outcome", outcome=outcome))

    # -- gates ---------------------------------------------------------------------------------------------------------------

    def _gates(self, wave: Iterable[Change]) -> set[ResourceId]:
        """Name what must be healthy before the changes of a wave, as far as it is not known to be."""
        needs = {id for change in wave if change.desired is not None for id in self.seen.graph.resources[change.id].needs}
        if not needs:
            return needs
        moved = self._moved()
        return {id for id in needs if id in moved or not self.health.get(id, Health()).ok}

    def _moved(self) -> set[ResourceId]:
        written = {id for id, outcome in self.outcomes.items() if outcome.status is Status.APPLIED and id in self.seen.graph.resources}
        return written | self.seen.graph.downstream(written)

    def _await(self, gates: set[ResourceId]) -> None:
        """Look until every gate is healthy, or the deadline has come."""
        gates = {id for id in gates if id not in self.outcomes or self.outcomes[id].status is Status.APPLIED}
        clock, pause = self.retry.clock, self.poll / EAGER
        with span("wait", gates=len(gates)):
            while gates and not self.retry.stop.is_set():
                self.health.update(self.observer.glance(self.seen, gates))
                waiting = {id: self.health.get(id, Health(Level.UNKNOWN, "cannot be seen")) for id in gates}
                waiting = {id: health for id, health in waiting.items() if not health.ok}
                self.listen(Event("wait", health=waiting))
                if not waiting or clock.monotonic() >= self.deadline:
                    return
                clock.wait(self.retry.stop, min(pause, max(0.0, self.deadline - clock.monotonic())))
                pause = min(pause * (2 if pause < self.poll else 1.5), 10.0)

    def _waits(self, change: Change) -> str:
        """Say why this change must not be made; empty when it may."""
        if change.desired is None:
            return ""
        graph: Graph = self.seen.graph
        for id in sorted(graph.before[change.id]):
            outcome = self.outcomes.get(id)
            if outcome is not None and outcome.status is not Status.APPLIED:
                return f"waits for {id}: {outcome.message or outcome.status}"
        for id in graph.resources[change.id].needs:
            health = self.health.get(id)
            if health is None:
                return f"waits for {id}: it does not exist yet"
            if not health.ok:
                return f"waits for {id}: {health.level.name.lower()}: {health.message}"
        return ""

    # -- writing -------------------------------------------------------------------------------------------------------------

    def _write(self, target: str, changes: Sequence[Change]) -> list[Outcome]:
        """Hand the changes to the driver, and again those that failed for a temporary reason."""
        results: dict[ResourceId, Outcome] = {}

        def once(call: Call) -> None:
            left = [change for change in changes if change.id not in results or results[change.id].transient]
            results.update({one.id: one for one in _complete(left, self._call(target, left, call))})
            again = [outcome for outcome in results.values() if outcome.transient]
            if again:
                asked = [outcome.retry_after for outcome in again if outcome.retry_after is not None]
                raise Transient(again[0].message, retry_after=max(asked, default=None))

        with at(target, "apply", changes=len(changes)):
            try:
                self.observer.lanes.run(target, lambda call: self.retry.call(lambda: once(call)))
            except Overdue as error:
                return [results.get(change.id) or Outcome(change.id, Status.FAILED, str(error)) for change in changes]
            except Transient:
                return [results[change.id] for change in changes]
        return [results[change.id] for change in changes]

    def _why_not(self, call: Call) -> str:
        """Say why nothing more may be written; empty when it may."""
        if self.retry.stop.is_set():
            return "not written: the program is stopping"
        if call.left.is_set():
            return "not written: the deadline of the target is over"
        return "" if self.held() else "not written: another worker has the stack now"

    def _call(self, target: str, changes: Sequence[Change], call: Call) -> list[Outcome]:
        if reason := self._why_not(call):
            return [Outcome(one.id, Status.BLOCKED, reason) for one in changes]
        try:
            with gated(lambda: self._why_not(call)):
                return self.observer.targets.get(target).apply(changes, self.seen.scope)
        except Transient as error:
            return [Outcome(one.id, Status.FAILED, str(error), transient=True, retry_after=error.retry_after) for one in changes]
        except (DriverError, SettingsError) as error:
            return [Outcome(one.id, Status.FAILED, str(error)) for one in changes]
        except Exception as error:  # a bug in one driver must not stop the others
            return [Outcome(one.id, Status.FAILED, f"bug: {type(error).__name__} in the driver while writing") for one in changes]


def _complete(changes: Sequence[Change], outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Give one outcome for each change, whatever a driver with a bug returned."""
    found = {one.id: one for one in outcomes}
    for change in changes:
        yield found.get(change.id) or Outcome(change.id, Status.FAILED, "bug: the driver gave no outcome for this change")

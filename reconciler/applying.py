"""The writing half of a pass: every change as soon as what it needs is made and healthy, each target by itself, deletes last.

Called by the engine only. A failure blocks the dependents of what failed and nothing else; what is slow delays its dependents only.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from reconciler.driver import Change, Health, Outcome, Status
from reconciler.errors import DriverError, SettingsError, Transient
from reconciler.gates import Gates, Look
from reconciler.lanes import Call, Overdue
from reconciler.observing import Observer, Seen
from reconciler.plan import Plan
from reconciler.readiness import Agenda
from reconciler.report import about
from reconciler.resource import ResourceId
from reconciler.retry import Retry
from reconciler.telemetry import at, completed, span
from reconciler.writing import LATE, failed, gated


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a pass, for whoever watches it live. ``stage``: observe, plan, wave, outcome, wait, verify or done."""

    stage: str
    text: str = ""
    plan: Plan | None = None
    changes: tuple[Change, ...] = ()
    outcome: Outcome | None = None
    health: Mapping[ResourceId, Health] = field(default_factory=dict)


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
    outcomes: dict[ResourceId, Outcome] = field(default_factory=dict)
    _gates: Gates = field(init=False)
    _agenda: Agenda = field(init=False)
    _flights: dict[Future[Any], str] = field(default_factory=dict)

    def run(self, plan: Plan) -> dict[ResourceId, Outcome]:
        """Make every change as soon as it may be made; stop between two writes when asked to."""
        self._gates = Gates(self.seen.graph, self.seen.health(), self.poll)
        self._agenda = Agenda.of(self.seen.graph, plan.waves, self.seen.transactional)
        with ThreadPoolExecutor(max(1, self.observer.workers)) as pool:
            while self._agenda.todo or self._flights:
                ours = not self.retry.stop.is_set() and self.held()
                if ours:
                    self._depart(pool)
                if self._flights:
                    self._await(self._pause() if ours else None)
                elif ours and (pause := self._pause()) is not None:
                    self.retry.clock.wait(self.retry.stop, pause)
                else:
                    break
        return self.outcomes

    def _depart(self, pool: ThreadPoolExecutor) -> None:
        """Start what can be made now, and a look at what is waited for; settle what cannot be made any more."""
        now = self.retry.clock.monotonic()
        self._block(now)
        batches = self._agenda.ready(self._gates.closed, now, self._flights.values())
        if batches:
            self.listen(Event("wave", changes=tuple(change for _, changes in batches for change in changes)))
        for target, changes in batches:
            self._flights[pool.submit(copy_context().run, self._fly, target, changes)] = target
        busy = {*self._flights.values()}
        for target, gates in self._wanted().items():
            if target not in busy and self._gates.due(target, now):
                self._flights[pool.submit(copy_context().run, self._glance, target, gates)] = target

    def _pause(self) -> float | None:
        """Give the seconds until something can be started though nothing comes back; None when nothing can."""
        now, busy = self.retry.clock.monotonic(), {*self._flights.values()}
        times = [self._gates.next_look(target) for target in self._wanted() if target not in busy]
        if (held_back := self._agenda.held_back(now)) is not None:
            times.append(now + held_back)
        return max(0.0, min(times) - now) if times else None

    def _await(self, pause: float | None) -> None:
        """Wait until a write or a look has come back, or the ``pause`` is over."""
        for future in wait(self._flights, pause, FIRST_COMPLETED).done:
            self._land(self._flights.pop(future), future.result())

    def _land(self, target: str, found: list[Outcome] | Look) -> None:
        """Take what a write or a look has brought."""
        now = self.retry.clock.monotonic()
        if isinstance(found, Look):
            self._gates.looked(target, found, now, self.deadline)
            self.listen(Event("wait", health=self._gates.waiting(id for gates in self._wanted().values() for id in gates)))
            return
        for outcome in found:
            self._settle(outcome)
        self._gates.moved(one.id for one in found if one.status is Status.APPLIED)
        self.seen = self.seen.written(now)
        if self.observer.keeps_secrets(target):
            self.seen = self.observer.renewed(self.seen)

    def _settle(self, outcome: Outcome) -> None:
        self._agenda.settled([outcome.id])
        self.outcomes[outcome.id] = outcome
        completed(f"resource {outcome.id}", outcome.duration, well=outcome.status is not Status.FAILED, status=outcome.status.value)
        self.listen(Event("outcome", outcome=outcome))

    # -- gates ---------------------------------------------------------------------------------------------------------------

    def _wanted(self) -> dict[str, set[ResourceId]]:
        """Name what must be looked at before something can go on, by target."""
        found: dict[str, set[ResourceId]] = {}
        for change in self._agenda.reached(self._gates.closed):
            for id in self._gates.before(change):
                found.setdefault(self.seen.target(id), set()).add(id)
        return found

    def _block(self, now: float) -> None:
        """Settle what will not be made: what it needs was not, or is not healthy in time."""
        while blocked := [
            Outcome(change.id, Status.BLOCKED, reason)
            for change in self._agenda.reached(self._gates.closed)
            if (reason := self._fell(change) or self._gates.never(change, over=now >= self.deadline))
        ]:
            for outcome in blocked:
                self._settle(outcome)

    def _fell(self, change: Change) -> str:
        """Say which of what comes before this change was not made; empty when all of it was."""
        for id in sorted(self.seen.graph.before[change.id]) if change.desired is not None else ():
            outcome = self.outcomes.get(id)
            if outcome is not None and outcome.status is not Status.APPLIED:
                return f"waits for {about(id, outcome.message or outcome.status)}"
        return ""

    def _glance(self, target: str, gates: Collection[ResourceId]) -> Look:
        with span("wait", gates=len(gates), target=target):
            return Look(frozenset(gates), self.observer.glance(self.seen, gates))

    # -- writing -------------------------------------------------------------------------------------------------------------

    def _fly(self, target: str, changes: Sequence[Change]) -> list[Outcome]:
        with span(f"wave {self._agenda.number[changes[0].id]}", changes=len(changes)):
            return self._write(target, changes)

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
                self.observer.lanes.run(target, lambda call: self.retry.call(lambda: once(call), call.alive), writes=True)
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
        return "" if self.held() else LATE

    def _call(self, target: str, changes: Sequence[Change], call: Call) -> list[Outcome]:
        if reason := self._why_not(call):
            return [Outcome(one.id, Status.BLOCKED, reason) for one in changes]
        try:
            with gated(lambda: self._why_not(call)):
                scope = replace(self.seen.scope, span=call.heard(self.seen.scope.span))
                return self.observer.targets.get(target).apply(changes, scope)
        except DriverError as error:
            return [failed(one.id, error) for one in changes]
        except SettingsError as error:
            return [Outcome(one.id, Status.FAILED, str(error)) for one in changes]
        except Exception as error:  # a bug in one driver must not stop the others
            return [Outcome(one.id, Status.FAILED, f"bug: {type(error).__name__} in the driver while writing") for one in changes]


def _complete(changes: Sequence[Change], outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Give one outcome for each change, whatever a driver with a bug returned."""
    found = {one.id: one for one in outcomes}
    for change in changes:
        yield found.get(change.id) or Outcome(change.id, Status.FAILED, "bug: the driver gave no outcome for this change")

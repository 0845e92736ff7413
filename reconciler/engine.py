"""One pass, and the only caller of drivers (through its two halves, ``observing`` and ``applying``).

::

    load → graph → observe → plan → guard → apply → verify → record → report

``Engine.plan`` goes as far as the guard and writes nothing. ``Engine.converge`` goes the whole way, and once more while each pass makes
the next possible (a secret that was just generated has consumers).
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeVar

from reconciler.applying import Applier, Event, Listener
from reconciler.checks import Finding, Severity, check
from reconciler.driver import Change, Health, Level, Outcome, Status
from reconciler.errors import PlanChanged, StoreError, TurnLost
from reconciler.observing import Observer, Seen
from reconciler.plan import Applied, Exemption, Plan
from reconciler.policy import guard, pending
from reconciler.quiet import Hush
from reconciler.report import Report, Verdict
from reconciler.resource import ResourceId
from reconciler.resting import Rests
from reconciler.retry import Retry
from reconciler.settings import Engine as EngineSettings
from reconciler.stack import Stack
from reconciler.telemetry import commit, span, trace_id
from reconciler.writing import LATE, gated

T = TypeVar("T")
log = logging.getLogger("reconciler.engine")
STUBBORN = 3
"""After so many looks that find the same difference in what was just written, it is called non-convergent."""


class Turn(Protocol):
    """The right to write to a stack. Where daemons share the work it can be lost: to one that took us for dead."""

    def held(self) -> bool:
        """Say whether it is still ours."""
        ...


class Alone:
    """The turn of who has no rival."""

    def held(self) -> bool:
        """Say yes."""
        return True


class Memory(Protocol):
    """What the engine asks of the store. An empty one is as good as a full one: only causes and history are lost."""

    def applied(self, stack: str) -> Mapping[ResourceId, Applied]:
        """Give what was last applied of each resource of a stack."""
        ...

    def approved(self) -> Collection[str]:
        """Give the digests of plans that a person approved."""
        ...

    def acknowledged(self, stack: str, now: datetime) -> Sequence[Exemption]:
        """Give the differences that somebody acknowledged outside of git."""
        ...

    def record(self, report: Report, applied: Mapping[ResourceId, Applied]) -> object:
        """Write a pass down, all in one transaction. ``applied`` is what is now known to be as git wants it."""
        ...

    def turn(self, stack: str) -> AbstractContextManager[Turn]:
        """Wait until no other process converges this stack, and keep others waiting meanwhile."""
        ...


class Forgetful:
    """A memory that holds nothing, for plans without a store."""

    def applied(self, stack: str) -> Mapping[ResourceId, Applied]:
        """Give nothing."""
        return {}

    def approved(self) -> Collection[str]:
        """Give nothing."""
        return ()

    def acknowledged(self, stack: str, now: datetime) -> Sequence[Exemption]:
        """Give nothing."""
        return ()

    def record(self, report: Report, applied: Mapping[ResourceId, Applied]) -> object:
        """Keep nothing."""
        return None

    def turn(self, stack: str) -> AbstractContextManager[Turn]:
        """Wait for nobody."""
        return nullcontext(Alone())


def silent(event: Event) -> None:
    """Listen to nothing."""


def unheeded(seen: Seen) -> None:
    """Make nothing of what was seen."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Runs passes. One pass of one stack at a time; different stacks may run side by side on engines of their own."""

    observer: Observer
    retry: Retry
    memory: Memory = field(default_factory=Forgetful)
    settings: EngineSettings = EngineSettings()
    listen: Listener = silent
    after: Callable[[Seen], None] = unheeded
    """Called at the end of each converge with what was seen last; it holds no secret's value any more."""
    rests: Rests = field(default_factory=Rests)

    def plan(self, stack: Stack, revision: str = "", *, approved: Collection[str] = (), exact: bool = False) -> tuple[Plan, Seen]:
        """Say what a pass would do. Changes nothing anywhere.

        ``exact`` is for who is about to apply it: the plan is then the one of the pass itself, which reads rotated secrets and notes which
        of their keys changed. Without it no value is read, and whoever reads a rotated path is in the plan.
        """
        with commit(revision), span("plan", stack=stack.name):
            seen = self._look(stack, revision, exact=exact)
            try:
                return self._guarded(seen, revision, approved), seen
            finally:
                seen.secrets.close()

    def converge(
        self, stack: Stack, revision: str = "", *, reason: str, subject: str = "", approved: Collection[str] = (), shown: str = ""
    ) -> Report:
        """Run passes until the stack is as git wants it or nothing more can be done, and record what happened.

        ``shown`` is the digest of the plan that somebody agreed to: when the plan is another by now, nothing is written and
        PlanChanged is raised. TurnLost is raised when another worker took the stack over meanwhile; nothing is recorded then. A pass
        that cannot be recorded is a pass all the same.
        """
        with (
            self.memory.turn(stack.name) as turn,
            gated(lambda: "" if turn.held() else LATE),
            commit(revision),
            span("pass", stack=stack.name, reason=reason),
        ):
            report, seen = self._pass(turn, stack, revision, reason, approved, shown)
            latest = report
            while _promising(latest) and report.rounds < self.settings.rounds and not self.retry.stop.is_set() and turn.held():
                latest, seen = self._pass(turn, stack, revision, reason, approved, before=seen)
                report = _joined(report, latest)
            if not turn.held():
                raise TurnLost(f"{stack.name}: another worker has the stack now; nothing more was written")
            report = replace(report, subject=subject, trace_id=trace_id(revision))
            with span("record"):
                self._remembering(lambda: self.memory.record(report, _in_sync(seen, report.remaining)), None)
            self.rests.learn(report, self.retry.clock.monotonic())
        self.after(seen)
        self.listen(Event("done", report.verdict.value))
        return report

    def _remembering(self, ask: Callable[[], T], nothing: T) -> T:
        """Give what the memory gives, or ``nothing`` when it fails: it is for people, and the systems are converged without it."""
        try:
            return ask()
        except StoreError as error:
            log.error("%s", error)
            return nothing

    def _applied(self, stack: str) -> Mapping[ResourceId, Applied]:
        return self._remembering(lambda: self.memory.applied(stack), {})

    def _pass(
        self,
        turn: Turn,
        stack: Stack,
        revision: str,
        reason: str,
        approved: Collection[str],
        shown: str = "",
        before: Seen | None = None,
    ) -> tuple[Report, Seen]:
        clock = self.retry.clock
        started = clock.now()
        seen = self._look(stack, revision, exact=True, before=before)
        outcomes: dict[ResourceId, Outcome] = {}
        hush = Hush(self.observer)
        try:
            with span("plan"):
                plan = remaining = self._guarded(seen, revision, approved)
            if shown not in ("", plan.digest):
                raise PlanChanged(f"{stack.name}: the plan is not the one that was shown (now {plan.digest[:12]}); look at it again")
            self.listen(Event("plan", plan=plan))
            if plan.waves:
                hush.begin(seen, plan)
                deadline = clock.monotonic() + stack.spec.health_deadline
                applier = Applier(self.observer, self.retry, seen, self.listen, self.settings.poll, deadline, turn.held)
                outcomes, seen = applier.run(plan), applier.seen
                seen, remaining = self._verify(seen, revision, approved, plan, outcomes, deadline)
        finally:
            seen.secrets.close()
        health = {id: one for id, one in seen.health().items() if not one.ok}
        interrupted = self.retry.stop.is_set() and bool(plan.waves)
        verdict = _verdict(remaining, outcomes, health, interrupted=interrupted)
        remaining = hush.end(seen, remaining, outcomes, interrupted=interrupted)
        report = Report(stack.name, revision, reason, verdict, started, clock.now(), plan, remaining, tuple(outcomes.values()), health)
        return replace(report, above=_above(seen, report)), seen.without(hush.touched)

    def _look(self, stack: Stack, revision: str, *, exact: bool, before: Seen | None = None) -> Seen:
        """Look at everything; of what the round ``before`` saw, only at what it may not know the present state of."""
        self.listen(Event("observe", stack.name))
        known = self._applied(stack.name)
        targets = self.observer.targets
        remembered = {id.driver for id in known} - {id.driver for id in stack.graph.resources}
        extra = [name for name in targets if not known or targets.driver_name(name) in remembered]
        none: Sequence[Exemption] = ()
        if excused := self._remembering(lambda: self.memory.acknowledged(stack.name, self.retry.clock.now()), none):
            stack = replace(stack, exemptions=(*stack.exemptions, *excused))
        with span("observe", resources=len(stack.graph.resources)):
            kept = self.observer.onward(before, stack) if before is not None else None
            return kept or self.observer.look(stack, revision, extra, known, exact=exact)

    def _guarded(self, seen: Seen, revision: str, approved: Collection[str]) -> Plan:
        resting = self.rests.of(seen.stack.name, self.retry.clock.monotonic())
        plan = seen.plan(revision, resting)
        nobody: Collection[str] = ()
        allowed = {*approved, *self._remembering(self.memory.approved, nobody)}
        now = self.retry.clock.now()
        findings = _findings(seen, plan)
        plan = replace(plan, notes=tuple(sorted({*plan.notes, *(str(one) for one in findings if one.severity is not Severity.INFO)})))
        return guard(plan, seen.stack.spec.policy, now=now, approved=allowed, wanted=len(seen.graph.resources), findings=findings)

    def _verify(
        self, seen: Seen, revision: str, approved: Collection[str], plan: Plan, outcomes: dict[ResourceId, Outcome], deadline: float
    ) -> tuple[Seen, Plan]:
        """Look again until what was written is there and healthy, or the deadline has come."""
        clock, pause, looks = self.retry.clock, self.settings.poll, 0
        written = {id for id, outcome in outcomes.items() if outcome.status is Status.APPLIED}
        moved = written | seen.graph.downstream(written & set(seen.graph.resources))
        targets = {change.target for change in plan.changes} | {seen.target(id) for id in moved if id in seen.graph.resources}
        with span("verify", written=len(written)):
            while True:
                seen, looks = self.observer.again(seen, targets), looks + 1
                remaining = self._guarded(seen, revision, approved)
                stubborn = [change for change in remaining.changes if change.id in written]
                waiting = {id: health for id, health in seen.health().items() if id in moved and not health.ok}
                self.listen(Event("verify", plan=remaining, health=waiting))
                if looks >= STUBBORN and stubborn:
                    outcomes.update({change.id: _non_convergent(change, outcomes[change.id]) for change in stubborn})
                    return seen, remaining
                if (not stubborn and not waiting) or clock.monotonic() >= deadline or self.retry.stop.is_set():
                    return seen, remaining
                clock.wait(self.retry.stop, min(pause, max(0.0, deadline - clock.monotonic())))
                pause = min(pause * 1.5, 10.0)


def _findings(seen: Seen, plan: Plan) -> tuple[Finding, ...]:
    """Give what the checks say of the wish, and of it beside what the plan would do and what is known of the secrets."""
    facts = seen.secrets.facts()
    return check(seen.stack, plan=plan, facts=facts) if plan.changes or facts else seen.stack.findings


def _above(seen: Seen, report: Report) -> dict[ResourceId, tuple[ResourceId, ...]]:
    """Name for what is not healthy what stands before it in the graph and is not well either."""
    failed = {one.id for one in report.outcomes if one.status is Status.FAILED}
    unwell = failed | report.health.keys() | {one.id for one in report.remaining.stuck}
    found = {id: tuple(sorted(seen.graph.upstream(id) & unwell)) for id in report.health}
    return {id: above for id, above in found.items() if above}


def _promising(report: Report) -> bool:
    """True when something was written and something still waits, which may have become possible by it."""
    waits = report.remaining.waves or any(one.status is Status.BLOCKED for one in report.remaining.stuck)
    return report.progress and bool(waits)


def _non_convergent(change: Change, outcome: Outcome) -> Outcome:
    fields = ", ".join(diff.path or "/" for diff in change.diffs[:5])
    message = f"non-convergent: {fields} stays different after the write; make git say what the system makes of it, or ignore the field"
    return replace(outcome, status=Status.FAILED, message=message)


def _verdict(remaining: Plan, outcomes: Mapping[ResourceId, Outcome], health: Mapping[ResourceId, Health], *, interrupted: bool) -> Verdict:
    if interrupted:
        return Verdict.INTERRUPTED
    if any(outcome.status is Status.FAILED for outcome in outcomes.values()) or any(one.unknown or one.resting for one in remaining.stuck):
        return Verdict.FAILED
    if remaining.waves or remaining.stuck or any(True for _ in pending(remaining)):
        return Verdict.PENDING
    return Verdict.DEGRADED if any(one.level is not Level.HEALTHY for one in health.values()) else Verdict.CONVERGED


def _joined(first: Report, then: Report) -> Report:
    """Join two passes of one revision: the first plan that did something, every outcome (the later counts), the state at the end."""
    outcomes = {one.id: one for one in (*first.outcomes, *then.outcomes)}
    return replace(then, started=first.started, plan=first.plan, outcomes=tuple(outcomes.values()), rounds=first.rounds + 1)


def _in_sync(seen: Seen, remaining: Plan) -> dict[ResourceId, Applied]:
    """List what is now known to be as git wants it, with the edges that a later delete will walk backwards."""
    open_ids = (
        {change.id for change in remaining.changes} | {held.change.id for held in remaining.held} | {one.id for one in remaining.stuck}
    )
    return {
        one.id: Applied(one.digest, tuple(sorted(seen.graph.before[one.id])), one.policy.protect)
        for one in seen.graph
        if one.id not in open_ids
    }

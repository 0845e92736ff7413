"""The daemon: a thread that watches the source, workers that run passes, a thread that tells people.

What is in force is the newest revision of each stack that could be loaded. A revision with problems is reported and changes nothing; a
stack that disappears from git is reported and its resources stay.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event, Lock, RLock, Thread

import sqlalchemy as sa

from reconciler.applying import Listener
from reconciler.compose import Workshop
from reconciler.daemon import acks, cards
from reconciler.daemon.farewell import say
from reconciler.daemon.force import REPOSITORY, SETTINGS, Door, InForce, Trouble, called, careful, missed
from reconciler.daemon.heads import Head, Question, named, parts
from reconciler.daemon.housekeeping import Housekeeper
from reconciler.daemon.incidents import Found, Part, Sort
from reconciler.daemon.lean import Settling
from reconciler.daemon.outbox import Outbox
from reconciler.daemon.owners import Owners
from reconciler.daemon.queue import Claim, KeyedQueue, WorkQueue
from reconciler.daemon.recording import begun
from reconciler.daemon.sharing import because, behind, made_by_another, stumbles, tells_news
from reconciler.daemon.vitals import Vitals
from reconciler.daemon.watching import Watchers
from reconciler.desired import Desired
from reconciler.engine import Engine, silent
from reconciler.errors import InputError, Problem, ReconcilerError, SourceError, StoreError, TurnLost
from reconciler.observing import Seen
from reconciler.plan import Plan
from reconciler.report import Report, Verdict, plan_text, repaired
from reconciler.stack import Stack
from reconciler.state import Store
from reconciler.telemetry import commit as in_trace_of
from reconciler.telemetry import span, trace_id

log = logging.getLogger("reconciler.daemon")
RETRY_FIRST, RETRY_MOST = 5.0, 300.0
MISSES = 3
ANSWER_MOST = 90.0  # seconds that a worker waits for what a source has to say; its own time limit ends most looks before


@dataclass(slots=True)
class Daemon:
    """Runs until ``workshop.stop`` is set. ``listen`` hears the events of every pass, for whoever watches live.

    ``aside`` is further work by name, each on a thread of its own until the same event is set.
    """

    workshop: Workshop
    store: Store
    head: Head
    outbox: Outbox
    listen: Listener = silent
    done: Callable[[Report], None] = lambda report: None
    meter: Callable[[Report], None] = lambda report: None
    aside: Mapping[str, Callable[[Event], None]] = field(default_factory=dict)
    vitals: Vitals = field(default_factory=Vitals)
    workers: int = 1
    doors: Sequence[Door] = ()
    threads: list[Thread] = field(default_factory=list)
    queue: WorkQueue = field(default_factory=KeyedQueue)
    force: dict[str, InForce] = field(default_factory=dict)
    watchers: Watchers = field(init=False)
    owners: Owners = field(default_factory=Owners)
    settling: Settling = field(default_factory=Settling)
    _troubles: dict[str, Trouble] = field(default_factory=dict)
    _rejected: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)
    _looking: RLock = field(default_factory=RLock)

    def __post_init__(self) -> None:
        """Remember what was rejected before a restart, so that its end is told too."""
        self.watchers = Watchers(self.workshop, lambda stack, reason, after: self.queue.request(stack, reason, after=after))
        latest = {name: self.store.runs(name, most=1)[0]["verdict"] for name in self.store.stacks()}
        self._rejected = {name for name, verdict in latest.items() if verdict == Verdict.REJECTED}

    def run(self) -> None:
        """Start every thread, wait for the stop signal, and let the writes that are under way finish."""
        self.threads = [Thread(target=self._watch, name="source", daemon=True)]
        self.threads += [Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(self.workers)]
        self.threads.append(Thread(target=self.outbox.run, args=(self.workshop.stop,), name="outbox", daemon=True))
        house = Housekeeper(self.store, self.workshop.settings.state, self.workshop.clock)
        self.threads.append(Thread(target=house.run, args=(self.workshop.stop,), name="housekeeper", daemon=True))
        self.threads += [Thread(target=work, args=(self.workshop.stop,), name=name, daemon=True) for name, work in self.aside.items()]
        try:
            for door in self.doors:
                door.open()
            for thread in self.threads:
                thread.start()
            self._guard()
        finally:
            self._close()

    def _guard(self) -> None:
        """Wait for the stop signal. Raises ReconcilerError when a thread dies before it."""
        watched = (*self.threads, *(door.thread for door in self.doors))
        while not self.workshop.stop.is_set():
            time.sleep(0.5)  # not stop.wait: a signal handler that sets what its own thread waits for can lock itself out
            dead = next((thread.name for thread in watched if not thread.is_alive()), "")
            if dead and not self.workshop.stop.is_set():  # asked last: a thread that was told to end is not dead
                log.error("the %s thread died; stopping, so that a supervisor starts afresh", dead)
                raise ReconcilerError(f"the {dead} thread died; see the log")

    def _close(self) -> None:
        self.workshop.stop.set()
        for door in self.doors:
            door.close()
        self.queue.close()
        self.watchers.close()
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(timeout=60)
        self.queue.join(30)

    # -- the source ----------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self.workshop.stop.is_set():
            self.look()
            self.head.wait(self.workshop.stop)

    def look(self) -> bool:
        """Ask every source once; say whether all of them answered."""
        with self._looking:  # a worker looks, too, where it shares the work
            answers = [self._ask(name, head) for name, head in parts(self.head).items()]
        return all(answers)

    def _ask(self, name: str, head: Head) -> bool:
        began = head.began if isinstance(head, Question) else self.vitals.monotonic()
        good = self._answer(name, head, began)
        self._troubles[name].answered = began, good
        return good

    def _answer(self, name: str, head: Head, began: float) -> bool:
        where, how = self._troubles.setdefault(name, Trouble()), "good"
        try:
            desired = head.changed()
        except SourceError as error:
            self._complain(name, where, str(error))
            self.vitals.looked("failed")
            return False
        except InputError as error:
            self._reject(called(name), "", error.problems)
            desired, how = None, "rejected"
        if where.misses >= MISSES or not where.heard:  # what was told before a restart ends, too
            self._tell(called(name), Sort.SOURCE)
        where.said, where.misses, where.heard = "", 0, True
        if desired is not None:
            commit = desired.revision.commit
            self.vitals.found(commit, began)
            with in_trace_of(commit):
                self.accept(replace(desired, source=name))
        self.vitals.looked(how)
        return True

    def _complain(self, name: str, where: Trouble, message: str) -> None:
        """Log a trouble with a source once, not every few seconds; tell people when it does not pass by itself."""
        where.misses += 1
        if message != where.said:
            log.error("%s", message)
            where.said = message
        if where.misses == MISSES:
            part = Part("the repository cannot be read; the last good revision stays in force", {"": message})
            self._tell(called(name), Sort.SOURCE, Found("source", Sort.SOURCE, part))

    def _tell(self, stack: str, sort: Sort, *found: Found) -> None:
        """Say what is found of one sort outside of a pass; without ``found``, that it is over."""
        self._keep(lambda connection: cards.tell(connection, stack, found, [sort], self.workshop.clock.now()))

    def _keep(self, write: Callable[[sa.Connection], object]) -> None:
        """Write to the store if it can be written to: nothing that it keeps is worth an end."""
        try:
            with self.store.transaction() as connection:
                write(connection)
        except StoreError as error:
            log.error("%s", error)

    def accept(self, desired: Desired, reason: str = "") -> None:
        """Take a revision: load each stack, reject those with problems, and ask for a pass of the others."""
        commit, place = desired.revision.commit, called(desired.source)
        if not desired.names:
            self._reject(place, commit, [Problem(desired.folder, 0, "the repository has no stack; nothing is deleted")])
            return
        if not desired.older:
            self._well(place, commit)
        reason = reason or (because(commit) if commit else "a saved file")
        if desired.rewritten:
            reason += ", history was rewritten"
            part = Part("history was rewritten; deletes wait for approval until the next commit", {"": f"now at {commit[:12]}"})
            self._tell(place, Sort.REWRITTEN, Found(f"rewritten:{commit}", Sort.REWRITTEN, part, lasting=False))
        known = self.owners.stacks(desired.source) - self.force.keys() - self._rejected
        for name in missed(self.force, known, desired):
            self.watchers.forget(name)
            problem = Problem(f"{desired.folder}/{name}", 0, "the stack disappeared; nothing of it is deleted")
            self._reject(name, commit, [problem], desired.source)
        for name in desired.names:
            try:
                self.owners.claim(name, desired)
                stack = self._load(desired, name)
            except InputError as error:
                self._reject(name, commit, error.problems, desired.source)
                continue
            self._well(name, commit)
            self._begun(desired, name)
            with self._lock:
                before, self.force[name] = self.force.get(name), InForce(desired, stack, self.workshop.today())
            if before is None or not self.queue.shared or not made_by_another(self.store, name, commit):
                self.queue.request(name, reason)

    def leave(self, source: str) -> None:
        """Follow a repository no more, because the settings do not name it any more. Nothing of its stacks is deleted."""
        with self._looking:
            left = sorted(name for name, force in self.force.items() if force.desired.source == source)
            for name in left:
                self.watchers.forget(name)
                with self._lock:
                    del self.force[name]
            say(self.store, source, left, self.workshop.clock.now())

    def _begun(self, desired: Desired, name: str) -> None:
        self._keep(lambda connection: begun(self.workshop.settings, connection, desired, name, self.workshop.clock.now()))

    def _load(self, desired: Desired, name: str) -> Stack:
        """Load a stack. Raises InputError, for a bug of ours too: one commit must not end the daemon for every stack."""
        try:
            with span("load", stack=name):
                stack = desired.load(name, self.workshop.kinds, self.workshop.today())
        except InputError:
            raise
        except Exception as error:
            log.exception("bug: loading %s raised %s", name, type(error).__name__)
            raise InputError([Problem(f"{desired.folder}/{name}", 0, f"bug: {type(error).__name__} while loading; see the log")]) from None
        return careful(stack) if desired.rewritten else stack

    def _reject(self, name: str, commit: str, problems: Sequence[Problem], source: str = "") -> None:
        for problem in problems:
            log.error("%s", problem)
        self._rejected.add(name)
        self._heard(self._note(name, commit, Verdict.REJECTED, problems, source))

    def _heard(self, report: Report) -> None:
        self.meter(report)
        self.done(report)

    def reject(self, name: str, problems: Sequence[Problem]) -> None:
        """Say that something beside git cannot be used, and that what was in force stays."""
        self._reject(name, "", problems)

    def well(self, name: str) -> None:
        """End that, where it was said."""
        self._well(name, "")

    def _well(self, name: str, commit: str) -> None:
        """End a rejection, where there was one."""
        if name not in self._rejected:
            return
        self._rejected.remove(name)
        self._tell(name, Sort.REJECTED)
        if name.split()[0] in (REPOSITORY, SETTINGS):  # a stack has a pass now that says how it fares
            self._note(name, commit, Verdict.CONVERGED, ())

    def _note(self, name: str, commit: str, verdict: Verdict, problems: Sequence[Problem], source: str = "") -> Report:
        now = self.workshop.clock.now()
        empty = Plan(name, commit).sealed()
        report = Report(name, commit, "a new revision", verdict, now, now, empty, empty, problems=tuple(problems), source=source)
        try:
            self.store.record(replace(report, trace_id=trace_id(commit)), {}, once=self.queue.shared)
        except StoreError as error:
            log.error("%s", error)
        return report

    def asked(self, name: str, reason: str) -> None:
        """Ask for a pass because a person does: what rests after failures is tried again, and the repository is looked at before."""
        self.workshop.rests.wake(name)
        self.head.poke()
        self.queue.request(name, reason)

    # -- the passes ----------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        seen: list[Seen] = []
        with self.workshop.engine(self.store, self.listen, seen.append) as engine:
            while not self.workshop.stop.is_set():
                claim = self.queue.take(1.0)
                if claim is not None:
                    engine = self.workshop.renewed(engine)
                    self._claimed(engine, claim, seen)
                    self.settling.settle()

    def _claimed(self, engine: Engine, claim: Claim, seen: list[Seen]) -> None:
        """Work on a claim; the engine leaves in ``seen`` what it saw last."""
        self.watchers.passing(claim.key)
        self.vitals.passes[claim.key] = self.vitals.monotonic()
        report = None
        try:
            report = self._pass(engine, claim)
        finally:
            self.watchers.passed(claim.key, seen.pop() if seen else None, repaired=report is not None and bool(repaired(report)))
            self.vitals.passes.pop(claim.key, None)
            self.queue.done(claim)

    def _pass(self, engine: Engine, claim: Claim) -> Report | None:
        force = self._newest(claim)
        if force is None:
            return None
        self._renew(force, claim.key)
        revision, why = force.desired.revision, ", ".join(claim.reasons)
        granted = self._granted(claim.key)
        try:
            report = engine.converge(force.stack, revision.commit, reason=why, subject=revision.subject, approved=granted)
        except (TurnLost, StoreError) as error:
            log.warning("%s", error)
            self._again(force, claim.key, well=False)
            return None
        except Exception as error:  # a bug in a pass must not end the daemon
            log.exception("bug: the pass of %s raised %s", claim.key, type(error).__name__)
            self._again(force, claim.key, well=False)
            return None
        with in_trace_of(revision.commit):
            log.info("%s: %s in %.1f s: %s", report.stack, report.verdict, report.seconds, report.reason)
        self._again(force, claim.key, well=report.verdict is Verdict.CONVERGED)
        if granted and report.verdict is not Verdict.INTERRUPTED:
            self._keep(lambda connection: acks.used(connection, claim.key, granted, self.workshop.clock.now()))
        self._heard(report)
        return report

    def _granted(self, name: str) -> tuple[str, ...]:
        """Give the plans of a stack that somebody let pass once."""
        try:
            with self.store.transaction() as connection:
                return acks.granted(connection, name)
        except StoreError as error:
            log.error("%s", error)
            return ()

    def planned(self, name: str) -> str:
        """Make a plan of a stack now, beside the passes, and give it as text. Raises ReconcilerError when there is no such stack."""
        with self._lock:
            force = self.force.get(name)
        if force is None:
            raise ReconcilerError(f"{name}: there is no such stack in force")
        with self.workshop.engine(self.store) as engine:
            return plan_text(engine.plan(force.stack, force.desired.revision.commit, approved=self._granted(name))[0])

    def _newest(self, claim: Claim) -> InForce | None:
        """Give what is in force. Where daemons share the work, never what is older than what another of them has seen."""
        key = claim.key
        force = self.force.get(key)
        if not self.queue.shared:
            return force  # none, when its repository was taken out of the settings meanwhile
        late = force is None or behind(self.store, key, force.desired.revision.commit)
        news = tells_news(claim, force.desired.revision.commit if force else "")
        if (late or news) and not self._afresh(force) and late:
            log.warning("%s: another daemon knows a newer commit, and the repository cannot be read here; later", key)
            self.queue.request(key, "another try", after=RETRY_FIRST)
            return None
        if (force := self.force.get(key)) is None:
            log.info("%s: is no stack of the repository any more", key)
        return force

    def _afresh(self, force: InForce | None) -> bool:
        """Ask the source of a stack, or for a stack that nobody knows every one, anew and whatever its pace; say whether it answered."""
        began, names = self.vitals.monotonic(), named(self.head)
        wanted = [name for name in names if force is None or name == force.desired.source]
        self.head.poke()
        while not self.workshop.stop.is_set() and self.vitals.monotonic() - began < ANSWER_MOST:
            self.look()
            answers = [self._troubles.get(name, Trouble()).answered for name in wanted]
            if all(asked >= began for asked, _ in answers):
                return all(good for _, good in answers)
            self.workshop.stop.wait(0.02)
        return False

    def _renew(self, force: InForce, name: str) -> None:
        """Load the stack anew on a new day, because exceptions end with the day."""
        if force.day == self.workshop.today():
            return
        force.day = self.workshop.today()
        try:
            force.stack = self._load(force.desired, name)
        except InputError as error:
            log.error("%s", error)

    def _again(self, force: InForce, key: str, *, well: bool) -> None:
        """Ask for the next look: at the interval when all is well, sooner and then ever later when it is not."""
        force.failures = 0 if well else force.failures + 1
        if self.queue.shared and not well:
            force.failures = max(force.failures, stumbles(self.store, key))
        pause = force.stack.spec.interval
        if not well:
            pause = min(pause, RETRY_FIRST * 2.0 ** min(force.failures - 1, 16), RETRY_MOST)
        self.queue.request(key, "resync" if well else "another try", after=pause * random.uniform(0.9, 1.0))  # noqa: S311 - jitter

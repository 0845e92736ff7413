"""The daemon: a thread that watches the source, workers that run passes, a thread that tells people.

What is in force is the newest revision of each stack that could be loaded. A revision with problems is reported and changes nothing; a
stack that disappears from git is reported and its resources stay.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from threading import Event, Lock, RLock, Thread
from typing import Protocol

from reconciler.applying import Listener
from reconciler.compose import Workshop
from reconciler.daemon.housekeeping import Housekeeper
from reconciler.daemon.outbox import Outbox
from reconciler.daemon.queue import Claim, KeyedQueue, WorkQueue
from reconciler.daemon.sharing import OWN, behind, known, noted, stumbles
from reconciler.desired import Desired
from reconciler.engine import Engine, silent
from reconciler.errors import InputError, Problem, ReconcilerError, SourceError, StoreError, TurnLost
from reconciler.notify import Notice, NoticeLevel
from reconciler.plan import Plan
from reconciler.report import Report, Verdict
from reconciler.stack import Stack
from reconciler.state import Owed, Store
from reconciler.telemetry import trace_id

log = logging.getLogger("reconciler.daemon")
RETRY_FIRST, RETRY_MOST = 5.0, 300.0
REPOSITORY = "repository"
MISSES = 3


class Head(Protocol):
    """Where revisions come from."""

    def changed(self) -> Desired | None:
        """Give the newest desired state when it is another than the last one given, else None. Raises SourceError or InputError."""
        ...

    def wait(self, stop: Event) -> None:
        """Return when it is time to ask again, or when ``stop`` is set."""
        ...

    def poke(self) -> None:
        """Let ``wait`` return now."""
        ...


@dataclass(slots=True)
class InForce:
    """The newest good revision of one stack."""

    desired: Desired
    stack: Stack
    day: date
    failures: int = 0
    gone: bool = False


@dataclass(slots=True)
class Daemon:
    """Runs until ``workshop.stop`` is set. ``listen`` hears the events of every pass, for whoever watches live."""

    workshop: Workshop
    store: Store
    head: Head
    outbox: Outbox
    listen: Listener = silent
    done: Callable[[Report], None] = lambda report: None
    workers: int = 1
    queue: WorkQueue = field(default_factory=KeyedQueue)
    force: dict[str, InForce] = field(default_factory=dict)
    _said: str = ""
    _misses: int = 0
    _rejected: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)
    _looking: RLock = field(default_factory=RLock)

    def __post_init__(self) -> None:
        """Remember what was rejected before a restart, so that its end is told too."""
        latest = {name: self.store.runs(name, most=1)[0]["verdict"] for name in self.store.stacks()}
        self._rejected = {name for name, verdict in latest.items() if verdict == Verdict.REJECTED}

    def run(self) -> None:
        """Start every thread, wait for the stop signal, and let the writes that are under way finish."""
        threads = [Thread(target=self._watch, name="source", daemon=True)]
        threads += [Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(self.workers)]
        house = Housekeeper(self.store, self.workshop.settings.state, self.workshop.clock)
        threads.append(Thread(target=house.run, args=(self.workshop.stop,), name="housekeeper", daemon=True))
        outbox = Thread(target=self.outbox.run, args=(self.workshop.stop,), name="outbox", daemon=True)
        for thread in (*threads, outbox):
            thread.start()
        while not self.workshop.stop.is_set():
            time.sleep(0.5)  # not stop.wait: a signal handler that sets what its own thread waits for can lock itself out
            dead = next((thread.name for thread in (*threads, outbox) if not thread.is_alive()), "")
            if dead and not self.workshop.stop.is_set():  # asked last: a thread that was told to end is not dead
                log.error("the %s thread died; stopping, so that a supervisor starts afresh", dead)
                self.workshop.stop.set()
                self._close(threads, outbox)
                raise ReconcilerError(f"the {dead} thread died; see the log")
        self._close(threads, outbox)

    def _close(self, threads: Sequence[Thread], outbox: Thread) -> None:
        self.queue.close()
        for thread in (*threads, outbox):
            thread.join(timeout=60)
        self.queue.join(30)

    # -- the source ----------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self.workshop.stop.is_set():
            self.look()
            self.head.wait(self.workshop.stop)

    def look(self) -> bool:
        """Ask the source once; say whether it answered."""
        with self._looking:  # a worker looks, too, where it shares the work
            return self._look()

    def _look(self) -> bool:
        try:
            desired = self.head.changed()
        except SourceError as error:
            self._complain(str(error))
            return False
        except InputError as error:
            self._reject(REPOSITORY, "", error.problems)
            desired = None
        if self._misses >= MISSES:
            self._tell("source-back", "the repository can be read again", "ok")
        self._said, self._misses = "", 0
        if desired is not None:
            self.accept(desired)
        return True

    def _complain(self, message: str) -> None:
        """Log a trouble with the source once, not every few seconds; tell people when it does not pass by itself."""
        self._misses += 1
        if message != self._said:
            log.error("%s", message)
            self._said = message
        if self._misses == MISSES:
            self._tell("source", "the repository cannot be read; the last good revision stays in force", "error", message)

    def _tell(self, what: str, title: str, level: NoticeLevel, *lines: str, stack: str = REPOSITORY) -> None:
        now = self.workshop.clock.now().isoformat()
        when = now[:13] if self.queue.shared else now  # what every daemon notices is told once an hour
        owed = Owed(f"{what}:{stack}:{when}", asdict(Notice(title, level, stack, lines, key=stack)))
        self._keep(lambda: self.store.owe(owed, now))

    def _keep(self, write: Callable[[], object]) -> None:
        """Write to the store if it can be written to: nothing that it keeps is worth an end."""
        try:
            write()
        except StoreError as error:
            log.error("%s", error)

    def accept(self, desired: Desired, reason: str = "") -> None:
        """Take a revision: load each stack, reject those with problems, and ask for a pass of the others."""
        commit = desired.revision.commit
        if not desired.names:
            self._reject(REPOSITORY, commit, [Problem(desired.folder, 0, "the repository has no stack; nothing is deleted")])
            return
        self._well(REPOSITORY, commit)
        reason = reason or (f"commit {commit[:12]}" if commit else "a saved file")
        if desired.rewritten:
            reason += ", history was rewritten"
            title = "history was rewritten; deletes wait for approval until the next commit"
            self._tell("rewritten", title, "warning", f"now at {commit[:12]}")
        for name in sorted(one for one, force in self.force.items() if one not in desired.names and not force.gone):
            self.force[name].gone = True
            self._reject(name, commit, [Problem(f"{desired.folder}/{name}", 0, "the stack disappeared; nothing of it is deleted")])
        for name in desired.names:
            try:
                stack = self._load(desired, name)
            except InputError as error:
                self._reject(name, commit, error.problems)
                continue
            self._well(name, commit)
            with self._lock:
                before, self.force[name] = self.force.get(name), InForce(desired, stack, self.workshop.today())
            if before is None or not self.queue.shared or not known(self.store, name, commit):
                self.queue.request(name, reason)

    def _load(self, desired: Desired, name: str) -> Stack:
        """Load a stack. Raises InputError, for a bug of ours too: one commit must not end the daemon for every stack."""
        try:
            stack = desired.load(name, self.workshop.kinds, self.workshop.today())
        except InputError:
            raise
        except Exception as error:
            log.exception("bug: loading %s raised %s", name, type(error).__name__)
            raise InputError([Problem(f"{desired.folder}/{name}", 0, f"bug: {type(error).__name__} while loading; see the log")]) from None
        return _careful(stack) if desired.rewritten else stack

    def _reject(self, name: str, commit: str, problems: Sequence[Problem]) -> None:
        for problem in problems:
            log.error("%s", problem)
        self._rejected.add(name)
        self.done(self._note(name, commit, Verdict.REJECTED, problems))

    def _well(self, name: str, commit: str) -> None:
        """End a rejection, where there was one."""
        if name not in self._rejected:
            return
        self._rejected.remove(name)
        self._tell("accepted", "the newest revision can be used", "ok", commit[:12], stack=name)
        if name == REPOSITORY:  # a stack has a pass now that says how it fares
            self._note(name, commit, Verdict.CONVERGED, ())

    def _note(self, name: str, commit: str, verdict: Verdict, problems: Sequence[Problem]) -> Report:
        now = self.workshop.clock.now()
        empty = Plan(name, commit).sealed()
        report = Report(name, commit, "a new revision", verdict, now, now, empty, empty, problems=tuple(problems))
        if not (self.queue.shared and noted(self.store, report)):
            self._keep(lambda: self.store.record(replace(report, trace_id=trace_id(commit)), {}))
        return report

    # -- the passes ----------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        with self.workshop.engine(self.store, self.listen) as engine:
            while not self.workshop.stop.is_set():
                claim = self.queue.take(1.0)
                if claim is None:
                    continue
                try:
                    self._pass(engine, claim)
                finally:
                    self.queue.done(claim)

    def _pass(self, engine: Engine, claim: Claim) -> None:
        force = self._newest(claim)
        if force is None:
            return
        self._renew(force, claim.key)
        revision = force.desired.revision
        try:
            report = engine.converge(force.stack, revision.commit, reason=", ".join(claim.reasons), subject=revision.subject)
        except (TurnLost, StoreError) as error:
            log.warning("%s", error)
            self._again(force, claim.key, well=False)
            return
        except Exception as error:  # a bug in a pass must not end the daemon
            log.exception("bug: the pass of %s raised %s", claim.key, type(error).__name__)
            self._again(force, claim.key, well=False)
            return
        log.info("%s: %s in %.1f s: %s", report.stack, report.verdict, report.seconds, report.reason)
        self._again(force, claim.key, well=report.verdict is Verdict.CONVERGED)
        self.done(report)

    def _newest(self, claim: Claim) -> InForce | None:
        """Give what is in force. Where daemons share the work, never what is older than what another of them has seen."""
        key = claim.key
        if not self.queue.shared:
            return self.force[key]
        force = self.force.get(key)
        late = force is None or behind(self.store, key, force.desired.revision.commit)
        if (late or set(claim.reasons) - OWN) and not self.look() and late:
            log.warning("%s: another daemon knows a newer commit, and the repository cannot be read here; later", key)
            self.queue.request(key, "another try", after=RETRY_FIRST)
            return None
        force = self.force.get(key)
        if force is None:
            log.info("%s: is no stack of the repository any more", key)
        return force

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


def _careful(stack: Stack) -> Stack:
    """Give a stack whose deletes wait for a person: commits that were rewritten away are no wish to delete."""
    policy = stack.spec.policy
    if policy.approval != "never":
        return stack
    held = stack.spec.model_copy(update={"policy": policy.model_copy(update={"approval": "deletes"})})
    return replace(stack, spec=held)

"""Hints between the passes: drivers that can watch their system say when to look again, so that drift is seen in about a second.

A hint is never a truth: it only asks for a pass, and losing one costs no more than waiting for the next interval. A watch is begun
after the first pass of a stack and anew whenever that stack wants something else, because it compares with what is wanted. What a pass
writes itself is no news: hints that come while it runs and wants something new are dropped, for the new watch lists everything anew.
This room decides nothing about drift, and writes to no system.
"""

import logging
import random
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from threading import Event, Lock, Thread
from typing import Protocol, TypeAlias

from reconciler.compose import Workshop
from reconciler.driver import Driver, Scope, Watcher
from reconciler.errors import DriverError, SettingsError
from reconciler.observing import Seen
from reconciler.registry import load, open_target
from reconciler.resource import ResourceId

log = logging.getLogger("reconciler.watching")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a watch that broke off is begun again; doubled each time that it does."""

HINT_PAUSE, HINT_MOST = 0.2, 300.0
"""Seconds between a hint and its pass: at first just long enough that one hand that changes ten things is met by one pass; doubled each
time that a pass had to repair something soon after the last, because two hands that work against each other would go on for ever."""
CALM = 10
"""After so many times the pause without a repair, the pause is short again."""

Ask: TypeAlias = Callable[[str, str, float], None]
"""Asks for a pass of a stack, for a reason, in so many seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon a hint about one stack is followed. ``last`` is the monotonic time of the last repair."""

    pause: float = HINT_PAUSE
    last: float = float("-inf")

    def after(self, now: float) -> float:
        """Give the seconds to wait before a hint is followed."""
        return self.pause if now - self.last < CALM * self.pause else HINT_PAUSE

    def repaired(self, now: float) -> "Pace":
        """Give the pace after a repair."""
        return Pace(min(self.after(now) * 2, HINT_MOST), now)


class WatchingDriver(Driver, Watcher, Protocol):
    """A driver with both faces."""


@dataclass(slots=True)
class Watch:
    """One target watched on behalf of one stack, in a thread of its own."""

    stack: str
    target: str
    scope: Scope
    open: Callable[[], WatchingDriver]
    hint: Callable[["Watch", ResourceId | None], None]
    pause: Callable[[Event, float], bool]
    end: Event = field(default_factory=Event)

    def start(self) -> None:
        """Begin."""
        Thread(target=self._run, name=f"watch {self.stack} {self.target}", daemon=True).start()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self.end.is_set():
            try:
                with closing(self.open()) as driver:
                    for id in driver.watch(self.scope, self.end):
                        if self.end.is_set():
                            return
                        pause = FIRST_PAUSE
                        self.hint(self, id)
            except (DriverError, SettingsError) as error:
                log.info("%s; %s is looked at every interval meanwhile", error, self.target)
            except Exception as error:  # a bug in one watch must not end the others
                log.exception("bug: the watch of %s for %s raised %s", self.target, self.stack, type(error).__name__)
            if self.end.is_set() or self.pause(self.end, pause * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
                return
            pause = min(pause * 2, LONGEST_PAUSE)


@dataclass(slots=True)
class Watchers:
    """Every watch of a daemon. Thread-safe. ``ask`` is called from the threads of the watches."""

    workshop: Workshop
    ask: Ask
    _watches: dict[tuple[str, str], Watch] = field(default_factory=dict)
    _signatures: dict[str, str] = field(default_factory=dict)
    _passing: dict[str, set[str]] = field(default_factory=dict)
    _pace: dict[str, Pace] = field(default_factory=dict)
    _full: bool = False
    _lock: Lock = field(default_factory=Lock)

    def passing(self, stack: str) -> None:
        """Say that a pass of ``stack`` begins: hints wait until it is over."""
        with self._lock:
            self._passing.setdefault(stack, set())

    def passed(self, stack: str, seen: Seen | None, *, repaired: bool = False) -> None:
        """Say that it is over, what it saw last (None when it did not get that far), and whether it repaired drift."""
        with self._lock:
            if repaired:
                self._pace[stack] = self._pace.get(stack, Pace()).repaired(self.workshop.clock.monotonic())
            waiting = self._passing.pop(stack, set())
            if seen is not None and (signature := signature_of(seen)) != self._signatures.get(stack):
                self._signatures[stack] = signature
                self._renew(seen)
                return
        for target in sorted(waiting):
            self._ask(stack, target)

    def forget(self, stack: str) -> None:
        """End the watches of a stack."""
        with self._lock:
            self._signatures.pop(stack, None)
            for key in [key for key in self._watches if key[0] == stack]:
                self._watches.pop(key).end.set()

    def close(self) -> None:
        """End every watch; none is waited for, because a watch holds nothing that must be finished."""
        with self._lock:
            for watch in self._watches.values():
                watch.end.set()
            self._watches.clear()
            self._signatures.clear()

    def watched(self) -> list[tuple[str, str]]:
        """List the stacks and targets that are watched."""
        with self._lock:
            return sorted(self._watches)

    def _renew(self, seen: Seen) -> None:
        stack = seen.stack.name
        for key in [key for key in self._watches if key[0] == stack]:
            self._watches.pop(key).end.set()
        if self.workshop.settings.engine.watches == 0:
            return
        scope = Scope(seen.scope.owner, seen.scope.revision, fingerprint=seen.scope.fingerprint, wanted=seen.graph.resources)
        read = {seen.secrets.target} - {""}  # a stack may read secrets and declare none
        for target in sorted({*(seen.target(id) for id in seen.graph.resources), *read}):
            if not self._can_watch(target):
                continue
            if len(self._watches) >= self.workshop.settings.engine.watches:
                if not self._full:
                    log.warning("engine.watches is reached; what is not watched is looked at every interval only")
                self._full = True
                return
            watch = Watch(stack, target, scope, self._opener(target), self._hint, self.workshop.clock.wait)
            self._watches[stack, target] = watch
            watch.start()

    def _driver(self, target: str) -> str:
        return str(self.workshop.settings.targets.get(target, {}).get("driver", target))

    def _can_watch(self, target: str) -> bool:
        if target not in self.workshop.settings.targets:
            return False
        try:
            return hasattr(load(self.workshop.kinds.plugin(self._driver(target)).driver), "watch")
        except SettingsError:
            return False

    def _opener(self, target: str) -> Callable[[], WatchingDriver]:
        """Open a driver of its own for each watch: one driver is never used by two threads."""

        def opened() -> WatchingDriver:
            config = {key: value for key, value in self.workshop.settings.targets[target].items() if key != "driver"}
            driver: WatchingDriver = open_target(self.workshop.kinds.plugin(self._driver(target)), config)
            return driver

        return opened

    def _hint(self, watch: Watch, id: ResourceId | None) -> None:
        log.info("%s: %s hints at %s", watch.stack, watch.target, id or "a change")
        with self._lock:
            if self._watches.get((watch.stack, watch.target)) is not watch:
                return
            if (waiting := self._passing.get(watch.stack)) is not None:
                waiting.add(watch.target)
                return
        self._ask(watch.stack, watch.target)

    def _ask(self, stack: str, target: str) -> None:
        self.ask(stack, reason(target), self._pace.get(stack, Pace()).after(self.workshop.clock.monotonic()))


def reason(target: str) -> str:
    """Say why a pass is asked for."""
    return f"a hint from {target}"


def signature_of(seen: Seen) -> str:
    """Give a digest of what a stack wants, down to the versions of its secrets, and of which expressions are still open."""
    parts = []
    for one in seen.graph:
        prints = ",".join(seen.scope.fingerprint(ref) for ref in one.spec.secrets())
        parts.append(f"{one.id} {one.digest} {type(one.spec).__name__} {prints}")
    return sha256("\n".join(parts).encode()).hexdigest()

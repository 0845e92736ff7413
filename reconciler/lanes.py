"""Patience with one target at a time: a call that does not come back is given up, and only its target waits for it.

Every client has timeouts of its own. This is for what slips through them: a server that sends a byte now and then, a bug in a driver. A
thread cannot be killed; the call is left behind, may write nothing more, and its target is not asked again until it has come back.
Long is not stuck: as long as outgoing calls end well inside of it, a look may take its time, up to the deadline. Every call of a driver in
a pass goes through here, the one that opens it too.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reconciler.driver import SpanFactory
from reconciler.errors import Permanent

T = TypeVar("T")
LEAST, TIMES, UNKNOWN = 15.0, 10.0, 30.0
"""In a look, a target may be silent for ten times as long as its slowest call that ended well, and for so many seconds at least; for the
last number while nothing is known of it. A write, which may reload a whole system, is given all the patience there is."""
TRIED, SHORT = 0.1, 1.0
"""The part of its patience that a target is given which was silent at the last try, and the seconds that are left of it at least."""
STOPPING, FINISHING = 2.0, 20.0
"""Seconds of silence for which a program that was told to stop waits for a look, and for a write that is under way."""
TICK = 0.5


class Overdue(Permanent):
    """A call to a target did not come back in time, or an earlier one has not yet."""


@dataclass(slots=True)
class Call:
    """One call under way. ``over`` is set when it has come back, ``left`` when nobody waits for it any more.

    ``latest`` is the monotonic time of its last sign of life, ``elsewhere`` counts the calls to other targets that it waits for, and
    ``longest`` is how many seconds the slowest outgoing call inside of it took that ended well.
    """

    began: float = field(default_factory=time.monotonic)
    latest: float = field(default_factory=time.monotonic)
    elsewhere: int = 0
    longest: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def alive(self, seconds: float = 0.0) -> None:
        """Note a sign of life; ``seconds`` of silence after it are none, because the server itself asked for them."""
        self.latest = max(self.latest, time.monotonic() + seconds)

    def heard(self, span: SpanFactory) -> SpanFactory:
        """Give ``span`` with an ear: an outgoing call that ends well is a sign of life."""

        @contextmanager
        def listening(name: str, **attributes: str | int | float | bool) -> Iterator[Any]:
            began = time.monotonic()
            with span(name, **attributes) as inner:
                yield inner
            self.longest = max(self.longest, time.monotonic() - began)
            self.alive()

        return listening

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count no silence while another target is waited for."""
        self._count(1)
        try:
            yield
        finally:
            self.alive()
            self._count(-1)

    def _count(self, by: int) -> None:
        with self._lock:
            self.elsewhere += by


_OUTER: ContextVar[Call | None] = ContextVar("outer", default=None)


class Tempers:
    """What one process knows of its targets: how fast each is, and which of them were silent of late. Thread-safe."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._longest: dict[str, float] = {}
        self._silent: set[str] = set()
        self._lock = threading.Lock()

    def patience(self, target: str, most: float, *, writes: bool = False) -> float:
        """Give the seconds for which ``target`` may be silent, at most ``most``."""
        with self._lock:
            longest = self._longest.get(target)
            usual = most if writes else min(most, UNKNOWN if longest is None else max(LEAST, longest * TIMES))
            return max(min(SHORT, usual), usual * TRIED) if target in self._silent else usual

    def came_back(self, target: str, call: Call, *, well: bool) -> None:
        """Learn from a call that has ended."""
        took = call.longest or time.monotonic() - call.began
        with self._lock:
            if well:
                self._longest[target] = max(took, self._longest.get(target, 0.0))
                self._silent.discard(target)
            elif time.monotonic() - call.latest > LEAST * TRIED:
                self._silent.add(target)

    def silent(self, target: str) -> None:
        """Note that a target was given up."""
        with self._lock:
            self._silent.add(target)


class Lanes:
    """The calls of one engine by target.

    ``deadline`` bounds a call as a whole, ``patience`` its silence (seconds). ``stop`` says that the program is to end.
    """

    def __init__(
        self, deadline: float, patience: float | None = None, tempers: Tempers | None = None, stop: threading.Event | None = None
    ) -> None:
        """Have no call under way."""
        self.deadline, self.patience = deadline, min(deadline, patience or deadline)
        self.tempers, self.stop = tempers or Tempers(), stop or threading.Event()
        self._stuck: dict[str, Call] = {}
        self._lock = threading.Lock()

    def run(self, target: str, work: Callable[[Call], T], *, writes: bool = False) -> T:
        """Give what ``work`` gives, or raise what it raises. Raises Overdue when it is given up."""
        self._refuse_stuck(target)
        call, found = Call(), list[Any]()
        outer, context = _OUTER.get(), copy_context()
        context.run(_OUTER.set, call)
        threading.Thread(target=context.run, args=(self._run, target, work, call, found), name=f"target-{target}", daemon=True).start()
        if outer is None:
            reason = self._wait(target, call, self.deadline, writes=writes)
        else:  # it ends early enough for the outer one to say what became of it
            with outer.waiting():
                reason = self._wait(target, call, (self.deadline - (time.monotonic() - outer.began)) / 2, writes=writes)
        if reason:
            self._leave(target, call)
            raise Overdue(f"{target}: {reason}; it is left alone until it does")
        good, value = found
        if not good:
            raise value
        result: T = value
        return result

    def _refuse_stuck(self, target: str) -> None:
        with self._lock:
            stuck = self._stuck.get(target)
            if stuck is not None and not stuck.over.is_set():
                raise Overdue(f"{target}: a call has not come back for {time.monotonic() - stuck.began:.0f} s; the target is left alone")
            self._stuck.pop(target, None)

    def _leave(self, target: str, call: Call) -> None:
        call.left.set()
        if not self.stop.is_set():
            self.tempers.silent(target)
        with self._lock:
            self._stuck.setdefault(target, call)

    def _wait(self, target: str, call: Call, deadline: float, *, writes: bool) -> str:
        """Wait for a call; say why it is given up, empty when it came back."""
        patience = self.tempers.patience(target, self.patience, writes=writes)
        while not call.over.is_set():
            now = time.monotonic()
            if now - call.began >= deadline:
                return f"did not come back within {deadline:g} s (engine.deadline)"
            if self.stop.is_set():
                patience = min(patience, FINISHING if writes else STOPPING)
            quiet = patience if call.elsewhere else call.latest + patience - now
            if quiet <= 0:
                return f"did not answer for {patience:.3g} s (engine.patience)"
            call.over.wait(min(quiet, call.began + deadline - now, TICK))
        return ""

    def _run(self, target: str, work: Callable[[Call], Any], call: Call, found: list[Any]) -> None:
        try:
            found[:] = True, work(call)
        except BaseException as error:
            found[:] = False, error
        finally:
            self.tempers.came_back(target, call, well=bool(found[0]))
            call.over.set()

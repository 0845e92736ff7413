"""Patience with one target at a time: a call that does not come back is given up, and only its target waits for it.

Every client has timeouts of its own. This is for what slips through them: a server that sends a byte now and then, a bug in a driver. A
thread cannot be killed; the call is left behind, may write nothing more, and its target is not asked again until it has come back.
"""

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reconciler.errors import Permanent

T = TypeVar("T")


class Overdue(Permanent):
    """A call to a target did not come back in time, or an earlier one has not yet."""


@dataclass(slots=True)
class Call:
    """One call under way. ``over`` is set when it has come back, ``left`` when nobody waits for it any more."""

    began: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)


class Lanes:
    """The calls of one engine by target. ``deadline`` in seconds."""

    def __init__(self, deadline: float) -> None:
        """Have no call under way."""
        self.deadline = deadline
        self._stuck: dict[str, Call] = {}
        self._lock = threading.Lock()

    def run(self, target: str, work: Callable[[Call], T]) -> T:
        """Give what ``work`` gives, or raise what it raises. Raises Overdue when it does not come back within the deadline."""
        with self._lock:
            stuck = self._stuck.get(target)
            if stuck is not None and not stuck.over.is_set():
                raise Overdue(f"{target}: a call has not come back for {time.monotonic() - stuck.began:.0f} s; the target is left alone")
            self._stuck.pop(target, None)
        call, found = Call(), list[Any]()
        context = copy_context()
        threading.Thread(target=context.run, args=(_run, work, call, found), name=f"target-{target}", daemon=True).start()
        if not call.over.wait(self.deadline):
            call.left.set()
            with self._lock:
                self._stuck[target] = call
            raise Overdue(f"{target}: did not come back within {self.deadline:g} s (engine.deadline); it is left alone until it does")
        good, value = found
        if not good:
            raise value
        result: T = value
        return result


def _run(work: Callable[[Call], Any], call: Call, found: list[Any]) -> None:
    try:
        found[:] = True, work(call)
    except BaseException as error:
        found[:] = False, error
    finally:
        call.over.set()

"""Who is to be looked at next. Requests for one key coalesce; a request during a run causes exactly one more; one run a key at a time.

A request carries a reason for the log and no state: the pass reads everything anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition
from time import monotonic


@dataclass(frozen=True, slots=True)
class Claim:
    """A key to be worked on now, and why; ``done`` must be called afterwards."""

    key: str
    reasons: tuple[str, ...]


@dataclass(slots=True)
class _Waiting:
    due: float
    order: int
    reasons: dict[str, float]


class KeyedQueue:
    """Thread-safe. ``clock`` gives seconds; only its differences count."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Start empty and open."""
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._running: set[str] = set()
        self._condition = Condition()
        self._order = 0
        self._closed = False

    def request(self, key: str, reason: str, *, after: float = 0.0) -> None:
        """Ask for a look at ``key`` in ``after`` seconds. A sooner request brings a later one forward; never the other way."""
        with self._condition:
            due = self._clock() + after
            self._order += 1
            waiting = self._waiting.setdefault(key, _Waiting(due, self._order, {}))
            waiting.due = min(waiting.due, due)
            waiting.reasons[reason] = min(due, waiting.reasons.get(reason, due))
            self._condition.notify_all()

    def take(self, timeout: float) -> Claim | None:
        """Wait up to ``timeout`` seconds for a key that is due and not being worked on; None when there is none, or after ``close``."""
        end = self._clock() + timeout
        with self._condition:
            while not self._closed:
                now = self._clock()
                ready = [(one.due, one.order, key) for key, one in self._waiting.items() if key not in self._running]
                if ready and min(ready)[0] <= now:
                    key = min(ready)[2]
                    self._running.add(key)
                    reasons = self._waiting.pop(key).reasons  # one that lay in the future did not cause this look
                    return Claim(key, tuple(reason for reason, due in reasons.items() if due <= now))
                if now >= end:
                    break
                self._condition.wait(min(end - now, *(max(0.0, due - now) for due, _, _ in ready)) if ready else end - now)
        return None

    def done(self, claim: Claim) -> None:
        """Say that the work on a claim is over, well or badly."""
        with self._condition:
            self._running.discard(claim.key)
            self._condition.notify_all()

    def close(self) -> None:
        """Give out nothing more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def overdue(self) -> float:
        """Give the seconds for which the longest waiting key could have been worked on and was not; 0 when there is none."""
        with self._condition:
            now = self._clock()
            return max([0.0, *(now - one.due for key, one in self._waiting.items() if key not in self._running)])

    def __len__(self) -> int:
        """Count the keys that wait."""
        with self._condition:
            return len(self._waiting)

"""How often a credential may call: one bucket for all targets of this process that hold it, because Cloudflare counts by credential.

Knows nothing of calls and answers; the client says what the server told.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary, WeakValueDictionary

from reconciler.errors import Transient

BURST = 20.0
FREE = 1e6
"""Calls per second where nobody says how many."""
FEW = 100
"""Calls left, by the server's count, below which they are spread over the rest of its window."""


class Pace:
    """Spreads the calls of one credential: a token bucket, and a full stop after the server has said "too many"."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        """Allow bursts of 20, and beyond them what those allow who go by it."""
        self._clock, self._sleep = clock, sleep
        self._rates: WeakKeyDictionary[object, float] = WeakKeyDictionary()
        self._left = FREE
        self._tokens, self._at, self._until = BURST, clock(), 0.0
        self._lock = threading.Lock()

    def join(self, who: object, rate: float) -> None:
        """Let ``who`` go by this pace, at ``rate`` calls per second at most; the smallest rate of all who do counts for each of them."""
        with self._lock:
            self._rates[who] = rate

    def leave(self, who: object) -> None:
        """Forget the rate of ``who``, who calls no more."""
        with self._lock:
            self._rates.pop(who, None)

    @property
    def _rate(self) -> float:
        """Calls per second that the settings allow, or fewer when the server has few left."""
        return min([self._left, *self._rates.values()])

    def enter(self) -> None:
        """Wait for this call's turn. Raises Transient while the credential is stopped."""
        with self._lock:
            now = self._clock()
            if now < self._until:
                raise Transient("cloudflare: stopped after too many requests", retry_after=self._until - now)
            self._tokens = min(BURST, self._tokens + (now - self._at) * self._rate) - 1
            self._at = now
            wait = -self._tokens / self._rate
        if wait > 0:
            self._sleep(wait)

    def heed(self, left: int, seconds: float) -> None:
        """Slow down when few calls are left for the next ``seconds``, and stop when none is."""
        with self._lock:
            self._left = left / seconds if 0 < left < FEW and seconds > 0 else FREE
            self._tokens = min(self._tokens, float(left))
        if left == 0:
            self.stop(seconds)

    def stop(self, seconds: float) -> None:
        """Let no call through for ``seconds``."""
        with self._lock:
            self._until = max(self._until, self._clock() + seconds)


_PACES: WeakValueDictionary[tuple[str, str], Pace] = WeakValueDictionary()
_LOCK = threading.Lock()


def pace_of(base_url: str, token: str) -> Pace:
    """Give the pace of a credential: the one that other targets with it go by as well."""
    credential = base_url, hashlib.sha256(token.encode()).hexdigest()
    with _LOCK:
        pace = _PACES.get(credential)
        if pace is None:
            pace = _PACES[credential] = Pace()
        return pace

"""How often a credential may call: one bucket for all targets of this process that hold it, because Cloudflare counts by credential.

Knows nothing of calls and answers; the client says what the server told.
"""

import hashlib
import threading
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from reconciler.errors import Transient

BURST = 20.0
FEW = 100
"""Calls left, by the server's count, below which they are spread over the rest of its window."""


class Pace:
    """Spreads the calls of one credential: a token bucket, and a full stop after the server has said "too many"."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        """Allow ``rate`` calls per second and bursts of 20."""
        self._allowed = self._rate = rate
        self._clock, self._sleep = clock, sleep
        self._tokens, self._at, self._until = BURST, clock(), 0.0
        self._lock = threading.Lock()

    def narrow(self, rate: float) -> None:
        """Allow ``rate`` calls per second at most from now on."""
        with self._lock:
            self._allowed = min(self._allowed, rate)
            self._rate = min(self._rate, rate)

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
            self._rate = min(self._allowed, left / seconds) if 0 < left < FEW and seconds > 0 else self._allowed
            self._tokens = min(self._tokens, float(left))
        if left == 0:
            self.stop(seconds)

    def stop(self, seconds: float) -> None:
        """Let no call through for ``seconds``."""
        with self._lock:
            self._until = max(self._until, self._clock() + seconds)


_PACES: WeakValueDictionary[tuple[str, str], Pace] = WeakValueDictionary()
_LOCK = threading.Lock()


def pace_of(base_url: str, token: str, rate: float) -> Pace:
    """Give the pace of a credential: the one that other targets with it go by as well, at the smallest ``rate`` (per second) of theirs."""
    credential = base_url, hashlib.sha256(token.encode()).hexdigest()
    with _LOCK:
        pace = _PACES.get(credential)
        if pace is None:
            pace = _PACES[credential] = Pace(rate)
    pace.narrow(rate)
    return pace

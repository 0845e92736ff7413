"""The life of the one token: got when first needed, renewed in the background, replaced once when it is dead. Knows no wire.

What gets, renews and looks up a token is handed in. One thread at a time does the work, and the others find it done.
"""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from reconciler.errors import DriverError, Permanent

RENEW_AT = 2 / 3
"""Share of a token's life after which it is renewed."""
REPLACE_AT = 0.9
"""Share after which a token that could not be renewed is replaced before it ends."""
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
"""Seconds between tries to renew in the background while the server does not answer."""


@dataclass(slots=True)
class Token:
    """A token and when to renew or replace it, in seconds of the clock; None means that it does not end."""

    value: str
    renew_at: float | None = None
    dies_at: float | None = None
    renewable: bool = False

    @classmethod
    def lasting(cls, value: str, ttl: int, now: float, *, renewable: bool) -> "Token":
        """Give a token that lives ``ttl`` seconds from now; 0 for ever."""
        if ttl <= 0:
            return cls(value)
        return cls(value, renew_at=now + ttl * RENEW_AT, dies_at=now + ttl * REPLACE_AT, renewable=renewable)

    def __repr__(self) -> str:
        """Never show the token."""
        return "Token(***)"


class Source(Protocol):
    """Who makes tokens and asks about them. Every call may raise DriverError."""

    @property
    def can_login(self) -> bool:
        """True when another token can be had."""
        ...

    @property
    def where(self) -> str:
        """The target, for messages."""
        ...

    def login(self) -> Token:
        """Get a new one."""
        ...

    def renewed(self, token: Token) -> Token | None:
        """Renew; None when the server refuses."""
        ...

    def is_dead(self, token: Token) -> bool:
        """Say whether the server no longer knows it."""
        ...


class TokenLife:
    """Keeps one token good. Thread-safe. The thread that renews in the background begins with the first token that can be renewed."""

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        """Take the source; nothing is asked yet. ``clock`` gives seconds."""
        self._source, self._clock, self._lock = source, clock, threading.RLock()
        self._token: Token | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def good(self) -> Token:
        """Give the token, made or renewed if it is time for that."""
        with self._lock:
            token, now = self._token, self._clock()
            if token is None or (token.dies_at is not None and now >= token.dies_at and self._source.can_login):
                self._token = self._source.login()
            elif token.renewable and token.renew_at is not None and now >= token.renew_at:
                self._token = self._renewed(token)
            assert self._token is not None
            if self._token.renewable and self._thread is None and not self._ended.is_set():
                self._thread = threading.Thread(target=self._keep, name="vault token", daemon=True)
                self._thread.start()
            return self._token

    def replace_dead(self, used: Token) -> bool:
        """After a 403: True when the call should be sent again with another token, False when the token is good and rights are missing.

        Raises Permanent when the token is dead and no other can be had.
        """
        with self._lock:
            if self._token is not used:
                return True
            if not self._source.is_dead(used):
                return False
            where = self._source.where
            if not self._source.can_login:
                raise Permanent(
                    f"{where}: the token has ended, was revoked or may not look itself up (403); put a new one into the target's settings"
                )
            self._token = None
            token = self._source.login()
            if token.value == used.value:
                raise Permanent(f"{where}: the token file still holds a token that has ended (403); renew it")
            self._token = token
            return True

    def close(self) -> Token | None:
        """End the renewing and give the token up."""
        self._ended.set()
        with self._lock:
            token, self._token = self._token, None
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=2)
        return token

    def _renewed(self, token: Token) -> Token:
        """Renew; when that is refused, log in again or, with a fixed token, use it to its end."""
        fresh = self._source.renewed(token)
        if fresh is not None:
            return fresh
        return self._source.login() if self._source.can_login else Token(token.value)

    # -- in the background -----------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Renew in time though nothing is asked for hours, so that a life of a token costs one login."""
        trouble = 0
        while not self._ended.wait(self.pause(trouble)):
            try:
                self.good()
                trouble = 0
            except DriverError:  # whoever needs the token next says what is wrong
                trouble += 1

    def pause(self, trouble: int) -> float:
        """Give the seconds until the next renewal, or, after ``trouble`` failed tries in a row, until the next try."""
        if trouble:
            return min(FIRST_PAUSE * 2.0 ** min(trouble - 1, 16), LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        with self._lock:
            token = self._token
        if token is None or (not token.renewable and not self._source.can_login):
            return LONGEST_PAUSE
        due = token.renew_at if token.renewable else token.dies_at
        return LONGEST_PAUSE if due is None else min(max(due - self._clock(), 0.05), LONGEST_PAUSE)

"""Sends what the store owes, oldest first, and marks it sent. Survives a dead receiver: the notices wait in the database.

Of several daemons one sends at a time. A notice is sent twice only when a process dies between its sending and its mark.
"""

import logging
from threading import Event

from reconciler.clock import Clock
from reconciler.errors import Permanent, StoreError, Transient
from reconciler.notify import Notice, Sink
from reconciler.state import Store
from reconciler.turns import Turn

log = logging.getLogger("reconciler.outbox")


class Outbox:
    """One thread's work. ``pace`` is the pause after each notice in seconds; chat systems allow about one a second."""

    def __init__(self, store: Store, sink: Sink, clock: Clock, *, pace: float = 1.0) -> None:
        """Take the store to read from and the sink to send to."""
        self._store, self._sink, self._clock, self.pace = store, sink, clock, pace
        self._unmarked: set[int] = set()

    def run(self, stop: Event) -> None:
        """Send until ``stop`` is set, then one more at most; what is left waits in the store for the next start."""
        while not self._clock.wait(stop, self.flush(stop)):
            pass
        self.flush(stop)

    def flush(self, stop: Event) -> float:
        """Send what can be sent now, unless another daemon is at it; give the seconds to wait before the next try."""
        try:
            with self._store.sending() as turn:
                return self._flush(stop, turn) if turn is not None else self.pace
        except StoreError as error:
            log.error("%s", error)
            return 5.0

    def _flush(self, stop: Event, turn: Turn) -> float:
        for number in sorted(self._unmarked):
            self._mark(number)
        for number, payload in self._store.unsent():
            if not turn.held():
                return self.pace
            try:
                self._sink.send(_notice(payload))
            except Transient as error:
                log.warning("a notice waits: %s", error)
                self._store.tried(number)
                return error.retry_after or 5.0
            except Permanent as error:
                log.error("a notice cannot be delivered and is dropped: %s", error)
            except Exception as error:  # a bug in telling people must not end what they are told of
                log.exception("bug: a notice is dropped: %s", type(error).__name__)
            self._mark(number)
            if self._clock.wait(stop, self.pace):
                return 0.0
        return self.pace

    def _mark(self, number: int) -> None:
        """Mark a notice as sent; when the store fails, remember to do it before anything else is sent."""
        self._unmarked.add(number)
        self._store.sent(number, self._clock.now().isoformat())
        self._unmarked.discard(number)


def _notice(payload: dict[str, object]) -> Notice:
    return Notice(**{key: tuple(value) if isinstance(value, list) else value for key, value in payload.items()})  # type: ignore[arg-type]

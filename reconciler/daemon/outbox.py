"""Sends what the store owes, oldest first, and marks it sent. Survives a dead receiver: the notices wait in the database."""

import logging
from threading import Event

from reconciler.clock import Clock
from reconciler.errors import Permanent, Transient
from reconciler.notify import Notice, Sink
from reconciler.state import Store

log = logging.getLogger("reconciler.outbox")


class Outbox:
    """One thread's work. ``pace`` is the pause after each notice in seconds; chat systems allow about one a second."""

    def __init__(self, store: Store, sink: Sink, clock: Clock, *, pace: float = 1.0) -> None:
        """Take the store to read from and the sink to send to."""
        self._store, self._sink, self._clock, self.pace = store, sink, clock, pace

    def run(self, stop: Event) -> None:
        """Send until ``stop`` is set, then one more at most; what is left waits in the store for the next start."""
        while not self._clock.wait(stop, self.flush(stop)):
            pass
        self.flush(stop)

    def flush(self, stop: Event) -> float:
        """Send what can be sent now; give the seconds to wait before the next try."""
        for number, payload in self._store.unsent():
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
            self._store.sent(number, self._clock.now().isoformat())
            if self._clock.wait(stop, self.pace):
                return 0.0
        return self.pace


def _notice(payload: dict[str, object]) -> Notice:
    return Notice(**{key: tuple(value) if isinstance(value, list) else value for key, value in payload.items()})  # type: ignore[arg-type]

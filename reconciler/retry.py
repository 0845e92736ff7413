"""The one place where a call is tried again. Everything transient, nothing else; the server's own delay is honoured."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import TypeVar

import tenacity

from reconciler.clock import Clock
from reconciler.errors import Transient
from reconciler.settings import Engine
from reconciler.telemetry import retried

T = TypeVar("T")
log = logging.getLogger("reconciler.retry")


@dataclass(frozen=True, slots=True)
class Retry:
    """Tries a call up to ``settings.attempts`` times with exponential back-off and full jitter; gives up early when ``stop`` is set."""

    settings: Engine = Engine()
    stop: Event = field(default_factory=Event)
    clock: Clock = Clock()
    jitter: Callable[[float, float], float] = random.uniform

    def call(self, work: Callable[[], T], pausing: Callable[[float], None] = lambda seconds: None) -> T:
        """Give what ``work`` gives. Raises the last Transient when every try failed; anything else at once.

        ``pausing`` is told of each wait, in seconds, that the server itself asked for.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Transient),
            stop=tenacity.stop_any(tenacity.stop_after_attempt(self.settings.attempts), tenacity.stop_when_event_set(self.stop)),
            wait=self._pause,
            sleep=self._sleep,
            before_sleep=lambda state: _tell(state, pausing),
            reraise=True,
        )
        return retrying(work)

    def _sleep(self, seconds: float) -> None:
        self.clock.wait(self.stop, seconds)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after if isinstance(error, Transient) else None
        if asked is not None:
            return min(asked, self.settings.backoff_max)
        longest = min(self.settings.backoff * 2.0 ** (state.attempt_number - 1), self.settings.backoff_max)
        return self.jitter(longest / 2, longest)


def _tell(state: tenacity.RetryCallState, pausing: Callable[[float], None]) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    throttled = isinstance(error, Transient) and error.retry_after is not None
    if throttled:
        pausing(state.upcoming_sleep)
    log.debug("try %d failed, again in %.2f s: %s", state.attempt_number, state.upcoming_sleep, error)
    retried(throttled=throttled)

"""Time as a value that can be injected: a test's minutes take no time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """``now`` gives aware datetimes, ``monotonic`` seconds; ``wait`` sleeps until the event is set or the seconds are over."""

    now: Callable[[], datetime] = _utc
    monotonic: Callable[[], float] = time.monotonic
    wait: Callable[[Event, float], bool] = Event.wait

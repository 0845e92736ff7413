"""What the daemon knows of its own life, for its health, its metrics and its traces. Written by the thread that does; read by any."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from reconciler.telemetry import commit, completed, root

FRESH = 60.0
"""Seconds within which a webhook counts as what made us look."""
REMEMBERED = 200


@dataclass(slots=True)
class Vitals:
    """``monotonic`` gives seconds. ``tried`` and ``good`` are the ends of the last look at the source and of the last that succeeded.

    ``passes`` maps the stacks that are worked on to the time since when.
    """

    monotonic: Callable[[], float] = time.monotonic
    began: float = field(init=False)
    tried: float | None = None
    good: float | None = None
    looks: dict[str, int] = field(default_factory=lambda: {"good": 0, "failed": 0, "rejected": 0})
    passes: dict[str, float] = field(default_factory=dict)
    _arrived: "deque[tuple[str, float]]" = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _learned: "OrderedDict[str, float]" = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        """Begin to live."""
        self.began = self.monotonic()

    def arrived(self, sender: str) -> None:
        """Note a webhook."""
        self._arrived.append((sender, self.monotonic()))

    def looked(self, how: str) -> None:
        """Note the end of a look: ``good``, ``failed``, or ``rejected`` when what it found cannot be used."""
        self.looks[how] += 1
        self.tried = self.monotonic()
        if how != "failed":
            self.good = self.tried

    def found(self, revision: str, began: float) -> None:
        """Note a new revision, found by a look since ``began``, and open its trace with what led to it."""
        if not revision:
            return  # a working tree: nobody pushed it
        now = self.monotonic()
        arrivals = [(sender, at) for sender, at in self._arrived if now - at < FRESH]
        self._arrived.clear()
        first = min([began, *(at for _, at in arrivals)])
        with self._lock:
            self._learned[revision] = first
            if len(self._learned) > REMEMBERED:
                self._learned.popitem(last=False)
        root(revision, now - first)
        with commit(revision):
            for sender, at in arrivals:
                completed("webhook", now - at, sender=sender)
            completed("fetch", now - began)

    def since(self, revision: str) -> float | None:
        """Give the seconds since we first heard of a revision, by webhook or by look; None when that is forgotten."""
        with self._lock:
            first = self._learned.get(revision)
        return None if first is None else self.monotonic() - first

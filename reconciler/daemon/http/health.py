"""What the daemon answers when it is asked whether it is well. ``checks`` is pure; the endpoints ask the daemon for the facts.

``/healthz`` fails when only a fresh start can help. ``/readyz`` fails, too, while it cannot do its work: before the first load, and when
the repository has not been readable for long. A target that is down fails neither: the daemon is there to wait for it.
"""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reconciler.daemon.loop import Daemon

STUCK = 1800.0
"""Seconds that something may be due while no worker takes it, and least seconds that a pass may take: it waits for what it wrote."""
STALE = 600.0
"""Least seconds without a good look at the source after which the daemon is not ready."""
BEAT = 10.0
"""Seconds for which a successful write to the store is taken as proof that it can be written."""

WHO = f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``vital``: only a fresh start can help."""

    name: str
    message: str
    ok: bool = True
    vital: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verdict is made from. Times in seconds; ``tried`` and ``good`` are the ages of the last looks, None when there was none."""

    dead: Sequence[str]
    alive: float
    tried: float | None
    good: float | None
    loaded: bool
    overdue: float
    longest: float
    allowed: float
    store: str
    poll: float
    patience: float


def checks(facts: Facts) -> Iterator[Check]:
    """Judge the facts."""
    threads = f"dead: {', '.join(facts.dead)}" if facts.dead else "all alive"
    yield Check("threads", threads, not facts.dead, vital=True)
    hung = max(5 * facts.poll, 5 * facts.patience, STALE)
    since = facts.alive if facts.tried is None else facts.tried
    yield Check("source thread", f"the last look ended {since:.0f} s ago", since <= hung, vital=True)
    age = facts.alive if facts.good is None else facts.good
    yield Check("source", f"last read {age:.0f} s ago", facts.good is not None and age <= max(10 * facts.poll, STALE))
    yield Check("loaded", "a revision is in force" if facts.loaded else "no revision is in force yet", facts.loaded)
    yield Check("queue", f"the first in it waits {facts.overdue:.0f} s", facts.overdue <= STUCK, vital=True)
    yield Check("passes", f"the longest runs for {facts.longest:.0f} s", facts.longest <= facts.allowed, vital=True)
    yield Check("store", facts.store or "can be written", not facts.store)


class Health:
    """The endpoints. Nothing of what they say is secret."""

    def __init__(self, daemon: Daemon) -> None:
        """Ask ``daemon``."""
        self._daemon = daemon
        self._lock = Lock()
        self._written, self._trouble = float("-inf"), ""

    def live(self, request: Request) -> Response:
        """Answer ``/healthz``: 200, or 503 when only a fresh start can help."""
        return self._answer([one for one in checks(self._facts("")) if one.vital])

    def ready(self, request: Request) -> Response:
        """Answer ``/readyz``: 200, or 503 while it cannot do its work."""
        return self._answer(list(checks(self._facts(self._store()))))

    def _answer(self, found: Sequence[Check]) -> Response:
        well = all(one.ok for one in found)
        body = {"ok": well, "checks": {one.name: {"ok": one.ok, "message": one.message} for one in found}}
        return JSONResponse(body, 200 if well else 503, headers={"cache-control": "no-store"})

    def _facts(self, store: str) -> Facts:
        daemon, vitals = self._daemon, self._daemon.vitals
        now, repository = vitals.monotonic(), daemon.workshop.settings.repository
        rounds = daemon.workshop.settings.engine.rounds
        return Facts(
            dead=[thread.name for thread in daemon.threads if not thread.is_alive()],
            alive=now - vitals.began,
            tried=None if vitals.tried is None else now - vitals.tried,
            good=None if vitals.good is None else now - vitals.good,
            loaded=bool(daemon.force),
            overdue=daemon.queue.overdue(),
            longest=max([0.0, *(now - since for since in list(vitals.passes.values()))]),
            allowed=max([STUCK, *(2 * rounds * one.stack.spec.health_deadline for one in list(daemon.force.values()))]),
            store=store,
            poll=repository.poll,
            patience=repository.timeout,
        )

    def _store(self) -> str:
        """Say why the store cannot be written; empty when it can. Asked anew only now and then: probes are frequent."""
        with self._lock:
            now = time.monotonic()
            if now - self._written >= BEAT or self._trouble:
                self._trouble = self._daemon.store.beat(WHO, self._daemon.workshop.clock.now().isoformat())
                self._written = now
            return self._trouble

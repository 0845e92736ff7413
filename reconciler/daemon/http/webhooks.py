"""Receives webhooks. Each is believed only as far as "look at the repository now", and only after its sender proved who it is."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from reconciler.daemon.http.bodies import Bodies, Refused, Room
from reconciler.daemon.http.config import Http, Webhook
from reconciler.daemon.http.hints import PINGS, hint, interesting
from reconciler.daemon.http.limits import Seen, Strikes
from reconciler.daemon.http.schemes import verify

log = logging.getLogger("reconciler.webhooks")
GAP = 1.0
"""Seconds between two looks that webhooks ask for. The first of a burst is heard at once, the last one is never lost."""


class Pokes:
    """Hands hints on, at once when it was quiet, else once the gap is over. For the one thread of a door."""

    def __init__(self, poke: Callable[[], None], gap: float = GAP) -> None:
        """Call ``poke`` at most once each ``gap`` seconds."""
        self._poke, self._gap = poke, gap
        self._last = float("-inf")
        self._later: asyncio.TimerHandle | None = None

    def __call__(self) -> None:
        """Take one hint. Called inside a running loop."""
        loop = asyncio.get_running_loop()
        if self._later is not None:
            return
        if (left := self._last + self._gap - loop.time()) > 0:
            self._later = loop.call_later(left, self._now, loop)
        else:
            self._now(loop)

    def _now(self, loop: asyncio.AbstractEventLoop) -> None:
        self._later, self._last = None, loop.time()
        self._poke()


@dataclass(frozen=True, slots=True)
class Memory:
    """What new settings leave as it is: when we looked last, who was refused, what came before, what is held. For one door's thread."""

    pokes: Pokes
    strikes: Strikes = field(default_factory=Strikes)
    seen: Seen = field(default_factory=Seen)
    room: Room = field(default_factory=Room)


class Webhooks:
    """The endpoint ``POST /webhooks/NAME``. ``count`` hears of each one: the name of the sender and what became of it."""

    def __init__(self, settings: Http, memory: Memory, count: Callable[[str, str], None], arrived: Callable[[str], None]) -> None:
        """Call ``arrived`` with the sender's name, then poke, for each webhook that is worth a look."""
        self._senders, self._count, self._arrived = settings.webhooks, count, arrived
        self._bodies = Bodies(settings.max_body, settings.deadline, memory.room)
        self._strikes, self._seen, self._pokes = memory.strikes, memory.seen, memory.pokes

    async def receive(self, request: Request) -> Response:
        """Answer one webhook. Whoever is turned away learns the status and nothing else."""
        name = request.path_params["name"]
        sender = self._senders.get(name)
        address = request.client.host if request.client is not None else ""
        known = name if sender is not None else "unknown"
        if (wait := self._strikes.wait(address, time.monotonic())) > 0:
            self._count(known, "limited")
            return Response(status_code=429, headers={"retry-after": str(int(wait) + 1), "connection": "close"})
        try:
            if sender is None:
                raise Refused(404, "no such sender")
            result = await self._take(name, sender, request)
        except Refused as refusal:
            self._strikes.strike(address, time.monotonic())
            self._count(known, "refused")
            log.warning("a webhook for %s from %s is refused: %s", known, address, refusal)
            return Response(status_code=refusal.status, headers={"connection": "close"})
        self._count(name, result)
        return JSONResponse({"result": result}, 200 if result == "pong" else 202)

    async def _take(self, name: str, sender: Webhook, request: Request) -> str:
        body = await self._bodies.read(request)
        secrets = [one.get_secret_value() for one in sender.secrets]
        delivery = verify(sender.scheme, secrets, request.headers.raw, body, time.time())
        if delivery.event in PINGS:
            return "pong"
        strict = sender.scheme not in ("hmac", "standard-webhooks")
        found = hint(body, request.headers.get("content-type", ""), strict=strict)
        if delivery.id and self._seen.again(f"{name}:{delivery.id}", time.monotonic()):
            return "repeated"
        if not interesting(delivery.event) or not found.concerns(sender.repository, sender.branch):
            return "ignored"
        self._arrived(name)
        self._pokes()
        return "accepted"

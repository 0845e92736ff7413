"""Reads the body of a request that nobody has vouched for yet: whole, raw, once, within a size and a time."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

HELD = 32 * 1024 * 1024
"""Bytes of unfinished bodies that all strangers together may have us hold."""


class Refused(Exception):
    """A request that is turned away: the status is all that the sender learns."""

    def __init__(self, status: int, why: str) -> None:
        """Keep the status for the sender and the reason for the log."""
        self.status = status
        super().__init__(why)


@dataclass(slots=True)
class Room:
    """How many bytes of unfinished bodies may still be held. Shared by all who read at one door, for its one thread."""

    left: int = HELD


class Bodies:
    """Reads bodies of at most ``most`` bytes that must be complete within ``seconds``, as far as there is ``room``."""

    def __init__(self, most: int, seconds: float, room: Room) -> None:
        """Hold nothing yet."""
        self._most, self._seconds, self._room = most, seconds, room

    async def read(self, request: Request) -> bytes:
        """Give the raw body. Raises Refused: 408 too slow, 413 too large, 415 compressed, 400 cut off, 503 too much at once."""
        if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise Refused(415, "a compressed body")  # nobody signs one, and unpacking a stranger's is asking for a bomb
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._most:
            raise Refused(413, "a body that is too large")
        try:
            async with asyncio.timeout(self._seconds):
                return await self._whole(request)
        except TimeoutError:
            raise Refused(408, "a body that came too slowly") from None
        except ClientDisconnect:
            raise Refused(400, "a body that was cut off") from None

    async def _whole(self, request: Request) -> bytes:
        with self._holding() as body:
            async for chunk in request.stream():
                body += chunk
                self._room.left -= len(chunk)
                if len(body) > self._most:
                    raise Refused(413, "a body that is too large")
                if self._room.left < 0:
                    raise Refused(503, "too many bodies at once")
            return bytes(body)

    @contextmanager
    def _holding(self) -> Iterator[bytearray]:
        body = bytearray()
        try:
            yield body
        finally:
            self._room.left += len(body)

"""What carries a socket: an HTTP session that remembers the websocket it opened.

The library lets go of a websocket whose first message never came, and closes neither it nor its session. Knows nothing of Uptime Kuma.
"""

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp

FAREWELL = 0.2
"""Seconds for which the other side may answer that we go."""


class Carrier:
    """The part of ``aiohttp.ClientSession`` that engineio uses. To be made and closed on one event loop."""

    def __init__(self) -> None:
        """Open a session; nothing is connected yet."""
        self._session = aiohttp.ClientSession()
        self._opened: aiohttp.ClientWebSocketResponse | None = None
        self.cookie_jar = self._session.cookie_jar

    @property
    def closed(self) -> bool:
        """True when it carries nothing any more."""
        return self._session.closed

    async def ws_connect(self, url: str, **options: Any) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket, as the session does."""
        self._opened = await self._session.ws_connect(url, **options)
        return self._opened

    async def close(self) -> None:
        """Close the websocket, if it still stands, and the session."""
        opened, self._opened = self._opened, None
        try:
            if opened is not None and not opened.closed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FAREWELL):
                        await opened.close()
        finally:
            await self._session.close()

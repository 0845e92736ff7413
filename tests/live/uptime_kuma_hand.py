"""A hand on a real Uptime Kuma that is not ours: it looks and meddles behind the driver's back, with nothing of the driver's client."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import aiohttp
import socketio

from reconciler.resource import JSONObject

T = TypeVar("T")
WAIT = 30.0


class Hand:
    """One session of a person at the web page."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._url, self._user = url.rstrip("/"), {"username": username, "password": password, "token": ""}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="hand")
        self._thread.start()
        self._last: dict[str, Any] = {}
        self._token = ""
        self._socket = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        self._run(self._enter())

    def call(self, event: str, *args: Any) -> JSONObject:
        """Send one call; an answer that says no is a failure of the test."""
        answer = self._run(self._call(event, *args))
        assert answer.get("ok"), (event, answer)
        return answer

    def monitors(self) -> dict[int, JSONObject]:
        self.call("getMonitorList")
        return {int(id): row for id, row in self._last["monitorList"].items()}

    def notifications(self) -> dict[int, JSONObject]:
        return {int(row["id"]): row for row in self._last["notificationList"]}

    def maintenances(self) -> dict[int, JSONObject]:
        self.call("getMaintenanceList")
        return {
            int(id): {
                **row,
                "monitors": self.call("getMonitorMaintenance", int(id))["monitors"],
                "pages": self.call("getMaintenanceStatusPage", int(id))["statusPages"],
            }
            for id, row in self._last["maintenanceList"].items()
        }

    def pages(self) -> dict[int, JSONObject]:
        """Enter anew, because the list comes at a login only."""
        self._run(self._leave())
        self._run(self._enter())
        return {int(id): {**row, "groups": self._run(self._groups(row["slug"]))} for id, row in self._last["statusPageList"].items()}

    def close(self) -> None:
        self._run(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT * 2)

    async def _enter(self) -> None:
        self._last.clear()
        self._socket = socketio.AsyncClient(reconnection=False, handle_sigint=False)
        self._socket.on("*", self._keep)
        await self._socket.connect(self._url, transports=["websocket"])
        await self._until("info")
        answer = await (self._call("loginByToken", self._token) if self._token else self._call("login", self._user))
        assert answer["ok"], answer
        self._token = answer.get("token", self._token)
        await self._until("notificationList", "statusPageList")

    async def _leave(self) -> None:
        await self._socket.disconnect()

    def _keep(self, event: str, *args: Any) -> None:
        self._last[event] = args[0] if args else None

    async def _until(self, *events: str) -> None:
        async with asyncio.timeout(WAIT):
            while any(event not in self._last for event in events):
                await asyncio.sleep(0.01)

    async def _call(self, event: str, *args: Any) -> Any:
        answered: asyncio.Future[Any] = self._loop.create_future()
        await self._socket.emit(event, args, callback=lambda *values: answered.set_result(values[0] if values else None))
        return await asyncio.wait_for(answered, WAIT)

    async def _groups(self, slug: str) -> Any:
        async with aiohttp.ClientSession() as http, http.get(f"{self._url}/api/status-page/{slug}") as answer:
            return (await answer.json())["publicGroupList"]

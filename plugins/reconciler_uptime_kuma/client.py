"""The connection to one Uptime Kuma: Socket.IO calls with deadlines, behind a synchronous face. The only importer of ``socketio``.

A thread of its own runs the event loop. A call on a dead connection first connects and logs in anew; nothing is ever sent twice.
Every foreign exception becomes Transient or Permanent in ``_translated``.
"""

import asyncio
import re
import ssl
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import aiohttp
import socketio

from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import JSONObject
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.dialect import CLASSIC, Dialect

T = TypeVar("T")

LOGIN_PAUSE = 60.0
"""Seconds to stay away after "Too frequently": 20 logins a minute are allowed to everybody together, failed or not."""
MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message; a list of 500 monitors has 1.3 million, and aiohttp would stop at 4."""

_BUSY = ("SQLITE_BUSY", "database is locked", "Timeout acquiring a connection", "ER_LOCK")
_GONE = "Cannot read properties of null"


class Client:
    """One logged-in connection, made at the first call. Calls from several threads take turns."""

    def __init__(self, config: UptimeKumaConfig) -> None:
        self._config = config
        self._wire = _Wire(config)
        self._turn = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def dialect(self) -> Dialect:
        """The server's way of speaking; known after the first call."""
        return self._wire.dialect

    def monitors(self) -> list[JSONObject]:
        """Give every monitor of the user, by number; a fresh list."""
        return self._run(self._wire.monitors())

    def notifications(self) -> list[JSONObject]:
        """Give every notification, as last pushed: the server sends the list at login and after each change by anybody."""
        return self._run(self._wire.notifications())

    def monitor(self, id: int) -> JSONObject | None:
        """Give one monitor, or None when there is none with this number."""
        return self._run(self._wire.monitor(id))

    def beat(self, id: int) -> JSONObject | None:
        """Give the last heartbeat of a monitor: status 0 down, 1 up, 2 pending, 3 maintenance; None when there is none since an edit."""
        return self._run(self._wire.beat(id))

    def add_monitor(self, payload: JSONObject) -> int:
        """Add a monitor and give its number. After any error the monitor may exist all the same."""
        return int(self._run(self._wire.call("add", payload))["monitorID"])

    def edit_monitor(self, row: JSONObject) -> None:
        """Write a whole row. After any error its fields may be stored all the same."""
        self._run(self._wire.renew("editMonitor", row["id"], row))

    def set_active(self, id: int, *, active: bool) -> None:
        """Resume or pause a monitor; harmless when it is so already."""
        self._run(self._wire.renew("resumeMonitor" if active else "pauseMonitor", id, id))

    def delete_monitor(self, id: int) -> None:
        """Delete a monitor with its history; children of a group stay. No error when it does not exist."""
        self._run(self._wire.call("deleteMonitor", id))

    def save_notification(self, config: JSONObject, id: int | None) -> int:
        """Add a notification, or write the one with number ``id``; gives the number."""
        return int(self._run(self._wire.call("addNotification", config, id))["id"])

    def delete_notification(self, id: int) -> None:
        """Delete a notification; every monitor forgets it."""
        self._run(self._wire.call("deleteNotification", id))

    def close(self) -> None:
        """Close the connection and end the thread."""
        with self._turn:
            if self._loop is None or self._thread is None:
                return
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(self._wire.close(), self._loop).result(self._config.timeout)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._turn:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="uptime-kuma", daemon=True)
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Wire:
    """What happens inside the loop: one socket, the pushes it received, and the calls that wait for an answer."""

    def __init__(self, config: UptimeKumaConfig) -> None:
        self._config = config
        self._url = config.url.rstrip("/")
        self._token = ""
        self._socket: socketio.AsyncClient | None = None
        self._changed = asyncio.Event()
        self._pushed: dict[str, Any] = {}
        self._beats: dict[int, JSONObject] = {}
        self._outdated: dict[int, Any] = {}
        self._lost: asyncio.Future[None] | None = None
        self.dialect = CLASSIC

    async def monitors(self) -> list[JSONObject]:
        """List the monitors; the list itself comes as a push, before the answer."""
        async with self._deadline("getMonitorList"):
            await self._connected()
            self._pushed.pop("monitorList", None)
            await self._emit("getMonitorList")
            await self._until("monitorList")
            return [rows for _, rows in sorted(self._pushed["monitorList"].items(), key=lambda item: int(item[0]))]

    async def notifications(self) -> list[JSONObject]:
        """List the notifications as last pushed."""
        async with self._deadline("notificationList"):
            await self._connected()
            return list(self._pushed["notificationList"])

    async def monitor(self, id: int) -> JSONObject | None:
        """Read one monitor. The server does not know of absence: it stumbles over it."""
        try:
            answer = await self.call("getMonitor", id)
        except Permanent as error:
            if _GONE in str(error):
                return None
            raise
        found = answer.get("monitor")
        return found if isinstance(found, dict) else None

    async def beat(self, id: int) -> JSONObject | None:
        """Give the last heartbeat, asking for it when none was pushed: 1.23 sends them long after the login has been answered."""
        async with self._deadline("heartbeatList"):
            await self._connected()
        if id not in self._beats:
            rows = (await self.call("getMonitorBeats", id, 24)).get("data") or []
            if rows:
                self._beats.setdefault(id, rows[-1])
        beat = self._beats.get(id)
        return None if beat is not None and beat.get("time") == self._outdated.get(id) else beat

    async def renew(self, event: str, id: int, argument: Any) -> None:
        """Send a call after which the server checks anew, so that a heartbeat from before proves nothing."""
        before = self._beats.get(id)
        if before is not None:
            self._outdated[id] = before.get("time")
        await self.call(event, argument)

    async def call(self, event: str, *args: Any) -> JSONObject:
        """Connect when necessary, send one call, and give its answer. Raises Transient or Permanent."""
        async with self._deadline(event):
            await self._connected()
            return await self._emit(event, *args)

    async def close(self) -> None:
        """Close the socket, if there is one."""
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.disconnect()

    # -- connecting ----------------------------------------------------------------------------------------------------------

    async def _connected(self) -> None:
        if self._socket is not None and self._socket.connected and self._lost is not None and not self._lost.done():
            return
        await self.close()
        self._pushed, self._beats = {}, {}
        self._lost = lost = asyncio.get_running_loop().create_future()
        self._socket = socket = self._new_socket(lost)
        try:
            await socket.connect(self._url, transports=["websocket"], wait_timeout=self._config.timeout)
            # 2.x takes no call before its first push: an earlier one is dropped without an answer.
            await self._until("info")
            await self._login()
            await self._until("version", "notificationList")
        except BaseException:
            await self.close()
            raise
        self.dialect = Dialect.of(self._pushed["version"])

    def _new_socket(self, lost: asyncio.Future[None]) -> socketio.AsyncClient:
        options: dict[str, Any] = {"max_msg_size": MAX_MESSAGE}
        if self._config.ca_file is not None:
            options["ssl"] = ssl.create_default_context(cafile=str(self._config.ca_file))
        socket = socketio.AsyncClient(reconnection=False, handle_sigint=False, websocket_extra_options=options)
        for event in ("monitorList", "notificationList", "autoLogin"):
            socket.on(event, self._keeper(event))
        socket.on("info", self._on_info)
        socket.on("heartbeat", self._on_beat)
        socket.on("heartbeatList", self._on_beats)
        socket.on("disconnect", partial(_end, lost))
        return socket

    async def _login(self) -> None:
        if not self._config.username:
            await self._until("autoLogin")
            return
        if self._token:
            try:
                await self._emit("loginByToken", self._token)
                return
            except Permanent:  # the password was changed; the limit on logins does not concern tokens
                self._token = ""
        login = {"username": self._config.username, "password": self._config.password.get_secret_value(), "token": ""}
        answer = await self._emit("login", login)
        self._token = str(answer.get("token", ""))

    # -- sending -------------------------------------------------------------------------------------------------------------

    async def _emit(self, event: str, *args: Any) -> JSONObject:
        assert self._socket is not None
        assert self._lost is not None
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answer(*values: Any) -> None:
            if not answered.done():
                answered.set_result(values[0] if values else None)

        await self._socket.emit(event, args, callback=answer)
        await asyncio.wait((answered, self._lost), return_when=asyncio.FIRST_COMPLETED)
        if not answered.done():
            raise Transient(f"{self._url}: the connection was lost while {event} was not yet answered")
        return _accepted(self._url, event, answered.result())

    async def _until(self, *events: str) -> None:
        assert self._lost is not None
        while any(event not in self._pushed for event in events):
            self._changed.clear()
            change = asyncio.ensure_future(self._changed.wait())
            try:
                await asyncio.wait((change, self._lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
            if self._lost.done():
                raise Transient(f"{self._url}: the connection was lost before {events[0]} arrived")

    @asynccontextmanager
    async def _deadline(self, what: str) -> AsyncIterator[None]:
        """Put one absolute deadline round a call, and drop a connection on which a call was never answered."""
        with _translated(self._url, what, self._config.timeout):
            try:
                async with asyncio.timeout(self._config.timeout):
                    yield
            except TimeoutError:
                await self.close()
                raise

    # -- receiving -----------------------------------------------------------------------------------------------------------

    def _keeper(self, event: str) -> Any:
        def keep(data: Any = None) -> None:
            self._pushed[event] = data
            self._changed.set()

        return keep

    def _on_info(self, info: Mapping[str, Any]) -> None:
        self._pushed["info"] = info
        if "version" in info:  # only the second one, after the login, says it
            self._pushed["version"] = info
        self._changed.set()

    def _on_beat(self, beat: JSONObject) -> None:
        self._beats[int(beat["monitorID"])] = beat

    def _on_beats(self, id: Any, beats: list[JSONObject], *_: Any) -> None:
        if beats:
            self._beats[int(id)] = beats[-1]


def _end(lost: asyncio.Future[None], *_: Any) -> None:
    if not lost.done():
        lost.set_result(None)


@contextmanager
def _translated(url: str, what: str, seconds: float) -> Iterator[None]:
    try:
        yield
    except DriverError:
        raise
    except TimeoutError:
        raise Transient(f"{url}: no answer to {what} within {seconds:g} s") from None
    except socketio.exceptions.ConnectionError as error:
        cause = _first_cause(error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise Permanent(f"{url}: its certificate is not trusted: {cause.verify_message}; name its authority in ca_file") from None
        raise Transient(f"{url}: cannot connect: {cause}") from None
    except (socketio.exceptions.SocketIOError, aiohttp.ClientError, OSError) as error:
        raise Transient(f"{url}: {what} failed: {type(error).__name__}") from None


def _first_cause(error: BaseException) -> BaseException:
    """Find what really happened: the library says no more than "Connection error"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _accepted(url: str, event: str, answer: Any) -> JSONObject:
    """Give an answer that says yes. Raises Transient for a busy database and for too many logins, Permanent otherwise."""
    if not isinstance(answer, dict):
        raise Permanent(f"{url}: {event} got an answer that is not an object; is this Uptime Kuma?")
    if answer.get("ok"):
        return answer
    if answer.get("tokenRequired"):
        raise Permanent(f"{url}: the user needs a second factor; use a user without one, since nobody is there to type it")
    text = _safe(str(answer.get("msg", "no reason given")))
    if "Too frequently" in text:
        raise Transient(f"{url}: {event}: {text}", retry_after=LOGIN_PAUSE)
    if any(sign in text for sign in _BUSY):
        raise Transient(f"{url}: {event}: {text}")
    hint = "; check username and password" if event == "login" else ""
    raise Permanent(f"{url}: {event} was refused: {text}{hint}")


def _safe(text: str) -> str:
    """Take everything out of an error text that may echo a value: the statement before the database's own words, and quotations."""
    if re.match(r"(insert|update|select|delete)\b", text, re.IGNORECASE):
        text = text.rpartition(" - ")[2]
    return re.sub(r'"[^"]*"', '"…"', text)

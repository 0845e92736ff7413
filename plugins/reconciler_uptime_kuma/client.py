"""The connection to one Uptime Kuma: Socket.IO calls with deadlines, behind a synchronous face. The only importer of ``socketio``.

A thread of its own runs the event loop. A call on a dead connection first connects and logs in anew; nothing is ever sent twice.
Every foreign exception becomes Transient or Permanent in ``_translated``.
"""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

import aiohttp
import orjson
import socketio

from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import JSONObject
from reconciler.writing import may_write
from reconciler_uptime_kuma.answers import accepted
from reconciler_uptime_kuma.calls import Calls
from reconciler_uptime_kuma.carrier import Carrier
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.dialect import CLASSIC, Dialect
from reconciler_uptime_kuma.login import Login, SocketLogin

T = TypeVar("T")
Listener: TypeAlias = Callable[[str, tuple[Any, ...]], None]
"""Hears each push that tells of a change; called in the thread of the connection."""

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message; a list of 500 monitors has 1.3 million, and aiohttp would stop at 4."""
LISTS = ("monitorList", "notificationList", "maintenanceList", "statusPageList", "dockerHostList")
NEWS = ("monitorList", "updateMonitorIntoList", "deleteMonitorFromList", "notificationList", "maintenanceList")


class Client(Calls):
    """One logged-in connection, made at the first call. Calls from several threads take turns."""

    def __init__(self, config: UptimeKumaConfig, login: Login | None = None, listen: Listener | None = None) -> None:
        self._config = config
        self._wire = _Wire(config, login or SocketLogin(config), listen)
        self._turn = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def dialect(self) -> Dialect:
        """The server's way of speaking; known after the first call."""
        return self._wire.dialect

    @property
    def connected(self) -> bool:
        """True while there is a connection, logged in."""
        return self._wire.connected

    def call(self, event: str, *args: Any) -> JSONObject:
        """Send one call and give its answer."""
        if not event.startswith("get"):
            may_write()
        return self._run(self._wire.call(event, *args))

    def listed(self, event: str, push: str) -> Any:
        """Send a call whose answer is the push before it, and give that."""
        return self._run(self._wire.listed(event, push))

    def pushed(self, event: str) -> Any:
        """Give what was last pushed under a name; waits for the first after a login."""
        return self._run(self._wire.pushed(event))

    def renew(self, event: str, id: int, argument: Any) -> None:
        """Send a call after which the server checks a monitor anew, so that a heartbeat from before proves nothing."""
        may_write()
        self._run(self._wire.renew(event, id, argument))

    def fetch(self, path: str) -> JSONObject | None:
        """Read a page of JSON that anybody may read; None when there is none."""
        return self._run(self._wire.fetch(path))

    def outdate(self, event: str) -> None:
        """Say that a list which comes at a login only is no longer true, so that the next look at it logs in anew."""
        self._run(self._wire.outdate(event))

    def beat(self, id: int) -> JSONObject | None:
        """Give the last heartbeat of a monitor: status 0 down, 1 up, 2 pending, 3 maintenance; None when there is none since an edit."""
        return self._run(self._wire.beat(id))

    def close(self) -> None:
        """Close the connection and end the thread."""
        with self._turn:
            if self._loop is None or self._thread is None:
                return
            with suppress(TimeoutError):
                asyncio.run_coroutine_threadsafe(_ended(self._wire.close()), self._loop).result(self._config.timeout)
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


class _Json:
    """The reader of messages: a list of 500 monitors is more than a megabyte in every pass."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str | bytes, **_: Any) -> Any:
        return orjson.loads(text)


async def _ended(closing: Coroutine[Any, Any, None]) -> None:
    """Close, and let all that is under way on this loop end, so that no socket is left behind when it stops."""
    try:
        await closing
    finally:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for _ in range(3):  # a transport says that it is closed one turn of the loop after it was told to
            await asyncio.sleep(0)


class _Wire:
    """What happens inside the loop: one socket, the pushes it received, and the calls that wait for an answer."""

    def __init__(self, config: UptimeKumaConfig, login: Login, listen: Listener | None) -> None:
        self._config, self._login, self._listen = config, login, listen
        self._url = config.url.rstrip("/")
        self._tls = ssl.create_default_context(cafile=str(config.ca_file)) if config.ca_file is not None else None
        self._socket: socketio.AsyncClient | None = None
        self._carrier: Carrier | None = None
        self._changed = asyncio.Event()
        self._pushed: dict[str, Any] = {}
        self._beats: dict[int, JSONObject] = {}
        self._outdated: dict[int, Any] = {}
        self._stale: set[str] = set()
        self._lost: asyncio.Future[None] | None = None
        self.dialect = CLASSIC

    async def listed(self, event: str, push: str) -> Any:
        """Call for a list, which comes as a push before the answer."""
        async with self._deadline(event):
            await self._connected()
            self._pushed.pop(push, None)
            await self.emit(event)
            await self.until(push)
            return self._pushed[push]

    async def outdate(self, event: str) -> None:
        """Have a list fetched anew by a new login, when it is asked for."""
        self._stale.add(event)

    async def pushed(self, event: str) -> Any:
        """Give what was last pushed."""
        async with self._deadline(event):
            if event in self._stale:
                await self.close()
            await self._connected()
            await self.until(event)
            return self._pushed[event]

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
            return await self.emit(event, *args)

    async def fetch(self, path: str) -> JSONObject | None:
        """Read one page; the deadline holds for the whole of it."""
        limit = aiohttp.ClientTimeout(self._config.timeout)
        with _translated(self._url, path, self._config.timeout):
            async with aiohttp.ClientSession(timeout=limit) as http, http.get(self._url + path, ssl=self._tls or True) as answer:
                if answer.status == 404:
                    return None
                if answer.status != 200:
                    raise Transient(f"{self._url}: {path} was answered with {answer.status}")
                found = orjson.loads(await answer.read())
        if not isinstance(found, dict):
            raise Permanent(f"{self._url}: {path} is not an object; is this Uptime Kuma?")
        return found

    async def close(self) -> None:
        """Close the socket, if there is one, and what carries it: the library lets go of a connection that failed half-way."""
        socket, self._socket = self._socket, None
        carrier, self._carrier = self._carrier, None
        try:
            if socket is not None:
                await socket.disconnect()
        finally:
            if carrier is not None:
                await carrier.close()

    # -- connecting ----------------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """True while the socket lives."""
        return self._socket is not None and self._socket.connected and self._lost is not None and not self._lost.done()

    async def _connected(self) -> None:
        if self.connected:
            return
        await self.close()
        self._pushed, self._beats, self._stale = {}, {}, set()
        self._lost = lost = asyncio.get_running_loop().create_future()
        self._carrier = carrier = Carrier()
        self._socket = socket = self._new_socket(lost, carrier)
        try:
            await self._dial(socket)
            # 2.x takes no call before its first push: an earlier one is dropped without an answer.
            await self.until("info")
            await self._login.enter(self)
            await self.until("version", "notificationList")
        except BaseException:
            await self.close()
            raise
        self.dialect = Dialect.of(self._pushed["version"])

    async def _dial(self, socket: socketio.AsyncClient) -> None:
        try:
            await socket.connect(self._url, transports=["websocket"], wait_timeout=self._config.timeout)
        except TypeError:  # the library takes the code of a close for the first message
            raise Transient(f"{self._url}: closed the connection at once; it may be starting") from None

    def _new_socket(self, lost: asyncio.Future[None], carrier: Carrier) -> socketio.AsyncClient:
        options: dict[str, Any] = {"max_msg_size": MAX_MESSAGE}
        if self._tls is not None:
            options["ssl"] = self._tls
        socket = socketio.AsyncClient(
            reconnection=False, handle_sigint=False, http_session=carrier, websocket_extra_options=options, json=_Json
        )
        for event in (*LISTS, "autoLogin", *(NEWS if self._listen is not None else ())):
            socket.on(event, partial(self._keep, event))
        socket.on("info", self._on_info)
        socket.on("heartbeat", self._on_beat)
        socket.on("heartbeatList", self._on_beats)
        socket.on("disconnect", partial(_end, lost))
        return socket

    # -- sending -------------------------------------------------------------------------------------------------------------

    async def emit(self, event: str, *args: Any) -> JSONObject:
        """Send one call on the present connection and give its answer."""
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
        return accepted(self._url, event, answered.result(), args)

    async def until(self, *events: str) -> None:
        """Wait until each of these was pushed on the present connection."""
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

    def _keep(self, event: str, *data: Any) -> None:
        if event in LISTS or event == "autoLogin":
            self._pushed[event] = data[0] if data else None
            self._changed.set()
        if self._listen is not None and event in NEWS:
            self._listen(event, data)

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
    except (socketio.exceptions.SocketIOError, aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
        raise Transient(f"{url}: {what} failed: {type(error).__name__}") from None


def _first_cause(error: BaseException) -> BaseException:
    """Find what really happened: the library says no more than "Connection error"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error

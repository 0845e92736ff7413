"""The emulated Socket.IO side: what is pushed, what is answered, and in which order, in both dialects."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import socketio

from reconciler.resource import JSONObject
from reconciler.sandbox.server import Fault, Faults
from reconciler_uptime_kuma.emulator.auth import Auth
from reconciler_uptime_kuma.emulator.calls import ROOM
from reconciler_uptime_kuma.emulator.planning import Planning
from reconciler_uptime_kuma.emulator.refusals import NoAnswer, Refused
from reconciler_uptime_kuma.emulator.store import DOWN, Store

Handler: TypeAlias = Callable[..., Awaitable[Any]]

WRITES = frozenset(
    (
        "add",
        "addAPIKey",
        "addDockerHost",
        "addMaintenance",
        "addMaintenanceStatusPage",
        "addMonitorMaintenance",
        "addMonitorTag",
        "addNotification",
        "addProxy",
        "addStatusPage",
        "addTag",
        "deleteMaintenance",
        "deleteMonitor",
        "deleteMonitorTag",
        "deleteNotification",
        "deleteStatusPage",
        "deleteTag",
        "editMaintenance",
        "editMonitor",
        "editMonitorTag",
        "editTag",
        "pauseMaintenance",
        "pauseMonitor",
        "resumeMaintenance",
        "resumeMonitor",
        "saveStatusPage",
        "setup",
    )
)
_ANYBODY = frozenset({"login", "loginByToken", "logout", "needSetup", "setup"})
_VERSIONS = {"2.x": "2.5.3", "1.23": "1.23.17"}
_KEYS = frozenset({"authIncorrectCreds", "authInvalidToken", "tagNotFound"})


@dataclass(slots=True)
class Knobs:
    """Behaviours of the real server that are rare, as switches. Times in seconds.

    ``deaf``: how long after a connection calls are dropped without an answer, until the first ``info``. ``write``: how long a write
    takes. ``beat``: how long after a change the check runs. ``chatter``: pushes of others arrive between a call and its answer.
    """

    deaf: float = 0.0
    write: float = 0.0
    beat: float = 0.0
    chatter: bool = False


class Sockets(Planning):
    """One server's sockets. Made anew for each start, because it belongs to that start's event loop."""

    def __init__(self, store: Store, auth: Auth, faults: Faults, knobs: Knobs) -> None:
        self.store, self._auth, self._faults, self._knobs = store, auth, faults, knobs
        self._known: set[str] = set()
        self._listening: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._due: dict[int, float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handlers = self._table()
        self.server = socketio.AsyncServer(async_mode="asgi", always_connect=True, monitor_clients=False)
        self.server.on("connect", self._connect)
        self.server.on("disconnect", self._disconnect)
        self.server.on("*", self._call)

    # -- connections ---------------------------------------------------------------------------------------------------------

    async def _connect(self, sid: str, environ: JSONObject, auth: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        if not self._tasks:
            self.later(self._tick())
        self.later(self._greet(sid))  # not here, because calls that come meanwhile are to be lost, not kept waiting

    async def _greet(self, sid: str) -> None:
        if self._knobs.deaf:
            await asyncio.sleep(self._knobs.deaf)
        if not self.modern and not self._auth.password:
            await self.push("setup", to=sid)
        await self.push("info", self._info(logged_in=False), to=sid)
        self._listening.add(sid)
        if self.modern and not self._auth.password:
            await self.push("setup", to=sid)
        if not self._auth.enabled:
            if not self.modern:
                await self.push("autoLogin", to=sid)
            await self._welcome(sid)
            if self.modern:
                await self.push("autoLogin", to=sid)
        elif self.modern:
            await self.push("loginRequired", to=sid)

    async def _disconnect(self, sid: str, reason: Any = None) -> None:
        self._known.discard(sid)
        self._listening.discard(sid)

    async def cut(self, sid: str) -> None:
        """Lose a connection without a word of goodbye."""
        for engine_id, socket in list(self.server.eio.sockets.items()):
            if self.server.manager.sid_from_eio_sid(engine_id, "/") == sid:
                await socket.queue.put(None)

    def kick(self) -> None:
        """Lose every connection; from another thread."""
        self._wait_for(self._kick())

    def check_all(self) -> None:
        """Check everything now and push the heartbeats; from another thread."""
        self._wait_for(self._check_all())

    def publish(self) -> None:
        """Push the lists to everybody; from another thread."""
        self._wait_for(self._publish())

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is not None and self._loop.is_running():
            asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
        else:
            work.close()

    async def _kick(self) -> None:
        for sid in list(self._listening):
            await self.cut(sid)

    async def _check_all(self) -> None:
        groups = {id for id, row in self.store.monitors.items() if row["type"] == "group"}
        for ids in (self.store.monitors.keys() - groups, groups):
            await asyncio.gather(*(self.check(id) for id in sorted(ids)))

    async def _publish(self) -> None:
        await self.push("monitorList", self.store.views())
        await self.push("notificationList", list(self.store.notifications.values()))

    async def _welcome(self, sid: str) -> None:
        """Let a client in and send it everything, in the order of the real one."""
        self._known.add(sid)
        await self.server.enter_room(sid, ROOM)
        await self.push("monitorList", self.store.views())
        if self.modern:
            await self.push("monitorTypeList", {}, to=sid)
        with suppress(Refused):  # one that cannot be worked out keeps the list from everybody, and nothing else
            await self.push("maintenanceList", self.store.windows.views())
        await self.push("info", self._info(logged_in=True), to=sid)
        await self.push("notificationList", list(self.store.notifications.values()))
        await self.push("proxyList", list(self.store.proxies.values()))
        await self.push("dockerHostList", list(self.store.docker_hosts.values()))
        for event in ("apiKeyList", *(("remoteBrowserList",) if self.modern else ())):
            await self.push(event, [])
        await self.push("statusPageList", {str(id): row for id, row in self.store.pages.rows.items()})
        for id in sorted(self.store.monitors):
            await self.push("heartbeatList", str(id), [self._pushed(beat) for beat in self.store.beats.get(id, [])], False, to=sid)
            if not self.modern:
                await self.push("importantHeartbeatList", str(id), [], False, to=sid)
            await self._averages(id, to=sid)
        await self.push("initServerTimezone", to=sid)

    # -- calls ---------------------------------------------------------------------------------------------------------------

    async def _call(self, event: str, sid: str, *args: Any) -> Any:
        handler = self._handlers.get(event)
        if handler is None or sid not in self._listening:
            return self.server.not_handled
        method = "POST" if event in WRITES else "GET"
        self._faults.requests.append((method, event))
        fault = self._faults.take(method, event)
        if fault is not None:
            return await self._faulty(fault, event, sid, args)
        return await self._answer(handler, event, sid, args)

    async def _faulty(self, fault: Fault, event: str, sid: str, args: tuple[Any, ...]) -> Any:
        if fault.kind == "server-error":
            return {"ok": False, "msg": "SQLITE_BUSY: database is locked"}
        if fault.kind == "cut-before":
            await self.cut(sid)
            return self.server.not_handled
        if fault.kind == "latency":
            await asyncio.sleep(fault.seconds)
        answer = await self._answer(self._handlers[event], event, sid, args)
        if fault.kind == "error-after":
            return {"ok": False, "msg": "the write was made, but what came after it failed"}
        if fault.kind == "cut-after":
            await self.cut(sid)
        return self.server.not_handled if fault.kind in ("cut-after", "no-answer") else answer

    async def _answer(self, handler: Handler, event: str, sid: str, args: tuple[Any, ...]) -> Any:
        if event not in _ANYBODY and sid not in self._known:
            return {"ok": False, "msg": "You are not logged in."}
        if self._knobs.chatter:
            await self._chatter()
        if event in WRITES and self._knobs.write:
            await asyncio.sleep(self._knobs.write)
        try:
            inspect.signature(handler).bind(sid, *args)
        except TypeError:  # the callback stands where an argument was expected, so that it is never called
            return self.server.not_handled
        try:
            return await handler(sid, *args)
        except NoAnswer:
            return self.server.not_handled
        except Refused as error:
            return {"ok": False, "msg": str(error), **({"msgi18n": True} if str(error) in _KEYS else {})}

    def _table(self) -> dict[str, Handler]:
        return {name.removeprefix("on_"): getattr(self, name) for name in dir(self) if name.startswith("on_")}

    async def on_needSetup(self, sid: str) -> bool:  # noqa: N802 - the event's own name
        """Say whether there is no user yet."""
        return not self._auth.password

    async def on_setup(self, sid: str, username: str, password: str) -> JSONObject:
        """Make the first user."""
        if self._auth.password:
            raise Refused("Uptime Kuma has been initialized. If you want to run setup again, please delete the database.")
        self._auth.username, self._auth.password = username, password
        return self.done("successAdded")

    async def on_login(self, sid: str, data: Any) -> JSONObject:
        """Log in with a password: 2.x answers after all lists, 1.23 before them."""
        if not isinstance(data, dict):
            raise NoAnswer
        self._auth.limit()
        token = self._auth.login(data)
        if token is None:
            return {"tokenRequired": True}
        await self._let_in(sid)
        return {"ok": True, "token": token}

    async def on_loginByToken(self, sid: str, token: Any) -> JSONObject:  # noqa: N802
        """Log in with a token, which is never limited."""
        self._auth.check(token)
        await self._let_in(sid)
        return {"ok": True}

    async def _let_in(self, sid: str) -> None:
        if self.modern:
            await self._welcome(sid)
            if self.store.wedged:
                raise NoAnswer
        else:
            self._known.add(sid)
            self.later(self._welcome(sid))

    async def on_logout(self, sid: str) -> None:
        """Log out; counts against the limit, and is answered with nothing."""
        self._auth.limit()
        self._known.discard(sid)
        await self.server.leave_room(sid, ROOM)

    # -- heartbeats and pushes -----------------------------------------------------------------------------------------------

    async def check(self, id: int) -> None:
        """Check a monitor and push the heartbeat."""
        if self._knobs.beat:
            await asyncio.sleep(self._knobs.beat)
        with self.store.lock:
            row = self.store.dials(id)
        up = await asyncio.to_thread(self.store.check, row) if row is not None else True
        with self.store.lock:
            beat = self.store.checked(id, up=up)
        if beat is not None:
            await self.show(beat)

    async def show(self, beat: JSONObject) -> None:
        """Push a heartbeat and what follows from it."""
        id = beat["monitor_id"]
        self._due[id] = asyncio.get_running_loop().time() + float(self.store.monitors[id]["interval"])
        await self.push("heartbeat", {"monitorID": id, **self._pushed(beat)})
        await self._averages(id)

    def _pushed(self, beat: JSONObject) -> JSONObject:
        view = {key: beat[key] for key in ("status", "time", "msg", "ping")}
        rest = {"retries": int(beat["status"] == 0)} if self.modern else {"duration": beat["duration"]}
        return {**view, "important": bool(beat["important"]), **rest}

    async def _averages(self, id: int, to: str = ROOM) -> None:
        beats = self.store.beats.get(id, [])
        up = sum(beat["status"] == 1 for beat in beats) / len(beats) if beats else 0
        await self.push("avgPing", id, beats[-1]["ping"] if beats else None, to=to)
        for span in (24, 720, *(("1y",) if self.modern else ())):
            await self.push("uptime", id, span, up, to=to)

    async def _chatter(self) -> None:
        for id in sorted(self.store.monitors)[:1]:
            beat = {"monitorID": id, "status": 1, "time": "", "msg": "", "ping": 1, "important": False}
            await self.push("heartbeat", beat)
            await self._tell(id)
            await self.push("notificationList", list(self.store.notifications.values()))
        await asyncio.sleep(0.005)

    async def _tick(self) -> None:
        """Check each monitor when its interval is over; a push monitor that was not called is down then."""
        while True:
            await asyncio.sleep(0.5)
            now = asyncio.get_running_loop().time()
            for id in sorted(self.store.monitors):
                if self._due.setdefault(id, now + float(self.store.monitors[id]["interval"])) > now:
                    continue
                if self.store.monitors[id]["type"] == "push" and self.store.view(id)["active"]:
                    await self.show(self.store.beat(id, DOWN, "No heartbeat in the time window"))
                else:
                    self._due[id] = now + float(self.store.monitors[id]["interval"])
                    self.later(self.check(id))

    def _info(self, *, logged_in: bool) -> JSONObject:
        info: JSONObject = {"primaryBaseURL": None, "serverTimezone": "UTC", "serverTimezoneOffset": "+00:00"}
        if not logged_in:
            return info
        info |= {"version": _VERSIONS[self.store.dialect.name], "latestVersion": None, "isContainer": False}
        return {**info, "dbType": "sqlite", "runtime": {"platform": "linux", "arch": "x64"}} if self.modern else info

    async def push(self, event: str, *args: Any, to: str = ROOM) -> None:
        """Send an event to one client, or to all of the user's."""
        await self.server.emit(event, args, to=to)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something after the answer has been sent."""

        async def after() -> None:
            await asyncio.sleep(0)
            await work

        task = asyncio.get_running_loop().create_task(after())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

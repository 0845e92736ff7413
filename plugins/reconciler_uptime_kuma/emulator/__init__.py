"""A small Uptime Kuma on a loopback socket, in either dialect, with the real one's traps. For the sandbox and the tests."""

import copy
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import socketio
from starlette.types import ASGIApp, Receive, Scope, Send

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer, Faults
from reconciler_uptime_kuma.emulator.auth import Auth
from reconciler_uptime_kuma.emulator.sockets import Knobs, Sockets
from reconciler_uptime_kuma.emulator.store import Store, seeded
from reconciler_uptime_kuma.emulator.web import application


class UptimeKumaEmulator:
    """One server.

    Seed: ``dialect`` (2.x or 1.23), ``username``, ``password``, ``two_factor``, ``auth`` (false: no login), ``monitors`` and
    ``notifications``. A seeded monitor is a row with its ``id``; columns left out have the database's defaults, and ``beats`` is its
    history. ``docker_hosts`` are names.
    """

    def __init__(self, seed: JSONObject | None = None) -> None:
        seed = seed or {}
        self.faults = Faults()
        self.knobs = Knobs()
        self.store: Store = seeded(seed)
        self.auth = Auth(
            username=str(seed.get("username", "admin")),
            password=str(seed.get("password", "emulator-password")),
            modern=self.store.dialect.modern,
            two_factor=bool(seed.get("two_factor", False)),
            enabled=bool(seed.get("auth", True)),
        )
        self._port = 0
        self._server: AppServer | None = None
        self._sockets: Sockets | None = None

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; everything stored is still there, and everybody must log in again."""
        self.store.labels = frozenset(self.store.tags)
        self._sockets = sockets = Sockets(self.store, self.auth, self.faults, self.knobs)
        pages = application(self.store, self.auth, sockets.show)
        self._server = AppServer(_prompt(socketio.ASGIApp(sockets.server, pages)), port=self._port)
        self._server.start()
        self._port = self._server.port

    def stop(self) -> None:
        """Close every socket."""
        if self._sockets is not None:
            self._sockets.kick()
        if self._server is not None:
            self._server.stop()
        self._server = self._sockets = None

    def settings(self) -> JSONObject:
        """Give the target configuration that leads the driver here."""
        return {"url": self.url, "username": self.auth.username, "password": self.auth.password} if self.auth.enabled else {"url": self.url}

    def summary(self) -> list[str]:
        """Say what is inside."""
        with self.store.lock:
            monitors = [f"{id} {row['name']}: {self._state(id)}" for id, row in sorted(self.store.monitors.items())]
        return [f"Uptime Kuma {self.store.dialect.name} at {self.url}, user {self.auth.username}", *monitors]

    def snapshot(self) -> dict[str, Any]:
        """Give a copy of everything: ``monitors``, ``notifications``, ``maintenances`` and ``pages`` by number, and ``beats``.

        A maintenance has ``monitors`` and ``pages`` as well, a page ``groups``.
        """
        store = self.store
        with store.lock:
            monitors = {int(id): row for id, row in store.views().items()}
            windows = {
                id: {**store.windows.view(id), "monitors": store.windows.monitors.get(id, []), "pages": store.windows.pages.get(id, [])}
                for id in sorted(store.windows.rows)
            }
            pages = {id: {**row, "groups": store.pages.groups[id]} for id, row in store.pages.rows.items()}
            seen = {"monitors": monitors, "notifications": store.notifications, "maintenances": windows, "pages": pages}
            return copy.deepcopy({**seen, "beats": store.beats})

    @property
    def check(self) -> Callable[[JSONObject], bool]:
        """Says whether what a monitor watches is up; when it is set, everything is checked at once."""
        return self.store.check

    @check.setter
    def check(self, up: Callable[[JSONObject], bool]) -> None:
        self.store.check = up
        if self._sockets is not None:
            self._sockets.check_all()

    def publish(self) -> None:
        """Push what is stored to every client, as after a change made in the web page."""
        if self._sockets is not None:
            self._sockets.publish()

    def kick(self) -> None:
        """Lose every connection, as a proxy does that is restarted."""
        if self._sockets is not None:
            self._sockets.kick()

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Have the limit on logins used up by others, right after a restart that made every token worthless."""
        self.auth.key += b"'"
        self.auth.exhaust()
        self.kick()
        try:
            yield
        finally:
            self.auth.relax()

    def _state(self, id: int) -> str:
        beats = self.store.beats.get(id)
        return {0: "down", 1: "up", 2: "pending", 3: "maintenance"}[beats[-1]["status"]] if beats else "not checked"


def _prompt(app: ASGIApp) -> ASGIApp:
    """Send small messages at once.

    A push and the answer behind it are two small writes, and the second would wait 40 ms for the client to acknowledge the first:
    asyncio does not see that the server's listening socket is one of TCP.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        if scope["type"] == "websocket" and transport is not None:
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await app(scope, receive, send)

    return serve

"""What the HTTP emulators share: a server on a loopback socket, a log of requests, and switches for faults.

An emulator may import this room; it knows none of them.
"""

import asyncio
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.resource import JSONObject

READS = frozenset({"GET", "HEAD", "OPTIONS", "LIST"})


class Emulator(Protocol):
    """A small, faithful server in the place of one system. Its class is called with a seed: what the system holds at first."""

    faults: "Faults"

    def start(self) -> None:
        """Listen on a free loopback port; returns when the server answers."""
        ...

    def stop(self) -> None:
        """Close every socket."""
        ...

    def settings(self) -> JSONObject:
        """Give the target configuration that leads the driver here, credentials of the emulator included."""
        ...

    def summary(self) -> list[str]:
        """Say, for a person, what is inside and how to look at it; one short line each."""
        ...


@dataclass(slots=True)
class Fault:
    """One fault in force.

    ``kind`` is rate-limit, server-error, html, latency, cut-before (not executed) or cut-after (executed, but no answer).
    """

    kind: str
    times: int = 1
    seconds: float = 1.0
    matches: Callable[[str, str], bool] = lambda method, path: True


@dataclass(slots=True)
class Faults:
    """The switches of one emulator and the log of what it was asked, newest last, as ``(method, path)``."""

    active: list[Fault] = field(default_factory=list)
    requests: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=100_000))

    def take(self, method: str, path: str) -> Fault | None:
        """Give the fault that hits this request, used up by one."""
        for fault in self.active:
            if fault.matches(method, path):
                fault.times -= 1
                if fault.times <= 0:
                    self.active.remove(fault)
                return fault
        return None

    @contextmanager
    def during(self, kind: str, *, times: int = 1_000_000, seconds: float = 1.0, writes_only: bool = False) -> Iterator[None]:
        """Have a fault in force inside a ``with`` block."""
        fault = Fault(kind, times, seconds, (lambda method, path: method not in READS) if writes_only else lambda method, path: True)
        self.active.append(fault)
        try:
            yield
        finally:
            if fault in self.active:
                self.active.remove(fault)

    @property
    def writes(self) -> int:
        """Count the requests so far that were not reads."""
        return sum(method not in READS for method, _ in self.requests)


class FaultMiddleware:
    """Log each request and play the fault that is due; ``render`` gives the system's own error answer: (status, headers, body)."""

    def __init__(self, app: ASGIApp, faults: Faults, render: Callable[[str], tuple[int, dict[str, str], bytes]]) -> None:
        """Wrap ``app``."""
        self.app, self.faults, self.render = app, faults, render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.faults.requests.append((scope["method"], scope["path"]))
        fault = self.faults.take(scope["method"], scope["path"])
        if fault is None or fault.kind == "latency":
            await asyncio.sleep(fault.seconds if fault else 0)
            await self.app(scope, receive, send)
        elif fault.kind in ("cut-before", "cut-after"):
            if fault.kind == "cut-after":
                await self.app(scope, receive, swallow)
            await cut(send)
        else:
            await answer(send, *self.render(fault.kind))


async def swallow(message: Message) -> None:
    """Take an answer and lose it."""


async def cut(send: Send) -> None:
    """Promise a body and close the connection without it."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4096")]})
    await send({"type": "http.response.body", "body": b"", "more_body": True})


async def answer(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    """Send a whole answer."""
    pairs = [(key.lower().encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": [*pairs, (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


class AppServer:
    """Runs one ASGI application in a thread on ``127.0.0.1``; the port stays the same over stop and start."""

    def __init__(self, app: ASGIApp | Callable[[MutableMapping[str, Any], Receive, Send], Any], *, port: int = 0) -> None:
        """Take the application; port 0 asks for a free one at the first start."""
        self.app, self.port = app, port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; return when requests are answered. Raises RuntimeError when that takes longer than 10 seconds."""
        # asyncio turns Nagle's delay off only on a socket that names its protocol
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self.port))
        except OSError:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(self.app, log_level="critical", access_log=False, timeout_graceful_shutdown=1, lifespan="off")
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name=f"emulator-{self.port}")
        self._thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise RuntimeError(f"the emulator on port {self.port} did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop answering and close the sockets."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=5)
        self._server = self._thread = None

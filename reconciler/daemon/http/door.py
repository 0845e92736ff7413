"""One listening address: an application on uvicorn in a thread of its own, with a clean end. Knows no route."""

import asyncio
import logging
import os
import socket
from threading import Thread

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from reconciler.daemon.http.config import split_address
from reconciler.errors import ReconcilerError

log = logging.getLogger("reconciler.http")
logging.getLogger("uvicorn").setLevel(logging.ERROR)  # a stranger who sends nonsense must not fill the log
HEADER_SECONDS = 10.0
GRACE = 2
CONNECTIONS = 200
"""At most so many at once; the next ones are told 503, so that a flood costs no memory."""


class Patient(H11Protocol):
    """Cuts a connection on which a request's headers drip in too slowly; uvicorn alone would wait for ever."""

    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn itself narrows it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await()

    def data_received(self, data: bytes) -> None:
        """Take what came; a request whose headers are complete is the application's to time."""
        self._await()
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete and self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def _await(self) -> None:
        busy = self.cycle is not None and not self.cycle.response_complete
        if self._cut is None and not busy:
            self._cut = self.loop.call_later(HEADER_SECONDS, self.transport.close)


class Door:
    """Serves ``app`` on ``address`` from ``open`` to ``close``. Port 0 takes any free one; ``url`` says which."""

    def __init__(self, name: str, address: str, app: ASGIApp) -> None:
        """Keep what is to be served; nothing listens yet."""
        self.app = app
        self._name, self._address = name, split_address(address)
        self._config = uvicorn.Config(
            app,
            http=Patient,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # whom to believe about addresses changes with the application
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE,
        )
        self._server = uvicorn.Server(self._config)
        self._socket: socket.socket | None = None
        self.thread = Thread(target=self._serve, name=f"http-{name}", daemon=True)

    @property
    def url(self) -> str:
        """The address that it really listens on."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def open(self) -> None:
        """Listen. Raises ReconcilerError when the address cannot be had."""
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=512)
        except OSError as error:
            text = os.strerror(error.errno) if error.errno else str(error)
            raise ReconcilerError(f"http: cannot listen on {host}:{port}: {text.lower()}; set another address in http") from None
        self.thread.start()
        log.info("%s listens on %s", self._name, self.url)

    def _serve(self) -> None:
        assert self._socket is not None
        self._server.run(sockets=[self._socket])

    def close(self) -> None:
        """Answer what is under way, for two seconds at most, and let go of the address."""
        self._server.should_exit = True
        if self.thread.ident is not None:
            self.thread.join(timeout=GRACE + 3)
        if self._socket is not None:
            self._socket.close()

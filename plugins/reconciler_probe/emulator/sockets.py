"""Threaded servers on a free loopback port."""

import socketserver
import threading
from collections.abc import Callable
from typing import Any


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads, block_on_close, allow_reuse_address = True, False, True
    request_queue_size = 128  # with the five of the standard library, many clients at once wait for seconds

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is what tests are about."""


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads, block_on_close = True, False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that goes away is what tests are about."""


class Listener:
    """One socket server with its thread; the port stays the same over stop and start."""

    def __init__(self, handle: Callable[[Any], None], *, datagrams: bool = False) -> None:
        """Take what to do with a connection, or for datagrams with bytes, socket and address; nothing is bound yet."""

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                handle((*self.request, self.client_address) if datagrams else self.request)

        self._kind, self._handler, self.port = (_Udp if datagrams else _Tcp), Handler, 0
        self._server: _Udp | _Tcp | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind to ``port``, a free one at first, and answer from now on."""
        self._server = server = self._kind(("127.0.0.1", self.port), self._handler)
        self.port = server.server_address[1]
        self._thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True, name=f"emulator-{self.port}")
        self._thread.start()

    def stop(self) -> None:
        """Stop and close the socket."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._server = self._thread = None

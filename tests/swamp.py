"""A stretch of bad network between a driver and its system: what is sent into it is never answered, or answered a byte at a time."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

HEAD = re.compile(rb"^([A-Z]+) (/[^ ?]*)[^ ]* HTTP/1\.[01]\r\n")
ID = re.compile("[0-9a-f]{32}")
DRIP = 0.02
"""Seconds between two bytes; any time that is shorter than a client's own patience between two bytes shows the same."""


@dataclass(slots=True)
class Swamp:
    """Forwards connections to a port of loopback until something in it is swallowed.

    ``endpoints`` are the HTTP requests so far, each once and without the ids that a system makes up; ``answers`` counts the pieces that
    came back. From the request ``swallow`` on, or from so many answers on (``after``), a connection is dead without being closed; with
    ``drip`` a byte comes now and then.
    """

    to: int
    swallow: tuple[str, str] | None = None
    after: int | None = None
    drip: bool = False
    endpoints: dict[tuple[str, str], None] = field(default_factory=dict)
    answers: int = 0
    swallowed: threading.Event = field(default_factory=threading.Event)
    healed: threading.Event = field(default_factory=threading.Event)
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        """The port to be dialled instead."""
        return int(self._listener.getsockname()[1])

    def heal(self) -> None:
        """Cut what is dead, and forward everything from now on."""
        self.healed.set()
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Accept until the listener is closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.to))
            self._open += [client, server]
            dead = threading.Event()
            pair = [threading.Thread(target=work, args=(client, server, dead), daemon=True) for work in (self._ask, self._answer)]
            self._threads += pair
            for thread in pair:
                thread.start()

    def close(self) -> None:
        """End everything."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.heal()
        for thread in self._threads:
            thread.join(5)
        for one in self._open:
            one.close()

    def _ask(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                head = HEAD.match(data)
                if head is not None:
                    endpoint = head[1].decode(), ID.sub("*", head[2].decode())
                    self.endpoints.setdefault(endpoint)
                    if endpoint == self.swallow and not self.healed.is_set():
                        dead.set()
                        self.swallowed.set()
                        self._dribble(client)
                if not dead.is_set():
                    server.sendall(data)
        for one in (client, server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _dribble(self, client: socket.socket) -> None:
        if self.drip:
            client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.healed.wait(DRIP):
                client.sendall(b".")

    def _answer(self, client: socket.socket, server: socket.socket, dead: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self.after is not None and self.answers >= self.after and not self.healed.is_set():
                    dead.set()
                    self.swallowed.set()
                if not dead.is_set():
                    self.answers += 1
                    client.sendall(data)
        if not dead.is_set():
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


@contextmanager
def swamp(to: int, **how: object) -> Iterator[Swamp]:
    """Have a swamp before a port."""
    made = Swamp(to, **how)  # type: ignore[arg-type]  # the keywords of the class
    threading.Thread(target=made.serve, daemon=True).start()
    try:
        yield made
    finally:
        made.close()

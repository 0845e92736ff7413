"""A door of the mail host: takes a PROXY header where one is demanded, ends TLS where TLS comes first, and leads to the service.

What it does to a client without the header is what was measured: SMTP says 421 after a while, all else is cut.
"""

import contextlib
import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass

from reconciler.sandbox.server import Faults
from reconciler_probe.emulator.sockets import Listener
from reconciler_probe.proxy import SIGNATURE

TURNED_AWAY = b"421 4.3.2 No system resources\r\n"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a door is like; ``tls`` is the server's side of it where it comes first, ``refusal`` in seconds."""

    name: str
    service: str
    inner: int
    tls: ssl.SSLContext | None
    proxy: bool
    refusal: float


class Door(Listener):
    """One listening port. ``clients`` holds the addresses that PROXY headers named, oldest first.

    ``lenient`` makes a door that wants the header serve clients without it, too, as a misconfigured one does.
    """

    def __init__(self, shape: Shape, faults: Faults) -> None:
        """Take the shape; nothing is bound yet."""
        self.shape, self.faults = shape, faults
        self.clients: list[str] = []
        self.lenient = False
        super().__init__(self._serve)

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._admit(raw)

    def _admit(self, raw: socket.socket) -> None:
        fault = self.faults.take("GET", self.shape.name)
        self.faults.requests.append(("GET", self.shape.name))
        if fault is not None and fault.kind == "latency":
            time.sleep(fault.seconds)
        elif fault is not None:
            self._fail(raw, fault.kind)
            return
        if self.shape.proxy and not self._introduced(raw) and not self.lenient:
            self._turn_away(raw)
            return
        with self.shape.tls.wrap_socket(raw, server_side=True) if self.shape.tls else raw as client:
            relay(client, self.shape.inner)

    def _fail(self, raw: socket.socket, kind: str) -> None:
        """Answer as a host in trouble does; a cut connection says nothing at all."""
        if kind in ("server-error", "rate-limit") and self.shape.service in ("smtp", "submission") and self.shape.tls is None:
            raw.sendall(TURNED_AWAY)

    def _introduced(self, raw: socket.socket) -> bool:
        """Read exactly the header, so that what follows it, TLS perhaps, is left in the socket."""
        raw.settimeout(self.shape.refusal)
        try:
            head = exactly(raw, 16)
            (length,) = struct.unpack("!H", head[14:])
            body = exactly(raw, length)
        except (OSError, EOFError):
            return False
        finally:
            raw.settimeout(None)
        if head[:12] != SIGNATURE or head[12] != 0x21:
            return False
        family = socket.AF_INET if head[13] == 0x11 else socket.AF_INET6
        self.clients.append(socket.inet_ntop(family, body[: 4 if family == socket.AF_INET else 16]))
        return True

    def _turn_away(self, raw: socket.socket) -> None:
        if self.shape.service in ("smtp", "submission") and self.shape.tls is None:
            raw.sendall(TURNED_AWAY)


def exactly(raw: socket.socket, size: int) -> bytes:
    """Read ``size`` bytes. Raises EOFError when the other side stops before."""
    data = b""
    while len(data) < size:
        piece = raw.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def relay(client: socket.socket, port: int) -> None:
    """Carry bytes both ways between a client and a service until one of them stops, and tell both that there are no more.

    One thread does both ways: a TLS connection must not be read by one thread while another writes to it or ends it.
    """
    with socket.create_connection(("127.0.0.1", port), 5) as service, contextlib.suppress(OSError, ValueError):
        client.setblocking(False)
        service.setblocking(False)
        owed = {client: b"", service: b""}
        while True:
            _wait(owed)
            for end in (service, client):
                owed[end] = _pushed(end, owed[end])
            for end, other in ((client, service), (service, client)):
                piece = b"" if owed[other] else _pulled(end)
                if piece is None:
                    _finish(owed)
                    return
                owed[other] += piece


def _wait(owed: dict[socket.socket, bytes]) -> None:
    """Sleep until one can give or take something. Bytes that TLS has already opened are no event of the socket."""
    client, service = owed
    poll, ready = select.poll(), False
    for end, other in ((client, service), (service, client)):
        poll.register(end, (0 if owed[other] else select.POLLIN) | (select.POLLOUT if owed[end] else 0))
        ready |= isinstance(end, ssl.SSLSocket) and end.pending() > 0 and not owed[other]
    poll.poll(0 if ready else None)


def _pulled(end: socket.socket) -> bytes | None:
    """Read what is there; None when there will be no more."""
    try:
        return end.recv(65536) or None
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return b""
    except OSError:
        return None


def _pushed(end: socket.socket, data: bytes) -> bytes:
    """Write what can be written now; give what is left."""
    try:
        return data[end.send(data) :] if data else data
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return data


def _finish(owed: dict[socket.socket, bytes]) -> None:
    """Give both sides what was said before the end, and the end."""
    for end, left in owed.items():
        with contextlib.suppress(OSError, ValueError):
            end.settimeout(5)
            end.sendall(left)
            end.shutdown(socket.SHUT_RDWR)

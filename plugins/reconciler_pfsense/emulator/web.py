"""The emulated firewall's web GUI, as much of it as a program uses: ``/xmlrpc.php`` over TLS, with a certificate that it signed itself.

Contract: XML-RPC of pfSense 2.7.2 and 2.8. Whoever is not let in gets a fault by HTTP 200; calls are served one at a time; a program's
result that PHP takes for false comes back as true.
"""

import base64
import ipaddress
import ssl
import tempfile
import threading
import xmlrpc.client
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, socket
from typing import Any, Protocol
from xml.parsers.expat import ExpatError

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler_pfsense.emulator.firewall import Cut

USERS = {"admin": True, "viewer": False}
"""The accounts, each with whether it may use XML-RPC; both have the password of the factory."""


class Machine(Protocol):
    """What stands behind the door."""

    accepts_logins: bool

    def run(self, program: str) -> tuple[str, int]:
        """Run a program; raises Cut."""
        ...


class WebDoor:
    """Serves ``/xmlrpc.php`` on a loopback port, which stays the same over stop and start."""

    def __init__(self, machine: Machine, password: str = "pfsense") -> None:  # noqa: S107 - the factory default of the real system
        """Make the certificate; nothing listens yet."""
        self.machine, self.password = machine, password
        self.port = 0
        self.calls = threading.Lock()
        self.certificate, self._key = _certificate()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen."""
        door = self

        class Handler(_Handler):
            """Serves this door."""

            at = door

        server = _Server(("127.0.0.1", self.port), Handler)
        server.context = _context(self.certificate, self._key)
        self.port = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True, name="emulator-pfsense-web"
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the socket."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
        self._server = self._thread = None

    def change_certificate(self) -> None:
        """Come back with another certificate, as a reinstalled or an impersonated firewall would."""
        self.stop()
        self.certificate, self._key = _certificate()
        self.start()

    def answer(self, login: str, body: bytes) -> bytes:
        """Answer one call. Raises Cut when the connection ends without an answer, ValueError when PHP died of the program."""
        method = "?"
        try:
            arguments, method = xmlrpc.client.loads(body)  # type: ignore[assignment]
            return xmlrpc.client.dumps((self._call(login, method, arguments),), methodresponse=True).encode()
        except (ExpatError, xmlrpc.client.ResponseError):
            return xmlrpc.client.dumps(xmlrpc.client.Fault(-32700, "server error. parse error")).encode()
        except xmlrpc.client.Fault as fault:
            return xmlrpc.client.dumps(fault).encode()

    def _call(self, login: str, method: str, arguments: tuple[Any, ...]) -> Any:
        name, _, password = base64.b64decode(login.removeprefix("Basic ")).decode("utf-8", "replace").partition(":")
        if not self.machine.accepts_logins or name not in USERS or password != self.password:
            raise xmlrpc.client.Fault(-1, "Authentication failed: Invalid username or password")
        if not USERS[name]:
            raise xmlrpc.client.Fault(-2, "Authentication failed: not enough privileges")
        with self.calls:
            match method:
                case "pfsense.host_firmware_version":
                    return {"firmware": {"version": "2.8.0-RELEASE"}, "kernel": {"version": "15.0"}, "config_version": "23.9"}
                case "pfsense.exec_php":
                    return self._php(str(arguments[0]))
        raise xmlrpc.client.Fault(-32601, f"server error. requested method {method} does not exist.")

    def _php(self, code: str) -> Any:
        output, status = self.machine.run(code)
        if status:
            raise ValueError(output)
        return {"answer": output} if output else True


class _Server(ThreadingHTTPServer):
    """Speaks TLS in the thread of each connection, so that a silent client holds up nobody."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # with the five of the standard library, many clients at once wait for seconds
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Begin TLS, then serve."""
        request.settimeout(30)
        with suppress(OSError), self.context.wrap_socket(request, server_side=True) as sealed:
            super().finish_request(sealed, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    at: WebDoor
    connection: socket

    def do_POST(self) -> None:
        """Answer a call, or an error page."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/xmlrpc.php":
            self._send(404, b"<html><h1>404 Not Found</h1></html>", "text/html")
            return
        try:
            self._send(200, self.at.answer(self.headers.get("Authorization", ""), body), "text/xml")
        except ValueError as died:
            self._send(500, str(died).encode(), "text/html")
        except Cut:
            with suppress(OSError):
                self.connection.shutdown(SHUT_RDWR)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _certificate() -> tuple[str, str]:
    """Make a certificate for the loopback address and its key, both as PEM."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pfSense-6543210fedcba")])
    names = [x509.DNSName("pfSense-6543210fedcba"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(398))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def _context(certificate: str, key: str) -> ssl.SSLContext:
    """Give the server's side of TLS; the library takes keys from files only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        both = Path(folder, "both.pem")
        both.touch(0o600)
        both.write_text(certificate + key)
        context.load_cert_chain(both)
    return context

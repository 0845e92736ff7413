"""pfSense's own XML-RPC, used as a plain function: a program goes in, its output comes out.

Every call has a connection of its own, so that none is ever sent twice: whether an execution began is never guessed. Contract:
``/xmlrpc.php`` of pfSense 2.7.2 and 2.8, method ``pfsense.exec_php``, which gives back what the program leaves in ``$toreturn``.
"""

import base64
import http.client
import socket
import ssl
import threading
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from xml.parsers.expat import ExpatError

from reconciler.errors import Permanent, Transient
from reconciler.resource import JSONObject, SecretValue
from reconciler_pfsense.agent import Program, read_answer
from reconciler_pfsense.config import Config

LIMIT = 64 * 1024 * 1024
"""Bytes of an answer that are read at most."""
UNKNOWN = "whether anything was done is not known"
FAULTS = {
    -1: "the login was refused; check username and password",
    -2: "the account may not use XML-RPC; give it the privilege system-xmlrpc-ha-sync",
}
STATUSES = {
    401: FAULTS[-1],
    403: "the web GUI refuses this address; see its access list and login protection",
    404: "there is no /xmlrpc.php; check host and port of the web GUI",
}


class XmlRpcClient:
    """Runs programs on one firewall; never repeats one."""

    def __init__(self, config: Config) -> None:
        """Take the target's settings; nothing is opened yet."""
        self.config = config
        self.target = f"{config.host}:{config.port}"

    def run(self, program: Program) -> JSONObject:
        """Execute ``program`` once. Raises Transient, Conflict or Permanent."""
        request = xmlrpc.client.dumps((program.code,), "pfsense.exec_php").encode()
        with _translated(self.target):
            status, body = self._post(request)
        return read_answer(self.target, program, self._output(status, body), status, way="HTTP")

    def close(self) -> None:
        """Nothing stays open."""

    # -- http --------------------------------------------------------------------------------------------------------------------

    def _post(self, body: bytes) -> tuple[int, bytes]:
        """Send one request and read its answer, connecting and TLS included, within the time of the settings.

        Timeouts of sockets start anew with each byte, so a firewall that drips would otherwise hold a pass for ever.
        """
        context, late, end = self._context(), threading.Event(), time.monotonic() + self.config.timeout
        with socket.create_connection((self.config.host, self.config.port), timeout=self.config.timeout) as plain, plain.dup() as guard:
            timer = threading.Timer(end - time.monotonic(), _cut, [guard, late])
            timer.daemon = True
            timer.start()
            try:
                return self._exchange(plain, context, body)
            except (OSError, http.client.HTTPException):
                if late.is_set():
                    raise TimeoutError from None
                raise
            finally:
                timer.cancel()
                timer.join()

    def _exchange(self, plain: socket.socket, context: ssl.SSLContext, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.config.host, self.config.port)
        connection.sock = context.wrap_socket(plain, server_hostname=self.config.server_name or self.config.host)
        try:
            connection.request("POST", "/xmlrpc.php", body, {"Content-Type": "text/xml", "Authorization": self._login()})
            answer = connection.getresponse()
            return answer.status, answer.read(LIMIT)
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        """Trust the certificate of the settings and no other, or, where none is given, the system's authorities."""
        given = self.config.certificate
        text = Path(given).read_text("utf-8") if given.startswith("/") else given
        try:
            return ssl.create_default_context(cadata=text or None)
        except (ssl.SSLError, ValueError):
            raise Permanent(f"{self.target}: certificate is no certificate in PEM form") from None

    def _password(self) -> str:
        return self.config.password.get_secret_value() if self.config.password else ""

    def _login(self) -> str:
        return "Basic " + base64.b64encode(f"{self.config.username}:{self._password()}".encode()).decode()

    def _masked(self, text: str) -> str:
        """Give the words of a server, or of a proxy before it, without what we showed to them."""
        for secret in (self._login().partition(" ")[2], self._password()):
            text = SecretValue(secret).out_of(text)
        return text

    # -- answers -----------------------------------------------------------------------------------------------------------------

    def _output(self, status: int, body: bytes) -> str:
        """Give what the program returned, or, when the answer is none of XML-RPC, its text: PHP prints its errors there."""
        if status in STATUSES:
            raise Permanent(f"{self.target}: {STATUSES[status]}")
        if 300 <= status < 400:
            raise Permanent(f"{self.target}: answers with a redirect (HTTP {status}); check host and port of the web GUI")
        text = body.decode("utf-8", "replace")
        try:
            (value,), _ = xmlrpc.client.loads(text[max(text.find("<?xml"), 0) :])  # what was printed before is not the answer
        except xmlrpc.client.Fault as fault:
            raise self._fault(fault) from None
        except (ExpatError, xmlrpc.client.Error, ValueError, LookupError, TypeError):
            return self._masked(text)
        return str(value["answer"]) if isinstance(value, dict) and "answer" in value else ""

    def _fault(self, fault: xmlrpc.client.Fault) -> Permanent:
        said = self._masked(" ".join(str(fault.faultString).split()))[:200]
        words = FAULTS.get(fault.faultCode) or f"XML-RPC fault {fault.faultCode}: {said}"
        return Permanent(f"{self.target}: {words}")


def _cut(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def _translated(target: str) -> Iterator[None]:
    """Turn what the network and TLS raise into Transient or Permanent. Messages name the target and no credential."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        words = error.verify_message
        raise Permanent(f"{target}: the certificate is not the right one: {words}; compare it with that of the web GUI") from None
    except (FileNotFoundError, PermissionError) as error:
        raise Permanent(f"{target}: {error.filename} cannot be read: {error.strerror}") from None
    except TimeoutError:
        raise Transient(f"{target}: no answer in time; {UNKNOWN}") from None
    except ssl.SSLError as error:
        raise Transient(f"{target}: no TLS connection: {error.reason or 'it was cut'}") from None
    except (OSError, http.client.HTTPException) as error:
        words = getattr(error, "strerror", None) or type(error).__name__
        raise Transient(f"{target}: the connection failed: {words}; {UNKNOWN}") from None

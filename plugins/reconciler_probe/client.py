"""How a check reaches the world: sockets, TLS, DNS questions and HTTP requests, each with a deadline for the whole.

The only importer of dnspython, httpx and cryptography here. Foreign exceptions become ``CheckFailed`` in one place, ``judged``.
"""

import errno
import imaplib
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal, TypeAlias

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import httpx
from cryptography import x509

from reconciler.driver import Level
from reconciler.errors import SettingsError
from reconciler_probe.config import ProbeConfig, split_address
from reconciler_probe.proxy import header
from reconciler_probe.values import dns_value

BODY_LIMIT = 1024 * 1024
PROXY_PORT = 45678
"""The client port that a PROXY header names; any will do."""

Reason: TypeAlias = Literal["refused", "cut", "silent", "wrong", "unknowable"]


class CheckFailed(Exception):
    """A check did not find what it expects. ``reason``: refused, cut, silent (no answer in time), wrong, or unknowable from here.

    ``untried`` is true where it ended before anything but a greeting was said, so that asking again at once does no harm.
    """

    untried = False

    def __init__(self, message: str, reason: Reason = "wrong") -> None:
        """Keep the sentence for people and the reason for the check."""
        self.reason = reason
        self.level = Level.UNKNOWN if reason == "unknowable" else Level.DEGRADED
        super().__init__(message)


class Deadline:
    """The moment by which a whole check must be done."""

    def __init__(self, seconds: float) -> None:
        """Begin now."""
        self.seconds, self._end = seconds, time.monotonic() + seconds

    @property
    def expired(self) -> bool:
        """True when the moment has come."""
        return time.monotonic() >= self._end

    def left(self) -> float:
        """Give the seconds left. Raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


@contextmanager
def judged(where: str, deadline: Deadline) -> Iterator[None]:
    """Turn whatever goes wrong with ``where`` into CheckFailed; once the deadline is over, that is the reason."""
    try:
        yield
    except (OSError, smtplib.SMTPException, imaplib.IMAP4.error, httpx.HTTPError, EOFError) as error:
        reason = TimeoutError() if deadline.expired else error
        raise failure(where, reason, deadline.seconds) from None


@contextmanager
def opening(where: str, deadline: Deadline) -> Iterator[None]:
    """The same while a connection is opened: who refuses or hangs up now has heard no login and taken no message."""
    try:
        with judged(where, deadline):
            yield
    except CheckFailed as error:
        error.untried = error.reason in ("refused", "cut")
        raise


def failure(where: str, error: BaseException, seconds: float) -> CheckFailed:  # noqa: C901 - a table of exceptions, one line each
    """Say in a sentence what an exception means. Texts of servers are left out where they might repeat a login."""
    if isinstance(error, httpx.HTTPError):
        error = root(error)
    match error:
        case ssl.SSLCertVerificationError():
            return CheckFailed(f"{where} shows a certificate that is not right: {error.verify_message}")
        case ssl.SSLError():
            return CheckFailed(f"{where} does not speak TLS as expected: {error.reason or 'the connection was cut'}", "cut")
        case TimeoutError() | httpx.TimeoutException():
            return CheckFailed(f"{where} did not answer within {seconds:g} s", "silent")
        case ConnectionRefusedError():
            return CheckFailed(f"{where} refused the connection", "refused")
        case ConnectionError() | EOFError() | smtplib.SMTPServerDisconnected() | imaplib.IMAP4.abort():
            return CheckFailed(f"{where} cut the connection", "cut")
        case socket.gaierror() if error.errno == socket.EAI_AGAIN:
            return CheckFailed(f"{where}: the name cannot be looked up at the moment", "unknowable")
        case socket.gaierror():
            return CheckFailed(f"{where}: the name does not resolve")
        case OSError() if error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL):
            return CheckFailed(f"{where} cannot be reached from here: {error.strerror}", "unknowable")
        case OSError():
            return CheckFailed(f"{where}: {error.strerror or type(error).__name__}")
    return CheckFailed(f"{where} answered against the protocol: {type(error).__name__}")


def root(error: BaseException) -> BaseException:
    """Give the socket's own error behind one of httpx, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause or error


def readable(text: bytes | str) -> str:
    """Give a server's words on one line, at most 200 characters."""
    plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join("".join(sign if sign.isprintable() else " " for sign in plain).split())[:200]


class Network:
    """The world as seen through the settings of one target."""

    def __init__(self, config: ProbeConfig) -> None:
        """Take the settings; nothing is opened yet."""
        self.config = config

    def dialled(self, host: str, port: int) -> tuple[str, int]:
        """Give the address really connected to."""
        written = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return split_address(self.config.connect_to.get(written, written))

    def asked(self, resolver: str) -> tuple[str, int]:
        """Give the resolver really asked."""
        host, port = split_address(resolver, 53)
        written = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        found = next((self.config.resolve_at[key] for key in (resolver, host, written) if key in self.config.resolve_at), resolver)
        return split_address(found, 53)

    def deadline(self, seconds: float) -> Deadline:
        """Begin a check that may take ``seconds``, and no longer than the target allows."""
        return Deadline(min(seconds, self.config.timeout))

    @contextmanager
    def connect(self, host: str, port: int, deadline: Deadline, *, source: str = "") -> Iterator[socket.socket]:
        """Open a connection, with a PROXY header first when ``source`` is given; the deadline cuts it whatever happens.

        Timeouts of sockets start anew with each byte, so a server that drips would otherwise hold a check for ever.
        """
        with dial(*self.dialled(host, port), deadline) as raw, raw.dup() as guard:
            timer = threading.Timer(deadline.left(), _cut, [guard])
            timer.daemon = True
            timer.start()
            try:
                if source:
                    raw.sendall(header(source, PROXY_PORT, raw.getpeername()[0], port))
                yield raw
            finally:
                timer.cancel()
                timer.join()

    def tls(self, *, verify: bool) -> ssl.SSLContext:
        """Give the client's side of TLS. Without ``verify`` any certificate is taken, so that its dates can be read."""
        return self._verifying if verify else self._trusting

    @cached_property
    def _verifying(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self.config.ca_file:
            try:
                context.load_verify_locations(self.config.ca_file)
            except OSError as error:
                raise SettingsError(f"probe: ca_file {self.config.ca_file} cannot be used: {error.strerror}; give a PEM file") from None
        return context

    @cached_property
    def _trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def resolve(self, name: str, type: str, resolver: str, deadline: Deadline) -> frozenset[str]:
        """Ask one resolver and give the whole set of values, empty when it says that there is none.

        Raises CheckFailed (unknowable) when it gives no usable answer. Asked twice, because datagrams get lost.
        """
        address, port = self.asked(resolver)
        query = dns.message.make_query(dns.name.from_text(name), type, use_edns=0, payload=1232)
        try:
            answer = _ask(query, address, port, deadline)
            found = answer.resolve_chaining().answer
        except (dns.exception.DNSException, OSError) as error:
            silent = isinstance(error, dns.exception.Timeout | TimeoutError)
            why = f"did not answer within {deadline.seconds:g} s" if silent else f"gave no usable answer ({type_name(error)})"
            raise CheckFailed(f"{resolver} {why}", "unknowable") from None
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise CheckFailed(f"{resolver} answered {dns.rcode.to_text(answer.rcode())}", "unknowable")
        return frozenset(_value(type, one) for one in found or ())

    def get(self, url: str, deadline: Deadline) -> tuple[int, str]:
        """Fetch a page: its status and the first MiB of its text. Redirects are not followed, proxies of the environment not used."""
        asked = httpx.URL(url)
        host, port = self.dialled(asked.host, asked.port or (443 if asked.scheme == "https" else 80))
        with (
            httpx.Client(verify=self._verifying, trust_env=False, timeout=deadline.left()) as client,
            client.stream(
                "GET",
                asked.copy_with(host=host, port=port),
                headers={"Host": asked.netloc.decode()},
                extensions={"sni_hostname": asked.host},
            ) as response,
        ):
            body = b""
            for piece in response.iter_bytes():
                deadline.left()
                body += piece
                if len(body) >= BODY_LIMIT:
                    break
            return response.status_code, body[:BODY_LIMIT].decode(response.encoding or "utf-8", "replace")


def type_name(error: BaseException) -> str:
    """Give the name of an exception's type in words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()


def dial(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Connect to the first address of a host that answers; each gets its share of the time that is left."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for left, (*_, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        try:
            return socket.create_connection((str(address[0]), port), deadline.left() / left)
        except OSError:
            if left == 1:
                raise
    raise OSError(f"{host} has no address")


def _cut(guard: socket.socket) -> None:
    with suppress(OSError):
        guard.shutdown(socket.SHUT_RDWR)


def _ask(query: dns.message.Message, address: str, port: int, deadline: Deadline) -> dns.message.QueryMessage:
    half = deadline.left() / 2
    try:
        answer, _ = dns.query.udp_with_fallback(query, address, half, port)
    except dns.exception.Timeout:
        answer, _ = dns.query.udp_with_fallback(query, address, deadline.left(), port)
    assert isinstance(answer, dns.message.QueryMessage)
    return answer


def _value(type: str, rdata: object) -> str:
    strings = getattr(rdata, "strings", None)
    if type == "TXT" and strings is not None:
        return b"".join(strings).decode("utf-8", "backslashreplace")
    return dns_value(type, str(rdata))


def certificate_end(sock: socket.socket) -> datetime:
    """Give the moment (aware) at which the certificate of a TLS connection ends."""
    assert isinstance(sock, ssl.SSLSocket)
    der = sock.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).not_valid_after_utc.astimezone(UTC)

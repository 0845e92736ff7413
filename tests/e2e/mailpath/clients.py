"""People and programs outside: real SMTP and IMAP clients, each with an address of its own, and strangers who speak raw bytes."""

import imaplib
import itertools
import smtplib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage

from reconciler.sandbox.wires import Address, proxy_header
from tests.e2e.mailpath.hops import NETWORK, WAN, outside

LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
"""A PROXY header, version 2, of a connection without a client (haproxy.org, proxy-protocol.txt, 2.2)."""


def letter(recipient: str, subject: str, sender: str = "friend@elsewhere.example") -> EmailMessage:
    """Write a letter."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, recipient, subject
    message.set_content("Hello\n")
    return message


def send(message: EmailMessage, client: str) -> None:
    """Send a letter to the WAN address from ``client``, as a stranger's server does."""
    with smtplib.SMTP(WAN, 25, "client.example", 20, (client, 0)) as server:
        server.send_message(message)


def submit(message: EmailMessage, client: str, port: int, tls: ssl.SSLContext, name: str, login: tuple[str, str]) -> None:
    """Send a letter as a person does: over TLS, from the start on port 465, and with a login; the certificate must be for ``name``."""

    class FromHere(smtplib.SMTP):
        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            plain = socket.create_connection((WAN, port), timeout, (client, 0))
            return tls.wrap_socket(plain, server_hostname=name) if port == 465 else plain

    with FromHere(name, port, "client.example", 20) as server:
        if port != 465:
            server.starttls(context=tls)
        server.login(*login)
        server.send_message(message)


@contextmanager
def mailbox(client: str, tls: ssl.SSLContext, name: str, login: tuple[str, str]) -> Iterator[imaplib.IMAP4]:
    """Open a mailbox over TLS at the WAN address; the certificate must be for ``name``."""

    class FromHere(imaplib.IMAP4_SSL):
        def _create_socket(self, timeout: float | None) -> socket.socket:
            plain = socket.create_connection((WAN, 993), timeout, (client, 0))
            return tls.wrap_socket(plain, server_hostname=name)

    opened = FromHere(name, 993, timeout=20)
    try:
        opened.login(*login)
        opened.select("INBOX")
        yield opened
    finally:
        opened.logout()


def subjects(opened: imaplib.IMAP4, *wanted: str, patience: float = 8) -> set[str]:
    """List the subjects in an opened mailbox, as soon as the wanted ones are there or patience ends."""
    end, found = time.monotonic() + patience, set[str]()
    while not found.issuperset(wanted) or not found:
        opened.noop()
        _, numbers = opened.search(None, "ALL")
        if numbers[0]:
            _, answer = opened.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
            found = {one[1].decode().partition(":")[2].strip() for one in answer if isinstance(one, tuple)}
        if time.monotonic() > end:
            break
        time.sleep(0.05)
    return found


def say(address: Address, *words: bytes, client: str = outside(200), patience: float = 9) -> bytes:
    """Speak raw bytes, one more after each answer, and give all that was heard before the other side hung up or said nothing more."""
    heard = b""
    with socket.create_connection(address, patience, (client, 0)) as stranger:
        try:
            for number, word in enumerate(words):
                stranger.sendall(word)
                if number:
                    heard += stranger.recv(4096)
                elif len(words) > 1:
                    heard += _banner(stranger)
            while len(words) < 2 and (more := stranger.recv(4096)):
                heard += more
        except ConnectionError:
            heard += b"(reset)"
        except TimeoutError:
            heard += b"(silence)"
    return heard


def _banner(stranger: socket.socket) -> bytes:
    """Read until the greeting is complete: postscreen sends a first line, waits, and sends the last."""
    heard = b""
    while not any(line.startswith(b"220 ") for line in heard.splitlines()) or not heard.endswith(b"\n"):
        if not (more := stranger.recv(4096)):
            break
        heard += more
    return heard


def forged(claimed: str) -> bytes:
    """Build a PROXY header that claims another client."""
    return proxy_header((claimed, 40000), ("10.0.20.1", 25))


def check(address: Address, header: bytes = b"") -> None:
    """Do what a firewall's HAProxy does to check a server: connect, say what it must, and hang up at once with a reset.

    HAProxy on FreeBSD completes the handshake first; on Linux it answers the SYN-ACK with the reset already, and no server notices.
    """
    with socket.create_connection(address, 5, (outside(201), 0)) as checking:
        checking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        checking.sendall(header)


class Flow:
    """Many strangers' servers that send all the time; each tries again until its letter is taken (RFC 5321, 4.5.4)."""

    def __init__(self, recipient: str, senders: int = 16, series: int = 100) -> None:
        """``senders`` servers work side by side; each letter comes from an address of its own, from the network ``series`` on."""
        self.recipient, self.series = recipient, series
        self.sent: dict[str, str] = {}
        self.retries = 0
        self.given_up: list[str] = []
        self._numbers = itertools.count()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True, name=f"sender-{one}") for one in range(senders)]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def more(self, letters: int, patience: float = 20) -> None:
        """Return when so many more letters were taken."""
        goal, end = len(self.sent) + letters, time.monotonic() + patience
        while len(self.sent) < goal:
            assert time.monotonic() < end, f"only {len(self.sent)} of {goal} letters were taken; given up: {self.given_up}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Begin no more letters, and return when each that was begun was taken or given up."""
        self._end.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _work(self) -> None:
        while not self._end.is_set():
            number = next(self._numbers)
            subject, client = f"flow-{self.series}-{number}", f"{NETWORK}.{self.series + number // 250}.{1 + number % 250}"
            if self._deliver(letter(self.recipient, subject), client):
                self.sent[subject] = client
            else:
                self.given_up.append(subject)

    def _deliver(self, message: EmailMessage, client: str) -> bool:
        for _ in range(40):
            try:
                send(message, client)
            except (OSError, smtplib.SMTPException):
                self.retries += 1
                time.sleep(0.3)
            else:
                return True
        return False

"""pfSense by XML-RPC, where something else answers than the firewall: pages, redirects, noise, silence, half of an answer."""

import socket
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from reconciler.errors import DriverError, Permanent, Transient
from reconciler_pfsense.agent import Program
from reconciler_pfsense.config import Config
from reconciler_pfsense.emulator.web import _certificate, _context
from reconciler_pfsense.xmlrpc import XmlRpcClient

CERTIFICATE, KEY = _certificate()
UNTIL = b"\r\n\r\n"


class Page:
    """A web server that gives every connection to ``serve``, TLS already begun or, with ``plain``, before it."""

    def __init__(self) -> None:
        self.serve: Callable[[socket.socket], None] = lambda client: None
        self.plain = False
        self.asked = 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.server.accept()
                self.held.append(client)
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError):
            if self.plain:
                self.serve(client)
                return
            with _context(CERTIFICATE, KEY).wrap_socket(client, server_side=True) as sealed:
                asked = b""
                while b"</methodCall>" not in asked:
                    asked += sealed.recv(65536)
                self.asked += 1
                self.serve(sealed)

    def answers(self, status: str, body: bytes, *headers: str) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]).encode()
        self.serve = lambda client: client.sendall(head + UNTIL + body)

    def close(self) -> None:
        self.server.close()
        for one in self.held:
            with suppress(OSError):
                one.close()


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


def client(page: Page, timeout: float = 5) -> XmlRpcClient:
    port = page.server.getsockname()[1]
    given = {"transport": "xmlrpc", "host": "127.0.0.1", "port": port, "password": "canary-word", "certificate": CERTIFICATE}
    return XmlRpcClient(Config.model_validate({**given, "timeout": timeout}))


def refusal(page: Page, timeout: float = 5) -> DriverError:
    with pytest.raises(DriverError) as caught:
        client(page, timeout).run(Program.of("glance", known=""))
    assert "canary" not in str(caught.value)
    assert page.asked <= 1, "no program is ever sent twice"
    return caught.value


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("401 Unauthorized", "the login was refused; check username and password"),
        ("403 Forbidden", "the web GUI refuses this address"),
        ("404 Not Found", "there is no /xmlrpc.php; check host and port"),
        ("301 Moved Permanently", "answers with a redirect (HTTP 301); check host and port"),
        ("302 Found", "answers with a redirect (HTTP 302); check host and port"),
    ],
)
def test_a_page_that_means_a_wrong_setting_stops_and_says_which(page: Page, status: str, words: str) -> None:
    page.answers(status, b"<html>login</html>", "Location: https://elsewhere.example/")
    error = refusal(page)
    assert isinstance(error, Permanent)
    assert words in str(error)


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Time-out", "200 OK"])
def test_a_page_that_passes_is_worth_another_try_and_nobody_knows_what_was_done(page: Page, status: str) -> None:
    page.answers(status, b"<html><h1>nginx</h1></html>")
    error = refusal(page)
    assert isinstance(error, Transient)
    assert f"the answer did not arrive whole (HTTP {status[:3]}); whether anything was done is not known" in str(error)


def test_an_exception_in_pfsense_is_a_fault_that_is_told(page: Page) -> None:
    page.answers("200 OK", xmlrpc.client.dumps(xmlrpc.client.Fault(1, "Unhandled PHP\n Exception")).encode())
    error = refusal(page)
    assert isinstance(error, Permanent)
    assert str(error).endswith("XML-RPC fault 1: Unhandled PHP Exception")


def test_a_program_that_left_nothing_is_answered_with_true_and_that_is_no_answer(page: Page) -> None:
    page.answers("200 OK", xmlrpc.client.dumps((True,), methodresponse=True).encode())
    assert isinstance(refusal(page), Transient)


@pytest.mark.parametrize("noise", ["", "....", "<br />\n<b>Warning</b>: something<br />\n"])
def test_what_is_printed_before_the_answer_is_not_the_answer(page: Page, noise: str) -> None:
    program = Program({"verb": "glance"}, "0123456789abcdef")
    line = {"answer": "\nRECONCILER-RESULT 0123456789abcdef eyJvayI6dHJ1ZSwiYm9keSI6e319 END\n"}
    page.answers("200 OK", noise.encode() + xmlrpc.client.dumps((line,), methodresponse=True).encode())
    assert client(page).run(program) == {}


def test_half_of_an_answer_is_none(page: Page) -> None:
    whole = xmlrpc.client.dumps(({"answer": "x" * 500},), methodresponse=True).encode()
    page.serve = lambda client: client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900" + UNTIL + whole[:300])
    error = refusal(page)
    assert isinstance(error, Transient)
    assert "whether anything was done is not known" in str(error)


@pytest.mark.parametrize("rubbish", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 400 Bad Request" + UNTIL])
def test_a_port_that_speaks_no_tls_is_worth_another_try(page: Page, rubbish: bytes) -> None:
    def serve(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(rubbish)
        client.close()

    page.plain, page.serve = True, serve
    assert isinstance(refusal(page), Transient)


def dripping(byte: bytes) -> Callable[[socket.socket], None]:
    """Send a byte again and again, faster than any timeout of a socket."""

    def serve(client: socket.socket) -> None:
        while True:
            client.sendall(byte)
            time.sleep(0.05)

    return serve


SILENT: Callable[[socket.socket], None] = lambda client: time.sleep(20)  # noqa: E731 - it stands beside the others
HELLO = b"\x16\x03\x03\x40\x00"
"""The head of a TLS record of 16 KiB, which then never comes to its end."""


def slow_hello(client: socket.socket) -> None:
    client.sendall(HELLO)
    dripping(b"\x02")(client)


@pytest.mark.parametrize(
    ("plain", "serve"),
    [(True, SILENT), (True, slow_hello), (False, SILENT), (False, dripping(b"H")), (False, dripping(b"HTTP/1.1 100 Continue\r\n\r\n"))],
    ids=["no TLS", "TLS drips", "no answer", "answer drips", "for ever soon"],
)
def test_the_deadline_is_for_the_whole_however_slowly_something_comes(
    page: Page, plain: bool, serve: Callable[[socket.socket], None]
) -> None:
    page.plain, page.serve = plain, serve
    started = time.monotonic()
    error = refusal(page, timeout=0.6)
    assert time.monotonic() - started < 3
    assert isinstance(error, Transient)
    assert "no answer in time; whether anything was done is not known" in str(error)


def test_a_certificate_of_somebody_else_stops_before_the_password_is_sent(page: Page) -> None:
    other, _ = _certificate()
    config = client(page).config.model_copy(update={"certificate": other})
    with pytest.raises(Permanent, match="certificate is not the right one"):
        XmlRpcClient(config).run(Program.of("glance", known=""))
    assert page.asked == 0

"""Routes by name in a real HAProxy: what the emulated firewall renders sends each TLS client where git says."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from pfsense_world import SETTINGS, PfSenseWorld, changed, wish

from reconciler.testing import Bench, scope_for

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/bin")
DEFAULTS = "global\n\tmaxconn 50\ndefaults\n\ttimeout connect 5s\n\ttimeout server 5s\n\n"

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


def answering(letter: bytes, stack: ExitStack) -> int:
    """Listen, answer each first word with a letter, and give the port."""
    server = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                with client, suppress(OSError):
                    client.recv(4096)
                    client.sendall(letter)

    threading.Thread(target=serve, daemon=True).start()
    return int(server.getsockname()[1])


def hello(name: str) -> bytes:
    """Give the first bytes of a TLS client that asks for a name."""
    sent = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return sent.read()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with ExitStack() as stack:
        world = PfSenseWorld()
        stack.callback(world.emulator.stop)
        bench = Bench(world, world.open(), scope_for(world))
        stack.callback(bench.driver.close)
        pools = [
            wish("HAProxyBackend", name, check="none", servers=[{"name": "web", "address": "127.0.0.1", "port": answering(letter, stack)}])
            for name, letter in (("mail", b"M"), ("rest", b"R"), ("others", b"O"))
        ]
        frontend = wish(
            "HAProxyFrontend",
            "by_name",
            type="https",
            binds=[{"address": "127.0.0.1", "port": (port := free_port())}],
            routes=[
                {"names": ["mail.example.org", "post.example.org"], "backend": "mail"},
                {"names": ["*.example.org"], "backend": "rest"},
            ],
            default_backend="others",
        )
        bench.converge([changed(SETTINGS, maxconn=50), *pools, frontend])
        config = tmp_path_factory.mktemp("names") / "haproxy.cfg"
        config.write_text(DEFAULTS + world.emulator.haproxy_cfg().partition("\n\n")[2])
        process = subprocess.Popen([str(HAPROXY), "-db", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait, 5)
        stack.callback(process.kill)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield port


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        ("mail.example.org", b"M"),
        ("POST.example.org", b"M"),
        ("www.example.org", b"R"),
        ("deep.www.example.org", b"R"),
        ("example.com", b"O"),
        ("mail.example.org.evil.test", b"O"),
    ],
)
def test_a_client_goes_where_its_name_leads(port: int, name: str, letter: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        client.sendall(hello(name))
        assert client.recv(1) == letter

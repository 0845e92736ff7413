"""pfSense by SSH: which key, account and host are trusted, and what becomes of a connection that went wrong."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from pfsense_world import HOST, PfSenseWorld

from reconciler.driver import Scope
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.testing import Bench, scope_for
from reconciler_pfsense.config import Config
from reconciler_pfsense.driver import PfSenseDriver

SCOPE = Scope("test/contract")


@pytest.fixture
def world() -> Iterator[PfSenseWorld]:
    world = PfSenseWorld()
    yield world
    world.emulator.stop()


def opened(world: PfSenseWorld, **settings: Any) -> PfSenseDriver:
    given = {**world.emulator.settings(), **settings}
    return PfSenseDriver(Config.model_validate({key: value for key, value in given.items() if value is not None}))


def refusal(driver: PfSenseDriver) -> DriverError:
    with pytest.raises(DriverError) as caught:
        driver.observe([], SCOPE)
    driver.close()
    return caught.value


def welcome(driver: PfSenseDriver) -> bool:
    seen = driver.observe([], SCOPE)
    driver.close()
    return seen == []


class TestWhoIsLetIn:
    def test_a_key_that_is_encrypted_opens_with_its_passphrase_only(self, world: PfSenseWorld) -> None:
        sealed = world.emulator.client_key.export_private_key(passphrase="canary-phrase", rounds=1, ignore_few_rounds=True).decode()
        assert welcome(opened(world, private_key=sealed, passphrase="canary-phrase"))
        for passphrase in (None, "canary-other"):
            error = refusal(opened(world, private_key=sealed, passphrase=passphrase))
            assert isinstance(error, Permanent)
            assert "the private key cannot be read; check the key and its passphrase" in str(error)
            assert "canary" not in str(error)

    def test_a_key_may_be_a_file_and_one_that_is_missing_is_named(self, world: PfSenseWorld, tmp_path: Path) -> None:
        path = tmp_path / "key"
        error = refusal(opened(world, private_key=None, private_key_file=path))
        assert isinstance(error, Permanent)
        assert f"{path} cannot be read: No such file or directory" in str(error)
        path.write_text(world.emulator.settings()["private_key"])
        assert welcome(opened(world, private_key=None, private_key_file=path))

    def test_another_key_and_another_account_are_refused_for_good(self, world: PfSenseWorld) -> None:
        other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
        for settings in ({"private_key": other}, {"username": "viewer"}):
            error = refusal(opened(world, **settings))
            assert isinstance(error, Permanent)
            assert "the login was refused" in str(error)
        assert not world.emulator.programs

    def test_nothing_of_the_user_who_runs_this_is_used(self, world: PfSenseWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A key that lies around would get in where the settings name another way, and lines of a file would lead elsewhere."""
        home = tmp_path / ".ssh"
        home.mkdir(mode=0o700)
        world.emulator.client_key.write_private_key(home / "id_ed25519")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert "the login was refused" in str(refusal(opened(world, private_key=None, password="canary-wrong")))
        (home / "config").write_text("Host *\n  Port 1\n  User nobody\n  ProxyCommand false\n")
        assert welcome(opened(world))

    def test_a_file_of_known_hosts_that_is_none_is_said(self, world: PfSenseWorld) -> None:
        error = refusal(opened(world, known_hosts="onlyoneword"))
        assert isinstance(error, Permanent)
        assert "known_hosts is not in the form of an OpenSSH known_hosts file" in str(error)
        assert not world.emulator.programs

    def test_a_firewall_that_speaks_only_what_is_unsafe_is_refused(self, world: PfSenseWorld) -> None:
        outdated = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            client, _ = outdated.accept()
            with client:
                client.sendall(b"SSH-2.0-old\r\n" + kexinit("curve25519-sha256", "ssh-ed25519", "3des-cbc", "hmac-sha2-256", "none"))
                while client.recv(4096):
                    pass

        threading.Thread(target=serve, daemon=True).start()
        error = refusal(opened(world, port=outdated.getsockname()[1]))
        assert isinstance(error, Permanent)
        assert "no common SSH algorithm" in str(error)
        outdated.close()


def kexinit(kex: str, host_key: str, cipher: str, mac: str, compression: str) -> bytes:
    """The packet in which a server says which algorithms it knows (RFC 4253, sections 6 and 7.1)."""
    lists = (kex, host_key, cipher, cipher, mac, mac, compression, compression, "", "")
    payload = b"\x14" + bytes(16) + b"".join(len(one).to_bytes(4, "big") + one.encode() for one in lists) + bytes(5)
    padding = 8 - (len(payload) + 5) % 8 + 8
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


def test_an_interpreter_that_is_not_there_is_said_with_the_setting_to_change(world: PfSenseWorld) -> None:
    error = refusal(opened(world, php="/usr/local/bin/perl"))
    assert isinstance(error, Permanent)
    assert "php cannot be started (exit code 127); set php in the target's settings" in str(error)


class Wire:
    """A way to the firewall that can fall silent, as one does whose other end lost its power."""

    def __init__(self, port: int) -> None:
        self.inner, self.dead = port, set[socket.socket]()
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.server.accept()
                pair = client, socket.create_connection(("127.0.0.1", self.inner))
                self.pairs.append(pair)
                for source, target in (pair, pair[::-1]):
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if source not in self.dead:
                    target.sendall(piece)

    def fall_silent(self) -> None:
        """Swallow whatever the connections there are say from now on; new ones work."""
        self.dead |= {one for pair in self.pairs for one in pair}

    def close(self) -> None:
        self.server.close()
        for one in (one for pair in self.pairs for one in pair):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def wire(world: PfSenseWorld) -> Iterator[Wire]:
    wire = Wire(world.emulator.port)
    yield wire
    wire.close()


def through(world: PfSenseWorld, wire: Wire, **settings: Any) -> PfSenseDriver:
    hosts = world.emulator.settings()["known_hosts"].replace(str(world.emulator.port), str(wire.port))
    return opened(world, port=wire.port, known_hosts=hosts, **settings)


def test_a_connection_that_fell_silent_costs_one_deadline_and_not_every_later_one(world: PfSenseWorld, wire: Wire) -> None:
    driver = through(world, wire, timeout=1.5)
    assert driver.observe([], SCOPE) == []
    wire.fall_silent()
    with pytest.raises(Transient, match="no answer in time; whether anything was done is not known"):
        driver.observe([], SCOPE)
    assert driver.observe([], SCOPE) == []
    assert len(wire.pairs) == 2
    driver.close()


def test_a_write_whose_answer_never_came_is_found_done_and_not_written_again(world: PfSenseWorld, wire: Wire) -> None:
    bench = Bench(world, through(world, wire, timeout=1.5), scope_for(world))
    changes = bench.plan([HOST]).changes
    with world.emulator.faults.during("latency", times=1, seconds=2, writes_only=True):
        assert all(one.transient for one in bench.write(changes))
    assert [one.status for one in bench.write(changes)] == ["applied"]
    assert len(world.emulator.firewall.history) == 1
    bench.driver.close()


def test_whoever_closes_a_driver_leaves_no_thread_and_no_connection(world: PfSenseWorld) -> None:
    driver = opened(world)
    driver.observe([], SCOPE)
    name = f"ssh-127.0.0.1:{world.emulator.port}"
    assert name in {one.name for one in threading.enumerate()}
    driver.close()
    driver.close()
    assert name not in {one.name for one in threading.enumerate()}
    assert asyncio.run(gone(world))


async def gone(world: PfSenseWorld) -> bool:
    """Say whether the firewall has noticed within a moment that nobody is connected any more."""
    for _ in range(200):
        if not world.emulator.connections:
            return True
        await asyncio.sleep(0.01)
    return False

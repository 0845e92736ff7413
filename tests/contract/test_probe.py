"""The promises of probes: those of whoever only looks, and that each check says what is so, why, and when it cannot know."""

import imaplib
import shutil
import smtplib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reconciler.driver import Action, Change, Health, Level, Observation, Scope, Status
from reconciler.errors import Transient
from reconciler.resource import JSONObject, Resource, ResourceId, SecretRef, SecretValue, Spec
from reconciler.testing import ObserverContract, Sample
from reconciler_probe.config import ProbeConfig
from reconciler_probe.driver import ProbeDriver
from reconciler_probe.emulator import ProbeEmulator
from reconciler_probe.emulator.store import Mail
from reconciler_probe.spec import KINDS

SPF = "v=spf1 include:spf.example.net ~all"
DKIM = "v=DKIM1; p=" + "A" * 400
SEED: dict[str, Any] = {
    "accounts": {"canary@example.org": "canary-pass-word", "me@example.org": "my-own-pass-word"},
    "aliases": {"@example.org": "me@example.org", "smoke@example.org": "canary@example.org"},
    "records": [
        {"name": "example.org", "type": "MX", "value": "1 mail.example.org."},
        {"name": "example.org", "type": "TXT", "value": SPF},
        {"name": "mail._domainkey.example.org", "type": "TXT", "value": DKIM},
        {"name": "mail.example.org", "type": "A", "value": "192.0.2.25"},
        {"name": "www.example.org", "type": "CNAME", "value": "mail.example.org."},
        *({"name": "many.example.org", "type": "TXT", "value": f"{number}" + "x" * 250} for number in range(8)),
    ],
    "resolvers": ["1.1.1.1", "8.8.8.8", "10.0.20.201"],
    "views": {"10.0.20.201": [{"name": "mail.example.org", "type": "A", "value": "10.0.20.1"}]},
    "addresses": {
        "mail.example.org:25": "smtp",
        "mail.example.org:587": "submission",
        "mail.example.org:465": "submissions",
        "mail.example.org:143": "imap",
        "mail.example.org:993": "imaps",
        "mail.example.org:80": "http",
        "mail.example.org:443": "https",
        "other.example.net:443": "https",
        "10.0.20.101:30125": "smtp-proxy",
        "10.0.20.101:30126": "submissions-proxy",
        "10.0.20.101:30128": "imaps-proxy",
    },
    "closed": ["10.0.20.202:25"],
}
PASSWORD = SecretRef('${vault("secret/mail", "canary")}', (("secret/mail", "canary"),))


class ProbedHost:
    """The mail host as a world for the common promises."""

    owner = "test/contract"
    faults: frozenset[str] = frozenset()

    def __init__(self, emulator: ProbeEmulator) -> None:
        self.emulator = emulator

    def open(self) -> ProbeDriver:
        return ProbeDriver(ProbeConfig.model_validate(self.emulator.settings()))

    def samples(self) -> list[Sample]:
        mail = {"host": "mail.example.org", "tls": "starttls", "username": "canary@example.org", "password": PASSWORD}
        smtp = {**mail, "port": 587, "sender": "canary@example.org", "recipient": "smoke@example.org"}
        wishes: list[tuple[str, dict[str, Any]]] = [
            ("TCP", {"host": "mail.example.org", "port": 25}),
            ("SMTP", {"host": "mail.example.org", "tls": "starttls"}),
            ("IMAP", {"host": "mail.example.org"}),
            ("DNS", {"name": "mail.example.org", "type": "A", "expect": ["192.0.2.25"], "resolvers": ["1.1.1.1"]}),
            ("HTTP", {"url": "https://mail.example.org/login"}),
            ("MailRoundtrip", {"smtp": smtp, "imap": {**mail, "port": 143}}),
        ]
        found = [Resource(ResourceId("probe", kind, "sample"), KINDS[kind].model_validate(wish)) for kind, wish in wishes]
        return [Sample(one, one) for one in found]

    def peek(self) -> dict[str, tuple[str, JSONObject]]:
        return {address: ("", {"messages": len(box)}) for address, box in self.emulator.store.boxes.items()}

    def writes(self) -> int:
        return self.emulator.faults.writes

    def secret_values(self) -> list[str]:
        return ["canary-pass-word"]


class TestPromisesOfWhoeverOnlyLooks(ObserverContract):
    secrets: Mapping[str, str] = {"secret/mail#canary": "canary-pass-word"}

    @pytest.fixture
    def world(self, shared: ProbeEmulator) -> ProbedHost:
        return ProbedHost(shared)

    def test_every_probe_is_reported_at_every_look_and_never_plans_a_change(self, world: ProbedHost, bench: Any) -> None:
        plan = bench.plan(self.wanted(world))
        assert not plan.changes
        assert plan.unchanged == len(world.samples()) == len(KINDS)
        assert {one.health.level for one in bench.observe(self.wanted(world))} == {Level.HEALTHY}


@pytest.fixture(scope="module")
def shared() -> Iterator[ProbeEmulator]:
    emulator = ProbeEmulator(SEED)
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture
def world(shared: ProbeEmulator) -> ProbeEmulator:
    """The emulator as it was at first: starting one costs a quarter of a second."""
    shared.records[:] = ProbeEmulator(SEED).records
    shared.store.losing = shared.store.keeping = False
    for box in shared.store.boxes.values():
        box.clear()
    for door in shared.doors.values():
        door.clients.clear()
        door.lenient = False
    for resolver in shared.resolvers.values():
        resolver.silent, resolver.trouble = False, ""
    shared.faults.requests.clear()
    return shared


def scope(*, revision: str = "", secret: str = "canary-pass-word", version: str = "1") -> Scope:
    return Scope(owner="test/contract", revision=revision, fingerprint=lambda ref: f"v{version}", reveal=lambda ref: SecretValue(secret))


def resource(kind: str, **fields: Any) -> Resource:
    return Resource(ResourceId("probe", kind, "one"), KINDS[kind].model_validate(fields))


def observe(world: ProbeEmulator, kind: str, *, settings: dict[str, Any] | None = None, **fields: Any) -> Observation:
    driver = ProbeDriver(ProbeConfig(**world.settings() | (settings or {})))
    (found,) = driver.observe([resource(kind, **fields)], scope())
    driver.close()
    return found


def health(world: ProbeEmulator, kind: str, **fields: Any) -> Health:
    return observe(world, kind, **fields).health


def trip(**fields: Any) -> dict[str, Any]:
    login = {"host": "mail.example.org", "username": "canary@example.org", "password": PASSWORD}
    return {
        "smtp": login | {"sender": "canary@example.org", "recipient": "canary@example.org"},
        "imap": login,
        "timeout": 5,
    } | fields


class Hole:
    """A port that takes connections and says ``said``, then nothing."""

    def __init__(self, said: bytes = b"", *, drip: bytes = b"") -> None:
        self.said, self.drip, self.listener = said, drip, socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.held: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self.listener.accept()
                self.held.append(connection)
                connection.sendall(self.said)
                while self.drip:
                    connection.sendall(self.drip)
                    time.sleep(0.02)
        except OSError:
            return

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.held:
            connection.close()
        self.thread.join(1)


class HangsUp:
    """A way to a server that waits ``delay`` seconds before it leads there, and ends as soon as the server says ``word``."""

    def __init__(self, port: int, word: bytes, delay: float = 0) -> None:
        self.port, self.word, self.delay, self.held = port, word, delay, list[socket.socket]()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                time.sleep(self.delay)
                server = socket.create_connection(("127.0.0.1", self.port))
                self.held += [client, server]
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while (piece := source.recv(65536)) and self.word not in piece:
                target.sendall(piece)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for one in (self.listener, *self.held):
            one.close()


class Marks(list[Mail]):
    """A mailbox that remembers what the last message in it was marked with."""

    seen = ""
    kept: Mail | None = None

    def append(self, mail: Mail) -> None:
        self.kept = mail
        self.seen = mail.header("X-Reconciler-Probe")
        super().append(mail)


@pytest.fixture
def hole() -> Iterator[Hole]:
    one = Hole()
    yield one
    one.close()


class TestLooking:
    def test_what_is_live_is_what_is_wished_so_that_no_change_is_ever_planned(self, world: ProbeEmulator) -> None:
        for up in (True, False):
            found = observe(world, "TCP", host="mail.example.org" if up else "10.0.20.202", port=25)
            assert found.live == resource("TCP", host="mail.example.org" if up else "10.0.20.202", port=25).spec.canonical(str)
            assert found.ownership == "ours"
            assert found.status == {"healthy": up, "message": found.health.message}

    def test_nothing_is_written_except_the_message_of_a_round_trip(self, world: ProbeEmulator) -> None:
        wanted = [
            resource("SMTP", host="mail.example.org", tls="starttls"),
            resource("IMAP", host="mail.example.org"),
            resource("DNS", name="example.org", type="TXT", resolvers=["1.1.1.1"], expect=[SPF]),
            resource("HTTP", url="https://mail.example.org/login"),
        ]
        driver = ProbeDriver(ProbeConfig(**world.settings()))
        assert all(one.health.ok for one in driver.observe(wanted, scope()))
        assert world.faults.writes == 0

    def test_a_change_is_answered_with_unchanged(self, world: ProbeEmulator) -> None:
        one = resource("TCP", host="mail.example.org", port=25)
        driver = ProbeDriver(ProbeConfig(**world.settings()))
        (outcome,) = driver.apply([Change(Action.UPDATE, one.id, "test", one)], scope())
        assert (outcome.id, outcome.status) == (one.id, Status.UNCHANGED)

    def test_one_answer_for_each_wish_in_its_order_and_all_at_the_same_time(self, hole: Hole) -> None:
        driver = ProbeDriver(ProbeConfig(connect_to={"slow:25": hole.address}))
        wanted = [
            Resource(ResourceId("probe", "SMTP", str(number)), KINDS["SMTP"].model_validate({"host": "slow", "timeout": 0.5}))
            for number in range(8)
        ]
        started = time.monotonic()
        found = driver.observe(wanted, scope())
        assert [one.id.name for one in found] == [str(number) for number in range(8)]
        assert time.monotonic() - started < 2
        assert driver.observe([], scope()) == []

    def test_a_bug_is_named_by_its_type_and_takes_nobody_down(self, world: ProbeEmulator) -> None:
        driver = ProbeDriver(ProbeConfig(**world.settings()))
        strange = Resource(ResourceId("probe", "Strange", "one"), Spec())
        found = driver.observe([strange, resource("TCP", host="mail.example.org", port=25)], scope())
        assert found[0].health == Health(Level.UNKNOWN, "bug: TypeError in the check")
        assert found[1].health.ok

    def test_settings_that_cannot_be_used_are_said(self, world: ProbeEmulator) -> None:
        found = health(world, "HTTP", url="https://mail.example.org/", settings={"ca_file": "/nowhere/ca.pem"})
        assert found == Health(Level.UNKNOWN, "probe: ca_file /nowhere/ca.pem cannot be used: No such file or directory; give a PEM file")


class TestTcp:
    def test_open_and_closed(self, world: ProbeEmulator) -> None:
        assert health(world, "TCP", host="mail.example.org", port=25) == Health(Level.HEALTHY, "mail.example.org:25 is open")
        assert health(world, "TCP", host="10.0.20.202", port=25) == Health(Level.DEGRADED, "10.0.20.202:25 refused the connection")

    def test_a_closed_port_is_right_only_while_the_control_is_open(self, world: ProbeEmulator) -> None:
        closed = {"host": "10.0.20.202", "port": 25, "expect_closed": True}
        assert health(world, "TCP", **closed, control="mail.example.org:25") == Health(
            Level.HEALTHY, "10.0.20.202:25 refused the connection, as expected; mail.example.org:25 is open"
        )
        bad = health(world, "TCP", **closed, control="10.0.20.202:25")
        assert bad.level is Level.UNKNOWN
        assert "silence proves nothing" in bad.message

    def test_an_open_port_that_should_be_closed_is_degraded(self, world: ProbeEmulator) -> None:
        found = health(world, "TCP", host="mail.example.org", port=143, expect_closed=True, control="mail.example.org:25")
        assert found == Health(Level.DEGRADED, "mail.example.org:143 is open, but nothing should listen there")

    def test_a_port_that_swallows_everything_is_closed_as_well(self, world: ProbeEmulator) -> None:
        """A firewall that drops; a full queue of connections does the same."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            settings = {"connect_to": {"10.0.20.202:25": f"127.0.0.1:{full.getsockname()[1]}"}}
            closed = {"host": "10.0.20.202", "port": 25, "expect_closed": True, "timeout": 0.4, "control": "mail.example.org:25"}
            found = health(
                world, "TCP", **closed, settings=world.settings() | {"connect_to": world.settings()["connect_to"] | settings["connect_to"]}
            )
        assert found == Health(Level.HEALTHY, "10.0.20.202:25 did not answer within 0.4 s, as expected; mail.example.org:25 is open")

    def test_a_port_that_wants_the_header_hears_of_the_client_that_is_named(self, world: ProbeEmulator) -> None:
        door = world.doors["smtp-proxy"]
        found = health(world, "TCP", host="10.0.20.101", port=30125, proxy="v2", proxy_source="198.51.100.9")
        assert found == Health(Level.HEALTHY, "10.0.20.101:30125 is open")
        for _ in range(100):
            if door.clients:
                break
            time.sleep(0.02)
        assert door.clients == ["198.51.100.9"]

    def test_a_name_that_does_not_exist_is_said(self, world: ProbeEmulator) -> None:
        found = health(world, "TCP", host="no.such.host.invalid", port=25)
        assert not found.ok
        assert "name" in found.message


class TestSmtp:
    @pytest.mark.parametrize(("port", "tls"), [(25, "none"), (25, "starttls"), (465, "implicit"), (587, "starttls")])
    def test_a_server_greets_and_encrypts(self, world: ProbeEmulator, port: int, tls: str) -> None:
        name = "" if tls == "none" else "mail.example.org"
        found = health(world, "SMTP", host="mail.example.org", port=port, tls=tls, server_name=name, banner="^220 .*ESMTP")
        assert found.ok, found.message
        assert found.message.startswith(f"mail.example.org:{port} answered 220 emulated.mail.invalid ESMTP")
        assert ("certificate until" in found.message) == (tls != "none")

    def test_a_greeting_of_somebody_else_is_degraded(self, world: ProbeEmulator) -> None:
        found = health(world, "SMTP", host="mail.example.org", banner="mx9")
        assert found.level is Level.DEGRADED
        assert found.message == "mail.example.org:25 answered 220 emulated.mail.invalid ESMTP, which does not contain 'mx9'"

    def test_a_certificate_is_verified_for_the_name_that_is_set(self, world: ProbeEmulator) -> None:
        found = health(world, "SMTP", host="mail.example.org", port=465, tls="implicit", server_name="mx.example.com")
        assert found.level is Level.DEGRADED
        assert "shows a certificate that is not right" in found.message
        assert "mx.example.com" in found.message
        untrusted = health(
            world, "SMTP", host="mail.example.org", port=465, tls="implicit", server_name="mail.example.org", settings={"ca_file": ""}
        )
        assert "shows a certificate that is not right" in untrusted.message

    def test_a_certificate_that_ends_soon_is_degraded(self, world: ProbeEmulator) -> None:
        found = health(world, "SMTP", host="mail.example.org", tls="starttls", min_days_left=100)
        assert found.level is Level.DEGRADED
        assert "in 90 days; 100 are wanted" in found.message

    def test_a_server_in_trouble_is_quoted(self, world: ProbeEmulator) -> None:
        with world.faults.during("server-error"):
            found = health(world, "SMTP", host="mail.example.org")
        assert found == Health(Level.DEGRADED, "mail.example.org:25 answered 421 4.3.2 No system resources")

    def test_a_server_that_hangs_up_is_said(self, world: ProbeEmulator) -> None:
        with world.faults.during("cut-before"):
            assert health(world, "SMTP", host="mail.example.org").message == "mail.example.org:25 cut the connection"

    @pytest.mark.parametrize("said", [b"", b"220-more", b"220 slow\r\n"])
    def test_a_silent_server_is_given_up_in_time(self, world: ProbeEmulator, said: bytes) -> None:
        silent = Hole(said)
        try:
            started = time.monotonic()
            found = health(world, "SMTP", host="slow", timeout=0.4, settings={"connect_to": {"slow:25": silent.address}})
            assert found == Health(Level.DEGRADED, "slow:25 did not answer within 0.4 s")
            assert time.monotonic() - started < 2
        finally:
            silent.close()

    def test_a_server_that_drips_cannot_hold_a_check(self, world: ProbeEmulator) -> None:
        dripping = Hole(drip=b"220-x\r\n")
        try:
            started = time.monotonic()
            found = health(world, "SMTP", host="slow", timeout=0.4, settings={"connect_to": {"slow:25": dripping.address}})
            assert found.message == "slow:25 did not answer within 0.4 s"
            assert time.monotonic() - started < 2
        finally:
            dripping.close()

    def test_the_target_limits_every_check(self, hole: Hole, world: ProbeEmulator) -> None:
        found = health(world, "SMTP", host="slow", timeout=300, settings={"connect_to": {"slow:25": hole.address}, "timeout": 0.3})
        assert found.message == "slow:25 did not answer within 0.3 s"


class TestProxyHeader:
    @pytest.mark.parametrize(
        ("kind", "port", "tls", "door"),
        [
            ("SMTP", 30125, "starttls", "smtp-proxy"),
            ("SMTP", 30126, "implicit", "submissions-proxy"),
            ("IMAP", 30128, "implicit", "imaps-proxy"),
        ],
    )
    def test_with_the_header_it_serves_the_named_client_and_without_it_refuses(
        self, world: ProbeEmulator, kind: str, port: int, tls: str, door: str
    ) -> None:
        found = health(world, kind, host="10.0.20.101", port=port, tls=tls, proxy="v2", proxy_source="198.51.100.7", expect_refused=True)
        assert found.ok, found.message
        assert "refused without the PROXY header" in found.message
        assert world.doors[door].clients == ["198.51.100.7"]

    def test_without_the_header_the_refusal_is_shown(self, world: ProbeEmulator) -> None:
        found = health(world, "SMTP", host="10.0.20.101", port=30125)
        assert found == Health(Level.DEGRADED, "10.0.20.101:30125 answered 421 4.3.2 No system resources")

    def test_a_server_that_serves_anybody_is_degraded(self, world: ProbeEmulator) -> None:
        world.doors["smtp-proxy"].lenient = True
        found = health(world, "SMTP", host="10.0.20.101", port=30125, proxy="v2", expect_refused=True)
        assert found.level is Level.DEGRADED
        assert found.message.startswith("10.0.20.101:30125 serves clients that send no PROXY header: it answered 220")

    def test_a_server_that_says_nothing_without_the_header_proves_nothing(self, world: ProbeEmulator) -> None:
        found = health(world, "SMTP", host="10.0.20.101", port=30125, timeout=0.3, proxy="v2", expect_refused=True)
        assert found.level is Level.UNKNOWN
        assert found.message.endswith("did not answer within 0.3 s without the PROXY header, so a refusal is not proven")

    def test_a_port_that_wants_no_header_takes_it_for_rubbish(self, world: ProbeEmulator) -> None:
        assert health(world, "SMTP", host="mail.example.org", proxy="v2").level is Level.DEGRADED


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy on the path")
def test_a_real_haproxy_understands_the_header_and_is_understood(world: ProbeEmulator, tmp_path: Path) -> None:
    """The witness for both directions of the protocol that is neither of us."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = tmp_path / "haproxy.cfg"
    settings.write_text(
        "defaults\n mode tcp\n timeout connect 2s\n timeout client 5s\n timeout server 5s\n"
        f"listen smtp\n bind 127.0.0.1:{port} accept-proxy\n server pod 127.0.0.1:{world.doors['smtp-proxy'].port} send-proxy-v2\n"
    )
    process = subprocess.Popen(["haproxy", "-db", "-q", "-f", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        fields = {
            "host": "front.example",
            "tls": "starttls",
            "proxy": "v2",
            "settings": {"connect_to": {"front.example:25": f"127.0.0.1:{port}"}},
        }
        for _ in range(50):
            found = health(world, "SMTP", proxy_source="198.51.100.7", **fields)
            if found.ok:
                break
            time.sleep(0.1)
        assert found.ok, found.message
        assert health(world, "SMTP", proxy_source="2001:db8::7", **fields).ok
        assert world.doors["smtp-proxy"].clients == ["198.51.100.7", "2001:db8::7"]
    finally:
        process.terminate()
        process.wait()


class TestImap:
    @pytest.mark.parametrize(("port", "tls"), [(143, "none"), (143, "starttls"), (993, "implicit")])
    def test_a_server_greets_and_encrypts(self, world: ProbeEmulator, port: int, tls: str) -> None:
        name = "" if tls == "none" else "mail.example.org"
        found = health(world, "IMAP", host="mail.example.org", port=port, tls=tls, server_name=name, banner="ready")
        assert found.ok, found.message
        assert "* OK" in found.message

    @pytest.mark.parametrize(("port", "tls"), [(143, "starttls"), (993, "implicit")])
    def test_a_certificate_is_verified_for_the_name_that_is_set_and_must_last(self, world: ProbeEmulator, port: int, tls: str) -> None:
        there = {"host": "mail.example.org", "port": port, "tls": tls}
        assert "mx.example.com" in health(world, "IMAP", **there, server_name="mx.example.com").message
        assert health(world, "IMAP", **there, min_days_left=90).ok, "the day itself is enough"
        assert "in 90 days; 91 are wanted" in health(world, "IMAP", **there, min_days_left=91).message

    def test_the_wrong_port_is_said(self, world: ProbeEmulator) -> None:
        found = health(world, "IMAP", host="mail.example.org", port=143)
        assert found.level is Level.DEGRADED
        assert found.message.startswith("mail.example.org:143 does not speak TLS as expected")

    def test_another_protocol_is_said(self, world: ProbeEmulator) -> None:
        found = health(world, "IMAP", host="mail.example.org", port=25, tls="none")
        assert found.level is Level.DEGRADED

    def test_a_dead_server_is_said(self, world: ProbeEmulator) -> None:
        assert health(world, "IMAP", host="10.0.20.202", port=25).message == "10.0.20.202:25 refused the connection"


class TestDns:
    def dns(self, world: ProbeEmulator, name: str, type: str, expect: list[str], **fields: Any) -> Health:
        return health(world, "DNS", name=name, type=type, resolvers=["1.1.1.1", "8.8.8.8"], expect=expect, timeout=0.5, **fields)

    def test_all_resolvers_agree_on_the_whole_set(self, world: ProbeEmulator) -> None:
        found = self.dns(world, "example.org", "TXT", [SPF])
        assert found == Health(Level.HEALTHY, "example.org TXT: 1.1.1.1, 8.8.8.8 agree")
        assert self.dns(world, "example.org", "MX", ["1 MAIL.example.org"]).ok
        assert self.dns(world, "www.example.org", "A", ["192.0.2.25"]).ok
        assert self.dns(world, "www.example.org", "CNAME", ["mail.example.org"]).ok

    def test_a_split_txt_is_compared_joined(self, world: ProbeEmulator) -> None:
        assert self.dns(world, "mail._domainkey.example.org", "TXT", [DKIM]).ok

    def test_an_answer_too_long_for_a_datagram_is_whole(self, world: ProbeEmulator) -> None:
        assert self.dns(world, "many.example.org", "TXT", [f"{number}" + "x" * 250 for number in range(8)]).ok

    def test_a_second_record_beside_the_right_one_is_degraded(self, world: ProbeEmulator) -> None:
        world.records.append(type(world.records[0])("example.org", "TXT", "v=spf1 -all"))
        found = self.dns(world, "example.org", "TXT", [SPF])
        assert found.level is Level.DEGRADED
        assert "1.1.1.1 gives with the unexpected 'v=spf1 -all'" in found.message

    def test_a_missing_record_is_degraded(self, world: ProbeEmulator) -> None:
        found = self.dns(world, "example.org", "AAAA", ["2001:db8::1"])
        assert found == Health(Level.DEGRADED, "example.org AAAA: 1.1.1.1 gives no record; 8.8.8.8 gives no record")

    def test_a_resolver_that_does_not_answer_makes_it_unknown(self, world: ProbeEmulator) -> None:
        world.resolvers["8.8.8.8"].silent = True
        found = self.dns(world, "example.org", "TXT", [SPF])
        assert found == Health(Level.UNKNOWN, "example.org TXT: 8.8.8.8 did not answer within 0.5 s; 1.1.1.1 is right")

    def test_what_is_wrong_weighs_more_than_what_is_unknown(self, world: ProbeEmulator) -> None:
        world.resolvers["8.8.8.8"].silent = True
        found = self.dns(world, "example.org", "TXT", ["other"])
        assert found.level is Level.DEGRADED
        assert "8.8.8.8 did not answer" in found.message

    def test_one_lost_datagram_is_not_the_end(self, world: ProbeEmulator) -> None:
        with world.faults.during("cut-before", times=1):
            assert self.dns(world, "example.org", "TXT", [SPF]).ok

    def test_a_resolver_in_trouble_is_unknown(self, world: ProbeEmulator) -> None:
        with world.faults.during("server-error"):
            found = self.dns(world, "example.org", "TXT", [SPF])
        assert found.level is Level.UNKNOWN
        assert "1.1.1.1 answered SERVFAIL" in found.message

    @pytest.mark.parametrize("trouble", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR"])
    def test_one_resolver_in_trouble_beside_one_that_is_right_is_unknown(self, world: ProbeEmulator, trouble: str) -> None:
        world.resolvers["8.8.8.8"].trouble = trouble
        found = self.dns(world, "example.org", "TXT", [SPF])
        assert found == Health(Level.UNKNOWN, f"example.org TXT: 8.8.8.8 answered {trouble}; 1.1.1.1 is right")

    def test_a_name_that_nobody_knows_is_not_ok(self, world: ProbeEmulator) -> None:
        world.resolvers["8.8.8.8"].trouble = "NXDOMAIN"
        found = self.dns(world, "example.org", "TXT", [SPF])
        assert found == Health(Level.DEGRADED, "example.org TXT: 8.8.8.8 gives no record; 1.1.1.1 is right")

    def test_resolvers_are_asked_at_the_same_time_and_the_whole_keeps_its_time(self, world: ProbeEmulator) -> None:
        for one in world.resolvers.values():
            one.silent = True
        started = time.monotonic()
        found = health(
            world, "DNS", name="example.org", type="MX", resolvers=list(world.resolvers), expect=["1 mail.example.org"], timeout=1
        )
        assert time.monotonic() - started < 2
        assert [found.level, found.message.count("did not answer within 1 s")] == [Level.UNKNOWN, 3]

    def test_an_absent_record_is_right_only_while_the_control_exists(self, world: ProbeEmulator) -> None:
        assert self.dns(world, "old.example.org", "A", [], control="mail.example.org").ok
        found = self.dns(world, "old.example.org", "A", [], control="older.example.org")
        assert found.level is Level.UNKNOWN
        assert "absence proves nothing" in found.message
        assert self.dns(world, "mail.example.org", "A", [], control="www.example.org").level is Level.DEGRADED

    def test_records_may_come_from_elsewhere(self) -> None:
        emulator = ProbeEmulator({"resolvers": ["9.9.9.9"]})
        emulator.follow(lambda: [{"name": "x.example", "type": "A", "value": "192.0.2.9"}])
        emulator.start()
        try:
            assert health(emulator, "DNS", name="x.example", type="A", resolvers=["9.9.9.9:53"], expect=["192.0.2.9"]).ok
        finally:
            emulator.stop()


INSIDE = "10.0.20.201"


class TestSplitHorizon:
    """The resolver inside has an answer of its own, and that it has is part of what is checked."""

    def dns(self, world: ProbeEmulator, **fields: Any) -> Health:
        common = {"name": "mail.example.org", "type": "A", "resolvers": ["1.1.1.1", "8.8.8.8", INSIDE], "expect": ["192.0.2.25"]}
        return health(world, "DNS", **common | {"timeout": 0.5, "expect_at": {INSIDE: ["10.0.20.1"]}} | fields)

    def test_each_gives_its_own(self, world: ProbeEmulator) -> None:
        message = "mail.example.org A: 1.1.1.1, 8.8.8.8 agree; 10.0.20.201 gives its own, '10.0.20.1'"
        assert self.dns(world) == Health(Level.HEALTHY, message)

    def test_without_an_expectation_of_its_own_the_inside_is_wrong(self, world: ProbeEmulator) -> None:
        found = self.dns(world, expect_at={})
        wrong = "10.0.20.201 gives without '192.0.2.25' and with the unexpected '10.0.20.1'"
        assert found == Health(Level.DEGRADED, f"mail.example.org A: {wrong}; 1.1.1.1, 8.8.8.8 agree")

    def test_an_inside_that_gives_the_outside_is_wrong(self, world: ProbeEmulator) -> None:
        found = self.dns(
            world, name="www.example.org", type="CNAME", expect=["mail.example.org"], expect_at={INSIDE: ["other.example.org"]}
        )
        assert found.level is Level.DEGRADED
        assert "10.0.20.201 gives without 'other.example.org' and with the unexpected 'mail.example.org'" in found.message

    def test_an_outside_that_gives_the_inside_is_wrong(self, world: ProbeEmulator) -> None:
        world.records.append(type(world.records[0])("mail.example.org", "A", "10.0.20.1"))
        found = self.dns(world)
        assert found.level is Level.DEGRADED
        assert "8.8.8.8 gives with the unexpected '10.0.20.1'; 10.0.20.201 gives its own" in found.message

    def test_a_silent_inside_is_unknown_unless_it_is_optional(self, world: ProbeEmulator) -> None:
        world.resolvers[INSIDE].silent = True
        silent = "10.0.20.201 did not answer within 0.5 s"
        assert self.dns(world) == Health(Level.UNKNOWN, f"mail.example.org A: {silent}; 1.1.1.1, 8.8.8.8 agree")
        found = self.dns(world, optional=[INSIDE])
        assert found == Health(Level.HEALTHY, f"mail.example.org A: 1.1.1.1, 8.8.8.8 agree; {silent} (optional)")

    def test_an_optional_resolver_that_answers_must_be_right(self, world: ProbeEmulator) -> None:
        found = self.dns(world, optional=[INSIDE], expect_at={INSIDE: ["10.0.20.2"]})
        assert found.level is Level.DEGRADED

    def test_a_name_may_be_hidden_on_one_side_while_the_control_shows_that_it_looks(self, world: ProbeEmulator) -> None:
        world.records[:] = [one for one in world.records if one.name != "mail.example.org"]
        world.records.append(type(world.records[0])("control.example.org", "A", "192.0.2.1"))
        found = self.dns(world, expect=[], control="control.example.org")
        assert found == Health(Level.HEALTHY, "mail.example.org A: 1.1.1.1, 8.8.8.8 agree; 10.0.20.201 gives its own, '10.0.20.1'")
        assert self.dns(world, expect=[], control="gone.example.org").level is Level.UNKNOWN


class TestHttp:
    def test_a_page_has_its_status_and_text_over_verified_tls(self, world: ProbeEmulator) -> None:
        found = health(world, "HTTP", url="https://mail.example.org/login", contains="webmail")
        assert found == Health(Level.HEALTHY, "https://mail.example.org/login answered 200")
        assert health(world, "HTTP", url="http://mail.example.org/login").ok

    def test_a_redirect_is_an_answer(self, world: ProbeEmulator) -> None:
        assert health(world, "HTTP", url="https://mail.example.org/", status=[200, 302]).ok
        assert health(world, "HTTP", url="https://mail.example.org/").message == "https://mail.example.org/ answered 302 instead of 200"

    def test_a_page_without_its_text_is_degraded(self, world: ProbeEmulator) -> None:
        found = health(world, "HTTP", url="https://mail.example.org/login", contains="Roundcube")
        assert found.message == "https://mail.example.org/login answered 200 without 'Roundcube' in its text"

    def test_an_untrusted_certificate_is_degraded(self, world: ProbeEmulator) -> None:
        found = health(world, "HTTP", url="https://mail.example.org/login", settings={"ca_file": ""})
        assert found.level is Level.DEGRADED
        assert "shows a certificate that is not right" in found.message

    def test_refused_cut_and_silent_are_told_apart(self, world: ProbeEmulator, hole: Hole) -> None:
        elsewhere = {"connect_to": {"dead.example:80": "127.0.0.1:1", "slow.example:80": hole.address}}
        assert health(world, "HTTP", url="http://dead.example/", settings=elsewhere).message.endswith("refused the connection")
        silent = health(world, "HTTP", url="http://slow.example/", timeout=0.3, settings=elsewhere)
        assert silent.message == "http://slow.example/ did not answer within 0.3 s"
        with world.faults.during("cut-before"):
            assert not health(world, "HTTP", url="http://mail.example.org/").ok


class TestMailRoundtrip:
    def driver(self, world: ProbeEmulator, clock: Any = time.monotonic) -> ProbeDriver:
        return ProbeDriver(ProbeConfig(**world.settings()), clock=clock)

    def run(self, driver: ProbeDriver, scope: Scope, **fields: Any) -> Health:
        (found,) = driver.observe([resource("MailRoundtrip", **trip(**fields))], scope)
        return found.health

    def test_a_message_arrives_and_is_deleted(self, world: ProbeEmulator) -> None:
        found = self.run(self.driver(world), scope())
        assert found.ok, found.message
        assert found.message.startswith("a message from mail.example.org:465 was in INBOX at mail.example.org:993 after ")
        assert world.faults.writes == 1
        assert world.store.boxes["canary@example.org"] == []

    def test_port_587_with_starttls_works_too(self, world: ProbeEmulator) -> None:
        smtp = trip()["smtp"] | {"port": 587, "tls": "starttls"}
        imap = trip()["imap"] | {"port": 143, "tls": "starttls"}
        found = self.run(self.driver(world), scope(), smtp=smtp, imap=imap)
        assert found.ok, found.message

    def test_an_alias_and_a_catch_all_lead_to_their_mailbox(self, world: ProbeEmulator) -> None:
        assert self.run(self.driver(world), scope(), smtp=trip()["smtp"] | {"recipient": "smoke@example.org"}).ok
        reader = trip()["imap"] | {"username": "me@example.org", "password": "my-own-pass-word"}
        assert self.run(self.driver(world), scope(), smtp=trip()["smtp"] | {"recipient": "anybody@example.org"}, imap=reader).ok

    def test_other_peoples_mail_is_left_alone(self, world: ProbeEmulator) -> None:
        world.store.deliver("canary@example.org", b"Subject: keep me\r\n\r\nhello\r\n")
        world.store.boxes["canary@example.org"][0].flags.add(r"\Deleted")
        assert self.run(self.driver(world), scope()).ok
        assert [one.header("subject") for one in world.store.boxes["canary@example.org"]] == ["keep me"]

    def test_a_lost_message_is_degraded_and_swept_up_when_it_comes_late(self, world: ProbeEmulator) -> None:
        world.store.losing = True
        found = self.run(self.driver(world), scope(), timeout=0.7)
        assert found.level is Level.DEGRADED
        assert found.message.startswith("mail.example.org:993 did not answer") or "is not in INBOX after 0.7 s" in found.message
        world.store.losing = False
        assert self.run(self.driver(world), scope()).ok
        assert world.store.boxes["canary@example.org"] == []

    def test_a_message_of_another_probe_and_one_that_only_speaks_of_ours_are_left_alone(self, world: ProbeEmulator) -> None:
        box = world.store.boxes["canary@example.org"]
        world.store.losing = True
        self.run(self.driver(world), scope(), timeout=0.7)
        world.store.losing = False
        for line in ("X-Reconciler-Probe: probe-ffffffffffffffff-1", "Subject: X-Reconciler-Probe: probe-1", "X-Reconciler-Probe: x"):
            world.store.deliver("canary@example.org", f"{line}\r\n\r\nhello\r\n".encode())
        assert self.run(self.driver(world), scope()).ok
        assert len(box) == 3

    def test_a_message_that_was_taken_by_a_server_that_then_hung_up_is_deleted(self, world: ProbeEmulator) -> None:
        cut = HangsUp(world.doors["smtp"].port, b"queued")
        settings = world.settings()
        settings["connect_to"]["mx:25"] = cut.address
        smtp = {"host": "mx", "port": 25, "tls": "none", "sender": "canary@example.org", "recipient": "canary@example.org"}
        found = self.run(ProbeDriver(ProbeConfig(**settings)), scope(), smtp=smtp)
        assert found == Health(Level.DEGRADED, "mx:25 cut the connection")
        assert world.store.delivered
        assert world.store.boxes["canary@example.org"] == []
        cut.close()

    def test_a_message_of_an_earlier_run_that_comes_late_is_not_taken_for_this_one(self, world: ProbeEmulator) -> None:
        box = world.store.boxes["canary@example.org"]
        assert self.run(self.driver(world), scope(), every=0).ok
        marks = Marks()
        world.store.boxes["canary@example.org"] = marks
        assert self.run(self.driver(world), scope()).ok
        world.store.boxes["canary@example.org"] = box
        world.store.losing = True
        mark = marks.seen.rpartition("-")[0]
        late = threading.Timer(0.6, lambda: box.append(Mail(9000, f"X-Reconciler-Probe: {mark}-0123\r\n\r\n".encode())))
        late.start()
        assert not self.run(self.driver(world), scope(), timeout=1.6).ok
        late.join()

    def test_a_message_that_another_run_still_waits_for_is_left_to_it(self, world: ProbeEmulator) -> None:
        """A plan beside the daemon runs the same probes, in the same mailbox, at the same time."""
        box = world.store.boxes["canary@example.org"] = Marks()
        assert self.run(self.driver(world), scope()).ok
        probe, until, _ = box.seen.rsplit("-", 2)
        assert 0 < int(until) / 1000 - time.time() <= 5
        hour = 3600 * 1000
        tokens = {"waits": f"{int(until) + 60_000}-0a", "is over": f"{int(until) - hour}-0b", "another clock": f"{int(until) + hour}-0c"}
        for words, token in tokens.items():
            world.store.deliver("canary@example.org", f"Subject: {words}\r\nX-Reconciler-Probe: {probe}-{token}\r\n\r\n".encode())
        assert self.run(self.driver(world), scope()).ok
        assert [one.header("subject") for one in box] == ["waits"]
        assert not box[0].flags

    def test_a_mailbox_that_keeps_what_is_to_go_is_said(self, world: ProbeEmulator) -> None:
        world.store.keeping = True
        found = self.run(self.driver(world), scope(), timeout=1)
        words = "mail.example.org:993 does not let this account delete the messages of this probe; give it the right to"
        assert found == Health(Level.DEGRADED, words)
        writes, over = world.faults.writes, threading.Event()
        over.wait(1)
        assert not self.run(self.driver(world), scope()).ok
        assert world.faults.writes == writes, "nothing more is sent that could not be deleted"

    def test_what_is_measured_is_the_time_from_the_sending_to_the_finding(self, world: ProbeEmulator) -> None:
        slow = HangsUp(world.doors["smtp"].port, b"\0", delay=1.2)
        settings = world.settings()
        settings["connect_to"]["mx:25"] = slow.address
        smtp = {"host": "mx", "port": 25, "tls": "none", "sender": "canary@example.org", "recipient": "canary@example.org"}
        found = self.run(ProbeDriver(ProbeConfig(**settings)), scope(), smtp=smtp, timeout=20)
        assert found.ok, found.message
        assert 1.2 <= float(found.message.split()[-2]) < 15
        slow.close()

    @pytest.mark.parametrize("end", ["smtp", "imap"])
    def test_no_password_is_sent_to_a_server_whose_certificate_is_not_right(self, world: ProbeEmulator, end: str) -> None:
        for changes in (
            {"server_name": "mx.example.com"},
            {"port": 587 if end == "smtp" else 143, "tls": "starttls", "server_name": "x.y"},
        ):
            found = self.run(self.driver(world), scope(), **{end: trip()[end] | changes})
            assert found.level is Level.DEGRADED
            assert "shows a certificate that is not right" in found.message
        assert world.faults.writes == 0

    def test_a_message_says_that_no_person_wrote_it_so_that_nobody_s_absence_is_answered(self, world: ProbeEmulator) -> None:
        marks = Marks()
        box, world.store.boxes["canary@example.org"] = world.store.boxes["canary@example.org"], marks
        assert self.run(self.driver(world), scope()).ok
        world.store.boxes["canary@example.org"] = box
        assert marks.kept is not None
        assert marks.kept.header("Auto-Submitted") == "auto-generated"  # RFC 3834
        assert marks.kept.header("Message-ID")
        assert marks.kept.header("Date")

    def test_a_mailbox_may_have_any_name(self, world: ProbeEmulator) -> None:
        name = 'a "b" \\\\ c'
        found = self.run(self.driver(world), scope(), imap=trip()["imap"] | {"mailbox": name})
        assert found.message == f"mail.example.org:993 has no mailbox {name}"

    @pytest.mark.parametrize(("door", "known"), [("submissions", False), ("imaps", False), ("smtp", True)])
    def test_a_door_that_hangs_up_at_once_is_knocked_at_again_and_one_that_hangs_up_later_is_not(
        self, world: ProbeEmulator, door: str, known: bool
    ) -> None:
        """Before a login nothing is spared by waiting; after it, mails and logins are."""
        smtp = trip()["smtp"] | ({"port": 25, "tls": "none", "username": "", "password": ""} if known else {})
        address = {"submissions": "mail.example.org:465", "imaps": "mail.example.org:993", "smtp": "mail.example.org:25"}[door]
        cut = HangsUp(world.doors[door].port, b"queued" if known else b"")
        settings = world.settings()
        settings["connect_to"] = settings["connect_to"] | {address: cut.address}
        driver = ProbeDriver(ProbeConfig(**settings))
        first = self.run(driver, scope(), smtp=smtp)
        assert first.level is Level.DEGRADED
        assert "cut" in first.message or "TLS" in first.message
        cut.word = b"\0\0never"
        assert self.run(driver, scope(), smtp=smtp).ok is not known
        cut.close()

    def test_it_runs_at_most_every_so_often(self, world: ProbeEmulator) -> None:
        now = [1000.0]
        driver = self.driver(world, lambda: now[0])
        for later, writes in ((0, 1), (599, 1), (2, 2)):
            now[0] += later
            assert self.run(driver, scope()).ok
            assert world.faults.writes == writes

    def test_a_result_from_before_the_path_was_changed_is_not_taken_for_one_from_after(self, world: ProbeEmulator) -> None:
        now = [1000.0]
        driver = self.driver(world, lambda: now[0])
        for since, writes in ((0.0, 1), (1001.0, 1), (1001.5, 2)):
            now[0] += 1
            assert self.run(driver, replace(scope(), since=since)).ok
            assert world.faults.writes == writes

    def test_bad_news_is_kept_for_a_minute_only(self, world: ProbeEmulator) -> None:
        now = [1000.0]
        driver = self.driver(world, lambda: now[0])
        assert not self.run(driver, scope(secret="wrong")).ok
        assert not self.run(driver, scope()).ok
        now[0] += 61
        assert self.run(driver, scope()).ok

    def test_a_door_that_nobody_opened_is_knocked_at_again_at_once(self, world: ProbeEmulator) -> None:
        """Nothing was sent, so nothing is spared by waiting; a gate would stay red for a minute after the path is whole."""
        driver = self.driver(world)
        nowhere = trip()["smtp"] | {"host": "10.0.20.202", "port": 25}
        assert "refused the connection" in self.run(driver, scope(), smtp=nowhere).message
        before = len(world.faults.requests)
        self.run(driver, scope(), smtp=nowhere)
        assert len(world.faults.requests) > before

    def test_a_new_commit_or_a_new_password_is_tried_at_once(self, world: ProbeEmulator) -> None:
        driver = self.driver(world)
        assert self.run(driver, scope()).ok
        assert self.run(driver, scope(revision="a")).ok
        assert not self.run(driver, scope(revision="a", secret="wrong", version="2")).ok

    def test_refusals_are_said_and_nothing_is_sent_when_the_mailbox_cannot_be_opened(self, world: ProbeEmulator) -> None:
        assert self.run(self.driver(world), scope(secret="wrong")) == Health(
            Level.DEGRADED, "mail.example.org:993 refused the login; check the user and the password"
        )
        missing = self.run(self.driver(world), scope(), imap=trip()["imap"] | {"mailbox": "Spam folder"})
        assert missing.message == "mail.example.org:993 has no mailbox Spam folder"
        assert world.faults.writes == 0

    def test_what_the_mail_server_refuses_is_quoted(self, world: ProbeEmulator) -> None:
        smtp = trip()["smtp"] | {"recipient": "nobody@example.net"}
        found = self.run(self.driver(world), scope(), smtp=smtp)
        assert found.message == "mail.example.org:465 answered 550 5.1.1 Recipient address rejected: User unknown"
        wrong = trip()["smtp"] | {"password": "wrong-pass-word"}
        assert self.run(self.driver(world), scope(), smtp=wrong).message == (
            "mail.example.org:465 refused the login with 535; check the user and the password"
        )
        anonymous = trip()["smtp"] | {"username": "", "password": ""}
        assert "530 5.7.0 Authentication required" in self.run(self.driver(world), scope(), smtp=anonymous).message

    def test_secrets_never_appear(self, world: ProbeEmulator, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        said = [repr(self.driver(world).observe([resource("MailRoundtrip", **trip())], scope()))]
        said.append(repr(self.driver(world).observe([resource("MailRoundtrip", **trip())], scope(secret="leaky-pass-word"))))
        for fault in ("server-error", "cut-before"):
            with world.faults.during(fault):
                said.append(repr(self.driver(world).observe([resource("MailRoundtrip", **trip())], scope())))
        ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("mail.log"))
        assert "pass-word" not in "\n".join([*said, ours])

    def test_a_secret_store_that_cannot_be_read_makes_it_unknown(self, world: ProbeEmulator) -> None:
        def sealed(ref: SecretRef) -> SecretValue:
            raise Transient("vault: sealed; unseal it")

        found = self.run(self.driver(world), Scope(owner="test/contract", fingerprint=lambda ref: "v1", reveal=sealed))
        assert found == Health(Level.UNKNOWN, "vault: sealed; unseal it")


class TestEmulator:
    def test_an_ordinary_client_can_use_it(self, world: ProbeEmulator) -> None:
        context = ssl.create_default_context(cafile=str(world.ca_file))
        with smtplib.SMTP_SSL("localhost", world.doors["submissions"].port, context=context, timeout=5) as client:
            client.login("me@example.org", "my-own-pass-word")
            client.sendmail("me@example.org", ["canary@example.org"], "Subject: hi\r\n\r\nhello\r\n")
        (mail,) = world.store.boxes["canary@example.org"]
        assert mail.header("Subject") == "hi"
        assert any("1 messages" in line for line in world.summary())

    def test_what_probes_rely_on_is_refused_without_login(self, world: ProbeEmulator) -> None:
        with (
            smtplib.SMTP("127.0.0.1", world.doors["submission"].port, timeout=5) as client,
            pytest.raises(smtplib.SMTPSenderRefused, match="530"),
        ):
            client.sendmail("me@example.org", ["canary@example.org"], "Subject: hi\r\n\r\nhello\r\n")

    def test_a_mailbox_can_be_read_and_emptied(self, world: ProbeEmulator) -> None:
        for subject in ("one", "two"):
            world.store.deliver("me@example.org", f"Subject: {subject}\r\n\r\n(hello)\r\n".encode())
        with imaplib.IMAP4("127.0.0.1", world.doors["imap"].port, 5) as client:
            client.login("me@example.org", "my-own-pass-word")
            assert client.select("INBOX") == ("OK", [b"2"])
            assert client.search(None, "HEADER", "Subject", '"two"') == ("OK", [b"2"])
            _, found = client.fetch("2", "(BODY[])")
            assert found[0] is not None
            assert found[0][1] == b"Subject: two\r\n\r\n(hello)\r\n"
            client.store("1", "+FLAGS", r"(\Deleted)")
            assert client.expunge() == ("OK", [b"1"])
            assert client.search(None, "ALL") == ("OK", [b"1"])

    def test_it_can_be_stopped_and_started_again(self) -> None:
        emulator = ProbeEmulator({"resolvers": ["9.9.9.9"]})
        emulator.start()
        emulator.stop()
        port = emulator.resolvers["9.9.9.9"].port
        emulator.start()
        assert emulator.resolvers["9.9.9.9"].port == port
        emulator.stop()

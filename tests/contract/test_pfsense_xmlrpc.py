"""pfSense by its XML-RPC: the same promises over the other way in, and what only that way can go wrong with."""

import base64
import http.client
import ssl
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pfsense_world import BACKEND, FRONTEND, HOST, SETTINGS, PfSenseWorld

from reconciler.driver import Scope, Status
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.testing import Bench, DriverContract, scope_for
from reconciler_pfsense.config import Config
from reconciler_pfsense.driver import PfSenseDriver
from reconciler_pfsense.emulator import PASSWORD

MAIL = [SETTINGS, HOST, BACKEND, FRONTEND]


class WebWorld(PfSenseWorld):
    """The firewall, reached by XML-RPC."""

    transport = "xmlrpc"


class TestXmlRpc(DriverContract):
    """The promises, kept over XML-RPC."""

    always_ours = frozenset({"HAProxySettings"})
    cannot_delete = frozenset({"HAProxySettings"})

    @pytest.fixture
    def world(self) -> Iterator[WebWorld]:
        world = WebWorld()
        yield world
        world.emulator.stop()


@pytest.fixture
def world() -> Iterator[WebWorld]:
    world = WebWorld()
    yield world
    world.emulator.stop()


def opened(world: WebWorld, **settings: Any) -> PfSenseDriver:
    return PfSenseDriver(Config.model_validate({**world.emulator.xmlrpc_settings(), **settings}))


def refusal(driver: PfSenseDriver) -> DriverError:
    with pytest.raises(DriverError) as caught:
        driver.observe([], Scope("test/contract"))
    driver.close()
    return caught.value


def test_a_whole_converge_is_two_calls(world: WebWorld) -> None:
    bench = Bench(world, world.open(), scope_for(world))
    assert {one.status for one in bench.write(bench.plan(MAIL).changes)} == {Status.APPLIED}
    assert [program["verb"] for program in world.emulator.programs] == ["observe", "apply"]
    assert not any(program["print"] for program in world.emulator.programs), "what is printed would stand in the way of the reply"


def test_both_ways_in_see_the_same_firewall(world: WebWorld) -> None:
    bench = Bench(world, world.open(), scope_for(world))
    bench.converge(MAIL)
    other = PfSenseDriver(Config.model_validate(world.emulator.settings()))
    assert not Bench(world, other, scope_for(world)).plan(MAIL).changes
    other.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password": "canary-hunter2"}, "login was refused"),
        ({"username": "viewer"}, "system-xmlrpc-ha-sync"),
        ({"username": "nobody"}, "login was refused"),
        ({"server_name": "fw.example.org"}, "certificate is not the right one"),
        ({"certificate": ""}, "certificate is not the right one"),
        ({"certificate": "no PEM"}, "PEM"),
        ({"certificate": "/nonexistent.pem"}, "/nonexistent.pem cannot be read"),
    ],
)
def test_what_will_not_get_better_by_itself_stops(world: WebWorld, settings: dict[str, str], words: str) -> None:
    error = refusal(opened(world, **settings))
    assert isinstance(error, Permanent)
    assert words in str(error)
    assert "canary" not in str(error)
    assert not world.emulator.programs


def test_a_changed_certificate_stops_before_anything_is_sent(world: WebWorld) -> None:
    driver = world.open()
    world.emulator.web.change_certificate()
    assert "certificate is not the right one" in str(refusal(driver))
    assert not world.emulator.programs


def test_the_certificate_may_be_a_file_and_name_the_firewall_as_it_calls_itself(world: WebWorld, tmp_path: Path) -> None:
    path = tmp_path / "gui.pem"
    path.write_text(world.emulator.web.certificate)
    driver = opened(world, certificate=str(path), server_name="pfSense-6543210fedcba")
    assert driver.observe([], Scope("test/contract")) == []


def test_a_fatal_error_of_php_is_told_without_its_stack(world: WebWorld) -> None:
    with world.emulator.faults.during("html"):
        error = refusal(world.open())
    assert isinstance(error, Permanent)
    assert "php stopped: PHP ERROR" in str(error)
    assert "Stack" not in str(error)


@pytest.mark.parametrize("fault", ["cut-before", "cut-after", "partial"])
def test_a_connection_that_breaks_is_worth_another_try_and_never_tried_by_itself(world: WebWorld, fault: str) -> None:
    with world.emulator.faults.during(fault, times=1):
        error = refusal(world.open())
    assert isinstance(error, Transient)
    assert "whether anything was done is not known" in str(error)
    assert len(world.emulator.programs) == 1


def test_a_slow_firewall_meets_the_deadline_and_one_that_is_off_is_worth_another_try(world: WebWorld) -> None:
    with world.emulator.faults.during("latency", seconds=5):
        assert "no answer in time" in str(refusal(opened(world, timeout=0.4)))
    driver = world.open()
    world.emulator.stop()
    assert isinstance(refusal(driver), Transient)


def test_a_server_that_is_something_else_is_said_to_be(world: WebWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    real = http.client.HTTPConnection.request

    def elsewhere(self: Any, method: str, url: str, *more: Any) -> None:
        real(self, method, "/index.php", *more)

    monkeypatch.setattr(http.client.HTTPConnection, "request", elsewhere)
    assert "there is no /xmlrpc.php" in str(refusal(world.open()))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"transport": "xmlrpc", "private_key": "x"}, "takes a password"),
        ({"transport": "xmlrpc"}, "takes a password"),
        ({"transport": "xmlrpc", "password": "x", "known_hosts": "fw ssh-ed25519 AAAA"}, "known_hosts"),
        ({"password": "x"}, "known_hosts is missing"),
        ({"password": "x", "known_hosts": "fw ssh-ed25519 AAAA", "certificate": "x"}, "go with the transport xmlrpc"),
    ],
)
def test_settings_of_the_other_way_are_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config.model_validate({"host": "fw", **settings})


def test_the_port_follows_the_way() -> None:
    assert Config.model_validate({"host": "fw", "transport": "xmlrpc", "password": "x"}).port == 443
    assert Config.model_validate({"host": "fw", "password": "x", "known_hosts": "fw ssh-ed25519 AAAA"}).port == 22


class TestTheEmulatedDoor:
    """What others who speak XML-RPC to a pfSense would find."""

    def call(self, world: WebWorld, method: str, *arguments: Any, body: bytes | None = None, login: str = f"admin:{PASSWORD}") -> Any:
        context = ssl.create_default_context(cadata=world.emulator.web.certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", world.emulator.web.port, context=context)
        headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
        connection.request("POST", "/xmlrpc.php", body or xmlrpc.client.dumps(arguments, method), headers)
        answer = connection.getresponse()
        assert answer.status == 200, "pfSense answers faults by HTTP 200"
        text = answer.read()
        connection.close()
        return xmlrpc.client.loads(text)[0][0]

    def test_it_gives_its_version(self, world: WebWorld) -> None:
        assert self.call(world, "pfsense.host_firmware_version", "dummy", 30)["firmware"]["version"] == "2.8.0-RELEASE"

    @pytest.mark.parametrize(
        ("method", "login", "code"),
        [("pfsense.filter_configure", f"admin:{PASSWORD}", -32601), ("pfsense.exec_php", "admin:x", -1), ("pfsense.exec_php", "x:y", -1)],
    )
    def test_it_answers_with_the_faults_of_the_real_one(self, world: WebWorld, method: str, login: str, code: int) -> None:
        with pytest.raises(xmlrpc.client.Fault) as caught:
            self.call(world, method, "x", login=login)
        assert caught.value.faultCode == code

    def test_it_survives_what_is_no_call(self, world: WebWorld) -> None:
        with pytest.raises(xmlrpc.client.Fault):
            self.call(world, "", body=b"<no xml")

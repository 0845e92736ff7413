"""The network of the embedded world: an address leads somewhere exactly while every link of its way is there."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from reconciler.sandbox.wires import SIGNATURE, Address, Cluster, Firewall, Path, Wires, follow, proxy_header, read_cluster, read_firewall

SERVICE: dict[str, Any] = {
    "metadata": {"name": "mail", "namespace": "mailserver"},
    "spec": {
        "selector": {"app": "mail"},
        "ports": [{"port": 25, "targetPort": "smtp", "nodePort": 30125}, {"port": 993, "targetPort": 993}, {"port": 80}],
    },
}
DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "mail", "namespace": "mailserver"},
    "spec": {
        "template": {
            "metadata": {"labels": {"app": "mail", "tier": "edge"}},
            "spec": {"containers": [{"ports": [{"containerPort": 2525, "name": "smtp"}, {"containerPort": 993}]}]},
        }
    },
    "status": {"availableReplicas": 1},
}


def without(document: dict[str, Any], *path: str) -> dict[str, Any]:
    """The document without the value at ``path``."""
    head, *rest = path
    return {key: without(value, *rest) if key == head and rest else value for key, value in document.items() if key != head or rest}


class TestACluster:
    def test_leads_from_a_service_and_a_node_port_to_the_containers_port(self) -> None:
        cluster = read_cluster([SERVICE], [DEPLOYMENT], ["10.0.0.1"])
        assert cluster.node_ports == {30125: 2525}
        assert {name for name, port in cluster.services if port == 25} == {
            "mail.mailserver",
            "mail.mailserver.svc",
            "mail.mailserver.svc.cluster.local",
        }
        assert cluster.services[("mail.mailserver", 25)] == 2525
        assert cluster.services[("mail.mailserver", 993)] == 993
        assert ("mail.mailserver", 80) not in cluster.services, "no container listens there"
        assert cluster.nodes == {"10.0.0.1"}

    def test_leads_from_the_address_of_a_load_balancer_as_well(self) -> None:
        balanced = {**SERVICE, "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.202"}]}}}
        assert read_cluster([balanced], [DEPLOYMENT], []).services[("10.0.0.202", 25)] == 2525
        assert ("10.0.0.202", 25) not in read_cluster([SERVICE], [DEPLOYMENT], []).services

    @pytest.mark.parametrize(
        ("service", "deployment"),
        [
            pytest.param(SERVICE, without(DEPLOYMENT, "status"), id="no pod runs"),
            pytest.param(SERVICE, {**DEPLOYMENT, "status": {"availableReplicas": 0}}, id="no pod is ready"),
            pytest.param(without(SERVICE, "spec", "selector"), DEPLOYMENT, id="the service selects nothing"),
            pytest.param({**SERVICE, "spec": {**SERVICE["spec"], "selector": {"app": "web"}}}, DEPLOYMENT, id="it selects others"),
            pytest.param({**SERVICE, "metadata": {"name": "mail", "namespace": "web"}}, DEPLOYMENT, id="it is in another namespace"),
        ],
    )
    def test_leads_nowhere_when_a_link_is_missing(self, service: dict[str, Any], deployment: dict[str, Any]) -> None:
        cluster = read_cluster([service], [deployment], [])
        assert not cluster.services
        assert not cluster.node_ports


HAPROXY = """global
\tdaemon

frontend smtp
\tbind\t\t\t10.0.0.254:25 name 10.0.0.254:25
\tmode\t\t\ttcp
\tdefault_backend smtp_ipvANY

frontend lost
\tbind\t\t\t10.0.0.254:26 name x
\tdefault_backend nowhere

backend smtp_ipvANY
\tmode\t\t\ttcp
\tserver\t\t\tnode1 10.0.0.1:30125 check inter 1000 send-proxy-v2
"""
RULES = """rdr on em0 inet proto tcp from any to 192.0.2.1 port 25 -> 10.0.0.254
rdr on em0 inet proto tcp from any to 192.0.2.1 port 993 -> 10.0.0.1 port 30993
pass in quick on em0 inet proto tcp from any to 10.0.0.254 port 25
"""


class TestAFirewall:
    def test_is_read_from_the_files_that_it_runs_on(self) -> None:
        firewall = read_firewall(HAPROXY, RULES)
        assert firewall.forwards == {("192.0.2.1", 25): ("10.0.0.254", 25), ("192.0.2.1", 993): ("10.0.0.1", 30993)}
        assert firewall.frontends.keys() == {("10.0.0.254", 25)}, "a frontend without a backend serves nobody"
        server, options = firewall.frontends[("10.0.0.254", 25)]
        assert server == ("10.0.0.1", 30125)
        assert "send-proxy-v2" in options

    def test_follows_the_alias_that_a_forward_names(self) -> None:
        table = "table <mailserver> {   10.0.0.202 } \n"
        rules = "rdr on em0 inet proto tcp from any to 192.0.2.1 port 25 -> $mailserver\n"
        assert read_firewall("", table + rules).forwards == {("192.0.2.1", 25): ("10.0.0.202", 25)}
        assert read_firewall("", rules).forwards == {("192.0.2.1", 25): ("$mailserver", 25)}, "an alias that is gone leads nowhere"

    def test_without_anything_leads_nowhere(self) -> None:
        assert read_firewall("", "") == Firewall({}, {})


NAMES = {"mail.example.com": "192.0.2.1"}
DOORS = {(2525, True): 1, (2525, False): 2, (993, False): 3}


class TestAWay:
    FIREWALL = read_firewall(HAPROXY, RULES)
    CLUSTER = Cluster(frozenset({"10.0.0.1"}), {30125: 2525, 30993: 993}, {("mail.mailserver", 993): 993})

    def follow(self, address: Address, **other: Any) -> Path | None:
        given = {"cluster": self.CLUSTER, "firewall": self.FIREWALL, "names": NAMES, "doors": DOORS, **other}
        return follow(address, given["cluster"], given["firewall"], given["names"], given["doors"])

    def test_goes_from_a_name_through_forward_proxy_and_node_to_the_container(self) -> None:
        assert self.follow(("mail.example.com", 25)) == Path(1, proxy=True)

    def test_may_pass_the_proxy_by(self) -> None:
        assert self.follow(("192.0.2.1", 993)) == Path(3, proxy=False)

    def test_inside_the_cluster_goes_by_the_service(self) -> None:
        assert self.follow(("mail.mailserver", 993)) == Path(3)

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param({"names": {}}, id="the name is not published"),
            pytest.param({"names": {"mail.example.com": "192.0.2.99"}}, id="the name leads elsewhere"),
            pytest.param({"firewall": Firewall({}, {})}, id="no forward"),
            pytest.param({"firewall": Firewall({("192.0.2.1", 25): ("10.0.0.254", 25)}, {})}, id="no frontend"),
            pytest.param({"cluster": Cluster(frozenset(), {30125: 2525}, {})}, id="the node is gone"),
            pytest.param({"cluster": Cluster(frozenset({"10.0.0.1"}), {}, {})}, id="no node port"),
            pytest.param({"doors": {}}, id="nothing listens in the container"),
        ],
    )
    def test_is_broken_when_one_link_is(self, broken: dict[str, Any]) -> None:
        assert self.follow(("mail.example.com", 25), **broken) is None


class TestThePROXYHeader:
    def test_holds_both_addresses_as_the_protocol_says(self) -> None:
        header = proxy_header(("198.51.100.7", 40000), ("192.0.2.1", 25))
        assert header[:12] == SIGNATURE
        assert header[12:16] == bytes([0x21, 0x11]) + struct.pack("!H", 12)
        assert header[16:24] == socket.inet_aton("198.51.100.7") + socket.inet_aton("192.0.2.1")
        assert struct.unpack("!HH", header[24:]) == (40000, 25)

    def test_has_an_address_for_a_name_too(self) -> None:
        assert len(proxy_header(("127.0.0.1", 1), ("mail.example.com", 25))) == 28


@dataclass
class Host:
    """A server that answers each connection with what it got, and remembers it."""

    got: list[bytes] = field(default_factory=list)

    def __enter__(self) -> "Host":
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                data = b""
                while part := connection.recv(4096):
                    data += part
                self.got.append(data)
                connection.sendall(b"got " + data[-5:])

    def __exit__(self, *_: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(timeout=5)


class TestWires:
    ADDRESS = ("mail.example.com", 25)

    @pytest.fixture
    def host(self) -> Iterator[Host]:
        with Host() as made:
            yield made

    @pytest.fixture
    def ways(self) -> dict[Address, Path]:
        return {}

    @pytest.fixture
    def wires(self, ways: dict[Address, Path]) -> Iterator[Wires]:
        made = Wires([self.ADDRESS, ("other", 1)], lambda: ways.get, every=0.01)
        made.start()
        yield made
        made.stop()

    def port(self, wires: Wires) -> int:
        return int(wires.connect_to()["mail.example.com:25"].rpartition(":")[2])

    def reachable(self, wires: Wires) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port(wires)), timeout=2).close()
        except ConnectionRefusedError:
            return False
        return True

    def until(self, true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 5
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def ask(self, wires: Wires, text: bytes = b"hello") -> bytes:
        with socket.create_connection(("127.0.0.1", self.port(wires)), timeout=2) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while part := client.recv(4096):
                answer += part
            return answer

    def test_refuse_until_the_way_is_whole_and_again_when_it_breaks(self, wires: Wires, ways: dict[Address, Path], host: Host) -> None:
        assert not self.reachable(wires)
        ways[self.ADDRESS] = Path(host.port)
        self.until(lambda: self.reachable(wires))
        assert wires.open(self.ADDRESS)
        del ways[self.ADDRESS]
        self.until(lambda: not self.reachable(wires))
        assert not wires.open(self.ADDRESS)

    def test_carry_both_directions_and_add_nothing(self, wires: Wires, ways: dict[Address, Path], host: Host) -> None:
        ways[self.ADDRESS] = Path(host.port)
        self.until(lambda: wires.open(self.ADDRESS) and self.reachable(wires))
        host.got.clear()
        assert self.ask(wires) == b"got hello"
        assert b"hello" in host.got

    def test_add_a_proxy_header_where_the_last_hop_speaks_it(self, wires: Wires, ways: dict[Address, Path], host: Host) -> None:
        ways[self.ADDRESS] = Path(host.port, proxy=True)
        self.until(lambda: wires.open(self.ADDRESS) and self.reachable(wires))
        assert self.ask(wires) == b"got hello"
        (got,) = [one for one in host.got if one.endswith(b"hello")]
        assert got.startswith(SIGNATURE)
        assert len(got) == 28 + len(b"hello")

    def test_live_on_when_the_systems_cannot_be_read_for_a_while(self, ways: dict[Address, Path], host: Host) -> None:
        import httpx

        troubles: list[Exception] = [httpx.ConnectError("down"), KeyError("spec")]

        def look() -> Callable[[Address], Path | None]:
            if troubles:
                raise troubles.pop(0)
            return ways.get

        ways[self.ADDRESS] = Path(host.port)
        wires = Wires([self.ADDRESS], look, every=0.01)
        wires.start()
        self.until(lambda: self.reachable(wires))
        wires.stop()
        assert not self.reachable(wires)

    def test_have_settled_when_a_look_begun_afterwards_is_in_force(self, ways: dict[Address, Path], host: Host) -> None:
        reading, gate = threading.Event(), threading.Semaphore(0)

        def look() -> Callable[[Address], Path | None]:
            seen = dict(ways)
            reading.set()
            gate.acquire()
            return seen.get

        wires = Wires([self.ADDRESS], look, every=0.01)
        wires.start()
        assert reading.wait(5)
        ways[self.ADDRESS] = Path(host.port)  # the look that is under way has missed it
        gate.release()
        with pytest.raises(TimeoutError, match="did not follow"):
            wires.settle(0.2)
        gate.release(2)
        wires.settle(5)
        assert self.reachable(wires)
        gate.release(1000)
        wires.stop()

    def test_have_not_settled_while_the_systems_cannot_be_read(self, ways: dict[Address, Path]) -> None:
        def look() -> Callable[[Address], Path | None]:
            if not ways:
                raise KeyError("spec")
            return ways.get

        wires = Wires([self.ADDRESS], look, every=0.01)
        wires.start()
        with pytest.raises(TimeoutError):
            wires.settle(0.2)
        ways["other", 1] = Path(1)
        wires.settle(5)
        wires.stop()

    def test_wait_when_somebody_else_has_the_port_for_a_while(self, ways: dict[Address, Path], host: Host) -> None:
        wires = Wires([self.ADDRESS], lambda: ways.get, every=0.01)
        ways[self.ADDRESS] = Path(host.port)
        with socket.create_server(("127.0.0.1", self.port(wires))):
            wires.start()
            self.until(lambda: wires.open(self.ADDRESS))
        self.until(lambda: self.reachable(wires))
        assert self.ask(wires) == b"got hello"
        wires.stop()


def test_a_port_is_nobody_elses_while_its_way_is_not_whole() -> None:
    wires = Wires([("10.0.20.1", 25)], lambda: lambda address: None)
    try:
        (place,) = wires.connect_to().values()
        port = int(place.rpartition(":")[2])
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=2)
    finally:
        wires.stop()

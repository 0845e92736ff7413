"""The network of the embedded world: which address leads where, decided by what the emulated systems hold at this moment.

A packet to the WAN address follows the firewall's forwards, then its HAProxy, then a NodePort, then the container's port. A link that
is missing anywhere closes the loopback port that stands for the address, so a probe fails for the reason it would really fail for.
"""

import asyncio
import contextlib
import ipaddress
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
Address: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Path:
    """The end of a way: a loopback port of the mail host, and whether the last hop before it speaks the PROXY protocol, version 2."""

    port: int
    proxy: bool = False


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the network needs of a cluster: node addresses, and for each Service its ports with the container port behind each."""

    nodes: frozenset[str]
    node_ports: Mapping[int, int]
    services: Mapping[Address, int]


@dataclass(frozen=True, slots=True)
class Firewall:
    """What the network needs of a firewall: forwards and HAProxy frontends, each with the server behind it and its options."""

    forwards: Mapping[Address, Address]
    frontends: Mapping[Address, tuple[Address, str]]


def read_cluster(services: Iterable[Mapping[str, Any]], deployments: Iterable[Mapping[str, Any]], nodes: Iterable[str]) -> Cluster:
    """Find the ports that lead to a running pod: by the name of a Service, by its load balancer's address, and on every node."""
    node_ports: dict[int, int] = {}
    ways: dict[Address, int] = {}
    running = [one for one in deployments if (one.get("status") or {}).get("availableReplicas")]
    for service in services:
        spec, metadata = service["spec"], service["metadata"]
        pod = next((one for one in running if _selects(spec.get("selector") or {}, one, metadata["namespace"])), None)
        for port in spec.get("ports", []) if pod is not None else []:
            target = _container_port(pod or {}, port.get("targetPort", port["port"]))
            if target:
                names = [f"{metadata['name']}.{metadata['namespace']}{suffix}" for suffix in ("", ".svc", ".svc.cluster.local")]
                ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
                ways |= dict.fromkeys(((name, port["port"]) for name in (*names, *(one["ip"] for one in ingress))), target)
                if port.get("nodePort"):
                    node_ports[port["nodePort"]] = target
    return Cluster(frozenset(nodes), node_ports, ways)


def _selects(selector: Mapping[str, str], deployment: Mapping[str, Any], namespace: str) -> bool:
    labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
    same = deployment["metadata"]["namespace"] == namespace
    return same and bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def _container_port(deployment: Mapping[str, Any], target: int | str) -> int:
    ports = [port for one in deployment["spec"]["template"]["spec"]["containers"] for port in one.get("ports", [])]
    return next((port["containerPort"] for port in ports if target in (port["containerPort"], port.get("name"))), 0)


def read_firewall(haproxy_cfg: str, rules: str) -> Firewall:
    """Read the forwards out of the packet filter's rules, aliases resolved, and the frontends out of haproxy.cfg."""
    aliases = {m[1]: m[2].split()[0] for m in re.finditer(r"^table <(\w+)> \{ +(\S[^}]*)\}", rules, re.MULTILINE)}
    forward = re.compile(r"^rdr on \S+ .*to (\S+) port (\d+) -> (\S+)(?: port (\d+))?\s*$", re.MULTILINE)
    forwards = {(m[1], int(m[2])): (aliases.get(m[3].removeprefix("$"), m[3]), int(m[4] or m[2])) for m in forward.finditer(rules)}
    servers: dict[str, tuple[Address, str]] = {}
    binds: dict[Address, str] = {}
    for section in re.split(r"\n(?=frontend |backend )", haproxy_cfg):
        head, _, body = section.partition("\n")
        kind, _, name = head.partition(" ")
        if kind == "backend" and (m := re.search(r"^\s+server\s+\S+ (\S+):(\d+) ?(.*)$", body, re.MULTILINE)):
            servers[name.strip()] = ((m[1], int(m[2])), m[3])
        elif kind == "frontend" and (used := re.search(r"default_backend\s+(\S+)", body)):
            binds |= {(m[1], int(m[2])): used[1] for m in re.finditer(r"^\s+bind\s+(\S+?):(\d+)\s", body, re.MULTILINE)}
    return Firewall(forwards, {bind: servers[backend] for bind, backend in binds.items() if backend in servers})


def follow(
    address: Address, cluster: Cluster, firewall: Firewall, names: Mapping[str, str], doors: Mapping[tuple[int, bool], int]
) -> Path | None:
    """Follow an address to the mail host; None when the way is broken. ``doors`` maps (container port, header demanded) to a port here."""
    host, port = names.get(address[0], address[0]), address[1]
    proxy = False
    if (host, port) in firewall.forwards:
        host, port = firewall.forwards[(host, port)]
    if (host, port) in firewall.frontends:
        (host, port), options = firewall.frontends[(host, port)]
        proxy = "send-proxy-v2" in options
    target = cluster.node_ports.get(port) if host in cluster.nodes else cluster.services.get((host, port))
    door = doors.get((target, True)) or doors.get((target, False)) if target else None
    return Path(door, proxy) if door else None


class Wires:
    """Keeps one loopback port for each address that somebody may dial, open while the way is whole."""

    def __init__(self, addresses: Iterable[Address], look: Callable[[], Callable[[Address], Path | None]], *, every: float = 0.15) -> None:
        """``look`` reads the present state of the systems and gives the function that follows an address in it."""
        self._held = {address: _held_port() for address in sorted(set(addresses))}
        self._ports = {address: int(one.getsockname()[1]) for address, one in self._held.items()}
        self._look, self._every = look, every
        self._paths: dict[Address, Path] = {}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._keep()), name="wires", daemon=True)
        self._stop = threading.Event()
        self._relays: set[asyncio.Task[Any]] = set()
        self._begun = self._done = 0
        self._round = threading.Condition()

    def connect_to(self) -> dict[str, str]:
        """Give the map for probes: an address as written -> the loopback port that stands for it."""
        return {f"{host}:{port}": f"127.0.0.1:{local}" for (host, port), local in self._ports.items()}

    def open(self, address: Address) -> bool:
        """Say whether the way is whole at this moment."""
        return address in self._paths

    def settle(self, patience: float = 30) -> None:
        """Return when the ports are as the systems are now. Raises TimeoutError after ``patience`` seconds."""
        with self._round:
            goal = self._begun + 1  # a look that is under way may have read what was before
            if not self._round.wait_for(lambda: self._done >= goal, patience):
                raise TimeoutError(f"the embedded network did not follow its systems within {patience:g} s")

    def start(self) -> None:
        """Follow the systems from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close every port."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)
        for one in self._held.values():
            one.close()

    async def _keep(self) -> None:
        servers: dict[Address, asyncio.Server] = {}
        while not self._stop.is_set():
            self._begun += 1
            followed = False
            with contextlib.suppress(httpx.HTTPError, KeyError):
                way = await asyncio.to_thread(self._look)
                self._paths = {address: path for address in self._ports if (path := way(address)) is not None}
                followed = True
            for address in [one for one in servers if one not in self._paths]:
                await _close(servers.pop(address))
            for address in [one for one in self._paths if one not in servers]:
                with contextlib.suppress(OSError):  # another program has the port at this moment; tried again
                    servers[address] = await asyncio.start_server(self._relay(address), "127.0.0.1", self._ports[address])
            self._tell(followed)
            await asyncio.sleep(self._every)
        for server in servers.values():
            await _close(server)
        for task in self._relays:
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def _tell(self, followed: bool) -> None:
        """Note that a round is over; one that could not look does not count."""
        with self._round:
            self._done = self._begun if followed else self._done
            self._round.notify_all()

    def _relay(self, address: Address) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            path = self._paths.get(address)
            if path is None:
                writer.close()
                return
            both, task = [writer], asyncio.current_task()
            assert task is not None
            self._relays.add(task)  # the loop itself holds its tasks only weakly
            with contextlib.suppress(OSError, asyncio.CancelledError):
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", path.port)
                both.append(inner_writer)
                if path.proxy:
                    inner_writer.write(proxy_header(writer.get_extra_info("peername"), (address[0], address[1])))
                await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
            for one in both:
                one.close()
            for one in both:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await one.wait_closed()
            self._relays.discard(task)

        return serve


async def _close(server: asyncio.Server) -> None:
    """Accept nothing more, then close: asyncio loses a connection that was accepted in the same turn of its loop."""
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    for _ in range(10):
        await asyncio.sleep(0)
    server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()  # who has said all may still listen


def proxy_header(source: Address, destination: Address) -> bytes:
    """Build a PROXY protocol header, version 2, for TCP over IPv4 (haproxy.org, proxy-protocol.txt, 2.2)."""
    addresses = b"".join(ipaddress.IPv4Address(_literal(host)).packed for host, _ in (source, destination))
    body = addresses + struct.pack("!HH", source[1], destination[1])
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(body)) + body


def _literal(host: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        return "127.0.0.1"


def _held_port() -> socket.socket:
    """Hold a free port without listening: nobody else is given it while the way is not whole, and a connection to it is refused."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that the server of the way may listen beside it
    held.bind(("127.0.0.1", 0))
    return held

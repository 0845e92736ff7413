"""The way a connection takes through several systems: forward, frontend, backend, node port, listener. Pure.

Each system accepts its own half; only together they work. What a check finds here was an outage somewhere: health checks that send a PROXY
header kill Postfix's smtpd, a header to a stock port is a protocol error, and a firewall leaves out a rule whose alias is gone.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.checks.cluster import ServicePort, number
from reconciler.checks.dns import is_address
from reconciler.checks.findings import Finding, error, info, warning
from reconciler.checks.view import MAIL_PORTS, Item, MailView, Record

NODE_PORTS = range(30000, 32768)
"""What Kubernetes gives out unless its administrator says otherwise."""
IDLE = 29 * 60 * 1000
"""Milliseconds after which an IMAP client must speak again (RFC 2177)."""
IMAP = frozenset({143, 993})
SPECIAL = frozenset({"any", "wanip", "lanip", "wan", "lan", "(self)", "localhost", "localhost4", "localhost6"})


# -- proxy and cluster -------------------------------------------------------------------------------------------------------------


def servers(view: MailView) -> Iterator[tuple[Item, Mapping[str, Any]]]:
    """Give every server that takes connections, with its backend."""
    for backend in view.items["HAProxyBackend"]:
        yield from ((backend, server) for server in backend.data["servers"] if server.get("status") not in ("disabled", "inactive"))


def by_node_port(view: MailView) -> dict[int, ServicePort]:
    """Give the pinned node ports."""
    return {one.node: one for one in view.cluster.ports if one.node}


def node_port(view: MailView) -> Iterator[Finding]:
    """A server whose address is one of our nodes leads to a port that a Service of ours pins."""
    pinned = by_node_port(view)
    ours = {server["address"] for _, server in servers(view) if {server["port"], server.get("check_port")} & set(pinned)}
    for backend, server in servers(view) if view.cluster.ports else ():
        for port in (server["port"], server.get("check_port")):
            if port in NODE_PORTS and port not in pinned:
                message = f"server {server['name']} leads to node port {port}, which no Service of this stack pins"
                yield (error if server["address"] in ours else info)("node-port", backend.id, message)


def demands(view: MailView, port: ServicePort) -> bool | None:
    """Say whether what is behind a port of a Service demands a PROXY header; None when its files do not say."""
    answers = set()
    for workload, target in view.cluster.behind(port):
        listeners = view.cluster.listeners[workload.id]
        known = bool(listeners) and (listeners.whole or target in listeners.ports)
        answers.add(target in listeners.ports if known else None)
    return answers.pop() if len(answers) == 1 else None


def proxy_pair(view: MailView) -> Iterator[Finding]:
    """Who sends the header and who demands it are the same."""
    pinned = by_node_port(view)
    for backend, server in servers(view):
        port = pinned.get(server["port"])
        if port is None:
            continue
        sends, demanded = server.get("send_proxy", "none") != "none", demands(view, port)
        place = f"node port {port.node} ({port.id}, port {port.port})"
        if sends and demanded is False:
            yield error("proxy-pair", backend.id, f"server {server['name']} sends a PROXY header to {place}, whose listener knows none")
        elif sends and demanded is None:
            yield info("proxy-pair", backend.id, f"whether the listener behind {place} takes a PROXY header is unknown here")
        elif demanded and not sends:
            yield error("proxy-pair", backend.id, f"server {server['name']} sends no PROXY header to {place}, whose listener demands one")


def proxy_health(view: MailView) -> Iterator[Finding]:
    """A check has no client: what it sends in the header, Postfix takes for a broken one."""
    pinned = by_node_port(view)
    for backend, server in servers(view):
        if backend.data.get("check", "none") == "none":
            continue
        port = number(server.get("check_port"))
        if server.get("send_proxy", "none") != "none" and port in (0, server["port"]):
            yield error(
                "proxy-health", backend.id, f"checks of server {server['name']} send a PROXY header to the service; give a check_port"
            )
        elif port in pinned and demands(view, pinned[port]):
            message = f"checks of server {server['name']} go to node port {port}, whose listener demands a PROXY header; name one without"
            yield error("proxy-health", backend.id, message)


def port_pair(view: MailView) -> Iterator[Finding]:
    """Swapped ports look healthy: each accepts connections."""
    pinned = by_node_port(view)
    backends = _named(view, "HAProxyBackend")
    for frontend in _active(view):
        backend = backends.get(str(frontend.data["default_backend"]))
        for bind in _ports(frontend) & MAIL_PORTS if backend is not None else ():
            found = {pinned[server["port"]].port for server in backend.data["servers"] if server["port"] in pinned}  # type: ignore[union-attr]
            for wrong in sorted((found & MAIL_PORTS) - {bind}):
                yield error("port-pair", frontend.id, f"takes port {bind}, and its servers lead to port {wrong} of the Service")


def imap_timeout(view: MailView) -> Iterator[Finding]:
    """A shorter timeout cuts every phone off in IDLE, which then polls."""
    backends = _named(view, "HAProxyBackend")
    for frontend in _active(view):
        if not _ports(frontend) & IMAP:
            continue
        backend = backends.get(str(frontend.data["default_backend"]))
        for item, name in ((frontend, "client_timeout"), (backend, "server_timeout")):
            value = number(item.data.get(name)) if item is not None else 0
            if item is not None and 0 < value < IDLE:
                yield error("imap-timeout", item.id, f"{name} is {value} ms; IMAP clients may be silent for {IDLE} ms")


def _named(view: MailView, kind: str) -> dict[str, Item]:
    return {str(one.data["name"]): one for one in view.items[kind]}


def _active(view: MailView) -> Iterator[Item]:
    return (one for one in view.items["HAProxyFrontend"] if one.data.get("status", "active") == "active")


def _ports(frontend: Item) -> set[int]:
    return {int(part) for bind in frontend.data["binds"] for part in str(bind["port"]).split(",") if part.isdecimal()}


# -- firewall ----------------------------------------------------------------------------------------------------------------------


def forward_target(view: MailView) -> Iterator[Finding]:
    """A forward to an address of our frontends needs one on that port."""
    binds = [(str(bind["address"]), one, _ports(one)) for one in _active(view) for bind in one.data["binds"]]
    for forward in view.items["PortForward"]:
        port = str(forward.data.get("target_port") or forward.data["port"])
        there = [ports for address, _, ports in binds if address in _addresses(view, str(forward.data["target"]))]
        if there and not forward.data.get("disabled") and port.isdecimal() and not any(int(port) in ports for ports in there):
            message = f"leads to {forward.data['target']}:{port}, where no frontend of this stack listens"
            yield error("forward-target", forward.id, message)


def _addresses(view: MailView, text: str) -> set[str]:
    """Give the addresses that a text or an alias of ours means."""
    alias = _named(view, "Alias").get(text)
    return {str(entry["address"]) for entry in alias.data["addresses"]} if alias is not None else {text}


def address_held(view: MailView) -> Iterator[Finding]:
    """An address that its load balancer gives up answers nobody, and somebody else may get it."""
    for one, text in _destinations(view):
        for address in sorted(_addresses(view, text) & set(view.released)):
            words = f"leads to {address}, which {view.released[address]} is about to give up; change this first"
            yield error("address-held", one.id, words)


def _destinations(view: MailView) -> Iterator[tuple[Item | Record, str]]:
    """Give whatever sends somebody to an address: names, forwards, servers, and monitors that would cry."""
    yield from ((one, one.content) for one in view.records if one.type in ("A", "AAAA"))
    yield from ((one, str(one.data["target"])) for one in view.items["PortForward"] if not one.data.get("disabled"))
    yield from ((one, str(server["address"])) for one, server in servers(view))
    yield from ((one, str(one.data.get("hostname") or "")) for one in view.items["Monitor"])


def references(view: MailView) -> Iterator[Finding]:
    """A name that nothing declares is somebody else's, unless it is what this plan takes away."""
    for item, kind, name in _references(view):
        if name in _named(view, kind):
            continue
        gone = next((id for id in sorted(view.leaving) if id.kind == kind and id.name == name), None)
        if gone is not None:
            yield error("alias-reference", item.id, f"refers to {name!r}, and {gone} is about to be deleted; change this first")
        else:
            yield info(
                "alias-reference", item.id, f"refers to {name!r}, which this stack does not declare; whether it exists is unknown here"
            )


def _references(view: MailView) -> Iterator[tuple[Item, str, str]]:
    fields = {
        "FirewallRule": ("source", "source_port", "destination", "destination_port"),
        "PortForward": ("source", "destination", "port", "target", "target_port"),
    }
    for kind, names in fields.items():
        for one in view.items[kind]:
            texts = sorted({str(one.data.get(name) or "").removeprefix("!") for name in names})
            yield from ((one, "Alias", text) for text in texts if _is_alias(text))
    for one in view.items["HAProxyFrontend"]:
        leads_to = (one.data["default_backend"], *(route["backend"] for route in one.data.get("routes", ())))
        yield from ((one, "HAProxyBackend", str(name)) for name in leads_to if name)
    for one in view.items["Alias"]:
        entries = (str(entry["address"]) for entry in one.data["addresses"])
        yield from ((one, "Alias", text) for text in entries if _is_alias(text) and text in {id.name for id in view.leaving})


def _is_alias(text: str) -> bool:
    """Say whether a text can only be the name of an alias: no address, no port, nothing special."""
    if not text or text in SPECIAL or text.replace("-", "").replace(":", "").isdecimal():
        return False
    special = text.startswith("opt") and text[3:].removesuffix("ip").isdecimal()
    return not special and not any(letter in text for letter in "./") and not is_address(text)


# -- the server behind -------------------------------------------------------------------------------------------------------------


def open_relay(view: MailView) -> Iterator[Finding]:
    """A header can be forged by whatever reaches the port, so an address that it names proves nothing."""
    for workload in view.cluster.workloads:
        if view.cluster.listeners[workload.id]:
            for config in view.cluster.read_by(workload):
                yield from (error("open-relay", config.id, message) for message in _trusts(config.texts))


def _trusts(texts: Mapping[str, str]) -> Iterator[str]:
    if texts.get("PERMIT_DOCKER", "none") != "none":
        yield f"PERMIT_DOCKER={texts['PERMIT_DOCKER']} trusts networks, and a forged PROXY header comes from one; set it to none"
    for line in texts.get("postfix-main.cf", "").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "mynetworks" and value.strip():
            yield f"mynetworks = {value.strip()} is trusted, and a forged PROXY header comes from there; leave it out"


def rspamd_learn(view: MailView) -> Iterator[Finding]:
    """Statistics are kept in Redis."""
    for config in view.cluster.configs:
        if config.texts.get("RSPAMD_LEARN") == "1" and config.texts.get("ENABLE_RSPAMD_REDIS") == "0":
            yield warning("rspamd-learn", config.id, "RSPAMD_LEARN=1 learns nothing while ENABLE_RSPAMD_REDIS=0")


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (
    node_port,
    proxy_pair,
    proxy_health,
    port_pair,
    imap_timeout,
    forward_target,
    address_held,
    references,
    open_relay,
    rspamd_learn,
)

"""Commits in a wrong order, each made from the tree of the phase that it comes too early in, and the last phase's resources."""

import copy
from collections.abc import Callable

from tests.e2e.migration.phases import ALIAS, OLD, PORTS, PROBES, Tree, needs, trial_frontend

PORT = 30125


def take(tree: Tree, last: Tree, kind: str, name: str, file: str) -> None:
    """Take a document as the last phase has it, in the place of the one that is there."""
    document = copy.deepcopy(last.one(kind, name))
    if any((one["kind"], one["metadata"]["name"]) == (kind, name) for one in tree.all()):
        tree.drop(kind, name)
    tree.add(file, document)


def flip_with_its_gates(last: Tree) -> Callable[[Tree], None]:
    """The forwards of desired/mail and the probes that they wait for, whose frontends nobody has declared yet."""

    def edit(tree: Tree) -> None:
        for name in PORTS:
            kind, _, probe = PROBES[name].partition("/")
            take(tree, last, "PortForward", f"mailserver-{name}", "firewall.yaml")
            take(tree, last, kind, probe.format("inside"), "probes.yaml")

    return edit


def flip_at_once(last: Tree) -> Callable[[Tree], None]:
    """The same, with probes that wait for nothing, so that the tree can be loaded."""

    def edit(tree: Tree) -> None:
        flip_with_its_gates(last)(tree)
        _probes_that_wait_for_nothing(tree)

    return edit


def _probes_that_wait_for_nothing(tree: Tree) -> None:
    for name in PORTS:
        kind, _, probe = PROBES[name].partition("/")
        needs(tree.one(kind, probe.format("inside")))


def proxy_before_its_node_ports(last: Tree) -> Callable[[Tree], None]:
    """HAProxy on node ports that no Service has; the gates know the number only."""

    def edit(tree: Tree) -> None:
        take(tree, last, "HAProxySettings", "haproxy", "firewall.yaml")
        take(tree, last, "HAProxyBackend", "mailserver_nodes_smtp", "firewall.yaml")
        backend = tree.one("HAProxyBackend", "mailserver_nodes_smtp")
        backend["spec"]["servers"] = [
            {"name": "k8s-node1", "address": "10.0.20.101", "port": PORT, "check_port": 30145, "send_proxy": "v2"}
        ]
        needs(backend, "probe/SMTP/node-smtp")
        take(tree, last, "SMTP", "node-smtp", "probes.yaml")
        tree.one("SMTP", "node-smtp")["spec"]["port"] = PORT
        needs(tree.one("SMTP", "node-smtp"))
        tree.add("firewall.yaml", trial_frontend())
        for one in (backend, tree.one("HAProxyFrontend", "mailserver_trial")):
            one["metadata"].setdefault("annotations", {})["reconciler/waive"] = '["node-port"]'

    return edit


def monitors_before_the_proxy(last: Tree) -> Callable[[Tree], None]:
    """The monitors of the last phase while nothing listens on the inner address."""

    def edit(tree: Tree) -> None:
        for name in ("smtp", "imaps"):
            kind, _, probe = PROBES[name].partition("/")
            take(tree, last, kind, probe.format("inside"), "probes.yaml")
            needs(tree.one(kind, probe.format("inside")))
            take(tree, last, "Monitor", f"haproxy-{name}", "monitors.yaml")

    return edit


def header_to_a_stock_port(tree: Tree) -> None:
    """A node port that HAProxy sends a header to leads to a listener that knows none."""
    port = next(one for one in tree.one("Service", "mailserver-proxy")["spec"]["ports"] if one["name"] == "smtps")
    port["targetPort"] = "smtps"


def swapped_node_ports(tree: Tree) -> None:
    """The backend of one port leads to the node port of another."""
    backend = tree.one("HAProxyBackend", "mailserver_nodes_smtps")
    backend["spec"]["servers"] = backend["spec"]["servers"].replace('p.name == "smtps"', 'p.name == "submission"')


def cluster_too_early(last: Tree) -> Callable[[Tree], None]:
    """The Service gives its address back while something leads there."""

    def edit(tree: Tree) -> None:
        service, wanted = tree.one("Service", "mailserver"), last.one("Service", "mailserver")
        service["metadata"], service["spec"] = copy.deepcopy(wanted["metadata"]), copy.deepcopy(wanted["spec"])

    return edit


def alias_too_early(tree: Tree) -> None:
    """The alias goes while the forwards name it."""
    tree.drop("Alias", ALIAS)


def back_before_the_balancer(earlier: Tree) -> Callable[[Tree], None]:
    """The forwards lead back to an address that no load balancer has."""

    def edit(tree: Tree) -> None:
        take(tree, earlier, "Alias", ALIAS, "firewall.yaml")
        for name in PORTS:
            kind = PROBES[name].partition("/")[0]
            take(tree, earlier, "PortForward", f"mailserver-{name}", "firewall.yaml")
            take(tree, earlier, kind, f"balancer-{name}", "probes.yaml")
            needs(tree.one(kind, f"balancer-{name}"))
            assert tree.one(kind, f"balancer-{name}")["spec"]["host"] == OLD
        tree.drop("TCP", "old-address-released")

    return edit


def back_to_an_alias_that_is_gone(tree: Tree) -> None:
    """The forwards name an alias that nobody declares and the firewall does not have."""
    for name in PORTS:
        forward = tree.one("PortForward", f"mailserver-{name}")
        forward["spec"]["target"] = ALIAS
        needs(forward)

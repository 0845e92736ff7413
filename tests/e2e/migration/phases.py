"""The phases of the migration as trees of desired state, each made from ``desired/mail``, which is the last, by undoing one step more.

::

    0 baseline      a load balancer of its own, 10.0.20.202; the forwards lead to it by the alias "mailserver", the monitors watch it
    1a listener     port 2525, which demands a PROXY header, and the Service "mailserver-proxy" with its node port and a check port
    3 proxy         HAProxy's settings, the backend for SMTP, and a frontend to try it on, 10.0.20.1:2525
    5 all ports     the other listeners, node ports, backends, and the four frontends; the one to try goes
    4 flip          the forwards lead to 10.0.20.1; the load balancer lives on
    6a monitors     282 and 283 watch 10.0.20.1
    6b cluster      the Service gives its address back
    6c alias        nobody names the alias any more, and it goes
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

OLD = "10.0.20.202"
ALIAS = "mailserver"
BALANCED = {"metallb.universe.tf/loadBalancerIPs": OLD}
PORTS = {"smtp": 25, "smtps": 465, "sub": 587, "imaps": 993}
PROBES = {"smtp": "SMTP/{}-smtp", "smtps": "SMTP/{}-smtps", "sub": "SMTP/{}-submission", "imaps": "IMAP/{}-imaps"}
TRIED = 2525
"""The port of the frontend to try HAProxy on."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Tree:
    """Desired state: documents by file, and files that are not YAML."""

    documents: Mapping[str, list[Document]]
    others: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Tree":
        """Read a stack's folder."""
        files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        documents = {name: [one for one in yaml.safe_load_all(data) if one] for name, data in files.items() if name.endswith(".yaml")}
        return cls(documents, {name: data for name, data in files.items() if name not in documents})

    def write(self, folder: Path) -> None:
        """Write it, in the place of whatever is there."""
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        for name, documents in self.documents.items():
            self._write(folder / name, yaml.safe_dump_all(documents, sort_keys=False, width=200).encode())
        for name, data in self.others.items():
            self._write(folder / name, data)

    def _write(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def but(self, *edits: Callable[["Tree"], None]) -> "Tree":
        """Give a copy that was edited."""
        new = Tree(copy.deepcopy(dict(self.documents)), self.others)
        for edit in edits:
            edit(new)
        return new

    def all(self) -> Iterator[Document]:
        """Give every document."""
        return (one for documents in self.documents.values() for one in documents)

    def one(self, kind: str, name: str) -> Document:
        """Give a document; a test that names one that is not there is wrong."""
        (found,) = [one for one in self.all() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
        return found

    def drop(self, kind: str, *names: str) -> None:
        """Take documents away."""
        for name in names:
            self.one(kind, name)
        for documents in self.documents.values():
            documents[:] = [one for one in documents if one["kind"] != kind or one["metadata"]["name"] not in names]

    def add(self, file: str, *documents: Document) -> None:
        """Add documents at the end of a file."""
        self.documents[file].extend(documents)


def needs(document: Document, *ids: str) -> None:
    """Set what a document waits for."""
    annotations = document["metadata"].setdefault("annotations", {})
    annotations.pop("reconciler/depends-on", None)
    if ids:
        annotations["reconciler/depends-on"] = list(ids)
    if not annotations:
        del document["metadata"]["annotations"]


def adopt(document: Document) -> None:
    """Take over what a person made."""
    document["metadata"].setdefault("annotations", {})["reconciler/adopt"] = "true"


# -- one step back each --------------------------------------------------------------------------------------------------------------


def with_alias(tree: Tree) -> None:
    """The alias is still there."""
    spec = {"type": "host", "addresses": [OLD], "description": "the mail server's own address"}
    alias = {"apiVersion": "pfsense/v1", "kind": "Alias", "metadata": {"name": ALIAS}, "spec": spec}
    tree.documents["firewall.yaml"].insert(0, alias)


def with_balancer(tree: Tree) -> None:
    """The Service has an address of its own, and a probe says that it answers there; nobody says that it is silent."""
    service = tree.one("Service", "mailserver")
    service["metadata"]["annotations"] = dict(BALANCED)
    service["spec"] |= {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    tree.drop("TCP", "old-address-released")
    for name, port in PORTS.items():
        kind = PROBES[name].partition("/")[0]
        spec = {"host": OLD, "port": port, "tls": "starttls" if port in (25, 587) else "implicit", "timeout": 30}
        probe = {"apiVersion": "probe/v1", "kind": kind, "metadata": {"name": f"balancer-{name}"}, "spec": spec}
        needs(probe, "k8s/Deployment/mailserver/mailserver", "k8s/Service/mailserver/mailserver")
        tree.add("probes.yaml", probe)


def with_old_monitors(tree: Tree) -> None:
    """The two monitors watch the load balancer."""
    for name, title in (("haproxy-smtp", "Mailserver SMTP"), ("haproxy-imaps", "Mailserver IMAPS")):
        monitor = tree.one("Monitor", name)
        monitor["spec"] |= {"hostname": OLD, "title": title}
        needs(monitor, f"pfsense/PortForward/mailserver-{name.removeprefix('haproxy-')}")


def with_old_forwards(tree: Tree) -> None:
    """The forwards lead to the load balancer, once it answers."""
    for name in PORTS:
        forward = tree.one("PortForward", f"mailserver-{name}")
        forward["spec"]["target"] = ALIAS
        needs(forward, f"probe/{PROBES[name].partition('/')[0]}/balancer-{name}")


def with_one_port(tree: Tree) -> None:
    """Only SMTP goes by HAProxy, and only on the port to try; the round trip goes in by the load balancer."""
    for name in PORTS:
        tree.drop("HAProxyFrontend", f"mailserver_{name}")
        kind, _, probe = PROBES[name].partition("/")
        tree.drop(kind, probe.format("inside"))
        if name != "smtp":
            tree.drop("HAProxyBackend", f"mailserver_nodes_{name}")
            tree.drop(kind, probe.format("node"), probe.format("check"))
    tree.add("firewall.yaml", trial_frontend())
    tree.add("probes.yaml", trial_probe())
    _one_listener(tree)
    _round_trip_by_the_balancer(tree)


def trial_frontend() -> Document:
    """The frontend to try HAProxy on."""
    spec = {
        "binds": [{"address": "${vars.firewall}", "port": TRIED}],
        "type": "tcp",
        "default_backend": "mailserver_nodes_smtp",
        "client_timeout": 600000,
        "description": "SMTP, to try it",
    }
    return {"apiVersion": "pfsense/v1", "kind": "HAProxyFrontend", "metadata": {"name": "mailserver_trial"}, "spec": spec}


def trial_probe() -> Document:
    """The check of that frontend."""
    spec = {"host": "${vars.firewall}", "port": TRIED, "tls": "starttls", "banner": "ESMTP", "timeout": 30}
    probe = {"apiVersion": "probe/v1", "kind": "SMTP", "metadata": {"name": "trial-smtp"}, "spec": spec}
    needs(probe, "pfsense/HAProxyFrontend/mailserver_trial")
    return probe


def _one_listener(tree: Tree) -> None:
    service = tree.one("Service", "mailserver-proxy")
    service["spec"]["ports"] = [one for one in service["spec"]["ports"] if one["name"] in ("smtp", "check-smtp")]
    container = tree.one("Deployment", "mailserver")["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [one for one in container["ports"] if one["name"] not in ("smtps-proxy", "sub-proxy", "imaps-proxy")]
    ready = container["readinessProbe"]["exec"]["command"]
    ready[-1] = ready[-1].replace(" 4465 5587 10993", "")
    script = tree.one("ConfigMap", "mailserver-user-patches")["data"]
    script["user-patches.sh"] = script["user-patches.sh"].partition("# Submission:")[0].rstrip() + "\n"
    config = tree.one("ConfigMap", "mailserver.config")["data"]
    config["dovecot.cf"] = config["dovecot.cf"].partition("service imap-login")[0].rstrip() + "\n"


def _round_trip_by_the_balancer(tree: Tree) -> None:
    trip = tree.one("MailRoundtrip", "round-trip")
    trip["spec"]["smtp"]["host"] = trip["spec"]["imap"]["host"] = OLD
    needs(trip, "probe/SMTP/balancer-smtps", "probe/IMAP/balancer-imaps")


def without_haproxy(tree: Tree) -> None:
    """HAProxy knows nothing of mail."""
    tree.drop("HAProxySettings", "haproxy")
    tree.drop("HAProxyBackend", "mailserver_nodes_smtp")
    tree.drop("HAProxyFrontend", "mailserver_trial")
    tree.drop("SMTP", "trial-smtp")


def without_listener(tree: Tree) -> None:
    """No port demands a header."""
    tree.drop("Service", "mailserver-proxy")
    tree.drop("SMTP", "node-smtp", "check-smtp")
    tree.drop("ConfigMap", "mailserver-user-patches")
    pod = tree.one("Deployment", "mailserver")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["ports"] = [one for one in container["ports"] if one["name"] != "smtp-proxy"]
    container["readinessProbe"]["exec"]["command"][-1] = container["readinessProbe"]["exec"]["command"][-1].replace(" 2525", "")
    for volume in pod["volumes"]:
        sources = volume.get("projected", {}).get("sources", [])
        sources[:] = [one for one in sources if one.get("configMap", {}).get("name") != "mailserver-user-patches"]


def adopting(tree: Tree) -> None:
    """What a person made is taken over; the monitors of desired/mail say so themselves."""
    adopt(tree.one("Alias", ALIAS))
    for name in PORTS:
        adopt(tree.one("PortForward", f"mailserver-{name}"))


STEPS: tuple[tuple[str, Callable[[Tree], None]], ...] = (
    ("6c alias", with_alias),
    ("6b cluster", with_balancer),
    ("6a monitors", with_old_monitors),
    ("4 flip", with_old_forwards),
    ("5 all ports", with_one_port),
    ("3 proxy", without_haproxy),
    ("1a listener", without_listener),
)
"""Each phase with what undoes it, the last phase first."""


def phases(last: Tree) -> dict[str, Tree]:
    """Give the trees by phase, in the order of the migration."""
    found = {}
    for name, undo in STEPS:
        found[name] = last
        last = last.but(undo)
    found["0 baseline"] = last.but(adopting)
    return dict(reversed(found.items()))


def addresses(trees: Iterable[Tree]) -> set[tuple[str, int]]:
    """Give the literal addresses that only some of the phases speak of."""
    return {(OLD, port) for port in PORTS.values()} | {("10.0.20.1", TRIED)}

"""The whole site: the embedded world in which desired/mail is applied, and the real mail path that follows what the world then holds."""

import base64
import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from reconciler.compose import Workshop
from reconciler.desired import desired_below
from reconciler.registry import catalog
from reconciler.report import Report, Verdict
from reconciler.resource import JSONObject
from reconciler.sandbox.wires import Address, Cluster, Firewall, read_cluster, read_firewall
from reconciler.sandbox.world import World
from tests.e2e.mailpath.firewall import HAProxy, passed
from tests.e2e.mailpath.hops import POD, WAN, Forwarder, Hop, PodAddress, here
from tests.e2e.mailpath.mailhost import PORTS, MailHost
from tests.e2e.mailpath.process import listens

DESIRED = Path(__file__).parents[3] / "desired" / "mail"
DOORS = (25, 465, 587, 993)
NAMESPACE = "/api/v1/namespaces/mailserver"


class Site:
    """Emulators, engine, and the real servers that stand on what was applied."""

    def __init__(self, root: Path) -> None:
        """Read the stack; its DKIM key is the one that the emulated Vault holds. Nothing runs yet."""
        self.root = root
        self._parts: list[Any] = []
        kinds = catalog()
        first = desired_below(DESIRED).load("mail", kinds, datetime.now(UTC).date())
        self.world = World(root, kinds, first)
        text = (DESIRED / "stack.yaml").read_text()
        key = str(first.spec.vars["dkim"]["public_key"])
        self.world.remote.copy(DESIRED, "desired/mail")
        copied = self.world.remote.work / "desired" / "mail"
        (copied / "stack.yaml").write_text(
            text.replace(key, self.world.dkim_public()).replace("health_deadline: 900", "health_deadline: 40")
        )
        self.stack = desired_below(copied).load("mail", kinds, datetime.now(UTC).date())
        self.real = self.stack.spec.vars
        self.nodes = [self.here(str(node["address"])) for node in self.real["nodes"]]
        self.gateway, self.balancer = self.here(str(self.real["firewall"])), self.here("10.0.20.202")
        self.domain = str(self.real["domain"])

    def here(self, text: str) -> str:
        """Put the loopback stand-ins in the place of the site's addresses."""
        return here(text, str(self.real["wan"]))

    # -- life ----------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the world, apply desired/mail, and start the real servers from what the emulators hold then."""
        self._begin(PodAddress())
        if taken := sorted(port for port in PORTS if listens((POD, port))):
            pytest.skip(f"a server of this machine listens on every address already, ports {taken}")
        self._begin(self.world)
        report = self.converge("first apply")
        assert report.verdict is Verdict.CONVERGED, report
        environment = self._environment()
        self.name = environment["OVERRIDE_HOSTNAME"]
        self.tls = self._certificate()
        self.host = MailHost(self.root, environment, {path: self.here(text) for path, text in self._mounts()})
        self.host.prepare()
        self._begin(self.host)
        self.cluster = self._read_cluster()
        entrances = [(WAN, door) for door in DOORS] + [(self.balancer, door) for door in DOORS]
        self._begin(Forwarder([*entrances, *((node, port) for node in self.nodes for port in self.cluster.node_ports)], self.route))
        self.haproxy = HAProxy(self.here(self.firewall.haproxy_cfg()), self.root, (self.gateway, 25))
        self._begin(self.haproxy)

    def _begin(self, part: Any) -> None:
        part.start()
        self._parts.append(part)

    def stop(self) -> None:
        """Stop what was started, the last first."""
        for part in reversed(self._parts):
            part.stop()

    def converge(self, reason: str) -> Report:
        """Run one converge of the engine over all systems."""
        with Workshop(self.world.settings()).engine() as engine:
            return engine.converge(self.stack, "0" * 40, reason=reason)

    # -- the network ---------------------------------------------------------------------------------------------------------

    @property
    def firewall(self) -> Any:
        """The emulated pfSense."""
        return self.world.systems["pfsense"]

    def forwards(self) -> Mapping[Address, Address]:
        """Give the forwards that pf has now and whose targets its pass rules let through."""
        rules = self.here(self.firewall.rules())
        found: Firewall = read_firewall("", rules)
        return {address: target for address, target in found.forwards.items() if passed(rules, target)}

    def route(self, address: Address) -> Hop | None:
        """Say where a connection to an address goes on, as NAT, the load balancer and kube-proxy would."""
        host, port = address
        if host == WAN:
            target = self.forwards().get(address)
            return Hop(target) if target else None
        if host == self.balancer:  # externalTrafficPolicy Local: straight to the pod, with the client's address
            return Hop((POD, port))
        return Hop((POD, self.cluster.node_ports[port]), source=host)

    def point(self, target: str) -> None:
        """Point every forward of the mail system at a machine, as an administrator at the GUI would."""

        def elsewhere(config: dict[str, Any]) -> None:
            links = set()
            for rule in config["nat"]["rule"]:
                if rule.get("destination", {}).get("port") in {str(door) for door in DOORS}:
                    rule["target"] = target
                    links.add(rule["associated-rule-id"])
            for rule in config["filter"]["rule"]:
                if rule.get("associated-rule-id") in links:
                    rule["destination"]["address"] = target

        self.firewall.edit(elsewhere)

    # -- the cluster ---------------------------------------------------------------------------------------------------------

    def _ask(self, path: str) -> JSONObject:
        target = self.world.systems["k8s"].settings()
        answer = httpx.get(f"{target['url']}{path}", headers={"Authorization": f"Bearer {target['token']}"}, timeout=5)
        return dict(answer.raise_for_status().json())

    def _read_cluster(self) -> Cluster:
        services, deployments = self._ask("/api/v1/services")["items"], self._ask("/apis/apps/v1/deployments")["items"]
        return read_cluster(services, deployments, self.nodes)

    def _environment(self) -> dict[str, str]:
        return dict(self._ask(f"{NAMESPACE}/configmaps/mailserver.env.config")["data"])

    def _mounts(self) -> Iterator[tuple[str, str]]:
        """Give what the pod would find mounted from ConfigMaps and Secrets, by path."""
        pod = self._ask("/apis/apps/v1/namespaces/mailserver/deployments/mailserver")["spec"]["template"]["spec"]
        places = {mount["name"]: mount["mountPath"] for one in pod["containers"] for mount in one["volumeMounts"]}
        for volume in pod["volumes"]:
            sources = volume.get("projected", {}).get("sources") or [volume]
            for path, text in (found for source in sources for found in self._source(source)):
                yield f"{places[volume['name']]}/{path}", text

    def _source(self, source: JSONObject) -> Iterator[tuple[str, str]]:
        maps, secret = source.get("configMap"), source.get("secret")
        if maps:
            data = self._ask(f"{NAMESPACE}/configmaps/{maps['name']}")["data"]
        elif secret and (name := secret.get("name") or secret.get("secretName")) != self.real["tls_secret"]:
            held = self._ask(f"{NAMESPACE}/secrets/{name}")["data"]
            data = {key: base64.b64decode(value).decode() for key, value in held.items()}
        else:
            return
        items = (maps or secret).get("items") or [{"key": key, "path": key} for key in data]
        yield from ((one["path"], data[one["key"]]) for one in items)

    def _certificate(self) -> ssl.SSLContext:
        """Make the certificate that another pipeline puts into the namespace, and give the clients' trust in it."""
        key = ec.generate_private_key(ec.SECP256R1())
        name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]), datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(30))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        folder = self.root / "dms" / "tls"
        folder.mkdir(parents=True)
        text = certificate.public_bytes(serialization.Encoding.PEM).decode()
        (folder / "tls.crt").write_text(text)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "tls.key").write_bytes(key.private_bytes(*form))
        return ssl.create_default_context(cadata=text)

    # -- accounts ------------------------------------------------------------------------------------------------------------

    def login(self, name: str) -> tuple[str, str]:
        """Give address and password of an account in the emulated Vault."""
        address = f"{name}@{self.domain}"
        return address, self.world.accounts[address]

    def log_lines(self, pattern: str) -> list[str]:
        """Give the lines of Postfix's log that match."""
        return [line for line in self.host.log.read_text().splitlines() if re.search(pattern, line)]

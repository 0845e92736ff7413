"""pfSense as the contract sees it: the emulator behind SSH, samples of every kind, and a hand to meddle with."""

import base64
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.testing import Sample
from reconciler_pfsense import PLUGIN
from reconciler_pfsense.config import Config
from reconciler_pfsense.driver import PfSenseDriver
from reconciler_pfsense.emulator import PfSenseEmulator
from reconciler_pfsense.emulator.configfile import Config as Tree
from reconciler_pfsense.emulator.configfile import at, listed, put

BACKENDS = "installedpackages/haproxy/ha_pools/item"
FRONTENDS = "installedpackages/haproxy/ha_backends/item"
LISTS = {
    "Alias": "aliases/alias",
    "PortForward": "nat/rule",
    "FirewallRule": "filter/rule",
    "HAProxyBackend": BACKENDS,
    "HAProxyFrontend": FRONTENDS,
}


def wish(kind: str, name: str, **spec: Any) -> Resource:
    """A resource as the loader would make it."""
    name, made = PLUGIN.kinds[kind].from_document({"metadata": {"name": name}, "spec": spec})
    return Resource(ResourceId("pfsense", kind, name), made)


NODES = [{"name": f"node-{number}", "address": f"10.0.20.{number}", "port": 30125, "send_proxy": "v2"} for number in (101, 102)]
SETTINGS = wish("HAProxySettings", "haproxy", maxconn=1000)
HOST = wish("Alias", "mail_host", type="host", addresses=["10.0.20.1"])
BACKEND = wish("HAProxyBackend", "mail_smtp", servers=NODES, check_interval=5000, server_timeout=1800000)
FRONTEND = wish(
    "HAProxyFrontend", "mail_smtp", binds=[{"address": "10.0.20.1", "port": 25}], default_backend="mail_smtp", client_timeout=1800000
)
POOL = wish("HAProxyBackend", "mail_smtps", servers=NODES, check_interval=5000)
LISTENER = wish(
    "HAProxyFrontend", "mail_smtps", binds=[{"address": "10.0.20.1", "port": 465}], default_backend="mail_smtps", client_timeout=1800000
)
WEB_A, WEB_B = (
    wish("HAProxyBackend", name, servers=[{"name": "web", "address": f"10.0.20.{number}", "port": 443}])
    for number, name in ((31, "web_a"), (32, "web_b"))
)
BY_NAME = wish(
    "HAProxyFrontend",
    "by_name",
    type="https",
    binds=[{"address": "10.0.20.1", "port": 443}],
    routes=[{"names": ["mail.example.org", "webmail.example.org"], "backend": "web_a"}, {"names": ["*.example.org"], "backend": "web_b"}],
)
FORWARD = wish("PortForward", "smtp", port=25, target="mail_host", description="mail für alle")
RULE = wish("FirewallRule", "lan-to-mail", interface="lan", protocol="tcp", source="lan", destination="mail_host", destination_port="25-30")


def changed(resource: Resource, **fields: Any) -> Resource:
    """The same resource with other values."""
    return replace(resource, spec=resource.spec.model_validate({**resource.spec.model_dump(), **fields}), digest="")


class PfSenseWorld:
    """The emulator, reached by SSH."""

    owner = "test/contract"
    faults = frozenset({"server-error", "latency", "cut-before", "cut-after", "partial"})

    transport = "ssh"

    def __init__(self) -> None:
        self.emulator = PfSenseEmulator()
        self.emulator.start()

    def open(self) -> PfSenseDriver:
        settings = self.emulator.settings() if self.transport == "ssh" else self.emulator.xmlrpc_settings()
        return PfSenseDriver(Config.model_validate(settings))

    def samples(self) -> Sequence[Sample]:
        clients = wish("Alias", "mail_clients", type="network", addresses=["192.168.0.0/16", {"address": "198.51.100.7", "detail": "über"}])
        faster = [NODES[0], {"name": "node-103", "address": "10.0.20.103", "port": 30225, "send_proxy": "v2", "check_port": 30145}]
        return [
            Sample(clients, changed(clients, addresses=["10.0.0.0/8"], description="fewer")),
            Sample(SETTINGS, changed(SETTINGS, maxconn=2000, hard_stop_after="30m")),
            Sample(BACKEND, changed(BACKEND, servers=faster, balance="leastconn", redispatch=False, advanced="option tcpka")),
            Sample(RULE, changed(RULE, log=True, description="seen"), (HOST,)),
            Sample(FORWARD, changed(FORWARD, target="10.0.20.9", target_port="2525", disabled=True), (HOST,)),
            Sample(LISTENER, changed(LISTENER, status="disabled", description="off"), (SETTINGS, POOL, HOST)),
            Sample(BY_NAME, changed(BY_NAME, routes=[{"names": ["*.example.org"], "backend": "web_b"}]), (SETTINGS, WEB_A, WEB_B)),
        ]

    def tree(self) -> Tree:
        return self.emulator.firewall.config

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        tree, seen = self.tree(), {}
        for kind, path in LISTS.items():
            for item in listed(tree, path):
                seen[_natural(kind, item)] = (str(item.get("associated-rule-id") or item.get("tracker") or item["name"]), item)
        settings = at(tree, "installedpackages/haproxy")
        seen["HAProxySettings"] = ("haproxy", {key: value for key, value in settings.items() if isinstance(value, str)})
        return seen

    def locate(self, resource: Resource) -> str:
        if resource.id.kind == "HAProxySettings":
            return "HAProxySettings"
        return _natural(resource.id.kind, self._item(resource))

    def _item(self, resource: Resource) -> Tree:
        """What a foreigner would have entered: written by hand here, so that the driver is not its own witness."""
        spec = resource.spec.model_dump()
        words = {"descr": spec.get("description", "")}
        match resource.id.kind:
            case "Alias":
                addresses = " ".join(one["address"] for one in spec["addresses"])
                detail = "||".join(one["detail"] for one in spec["addresses"])
                return {"name": spec["name"], "type": spec["type"], "address": addresses, **words, "detail": detail}
            case "PortForward":
                side = {"network": spec["destination"], "port": spec["port"]}
                ends = {"source": {"any": ""}, "destination": side, "target": spec["target"], "local-port": spec["target_port"]}
                link = {"associated-rule-id": "nat_00000000000001.00000001"}
                return {**words, "interface": "wan", "ipprotocol": "inet", "protocol": "tcp", **ends, **link}
            case "FirewallRule":
                ends = {"source": {"network": "lan"}, "destination": {"address": spec["destination"], "port": spec["destination_port"]}}
                return {
                    "type": "pass",
                    "interface": "lan",
                    "ipprotocol": "inet",
                    "protocol": "tcp",
                    "tracker": "1700000001",
                    **ends,
                    **words,
                }
            case "HAProxyBackend":
                servers = [
                    {
                        "status": "active",
                        "name": one["name"],
                        "address": one["address"],
                        "port": str(one["port"]),
                        "advanced": "send-proxy-v2",
                    }
                    for one in spec["servers"]
                ]
                times = {"check_type": "Basic", "checkinter": "5000", "server_timeout": "1800000"}
                more = base64.b64encode(b"option redispatch").decode()
                return {"name": spec["name"], "id": "100", **times, "ha_servers": {"item": servers}, "advanced_backend": more}
        bind = {"extaddr": "custom", "extaddr_custom": spec["binds"][0]["address"], "extaddr_port": spec["binds"][0]["port"]}
        where = {
            "a_extaddr": {"item": [bind]},
            "backend_serverpool": spec["default_backend"],
            "client_timeout": str(spec["client_timeout"]),
        }
        return {"name": spec["name"], **words, "status": "active", "type": spec["type"], **where, **_by_name(spec["routes"])}

    def plant(self, resource: Resource) -> None:
        item = self._item(resource)

        def planted(tree: Tree) -> None:
            append(tree, LISTS[resource.id.kind], item)
            if resource.id.kind == "PortForward":
                side = {"address": item["target"], "port": item["local-port"]}
                rule = {**item, "type": "pass", "tracker": "1700000002", "destination": side, "descr": f"NAT {item['descr']}"}
                append(tree, "filter/rule", {key: value for key, value in rule.items() if key not in ("target", "local-port")})

        self.emulator.edit(planted)

    def meddle(self, resource: Resource) -> None:
        def meddled(tree: Tree) -> None:
            if resource.id.kind == "HAProxySettings":
                at(tree, "installedpackages/haproxy")["maxconn"] = "17"
                return
            item = locate(tree, resource.id.kind, self.locate(resource))
            match resource.id.kind:
                case "Alias":
                    item["address"] = "203.0.113.99"
                case "PortForward":
                    item["target"] = "10.0.20.66"
                case "FirewallRule":
                    item["disabled"] = ""
                case "HAProxyBackend":
                    item["ha_servers"]["item"][0]["advanced"] = ""
                case "HAProxyFrontend":
                    item["client_timeout"] = "29999"

        self.emulator.edit(meddled)

    def remove(self, resource: Resource) -> None:
        def removed(tree: Tree) -> None:
            path = LISTS[resource.id.kind]
            item = locate(tree, resource.id.kind, self.locate(resource))
            put(tree, path, [one for one in listed(tree, path) if one is not item])
            link = item.get("associated-rule-id")
            put(tree, "filter/rule", [one for one in listed(tree, "filter/rule") if not link or one.get("associated-rule-id") != link])

        self.emulator.edit(removed)

    def writes(self) -> int:
        return self.emulator.faults.writes

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        kind = {"server-error": "memory"}.get(fault, fault)
        return self.emulator.faults.during(kind, times=times, writes_only=fault.startswith("cut-"))

    def secret_values(self) -> Sequence[str]:
        return ()


def _by_name(routes: Sequence[JSONObject]) -> Tree:
    """Routes as a person enters them: exact names, or what the name ends with."""
    rules, actions = [], []
    for number, route in enumerate(routes):
        for name in route["names"]:
            how = {"expression": "ssl_sni_ends_with" if name.startswith("*") else "ssl_sni_matches", "value": name.removeprefix("*")}
            rules.append({"name": f"name{number}", **how, "casesensitive": "", "not": ""})
        actions.append({"action": "use_backend", "use_backendbackend": route["backend"], "acl": f"name{number}"})
    return {"ha_acls": {"item": rules}, "a_actionitems": {"item": actions}} if routes else {}


def append(tree: Tree, path: str, item: Tree) -> None:
    put(tree, path, [*listed(tree, path), item])


def _natural(kind: str, item: Tree) -> str:
    if kind == "FirewallRule" and item.get("associated-rule-id"):
        return f"linked:{item['associated-rule-id']}"
    if kind in ("FirewallRule", "PortForward"):
        return f"{kind}:{item['interface']}:{item.get('protocol')}:{item['destination']}"
    return f"{kind}:{item['name']}"


def locate(tree: Tree, kind: str, natural: str) -> Tree:
    return next(item for item in listed(tree, LISTS[kind]) if _natural(kind, item) == natural)

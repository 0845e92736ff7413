"""The embedded world: one emulator for each plugin that brings one, a Slack, a git remote, and the network between them.

The drivers reach it only through the vendor clients and the addresses in the settings, exactly as they reach the real systems.
"""

import base64
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization

from reconciler.registry import Catalog, load
from reconciler.resource import JSONObject
from reconciler.sandbox.remote import Remote
from reconciler.sandbox.seeds import seeds
from reconciler.sandbox.server import Emulator
from reconciler.sandbox.slack import SlackEmulator
from reconciler.sandbox.wires import Address, Wires, follow, read_cluster, read_firewall
from reconciler.sandbox.wires import Path as Way
from reconciler.settings import Settings
from reconciler.stack import Stack

DOORS = {25: "smtp", 465: "submissions", 587: "submission", 993: "imaps"}
PROXY_DOORS = {2525: "smtp", 4465: "submissions", 5587: "submission", 10993: "imaps"}
ZONE_AGE = 0.5
"""Seconds for which the network uses the records that it last read; to read them for every packet would spend the daemon's rate limit."""


class World:
    """Everything that runs beside the daemon. ``systems`` holds the emulators by target name."""

    def __init__(self, root: Path, kinds: Catalog, stack: Stack, also: Iterable[Address] = ()) -> None:
        """Prepare a world in which the addresses that ``stack`` speaks of can be dialled, and others ``also``. Nothing runs yet."""
        self.root, self.kinds, self.stack = root, kinds, stack
        self.dialled = frozenset({*_dialled(stack), *also})
        first = seeds()
        self.accounts: dict[str, str] = json.loads(first["vault"]["secrets"]["secret/platform"]["mailserver_accounts"])
        self._fingerprint_key = secrets.token_hex(32)
        self._key = str(first["vault"]["secrets"]["secret/platform"]["mailserver_opendkim_key"])
        self._probe_seed(first)
        self.systems: dict[str, Any] = {}
        for plugin in kinds.plugins:
            if plugin.emulator:
                self.systems[plugin.name] = load(plugin.emulator)(first.get(plugin.name))
        self.slack = SlackEmulator()
        self._http = httpx.Client(timeout=5, trust_env=False)  # one for all: a new one reads the system's certificates each time
        self.remote = Remote(root)
        self.wires = Wires(self.dialled, self._ways)
        self._records: tuple[float, list[JSONObject]] | None = None
        self._records_lock = threading.Lock()

    def _probe_seed(self, first: dict[str, JSONObject]) -> None:
        hosts = sorted({host for host, _ in self.dialled} | {str(self.stack.spec.vars.get("domain", ""))} - {""})
        resolvers = sorted({str(one) for resource in self.stack.graph for one in getattr(resource.spec, "resolvers", ())})
        first["probe"] = {**first.get("probe", {}), "accounts": self.accounts, "names": hosts, "resolvers": resolvers or ["1.1.1.1"]}

    # -- life ----------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every part; returns when all of them answer."""
        for system in self._all():
            system.start()
        if "uptime-kuma" in self.systems:
            self.systems["uptime-kuma"].check = self._reachable
        if {"probe", "k8s"} <= self.systems.keys():
            self.systems["probe"].pages = self._page
        if {"probe", "cloudflare"} <= self.systems.keys():
            self.systems["probe"].follow(self._published)
        self.wires.start()

    def stop(self) -> None:
        """Stop every part."""
        self.wires.stop()
        for system in self._all():
            system.stop()
        self._http.close()

    def _all(self) -> Iterable[Emulator]:
        return (*self.systems.values(), self.slack)

    def settings(self) -> Settings:
        """Give the settings of a daemon that lives in this world."""
        return Settings(**self._settings())

    def settings_text(self) -> str:
        """Give the same settings as a ``reconciler.yaml``, for a second program that looks at this world."""
        return yaml.safe_dump(self._settings())

    def _settings(self) -> dict[str, Any]:
        targets = {name: system.settings() for name, system in self.systems.items()}
        if "probe" in targets:
            targets["probe"]["connect_to"] = {**targets["probe"].get("connect_to", {}), **self.wires.connect_to()}
        return {
            "instance": "demo",
            "fingerprint_key": self._fingerprint_key,
            "repository": {"url": self.remote.url, "poll": 1},
            "targets": targets,
            "state": {"path": str(self.root / "reconciler.db")},
            "engine": {"poll": 0.2, "backoff": 0.2},
            "telemetry": {"exporter": "file", "file": str(self.root / "traces.jsonl"), "log_level": "warning"},
            "notify": {"slack_webhook": self.slack.settings()["url"], "debounce": 0},
        }

    def dkim_public(self) -> str:
        """Give the public half of the key that the emulated Vault holds, as a DKIM record writes it."""
        private = serialization.load_pem_private_key(self._key.encode(), None)
        public = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(public).decode()

    def with_own_key(self, text: str) -> str:
        """Give a ``stack.yaml`` that publishes the key of this world's Vault, as an owner writes their own into it."""
        return re.sub(r"(\n    dkim:\n      selector: \S+\n      public_key: )\S+", rf"\g<1>{self.dkim_public()}", text, count=1)

    def summary(self) -> dict[str, list[str]]:
        """Say what is where and how to look at it, by system."""
        lines = {name: system.summary() for name, system in self.systems.items()}
        return {**lines, "slack": self.slack.summary(), "git": [f"git clone {self.remote.url}"]}

    # -- the network ---------------------------------------------------------------------------------------------------------

    def _ways(self) -> Callable[[Address], Way | None]:
        api = self._cluster_api()
        nodes = [str(node["address"]) for node in self.stack.spec.vars.get("nodes", [])]
        cluster = read_cluster(api("/api/v1/services"), api("/apis/apps/v1/deployments"), nodes)
        firewall = read_firewall(self.systems["pfsense"].haproxy_cfg(), self.systems["pfsense"].rules())
        host = self.systems["probe"].doors
        doors = {(port, False): host[name].port for port, name in DOORS.items()}
        doors |= {(port, True): host[f"{name}-proxy"].port for port, name in PROXY_DOORS.items()}
        names = {str(one["name"]): str(one["content"]) for one in self._known_records() if one["type"] == "A"}
        return lambda address: follow(address, cluster, firewall, names, doors)

    def _page(self, path: str) -> str | None:
        """Serve what a running pod mounts from a ConfigMap, under the name of the file."""
        api, name = self._cluster_api(), path.rpartition("/")[2]
        running = [one for one in api("/apis/apps/v1/deployments") if (one.get("status") or {}).get("availableReplicas")]
        volumes = [volume for one in running for volume in one["spec"]["template"]["spec"].get("volumes", [])]
        mounted = {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
        found = (
            one["data"][name] for one in api("/api/v1/configmaps") if one["metadata"]["name"] in mounted and name in one.get("data", {})
        )
        return next(found, None)

    def _cluster_api(self) -> Callable[[str], list[JSONObject]]:
        target = self.systems["k8s"].settings()
        headers = {"Authorization": f"Bearer {target['token']}"}
        return lambda path: list(self._http.get(f"{target['url']}{path}", headers=headers).raise_for_status().json()["items"])

    def records(self) -> list[JSONObject]:
        """Give the records that the emulated DNS provider holds."""
        target = self.systems["cloudflare"].settings()
        headers, found = {"Authorization": f"Bearer {target['token']}"}, []
        for zone in target["zones"].values():
            answer = self._http.get(f"{target['base_url']}/zones/{zone}/dns_records?per_page=5000", headers=headers)
            found += answer.raise_for_status().json()["result"]
        return found

    def _known_records(self) -> list[JSONObject]:
        with self._records_lock:
            if self._records is None or time.monotonic() - self._records[0] > ZONE_AGE:
                self._records = time.monotonic(), self.records()
            return self._records[1]

    def _published(self) -> Iterable[JSONObject]:
        return [_as_zone_file(one) for one in self._known_records()]

    def _reachable(self, monitor: Mapping[str, Any]) -> bool:
        """Say whether a port monitor would find its address open; other monitors are not judged here."""
        if monitor.get("type") != "port":
            return True
        return self.wires.open((str(monitor.get("hostname")), int(monitor.get("port") or 0)))


def _dialled(stack: Stack) -> set[Address]:
    """Collect every host and port that a probe or a monitor of the stack speaks of."""
    found: set[Address] = set()
    for resource in stack.graph:
        spec = resource.spec
        for one in (spec, getattr(spec, "smtp", None), getattr(spec, "imap", None)):
            host, port = getattr(one, "host", None) or getattr(one, "hostname", None), getattr(one, "port", None)
            if isinstance(host, str) and host and isinstance(port, int):
                found.add((host, port))
    return found


def _as_zone_file(one: JSONObject) -> JSONObject:
    content = str(one["content"])
    if one["type"] == "TXT":
        content = _joined(content)
    if one["type"] in ("MX", "CNAME", "NS"):
        content = f"{content.rstrip('.')}."
    priority = f"{one['priority']} " if one["type"] == "MX" else ""
    return {"name": one["name"], "type": one["type"], "value": f"{priority}{content}"}


def _joined(content: str) -> str:
    """Join the quoted strings of a TXT record, as every resolver's client does (RFC 7208, 3.3)."""
    if not content.startswith('"'):
        return content
    return "".join(part.replace('\\"', '"').replace("\\\\", "\\") for part in re.findall(r'"((?:[^"\\]|\\.)*)"', content))

"""The daemon beside a Vault and a cluster: a rotated key reaches who reads it within one poll and one pass, and nobody else notices."""

import base64
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.daemon.service import daemon
from reconciler.resource import JSONObject
from reconciler.settings import Settings
from reconciler.state import Store
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_vault.emulator import VaultEmulator

POLL = 1.0
STACK = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: mail}\nspec: {interval: 3600}\n"
VAULT = """
apiVersion: vault/v1
kind: Secret
metadata: {name: shared, annotations: {reconciler/adopt: "true"}}
spec:
  path: secret/shared
  keys:
    relay: {consumers: [k8s/Secret/mail/relay], form: password-map}
    accounts: {consumers: [k8s/Secret/mail/accounts], form: json}
"""
CONSUMER = """
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: mail}}
stringData:
  value: ${{vault("secret/shared", "{name}")}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  namespace: mail
  annotations: {{reconciler/restart-on-change: "true"}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
        - {{name: main, image: "registry.example.com/{name}:1", envFrom: [{{secretRef: {{name: {name}}}}}]}}
"""
OBJECTS = "apiVersion: v1\nkind: Namespace\nmetadata: {name: mail}\n---" + "---".join(
    CONSUMER.format(name=name) for name in ("relay", "accounts")
)
OLD, NEW = "[mx.example.org]:587 me:canary-old", "[mx.example.org]:587 me:canary-new"


class Site:
    """A working tree, the two systems, and a daemon that watches them."""

    def __init__(self, root: Path, key: str) -> None:
        self.cluster = KubernetesEmulator()
        self.vault = VaultEmulator({"secrets": {"secret/shared": {"relay": OLD, "accounts": "{}", "theirs": "x"}}})
        self.cluster.start()
        self.vault.start()
        folder = root / "desired" / "mail"
        folder.mkdir(parents=True)
        for name, text in (("stack", STACK), ("vault", VAULT), ("k8s", OBJECTS)):
            (folder / f"{name}.yaml").write_text(text)
        self.store = Store(root / "state.db")
        targets = {"k8s": self.cluster.settings(), "vault": {**self.vault.settings(), "poll": POLL}}
        settings = {"targets": targets, "state": {"path": root / "state.db"}, "fingerprint_key": key}
        self.daemon = daemon(Settings.model_validate(settings), self.store, path=root)
        self.thread = threading.Thread(target=self.daemon.run, daemon=True)
        self.thread.start()

    def live(self, plural: str, name: str, group: str = "") -> JSONObject:
        with self.cluster.machine.store.lock:
            return self.cluster.machine.store.get((group, plural), "mail", name) or {}

    def value(self, name: str) -> str:
        return base64.b64decode(self.live("secrets", name).get("data", {}).get("value", "")).decode()

    def pods_of(self, name: str) -> JSONObject:
        template: JSONObject = self.live("deployments", name, "apps")["spec"]["template"]
        return template

    def until(self, true: Callable[[], object], what: str, seconds: float = 20) -> float:
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < seconds, f"not in time: {what}; runs {self.store.runs()}"
            time.sleep(0.01)
        return time.monotonic() - began

    def settled(self) -> None:
        self.until(lambda: self.value("relay") and self.value("accounts") == "{}", "the first pass")
        self.until(lambda: ("mail", "vault") in self.daemon.watchers.watched(), "the watch")
        looks = self.looks()
        self.until(lambda: self.looks() >= looks + 2, "two looks of the watch")

    def looks(self) -> int:
        return sum(path.endswith("subkeys/shared") for _, path in list(self.vault.faults.requests))

    def close(self) -> None:
        self.daemon.workshop.stop.set()
        self.thread.join(timeout=30)
        self.store.close()
        self.cluster.stop()
        self.vault.stop()


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    made: list[Site] = []

    def opened(key: str) -> Site:
        made.append(Site(tmp_path, key))
        return made[-1]

    yield opened
    for one in made:
        one.close()


def test_a_rotation_reaches_its_own_consumer_within_one_poll_and_one_pass_and_no_other(open_site: Callable[[str], Site]) -> None:
    site = open_site("a long random text of this installation")
    site.settled()
    others = {plural: site.live(plural, "accounts", group) for plural, group in (("secrets", ""), ("deployments", "apps"))}
    pods = site.pods_of("relay")
    site.vault.ask("PATCH", "secret/data/shared", {"data": {"relay": NEW}})
    taken = site.until(lambda: site.value("relay") == NEW, "the rotation")
    assert taken < POLL + 5, "one poll and one pass"
    site.until(lambda: site.pods_of("relay") != pods, "the restart of its pods")
    site.until(lambda: len(site.store.runs()) >= 2, "the record")
    assert site.store.runs()[0]["reason"].startswith("a hint from vault")
    assert {plural: site.live(plural, "accounts", group) for plural, group in (("secrets", ""), ("deployments", "apps"))} == others
    site.vault.ask("PATCH", "secret/data/shared", {"data": {"theirs": "y"}})
    runs = len(site.store.runs())
    site.until(lambda: len(site.store.runs()) > runs, "the pass after a write to a key that nobody reads")
    assert site.value("relay") == NEW
    assert {plural: site.live(plural, "accounts", group) for plural, group in (("secrets", ""), ("deployments", "apps"))} == others


def test_with_the_default_key_a_rotation_still_arrives_and_every_consumer_of_the_path_is_rewritten(
    open_site: Callable[[str], Site],
) -> None:
    site = open_site("reconciler")
    site.settled()
    pods = site.pods_of("accounts")
    site.vault.ask("PATCH", "secret/data/shared", {"data": {"relay": NEW}})
    site.until(lambda: site.value("relay") == NEW, "the rotation")
    site.until(lambda: site.pods_of("accounts") != pods, "the restart of everybody's pods")
    custom = (site.vault.ask("GET", "secret/metadata/shared") or {})["data"]["custom_metadata"]
    assert not [key for key in custom if key.startswith("reconciler-seen")], "with a known key nothing is noted of a value"

"""The daemon beside an emulated cluster: what a hand changes is put back in about a second, long before the next interval."""

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

STACK = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: mail}\nspec: {interval: 3600}\n"
OBJECTS = """
apiVersion: v1
kind: Namespace
metadata: {name: mail}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: postfix, namespace: mail}
data: {relayhost: smtp.example.net}
---
apiVersion: v1
kind: Secret
metadata: {name: relay, namespace: mail}
stringData: {user: relay}
"""


class Site:
    """A working tree, a cluster and a daemon that watches both."""

    def __init__(self, root: Path) -> None:
        self.cluster = KubernetesEmulator()
        self.cluster.start()
        folder = root / "desired" / "mail"
        folder.mkdir(parents=True)
        (folder / "stack.yaml").write_text(STACK)
        (folder / "k8s.yaml").write_text(OBJECTS)
        self.store = Store(root / "state.db")
        settings = Settings.model_validate({"targets": {"k8s": self.cluster.settings()}, "state": {"path": root / "state.db"}})
        self.daemon = daemon(settings, self.store, path=root)
        self.thread = threading.Thread(target=self.daemon.run)
        self.thread.start()

    def edit(self, data: JSONObject) -> None:
        """Change the ConfigMap as a person does."""
        with self.cluster.machine.store.lock:
            live = self.cluster.machine.store.get(("", "configmaps"), "mail", "postfix")
            assert live is not None
            self.cluster.put({**live, "data": data}, "kubectl-edit")

    def data(self) -> JSONObject | None:
        with self.cluster.machine.store.lock:
            live = self.cluster.machine.store.get(("", "configmaps"), "mail", "postfix")
            return None if live is None else live.get("data")

    def until(self, true: Callable[[], bool], what: str, seconds: float = 20) -> float:
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < seconds, f"not in time: {what}; runs {self.store.runs()}"
            time.sleep(0.01)
        return time.monotonic() - began

    def close(self) -> None:
        self.daemon.workshop.stop.set()
        self.thread.join(timeout=30)
        self.store.close()
        self.cluster.stop()
        assert not self.thread.is_alive()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_drift_in_a_cluster_is_repaired_within_seconds_and_recorded_with_its_author(site: Site) -> None:
    site.until(lambda: site.data() == {"relayhost": "smtp.example.net"}, "the first pass")
    site.until(lambda: site.daemon.watchers.watched() == [("mail", "k8s")], "the watch")
    site.until(lambda: len(site.store.runs()) >= 1, "its record")
    time.sleep(1)  # the watch has listed everything, and found nothing to hint at
    runs = len(site.store.runs())
    assert runs == 1, [one["reason"] for one in site.store.runs()]
    site.edit({"relayhost": "smtp.attacker.example"})
    site.until(lambda: site.data() == {"relayhost": "smtp.example.net"}, "the repair", 5)
    site.until(lambda: len(site.store.runs()) == runs + 1, "its record")
    assert site.store.runs()[0]["reason"] == "a hint from k8s"
    (drift,) = site.store.drifts(closed=True)
    assert drift["state"] == "repaired"
    assert "kubectl-edit" in drift["evidence"]
    time.sleep(1)
    assert len(site.store.runs()) == runs + 1, "the repair itself is no news"

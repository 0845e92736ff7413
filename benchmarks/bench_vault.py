"""What a look at 500 secrets costs, how soon a rotation reaches a Kubernetes Secret, and what the driver costs who does not use it."""

import base64
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import figure
from reconciler.daemon.service import daemon
from reconciler.driver import Scope
from reconciler.graph import build
from reconciler.plan import Inputs, Plan, make_plan
from reconciler.resource import Resource, ResourceId
from reconciler.settings import Settings
from reconciler.state import Store
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_vault.client import Vault
from reconciler_vault.config import VaultConfig
from reconciler_vault.driver import VaultDriver
from reconciler_vault.emulator import VaultEmulator
from reconciler_vault.spec import Secret

COUNT, RUNS, POLL = 500, 5, 1.0
SCOPE = Scope(owner="bench/secrets")
IMPORT = "import time, reconciler_vault; at = time.perf_counter(); import reconciler_vault.driver; print(time.perf_counter() - at)"
UNASKED = "import sys; from reconciler.registry import catalog; catalog(); print(int('hvac' in sys.modules))"


@dataclass(slots=True)
class Served:
    """One Vault process."""

    process: "subprocess.Popen[str]"
    config: VaultConfig

    def counts(self) -> tuple[int, int]:
        """Give the number of requests and of logins so far."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        requests, logins = self.process.stdout.readline().split()
        return int(requests), int(logins)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Start a full Vault and stop it at the end."""
    command = [sys.executable, "-m", "benchmarks.vault_server", str(COUNT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        (folder / "jwt").write_text(told["jwt"])
        auth = {"method": "kubernetes", "role": "bench", "jwt_file": str(folder / "jwt")}
        yield Served(process, VaultConfig.model_validate({"url": told["url"], "auth": auth}))
        process.stdin.close()


def measure() -> list[dict[str, object]]:
    """Measure 500 secrets, and one rotation after the other."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as served:
        driver, wanted = VaultDriver(served.config), _wanted()
        for change in (plan := _plan(driver, wanted)).changes:
            assert driver.apply([change], SCOPE)
        assert len(plan.changes) == COUNT
        before, _ = served.counts()
        assert not _plan(driver, wanted).changes
        after, logins = served.counts()
        looks, calls = [], []
        for _ in range(RUNS):  # in turn, so that both meet the same load
            looks.append(_processor(lambda: driver.observe(wanted, SCOPE)))
            calls.append(_processor(lambda: _calls(served.config)))
        driver.close()
    return [
        figure(f"requests of a look at {COUNT} secrets", after - before, "", COUNT + 1.5),
        figure("logins until then", logins, "", 1.5),
        figure("processor time for each secret beyond the client's", (min(looks) - min(calls)) / COUNT * 1e6, "µs", 150),
        figure(
            f"rotation until it is in the Kubernetes Secret, with a poll of {POLL:g} s, the longest of three", max(_rotations()), "s", 3
        ),
        figure("import of the Vault driver", min(_child(IMPORT) for _ in range(3)), "s", 1.3),
        figure("its vendor library loaded while no target is configured", _child(UNASKED), "times", 1),
    ]


def _wanted() -> list[Resource]:
    keys = {name: {"consumers": ["bench"]} for name in ("user", "password", "url")}
    specs = [Secret.model_validate({"path": f"secret/bench/s{number:04}", "keys": keys}) for number in range(COUNT)]
    made = [Resource(ResourceId("vault", "Secret", f"s{number:04}"), spec) for number, spec in enumerate(specs)]
    return [Resource(one.id, one.spec, policy=type(one.policy)(adopt=True)) for one in made]


def _plan(driver: VaultDriver, wanted: list[Resource]) -> Plan:
    seen = driver.observe(wanted, SCOPE)
    return make_plan("secrets", "", build(wanted), Inputs(seen, SCOPE.fingerprint, {one.id: "vault" for one in wanted}))


def _calls(config: VaultConfig) -> int:
    """Do what no look can do without: the same requests by the same client, as many at a time, one login aside."""
    from reconciler_vault.parallel import together

    client = CLIENTS.setdefault(config.url, Vault(config))
    paths = [f"secret/subkeys/bench/s{number:04}" for number in range(COUNT)]
    return len(together(lambda path: client.get(path, SCOPE, params={"depth": "1"}), paths, config.parallel))


CLIENTS: dict[str, Vault] = {}


def _processor(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _child(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


# -- a rotation ----------------------------------------------------------------------------------------------------------------

DESIRED = """apiVersion: reconciler/v1
kind: Stack
metadata: {name: app}
spec: {interval: 3600}
---
apiVersion: vault/v1
kind: Secret
metadata: {name: app, annotations: {reconciler/adopt: "true"}}
spec:
  path: secret/app
  keys:
    password: {consumers: [k8s/Secret/app/app]}
---
apiVersion: v1
kind: Namespace
metadata: {name: app}
---
apiVersion: v1
kind: Secret
metadata: {name: app, namespace: app}
stringData: {password: '${vault("secret/app", "password")}'}
"""


def _rotations() -> list[float]:
    """Run the daemon, write new values, and take the time until each is in the cluster."""
    vault, cluster = VaultEmulator({"secrets": {"secret/app": {"password": "first", "other": "x"}}}), KubernetesEmulator()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "desired" / "app").mkdir(parents=True)
        (root / "desired" / "app" / "stack.yaml").write_text(DESIRED)
        vault.start()
        cluster.start()
        targets = {"vault": {**vault.settings(), "poll": POLL}, "k8s": cluster.settings()}
        given = {"targets": targets, "state": {"path": root / "state.db"}, "fingerprint_key": "a long random text of a benchmark"}
        store = Store(root / "state.db")
        service = daemon(Settings.model_validate(given), store, path=root)
        thread = threading.Thread(target=service.run, daemon=True)
        thread.start()
        _until(lambda: _value(cluster) == "first")
        _until(lambda: ("app", "vault") in service.watchers.watched())
        time.sleep(2 * POLL)  # the watch has looked once, and every pass is over
        found = [_rotated(vault, cluster, f"value {number}") for number in range(3)]
        service.workshop.stop.set()
        thread.join(timeout=20)
        store.close()
        for system in (vault, cluster):
            system.stop()
    return found


def _rotated(vault: VaultEmulator, cluster: KubernetesEmulator, value: str) -> float:
    vault.ask("PATCH", "secret/data/app", {"data": {"password": value}})
    taken = _until(lambda: _value(cluster) == value)
    time.sleep(POLL)
    return taken


def _value(cluster: KubernetesEmulator) -> str:
    with cluster.machine.store.lock:
        live = cluster.machine.store.get(("", "secrets"), "app", "app") or {}
    return base64.b64decode(live.get("data", {}).get("password", "")).decode()


def _until(true: Callable[[], bool]) -> float:
    began = time.perf_counter()
    while not true():
        assert time.perf_counter() - began < 30, "not in time"
        time.sleep(0.005)
    return time.perf_counter() - began

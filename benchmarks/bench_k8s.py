"""What a look at 5,000 unchanged Kubernetes objects costs, how soon drift is seen, and how ``kubectl diff`` does on the same server."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from benchmarks import cluster
from benchmarks.common import figure, megabytes
from reconciler.driver import Scope
from reconciler.resource import JSONObject, Resource
from reconciler_k8s.applyset import ApplySet
from reconciler_k8s.client import Cluster
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.driver import KubernetesDriver
from reconciler_k8s.ownership import PART_OF, field_manager, make_wish
from reconciler_k8s.seals import Seal

COUNT = 5000
BESIDE = 300
"""Objects of the comparison with kubectl, which asks twice for each."""
RUNS = 5


@dataclass(slots=True)
class Served:
    """One cluster process and the stack that it holds."""

    process: "subprocess.Popen[str]"
    config: KubernetesConfig
    wanted: list[Resource]

    @property
    def scope(self) -> Scope:
        """Give the scope of a pass."""
        return replace(cluster.scope(), wanted={one.id: one for one in self.wanted})

    def meddle(self, name: str) -> int:
        """Change one ConfigMap by hand; gives the number of requests that the server had answered before."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{name}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def serving(count: int) -> Iterator[Served]:
    """Start a full cluster and stop it at the end."""
    command = [sys.executable, "-m", "benchmarks.cluster", str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        settings = json.loads(process.stdout.readline())
        yield Served(process, KubernetesConfig(**settings), cluster.resources(count))
        process.stdin.close()


def measure() -> list[dict[str, object]]:
    """Measure 5,000 objects of four kinds, and 300 beside kubectl."""
    with serving(COUNT) as served:
        driver = KubernetesDriver(served.config)
        _check(driver, served)
        looks = [_processor(lambda: driver.observe(served.wanted, served.scope)) for _ in range(RUNS)]
        lists = [_processor(lambda: _list(served)) for _ in range(RUNS)]
        memory = megabytes()
        before = served.meddle("o00000")
        driver.observe(served.wanted, served.scope)
        spent = served.meddle("o00001") - before - 2  # the drifted object costs a read and a dry-run
        seen = _drift(driver, served)
        driver.close()
    kinds = len({one.id.kind for one in served.wanted})
    return [
        figure(f"requests of a plan of {COUNT:,} unchanged objects of {kinds} kinds", spent, "", kinds + 3.5),
        figure("processor time for each object beyond the LIST", (min(looks) - min(lists)) / COUNT * 1e6, "µs", 80),
        figure("time until drift is seen, the longest of five", max(seen), "s", 1),
        figure("memory of the planning process", memory, "MB", 150),
        figure("processor time to import the driver with its library", _import_seconds(), "s", 0.5),
        *_beside_kubectl(),
    ]


def _check(driver: KubernetesDriver, served: Served) -> None:
    for _ in range(2):
        found = driver.observe(served.wanted, served.scope)
    assert len(found) == len(served.wanted)
    assert all(one.predicted == {} and one.live == {} for one in found)


def _processor(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _list(served: Served) -> int:
    """Do what no plan can do without: list the same kinds and read the JSON."""
    client = Cluster(served.config)
    kinds, selector = client.discover(), f"{PART_OF}={ApplySet(cluster.OWNER, 'default').id}"
    asked = [(("v1", "ConfigMap"), False), (("v1", "Service"), False), (("v1", "Namespace"), False), (("apps/v1", "Deployment"), True)]
    count = sum(len(page) for kind, whole in asked for page in client.pages(kinds[kind], "", selector, whole=whole))
    client.close()
    return count


def _drift(driver: KubernetesDriver, served: Served) -> list[float]:
    """Change one object after the other by hand and take the time until the watch hints at each."""
    stop, found = Event(), []
    hints = driver.watch(served.scope, stop)
    already = {next(hints), next(hints)}
    assert {str(one) for one in already} == {f"k8s/ConfigMap/{cluster.NAMESPACE}/o0000{number}" for number in (0, 1)}
    time.sleep(0.5)
    for number in range(10, 10 + RUNS):
        started = time.perf_counter()
        served.meddle(f"o{number * 10:05}")
        hint = next(hints)
        found.append(time.perf_counter() - started)
        assert str(hint).endswith(f"o{number * 10:05}")
    stop.set()
    assert next(hints, None) is None
    return found


def _import_seconds() -> float:
    """Take what opening the first target adds to a process that knows the plugin already; processor time, because reading is cached."""
    code = "import time, reconciler_k8s; at = time.process_time(); import reconciler_k8s.driver; print(time.process_time() - at)"
    return min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(RUNS))


def _beside_kubectl() -> list[dict[str, object]]:
    """Let both look at the same unchanged objects on the same server; nothing when there is no kubectl."""
    program = shutil.which("kubectl")
    if program is None:
        return []
    with serving(BESIDE) as served, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stack.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": _bodies(served.wanted)}), encoding="utf-8")
        kubectl = [program, "--server", served.config.url, "diff", "--server-side", f"--field-manager={field_manager(cluster.OWNER)}"]
        driver = KubernetesDriver(served.config)
        ours, theirs = [], []
        for _ in range(RUNS):  # in turn, so that both meet the same load
            ours.append(_seconds(lambda: driver.observe(served.wanted, served.scope)))
            theirs.append(_seconds(lambda: _run([*kubectl, "-f", str(file)], folder)))
        driver.close()
    ratio = statistics.median(ours) / statistics.median(theirs)
    return [
        figure(f"kubectl diff --server-side of {BESIDE} unchanged objects, median of {RUNS}", statistics.median(theirs), "s", 60),
        figure(f"our look at the same {BESIDE}, median of {RUNS}", statistics.median(ours), "s", 0.5),
        figure("that, as a share of kubectl's time", ratio, "", 0.1),
    ]


def _bodies(wanted: Sequence[Resource]) -> list[JSONObject]:
    part_of, seal = ApplySet(cluster.OWNER, "default").id, Seal.of(cluster.scope().fingerprint)
    return [make_wish(one, cluster.scope(), seal, part_of, "").body(lambda ref: "") for one in wanted]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _run(command: list[str], home: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HOME": home, "KUBECONFIG": "/dev/null"})
    assert done.returncode == 0, done.stdout[:500] + done.stderr[:500]

"""The promises of a driver against a real cluster: the one of KUBECONFIG, or an API server started from KUBEBUILDER_ASSETS.

Everything stands in namespaces and under a group of a random name, and is deleted at the end; nothing else is touched.
"""

import copy
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.driver import Driver
from reconciler.errors import DriverError
from reconciler.resource import JSONObject, Resource
from reconciler.testing import DriverContract, Sample
from reconciler_k8s.answers import NotFound
from reconciler_k8s.applyset import ApplySet
from reconciler_k8s.client import MERGE_PATCH, WHOLE, Call, Cluster, Served
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.driver import KubernetesDriver
from reconciler_k8s.spec import KubernetesObject
from tests.contract import test_k8s as emulated

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not (os.environ.get("KUBECONFIG") or os.environ.get("KUBEBUILDER_ASSETS")),
        reason="neither KUBECONFIG nor KUBEBUILDER_ASSETS names a real cluster",
    ),
]

WAIT = 60
"""Seconds for what a cluster finishes by itself."""


def until(done: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < deadline, f"{what} takes longer than {WAIT} s"
        time.sleep(0.1)


def started(stack: ExitStack, assets: Path, folder: Path) -> KubernetesConfig:
    """Start etcd and an API server without controllers."""
    ports = []
    for _ in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    etcd, peer, port = ports
    (folder / "tokens").write_text("live-test,admin,admin,system:masters\n", encoding="utf-8")
    subprocess.run(["openssl", "genrsa", "-out", folder / "account.key", "2048"], check=True, capture_output=True)
    own = [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{etcd}",
        f"--advertise-client-urls=http://127.0.0.1:{etcd}",
    ]
    peers = [f"--listen-peer-urls=http://127.0.0.1:{peer}", f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}"]
    cluster = [f"--initial-cluster=default=http://127.0.0.1:{peer}"]
    server = [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder / 'certs'}",
        f"--token-auth-file={folder / 'tokens'}",
        "--authorization-mode=RBAC",
        "--disable-admission-plugins=ServiceAccount",
        "--service-account-issuer=https://reconciler.test",
        f"--service-account-key-file={folder / 'account.key'}",
        f"--service-account-signing-key-file={folder / 'account.key'}",
        "--service-cluster-ip-range=10.96.0.0/16",
    ]
    for command in ([str(assets / "etcd"), *own, *peers, *cluster], [str(assets / "kube-apiserver"), *server]):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.terminate)
    config = KubernetesConfig(url=f"https://127.0.0.1:{port}", token="live-test", insecure=True, timeout=10, wait=5)
    probe = Cluster(config)
    stack.callback(probe.close)
    until(lambda: answers(probe, "/api/v1/namespaces/default"), "the API server")
    return config


def answers(cluster: Cluster, path: str) -> bool:
    with suppress(DriverError):
        cluster.send(Call("GET", path, "the test"))
        return True
    return False


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesConfig]:
    with ExitStack() as stack:
        if os.environ.get("KUBECONFIG"):
            yield KubernetesConfig(kubeconfig=Path(os.environ["KUBECONFIG"].split(os.pathsep)[0]), timeout=30, wait=WAIT)
        else:
            yield started(stack, Path(os.environ["KUBEBUILDER_ASSETS"]), tmp_path_factory.mktemp("cluster"))


class LiveWorld:
    """A corner of a real cluster."""

    faults: frozenset[str] = frozenset()

    def __init__(self, config: KubernetesConfig) -> None:
        self.config, self.cluster = config, Cluster(config)
        self.tag = f"live-{secrets.token_hex(4)}"
        self.owner = f"test/{self.tag}"
        self.group = f"{self.tag}.example.org"

    def open(self) -> Driver:
        return KubernetesDriver(self.config)

    def here(self, whole: JSONObject) -> Resource:
        """Move a manifest of the emulated world into this corner."""
        moved = copy.deepcopy(whole)
        metadata = moved["metadata"]
        if "namespace" in metadata:
            metadata["namespace"] = self.tag
        if moved["kind"] == "Namespace":
            metadata["name"] = self.tag if metadata["name"] == emulated.NAMESPACE else f"{self.tag}-{metadata['name']}"
        if moved["kind"] == "CustomResourceDefinition":
            moved["spec"]["group"], metadata["name"] = self.group, f"pools.{self.group}"
        if moved["kind"] == "Pool":
            moved["apiVersion"] = f"{self.group}/v1beta1"
        return emulated.resource(moved)

    def samples(self) -> Sequence[Sample]:
        made = emulated
        home, crd = self.here(made.namespace_manifest()), self.here(made.definition())
        pairs: list[tuple[JSONObject, JSONObject, tuple[Resource, ...]]] = [
            (made.config_map(LOG="info", OLD="1"), made.config_map(LOG="debug", NEW="2"), (home,)),
            (made.secret(password=made.RELAY, user="mail"), made.secret(password=made.RELAY, user="relay"), (home,)),
            (made.service(made.SMTP), made.service(made.SMTP, made.IMAPS, type="NodePort"), (home,)),
            (made.deployment("mail:1", replicas=0), made.deployment("mail:2", replicas=0), (home,)),
            (made.pool("192.0.2.1/32"), made.pool("192.0.2.1/32", "192.0.2.2/32"), (home, crd)),
        ]
        if self.config.kubeconfig is not None:  # without controllers, neither a namespace nor a claim ever goes
            pairs.insert(0, (made.namespace_manifest("spare", tier="a"), made.namespace_manifest("spare", tier="b"), ()))
            pairs.insert(1, (made.claim(tier="silver"), made.claim(tier="gold"), (home,)))
        return [Sample(self.here(before), self.here(after), needs) for before, after, needs in pairs]

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        served = self.cluster.discover()
        wanted = {"ConfigMap", "Secret", "Service", "Deployment", "PersistentVolumeClaim"}
        kinds = [one for one in served.values() if (one.full_kind in wanted or one.group == self.group)]
        found = [(one, item) for one in kinds for item in self._all(one, self.tag)]
        for api_version, kind in (("v1", "Namespace"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")):
            one = served[api_version, kind]
            found += [(one, item) for item in self._all(one, "") if self.tag in item["metadata"]["name"]]
        return {
            self._name(one, item["metadata"]): (item["metadata"]["uid"], self._content(item)) for one, item in found if self._ours(item)
        }

    def _all(self, served: Served, namespace: str) -> list[JSONObject]:
        try:
            items: list[JSONObject] = self.cluster.send(Call("GET", served.path(namespace), "the test"))[1]["items"]
        except NotFound:
            return []
        return items

    def _ours(self, item: JSONObject) -> bool:
        return not item["metadata"]["name"].startswith("kube-") and not item["metadata"].get("deletionTimestamp")

    def _name(self, served: Served, metadata: JSONObject) -> str:
        return f"{served.kind} {metadata.get('namespace', '')}/{metadata['name']}"

    def _content(self, item: JSONObject) -> JSONObject:
        content = {key: value for key, value in item.items() if key != "status"}
        volatile = ("resourceVersion", "managedFields", "generation", "creationTimestamp")
        content["metadata"] = {key: value for key, value in item["metadata"].items() if key not in volatile}
        content["metadata"].get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
        return content

    def locate(self, resource: Resource) -> str:
        namespace, _, name = resource.id.name.rpartition("/")
        return f"{resource.id.kind.partition('.')[0]} {namespace}/{name}"

    def call(self, method: str, resource: Resource, body: Any = None, sort: str = "") -> JSONObject:
        """Speak of one object as somebody else."""
        assert isinstance(resource.spec, KubernetesObject)
        served = self.cluster.discover()[resource.spec.api_version, resource.spec.kind]
        namespace, _, name = resource.id.name.rpartition("/")
        path = served.path(namespace, "" if method == "POST" else name)
        return self.cluster.send(Call(method, path, "the test", {"fieldManager": "somebody"}, WHOLE, sort, body))[1]

    def plant(self, resource: Resource) -> None:
        assert isinstance(resource.spec, KubernetesObject)
        self.call("POST", resource, resource.spec.wire(lambda ref: emulated.SECRETS["#".join(ref.inputs[0])]))

    def meddle(self, resource: Resource) -> None:
        changes: dict[str, JSONObject] = {
            "Namespace": {"metadata": {"labels": {"tier": "meddled"}}},
            "ConfigMap": {"data": {"LOG": "meddled"}},
            "Secret": {"data": {"password": "bWVkZGxlZA=="}},
            "PersistentVolumeClaim": {"metadata": {"labels": {"tier": "meddled"}}},
        }
        change = changes.get(resource.id.kind)
        if change is None:
            spec = copy.deepcopy(self.peek()[self.locate(resource)][1]["spec"])
            match resource.id.kind:
                case "Service":
                    spec["ports"][0]["targetPort"] = 2525
                case "Deployment":
                    spec["template"]["spec"]["containers"][0]["image"] = "meddled:1"
                case _:
                    spec["addresses"] = ["203.0.113.9/32"]
            change = {"spec": spec}
        self.call("PATCH", resource, change, MERGE_PATCH)

    def remove(self, resource: Resource) -> None:
        self.call("DELETE", resource)
        until(lambda: not self._there(resource), f"the deletion of {resource.id}")

    def _there(self, resource: Resource) -> bool:
        with suppress(NotFound):
            self.call("GET", resource)
            return True
        return False

    def writes(self) -> int:
        return 0  # a real server does not count; ``peek`` tells

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        return nullcontext()

    def secret_values(self) -> Sequence[str]:
        return list(emulated.SECRETS.values())

    def tidy(self) -> None:
        """Take everything away."""
        applied = ApplySet(self.owner, self.config.inventory_namespace)
        paths = [
            f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pools.{self.group}",
            f"/api/v1/namespaces/{self.config.inventory_namespace}/configmaps/{applied.name}",
            f"/api/v1/namespaces/{self.tag}",
            f"/api/v1/namespaces/{self.tag}-spare",
        ]
        for path in paths:
            with suppress(NotFound):
                self.cluster.send(Call("DELETE", path, "the test"))
        self.cluster.close()


@pytest.fixture
def world(config: KubernetesConfig) -> Iterator[LiveWorld]:
    world = LiveWorld(config)
    try:
        yield world
    finally:
        world.tidy()


class TestKubernetesLive(DriverContract):
    """Every promise that needs no faults, kept by a real API server."""

    secrets = emulated.SECRETS

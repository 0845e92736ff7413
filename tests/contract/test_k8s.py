"""The Kubernetes driver against its emulator: the common promises, and the traps of server-side apply."""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from reconciler.driver import Driver
from reconciler.resource import JSONObject, Resource, ResourceId, ResourcePolicy, SecretRef
from reconciler.testing import DriverContract, Sample
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.driver import KubernetesDriver
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_k8s.spec import KubernetesObject

PASSWORD = "canary-9f2c-relay-password"
TOKEN = "canary-71aa-metrics-token"
SECRETS = {"secret/mail#relay": PASSWORD, "secret/mail#metrics": TOKEN}
RELAY = SecretRef('${vault("secret/mail", "relay")}', (("secret/mail", "relay"),))
METRICS = SecretRef('${vault("secret/mail", "metrics")}', (("secret/mail", "metrics"),))
NAMESPACE = "mail"


def resource(manifest: JSONObject, **policy: Any) -> Resource:
    name, spec = KubernetesObject.from_document(manifest)
    return Resource(ResourceId("k8s", manifest["kind"], name), spec, policy=ResourcePolicy(**policy))


def manifest(api_version: str, kind: str, name: str, *, namespace: str = NAMESPACE, **rest: Any) -> JSONObject:
    metadata: JSONObject = {"name": name, **({"namespace": namespace} if namespace else {}), **rest.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def namespace_manifest(name: str = NAMESPACE, **labels: str) -> JSONObject:
    return manifest("v1", "Namespace", name, namespace="", metadata={"labels": labels} if labels else {})


def config_map(**data: str) -> JSONObject:
    return manifest("v1", "ConfigMap", "postfix", data=data)


def secret(**strings: Any) -> JSONObject:
    return manifest("v1", "Secret", "relay", stringData=strings)


def service(*ports: JSONObject, **spec: Any) -> JSONObject:
    return manifest("v1", "Service", "mailserver", spec={"selector": {"app": "mail"}, "ports": list(ports), **spec})


SMTP: JSONObject = {"name": "smtp", "port": 25, "targetPort": 25}
IMAPS: JSONObject = {"name": "imaps", "port": 993}


def deployment(image: str = "mail:1", *, annotations: JSONObject | None = None, **spec: Any) -> JSONObject:
    container = {
        "name": "mail",
        "image": image,
        "ports": [{"containerPort": 25}],
        "env": [{"name": "METRICS_TOKEN", "value": METRICS}, {"name": "LOG", "value": "info"}],
        "envFrom": [{"configMapRef": {"name": "postfix"}}],
        "resources": {"requests": {"memory": "1024Mi", "cpu": "0.5"}},
    }
    template = {
        "metadata": {"labels": {"app": "mail"}},
        "spec": {"containers": [container], "volumes": [{"name": "spool", "emptyDir": {}}]},
    }
    whole: JSONObject = {"selector": {"matchLabels": {"app": "mail"}}, "template": template, **spec}
    return manifest("apps/v1", "Deployment", "mailserver", spec=whole, metadata={"annotations": annotations} if annotations else {})


def claim(**labels: str) -> JSONObject:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
    return manifest("v1", "PersistentVolumeClaim", "maildir", spec=spec, metadata={"labels": labels})


def definition(description: str = "a pool of addresses") -> JSONObject:
    schema = {
        "type": "object",
        "description": description,
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "addresses": {"type": "array", "items": {"type": "string"}},
                    "autoAssign": {"type": "boolean", "default": True},
                },
            }
        },
    }
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Pool", "plural": "pools"}
    spec = {"group": "net.example.org", "names": names, "scope": "Namespaced", "versions": [version]}
    return manifest("apiextensions.k8s.io/v1", "CustomResourceDefinition", "pools.net.example.org", namespace="", spec=spec)


def pool(*addresses: str) -> JSONObject:
    return manifest("net.example.org/v1beta1", "Pool", "mail", spec={"addresses": list(addresses)})


class KubernetesWorld:
    """One emulated cluster."""

    owner = "test/contract"
    faults = frozenset({"rate-limit", "server-error", "latency", "cut-before", "cut-after", "partial"})

    def __init__(self) -> None:
        self.emulator = KubernetesEmulator()
        self.emulator.start()
        self.store = self.emulator.machine.store

    def open(self) -> Driver:
        return KubernetesDriver(KubernetesConfig(**self.emulator.settings(), timeout=5, wait=5))

    def samples(self) -> Sequence[Sample]:
        home = resource(namespace_manifest())
        crd = resource(definition())
        return [
            Sample(resource(namespace_manifest("spare", tier="test")), resource(namespace_manifest("spare", tier="production"))),
            Sample(resource(config_map(LOG="info", OLD="1")), resource(config_map(LOG="debug", NEW="2")), (home,)),
            Sample(resource(secret(password=RELAY, user="mail")), resource(secret(password=RELAY, user="relay")), (home,)),
            Sample(resource(service(SMTP)), resource(service(SMTP, IMAPS, type="NodePort")), (home,)),
            Sample(resource(claim(tier="silver")), resource(claim(tier="gold")), (home,)),
            Sample(resource(pool("192.0.2.1/32")), resource(pool("192.0.2.1/32", "192.0.2.2/32")), (home, crd)),
            Sample(resource(deployment("mail:1")), resource(deployment("mail:2", replicas=2)), (home,)),
        ]

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        found = {}
        with self.store.lock:
            for kind in self.store.kinds.values():
                for whole in self.store.all(kind.key):
                    if whole["metadata"]["name"].startswith(("reconciler-", "kube-")) or whole["metadata"]["name"] == "default":
                        continue
                    content = copy.deepcopy({key: value for key, value in whole.items() if key != "status"})
                    for key in ("resourceVersion", "managedFields", "generation", "creationTimestamp"):
                        content["metadata"].pop(key, None)
                    found[f"{kind.name} {whole['metadata'].get('namespace', '')}/{whole['metadata']['name']}"] = (
                        whole["metadata"]["uid"],
                        content,
                    )
        return found

    def locate(self, resource: Resource) -> str:
        namespace, _, name = resource.id.name.rpartition("/")
        return f"{resource.id.kind} {namespace}/{name}"

    def live(self, id: str) -> JSONObject:
        return self.peek()[id][1]

    def plant(self, resource: Resource) -> None:
        assert isinstance(resource.spec, KubernetesObject)
        self.emulator.put(resource.spec.wire(lambda ref: SECRETS["#".join(ref.inputs[0])]), "somebody")

    def meddle(self, resource: Resource) -> None:
        change: dict[str, JSONObject] = {
            "Namespace": {"metadata": {"labels": {"tier": "meddled"}}},
            "ConfigMap": {"data": {"LOG": "meddled"}},
            "Secret": {"data": {"password": "bWVkZGxlZA=="}},
            "PersistentVolumeClaim": {"metadata": {"labels": {"tier": "meddled"}}},
            "Pool": {"spec": {"addresses": ["203.0.113.9/32"]}},
        }
        self.patch(resource, change.get(resource.id.kind) or self._list_change(resource))

    def _list_change(self, resource: Resource) -> JSONObject:
        spec = copy.deepcopy(self.live(self.locate(resource))["spec"])
        if resource.id.kind == "Service":
            spec["ports"][0]["targetPort"] = 2525
        else:
            spec["template"]["spec"]["containers"][0]["image"] = "meddled:1"
        return {"spec": spec}

    def patch(self, resource: Resource, patch: JSONObject, manager: str = "kubectl-edit") -> None:
        from reconciler_k8s.emulator.patches import merge_patch

        assert isinstance(resource.spec, KubernetesObject)
        namespace, _, name = resource.id.name.rpartition("/")
        with self.store.lock:
            live = self.store.get(self.emulator.kind(resource.spec.manifest).key, namespace, name)
            self.emulator.put(merge_patch(live, patch), manager)

    def remove(self, resource: Resource) -> None:
        assert isinstance(resource.spec, KubernetesObject)
        namespace, _, name = resource.id.name.rpartition("/")
        with self.store.lock:
            kind = self.emulator.kind(resource.spec.manifest)
            whole = self.store.get(kind.key, namespace, name)
            assert whole is not None
            self.emulator.machine.remove(kind, whole)

    def writes(self) -> int:
        return self.emulator.machine.writes

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        if fault == "partial":
            return self._truncated()
        seconds = 6 if fault == "latency" else 1
        return self.emulator.faults.during(fault, times=times, seconds=seconds, writes_only=fault.startswith("cut"))

    @contextmanager
    def _truncated(self) -> Iterator[None]:
        self.emulator.api.truncated = True
        yield
        self.emulator.api.truncated = False

    def secret_values(self) -> Sequence[str]:
        from reconciler_k8s.spec import encode

        return [*SECRETS.values(), *(encode(value) for value in SECRETS.values())]

    def settled(self) -> None:
        """Wait until the controllers have seen everything."""
        time.sleep(0.12)


@pytest.fixture
def world() -> Iterator[KubernetesWorld]:
    found = KubernetesWorld()
    yield found
    found.emulator.stop()


class TestKubernetes(DriverContract):
    secrets = SECRETS

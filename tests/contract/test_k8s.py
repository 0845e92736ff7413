"""The Kubernetes driver against its emulator: the common promises, and the traps of server-side apply."""

import copy
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import pytest
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from reconciler.driver import Action, Cause, Driver, Level, Observation, Ownership, Status
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.report import plan_text
from reconciler.resource import JSONObject, Resource, ResourceId, ResourcePolicy, SecretRef
from reconciler.testing import Bench, DriverContract, Sample, scope_for
from reconciler_k8s import watch
from reconciler_k8s.applyset import ApplySet
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.driver import KubernetesDriver
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_k8s.emulator.http import Api
from reconciler_k8s.emulator.machine import Request
from reconciler_k8s.emulator.managers import Actor
from reconciler_k8s.emulator.patches import merge_patch
from reconciler_k8s.emulator.statuses import ApiError
from reconciler_k8s.ownership import field_manager
from reconciler_k8s.spec import KubernetesObject, encode
from tests.e2e.leaks import Echoing, Trouble

PASSWORD = "canary-9f2c-relay-password"
TOKEN = "canary-71aa-metrics-token"
SECRETS = {"secret/mail#relay": PASSWORD, "secret/mail#metrics": TOKEN}
RELAY = SecretRef('${vault("secret/mail", "relay")}', (("secret/mail", "relay"),))
METRICS = SecretRef('${vault("secret/mail", "metrics")}', (("secret/mail", "metrics"),))
NAMESPACE = "mail"


def resource(manifest: JSONObject, **policy: Any) -> Resource:
    name, spec = KubernetesObject.from_document(manifest)
    return Resource(ResourceId("k8s", KubernetesObject.kind_of(manifest), name), spec, policy=ResourcePolicy(**policy))


def manifest(api_version: str, kind: str, name: str, *, namespace: str = NAMESPACE, **rest: Any) -> JSONObject:
    metadata: JSONObject = {"name": name, **({"namespace": namespace} if namespace else {}), **rest.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def namespace_manifest(name: str = NAMESPACE, **labels: str) -> JSONObject:
    return manifest("v1", "Namespace", name, namespace="", metadata={"labels": labels} if labels else {})


def config_map(**data: Any) -> JSONObject:
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


def forced(whole: JSONObject) -> JSONObject:
    whole["metadata"]["annotations"] = {**whole["metadata"].get("annotations", {}), "reconciler/force": "true"}
    return whole


def claim(**labels: str) -> JSONObject:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}
    return manifest("v1", "PersistentVolumeClaim", "maildir", spec=spec, metadata={"labels": labels})


def grown(whole: JSONObject, size: str = "1Gi") -> JSONObject:
    """A claim of a class whose volumes can grow."""
    return {**whole, "spec": {**whole["spec"], "storageClassName": "fast", "resources": {"requests": {"storage": size}}}}


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
        return f"{resource.id.kind.partition('.')[0]} {namespace}/{name}"

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
            "Pool.net.example.org": {"spec": {"addresses": ["203.0.113.9/32"]}},
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
        return self.emulator.api.writes

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
        return [*SECRETS.values(), *(encode(value) for value in SECRETS.values())]

    def scale(self, resource: Resource, replicas: int, manager: str) -> None:
        """Change the replicas as an autoscaler does, through the scale subresource."""
        assert isinstance(resource.spec, KubernetesObject)
        namespace, _, name = resource.id.name.rpartition("/")
        with self.store.lock:
            kind = self.emulator.kind(resource.spec.manifest)
            whole = self.store.get(kind.key, namespace, name)
            assert whole is not None
            whole["spec"]["replicas"] = replicas
            self.emulator.machine.alter(kind, whole, manager, sub="scale")

    def erase_owners(self, resource: Resource) -> None:
        """Reset managedFields, as a patch of ``[{}]`` does."""
        self.without_managed_fields(resource, {})

    def without_managed_fields(self, resource: Resource, patch: JSONObject) -> None:
        """Change the object and leave no record of any owner."""
        assert isinstance(resource.spec, KubernetesObject)
        namespace, _, name = resource.id.name.rpartition("/")
        with self.store.lock:
            kind = self.emulator.kind(resource.spec.manifest)
            whole = self.store.peek(kind.key, namespace, name)
            assert whole is not None
            changed = merge_patch(whole, patch)
            changed["metadata"].pop("managedFields", None)
            self.store.put(kind, changed)

    def terminate(self, resource: Resource) -> None:
        """Ask for a deletion that finalizers hold up."""
        assert isinstance(resource.spec, KubernetesObject)
        namespace, _, name = resource.id.name.rpartition("/")
        with self.store.lock:
            kind = self.emulator.kind(resource.spec.manifest)
            request = Request(kind, namespace, name, Actor("kubectl", "Update", kind.api_version))
            self.emulator.machine.delete(request, {})

    def settled(self) -> None:
        """Wait until the controllers have seen everything."""
        time.sleep(0.12)


@pytest.fixture
def world() -> Iterator[KubernetesWorld]:
    found = KubernetesWorld()
    yield found
    found.emulator.stop()


class TestKubernetes(DriverContract):
    """Every promise, with seven kinds of objects, one of them custom."""

    secrets = SECRETS


@pytest.fixture
def bench(world: KubernetesWorld) -> Iterator[Bench]:
    bench = Bench(world, world.open(), scope_for(world, secrets=SECRETS))
    yield bench
    bench.driver.close()


HOME = resource(namespace_manifest())


def seen(bench: Bench, wanted: Sequence[Resource], which: Resource) -> Observation:
    return next(one for one in bench.observe(wanted) if one.id == which.id)


def change_of(bench: Bench, wanted: Sequence[Resource], which: Resource) -> Any:
    return next(one for one in bench.plan(wanted).changes if one.id == which.id)


def live(world: KubernetesWorld, which: Resource) -> JSONObject:
    return world.live(world.locate(which))


# -- what a pass costs -------------------------------------------------------------------------------------------------------


def test_a_plan_without_changes_costs_one_request_per_kind_and_three_more(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [
        HOME,
        *(resource(manifest("v1", "ConfigMap", f"c{number}", data={"a": "1"})) for number in range(40)),
        resource(service(SMTP)),
    ]
    bench.converge(wanted)
    before = len(world.emulator.faults.requests)
    assert not bench.plan(wanted).changes
    assert len(world.emulator.faults.requests) - before == 3 + 3


def test_a_kind_that_left_git_altogether_is_still_listed_and_pruned(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(service(SMTP))])
    bench.converge([HOME])
    assert world.locate(resource(service(SMTP))) not in world.peek()


# -- drift and conflicts -----------------------------------------------------------------------------------------------------


def test_foreign_keys_and_list_items_survive_and_are_no_drift(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    world.patch(wanted[1], {"data": {"THEIRS": "1"}, "metadata": {"labels": {"team": "b"}}})
    assert not bench.plan(wanted).changes


def test_drift_names_who_changed_it_when_and_how(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    world.meddle(wanted[1])
    change = change_of(bench, wanted, wanted[1])
    assert [(one.path, one.before, one.after) for one in change.diffs] == [("/data/LOG", "meddled", "info")]
    assert change.cause is Cause.DRIFT
    assert change.evidence is not None
    assert (change.evidence.who, change.evidence.how) == ("kubectl-edit", "Update")
    assert change.evidence.when is not None


def test_a_removed_owner_label_is_drift_and_not_a_foreign_object(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    world.patch(wanted[1], {"metadata": {"labels": None}})
    assert change_of(bench, wanted, wanted[1]).action is Action.UPDATE
    bench.converge(wanted)
    assert live(world, wanted[1])["metadata"]["labels"] == {"applyset.kubernetes.io/part-of": ApplySet("test/contract", "default").id}


def test_a_field_that_another_applier_holds_is_refused_with_owner_and_field(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    world.emulator.apply(config_map(THEIRS="1"), "team-b")
    more = resource(config_map(LOG="info", THEIRS="2"))
    (stuck,) = bench.plan([HOME, more]).stuck
    assert stuck.status is Status.REFUSED
    assert ".data.THEIRS belongs to team-b" in stuck.reason
    bench.converge([HOME, resource(config_map(LOG="info", THEIRS="2"), adopt=True)])
    assert live(world, more)["data"]["THEIRS"] == "2"


def test_a_field_that_git_asks_for_anew_is_not_taken_from_a_plain_writer_either(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(config_map(LOG="info"))])
    world.patch(resource(config_map()), {"data": {"THEIRS": "1", "MORE": "1"}}, "some-operator")
    (stuck,) = bench.plan([HOME, resource(config_map(LOG="info", THEIRS="2", MORE="2"))]).stuck
    assert ".data.THEIRS belongs to some-operator" in stuck.reason
    assert ".data.MORE belongs to some-operator" in stuck.reason
    assert 'reconciler/force: "true"' in stuck.reason
    bench.converge([HOME, resource(forced(config_map(LOG="info", THEIRS="2", MORE="2")))])
    assert live(world, resource(config_map()))["data"] == {"LOG": "info", "THEIRS": "2", "MORE": "2"}


def test_what_another_applier_took_of_an_unchanged_manifest_is_taken_back(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    world.emulator.apply(config_map(LOG="debug"), "team-b", force=True)
    change = change_of(bench, wanted, wanted[1])
    assert (change.cause, change.evidence.who) == (Cause.DRIFT, "team-b")
    bench.converge(wanted)
    assert live(world, wanted[1])["data"] == {"LOG": "info"}


def test_a_value_that_two_appliers_agree_on_is_no_conflict(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(config_map(LOG="info"))])
    world.emulator.apply(config_map(SHARED="1"), "team-b")
    wanted = [HOME, resource(config_map(LOG="info", SHARED="1"))]
    bench.converge(wanted)
    assert not bench.plan(wanted).stuck


def test_a_field_that_is_no_longer_ignored_counts_as_asked_for_anew(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(config_map(LOG="info", THEIRS="1"), ignore=("/data/THEIRS",))])
    world.patch(resource(config_map()), {"data": {"THEIRS": "2"}}, "some-operator")
    (stuck,) = bench.plan([HOME, resource(config_map(LOG="info", THEIRS="1"))]).stuck
    assert ".data.THEIRS belongs to some-operator" in stuck.reason


def test_fields_whose_owners_were_erased_are_taken(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(config_map(LOG="info"))])
    world.erase_owners(resource(config_map()))
    bench.converge([HOME, resource(config_map(LOG="debug"))])
    assert live(world, resource(config_map()))["data"] == {"LOG": "debug"}


def test_replicas_that_an_autoscaler_moves_are_left_to_it(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(deployment(replicas=2))]
    bench.converge(wanted)
    world.scale(wanted[1], 5, "hpa-controller")
    plan = bench.plan(wanted)
    assert not plan.changes
    assert plan.notes == ("k8s/Deployment/mail/mailserver: /spec/replicas is left to hpa-controller, which scales it",)
    moved = [HOME, resource(deployment("mail:2", replicas=3))]
    bench.converge(moved)
    assert live(world, moved[1])["spec"]["replicas"] == 5
    assert live(world, moved[1])["spec"]["template"]["spec"]["containers"][0]["image"] == "mail:2"


def test_replicas_that_a_person_scaled_are_put_back(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(deployment(replicas=2))]
    bench.converge(wanted)
    world.scale(wanted[1], 5, "kubectl")
    change = change_of(bench, wanted, wanted[1])
    assert (change.cause, change.evidence.who, change.evidence.how) == (Cause.DRIFT, "kubectl", "Update of scale")
    bench.converge(wanted)
    assert live(world, wanted[1])["spec"]["replicas"] == 2


def test_force_takes_replicas_even_from_an_autoscaler(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(forced(deployment(replicas=2)))]
    bench.converge(wanted)
    world.scale(wanted[1], 5, "hpa-controller")
    bench.converge(wanted)
    assert live(world, wanted[1])["spec"]["replicas"] == 2


def test_a_claim_that_something_has_grown_is_left_as_large_as_it_is(world: KubernetesWorld, bench: Bench) -> None:
    world.emulator.put(manifest("storage.k8s.io/v1", "StorageClass", "fast", namespace="", provisioner="a/b", allowVolumeExpansion=True))
    wanted = [HOME, resource(grown(claim(tier="silver")))]
    bench.converge(wanted)
    world.settled()
    world.patch(wanted[1], {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}, "volume-autosizer")
    plan = bench.plan(wanted)
    assert not plan.changes
    assert not plan.held
    assert "is left at 2Gi, to which volume-autosizer has grown it" in plan.notes[0]
    bench.converge([HOME, resource(grown(claim(tier="gold")))])
    assert live(world, wanted[1])["spec"]["resources"] == {"requests": {"storage": "2Gi"}}
    bench.converge([HOME, resource(grown(claim(tier="gold"), "3Gi"))])
    assert live(world, wanted[1])["spec"]["resources"] == {"requests": {"storage": "3Gi"}}


def test_a_port_that_somebody_renumbered_is_put_back(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(service(SMTP, IMAPS))]
    bench.converge(wanted)
    world.patch(wanted[1], {"spec": {"ports": [{**SMTP, "port": 2525}, IMAPS]}})
    change = change_of(bench, wanted, wanted[1])
    assert change.action is Action.UPDATE
    assert [one.path for one in change.diffs] == ["/spec/ports/0/port"]
    bench.converge(wanted)
    assert [port["port"] for port in live(world, wanted[1])["spec"]["ports"]] == [25, 993]


def test_an_object_served_without_managed_fields_is_compared_by_value(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    world.without_managed_fields(wanted[1], {})
    assert not bench.plan(wanted).changes
    world.without_managed_fields(wanted[1], {"data": {"LOG": "meddled"}})
    assert [one.path for one in change_of(bench, wanted, wanted[1]).diffs] == ["/data/LOG"]


# -- changes that a plain apply cannot make ----------------------------------------------------------------------------------


def test_a_deployment_becomes_recreate_in_place(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(deployment())])
    before = world.peek()[world.locate(resource(deployment()))][0]
    wanted = [HOME, resource(deployment("mail:2", strategy={"type": "Recreate"}))]
    bench.converge(wanted)
    id, content = world.peek()[world.locate(wanted[1])]
    assert id == before
    assert content["spec"]["strategy"] == {"type": "Recreate"}
    assert content["spec"]["template"]["spec"]["containers"][0]["image"] == "mail:2"


def test_what_cannot_change_in_place_is_planned_as_a_replacement(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(service(SMTP, clusterIP="10.96.7.7"))]
    bench.converge(wanted)
    moved = [HOME, resource(service(SMTP, clusterIP="10.96.7.8"))]
    change = change_of(bench, moved, moved[1])
    assert change.action is Action.REPLACE
    assert "may not change once set" in change.risk
    bench.converge(moved)
    assert live(world, moved[1])["spec"]["clusterIP"] == "10.96.7.8"


def test_a_claim_is_never_replaced_without_consent(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(claim())])
    shrunk = claim()
    shrunk["spec"]["accessModes"] = ["ReadWriteMany"]
    plan = bench.plan([HOME, resource(shrunk)])
    assert not plan.changes
    assert [one.guard for one in plan.held] == ["replace"]


def test_a_manifest_that_the_server_refuses_is_refused_in_the_plan(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME])
    (found,) = bench.plan([HOME, resource(service({"name": "smtp", "port": 70000}))]).stuck
    assert "must be between 1 and 65535" in found.reason


def test_what_comes_with_its_namespace_or_definition_is_noted_as_not_validated(world: KubernetesWorld, bench: Bench) -> None:
    plan = bench.plan([HOME, resource(definition()), resource(pool("192.0.2.1/32")), resource(config_map(A="1"))])
    assert [note for note in plan.notes if "not validated" in note and "its CRD" in note]
    assert [note for note in plan.notes if "not validated" in note and "its namespace" in note]


def test_an_unknown_kind_and_a_missing_namespace_are_refused(world: KubernetesWorld, bench: Bench) -> None:
    plan = bench.plan([resource(pool("192.0.2.1/32")), resource(config_map(A="1"))])
    assert sorted(one.reason for one in plan.stuck) == [
        'k8s/ConfigMap/mail/postfix: the namespace "mail" does not exist; declare it in the stack',
        "k8s/Pool.net.example.org/mail/mail: the cluster serves no Pool in net.example.org/v1beta1; install its CRD",
    ]


def test_an_unknown_version_of_a_known_kind_is_refused(bench: Bench) -> None:
    bench.converge([HOME])
    old = manifest("apps/v1beta1", "Deployment", "mailserver", spec=deployment()["spec"])
    (stuck,) = bench.plan([HOME, resource(old)]).stuck
    assert stuck.reason == "k8s/Deployment/mail/mailserver: the cluster serves no Deployment in apps/v1beta1; move the manifest to apps/v1"


def test_an_object_that_is_being_deleted_is_neither_updated_nor_made_again(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    world.patch(wanted[1], {"metadata": {"finalizers": ["example.org/hold"]}})
    world.terminate(wanted[1])
    plan = bench.plan([HOME, resource(config_map(LOG="debug"))])
    assert not plan.changes
    assert "waits for example.org/hold" in plan.stuck[0].reason
    world.patch(wanted[1], {"metadata": {"finalizers": None}})
    bench.converge(wanted)


def test_two_groups_with_one_kind_and_name_live_side_by_side(world: KubernetesWorld, bench: Bench) -> None:
    other = definition()
    other["metadata"]["name"], other["spec"]["group"] = "configmaps.net.example.org", "net.example.org"
    other["spec"]["names"] = {"kind": "ConfigMap", "plural": "configmaps"}
    theirs = manifest("net.example.org/v1beta1", "ConfigMap", "postfix", spec={"addresses": ["192.0.2.1/32"]})
    wanted = [HOME, resource(other), resource(config_map(LOG="info")), resource(theirs)]
    bench.converge(wanted)
    assert {one.id for one in bench.observe(wanted)} == {one.id for one in wanted}
    assert [one.id for one in bench.plan(wanted[:3]).changes] == [wanted[3].id]


# -- ownership ---------------------------------------------------------------------------------------------------------------


def test_a_copy_that_carries_our_marks_under_another_name_is_not_pruned(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    copied = live(world, wanted[1])
    copied["metadata"] = {**{key: copied["metadata"][key] for key in ("labels", "annotations", "namespace")}, "name": "copy"}
    world.emulator.put(copied, "kubectl-create")
    assert not bench.plan(wanted).changes
    assert "ConfigMap mail/copy" in world.peek()


def test_an_object_made_by_somebody_since_the_plan_is_not_taken(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME])
    wanted = [HOME, resource(config_map(LOG="info"))]
    plan = bench.plan(wanted)
    world.plant(wanted[1])
    before = world.peek()
    (outcome,) = bench.apply(plan)
    assert outcome.status is Status.FAILED
    assert "was made by somebody else since the plan" in outcome.message
    assert world.peek() == before


def test_an_object_made_anew_since_the_plan_is_neither_updated_nor_deleted(world: KubernetesWorld, bench: Bench) -> None:
    old = resource(config_map(LOG="info"))
    bench.converge([HOME, old])
    update, delete = bench.plan([HOME, resource(config_map(LOG="debug"))]), bench.plan([HOME])
    world.remove(old)
    world.plant(old)
    before = world.peek()
    for plan in (update, delete):
        (outcome,) = bench.apply(plan)
        assert outcome.status is Status.FAILED
        assert not outcome.transient
    assert world.peek() == before


def test_adoption_removes_what_the_former_manager_had_and_says_so_before(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME])
    world.emulator.put(config_map(LOG="info", LEFT="1"), "kubectl-client-side-apply")
    wanted = [HOME, resource(config_map(LOG="info"), adopt=True)]
    assert [
        note for note in bench.plan(wanted).notes if "takes over from kubectl-client-side-apply, whose other fields go: data.LEFT" in note
    ]
    assert not [note for note in bench.plan(wanted).notes if "data.LOG" in note]
    bench.converge(wanted)
    assert live(world, wanted[1])["data"] == {"LOG": "info"}


# -- secrets -----------------------------------------------------------------------------------------------------------------


def test_a_key_dropped_from_string_data_goes(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(secret(password=RELAY, old="1"))])
    assert set(live(world, resource(secret()))["data"]) == {"password", "old"}
    bench.converge([HOME, resource(secret(password=RELAY))])
    assert live(world, resource(secret()))["data"] == {"password": encode(PASSWORD)}


def test_rotation_restarts_the_pods_that_ask_for_it(world: KubernetesWorld, bench: Bench) -> None:
    pods = deployment(annotations={"reconciler/restart-on-change": "true"})
    pods["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "relay"}}]
    wanted = [HOME, resource(secret(password=RELAY)), resource(pods)]
    bench.converge(wanted)
    before = live(world, wanted[2])["spec"]["template"]["metadata"]["annotations"]
    rotated = replace(bench, scope=scope_for(world, secrets=SECRETS, version="2"))
    assert {str(one.id) for one in rotated.plan(wanted).changes} == {str(wanted[1].id), str(wanted[2].id)}
    rotated.converge(wanted)
    assert live(world, wanted[2])["spec"]["template"]["metadata"]["annotations"] != before


def test_a_changed_config_map_restarts_only_the_pods_that_ask_for_it(world: KubernetesWorld, bench: Bench) -> None:
    asking, other = deployment(annotations={"reconciler/restart-on-change": "true"}), deployment()
    other["metadata"]["name"] = "other"
    bench.converge([HOME, resource(config_map(LOG="info")), resource(asking), resource(other)])
    plan = bench.plan([HOME, resource(config_map(LOG="debug")), resource(asking), resource(other)])
    assert [str(one.id) for one in plan.changes] == ["k8s/ConfigMap/mail/postfix", "k8s/Deployment/mail/mailserver"]
    assert [one.path for one in plan.changes[1].diffs] == ["/spec/template/metadata/annotations/reconciler~1config-hash"]


def test_a_value_of_a_secret_that_somebody_changed_is_shown_by_whom_and_put_back(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(secret(password=RELAY, user="plain"))]
    bench.converge(wanted)
    world.patch(wanted[1], {"data": {"password": encode("stolen"), "user": encode("stolen")}})
    shown = {one.path: one.before for one in change_of(bench, wanted, wanted[1]).diffs}
    assert shown == {"/data/password": "secret:changed by kubectl-edit", "/data/user": "secret:changed by kubectl-edit"}
    bench.converge(wanted)
    assert live(world, wanted[1])["data"] == {"password": encode(PASSWORD), "user": encode("plain")}


def test_a_value_that_stands_plain_in_git_is_in_no_plan(world: KubernetesWorld, bench: Bench) -> None:
    first = [HOME, resource(secret(user="plain-canary"))]
    again = [HOME, resource(secret(user="plain-canary-2"))]
    anew = [HOME, resource({**secret(user="plain-canary-2"), "type": "example.org/other"}, replace=True)]
    for wanted in (first, again, anew):
        shown = plan_text(bench.plan(wanted))
        assert "git:" in shown
        assert "plain-canary" not in shown
        assert encode("plain-canary")[:12] not in shown
        bench.converge(wanted)
    assert live(world, anew[1])["data"] == {"user": encode("plain-canary-2")}


def test_a_refused_secret_says_which_field_and_no_value(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME])
    wrong = manifest("v1", "Secret", "relay", stringData={"tls.crt": RELAY, "user": "plain-canary"}, type="kubernetes.io/tls")
    (stuck,) = bench.plan([HOME, resource(wrong)]).stuck
    assert "data[tls.key] (FieldValueRequired)" in stuck.reason
    assert "plain-canary" not in stuck.reason


def test_beside_a_secret_no_text_is_shown_that_git_does_not_say(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(RELAY=RELAY, LOG="info", MODE="a"))]
    bench.converge(wanted)
    world.patch(wanted[1], {"data": {"LOG": "planted-canary", "MODE": "info"}})
    shown = {one.path: one.before for one in change_of(bench, wanted, wanted[1]).diffs}
    assert shown == {"/data/LOG": "(hidden)", "/data/MODE": "info"}


def test_what_can_only_be_made_anew_shows_no_value_of_a_secret_in_it(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource({**config_map(RELAY=RELAY, LOG="info"), "immutable": True})])
    plan = bench.plan([HOME, resource({**config_map(RELAY=RELAY, LOG="debug"), "immutable": True}, replace=True)])
    assert [change.action for change in plan.changes] == [Action.REPLACE]
    assert PASSWORD not in plan_text(plan) + repr(plan)


@pytest.mark.parametrize("status", [400, 409, 422, 500])
def test_a_cluster_that_quotes_what_it_was_sent_or_holds_makes_nobody_tell_a_secret(
    world: KubernetesWorld, bench: Bench, status: int
) -> None:
    server, trouble, said, failed = world.emulator._server, Trouble(), list[str](), set[str]()
    server.stop()
    server.app = Echoing(server.app, "k8s", trouble)  # type: ignore[arg-type]
    server.start()
    first = [HOME, resource(secret(password=RELAY)), resource(config_map(RELAY=RELAY))]
    then = [HOME, resource(secret(password=RELAY, user="x")), resource(config_map(RELAY=RELAY, LOG="debug"))]
    bench.converge(first[:1])
    for wanted in (first, then, first[:1]):
        trouble.begin(lambda key: status if re.search("/(secrets|configmaps/postfix)", key) else 0, thorough=True)
        for _ in range(12):
            try:
                plan = bench.plan(wanted)
                said += [plan_text(plan), repr(plan), *(one.message for one in bench.apply(plan))]
            except DriverError as error:
                said.append(str(error))
        failed |= {key.split()[1] for key in trouble.failed if "/secrets" in key}
        trouble.active = False
        bench.converge(wanted)
    assert failed >= {"GET", "PATCH", "DELETE"}
    assert [text for text in said if f"HTTP {status}" in text]
    assert not [text for text in said if PASSWORD in text or encode(PASSWORD) in text]


# -- health ------------------------------------------------------------------------------------------------------------------


def test_health_follows_the_controllers(world: KubernetesWorld, bench: Bench) -> None:
    world.emulator.controllers.frozen.add("Deployment")
    wanted = [HOME, resource(claim()), resource(deployment())]
    bench.converge(wanted)
    world.settled()
    assert seen(bench, wanted, wanted[1]).health.level is Level.HEALTHY
    assert seen(bench, wanted, wanted[2]).health.level is Level.PROGRESSING
    world.emulator.controllers.frozen.clear()
    world.emulator.put(config_map(A="1"))
    world.settled()
    assert seen(bench, wanted, wanted[2]).health.level is Level.HEALTHY


def test_a_terminating_object_is_waited_for(world: KubernetesWorld, bench: Bench) -> None:
    world.emulator.controllers.frozen.add("Namespace")
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    world.terminate(HOME)
    plan = bench.plan(wanted)
    assert not plan.changes
    assert [one.id for one in plan.stuck if one.unknown] == [HOME.id]


def test_an_expression_may_ask_for_the_live_object(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(service(SMTP, type="LoadBalancer"))]
    bench.converge(wanted)
    world.settled()
    asking = replace(bench, scope=replace(bench.scope, status_of=frozenset({wanted[1].id})))
    status = seen(asking, wanted, wanted[1]).status
    assert status is not None
    assert status["status"]["loadBalancer"]["ingress"][0]["ip"].startswith("192.0.2.")


def test_one_field_manager_and_one_mark_stand_on_every_object(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info"))]
    bench.converge(wanted)
    assert seen(bench, wanted, wanted[1]).ownership is Ownership.OURS
    with world.store.lock:
        whole = world.store.get(("", "configmaps"), "mail", "postfix")
    assert whole is not None
    assert [entry["manager"] for entry in whole["metadata"]["managedFields"]] == [field_manager("test/contract")]
    assert whole["metadata"]["annotations"]["reconciler/mark"] == "reconciler:test/contract:ConfigMap/mail/postfix"


# -- the stack as an ApplySet ------------------------------------------------------------------------------------------------

PARENT = ApplySet("test/contract", "default")


def parent(world: KubernetesWorld) -> JSONObject:
    with world.store.lock:
        found = world.store.get(("", "configmaps"), "default", PARENT.name)
    assert found is not None
    metadata: JSONObject = found["metadata"]
    return metadata


def notes_of(world: KubernetesWorld) -> dict[str, str]:
    return {key.removeprefix("applyset.kubernetes.io/"): value for key, value in parent(world)["annotations"].items()}


def test_the_parent_names_tool_kinds_and_namespaces_and_the_members_name_the_parent(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(config_map(LOG="info")), resource(deployment())]
    bench.converge(wanted)
    assert parent(world)["labels"] == {"applyset.kubernetes.io/id": PARENT.id}
    assert notes_of(world) == {
        "tooling": "reconciler/v1",
        "contains-group-kinds": "ConfigMap,Deployment.apps,Namespace",
        "additional-namespaces": "mail",
    }
    assert {live(world, one)["metadata"]["labels"]["applyset.kubernetes.io/part-of"] for one in wanted} == {PARENT.id}


def test_the_parent_knows_a_kind_before_its_first_object_is_made(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME])
    plan = bench.plan([HOME, resource(config_map(LOG="info"))])
    before = len(world.emulator.faults.requests)
    bench.apply(plan)
    written = [path for method, path in list(world.emulator.faults.requests)[before:] if method == "PATCH"]
    assert written == [f"/api/v1/namespaces/default/configmaps/{PARENT.name}", "/api/v1/namespaces/mail/configmaps/postfix"]


def test_the_parent_forgets_kinds_and_namespaces_that_are_empty(world: KubernetesWorld, bench: Bench) -> None:
    away = config_map(LOG="info")
    away["metadata"]["namespace"] = "spare"
    bench.converge([HOME, resource(namespace_manifest("spare")), resource(away), resource(service(SMTP))])
    assert notes_of(world)["contains-group-kinds"] == "ConfigMap,Namespace,Service"
    assert notes_of(world)["additional-namespaces"] == "mail,spare"
    bench.converge([HOME, resource(service(SMTP))])
    world.settled()
    bench.converge([HOME, resource(service(SMTP, IMAPS))])
    assert notes_of(world)["contains-group-kinds"] == "Namespace,Service"
    assert notes_of(world)["additional-namespaces"] == "mail"
    bench.converge([])
    assert notes_of(world)["contains-group-kinds"] == ""


def test_a_kind_that_still_holds_something_is_not_forgotten(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(config_map(LOG="info"), prune=False), resource(service(SMTP))])
    bench.apply(bench.plan([HOME]))
    assert notes_of(world)["contains-group-kinds"] == "ConfigMap,Namespace"


def test_a_parent_that_another_tool_manages_is_not_touched(world: KubernetesWorld, bench: Bench) -> None:
    theirs = manifest("v1", "ConfigMap", PARENT.name, namespace="default")
    theirs["metadata"]["annotations"] = {"applyset.kubernetes.io/tooling": "kubectl/v1.32"}
    world.emulator.put(theirs, "kubectl")
    with pytest.raises(Permanent, match=r"is managed by kubectl/v1\.32; remove it there"):
        bench.observe([HOME])


def test_of_two_stacks_that_claim_one_object_the_second_is_refused_and_both_are_named(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(config_map(LOG="info"))])
    other = replace(bench, scope=replace(bench.scope, owner="test/other"))
    before = world.peek()
    found = {str(one.id): one.reason for one in other.plan([HOME, resource(config_map(LOG="debug"))]).stuck}
    assert "belongs to the stack test/contract, and test/other claims it, too" in found["k8s/ConfigMap/mail/postfix"]
    assert world.peek() == before


def test_an_object_moves_to_another_stack_by_adoption(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(config_map(LOG="info"))])
    other = replace(bench, scope=replace(bench.scope, owner="test/other"))
    other.converge([resource(config_map(LOG="debug"), adopt=True)])
    assert not bench.plan([HOME]).changes, "the first stack no longer prunes it"
    labels = live(world, resource(config_map()))["metadata"]["labels"]
    assert labels == {"applyset.kubernetes.io/part-of": ApplySet("test/other", "default").id}


# -- rights, admission and other refusals ------------------------------------------------------------------------------------


def answering(monkeypatch: pytest.MonkeyPatch, decide: Callable[[HttpRequest], ApiError | None]) -> None:
    """Have the server answer some requests as an authorizer or an admission webhook makes it."""
    usual = Api._answer

    async def asked(self: Api, request: HttpRequest) -> Response:
        if (error := decide(request)) is not None:
            raise error
        return await usual(self, request)

    monkeypatch.setattr(Api, "_answer", asked)


def forbidden(verb: str, plural: str, namespace: str = "") -> ApiError:
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    text = f'{plural} is forbidden: User "reconciler" cannot {verb} resource "{plural}" in API group "" {where}'
    return ApiError(403, text, "Forbidden", {"kind": plural})


def only_in(*namespaces: str) -> Callable[[HttpRequest], ApiError | None]:
    """Allow listing in these namespaces only."""

    def decide(request: HttpRequest) -> ApiError | None:
        parts = request.url.path.split("/")
        if request.method != "GET" or parts[-1] not in ("configmaps", "services"):
            return None
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts else ""
        return None if namespace in namespaces else forbidden("list", parts[-1], namespace)

    return decide


def test_with_narrow_rights_the_namespaces_of_the_stack_are_listed_one_by_one(
    world: KubernetesWorld, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [HOME, resource(config_map(LOG="info")), resource(service(SMTP))]
    answering(monkeypatch, only_in("mail", "default"))
    bench.converge(wanted)
    before = len(world.emulator.faults.requests)
    assert not bench.plan(wanted).changes
    assert len(world.emulator.faults.requests) - before == 3 + 3, "what is forbidden once is not asked again"
    bench.converge([HOME])
    assert world.locate(wanted[2]) not in world.peek(), "what left git is still found"


def test_with_named_namespaces_nothing_is_ever_listed_in_the_whole_cluster(world: KubernetesWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = KubernetesConfig.model_validate({**world.emulator.settings(), "namespaces": ["mail", "default"]})
    bench, wanted = (
        Bench(world, KubernetesDriver(settings), scope_for(world)),
        [HOME, resource(config_map(LOG="info")), resource(service(SMTP))],
    )
    refused: list[str] = []

    def decide(request: HttpRequest) -> ApiError | None:
        error = only_in("mail", "default")(request)
        refused.extend([request.url.path] if error is not None else [])
        return error

    answering(monkeypatch, decide)
    bench.converge(wanted)
    bench.converge([HOME, wanted[1]])
    bench.converge([HOME])
    assert world.locate(wanted[1]) not in world.peek()
    assert refused == [], "not even to see which kinds and namespaces hold nothing any more"
    with world.store.lock:
        maps = world.store.all(("", "configmaps"))
        parents = [one["metadata"]["annotations"] for one in maps if one["metadata"]["name"].startswith("reconciler-")]
    assert [one["applyset.kubernetes.io/contains-group-kinds"] for one in parents] == ["Namespace"], "and the inventory is shrunk"
    bench.driver.close()


def test_a_missing_right_is_named_with_verb_resource_and_namespace(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [HOME, resource(config_map(LOG="info")), resource(secret(password=RELAY))]
    bench.converge(wanted)
    answering(monkeypatch, only_in("default"))
    plan = bench.plan(wanted)
    assert not plan.changes
    (stuck,) = plan.stuck
    assert stuck.unknown
    assert stuck.reason.endswith("the credentials need the right to list configmaps in namespace mail")


def test_a_write_that_is_not_allowed_names_the_right_even_for_a_secret(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.converge([HOME])
    plan = bench.plan([HOME, resource(secret(password=RELAY))])
    answering(monkeypatch, lambda request: forbidden("patch", "secrets", NAMESPACE) if request.url.path.endswith("/relay") else None)
    (outcome,) = bench.apply(plan)
    assert outcome.message.endswith("the credentials need the right to patch secrets in namespace mail") or "get secrets" in outcome.message
    assert not outcome.transient


def test_what_a_webhook_denies_is_refused_in_the_plan_with_its_words(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.converge([HOME])
    text = 'admission webhook "no-latest.example.org" denied the request: use a fixed tag'
    answering(monkeypatch, lambda request: ApiError(403, text, "Forbidden", {}) if request.method == "PATCH" else None)
    wanted = [HOME, resource(config_map(LOG="info")), resource(secret(password=RELAY))]
    reasons = {one.id.kind: one for one in bench.plan(wanted).stuck}
    assert not any(one.unknown for one in reasons.values())
    assert "use a fixed tag" in reasons["ConfigMap"].reason
    assert "from the admission webhook no-latest.example.org" in reasons["Secret"].reason
    assert "use a fixed tag" not in reasons["Secret"].reason


def test_a_webhook_that_does_not_answer_is_temporary(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.converge([HOME])
    text = 'Internal error occurred: failed calling webhook "slow.example.org": context deadline exceeded'
    answering(monkeypatch, lambda request: ApiError(500, text, "InternalError", {}) if request.method == "PATCH" else None)
    (stuck,) = bench.plan([HOME, resource(config_map(LOG="info"))]).stuck
    assert stuck.unknown
    assert "slow.example.org" in stuck.reason


def test_where_a_webhook_forbids_dry_runs_the_plan_compares_by_value_and_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.converge([HOME, resource(config_map(LOG="info"))])
    text = 'admission webhook "audit.example.org" does not support dry run'
    answering(monkeypatch, lambda request: ApiError(400, text, "BadRequest", {}) if "dryRun" in request.query_params else None)
    wanted = [HOME, resource(config_map(LOG="debug")), resource(service(SMTP))]
    plan = bench.plan(wanted)
    assert [(one.action, [diff.path for diff in one.diffs]) for one in plan.changes if one.id.kind == "ConfigMap"] == [
        (Action.UPDATE, ["/data/LOG"])
    ]
    assert sum("does not support dry run" in note for note in plan.notes) == 2
    bench.converge(wanted)


def test_an_answer_in_gzip_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [HOME, *(resource(manifest("v1", "ConfigMap", f"c{number}", data={"a": "1"})) for number in range(5))]
    bench.converge(wanted)
    usual = Api.__call__

    async def zipped(self: Api, *connection: Any) -> None:
        async def app(*inner: Any) -> None:
            await usual(self, *inner)

        await GZipMiddleware(app, minimum_size=10)(*connection)

    monkeypatch.setattr(Api, "__call__", zipped)
    assert not bench.plan(wanted).changes


# -- health by an expression of the user ---------------------------------------------------------------------------------------


def test_health_may_be_a_condition_on_the_object(world: KubernetesWorld, bench: Bench) -> None:
    whole = config_map(LOG="info")
    whole["metadata"]["annotations"] = {"reconciler/health": 'has(data.READY) && data.READY == "yes"'}
    wanted = [HOME, resource(whole)]
    bench.converge(wanted)
    found = seen(bench, wanted, wanted[1]).health
    assert found.level is Level.PROGRESSING
    assert found.message == 'has(data.READY) && data.READY == "yes" is not true yet'
    world.patch(wanted[1], {"data": {"READY": "yes"}})
    assert seen(bench, wanted, wanted[1]).health.level is Level.HEALTHY


# -- hints -------------------------------------------------------------------------------------------------------------------


@contextmanager
def watching(world: KubernetesWorld, bench: Bench, wanted: Sequence[Resource]) -> "Iterator[SimpleQueue[ResourceId | None]]":
    """Collect the hints of a watch that stands, as its daemon would."""
    driver = world.open()
    assert isinstance(driver, KubernetesDriver)
    stop, hints = Event(), SimpleQueue[ResourceId | None]()
    scope = replace(bench.scope, wanted={one.id: one for one in wanted})

    def collect() -> None:
        for hint in driver.watch(scope, stop):
            hints.put(hint)

    thread = Thread(target=collect)
    thread.start()
    kinds = {one.id.kind for one in wanted}
    until(lambda: len([1 for _, path in world.emulator.faults.requests if path in WATCHED]) >= 2 * len(kinds & set(PLURALS)))
    try:
        yield hints
    finally:
        stop.set()
        thread.join(timeout=5)
        driver.close()
        assert not thread.is_alive()


PLURALS = {"ConfigMap": "/api/v1/configmaps", "Namespace": "/api/v1/namespaces", "Deployment": "/apis/apps/v1/deployments"}
WATCHED = frozenset(PLURALS.values())


def until(done: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def none_of(hints: "SimpleQueue[ResourceId | None]", seconds: float = 0.3) -> bool:
    try:
        raise AssertionError(f"a hint at {hints.get(timeout=seconds)}")
    except Empty:
        return True


class TestWatching:
    @pytest.fixture
    def wanted(self, world: KubernetesWorld, bench: Bench) -> list[Resource]:
        wanted = [HOME, resource(config_map(LOG="info"))]
        bench.converge(wanted)
        world.emulator.faults.requests.clear()
        return wanted

    def test_drift_is_seen_within_a_second(self, world: KubernetesWorld, bench: Bench, wanted: list[Resource]) -> None:
        with watching(world, bench, wanted) as hints:
            started = time.monotonic()
            world.meddle(wanted[1])
            assert hints.get(timeout=5) == wanted[1].id
            assert time.monotonic() - started < 1

    def test_own_writes_and_foreign_additions_are_no_hints(self, world: KubernetesWorld, bench: Bench, wanted: list[Resource]) -> None:
        with watching(world, bench, wanted) as hints:
            world.meddle(wanted[1])
            assert hints.get(timeout=5) == wanted[1].id
            bench.converge(wanted)
            world.patch(wanted[1], {"data": {"THEIRS": "1"}})
            assert none_of(hints)

    def test_a_deletion_is_a_hint(self, world: KubernetesWorld, bench: Bench, wanted: list[Resource]) -> None:
        with watching(world, bench, wanted) as hints:
            world.remove(wanted[1])
            assert hints.get(timeout=5) == wanted[1].id

    def test_a_removed_label_is_looked_into(self, world: KubernetesWorld, bench: Bench, wanted: list[Resource]) -> None:
        with watching(world, bench, wanted) as hints:
            world.patch(wanted[1], {"metadata": {"labels": None}})
            assert hints.get(timeout=5) == wanted[1].id

    def test_what_happened_before_the_watch_began_shows_at_once(self, world: KubernetesWorld, bench: Bench, wanted: list[Resource]) -> None:
        missing = resource(manifest("v1", "ConfigMap", "missing", data={}))
        world.meddle(wanted[1])
        with watching(world, bench, [*wanted, missing]) as hints:
            assert {hints.get(timeout=5), hints.get(timeout=5)} == {wanted[1].id, missing.id}

    def test_an_object_of_ours_that_nobody_wants_any_more_is_a_hint(
        self, world: KubernetesWorld, bench: Bench, wanted: list[Resource]
    ) -> None:
        with watching(world, bench, [HOME]) as hints:
            assert hints.get(timeout=5) == wanted[1].id

    def test_a_watch_whose_version_is_forgotten_begins_anew(
        self, world: KubernetesWorld, bench: Bench, wanted: list[Resource], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "LIFE", 0.05)
        with watching(world, bench, wanted) as hints:
            with world.store.lock:
                world.store.version += 1000
                world.store.oldest = world.store.version
                world.store.events.clear()
            world.remove(wanted[1])
            assert hints.get(timeout=5) == wanted[1].id
            bench.converge(wanted)

    def test_a_broken_connection_is_taken_up_again(
        self, world: KubernetesWorld, bench: Bench, wanted: list[Resource], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch, "LIFE", 0.05)
        monkeypatch.setattr(watch, "FIRST_PAUSE", 0.02)
        with watching(world, bench, wanted) as hints:
            with world.emulator.faults.during("cut-before"):
                time.sleep(0.15)
            world.meddle(wanted[1])
            assert hints.get(timeout=5) == wanted[1].id

    def test_with_narrow_rights_each_namespace_is_watched(
        self, world: KubernetesWorld, bench: Bench, wanted: list[Resource], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answering(monkeypatch, only_in("mail", "default"))
        driver = world.open()
        assert isinstance(driver, KubernetesDriver)
        stop = Event()
        world.meddle(wanted[1])
        hints = driver.watch(replace(bench.scope, wanted={one.id: one for one in wanted}), stop)
        assert next(hints) == wanted[1].id
        stop.set()
        assert next(hints, None) is None
        driver.close()

    def test_an_unreachable_cluster_is_said_at_the_beginning(self, world: KubernetesWorld, bench: Bench) -> None:
        driver = world.open()
        assert isinstance(driver, KubernetesDriver)
        with world.fail("server-error"), pytest.raises(Transient):
            next(driver.watch(bench.scope, Event()))
        driver.close()


def test_a_port_that_was_put_back_still_goes_when_git_drops_it(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(service(SMTP, IMAPS))]
    bench.converge(wanted)
    ports = live(world, wanted[1])["spec"]["ports"]
    world.patch(wanted[1], {"spec": {"ports": [{**ports[0], "port": 26}, ports[1]]}})
    bench.converge(wanted)
    fewer = [HOME, resource(service(IMAPS))]
    bench.converge(fewer)
    assert [port["port"] for port in live(world, fewer[1])["spec"]["ports"]] == [993]


def test_a_strategy_that_was_reset_goes_back_to_its_default_when_git_drops_it(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME, resource(deployment())])
    bench.converge([HOME, resource(deployment(strategy={"type": "Recreate"}))])
    last = [HOME, resource(deployment())]
    bench.converge(last)
    assert live(world, last[1])["spec"]["strategy"]["type"] == "RollingUpdate"


class TestAResetThatCameToAnEndHalfway:
    """The daemon died after it had put a field back, before it had cleared up who owns it."""

    def half(self, world: KubernetesWorld, bench: Bench, wanted: Resource, spec: JSONObject) -> None:
        world.patch(wanted, {"spec": spec}, field_manager(world.owner))

    def managers(self, world: KubernetesWorld) -> list[tuple[str, str]]:
        with world.store.lock:
            whole = world.store.get(("", "services"), "mail", "mailserver")
        assert whole is not None
        return [(one["manager"], one["operation"]) for one in whole["metadata"]["managedFields"] if not one.get("subresource")]

    @pytest.fixture
    def wanted(self, world: KubernetesWorld, bench: Bench) -> list[Resource]:
        wanted = [HOME, resource(service(SMTP, IMAPS))]
        bench.converge(wanted)
        ports = live(world, wanted[1])["spec"]["ports"]
        world.patch(wanted[1], {"spec": {"ports": [{**ports[0], "port": 26}, ports[1]]}})
        self.half(world, bench, wanted[1], {"ports": [SMTP, IMAPS]})
        return wanted

    def test_is_cleared_up_by_the_next_pass_which_says_so(self, world: KubernetesWorld, bench: Bench, wanted: list[Resource]) -> None:
        change = change_of(bench, wanted, wanted[1])
        assert [one.path for one in change.diffs] == ["/ownership"]
        bench.converge(wanted)
        assert self.managers(world) == [(field_manager(world.owner), "Apply")]
        assert not bench.plan(wanted).changes
        fewer = [HOME, resource(service(IMAPS))]
        bench.converge(fewer)
        assert [port["port"] for port in live(world, fewer[1])["spec"]["ports"]] == [993]

    def test_hinders_no_commit_that_came_meanwhile(self, world: KubernetesWorld, bench: Bench, wanted: list[Resource]) -> None:
        for ports in ([IMAPS], [{**SMTP, "targetPort": 2525}, IMAPS]):
            now = [HOME, resource(service(*ports))]
            bench.converge(now)
            assert [(one["port"], one["targetPort"]) for one in live(world, now[1])["spec"]["ports"]] == [
                (one["port"], one.get("targetPort", one["port"])) for one in ports
            ]
            self.half(world, bench, now[1], {"ports": [SMTP, IMAPS]})

    def test_leaves_a_strategy_that_git_can_still_drop(self, world: KubernetesWorld, bench: Bench) -> None:
        bench.converge([HOME, resource(deployment())])
        wanted = [HOME, resource(deployment(strategy={"type": "Recreate"}))]
        self.half(world, bench, wanted[1], {"strategy": {"type": "Recreate", "rollingUpdate": None}})
        bench.converge(wanted)
        last = [HOME, resource(deployment())]
        bench.converge(last)
        assert live(world, last[1])["spec"]["strategy"]["type"] == "RollingUpdate"

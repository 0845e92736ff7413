"""The Kubernetes driver against its emulator: the common promises, and the traps of server-side apply."""

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from reconciler.driver import Action, Cause, Driver, Level, Observation, Ownership, Status
from reconciler.resource import JSONObject, Resource, ResourceId, ResourcePolicy, SecretRef
from reconciler.testing import Bench, DriverContract, Sample, scope_for
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.driver import KubernetesDriver
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_k8s.emulator.machine import Request
from reconciler_k8s.emulator.managers import Actor
from reconciler_k8s.emulator.patches import merge_patch
from reconciler_k8s.ownership import field_manager, owner_label
from reconciler_k8s.spec import KubernetesObject, encode

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

    def terminate(self, resource: Resource) -> None:
        """Ask for a deletion that finalizers hold up."""
        assert isinstance(resource.spec, KubernetesObject)
        with self.store.lock:
            kind = self.emulator.kind(resource.spec.manifest)
            request = Request(kind, "", resource.id.name, Actor("kubectl", "Update", kind.api_version))
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
    assert live(world, wanted[1])["metadata"]["labels"] == {"reconciler/owner": owner_label("test/contract")}


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


def test_replicas_scaled_by_a_controller_are_refused_until_they_are_ignored(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(deployment(replicas=2))]
    bench.converge(wanted)
    world.scale(wanted[1], 5, "hpa-controller")
    (stuck,) = bench.plan(wanted).stuck
    assert ".spec.replicas belongs to hpa-controller (by scale)" in stuck.reason
    bench.converge([HOME, resource(deployment(replicas=2), ignore=("/spec/replicas",))])
    assert live(world, wanted[1])["spec"]["replicas"] == 5


def test_a_port_that_somebody_renumbered_is_put_back(world: KubernetesWorld, bench: Bench) -> None:
    wanted = [HOME, resource(service(SMTP, IMAPS))]
    bench.converge(wanted)
    world.patch(wanted[1], {"spec": {"ports": [{**SMTP, "port": 2525}, IMAPS]}})
    assert change_of(bench, wanted, wanted[1]).action is Action.UPDATE
    bench.converge(wanted)
    assert [port["port"] for port in live(world, wanted[1])["spec"]["ports"]] == [25, 993]


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


def test_a_refused_secret_says_which_field_and_no_value(world: KubernetesWorld, bench: Bench) -> None:
    bench.converge([HOME])
    wrong = manifest("v1", "Secret", "relay", stringData={"tls.crt": RELAY, "user": "plain-canary"}, type="kubernetes.io/tls")
    (stuck,) = bench.plan([HOME, resource(wrong)]).stuck
    assert "data[tls.key] (FieldValueRequired)" in stuck.reason
    assert "plain-canary" not in stuck.reason


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

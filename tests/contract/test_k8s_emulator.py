"""The emulated cluster's rights, versions and faults, seen by a client that knows nothing but HTTP."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from reconciler_k8s.emulator import KubernetesEmulator

RBAC = "rbac.authorization.k8s.io"
MAPS = "/api/v1/namespaces/default/configmaps"
SEED: dict[str, Any] = {
    "rbac": True,
    "controllers": False,
    "users": [{"name": "ann", "groups": ["team"], "token": "of-ann"}],
    "objects": [
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "Role",
            "metadata": {"name": "team", "namespace": "default"},
            "rules": [
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "patch"]},
                {"apiGroups": [RBAC], "resources": ["roles"], "verbs": ["*"], "resourceNames": ["made"]},
                {"apiGroups": [RBAC], "resources": ["roles"], "verbs": ["create"]},
            ],
        },
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "team", "namespace": "default"},
            "subjects": [{"kind": "Group", "name": "team"}],
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "team"},
        },
    ],
}


@pytest.fixture(scope="module")
def emulator() -> Iterator[KubernetesEmulator]:
    found = KubernetesEmulator(SEED)
    found.start()
    yield found
    found.stop()


def client_of(emulator: KubernetesEmulator, token: str) -> httpx.Client:
    return httpx.Client(base_url=emulator.settings()["url"], headers={"authorization": f"Bearer {token}"}, timeout=5, trust_env=False)


def test_a_claim_that_is_applied_unchanged_moves_its_version_once_and_never_again(emulator: KubernetesEmulator) -> None:
    """As recorded of a real server: the second apply writes how Go spells what the first one left to it, the third one nothing."""
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "spool", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}},
    }
    path, form = "/api/v1/namespaces/default/persistentvolumeclaims/spool", {"content-type": "application/apply-patch+yaml"}
    with client_of(emulator, emulator.settings()["token"]) as client:
        versions = [
            client.patch(path, params={"fieldManager": "team"}, headers=form, content=json.dumps(body)).json()["metadata"][
                "resourceVersion"
            ]
            for _ in range(5)
        ]
    assert int(versions[0]) < int(versions[1])
    assert len({*versions[1:]}) == 1


@pytest.fixture
def client(emulator: KubernetesEmulator) -> Iterator[httpx.Client]:
    with client_of(emulator, emulator.settings()["token"]) as found:
        yield found


@pytest.fixture
def ann(emulator: KubernetesEmulator) -> Iterator[httpx.Client]:
    with client_of(emulator, "of-ann") as found:
        yield found


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def apply(client: httpx.Client, whole: dict[str, Any], place: str = MAPS) -> httpx.Response:
    headers = {"content-type": "application/apply-patch+yaml"}
    return client.patch(f"{place}/{whole['metadata']['name']}", params={"fieldManager": "m"}, headers=headers, content=json.dumps(whole))


def watched(client: httpx.Client, **query: str) -> list[dict[str, Any]]:
    with client.stream("GET", MAPS, params={"watch": "1", **query}) as answer:
        return [json.loads(line) for line in answer.iter_lines()]


class TestRights:
    def test_nobody_comes_in_without_a_token(self, emulator: KubernetesEmulator) -> None:
        with client_of(emulator, "made-up") as stranger:
            assert stranger.get("/readyz").status_code == 401

    def test_who_may_change_may_not_yet_create(self, emulator: KubernetesEmulator, client: httpx.Client, ann: httpx.Client) -> None:
        assert apply(ann, config_map("fresh", a="1")).json()["message"] == (
            'configmaps "fresh" is forbidden: User "ann" cannot create resource "configmaps" in API group "" in the namespace "default"'
        )
        apply(client, config_map("fresh", a="1"))
        assert apply(ann, config_map("fresh", a="1")).status_code == 200

    def test_nobody_grants_what_he_may_not_do(self, ann: httpx.Client) -> None:
        place = f"/apis/{RBAC}/v1/namespaces/default/roles"
        head = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": "mine", "namespace": "default"}}
        held = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
        more = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}
        refused = ann.post(place, json={**head, "rules": [held, more]})
        assert refused.status_code == 403
        assert refused.json()["message"].endswith('not currently held:\n{APIGroups:[""], Resources:["secrets"], Verbs:["get", "list"]}')
        assert ann.post(place, json={**head, "rules": [held]}).status_code == 201

    def test_one_may_ask_who_one_is_and_what_one_may(self, emulator: KubernetesEmulator, ann: httpx.Client) -> None:
        who = ann.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", json={}).json()
        assert who["status"]["userInfo"] == {"username": "ann", "groups": ["team", "system:authenticated"]}
        spec = {"resourceAttributes": {"namespace": "default", "verb": "list", "resource": "configmaps"}}
        before = emulator.api.writes
        may = ann.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json={"spec": spec}).json()
        assert may["status"] == {"allowed": True, "reason": 'RBAC: allowed by RoleBinding "team/default" of Role "team" to Group "team"'}
        assert emulator.api.writes == before


class TestVersions:
    def test_pages_go_on_with_the_list_as_it_was(self, client: httpx.Client) -> None:
        for name in ("p1", "p2", "p3"):
            apply(client, {**config_map(name, a="1"), "metadata": {"name": name, "namespace": "default", "labels": {"paged": "yes"}}})
        first = client.get(MAPS, params={"limit": 1, "labelSelector": "paged"}).json()
        client.delete(f"{MAPS}/p3")
        query = {"limit": 10, "labelSelector": "paged", "continue": first["metadata"]["continue"]}
        rest = client.get(MAPS, params=query).json()
        assert [one["metadata"]["name"] for one in first["items"] + rest["items"]] == ["p1", "p2", "p3"]
        assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        exact = {"labelSelector": "paged", "resourceVersionMatch": "Exact", "resourceVersion": first["metadata"]["resourceVersion"]}
        assert len(client.get(MAPS, params=exact).json()["items"]) == 3
        assert len(client.get(MAPS, params={"labelSelector": "paged"}).json()["items"]) == 2

    def test_a_forgotten_history_is_refused_and_a_page_may_go_on_regardless(
        self, emulator: KubernetesEmulator, client: httpx.Client
    ) -> None:
        for name in ("h1", "h2"):
            apply(client, {**config_map(name, a="1"), "metadata": {"name": name, "namespace": "default", "labels": {"old": "yes"}}})
        first = client.get(MAPS, params={"limit": 1, "labelSelector": "old"}).json()["metadata"]
        emulator.forget_history()
        refused = client.get(MAPS, params={"labelSelector": "old", "continue": first["continue"]})
        assert refused.status_code == 410
        rest = client.get(MAPS, params={"labelSelector": "old", "continue": refused.json()["metadata"]["continue"]}).json()
        assert [one["metadata"]["name"] for one in rest["items"]] == ["h2"]
        events = watched(client, resourceVersion=first["resourceVersion"], timeoutSeconds="5")
        assert [(event["type"], event["object"]["reason"]) for event in events] == [("ERROR", "Expired")]

    def test_an_autoscaler_is_shown_in_either_version(self, client: httpx.Client) -> None:
        place = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers"
        spec = {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 3, "targetCPUUtilizationPercentage": 80}
        whole = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h", "namespace": "default"}}
        assert client.post(place.format("v1"), json={**whole, "spec": spec}).json()["apiVersion"] == "autoscaling/v1"
        newer = client.get(place.format("v2") + "/h").json()
        assert newer["spec"]["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 80}
        assert client.get(place.format("v1") + "/h").json()["spec"]["targetCPUUtilizationPercentage"] == 80

    def test_a_bound_claim_grows_where_its_class_allows_it(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        place = "/api/v1/namespaces/default/persistentvolumeclaims"
        whole = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "default"}}

        def sized(size: str) -> dict[str, Any]:
            asks = {"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}
            return {**whole, "spec": asks}

        apply(client, sized("1Gi"), place)
        status = {"phase": "Bound", "capacity": {"storage": "1Gi"}}
        client.patch(f"{place}/c/status", json={"status": status}, headers={"content-type": "application/merge-patch+json"})
        refused = apply(client, sized("2Gi"), place)
        assert (refused.status_code, "only dynamically provisioned pvc" in refused.json()["message"]) == (403, True)
        head = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}}
        emulator.put({**head, "provisioner": "x", "allowVolumeExpansion": True})
        assert apply(client, sized("2Gi"), place).json()["spec"]["resources"]["requests"] == {"storage": "2Gi"}
        assert "can not be less than status.capacity" in apply(client, sized("512Mi"), place).json()["message"]

    def test_a_pod_that_runs_nowhere_has_no_log(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}}
        emulator.put({**pod, "spec": {"containers": [{"name": "x", "image": "y"}]}})
        answer = client.get("/api/v1/namespaces/default/pods/p/log")
        assert (answer.status_code, answer.json()["message"]) == (400, "pod p does not have a host assigned")
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        assert client.post("/api/v1/namespaces/default/pods/p/eviction", json=eviction).status_code == 201
        assert client.get("/api/v1/namespaces/default/pods/p").status_code == 404


class TestFaults:
    def test_too_many_requests_name_the_seconds(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        with emulator.faults.too_many_requests(7, times=1, verbs=("list",)):
            assert client.get(f"{MAPS}/none").status_code == 404
            answer = client.get(MAPS)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
            assert client.get(MAPS).status_code == 200

    @pytest.mark.parametrize("code", [500, 502, 503, 504])
    def test_a_server_error_does_nothing(self, emulator: KubernetesEmulator, client: httpx.Client, code: int) -> None:
        with emulator.faults.server_error(code):
            assert apply(client, config_map("erred", a="1")).status_code == code
        assert client.get(f"{MAPS}/erred").status_code == 404

    def test_latency_delays(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        started = time.monotonic()
        with emulator.faults.latency(0.1, times=1):
            assert client.get(MAPS).status_code == 200
        assert time.monotonic() - started >= 0.1

    def test_a_cut_before_does_nothing_and_a_cut_after_does_all(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        with emulator.faults.cut_before(times=1), pytest.raises(httpx.TransportError):
            apply(client, config_map("lost", a="1"))
        assert client.get(f"{MAPS}/lost").status_code == 404
        with emulator.faults.cut_after(times=1), pytest.raises(httpx.TransportError):
            apply(client, config_map("done", a="1"))
        assert client.get(f"{MAPS}/done").status_code == 200

    def test_a_watch_is_cut_in_the_middle_of_an_event(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        for name in ("w1", "w2", "w3"):
            apply(client, config_map(name, a="1"))
        seen = list[bytes]()
        query = {"watch": "1", "timeoutSeconds": "5"}
        with emulator.faults.cut_watch(2), client.stream("GET", MAPS, params=query) as answer, pytest.raises(httpx.TransportError):
            seen.extend(answer.iter_raw())
        text = b"".join(seen)
        assert text.count(b"\n") == 2
        assert not text.endswith(b"\n")

    def test_open_watches_are_dropped_all_at_once(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        timer = threading.Timer(0.1, emulator.faults.drop_watches)
        timer.start()
        with pytest.raises(httpx.TransportError):
            watched(client, timeoutSeconds="5")
        assert not emulator.faults.watches

    def test_a_forgotten_version_is_said_to_a_list_by_its_code_and_to_a_watch_by_an_event(
        self, emulator: KubernetesEmulator, client: httpx.Client
    ) -> None:
        with emulator.faults.expired_list():
            assert client.get(MAPS).status_code == 410
        with emulator.faults.expired_watch():
            events = watched(client, resourceVersion="5", timeoutSeconds="5")
        assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 410)]

    def test_a_conflict_is_of_a_version_or_of_an_owner(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        with emulator.faults.conflict():
            stale = apply(client, config_map("fought", a="1"))
        assert (stale.status_code, "causes" in stale.json()["details"]) == (409, False)
        with emulator.faults.conflict("hpa"):
            owned = apply(client, config_map("fought", a="1"))
        assert owned.json()["details"]["causes"][0]["reason"] == "FieldManagerConflict"
        assert apply(client, config_map("fought", a="1")).status_code == 201

    def test_a_frozen_server_takes_requests_and_answers_none(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        with emulator.faults.frozen():
            with pytest.raises(httpx.ReadTimeout):
                client.get("/readyz", timeout=0.2)
            with pytest.raises(httpx.ReadTimeout):
                client.post(MAPS, json=config_map("never", a="1"), timeout=0.2)
        assert client.get(f"{MAPS}/never").status_code == 404

    def test_a_watch_is_silent_while_the_server_is_frozen(self, emulator: KubernetesEmulator, client: httpx.Client) -> None:
        told = list[float]()
        query = {"watch": "1", "timeoutSeconds": "1", "fieldSelector": "metadata.name=quiet"}
        with client.stream("GET", MAPS, params=query) as answer, emulator.faults.frozen():
            emulator.put(config_map("quiet", a="1"))
            thaw = threading.Timer(0.3, emulator.faults.active.clear)
            started = time.monotonic()
            thaw.start()
            told += [time.monotonic() - started for _ in answer.iter_lines()]
        assert len(told) == 1
        assert told[0] >= 0.3

"""Differences that are meant, the rule of taking fields, and the names of rights."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.driver import Scope
from reconciler.resource import JSONObject, Resource, ResourceId, ResourcePolicy
from reconciler_k8s.expected import STORAGE, left_alone, quantity
from reconciler_k8s.ownership import Claim, Wish, make_wish
from reconciler_k8s.rights import right_of
from reconciler_k8s.seals import Seal
from reconciler_k8s.spec import KubernetesObject
from reconciler_k8s.taking import refusal

SCOPE = Scope("test/stack", fingerprint=lambda ref: "key")
CLAIM: JSONObject = {"resources": {"requests": {"storage": "10Gi"}}}


def wish(kind: str = "Deployment", api: str = "apps/v1", *, spec: JSONObject | None = None, force: bool = False, **policy: Any) -> Wish:
    notes = {"annotations": {"reconciler/force": "true"}} if force else {}
    whole = {"apiVersion": api, "kind": kind, "metadata": {"name": "a", "namespace": "n", **notes}, "spec": spec or {"replicas": 2}}
    name, found = KubernetesObject.from_document(whole)
    made = Resource(ResourceId("k8s", kind, name), found, policy=ResourcePolicy(**policy))
    return make_wish(made, SCOPE, Seal.of(SCOPE.fingerprint), "applyset-x-v1", "")


def entry(manager: str, subresource: str = "", /, **fields: Any) -> JSONObject:
    return {"manager": manager, "operation": "Update", "subresource": subresource, "fieldsV1": fields}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
METADATA: dict[str, Any] = {"f:metadata": {}}
SIZE: dict[str, Any] = {"f:spec": {"f:resources": {"f:requests": {"f:storage": {}}}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("500m", "0.5"),
        ("1Ki", 1024),
        ("1.5Gi", 1610612736),
        ("2k", 2000),
        ("1e3", 1000),
        ("1E", 10**18),
        ("12E2", 1200),
        ("5n", "5e-9"),
    ],
)
def test_quantities_mean_what_kubernetes_means(text: str, value: Any) -> None:
    assert quantity(text) == Decimal(str(value))


@given(st.integers(0, 10**6), st.sampled_from(["K", "M", "G", "T", "P", "E"]))
def test_a_binary_unit_is_larger_than_its_decimal_one(number: int, unit: str) -> None:
    decimal = quantity(f"{number}{'k' if unit == 'K' else unit}")
    assert quantity(f"{number}{unit}i") >= decimal


@pytest.mark.parametrize("text", ["", "Gi", "10 GiB", "one", "1.2.3.4x", None])
def test_what_is_no_quantity_is_said(text: object) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        quantity(text)


def test_a_field_set_through_scale_is_left_to_the_controller_and_not_to_a_person() -> None:
    for manager, left in (("hpa-controller", {"/spec/replicas"}), ("keda-operator", {"/spec/replicas"}), ("kubectl", set())):
        assert set(left_alone(wish(), "test/stack", {"managedFields": [entry(manager, "scale", **REPLICAS)]}, None)) == left
    assert not left_alone(wish(), "test/stack", {"managedFields": [entry("hpa-controller", "status", **REPLICAS)]}, None)
    assert not left_alone(wish(spec={"paused": True}), "test/stack", {"managedFields": [entry("hpa", "scale", **REPLICAS)]}, None)
    assert not left_alone(wish(force=True), "test/stack", {"managedFields": [entry("hpa", "scale", **REPLICAS)]}, None)


@pytest.mark.parametrize(
    ("live", "left"), [("20Gi", True), ("10Gi", False), ("10240Mi", False), ("5Gi", False), (None, False), ("?", False)]
)
def test_only_a_claim_that_was_grown_beyond_the_wish_is_left_as_it_is(live: str | None, left: bool) -> None:
    wanted = wish("PersistentVolumeClaim", "v1", spec=CLAIM)
    whole = {"spec": {"resources": {"requests": {"storage": live}}}}
    for manager, found in (("resizer", left), ("reconciler:test/stack", False)):
        assert (STORAGE in left_alone(wanted, "test/stack", {"managedFields": [entry(manager, **SIZE)]}, whole)) is found
    assert not left_alone(wanted, "test/stack", {"managedFields": [entry("other", **METADATA)]}, whole)


def applied(one: Wish) -> JSONObject:
    return {"annotations": one.annotations}


LOG = Claim("kubectl-edit", "", ".data.LOG")


class TestTaking:
    def test_everything_by_force_or_adoption(self) -> None:
        for one in (wish(force=True), wish(adopt=True)):
            assert not refusal(one, {}, [LOG, Claim("hpa", "scale", ".spec.replicas")])

    def test_back_what_somebody_took_of_the_manifest_that_we_applied_last(self) -> None:
        assert not refusal(wish(), applied(wish()), [LOG, Claim("kubectl", "scale", ".spec.replicas")])

    def test_back_when_only_a_secret_or_the_content_that_pods_read_has_changed(self) -> None:
        now = replace(wish(), hash=wish().hash.partition(".")[0] + ".other")
        assert not refusal(now, applied(wish()), [LOG])

    def test_nothing_from_a_controller_at_work(self) -> None:
        assert "belongs to kubelet (by resize)" in refusal(wish(), applied(wish()), [Claim("kubelet", "resize", ".spec.x")])

    def test_nothing_that_git_asks_for_anew(self) -> None:
        for before in (wish(spec={"replicas": 3}), wish(ignore=("/data/LOG",))):
            said = refusal(wish(), applied(before), [LOG, Claim("argocd", "", ".data.X")])
            assert ".data.LOG belongs to kubectl-edit; .data.X belongs to argocd" in said

    def test_what_nobody_claims_by_name_and_the_size_of_a_claim(self) -> None:
        assert not refusal(wish(), {}, [Claim("before-first-apply", "", ".data.LOG"), Claim("resizer", "", STORAGE.replace("/", "."))])


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/api/v1/namespaces/mail/secrets", "list secrets in namespace mail"),
        ("GET", "/api/v1/namespaces/mail/secrets/relay", "get secrets in namespace mail"),
        ("GET", "/api/v1/namespaces/mail", "get namespaces in the whole cluster"),
        ("PATCH", "/apis/apps/v1/namespaces/mail/deployments/web", "patch deployments.apps in namespace mail"),
        ("DELETE", "/apis/example.org/v1/pools/one", "delete pools.example.org in the whole cluster"),
        ("PATCH", "/apis/apps/v1/namespaces/mail/deployments/web/scale", "patch deployments.apps/scale in namespace mail"),
        ("GET", "/apis", ""),
        ("GET", "/api", ""),
        ("GET", "/version", ""),
    ],
)
def test_the_right_that_a_call_needs_is_named(method: str, path: str, right: str) -> None:
    assert right_of(method, path) == right


def test_watching_is_a_right_of_its_own() -> None:
    assert right_of("GET", "/api/v1/secrets", watch=True) == "watch secrets in the whole cluster"

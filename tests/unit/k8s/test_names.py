from datetime import date

import pytest

from reconciler.load import load_stack
from reconciler.registry import catalog
from reconciler.resource import JSONObject
from reconciler_k8s.spec import KubernetesObject

STACK = b"apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: web}\nspec: {}\n"
TWO = b"""apiVersion: v1
kind: Service
metadata: {name: shop, namespace: web}
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: shop, namespace: web}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: notes, namespace: web}
data: {service: '${ref("k8s/Service.serving.knative.dev/web/shop").kind}'}
"""


def kind(api_version: str, name: str) -> str:
    return KubernetesObject.kind_of({"apiVersion": api_version, "kind": name})


@pytest.mark.parametrize(
    ("api_version", "name", "said"),
    [
        ("v1", "Service", "Service"),
        ("apps/v1", "Deployment", "Deployment"),
        ("networking.k8s.io/v1", "Ingress", "Ingress"),
        ("gateway.networking.k8s.io/v1", "Gateway", "Gateway.gateway.networking.k8s.io"),
        ("serving.knative.dev/v1", "Service", "Service.serving.knative.dev"),
        ("other.io/v1beta1", "Ingress", "Ingress.other.io"),
    ],
)
def test_kinds_of_kubernetes_itself_stand_alone_and_all_others_with_their_group(api_version: str, name: str, said: str) -> None:
    assert kind(api_version, name) == said


def test_a_new_version_of_a_kind_is_still_the_same_resource() -> None:
    assert kind("other.io/v1beta1", "Pool") == kind("other.io/v2", "Pool")


def test_two_groups_may_use_one_kind_and_one_name_in_one_stack() -> None:
    stack = load_stack({"desired/web/stack.yaml": STACK, "desired/web/all.yaml": TWO}, "desired/web", catalog(), today=date(2026, 1, 1))
    assert {str(one.id) for one in stack.graph} == {
        "k8s/ConfigMap/web/notes",
        "k8s/Service/web/shop",
        "k8s/Service.serving.knative.dev/web/shop",
    }


@pytest.mark.parametrize("name", ["Service", "Secret", "ConfigMap", "Deployment", "Namespace", "Ingress", "CronJob"])
def test_a_foreign_kind_of_a_known_name_is_treated_as_any_custom_resource(name: str) -> None:
    whole: JSONObject = {
        "apiVersion": "other.io/v1",
        "kind": name,
        "metadata": {"name": "one"},
        "data": {"key": 5},
        "stringData": {"key": "text"},
        "spec": {"template": 7, "ports": "all", "rules": "none", "tls": True},
    }
    spec = KubernetesObject.from_document(whole)[1]
    assert spec.manifest == whole
    assert not spec.confidential
    assert not spec.identity_bearing
    assert all(one.kind == "CustomResourceDefinition" for one in spec.requires("one"))

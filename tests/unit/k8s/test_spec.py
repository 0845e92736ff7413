from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.resource import JSONObject, ResourceId, SecretRef
from reconciler_k8s.spec import KubernetesObject, config_hash, encode

REF = SecretRef('${vault("secret/mail", "key")}', (("secret/mail", "key"),))


def document(kind: str = "ConfigMap", api_version: str = "v1", *, namespace: str = "mail", name: str = "one", **rest: Any) -> JSONObject:
    metadata: JSONObject = {"name": name, **({"namespace": namespace} if namespace else {}), **rest.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest}


def spec(whole: JSONObject) -> KubernetesObject:
    return KubernetesObject.from_document(whole)[1]


def problems(whole: JSONObject) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        KubernetesObject.from_document(whole)
    return [("/".join(str(part) for part in one["loc"]), one["msg"]) for one in caught.value.errors()]


class TestNames:
    def test_a_namespaced_object_is_named_with_its_namespace(self) -> None:
        assert KubernetesObject.from_document(document())[0] == "mail/one"

    def test_a_cluster_scoped_object_is_named_alone(self) -> None:
        assert KubernetesObject.from_document(document("Namespace", namespace=""))[0] == "one"


class TestWhatIsSent:
    def test_our_annotations_and_what_the_server_writes_are_left_out(self) -> None:
        notes = {"reconciler/adopt": "true", "team": "a"}
        written = document(metadata={"annotations": notes, "uid": "1", "managedFields": []}, status={"x": 1}, data={"a": "1"})
        assert spec(written).manifest == document(metadata={"annotations": {"team": "a"}}, data={"a": "1"})

    def test_nulls_are_dropped_but_a_null_text_of_a_config_map_is_empty(self) -> None:
        assert spec(document(data={"a": None}, immutable=None)).manifest == document(data={"a": ""})

    def test_string_data_becomes_data(self) -> None:
        assert spec(document("Secret", stringData={"a": "x"}, data={"b": "eQ=="})).manifest == document(
            "Secret", data={"a": "eA==", "b": "eQ=="}
        )

    def test_a_reference_under_string_data_is_encoded_only_at_the_write(self) -> None:
        wish = spec(document("Secret", stringData={"a": REF}))
        assert wish.canonical(lambda ref: "f1") == document("Secret", data={"a": "secret:f1"})
        assert wish.wire(lambda ref: "value") == document("Secret", data={"a": encode("value")})

    def test_a_reference_under_data_is_sent_as_it_is(self) -> None:
        assert spec(document("Secret", data={"a": REF})).wire(lambda ref: "dmFsdWU=") == document("Secret", data={"a": "dmFsdWU="})

    def test_a_reference_may_stand_anywhere(self) -> None:
        wish = spec(document("Pool", "net.example.org/v1", spec={"list": [{"password": REF}]}))
        assert wish.wire(lambda ref: "value")["spec"] == {"list": [{"password": "value"}]}
        assert wish.secrets() == (REF,)
        assert wish.confidential

    def test_what_is_ignored_is_neither_wanted_nor_sent(self) -> None:
        wish = spec(document("Deployment", "apps/v1", spec={"replicas": 2, "paused": True}))
        assert wish.with_live(("/spec/replicas",), {}).manifest["spec"] == {"paused": True}


class TestSteering:
    def test_what_steers_is_kept_beside_the_manifest_and_survives_what_is_ignored(self) -> None:
        notes = {"reconciler/force": "true", "reconciler/health": 'status.phase ==\n  "Ready"', "reconciler/restart-on-change": "false"}
        whole = spec(document(metadata={"annotations": notes}, data={"a": "1", "b": "2"}))
        for one in (whole, whole.without(("/data/a",))):
            assert (one.force, one.health, one.restart_on_change) == (True, 'status.phase == "Ready"', False)
            assert "annotations" not in one.manifest["metadata"]

    def test_a_reference_that_is_ignored_is_no_longer_one(self) -> None:
        whole = spec(document("Pool", "net.example.org/v1", spec={"password": REF, "size": 1}))
        assert not whole.without(("/spec/password",)).references
        assert whole.without(("/spec/size",)).references == whole.references


class TestProblems:
    def test_all_are_reported_at_once_with_their_places(self) -> None:
        assert problems({"metadata": {}}) == [
            ("apiVersion", "is missing; every Kubernetes object needs it"),
            ("kind", "is missing; every Kubernetes object needs it"),
            ("metadata/name", "must be a text without / or %; generateName cannot be reconciled"),
        ]

    def test_a_namespace_where_none_belongs_or_is_missing(self) -> None:
        assert problems(document("Namespace")) == [
            ("metadata/namespace", "a Namespace belongs to the whole cluster; take the namespace out")
        ]
        assert problems(document(namespace="")) == [("metadata/namespace", "a ConfigMap lives in a namespace; name it")]

    def test_values_that_yaml_made_into_something_else(self) -> None:
        assert problems(document(data={"port": 25})) == [("data/port", 'must be a text; quote it: "25"')]
        assert problems(document(metadata={"labels": {"on": True}})) == [("metadata/labels/on", 'must be a text; quote it: "True"')]

    def test_data_of_a_secret_that_is_not_base64(self) -> None:
        assert problems(document("Secret", data={"a": "not base64!"})) == [("data/a", "is not base64; use stringData for plain text")]

    @pytest.mark.parametrize(("kind", "name"), [("Deployment", "Web_1"), ("ConfigMap", "-a"), ("Service", "a.b"), ("ConfigMap", "a" * 254)])
    def test_a_name_that_no_server_takes(self, kind: str, name: str) -> None:
        assert [where for where, _ in problems(document(kind, name=name))] == ["metadata/name"]

    @pytest.mark.parametrize(("kind", "name"), [("Role", "system:node"), ("ConfigMap", "kube-root-ca.crt"), ("Service", "a-1")])
    def test_a_name_that_servers_take(self, kind: str, name: str) -> None:
        assert spec(document(kind, name=name)).manifest["metadata"]["name"] == name

    @pytest.mark.parametrize("key", ["weird key", "..", "a/b", "", "x" * 254])
    def test_a_key_that_no_server_takes(self, key: str) -> None:
        assert problems(document(data={key: "x"})) == [(f"data/{key}", "is no key: write letters, digits, -, _ and . only, at most 253")]

    def test_more_than_a_cluster_stores(self) -> None:
        assert "1048576" in problems(document(data={"a": "x" * 1_048_577}))[0][1]

    @pytest.mark.parametrize("name", ["reconciler/force", "reconciler/restart-on-change"])
    def test_a_switch_that_is_neither_on_nor_off(self, name: str) -> None:
        assert problems(document(metadata={"annotations": {name: "yes"}})) == [
            (f"metadata/annotations/{name}", 'must be "true" or "false", not \'yes\'')
        ]
        assert problems(document(metadata={"annotations": {name: True}}))[0][1].endswith("not True")

    def test_a_condition_that_is_no_expression_or_stands_where_nothing_is_read(self) -> None:
        place = "metadata/annotations/reconciler/health"
        broken = problems(document(metadata={"annotations": {"reconciler/health": "status.phase =="}}))
        assert [(where, said[:25]) for where, said in broken] == [(place, "is not a CEL expression: ")]
        kept = problems(document("Secret", metadata={"annotations": {"reconciler/health": "true"}}))
        assert kept == [(place, "cannot stand on a Secret, which is never read")]

    def test_a_list_of_objects(self) -> None:
        assert "is not an object" in problems(document("List", items=[]))[0][1]


class TestOrder:
    def test_a_workload_comes_after_what_it_mounts(self) -> None:
        pod = {
            "serviceAccountName": "sa",
            "volumes": [
                {"name": "a", "configMap": {"name": "cm"}},
                {"name": "b", "secret": {"secretName": "sec"}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "pvc"}},
                {"name": "d", "projected": {"sources": [{"secret": {"name": "psec"}}]}},
            ],
            "containers": [
                {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "env"}}}], "envFrom": [{"configMapRef": {"name": "all"}}]}
            ],
        }
        for kind, api, whole in (
            ("Deployment", "apps/v1", {"template": {"spec": pod}}),
            ("CronJob", "batch/v1", {"jobTemplate": {"spec": {"template": {"spec": pod}}}}),
        ):
            names = [str(one) for one in spec(document(kind, api, spec=whole)).requires("mail/one")]
            assert names == [
                "k8s/Namespace/mail",
                "k8s/ServiceAccount/mail/sa",
                "k8s/ConfigMap/mail/cm",
                "k8s/Secret/mail/sec",
                "k8s/PersistentVolumeClaim/mail/pvc",
                "k8s/Secret/mail/psec",
                "k8s/ConfigMap/mail/all",
                "k8s/Secret/mail/env",
            ]

    def test_an_ingress_comes_after_its_services(self) -> None:
        path = {"backend": {"service": {"name": "web"}}}
        whole = {"rules": [{"http": {"paths": [path]}}], "tls": [{"secretName": "cert"}]}
        names = {str(one) for one in spec(document("Ingress", "networking.k8s.io/v1", spec=whole)).requires("")}
        assert names == {"k8s/Namespace/mail", "k8s/Service/mail/web", "k8s/Secret/mail/cert"}

    def test_a_custom_resource_comes_after_its_definition(self) -> None:
        names = {one.name for one in spec(document("Policy", "net.example.org/v1")).requires("")}
        assert "policies.net.example.org" in names


class TestIdentity:
    @pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "Namespace", "CustomResourceDefinition"])
    def test_what_holds_data_or_other_objects_is_not_replaced_lightly(self, kind: str) -> None:
        namespace = "mail" if kind == "PersistentVolumeClaim" else ""
        assert spec(document(kind, namespace=namespace)).identity_bearing

    def test_other_objects_are(self) -> None:
        assert not spec(document()).identity_bearing


class TestConfigHash:
    CONFIG = ResourceId("k8s", "ConfigMap", "mail/cm")
    SECRET = ResourceId("k8s", "Secret", "mail/sec")

    def workload(self, **metadata: Any) -> KubernetesObject:
        container = {"envFrom": [{"configMapRef": {"name": "cm"}}, {"secretRef": {"name": "sec"}}]}
        return spec(document("Deployment", "apps/v1", spec={"template": {"spec": {"containers": [container]}}}, metadata=metadata))

    def content(self, text: str) -> dict[ResourceId, KubernetesObject]:
        return {self.CONFIG: spec(document(data={"a": text})), self.SECRET: spec(document("Secret", stringData={"a": REF}))}

    def test_it_is_empty_unless_asked_for(self) -> None:
        assert config_hash(self.workload(), self.content("1"), lambda ref: "f") == ""

    def test_it_follows_texts_and_fingerprints(self) -> None:
        asking = self.workload(annotations={"reconciler/restart-on-change": "true"})
        found = {
            config_hash(asking, self.content(text), lambda ref, value=value: value)  # type: ignore[misc]
            for text, value in (("1", "f1"), ("2", "f1"), ("1", "f2"), ("1", "f1"))
        }
        assert len(found) == 3

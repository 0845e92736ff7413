import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.driver import Ownership, Scope
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_k8s.emulator.merging import encode, fields_of
from reconciler_k8s.emulator.shapes import ANY, named
from reconciler_k8s.ownership import Claim, claims, covers, evidence_of, in_sync, make_wish, ownership_of
from reconciler_k8s.seals import Seal
from reconciler_k8s.spec import KubernetesObject

TEXT = st.text("abcxyz./-", min_size=1, max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=5))
def test_what_was_applied_is_exactly_owned(value: JSONObject) -> None:
    assert covers(encode(frozenset(fields_of(value, ANY))), value)


@given(st.dictionaries(TEXT, VALUES, min_size=2, max_size=5), st.data())
def test_a_field_lost_to_somebody_or_no_longer_wanted_is_noticed(value: JSONObject, data: Any) -> None:
    fields = encode(frozenset(fields_of(value, ANY)))
    gone = data.draw(st.sampled_from(sorted(value)))
    assert not covers({name: below for name, below in fields.items() if name != "f:" + gone}, value) or value[gone] == []
    assert not covers(fields, {key: item for key, item in value.items() if key != gone})


def test_lists_merged_by_key_are_matched_with_the_default_protocol() -> None:
    service = {"spec": {"ports": [{"port": 25, "name": "smtp"}, {"port": 53, "name": "dns", "protocol": "UDP"}]}}
    fields = encode(frozenset(fields_of(service, named("core.v1.Service"))))
    assert covers(fields, service)
    renumbered = json.loads(json.dumps(service).replace("25", "26"))
    assert not covers(fields, renumbered)


def wish_and_metadata(**changes: Any) -> tuple[Any, JSONObject, Scope]:
    scope = Scope("test/stack", fingerprint=lambda ref: "key")
    name, spec = KubernetesObject.from_document(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": {"x": "1"}}
    )
    wish = make_wish(Resource(ResourceId("k8s", "ConfigMap", name), spec), scope, Seal.of(scope.fingerprint), "applyset-x-v1", "")
    body = wish.body(str)
    fields = encode(
        frozenset(
            path
            for path in fields_of(body, named("core.v1.ConfigMap"))
            if path[-1] not in ("f:name", "f:namespace", "f:kind", "f:apiVersion")
        )
    )
    entry = {"manager": "reconciler:test/stack", "operation": "Apply", "apiVersion": "v1", "fieldsV1": fields, **changes}
    return wish, {**body["metadata"], "managedFields": [entry]}, scope


def test_an_object_as_we_left_it_is_in_sync() -> None:
    wish, metadata, scope = wish_and_metadata()
    assert in_sync(wish, metadata, scope)


def test_another_manager_version_or_hash_makes_it_suspect() -> None:
    for changes in ({"manager": "somebody"}, {"operation": "Update"}, {"apiVersion": "v2"}, {"subresource": "status"}):
        wish, metadata, scope = wish_and_metadata(**changes)
        assert not in_sync(wish, metadata, scope)
    wish, metadata, scope = wish_and_metadata()
    metadata["annotations"] = {**metadata["annotations"], "reconciler/hash": "other"}
    assert not in_sync(wish, metadata, scope)


def test_marks_decide_whose_an_object_is() -> None:
    def of(text: str) -> Ownership:
        return ownership_of({"annotations": {"reconciler/mark": text}}, "test/stack")[0]

    assert of("reconciler:test/stack:ConfigMap/n/a") is Ownership.OURS
    assert of("reconciler:test/other:ConfigMap/n/a") is Ownership.FOREIGN
    assert of("") is Ownership.UNMARKED


def test_conflicts_name_manager_subresource_and_field() -> None:
    message = 'conflict with "hpa-controller" with subresource "scale" using apps/v1'
    cause = {"reason": "FieldManagerConflict", "message": message, "field": ".spec.replicas"}
    assert claims([cause, {"reason": "Other"}]) == [Claim("hpa-controller", "scale", ".spec.replicas")]


def test_evidence_is_the_last_foreign_writer_of_the_object_itself() -> None:
    entries = [
        {"manager": "ours", "operation": "Apply", "time": "2026-01-03T00:00:00Z"},
        {"manager": "early", "operation": "Update", "time": "2026-01-01T00:00:00Z"},
        {"manager": "late", "operation": "Update", "time": "2026-01-02T00:00:00Z"},
        {"manager": "controller", "operation": "Update", "subresource": "status", "time": "2026-01-04T00:00:00Z"},
    ]
    found = evidence_of({"managedFields": entries}, "ours")
    assert found is not None
    assert found.who == "late"
    assert found.when is not None

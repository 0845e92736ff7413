"""Who may do what in the emulated cluster, and what its store remembers."""

from typing import Any

import pytest

from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_k8s.emulator.access import Access, User
from reconciler_k8s.emulator.asking import Asked, asked
from reconciler_k8s.emulator.statuses import ApiError

RBAC = "rbac.authorization.k8s.io"
CI = User("system:serviceaccount:mail:ci", ("system:serviceaccounts",), "u", ("mail", "ci"))


def granted(*rules: dict[str, Any], cluster: bool = False, subject: dict[str, str] | None = None) -> Access:
    sort, place = ("ClusterRole", {}) if cluster else ("Role", {"namespace": "mail"})
    emulator = KubernetesEmulator({"rbac": True, "controllers": False})
    emulator.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mail"}})
    emulator.put({"apiVersion": f"{RBAC}/v1", "kind": sort, "metadata": {"name": "r", **place}, "rules": list(rules)})
    binding: dict[str, Any] = {"subjects": [subject or {"kind": "ServiceAccount", "name": "ci", "namespace": "mail"}]}
    binding |= {"roleRef": {"apiGroup": RBAC, "kind": sort, "name": "r"}}
    emulator.put({"apiVersion": f"{RBAC}/v1", "kind": f"{sort}Binding", "metadata": {"name": "b", **place}, **binding})
    return emulator.api.access


READS = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/version", {}, Asked("get", "/version")),
        ("GET", "/apis/apps/v1", {}, Asked("get", "/apis/apps/v1")),
        ("GET", "/api/v1/pods", {"watch": "1"}, Asked("watch", "/api/v1/pods", "", "v1", "pods")),
        ("GET", "/api/v1/namespaces/a", {}, Asked("get", "/api/v1/namespaces/a", "", "v1", "namespaces", "", "a", "a", "a")),
        (
            "PUT",
            "/api/v1/namespaces/a/finalize",
            {},
            Asked("update", "/api/v1/namespaces/a/finalize", "", "v1", "namespaces", "finalize", "a", "a", "a"),
        ),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/d/status",
            {},
            Asked("patch", "/apis/apps/v1/namespaces/a/deployments/d/status", "apps", "v1", "deployments", "status", "a", "d", "d"),
        ),
        (
            "DELETE",
            "/api/v1/namespaces/a/secrets",
            {},
            Asked("deletecollection", "/api/v1/namespaces/a/secrets", "", "v1", "secrets", "", "a"),
        ),
        (
            "GET",
            "/api/v1/namespaces/a/secrets",
            {"fieldSelector": "metadata.name=s"},
            Asked("list", "/api/v1/namespaces/a/secrets", "", "v1", "secrets", "", "a", "s"),
        ),
    ],
)
def test_a_request_is_read_off_its_path(method: str, path: str, query: dict[str, str], expected: Asked) -> None:
    assert asked(method, path, query) == expected


@pytest.mark.parametrize(
    ("rule", "wanted", "may"),
    [
        (READS, Asked("get", "", "", "v1", "configmaps", "", "mail", "c"), True),
        (READS, Asked("patch", "", "", "v1", "configmaps", "", "mail", "c"), False),
        (READS, Asked("get", "", "", "v1", "configmaps", "", "other", "c"), False),
        (READS, Asked("list", "", "", "v1", "configmaps"), False),
        (READS, Asked("get", "", "", "v1", "configmaps", "status", "mail", "c"), False),
        ({**READS, "resourceNames": ["c"]}, Asked("get", "", "", "v1", "configmaps", "", "mail", "c"), True),
        ({**READS, "resourceNames": ["c"]}, Asked("list", "", "", "v1", "configmaps", "", "mail"), False),
        ({"apiGroups": ["*"], "resources": ["*/status"], "verbs": ["*"]}, Asked("patch", "", "x", "v1", "y", "status", "mail", "c"), True),
    ],
)
def test_a_role_covers_what_its_rules_say(rule: dict[str, Any], wanted: Asked, may: bool) -> None:
    assert (granted(rule).allows(CI, wanted) is not None) is may


def test_a_cluster_role_covers_every_namespace_and_paths() -> None:
    access = granted(READS, {"nonResourceURLs": ["/metrics*"], "verbs": ["get"]}, cluster=True)
    assert access.allows(CI, Asked("list", "", "", "v1", "configmaps")) == (
        'RBAC: allowed by ClusterRoleBinding "b" of ClusterRole "r" to ServiceAccount "ci/mail"'
    )
    assert access.allows(CI, Asked("get", "/metrics/x")) is not None
    with pytest.raises(ApiError, match='User "system:serviceaccount:mail:ci" cannot get path "/secret"'):
        access.check(CI, Asked("get", "/secret"))


def test_groups_and_users_are_bound_by_name() -> None:
    wanted = Asked("get", "", "", "v1", "configmaps", "", "mail", "c")
    ann = User("ann", ("team",))
    assert granted(READS, subject={"kind": "Group", "name": "team"}).allows(ann, wanted) is not None
    assert granted(READS, subject={"kind": "User", "name": "ann"}).allows(ann, wanted) is not None
    assert granted(READS, subject={"kind": "User", "name": "bob"}).allows(ann, wanted) is None


def test_without_rbac_whoever_has_a_token_may_do_everything() -> None:
    access = KubernetesEmulator({"users": [{"name": "ann", "token": "t1"}]}).api.access
    access.check(access.user("Bearer t1"), Asked("delete", "", "", "v1", "namespaces", "", "a", "a"))
    with pytest.raises(ApiError, match="Unauthorized"):
        access.user("Bearer t2")


def test_the_token_of_an_account_ends_with_the_account_and_by_time() -> None:
    emulator = KubernetesEmulator({"controllers": False})
    account = emulator.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci", "namespace": "default"}})
    access = emulator.api.access
    lasting, ended = access.issue(account, 60), access.issue(account, -1)
    assert access.user(f"Bearer {lasting}").name == "system:serviceaccount:default:ci"
    with pytest.raises(ApiError):
        access.user(f"Bearer {ended}")
    emulator.machine.remove(emulator.kind(account), account)
    with pytest.raises(ApiError):
        access.user(f"Bearer {lasting}")


def test_the_store_lists_what_was_there_at_an_older_version() -> None:
    emulator = KubernetesEmulator({"controllers": False})
    store, key = emulator.machine.store, ("", "configmaps")

    def put(name: str, value: str) -> int:
        metadata = {"name": name, "namespace": "default"}
        whole = emulator.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}})
        return int(whole["metadata"]["resourceVersion"])

    put("one", "1")
    before = put("two", "1")
    put("two", "2")
    put("three", "1")
    emulator.machine.remove(emulator.kind({"apiVersion": "v1", "kind": "ConfigMap"}), store.all(key)[0])
    assert [one["metadata"]["name"] for one in store.all(key)] == ["three", "two"]
    assert [(one["metadata"]["name"], one["data"]["a"]) for one in store.at(key, "", before)] == [("one", "1"), ("two", "1")]
    assert [event.sort for event in store.since(key, before)] == ["MODIFIED", "ADDED", "DELETED"]

"""What a DELETE asks for and what it does to an object that cannot go at once."""

from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.statuses import bad_request, stale, unprocessable
from reconciler_k8s.emulator.store import now

POLICIES = ("Foreground", "Background", "Orphan")
FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


def delete_options(body: Any, query_policy: str | None) -> JSONObject:
    """Read the options of a DELETE from its body and query. Raises ApiError for a body that is something else, and an unknown policy."""
    options: JSONObject = dict(body or {})
    kind, version = options.get("kind", "DeleteOptions"), options.get("apiVersion", "v1")
    if kind != "DeleteOptions":
        scheme = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27"
        raise bad_request(f'no kind "{kind}" is registered for version "{version}" in scheme "{scheme}"')
    if query_policy is not None:
        options["propagationPolicy"] = query_policy
    policy = options.get("propagationPolicy")
    if policy is not None and policy not in POLICIES:
        supported = ", ".join(f'"{one}"' for one in (*POLICIES, "nil"))
        cause = ("FieldValueNotSupported", f'Unsupported value: "{policy}": supported values: {supported}', "propagationPolicy")
        raise unprocessable("DeleteOptions", "meta.k8s.io", "", [cause])
    return options


def check_preconditions(kind: Kind, live: JSONObject, options: JSONObject) -> None:
    """Raise ApiError when the object is not the one, or not the version, that the caller has in mind."""
    wanted, metadata = options.get("preconditions") or {}, live["metadata"]
    if wanted.get("uid") not in (None, metadata["uid"]):
        raise stale(kind, metadata["name"], "UID", wanted["uid"], metadata["uid"], "deleted and then recreated")
    if wanted.get("resourceVersion") not in (None, metadata["resourceVersion"]):
        raise stale(kind, metadata["name"], "ResourceVersion", wanted["resourceVersion"], metadata["resourceVersion"], "modified")


def add_finalizers(kind: Kind, live: JSONObject, options: JSONObject) -> bool:
    """Add what the policy and the kind hold the object with, in place; say whether anything holds it."""
    metadata = live["metadata"]
    if is_definition(kind):
        metadata["finalizers"] = ["customresourcecleanup.apiextensions.k8s.io"]
    policy = options.get("propagationPolicy") or ("Orphan" if kind.name == "Job" else "Background")
    finalizer = FINALIZERS.get(policy)
    if finalizer and finalizer not in metadata.get("finalizers", ()):
        metadata["finalizers"] = [*metadata.get("finalizers", ()), finalizer]
    return bool(metadata.get("finalizers")) or (kind.name == "Namespace" and bool(live["spec"].get("finalizers")))


def mark_deleted(kind: Kind, live: JSONObject) -> None:
    """Write into an object that it is to go, in place."""
    metadata = live["metadata"]
    metadata["deletionTimestamp"] = now()
    if kind.name == "Namespace":
        live["status"]["phase"] = "Terminating"
    elif is_definition(kind):
        why = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        condition = {"type": "Terminating", "status": "True", "lastTransitionTime": now()}
        conditions = (live.get("status") or {}).get("conditions") or []
        live["status"]["conditions"] = [*conditions, {**condition, "reason": "InstanceDeletionPending", "message": why}]
    else:
        metadata["deletionGracePeriodSeconds"] = 0
        if "generation" in metadata:
            metadata["generation"] += 1


def is_definition(kind: Kind) -> bool:
    """Say whether the objects of a kind define kinds."""
    return kind.name == "CustomResourceDefinition" and not kind.custom

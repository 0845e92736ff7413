"""What the server refuses of workloads: pods, their templates, and the counts of a status."""

from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.defaults import amount
from reconciler_k8s.emulator.gotext import compact
from reconciler_k8s.emulator.internals import pod_template
from reconciler_k8s.emulator.statuses import Cause, forbidden_field, invalid, quoted, required

IMMUTABLE = "field is immutable"
STATEFUL_SET_RULE = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
    "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)


def deployment(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    """Check a Deployment, and its status when that is what changes."""
    spec = new.get("spec") or {}
    if old is not None and old.get("status") != new.get("status"):
        return _status(new.get("status") or {})
    causes = workload(new, old)
    strategy = spec.get("strategy") or {}
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate") is not None:
        causes.append(forbidden_field("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'"))
    return causes


def workload(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    """Check what runs replicas of a pod."""
    spec, causes = new.get("spec") or {}, list[Cause]()
    selector = spec.get("selector")
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        causes.append(required("spec.selector"))
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    wanted = (selector or {}).get("matchLabels") or {}
    if selector and any(labels.get(key) != value for key, value in wanted.items()):
        causes.append(invalid("spec.template.metadata.labels", quoted(labels), "`selector` does not match template `labels`"))
    if isinstance(spec.get("replicas"), int) and spec["replicas"] < 0:
        causes.append(invalid("spec.replicas", spec["replicas"], "must be greater than or equal to 0"))
    causes += _pod((spec.get("template") or {}).get("spec") or {}, "spec.template.spec")
    if old is not None and old["spec"].get("selector") != selector:
        causes.append(invalid("spec.selector", quoted(selector), IMMUTABLE))
    return causes


def _pod(spec: JSONObject, field: str) -> list[Cause]:
    causes = list[Cause]()
    if not spec.get("containers"):
        causes.append(required(f"{field}.containers"))
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    for number, container in enumerate(spec.get("containers") or ()):
        here = f"{field}.containers[{number}]"
        if not container.get("image"):
            causes.append(required(f"{here}.image"))
        causes += _resources(f"{here}.resources", container.get("resources") or {})
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            if mount.get("name") not in volumes:
                causes.append(("FieldValueNotFound", f"Not found: {quoted(mount.get('name'))}", f"{here}.volumeMounts[{index}].name"))
    return causes


def _resources(field: str, resources: JSONObject) -> list[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    return [
        invalid(f"{field}.requests", quoted(requests[name]), f"must be less than or equal to {name} limit of {limits[name]}")
        for name in sorted(requests)
        if name in limits and amount(requests[name]) > amount(limits[name])
    ]


COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def _status(status: JSONObject) -> list[Cause]:
    causes = list[Cause]()
    count: dict[str, Any] = {key: status.get(key) or 0 for key in ("observedGeneration", *COUNTS)}
    for key, number in count.items():
        causes += [invalid(f"status.{key}", number, "must be greater than or equal to 0")] if number < 0 else []
    for key in ("updatedReplicas", "readyReplicas", "availableReplicas"):
        if count[key] > count["replicas"]:
            causes.append(invalid(f"status.{key}", count[key], "cannot be greater than status.replicas"))
    if count["availableReplicas"] > count["readyReplicas"]:
        causes.append(invalid("status.availableReplicas", count["availableReplicas"], "cannot be greater than readyReplicas"))
    return causes


def stateful_set(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    """Check a StatefulSet."""
    free = (
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    )
    if old is not None:
        fixed = ({key: value for key, value in one["spec"].items() if key not in free} for one in (old, new))
        if next(fixed) != next(fixed):
            return [forbidden_field("spec", STATEFUL_SET_RULE)]
        old = None
    return workload(new, old)


def job(new: JSONObject, old: JSONObject | None) -> list[Cause]:
    """Check a Job."""
    spec = new.get("spec") or {}
    template = (spec.get("template") or {}).get("spec") or {}
    causes = _pod(template, "spec.template.spec")
    if template.get("restartPolicy") not in ("OnFailure", "Never"):
        causes.append(required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"'))
    if old is not None and old["spec"].get("template") != spec.get("template"):
        causes.append(invalid("spec.template", compact(pod_template(spec["template"])), IMMUTABLE))
    return causes

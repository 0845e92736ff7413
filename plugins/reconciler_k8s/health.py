"""How a live object fares, judged from its status alone. Pure: one function per kind, each from object to Health.

The rules follow what ``kubectl rollout status`` and ``kubectl wait`` wait for, so that both say the same.
"""

from collections.abc import Callable, Mapping

from reconciler.cel import holds
from reconciler.driver import Health, Level
from reconciler.resource import JSONObject

HEALTHY = Health()
STUCK_WAITING = frozenset(
    {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError", "InvalidImageName", "CreateContainerError"}
)


def health_of(live: JSONObject, expression: str = "") -> Health:
    """Judge any object. A kind without a rule is healthy unless it has a Ready condition that says otherwise.

    ``expression`` is a CEL condition over the fields of the object that takes the place of the rule: true means healthy.
    """
    metadata = live.get("metadata") or {}
    if metadata.get("deletionTimestamp"):
        finalizers = ", ".join(metadata.get("finalizers") or ()) or "its namespace"
        return Health(Level.PROGRESSING, f"is being deleted since {metadata['deletionTimestamp']}; waits for {finalizers}")
    if expression:
        return _by_expression(live, expression)
    rule = RULES.get(str(live.get("kind")), _custom)
    return rule(live)


def _by_expression(live: JSONObject, expression: str) -> Health:
    try:
        met = holds(expression, {"metadata": {}, "spec": {}, "status": {}, **live})
    except ValueError as error:
        return _progressing(f"{expression} cannot be told yet: {error}")
    return HEALTHY if met else _progressing(f"{expression} is not true yet")


def condition(live: JSONObject, kind: str) -> JSONObject:
    """Give one condition of the status, or an empty object."""
    conditions = (live.get("status") or {}).get("conditions")
    found = (one for one in conditions if isinstance(one, dict) and one.get("type") == kind) if isinstance(conditions, list) else iter(())
    return dict(next(found, {}))


def _said(one: JSONObject) -> str:
    return ": ".join(str(part) for part in (one.get("reason"), one.get("message")) if part)


def _progressing(message: str) -> Health:
    return Health(Level.PROGRESSING, message)


def _degraded(message: str) -> Health:
    return Health(Level.DEGRADED, message)


def _unobserved(live: JSONObject) -> bool:
    return int((live.get("status") or {}).get("observedGeneration") or 0) < int(live["metadata"].get("generation") or 0)


def _deployment(live: JSONObject) -> Health:
    spec, status = live.get("spec") or {}, live.get("status") or {}
    wanted = spec.get("replicas", 1)
    if _unobserved(live):
        return _progressing("the controller has not seen this version yet")
    if spec.get("paused"):
        return Health(Level.HEALTHY, "is paused")
    progress = condition(live, "Progressing")
    if progress.get("status") == "False":
        return _degraded(_said(progress))
    failure = condition(live, "ReplicaFailure")
    if failure.get("status") == "True":
        return _degraded(_said(failure))
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted:
        return _progressing(f"{updated} of {wanted} replicas are updated")
    if status.get("replicas", 0) > updated:
        return _progressing(f"{status['replicas'] - updated} old replicas are still there")
    if available < wanted:
        return _progressing(f"{available} of {wanted} replicas are available")
    return HEALTHY


def _stateful_set(live: JSONObject) -> Health:
    spec, status = live.get("spec") or {}, live.get("status") or {}
    wanted = spec.get("replicas", 1)
    if _unobserved(live):
        return _progressing("the controller has not seen this version yet")
    if status.get("readyReplicas", 0) < wanted:
        return _progressing(f"{status.get('readyReplicas', 0)} of {wanted} replicas are ready")
    partition = ((spec.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition", 0)
    if (spec.get("updateStrategy") or {}).get("type") != "OnDelete" and status.get("updatedReplicas", 0) < wanted - partition:
        return _progressing(f"{status.get('updatedReplicas', 0)} of {wanted - partition} replicas are updated")
    return HEALTHY


def _daemon_set(live: JSONObject) -> Health:
    status = live.get("status") or {}
    wanted = status.get("desiredNumberScheduled", 0)
    if _unobserved(live):
        return _progressing("the controller has not seen this version yet")
    if (
        status.get("updatedNumberScheduled", 0) < wanted
        and ((live.get("spec") or {}).get("updateStrategy") or {}).get("type") != "OnDelete"
    ):
        return _progressing(f"{status.get('updatedNumberScheduled', 0)} of {wanted} pods are updated")
    if status.get("numberAvailable", 0) < wanted:
        return _progressing(f"{status.get('numberAvailable', 0)} of {wanted} pods are available")
    return HEALTHY


def _job(live: JSONObject) -> Health:
    failed = condition(live, "Failed")
    if failed.get("status") == "True":
        return _degraded(_said(failed) or "has failed")
    if condition(live, "Complete").get("status") == "True" or (live.get("spec") or {}).get("suspend"):
        return HEALTHY
    return _progressing(f"{(live.get('status') or {}).get('active', 0)} pods are running")


def _cron_job(live: JSONObject) -> Health:
    """Judge a schedule by its last run that is over; one whose run still goes is as well as it was before."""
    status = live.get("status") or {}
    if (live.get("spec") or {}).get("suspend"):
        return Health(Level.HEALTHY, "is suspended")
    last, succeeded = str(status.get("lastScheduleTime") or ""), str(status.get("lastSuccessfulTime") or "")
    if last and succeeded < last and not status.get("active"):
        since = f"the last success was at {succeeded}" if succeeded else "no run ever succeeded"
        return _degraded(f"the run of {last} did not succeed; {since}")
    return HEALTHY


def _claim(live: JSONObject) -> Health:
    phase = (live.get("status") or {}).get("phase", "Pending")
    if phase == "Lost":
        return _degraded("has lost its volume")
    return (
        HEALTHY if phase == "Bound" else _progressing(f"is {phase}; a claim whose class waits for a consumer stays so until a pod uses it")
    )


def _service(live: JSONObject) -> Health:
    if (live.get("spec") or {}).get("type") != "LoadBalancer":
        return HEALTHY
    return (
        HEALTHY
        if ((live.get("status") or {}).get("loadBalancer") or {}).get("ingress")
        else _progressing("waits for an address from the load balancer")
    )


def _definition(live: JSONObject) -> Health:
    names = condition(live, "NamesAccepted")
    if names.get("status") == "False":
        return _degraded(_said(names))
    return HEALTHY if condition(live, "Established").get("status") == "True" else _progressing("is not served yet")


def _pod(live: JSONObject) -> Health:
    status = live.get("status") or {}
    phase = status.get("phase", "Pending")
    if phase == "Succeeded":
        return HEALTHY
    if phase == "Failed":
        return _degraded(str(status.get("message") or status.get("reason") or "has failed"))
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in STUCK_WAITING:
            return _degraded(f"{container.get('name')}: {_said(waiting)}")
    return HEALTHY if condition(live, "Ready").get("status") == "True" else _progressing(f"is {phase}, not ready")


def _namespace(live: JSONObject) -> Health:
    phase = (live.get("status") or {}).get("phase", "Active")
    return HEALTHY if phase == "Active" else _progressing(f"is {phase}")


def _healthy(live: JSONObject) -> Health:
    return HEALTHY


def _custom(live: JSONObject) -> Health:
    status = live.get("status")
    if not isinstance(status, dict):
        return HEALTHY
    ready = condition(live, "Ready")
    seen = status.get("observedGeneration")
    if ready and isinstance(seen, int) and seen < int(live["metadata"].get("generation") or 0):
        return _progressing("its controller has not seen this version yet")
    if ready.get("status") == "False":
        return _degraded(_said(ready) or "is not ready")
    return _progressing(_said(ready) or "its readiness is unknown") if ready.get("status") == "Unknown" else HEALTHY


RULES: Mapping[str, Callable[[JSONObject], Health]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "CronJob": _cron_job,
    "Ingress": _healthy,
    "PersistentVolumeClaim": _claim,
    "Service": _service,
    "CustomResourceDefinition": _definition,
    "Pod": _pod,
    "Namespace": _namespace,
}

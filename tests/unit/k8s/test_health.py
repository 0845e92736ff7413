from typing import Any

import pytest

from reconciler.driver import Level
from reconciler_k8s.health import health_of


def live(kind: str, status: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "a", **metadata}, "spec": spec or {}, **({"status": status} if status is not None else {})}


def condition(kind: str, status: str, reason: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "reason": reason}]}


READY = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
EARLIER, LATER = "2026-04-01T10:00:00Z", "2026-04-01T10:20:00Z"
TWO: dict[str, Any] = {"replicas": 2}


@pytest.mark.parametrize(
    ("whole", "level", "said"),
    [
        (live("Deployment", READY, TWO, generation=2), Level.HEALTHY, ""),
        (live("Deployment", READY, TWO, generation=3), Level.PROGRESSING, "has not seen this version"),
        (live("Deployment", {**READY, "updatedReplicas": 1}, TWO, generation=2), Level.PROGRESSING, "1 of 2 replicas are updated"),
        (live("Deployment", {**READY, "replicas": 3}, TWO, generation=2), Level.PROGRESSING, "1 old replicas"),
        (live("Deployment", {**READY, "availableReplicas": 0}, TWO, generation=2), Level.PROGRESSING, "0 of 2 replicas are available"),
        (
            live("Deployment", {**READY, **condition("Progressing", "False", "ProgressDeadlineExceeded")}, TWO),
            Level.DEGRADED,
            "ProgressDeadline",
        ),
        (live("StatefulSet", READY, TWO, generation=2), Level.HEALTHY, ""),
        (live("StatefulSet", {**READY, "readyReplicas": 1}, TWO, generation=2), Level.PROGRESSING, "1 of 2 replicas are ready"),
        (live("DaemonSet", {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2}), Level.PROGRESSING, "2 of 3"),
        (live("Job", condition("Complete", "True")), Level.HEALTHY, ""),
        (live("Job", condition("Failed", "True", "BackoffLimitExceeded")), Level.DEGRADED, "BackoffLimitExceeded"),
        (live("Job", {"active": 1}), Level.PROGRESSING, "1 pods are running"),
        (live("CronJob", {}), Level.HEALTHY, ""),
        (live("CronJob", {"lastScheduleTime": LATER}, {"suspend": True}), Level.HEALTHY, "is suspended"),
        (live("CronJob", {"lastScheduleTime": EARLIER, "lastSuccessfulTime": LATER}), Level.HEALTHY, ""),
        (live("CronJob", {"lastScheduleTime": LATER, "lastSuccessfulTime": EARLIER, "active": [{"name": "a-1"}]}), Level.HEALTHY, ""),
        (live("CronJob", {"lastScheduleTime": LATER, "lastSuccessfulTime": EARLIER}), Level.DEGRADED, f"the last success was at {EARLIER}"),
        (live("CronJob", {"lastScheduleTime": LATER}), Level.DEGRADED, "no run ever succeeded"),
        (live("PersistentVolumeClaim", {"phase": "Bound"}), Level.HEALTHY, ""),
        (live("PersistentVolumeClaim", {"phase": "Pending"}), Level.PROGRESSING, "is Pending"),
        (live("PersistentVolumeClaim", {"phase": "Lost"}), Level.DEGRADED, "lost"),
        (live("Service", {}), Level.HEALTHY, ""),
        (live("Service", {"loadBalancer": {}}, {"type": "LoadBalancer"}), Level.PROGRESSING, "waits for an address"),
        (live("Service", {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, {"type": "LoadBalancer"}), Level.HEALTHY, ""),
        (live("Ingress", {}), Level.HEALTHY, ""),
        (live("CustomResourceDefinition", {"conditions": None}), Level.PROGRESSING, "is not served yet"),
        (live("CustomResourceDefinition", condition("Established", "True")), Level.HEALTHY, ""),
        (live("CustomResourceDefinition", condition("NamesAccepted", "False", "Conflict")), Level.DEGRADED, "Conflict"),
        (live("Pod", {"phase": "Running", **condition("Ready", "True")}), Level.HEALTHY, ""),
        (live("Pod", {"phase": "Failed", "reason": "Evicted"}), Level.DEGRADED, "Evicted"),
        (
            live("Pod", {"containerStatuses": [{"name": "mail", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            Level.DEGRADED,
            "mail: CrashLoopBackOff",
        ),
        (live("Namespace", {"phase": "Active"}), Level.HEALTHY, ""),
        (live("Certificate", condition("Ready", "False", "Issuing")), Level.DEGRADED, "Issuing"),
        (live("Certificate", condition("Ready", "Unknown")), Level.PROGRESSING, "unknown"),
        (live("Certificate", {**condition("Ready", "True"), "observedGeneration": 1}, generation=2), Level.PROGRESSING, "has not seen"),
        (live("Certificate"), Level.HEALTHY, ""),
        (live("ConfigMap", deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["a/b"]), Level.PROGRESSING, "waits for a/b"),
    ],
)
def test_health_says_what_the_status_says(whole: dict[str, Any], level: Level, said: str) -> None:
    found = health_of(whole)
    assert (found.level, said in found.message) == (level, True), found


READY_IF = 'status.phase == "Ready"'


@pytest.mark.parametrize(
    ("whole", "level", "said"),
    [
        (live("Deployment", {"phase": "Ready"}, TWO, generation=9), Level.HEALTHY, ""),
        (live("Pool", {"phase": "Pending"}), Level.PROGRESSING, "is not true yet"),
        (live("Pool", {}), Level.PROGRESSING, "cannot be told yet"),
        (live("Pool"), Level.PROGRESSING, "cannot be told yet"),
        (live("Pool", {"phase": "Ready"}, deletionTimestamp="2026-01-01T00:00:00Z"), Level.PROGRESSING, "is being deleted"),
    ],
)
def test_a_condition_of_the_user_takes_the_place_of_the_rule(whole: dict[str, Any], level: Level, said: str) -> None:
    found = health_of(whole, READY_IF)
    assert (found.level, said in found.message) == (level, True), found


def test_a_condition_that_is_no_condition_is_never_healthy() -> None:
    assert health_of(live("Pool", {"phase": "Ready"}), "status.phase").level is Level.PROGRESSING


def test_a_condition_may_look_into_lists() -> None:
    ready = 'status.conditions.exists(one, one.type == "Ready" && one.status == "True")'
    assert health_of(live("Pool", condition("Ready", "True")), ready).level is Level.HEALTHY
    assert health_of(live("Pool", condition("Ready", "False")), ready).level is Level.PROGRESSING


def test_a_kind_of_another_group_does_not_inherit_the_rule_of_its_namesake() -> None:
    assert health_of(live("Service.serving.knative.dev", {}, {"type": "LoadBalancer"})).level is Level.HEALTHY

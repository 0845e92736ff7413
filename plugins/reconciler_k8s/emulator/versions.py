"""One object in several API versions: it is stored as it was written and shown as it is asked for."""

from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind


def served(whole: JSONObject, kind: Kind) -> JSONObject:
    """Give an object in the version of a kind; the very same object when it is stored in that version."""
    if whole.get("apiVersion") == kind.api_version or whole.get("kind") != kind.name:
        return whole
    shown = {**whole, "apiVersion": kind.api_version}
    if kind.name == "HorizontalPodAutoscaler" and not kind.custom:
        shown["spec"] = _autoscaler_1(whole["spec"]) if kind.version == "v1" else autoscaler_2(whole["spec"])
    return shown


def stored(whole: JSONObject, kind: Kind) -> None:
    """Rewrite what came in an older version of a built-in kind into the one that is stored, in place."""
    if kind.name == "HorizontalPodAutoscaler" and not kind.custom and kind.version == "v1":
        whole["apiVersion"] = "autoscaling/v2"
        whole["spec"] = autoscaler_2(whole.get("spec") or {})


def _is_cpu(metric: JSONObject) -> bool:
    resource: Any = metric.get("resource") or {}
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and "averageUtilization" in (resource.get("target") or {})


def _autoscaler_1(spec: JSONObject) -> JSONObject:
    shown = {key: value for key, value in spec.items() if key != "metrics"}
    cpu = next((metric for metric in spec.get("metrics") or () if _is_cpu(metric)), None)
    if cpu is not None:
        shown["targetCPUUtilizationPercentage"] = cpu["resource"]["target"]["averageUtilization"]
    return shown


def autoscaler_2(spec: JSONObject) -> JSONObject:
    """Say what an autoscaler of version 1 watches as version 2 says it."""
    shown = {key: value for key, value in spec.items() if key != "targetCPUUtilizationPercentage"}
    percent = spec.get("targetCPUUtilizationPercentage")
    if percent is not None:
        target = {"type": "Utilization", "averageUtilization": percent}
        shown["metrics"] = [*(shown.get("metrics") or ()), {"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    return shown

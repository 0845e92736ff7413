"""What each kind is born with, and what its strategy does to it before it is checked."""

from copy import deepcopy
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind

ANNOTATIONS_COUNT = frozenset({"Deployment", "ReplicaSet"})

BORN: dict[str, Any] = {
    "Namespace": {"phase": "Active"},
    "Service": {"loadBalancer": {}},
    "Ingress": {"loadBalancer": {}},
    "PersistentVolumeClaim": {"phase": "Pending"},
    "Pod": {"phase": "Pending", "qosClass": "BestEffort"},
    "StatefulSet": {"replicas": 0, "availableReplicas": 0},
    "DaemonSet": {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0},
    "CustomResourceDefinition": {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": None},
}


ZERO: dict[str, Any] = {
    "Namespace": {"spec": {}, "status": {}},
    "Node": {"spec": {}, "status": {}},
    "Pod": {"spec": {}, "status": {}},
    "Service": {"spec": {}, "status": {"loadBalancer": {}}},
    "PersistentVolumeClaim": {"spec": {"resources": {}}, "status": {}},
    "PersistentVolume": {"spec": {}, "status": {}},
    "Deployment": {"spec": {"strategy": {}, "template": {"metadata": {}, "spec": {}}}, "status": {}},
    "StatefulSet": {"spec": {"updateStrategy": {}, "template": {"metadata": {}, "spec": {}}}, "status": {}},
    "DaemonSet": {"spec": {"updateStrategy": {}, "template": {"metadata": {}, "spec": {}}}, "status": {}},
    "ReplicaSet": {"spec": {"template": {"metadata": {}, "spec": {}}}, "status": {}},
    "Job": {"spec": {"template": {"metadata": {}, "spec": {}}}, "status": {}},
    "CronJob": {"spec": {"jobTemplate": {"metadata": {}, "spec": {"template": {"metadata": {}, "spec": {}}}}}, "status": {}},
    "Ingress": {"spec": {}, "status": {"loadBalancer": {}}},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "RoleBinding": {"roleRef": {}},
    "ClusterRoleBinding": {"roleRef": {}},
    "HorizontalPodAutoscaler": {"spec": {"scaleTargetRef": {}}, "status": {}},
    "PodDisruptionBudget": {"spec": {}, "status": {}},
    "CustomResourceDefinition": {"spec": {"names": {}}, "status": {"acceptedNames": {}}},
}
"""What an empty object of a kind already holds in Go: structs that are no pointers, which nobody is recorded to have added."""


def zero(kind: Kind) -> JSONObject:
    """Give the empty object that a new one is compared with."""
    return {"metadata": {}} | ({} if kind.custom else deepcopy(ZERO.get(kind.name, {})))


def unsettled_at_first(kind: Kind, new: JSONObject) -> bool:
    """Say whether the second identical apply of a new object moves its version once."""
    if kind.custom or kind.name not in ("PersistentVolumeClaim", "Job"):
        return False
    return kind.name != "Job" or len(new["spec"]["template"]["metadata"]["labels"]) == 4


def counted(kind: Kind, whole: JSONObject) -> Any:
    """Give the part of an object whose changes its generation counts."""
    if kind.custom:
        return {key: value for key, value in whole.items() if key not in ("metadata", "status")}
    return [whole.get("spec"), (whole["metadata"].get("annotations") or {}) if kind.name in ANNOTATIONS_COUNT else None]


def label_job(new: JSONObject) -> None:
    """Give a new job the labels and the selector that only the server can choose."""
    uid, name = new["metadata"]["uid"], new["metadata"]["name"]
    spec = new["spec"]
    labels = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    ours = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name}
    labels |= ours
    new["metadata"]["labels"] = {**new["metadata"].get("labels", {}), **ours}
    spec.setdefault("manualSelector", False)
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}


def free_ports(spec: JSONObject, before: JSONObject) -> None:
    """Drop node ports and addresses that a change of type leaves behind, when they are unchanged."""
    was, is_now = before.get("type"), spec.get("type")
    if was in ("NodePort", "LoadBalancer") and is_now in ("ClusterIP", "ExternalName"):
        old = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in before.get("ports") or ()}
        for port in spec.get("ports") or ():
            if port.get("nodePort") == old.get((port.get("port"), port.get("protocol"))):
                port.pop("nodePort", None)
    if is_now not in ("NodePort", "LoadBalancer"):
        spec.pop("externalTrafficPolicy", None)
    if is_now != "LoadBalancer":
        spec.pop("allocateLoadBalancerNodePorts", None)
    if is_now == "ExternalName":
        spec.pop("internalTrafficPolicy", None)
        if spec.get("clusterIP") == before.get("clusterIP"):
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)

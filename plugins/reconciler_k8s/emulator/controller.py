"""The tiny controllers of the emulated cluster: they make what a real one would make within seconds happen at once.

``frozen`` holds kinds whose controller does nothing, so that progressing and stuck objects can be seen. CRDs are always established:
that is the API server's own work.
"""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.machine import Machine
from reconciler_k8s.emulator.store import now

WORKLOADS = {"Deployment": "deployment-controller", "StatefulSet": "statefulset-controller", "DaemonSet": "daemonset-controller"}
SCHEDULED = ("currentNumberScheduled", "desiredNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable")
HEARTBEAT = 10.0
"""Seconds of the cluster between two signs of life: the server's own record moves the version, and is no object that anybody sees."""
PERIOD = 0.05
"""Seconds between two rounds; also how long a rollout seems to take."""


@dataclass(slots=True)
class Timer:
    """Says once in each period that it is over."""

    period: float
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Say whether another period is over."""
        if time.monotonic() - self.last < self.period:
            return False
        self.last = time.monotonic()
        return True


@dataclass(slots=True)
class Controllers:
    """One thread that settles everything. ``frozen`` holds kind names, or ``*``.

    ``compaction`` is the seconds of the cluster after which a version is forgotten, at the earliest.
    """

    machine: Machine
    frozen: set[str] = field(default_factory=set)
    compaction: float = 300.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, daemon=True, name="emulated-controllers")
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _run(self) -> None:
        store, settled = self.machine.store, -1
        beat = Timer(HEARTBEAT / store.pace)
        compact, doomed = Timer(self.compaction / store.pace), store.version
        while not self._stop.wait(PERIOD):
            with store.lock:
                if beat.due():
                    store.next()
                if compact.due():
                    store.compact(doomed)
                    doomed = store.version
                if store.version != settled:
                    self.settle()
                    settled = store.version

    def settle(self) -> None:
        """Do one round over everything."""
        for kind in list(self.machine.store.kinds.values()):
            work = None if kind.custom else getattr(self, f"_settle_{kind.name.lower()}", None)
            if work is None or (kind.name != "CustomResourceDefinition" and self.frozen & {"*", kind.name}):
                continue
            for whole in list(self.machine.store.all(kind.key)):
                copy = self.machine.store.get(kind.key, whole["metadata"].get("namespace", ""), whole["metadata"]["name"])
                if copy is not None:
                    work(kind, copy)

    def _settle_customresourcedefinition(self, kind: Kind, whole: JSONObject) -> None:
        if whole["metadata"].get("deletionTimestamp"):
            self.machine.remove(kind, whole)
            return
        status = whole.get("status") or {}
        names, versions = whole["spec"]["names"], [one["name"] for one in whole["spec"]["versions"] if one.get("storage")]
        if status.get("conditions") and status.get("acceptedNames") == names:
            key = whole["spec"]["group"], names["plural"]
            if not any(one.key == key for one in self.machine.store.kinds.values()):
                self.machine.store.define(whole)
            return
        since = now()
        whole["status"] = {
            "conditions": [
                {
                    "type": "NamesAccepted",
                    "status": "True",
                    "lastTransitionTime": since,
                    "reason": "NoConflicts",
                    "message": "no conflicts found",
                },
                {
                    "type": "Established",
                    "status": "True",
                    "lastTransitionTime": since,
                    "reason": "InitialNamesAccepted",
                    "message": "the initial names have been accepted",
                },
            ],
            "acceptedNames": names,
            "storedVersions": versions,
        }
        self.machine.store.define(whole)
        self.machine.alter(kind, whole, "kube-apiserver")

    def _settle_namespace(self, kind: Kind, whole: JSONObject) -> None:
        if not whole["metadata"].get("deletionTimestamp"):
            return
        name = whole["metadata"]["name"]
        for other in list(self.machine.store.kinds.values()):
            if other.namespaced:
                for child in list(self.machine.store.all(other.key, name)):
                    self.machine.store.drop(other, child)
        self.machine.remove(kind, whole)

    def _settle_deployment(self, kind: Kind, whole: JSONObject) -> None:
        replicas = whole["spec"].get("replicas", 1)
        status = {key: replicas for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas") if replicas}
        conditions = [
            {
                "type": "Available",
                "status": "True",
                "reason": "MinimumReplicasAvailable",
                "message": "Deployment has minimum availability.",
            },
            {
                "type": "Progressing",
                "status": "True",
                "reason": "NewReplicaSetAvailable",
                "message": "ReplicaSet has successfully progressed.",
            },
        ]
        self._status(kind, whole, {"observedGeneration": whole["metadata"]["generation"], **status, "conditions": conditions})

    def _settle_statefulset(self, kind: Kind, whole: JSONObject) -> None:
        replicas = whole["spec"].get("replicas", 1)
        counts = dict.fromkeys(("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"), replicas)
        self._status(kind, whole, {"observedGeneration": whole["metadata"]["generation"], **counts})

    def _settle_daemonset(self, kind: Kind, whole: JSONObject) -> None:
        nodes = len(self.machine.store.all(("", "nodes"))) or 1
        counts = dict.fromkeys(
            ("currentNumberScheduled", "desiredNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable"), nodes
        )
        self._status(kind, whole, {"observedGeneration": whole["metadata"]["generation"], "numberMisscheduled": 0, **counts})

    def _settle_persistentvolumeclaim(self, kind: Kind, whole: JSONObject) -> None:
        if whole["metadata"].get("deletionTimestamp"):
            self.machine.remove(kind, whole)
            return
        requests = ((whole["spec"].get("resources") or {}).get("requests")) or {}
        self._status(kind, whole, {"phase": "Bound", "accessModes": whole["spec"].get("accessModes", []), "capacity": dict(requests)})

    def _settle_job(self, kind: Kind, whole: JSONObject) -> None:
        if whole["metadata"].get("deletionTimestamp"):
            self.machine.remove(kind, whole)
            return
        if whole["spec"].get("suspend") or whole.get("status", {}).get("succeeded"):
            return
        done = now()
        condition = {"type": "Complete", "status": "True", "lastProbeTime": done, "lastTransitionTime": done}
        succeeded = whole["spec"].get("completions", 1)
        self._status(
            kind, whole, {"startTime": done, "completionTime": done, "succeeded": succeeded, "ready": 0, "conditions": [condition]}
        )

    def _settle_service(self, kind: Kind, whole: JSONObject) -> None:
        if whole["spec"].get("type") != "LoadBalancer" or (whole["status"].get("loadBalancer") or {}).get("ingress"):
            return
        wanted = whole["spec"].get("loadBalancerIP") or (whole["metadata"].get("annotations") or {}).get(
            "metallb.universe.tf/loadBalancerIPs"
        )
        used = {
            one["status"]["loadBalancer"]["ingress"][0]["ip"]
            for one in self.machine.store.all(kind.key)
            if (one["status"].get("loadBalancer") or {}).get("ingress")
        }
        address = wanted or next(f"192.0.2.{number}" for number in range(10, 250) if f"192.0.2.{number}" not in used)
        self._status(kind, whole, {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}})

    def _settle_pod(self, kind: Kind, whole: JSONObject) -> None:
        self._status(kind, whole, {"phase": "Running", "qosClass": "BestEffort", "conditions": [{"type": "Ready", "status": "True"}]})

    def _status(self, kind: Kind, whole: JSONObject, status: dict[str, Any]) -> None:
        if {key: whole.get("status", {}).get(key) for key in status} == status:
            return
        whole["status"] = status
        self.machine.alter(kind, whole, WORKLOADS.get(kind.name, "kube-controller-manager"))

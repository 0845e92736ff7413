"""A small Kubernetes API server on a real socket, with controllers that settle everything within a fraction of a second.

It speaks the wire protocol of the real one: server-side apply with ownership and conflicts, dry-run, lists in pages, metadata-only
answers, watches, preconditions, finalizers, custom resources. Nothing outside the emulator may import it except tests and the sandbox.
"""

from copy import deepcopy
from secrets import token_hex

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer
from reconciler_k8s.emulator.access import FIRST_ROLES
from reconciler_k8s.emulator.controller import Controllers
from reconciler_k8s.emulator.http import Api
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.machine import Machine, Request
from reconciler_k8s.emulator.managers import Actor
from reconciler_k8s.emulator.store import now
from reconciler_k8s.emulator.trouble import ClusterFaults, FaultLayer

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class KubernetesEmulator:
    """The emulated cluster.

    ``seed``: ``objects`` and ``crds`` are manifests, ``nodes`` are names; ``token`` is the administrator's; ``controllers: false`` freezes
    all. With ``rbac: true`` only the administrator may do everything, and others what roles and bindings among the objects give them;
    ``users`` are ``{name, groups, token}``. ``pace`` is how many of the cluster's seconds (watches, ages, heartbeats) pass in one of ours.
    ``history: {forgotten: true, compaction: 5}`` is a server that was started on old data and compacts every five seconds.
    """

    def __init__(self, seed: JSONObject | None = None, *, port: int = 0) -> None:
        """Take what the cluster holds at first; ``port`` 0 asks for a free one."""
        seed = seed or {}
        self.faults = ClusterFaults()
        self.machine = Machine()
        self.machine.store.pace = float(seed.get("pace", 1))
        history = seed.get("history") or {}
        self.controllers = Controllers(self.machine, compaction=float(history.get("compaction", 300)))
        if seed.get("controllers") is False:
            self.controllers.frozen.add("*")
        self.api = Api(self.machine, str(seed.get("token") or token_hex(16)))
        self.api.access.enforced = bool(seed.get("rbac"))
        for user in seed.get("users") or ():
            self.api.access.add(user["token"], user["name"], tuple(user.get("groups") or ()))
        self._server = AppServer(FaultLayer(self.api, self.faults), port=port)
        self._plant(seed)
        if history.get("forgotten"):
            self.forget_history()

    def start(self) -> None:
        """Listen on loopback; returns when the server answers."""
        self.api.stopping = self.faults.stopping = False
        self._server.start()
        self.controllers.start()

    def stop(self) -> None:
        """Close every socket."""
        self.api.stopping = True
        self.faults.stopping = True
        self.controllers.stop()
        self._server.stop()

    def settings(self) -> JSONObject:
        """Give the target configuration that leads the driver here."""
        return {"url": self._server.url, "token": self.api.token}

    def summary(self) -> list[str]:
        """Say what is inside and how to look at it."""
        with self.machine.store.lock:
            counts = sorted(self.machine.store.count())
        inside = ", ".join(f"{number} {name}" for name, number in counts)
        url, token = self._server.url, self.api.token
        return [
            f"Kubernetes at {url}: {inside}",
            f"kubectl --server {url} --token {token} get all -A",
            f"curl -H 'Authorization: Bearer {token}' {url}/api/v1/namespaces",
        ]

    def put(self, manifest: JSONObject, manager: str = "kubectl-create") -> JSONObject:
        """Put an object there as somebody with ``manager`` would: made anew, or replaced."""
        with self.machine.store.lock:
            kind = self.kind(manifest)
            metadata = manifest["metadata"]
            actor = Actor(manager, "Update", kind.api_version, "", now())
            request = Request(kind, metadata.get("namespace", ""), metadata["name"], actor)
            there = self.machine.store.peek(kind.key, request.namespace, request.name) is not None
            act = self.machine.update if there else self.machine.create
            return act(request, deepcopy(manifest))[1]

    def apply(self, manifest: JSONObject, manager: str, *, force: bool = False) -> JSONObject:
        """Apply an object as another applier with ``manager`` would."""
        with self.machine.store.lock:
            kind, metadata = self.kind(manifest), manifest["metadata"]
            actor = Actor(manager, "Apply", kind.api_version, "", now())
            request = Request(kind, metadata.get("namespace", ""), metadata["name"], actor, force=force)
            return self.machine.apply(request, deepcopy(manifest))[1]

    def forget_history(self) -> None:
        """Know nothing any more of what was before now, as a server does that was started anew and whose store was compacted."""
        store = self.machine.store
        with store.lock:
            store.oldest = store.next()

    def kind(self, manifest: JSONObject) -> Kind:
        """Find the kind of a manifest. Raises KeyError when it is not served."""
        group, _, version = str(manifest["apiVersion"]).rpartition("/")
        for one in self.machine.store.kinds.values():
            if (one.group, one.version, one.name) == (group, version, manifest["kind"]):
                return one
        raise KeyError(f"{manifest['apiVersion']} {manifest['kind']} is not served")

    def _plant(self, seed: JSONObject) -> None:
        for name in NAMESPACES:
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, "kube-apiserver")
        for manifest in FIRST_ROLES if seed.get("rbac") else ():
            self.put(deepcopy(manifest), "kube-apiserver")
        for crd in seed.get("crds") or ():
            self.put(crd)
        self.controllers.settle()
        for name in seed.get("nodes") or ():
            self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}, "kubelet")
        for manifest in seed.get("objects") or ():
            self.put(manifest)
        self.controllers.settle()

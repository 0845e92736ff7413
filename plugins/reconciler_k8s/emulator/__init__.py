"""A small Kubernetes API server on a real socket, with controllers that settle everything within a fraction of a second.

It speaks the wire protocol of the real one: server-side apply with ownership and conflicts, dry-run, lists in pages, metadata-only
answers, watches, preconditions, finalizers, custom resources. Nothing outside the emulator may import it except tests and the sandbox.
"""

import json
from copy import deepcopy
from secrets import token_hex

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer, FaultMiddleware, Faults
from reconciler_k8s.emulator.controller import Controllers
from reconciler_k8s.emulator.http import Api
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.machine import Machine, Request
from reconciler_k8s.emulator.managers import Actor
from reconciler_k8s.emulator.store import now

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class KubernetesEmulator:
    """The emulated cluster. ``seed``: ``objects`` and ``crds`` are manifests, ``nodes`` are names; ``controllers: false`` freezes all."""

    def __init__(self, seed: JSONObject | None = None, *, port: int = 0) -> None:
        """Take what the cluster holds at first; ``port`` 0 asks for a free one."""
        seed = seed or {}
        self.faults = Faults()
        self.machine = Machine()
        self.controllers = Controllers(self.machine)
        if seed.get("controllers") is False:
            self.controllers.frozen.add("*")
        self.api = Api(self.machine, str(seed.get("token") or token_hex(16)))
        self._server = AppServer(FaultMiddleware(self.api, self.faults, _render), port=port)
        self._plant(seed)

    def start(self) -> None:
        """Listen on loopback; returns when the server answers."""
        self.api.stopping = False
        self._server.start()
        self.controllers.start()

    def stop(self) -> None:
        """Close every socket."""
        self.api.stopping = True
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
        for crd in seed.get("crds") or ():
            self.put(crd)
        self.controllers.settle()
        for name in seed.get("nodes") or ():
            self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}, "kubelet")
        for manifest in seed.get("objects") or ():
            self.put(manifest)
        self.controllers.settle()


def _render(fault: str) -> tuple[int, dict[str, str], bytes]:
    """Give the server's own answer to a fault."""
    code, reason, message = {
        "rate-limit": (429, "TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        "html": (502, "", ""),
    }.get(fault, (500, "InternalError", "Internal error occurred: etcdserver: request timed out"))
    headers = {"content-type": "application/json", **({"retry-after": "1"} if code == 429 else {})}
    if fault == "html":
        return code, {"content-type": "text/html"}, b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
    return code, headers, json.dumps(status).encode()

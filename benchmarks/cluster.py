"""An emulated cluster in a process of its own, full of what one stack applied: ``python -m benchmarks.cluster COUNT``.

Prints its settings as a line of JSON; then each line on its input is the name of a ConfigMap to change by hand, until the input ends.
"""

import json
import sys
from typing import Any

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from reconciler.driver import Scope
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_k8s.applyset import ApplySet, write
from reconciler_k8s.client import Cluster
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_k8s.ownership import field_manager, make_wish
from reconciler_k8s.seals import Seal
from reconciler_k8s.spec import KubernetesObject
from reconciler_k8s.write import contents_of

OWNER = "bench/big"
NAMESPACE = "bench"
SEED: JSONObject = {"controllers": False}


def scope() -> Scope:
    """Give the scope of a pass over the stack."""
    return Scope(OWNER, fingerprint=lambda ref: "key")


def manifests(count: int) -> list[JSONObject]:
    """Generate the stack: a namespace and ``count`` objects, half of them ConfigMaps, the others Services and Deployments."""
    found: list[JSONObject] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    for number in range(count):
        metadata = {"name": f"o{number:05}", "namespace": NAMESPACE, "labels": {"app": f"a{number % 50}"}}
        match number % 10:
            case 9:
                found.append({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": workload(number)})
            case 5 | 6 | 7 | 8:
                ports = [{"name": "smtp", "port": 25, "targetPort": 2525}, {"name": "imaps", "port": 993}]
                found.append(
                    {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": {"app": "a"}, "ports": ports}}
                )
            case _:
                data = {f"key-{part}": f"value {number} of {part}, " + "x" * 100 for part in range(8)}
                found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return found


def workload(number: int) -> JSONObject:
    """Give the spec of a Deployment of ordinary size."""
    env = [{"name": f"SETTING_{part}", "value": f"{number}-{part}"} for part in range(6)]
    container = {"name": "main", "image": "registry.example.com/mail:1", "env": env, "ports": [{"containerPort": 25}]}
    labels = {"app": f"w{number}"}
    return {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}


def resources(count: int) -> list[Resource]:
    """Give the stack as the loader would."""
    made = []
    for manifest in manifests(count):
        name, spec = KubernetesObject.from_document(manifest)
        made.append(Resource(ResourceId("k8s", spec.full_kind, name), spec))
    return made


def fill(emulator: KubernetesEmulator, wanted: list[Resource]) -> None:
    """Apply the stack as the driver does, without its way over the network."""
    applied = ApplySet(OWNER, "default")
    for one in wanted:
        wish = make_wish(one, scope(), Seal.of(scope().fingerprint), applied.id, "")
        emulator.apply(wish.body(lambda ref: ""), field_manager(OWNER))
    cluster = Cluster(KubernetesConfig(**emulator.settings()))
    write(cluster, applied, contents_of(wanted))
    cluster.close()


class Known:
    """Lets everybody in who comes without a token: kubectl sends none over plain HTTP."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        """Wrap ``app``."""
        self.app, self.token = app, token

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        headers: Any = connection.get("headers", [])
        if connection["type"] == "http" and not any(name == b"authorization" for name, _ in headers):
            connection = {**connection, "headers": [*headers, (b"authorization", f"Bearer {self.token}".encode())]}
        await self.app(connection, receive, send)


def main(count: int) -> None:
    """Serve until the input ends."""
    emulator = KubernetesEmulator(SEED)
    emulator._server.app = Known(emulator._server.app, emulator.api.token)
    emulator.start()
    fill(emulator, resources(count))
    print(json.dumps(emulator.settings()), flush=True)
    for line in sys.stdin:
        emulator.put(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": line.strip(), "namespace": NAMESPACE}, "data": {"meddled": "1"}},
            "kubectl-edit",
        )
        print(len(emulator.faults.requests), flush=True)
    emulator.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))

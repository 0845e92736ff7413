"""The subresources of pods and services that lead to a node, of which there is none: what the server says then."""

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.statuses import ApiError, bad_request, no_method

ON_NODES = frozenset({"attach", "exec", "log", "portforward", "proxy"})
"""What only a node could answer."""
CREATED: JSONObject = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def on_node(kind: Kind, name: str) -> ApiError:
    """Say that there is nobody behind a pod or a service."""
    if kind.name == "Service":
        return ApiError(503, f'no endpoints available for service "{name}"', "ServiceUnavailable")
    if kind.name == "Pod":
        return bad_request(f"pod {name} does not have a host assigned")
    return no_method()

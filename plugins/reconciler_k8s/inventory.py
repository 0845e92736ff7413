"""The memory of which kinds a stack has ever used, so that a kind which left git is still listed and its objects pruned.

One ConfigMap per stack, written before the first object of a kind. Losing it is harmless as long as one object of each kind is wanted.
"""

from collections.abc import Collection, Iterator, Mapping

from reconciler.resource import JSONObject
from reconciler_k8s.answers import NotFound
from reconciler_k8s.client import APPLY, METADATA, Call, Cluster, Served
from reconciler_k8s.ownership import field_manager, owner_label

KINDS = "reconciler/kinds"
CONFIG_MAPS = Served("", "v1", "ConfigMap", "configmaps", True)


def name_of(owner: str) -> str:
    """Give the name of the ConfigMap."""
    return f"reconciler-{owner_label(owner)}".lower()


def read(cluster: Cluster, owner: str) -> frozenset[str]:
    """Give the remembered kinds as ``Kind.group``; nothing when the stack was never applied."""
    path = CONFIG_MAPS.path(cluster.config.inventory_namespace, name_of(owner))
    try:
        _, answer = cluster.send(Call("GET", path, "the stack's inventory", accept=METADATA))
    except NotFound:
        return frozenset()
    return frozenset(((answer["metadata"].get("annotations") or {}).get(KINDS) or "").split())


def write(cluster: Cluster, owner: str, kinds: Collection[str]) -> None:
    """Remember ``kinds``, all of them."""
    name, namespace = name_of(owner), cluster.config.inventory_namespace
    body: JSONObject = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "annotations": {KINDS: " ".join(sorted(kinds))}},
    }
    query = {"fieldManager": field_manager(owner), "force": "true"}
    cluster.send(Call("PATCH", CONFIG_MAPS.path(namespace, name), "the stack's inventory", query, METADATA, APPLY, body))


def kind_name(served: Served) -> str:
    """Give ``Kind.group``, or ``Kind`` for the core group."""
    return f"{served.kind}.{served.group}" if served.group else served.kind


def kinds_served(remembered: Collection[str], served: Mapping[tuple[str, str], Served]) -> Iterator[Served]:
    """Give, for each remembered kind that is still served, one version of it; kinds of a CRD that is gone took their objects with it."""
    left = set(remembered)
    for one in served.values():
        if kind_name(one) in left:
            left.discard(kind_name(one))
            yield one

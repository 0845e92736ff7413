"""The stack as an ApplySet: a parent ConfigMap that remembers which kinds and namespaces hold members, so that nothing is forgotten.

The labels and annotations are those of KEP-3659, so that ``kubectl`` and other tools recognise the set and keep their hands off it. The
parent is written as a superset before the first object of a kind and shrunk after the last one is gone. Losing it is harmless as long
as one object of each kind is wanted.
"""

import base64
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from reconciler.errors import Permanent
from reconciler.resource import JSONObject
from reconciler_k8s.answers import NotFound
from reconciler_k8s.client import APPLY, METADATA, Call, Cluster, Served
from reconciler_k8s.ownership import PART_OF, field_manager

PREFIX = "applyset.kubernetes.io/"
ID = PREFIX + "id"
TOOLING = PREFIX + "tooling"
KINDS = PREFIX + "contains-group-kinds"
NAMESPACES = PREFIX + "additional-namespaces"
OUR_TOOLING = "reconciler/v1"
CONFIG_MAPS = Served("", "v1", "ConfigMap", "configmaps", True)


@dataclass(frozen=True)
class ApplySet:
    """The set of one stack in one cluster. ``namespace`` is where its parent stands."""

    owner: str
    namespace: str

    @cached_property
    def name(self) -> str:
        """The name of the parent: readable, and different for different owners."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.owner.lower()).strip("-")[:50].rstrip("-")
        return "-".join(part for part in ("reconciler", slug, hashlib.sha256(self.owner.encode()).hexdigest()[:10]) if part)

    @cached_property
    def id(self) -> str:
        """The value of the label ``part-of`` that every member carries."""
        return set_id(self.name, self.namespace, "ConfigMap", "")


def set_id(name: str, namespace: str, kind: str, group: str) -> str:
    """Give the id of the set with this parent, by the formula of KEP-3659."""
    hashed = hashlib.sha256(f"{name}.{namespace}.{kind}.{group}".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(hashed).decode().rstrip('=')}-v1"


@dataclass(frozen=True, slots=True)
class Contents:
    """What the parent remembers: kinds as ``Kind.group``, and namespaces beside its own."""

    kinds: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def __or__(self, other: "Contents") -> "Contents":
        """Give what either remembers."""
        return Contents(self.kinds | other.kinds, self.namespaces | other.namespaces)


def read(cluster: Cluster, applied: ApplySet) -> Contents:
    """Give what the parent remembers; nothing when the stack was never applied. Raises Permanent when the parent is another tool's."""
    path = CONFIG_MAPS.path(applied.namespace, applied.name)
    try:
        _, answer = cluster.send(Call("GET", path, "the stack's inventory", accept=METADATA))
    except NotFound:
        return Contents()
    annotations = answer["metadata"].get("annotations") or {}
    if annotations.get(TOOLING, OUR_TOOLING) != OUR_TOOLING:
        raise Permanent(
            f"the stack's inventory, ConfigMap {applied.namespace}/{applied.name}, is managed by {annotations[TOOLING]}; remove it there"
        )
    return Contents(_split(annotations.get(KINDS)), _split(annotations.get(NAMESPACES)))


def _split(text: str | None) -> frozenset[str]:
    return frozenset(part for part in (text or "").split(",") if part)


def write(cluster: Cluster, applied: ApplySet, contents: Contents) -> None:
    """Remember ``contents``, all of them."""
    annotations = {
        TOOLING: OUR_TOOLING,
        KINDS: ",".join(sorted(contents.kinds)),
        NAMESPACES: ",".join(sorted(contents.namespaces - {applied.namespace})),
    }
    body: JSONObject = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": applied.name, "namespace": applied.namespace, "labels": {ID: applied.id}, "annotations": annotations},
    }
    query = {"fieldManager": field_manager(applied.owner), "force": "true"}
    path = CONFIG_MAPS.path(applied.namespace, applied.name)
    cluster.send(Call("PATCH", path, "the stack's inventory", query, METADATA, APPLY, body))


def still_there(
    cluster: Cluster, applied: ApplySet, contents: Contents, needed: Contents, served: Mapping[tuple[str, str], Served]
) -> Contents:
    """Give ``contents`` without the kinds and namespaces that are not needed and hold no member any more."""
    members = list(kinds_served(contents.kinds, served))
    used = {*contents.namespaces, applied.namespace}

    def kept(one: Served) -> bool:
        return any(_holds(cluster, applied, one, place) for place in cluster.places(one, used))

    kinds = needed.kinds | {kind_name(one) for one in members if kind_name(one) not in needed.kinds and kept(one)}
    spaces = needed.namespaces | {
        space
        for space in contents.namespaces - needed.namespaces
        if any(_holds(cluster, applied, one, space) for one in members if one.namespaced and kind_name(one) in kinds)
    }
    return Contents(contents.kinds & kinds, contents.namespaces & spaces)


def _holds(cluster: Cluster, applied: ApplySet, served: Served, namespace: str) -> bool:
    try:
        return cluster.any(served, namespace, f"{PART_OF}={applied.id}")
    except NotFound:
        return False  # its CRD is gone, and its objects with it


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

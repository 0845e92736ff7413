"""The writing half of the driver: namespaces, then CRDs until they are served, then everything else, then deletions."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from reconciler.driver import Action, Change, Outcome, Ownership, Scope
from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.writing import apply_each, failed
from reconciler_k8s import applyset
from reconciler_k8s.answers import NotFound
from reconciler_k8s.client import APPLY, JSON_PATCH, MERGE_PATCH, METADATA, WHOLE, Call, Cluster, Served
from reconciler_k8s.health import condition
from reconciler_k8s.ownership import Wish, field_manager, is_ours, is_reset, make_wish
from reconciler_k8s.seals import Seal
from reconciler_k8s.sight import found_in, unserved
from reconciler_k8s.spec import KubernetesObject, config_hash

ORDER = {"Namespace": 0, "CustomResourceDefinition": 1}
POLL = 0.05
"""Seconds between two looks at something that the server finishes by itself."""
TRIES = 4
"""So often an object is looked at and deleted while its controllers keep changing it."""


@dataclass(slots=True)
class Writer:
    """One set of ready changes. ``content`` are the wanted objects of the last observation, for the hash of what pods read."""

    cluster: Cluster
    scope: Scope
    content: Mapping[ResourceId, KubernetesObject]
    served: dict[tuple[str, str], Served] = field(default_factory=dict)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make the changes, stage by stage."""
        try:
            self.served = self.served or self.cluster.discover()
            contents = self._remember(changes)
        except DriverError as error:
            return [failed(change.id, error) for change in changes]
        outcomes = [
            outcome for stage, work in self._stages(changes) for outcome in apply_each(stage, work, workers=self.cluster.config.workers)
        ]
        with suppress(DriverError):  # remembering too much is harmless, and the next writing tries again
            self._forget(contents, changes)
        return outcomes

    def _stages(self, changes: Sequence[Change]) -> Iterator[tuple[list[Change], Callable[[Change], str | None]]]:
        writes = [change for change in changes if change.action is not Action.DELETE]
        deletes = [change for change in changes if change.action is Action.DELETE]
        for rank in (0, 1, 2):
            yield [change for change in writes if ORDER.get(change.id.kind, 2) == rank], self._write
        for rank in (2, 1, 0):
            yield [change for change in deletes if ORDER.get(change.id.kind, 2) == rank], self._delete

    @property
    def applied(self) -> applyset.ApplySet:
        """The stack as an ApplySet."""
        return applyset.ApplySet(self.scope.owner, self.cluster.config.inventory_namespace)

    def _remember(self, changes: Sequence[Change]) -> applyset.Contents:
        """Write down every kind and namespace before its first object is made."""
        new = contents_of([change.desired for change in changes if change.desired is not None])
        known = applyset.read(self.cluster, self.applied)
        if (known | new) != known:
            applyset.write(self.cluster, self.applied, known | new)
        return known | new

    def _forget(self, contents: applyset.Contents, changes: Sequence[Change]) -> None:
        """Strike out kinds and namespaces that nobody wants and that hold nothing any more."""
        wanted = [one for one in self.scope.wanted.values() if isinstance(one.spec, KubernetesObject)]
        needed = contents_of([*wanted, *(change.desired for change in changes if change.desired is not None)])
        if contents.kinds <= needed.kinds and contents.namespaces <= needed.namespaces:
            return
        left = applyset.still_there(self.cluster, self.applied, contents, needed, self.served or self.cluster.discover())
        if left != contents:
            applyset.write(self.cluster, self.applied, left)

    # -- creates and updates -------------------------------------------------------------------------------------------------

    def _write(self, change: Change) -> str | None:
        assert change.desired is not None
        wish, served = self._wish(change.desired), self._serving(change)
        uid: str | None = change.handle.get("uid")
        version: str | None = change.handle.get("version")
        match change.action:
            case Action.CREATE:
                uid = self._before_create(change, served)
            case Action.REPLACE:
                uid, version = self._remove_for_replace(change, served), None
            case Action.ADOPT:
                version = self._take(change, served, version)
        if change.handle.get("reset") and uid is not None:
            version = self._reset(change, served, version)
        elif change.handle.get("tidy") and uid is not None and (metadata := self._metadata(change, served)) is not None:
            version = self._tidied(change, served, metadata, version)
        body = wish.without(change.handle.get("left") or ()).body(lambda ref: self.scope.reveal(ref).reveal())
        body["metadata"] |= {key: value for key, value in (("uid", uid), ("resourceVersion", version)) if value is not None}
        force = bool(change.handle.get("force")) and uid is not None
        answer = self._patch(change, served, APPLY, body, force=force, accept=METADATA)
        if answer["metadata"].get("deletionTimestamp"):
            raise Transient(f"{change.id}: is being deleted by somebody; it is made again once it is gone")
        if change.id.kind == "CustomResourceDefinition":
            self._until_served(change, served)
        return None

    def _wish(self, resource: Resource) -> Wish:
        assert isinstance(resource.spec, KubernetesObject)
        hashed = config_hash(resource.spec, self.content, self.scope.fingerprint)
        return make_wish(resource, self.scope, Seal.of(self.scope.fingerprint), self.applied.id, hashed)

    def _serving(self, change: Change) -> Served:
        if change.desired is None:
            return Served(*change.handle["served"])
        spec = change.desired.spec
        assert isinstance(spec, KubernetesObject)
        if (spec.api_version, spec.kind) not in self.served:
            self.served = self.cluster.discover()
        if (spec.api_version, spec.kind) not in self.served:
            raise Permanent(unserved(change.id, spec, self.served))
        return self.served[spec.api_version, spec.kind]

    def _before_create(self, change: Change, served: Served) -> str | None:
        """Look once more: server-side apply would take over what somebody made meanwhile, without a word."""
        metadata = self._metadata(change, served)
        if metadata is None:
            return None
        if found_in(served, {"metadata": metadata}, self.scope.owner, whole=False).ownership is not Ownership.OURS:
            raise Conflict(f"{change.id}: was made by somebody else since the plan; look at it and plan again")
        return str(metadata["uid"])

    def _remove_for_replace(self, change: Change, served: Served) -> str | None:
        metadata = self._metadata(change, served)
        if metadata is None or metadata["uid"] != change.handle.get("uid"):
            return self._before_create(change, served)
        self._delete_exactly(change, served, metadata)
        if not self._until_gone(change, served, metadata["uid"]):
            raise Transient(f"{change.id}: the old object is still being deleted; it is made anew once it is gone")
        return None

    def _reset(self, change: Change, served: Served, version: str | None) -> str | None:
        """Clear the way for an apply; gives the version that this made, where versions are guarded.

        The patch leaves an entry of ours beside that of our applies, and a field that both own would stay when git drops it.
        """
        guard = {"metadata": {"resourceVersion": version}} if version is not None else {}
        metadata = self._patch(change, served, MERGE_PATCH, {**change.handle["reset"], **guard})["metadata"]
        return self._tidied(change, served, metadata, str(metadata["resourceVersion"]) if version is not None else None)

    def _tidied(self, change: Change, served: Served, metadata: JSONObject, version: str | None) -> str | None:
        """Count what a reset wrote, a dead process's too, as applied; gives the version that this made, where versions are guarded."""
        if version not in (None, metadata["resourceVersion"]):
            raise Conflict(f"{change.id}: was changed since the plan; plan again")
        entries = metadata.get("managedFields") or []
        resets = [one for one in entries if is_reset(one, field_manager(self.scope.owner))]
        if resets:
            metadata = self._patch(change, served, JSON_PATCH, self._ours(entries, resets, metadata["resourceVersion"]))["metadata"]
        return str(metadata["resourceVersion"]) if version is not None else None

    def _take(self, change: Change, served: Served, version: str | None) -> str | None:
        """Rename the entries of the managers that we replace to ours, so that what git leaves out goes at our first apply.

        Gives the version that this made, where versions are guarded.
        """
        wanted = [tuple(one) for one in change.handle.get("take") or ()]
        metadata = self._metadata(change, served) if wanted else None
        if metadata is None:
            return version
        if version not in (None, metadata["resourceVersion"]):
            raise Conflict(f"{change.id}: was changed since the plan; plan again")
        entries = metadata.get("managedFields") or []
        taken = [one for one in entries if (one.get("manager"), one.get("operation")) in wanted and not one.get("subresource")]
        if not taken:
            return version
        patch = self._ours(entries, taken, metadata["resourceVersion"])
        answer = self._patch(change, served, JSON_PATCH, patch)
        return str(answer["metadata"]["resourceVersion"]) if version is not None else None

    def _ours(self, entries: Sequence[JSONObject], taken: Sequence[JSONObject], version: str) -> list[JSONObject]:
        """Give the JSON patch that makes the entries ``taken`` part of that of our applies, if the object is still at ``version``."""
        manager = field_manager(self.scope.owner)
        mine = next((one for one in entries if is_ours(one, manager)), None)
        merged: JSONObject = {}
        for one in (mine, *taken):
            _unite(merged, (one or {}).get("fieldsV1") or {})
        ours = {**(mine or taken[0]), "manager": manager, "operation": "Apply", "fieldsV1": merged}
        return _owned_by([*(one for one in entries if one not in taken and one is not mine), ours], version)

    def _patch(self, change: Change, served: Served, sort: str, body: object, *, force: bool = False, accept: str = METADATA) -> JSONObject:
        query = {"fieldManager": field_manager(self.scope.owner), **({"force": "true"} if force else {})}
        return self.cluster.send(self._call("PATCH", change, served, query, accept, sort, body))[1]

    def _call(
        self, method: str, change: Change, served: Served, query: Mapping[str, str], accept: str, sort: str = "", body: object = None
    ) -> Call:
        namespace, _, name = change.id.name.rpartition("/")
        spec = change.desired.spec if change.desired is not None else None
        confidential = change.id.kind == "Secret" or (isinstance(spec, KubernetesObject) and spec.confidential)
        return Call(method, served.path(namespace, name), str(change.id), query, accept, sort, body, confidential)

    def _metadata(self, change: Change, served: Served) -> JSONObject | None:
        try:
            found: JSONObject = self.cluster.send(self._call("GET", change, served, {}, METADATA))[1]["metadata"]
        except NotFound:
            return None
        return found

    # -- waiting -------------------------------------------------------------------------------------------------------------

    def _until_served(self, change: Change, served: Served) -> None:
        """Wait until a CRD is established and discovery names its kind; a custom resource before that is a 404."""
        deadline = time.monotonic() + self.cluster.config.wait
        while True:
            _, live = self.cluster.send(self._call("GET", change, served, {}, WHOLE))
            if condition(live, "Established").get("status") == "True":
                self.served = {}
                return
            if time.monotonic() > deadline:
                raise Transient(f"{change.id}: is not established after {self.cluster.config.wait:g} s; its kind cannot be used yet")
            time.sleep(POLL)

    def _until_gone(self, change: Change, served: Served, uid: str) -> bool:
        deadline = time.monotonic() + self.cluster.config.wait
        while True:
            metadata = self._metadata(change, served)
            if metadata is None or metadata["uid"] != uid:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL)

    # -- deletes -------------------------------------------------------------------------------------------------------------

    def _delete(self, change: Change) -> str | None:
        """Delete an object of ours. A controller may write its status between our look and our word: then we look again."""
        for _ in range(TRIES - 1):
            with suppress(Conflict):
                return self._delete_as_seen(change)
        return self._delete_as_seen(change)

    def _delete_as_seen(self, change: Change) -> str | None:
        served = self._serving(change)
        metadata = self._metadata(change, served)
        if metadata is None:
            return "was already gone"
        if metadata["uid"] != change.handle["uid"]:
            raise Conflict(f"{change.id}: is another object than the one that was planned for deletion; plan again")
        if found_in(served, {"metadata": metadata}, self.scope.owner, whole=False).ownership is not Ownership.OURS:
            raise Conflict(f"{change.id}: no longer carries our mark, so it is left alone")
        if not metadata.get("deletionTimestamp"):
            self._delete_exactly(change, served, metadata)
        if self._until_gone(change, served, metadata["uid"]):
            return None
        return "is still being deleted; finalizers or its content keep it"

    def _delete_exactly(self, change: Change, served: Served, metadata: JSONObject) -> None:
        """Delete this very version of this very object; its dependents go in the background."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
            "propagationPolicy": "Background",
        }
        try:
            self.cluster.send(self._call("DELETE", change, served, {}, WHOLE, WHOLE, body))
        except NotFound:
            return


def contents_of(resources: Sequence[Resource]) -> applyset.Contents:
    """Give the kinds and namespaces of ``resources``."""
    specs = [one.spec for one in resources if isinstance(one.spec, KubernetesObject)]
    kinds = {".".join(part for part in (spec.kind, spec.api_version.rpartition("/")[0]) if part) for spec in specs}
    return applyset.Contents(frozenset(kinds), frozenset(spec.manifest["metadata"].get("namespace", "") for spec in specs) - {""})


def _owned_by(entries: Sequence[JSONObject], version: str) -> list[JSONObject]:
    """Give the JSON patch that writes who owns what, if the object is still at ``version``."""
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "replace", "path": "/metadata/managedFields", "value": list(entries)},
    ]


def _unite(target: JSONObject, fields: JSONObject) -> None:
    for name, below in fields.items():
        _unite(target.setdefault(name, {}), below)

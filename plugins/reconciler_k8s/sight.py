"""What one look at one live object found, and what the server predicts for it. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.driver import Mark, Ownership
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_k8s.client import Served
from reconciler_k8s.expected import said
from reconciler_k8s.ownership import (
    Claim,
    Wish,
    conflicting_managers,
    our_entry,
    ownership_of,
    paths_of,
    unfinished,
)
from reconciler_k8s.spec import KubernetesObject


@dataclass(slots=True)
class Found:
    """One live object met on the way: its metadata, and the whole when it was read."""

    served: Served
    metadata: JSONObject
    whole: JSONObject | None
    ownership: Ownership
    mark: Mark | None

    @property
    def id(self) -> ResourceId:
        """Give the resource id that the object's own name means."""
        return ResourceId("k8s", self.served.full_kind, natural_name(self.metadata))


def natural_name(metadata: JSONObject) -> str:
    """Give ``namespace/name`` or ``name``."""
    return f"{metadata['namespace']}/{metadata['name']}" if metadata.get("namespace") else str(metadata["name"])


def content_of(wanted: Iterable[Resource]) -> dict[ResourceId, KubernetesObject]:
    """Give the objects of a stack that pods may read from."""
    return {one.id: one.spec for one in wanted if isinstance(one.spec, KubernetesObject)}


def with_rotations(before: JSONObject, after: JSONObject, wish: Wish, stored: dict[str, str]) -> tuple[JSONObject, JSONObject]:
    """Show references whose value changed while the live text, which is not read, seems equal."""
    moved = {path: print_ for path, print_ in wish.prints.items() if stored[f"secret:{print_}"] != f"secret:{print_}"}
    shown = json.dumps([before, after])
    hidden = {path: print_ for path, print_ in moved.items() if f"secret:{print_}" not in shown}
    if not hidden:
        return before, after
    old = {path: stored[f"secret:{print_}"] for path, print_ in hidden.items()}
    return {**before, "secrets": old}, {**after, "secrets": {path: f"secret:{print_}" for path, print_ in hidden.items()}}


def with_unfinished(shown: tuple[JSONObject, JSONObject], metadata: JSONObject, manager: str) -> tuple[JSONObject, JSONObject]:
    """Show that an earlier write of ours came to an end halfway, so that the next one clears up after it."""
    before, after = shown
    if not unfinished(metadata, manager):
        return shown
    return {**before, "ownership": "half of an earlier write"}, {**after, "ownership": "as applied"}


def found_in(served: Served, item: JSONObject, owner: str, *, whole: bool) -> Found:
    """Take an object from an answer. A mark that names another object was copied and counts for nothing."""
    metadata = item["metadata"]
    ownership, mark = ownership_of(metadata, owner)
    if mark is not None and (mark.kind, mark.name) != (served.full_kind, natural_name(metadata)):
        ownership, mark = Ownership.UNMARKED, None
    return Found(served, metadata, item if whole else None, ownership, mark)


def unserved(id: ResourceId, spec: KubernetesObject, served: Mapping[tuple[str, str], Served]) -> str:
    """Say that this cluster has no such kind, or has it in other versions only."""
    others = sorted(one.api_version for one in served.values() if (one.full_kind, one.kind) == (spec.full_kind, spec.kind))
    what = f"move the manifest to {' or '.join(others)}" if others else "install its CRD"
    return f"{id}: the cluster serves no {spec.kind} in {spec.api_version}; {what}"


def handle_of(found: Found) -> JSONObject:
    """Give what a later write needs: which object was meant, and how its kind is served."""
    one = found.served
    return {
        "uid": found.metadata["uid"],
        "served": [one.group, one.version, one.kind, one.plural, one.namespaced],
    }


def with_kind(found: Found) -> JSONObject:
    """Give the object as far as it was read, with its kind as ids have it, which lists leave out."""
    return {**(found.whole or {"metadata": found.metadata}), "kind": found.served.full_kind}


def reset_for(manifest: JSONObject, refusal: str) -> JSONObject | None:
    """Give the merge patch that clears the way for an apply which the server refuses although the wish is possible in place.

    A defaulted ``rollingUpdate`` forbids Recreate and cannot be applied away; a port whose number somebody changed has become another
    list item beside ours, with the same name.
    """
    spec = manifest.get("spec") or {}
    if (
        KubernetesObject.kind_of(manifest) == "Deployment"
        and "spec.strategy.rollingUpdate" in refusal
        and (spec.get("strategy") or {}).get("type") == "Recreate"
    ):
        return {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}
    if (
        KubernetesObject.kind_of(manifest) == "Service"
        and "spec.ports" in refusal
        and ("name" in refusal or "nodePort" in refusal)
        and spec.get("ports")
    ):
        return {"spec": {"ports": spec["ports"]}}
    return None


def completed(reset: JSONObject) -> JSONObject:
    """Give what such a patch leads to: the server fills in the defaults of a port, so that they are no difference."""
    ports = reset["spec"].get("ports")
    if ports is None:
        return reset
    return {"spec": {"ports": [{"protocol": "TCP", "targetPort": port.get("port"), **port} for port in ports]}}


@dataclass(slots=True)
class Prediction:
    """What the server says an apply would do to one live object."""

    live_metadata: JSONObject
    answer: JSONObject = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    force: bool = False
    reset: JSONObject | None = None
    refused: str = ""
    left: dict[str, str] = field(default_factory=dict)

    def _taken(self, manager: str) -> list[JSONObject]:
        entry = our_entry(self.answer.get("metadata") or {}, manager)
        return conflicting_managers(self.live_metadata, manager, (entry or {}).get("fieldsV1") or {})

    def handle(self, *, adopt: bool, manager: str) -> JSONObject:
        """Give what the write must do besides the apply."""
        found: JSONObject = {"force": True} if self.force or adopt else {}
        if self.left:
            found["left"] = sorted(self.left)
        if self.reset is not None:
            found["reset"] = self.reset
        elif unfinished(self.live_metadata, manager):
            found["tidy"] = True
        if adopt:
            found["take"] = [[entry["manager"], entry["operation"]] for entry in self._taken(manager)]
        return found

    def notes(self, *, adopt: bool, manager: str) -> tuple[str, ...]:
        """Tell what an adoption removes: fields of the managers it replaces that git does not name."""
        remarks = said(self.left)
        if not adopt:
            return remarks
        ours = set(paths_of((our_entry(self.answer.get("metadata") or {}, manager) or {}).get("fieldsV1") or {}))
        told = list(remarks)
        for entry in self._taken(manager):
            lost = sorted(
                ".".join(part[2:] for part in path) for path in paths_of(entry.get("fieldsV1") or {}, members=False) if path not in ours
            )
            if lost:
                told.append(
                    f"takes over from {entry['manager']}, whose other fields go: {', '.join(lost[:10])}"
                    + (" ..." if len(lost) > 10 else "")
                )
        return tuple(told)

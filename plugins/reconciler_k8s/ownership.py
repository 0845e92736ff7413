"""Whose is an object, and whose is a field: our marks on an object, and the reading of ``managedFields``.

Pure. A field that somebody else changed has left the entry of our field manager, so a compare of names alone finds every drift and
reads no value. The rules of ``managedFields`` are those of Kubernetes' server-side apply (reference/using-api/server-side-apply).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from reconciler.driver import Evidence, Mark, Ownership, Scope
from reconciler.resource import JSONObject, Resource
from reconciler_k8s.references import pod_template
from reconciler_k8s.seals import Seal
from reconciler_k8s.spec import CONFIG_HASH, KubernetesObject

PART_OF = "applyset.kubernetes.io/part-of"
MARK = "reconciler/mark"
HASH = "reconciler/hash"
FINGERPRINTS = "reconciler/fingerprints"
KEY_DEFAULTS: Mapping[str, Any] = {"protocol": "TCP"}
"""Defaults of fields that are keys of a list; a manifest may leave them out, ``managedFields`` never does."""


def field_manager(owner: str) -> str:
    """Give the one field manager of a stack; two stacks under one name would overwrite each other without a word."""
    return f"reconciler:{owner}"


@dataclass(frozen=True, slots=True)
class Wish:
    """One wanted object with everything that its label and its annotations will say. ``part_of`` is the id of the stack's ApplySet."""

    resource: Resource
    spec: KubernetesObject
    part_of: str
    mark: str
    hash: str
    prints: Mapping[str, str]
    config_hash: str

    @property
    def namespace(self) -> str:
        """Give the namespace; empty for an object of the whole cluster."""
        return str(self.spec.manifest["metadata"].get("namespace", ""))

    @property
    def annotations(self) -> dict[str, str]:
        """Give our annotations."""
        ours = {MARK: self.mark, HASH: self.hash}
        return {**ours, FINGERPRINTS: json.dumps(self.prints, sort_keys=True)} if self.prints else ours

    def without(self, paths: Collection[str]) -> "Wish":
        """Give the same wish, saying nothing about ``paths`` (JSON pointers)."""
        return replace(self, spec=self.spec.without(tuple(paths))) if paths else self

    def body(self, text_of: Any) -> JSONObject:
        """Build the object to send, with label, annotations and the hash of its configuration."""
        body = self.spec.wire(text_of)
        body = {**body, "metadata": decorated(body["metadata"], self)}
        return with_config_hash(body, self.config_hash) if self.config_hash else body


def make_wish(resource: Resource, scope: Scope, seal: Seal, part_of: str, config_hash: str) -> Wish:
    """Work out what the annotations of ``resource`` must say. Cheap: it reuses the digest that the resource already has.

    The hash has two parts: what git asks for, and what else is written (the values of secrets, the content that pods read).
    """
    assert isinstance(resource.spec, KubernetesObject)
    spec = resource.spec.without(resource.policy.ignore)
    prints = {"/".join(path): scope.fingerprint(ref) for path, ref in spec.references}
    if spec.full_kind == "Secret":
        plain = {f"data/{key}": seal.of_git(value) for key, value in spec.manifest.get("data", {}).items() if isinstance(value, str)}
        prints = {**plain, **prints}
    rest = json.dumps([prints, config_hash], sort_keys=True) if prints or config_hash else ""
    hashed = f"{seal(wanted(resource))}.{seal(rest)}"
    return Wish(resource, spec, part_of, str(Mark.of(resource, scope)), hashed, prints, config_hash)


def wanted(resource: Resource) -> str:
    """Give the text that changes when git asks for something else; a field that is no longer ignored is asked for anew."""
    return " ".join((resource.digest, *resource.policy.ignore))


def decorated(metadata: JSONObject, wish: Wish) -> JSONObject:
    """Give ``metadata`` with our label and annotations."""
    return {
        **metadata,
        "labels": {**metadata.get("labels", {}), PART_OF: wish.part_of},
        "annotations": {**metadata.get("annotations", {}), **wish.annotations},
    }


def with_config_hash(body: JSONObject, value: str) -> JSONObject:
    """Write the hash into the pod template, where a change of it makes new pods."""
    template = pod_template(body)
    if template is not None:
        metadata = template.setdefault("metadata", {})
        metadata["annotations"] = {**metadata.get("annotations", {}), CONFIG_HASH: value}
    return body


def differs_by_config_hash(before: JSONObject, after: JSONObject) -> bool:
    """Say whether two forms of a workload differ in nothing but the hash of what its pods read."""
    return before != after and _without_config_hash(before) == _without_config_hash(after)


def _without_config_hash(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_config_hash(item) for key, item in value.items() if key != CONFIG_HASH}
        return {key: item for key, item in kept.items() if item not in ({}, None)}
    return [_without_config_hash(item) for item in value] if isinstance(value, list) else value


def ownership_of(metadata: JSONObject, owner: str) -> tuple[Ownership, Mark | None]:
    """Say whose a live object is, by its mark; the label alone proves nothing."""
    mark = Mark.parse((metadata.get("annotations") or {}).get(MARK, ""))
    return (mark.ownership(owner), mark) if mark is not None else (Ownership.UNMARKED, None)


def our_entry(metadata: JSONObject, manager: str) -> JSONObject | None:
    """Give the managedFields entry of our applies, or None."""
    return next((dict(entry) for entry in metadata.get("managedFields") or () if is_ours(entry, manager)), None)


def is_ours(entry: JSONObject, manager: str) -> bool:
    """Say whether an entry of managedFields is that of our applies."""
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")


def is_reset(entry: JSONObject, manager: str) -> bool:
    """Say whether an entry of managedFields is that of a reset of ours."""
    mine = entry.get("manager") == manager and entry.get("operation") == "Update" and not entry.get("subresource")
    return mine and "f:spec" in (entry.get("fieldsV1") or {})


def unfinished(metadata: JSONObject, manager: str) -> bool:
    """Say whether a reset of ours was not followed by an apply: what only it owns would stay when git drops it."""
    return any(is_reset(entry, manager) for entry in metadata.get("managedFields") or ())


def in_sync(wish: Wish, metadata: JSONObject, scope: Scope) -> bool:
    """Say whether the live object is what we last applied, and that is what is wanted; by names and digests only."""
    annotations = metadata.get("annotations") or {}
    if annotations.get(HASH) != wish.hash or annotations.get(MARK) != wish.mark:
        return False
    entry = our_entry(metadata, field_manager(scope.owner))
    if entry is None or entry.get("apiVersion") != wish.spec.api_version:
        return False
    return owns(entry.get("fieldsV1") or {}, wish)


def owns(fields: JSONObject, wish: Wish) -> bool:
    """Say whether ``fields`` (FieldsV1) names exactly the fields that ``wish`` would send."""
    manifest = fold_names(wish.spec.manifest)
    metadata = decorated(manifest["metadata"], wish)
    metadata = {key: value for key, value in metadata.items() if key not in ("name", "namespace")}
    whole = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    whole["metadata"] = metadata
    if wish.config_hash:
        whole = with_config_hash(
            json.loads(json.dumps({**whole, "apiVersion": wish.spec.api_version, "kind": wish.spec.kind}, default=lambda ref: "")),
            wish.config_hash,
        )
        del whole["kind"], whole["apiVersion"]
    return covers(fields, whole)


def fold_names(manifest: JSONObject) -> JSONObject:
    """Give the manifest with the names under stringData counted as those of data, as the server does."""
    if "stringData" not in manifest:
        return manifest
    rest = {key: value for key, value in manifest.items() if key != "stringData"}
    return {**rest, "data": {**rest.get("data", {}), **manifest["stringData"]}}


def covers(fields: JSONObject, value: Any) -> bool:
    """Say whether the set ``fields`` names exactly what ``value`` holds. The set itself tells which lists are merged by key."""
    if not fields:
        return True
    left = len(fields) - ("." in fields)
    if not left:
        return not value or not isinstance(value, dict | list)
    if isinstance(value, list):
        return _covers_list(fields, value)
    if not isinstance(value, dict):
        return False
    for key, item in value.items():
        below = fields.get("f:" + key)
        if below is None and item != []:  # a list merged by key is not owned while it is empty
            return False
        left -= below is not None
        if below and not covers(below, item):
            return False
    return left == 0


def _covers_list(fields: JSONObject, items: list[Any]) -> bool:
    entries = [name for name in fields if name != "."]
    if len(entries) != len(items):
        return False
    if entries[0].startswith("v:"):
        return {name[2:] for name in entries} == {json.dumps(item) for item in items}
    for name in entries:
        keys = _keys(name)
        found = next((item for item in items if isinstance(item, dict) and _has_keys(item, keys)), None)
        if found is None or not covers(_without_defaulted_keys(fields[name], keys, found), found):
            return False
    return True


@lru_cache(maxsize=10_000)
def _keys(name: str) -> JSONObject:
    """Read the name of a list item, ``k:{"port":25}``; the same few occur in every object of a kind."""
    found: JSONObject = json.loads(name[2:])
    return found


def _has_keys(item: JSONObject, keys: JSONObject) -> bool:
    return all(item.get(key, KEY_DEFAULTS.get(key)) == value for key, value in keys.items())


def _without_defaulted_keys(fields: JSONObject, keys: JSONObject, item: JSONObject) -> JSONObject:
    return {name: below for name, below in fields.items() if name == "." or name[2:] not in keys or name[2:] in item}


@dataclass(frozen=True, slots=True)
class Claim:
    """One foreign hold on a field that we want: as the server's conflict names it."""

    manager: str
    subresource: str
    field: str

    def __str__(self) -> str:
        """Say it for a person."""
        return f"{self.field} belongs to {self.manager}" + (f" (by {self.subresource})" if self.subresource else "")


_CONFLICT = re.compile(r'conflict with "(?P<manager>[^"]*)"(?: with subresource "(?P<subresource>[^"]*)")?')


def claims(causes: list[JSONObject]) -> list[Claim]:
    """Read the causes of a 409 answer to an apply."""
    found = []
    for cause in causes:
        match = _CONFLICT.match(str(cause.get("message", "")))
        if cause.get("reason") == "FieldManagerConflict" and match is not None:
            found.append(Claim(match["manager"], match["subresource"] or "", str(cause.get("field", ""))))
    return found


def paths_of(fields: JSONObject, prefix: tuple[str, ...] = (), *, members: bool = True) -> Iterator[tuple[str, ...]]:
    """Walk a FieldsV1 set as tuples of its own names; ``members`` includes the objects and list items that are owned as such."""
    for name, below in fields.items():
        if name == ".":
            yield from (prefix,) if members else ()
        elif below:
            yield from paths_of(below, (*prefix, name), members=members)
        else:
            yield (*prefix, name)


def evidence_of(metadata: JSONObject, manager: str) -> Evidence | None:
    """Name the last other writer of the object's own fields: by what name, when, how."""
    others = [
        entry
        for entry in metadata.get("managedFields") or ()
        if entry.get("manager") != manager and entry.get("subresource") != "status" and entry.get("manager") != "before-first-apply"
    ]
    if not others:
        return None
    last = max(others, key=lambda entry: str(entry.get("time", "")))
    how = str(last.get("operation", "")) + (f" of {last['subresource']}" if last.get("subresource") else "")
    when = datetime.fromisoformat(last["time"]) if last.get("time") else None
    return Evidence(str(last.get("manager", "")), when, how)


def conflicting_managers(metadata: JSONObject, manager: str, wanted: JSONObject) -> list[JSONObject]:
    """List the foreign entries that own a field of ``wanted`` (FieldsV1); subresources are controllers at work and stay."""
    mine = set(paths_of(wanted))
    return [
        entry
        for entry in metadata.get("managedFields") or ()
        if entry.get("manager") != manager and not entry.get("subresource") and mine & set(paths_of(entry.get("fieldsV1") or {}))
    ]

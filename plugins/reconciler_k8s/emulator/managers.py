"""Who owns which field: the bookkeeping of ``managedFields`` round every write."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.merging import Path, Paths, compare, decode, encode, fields_of, merge, remove, with_parents
from reconciler_k8s.emulator.shapes import Shape

UNTRACKED_METADATA = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
)
UNTRACKED = frozenset(("f:metadata", "f:" + name) for name in UNTRACKED_METADATA) | {
    ("f:apiVersion",),
    ("f:kind",),
    ("f:metadata",),
    ("f:metadata", "f:deletionGracePeriodSeconds"),
}


@dataclass(frozen=True, slots=True)
class Key:
    """One entry's identity. The API version is part of an updater's, but not of an applier's."""

    manager: str
    operation: str
    version: str
    subresource: str


@dataclass(slots=True)
class Entry:
    """One manager's fields."""

    manager: str
    operation: str
    version: str
    subresource: str
    paths: Paths
    time: str = ""

    @property
    def key(self) -> Key:
        """Give the identity."""
        return Key(self.manager, self.operation, "" if self.operation == "Apply" else self.version, self.subresource)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who writes now, by which operation, through which subresource."""

    manager: str
    operation: str
    version: str
    subresource: str = ""
    now: str = ""

    @property
    def key(self) -> Key:
        """Give the identity of this actor's entry."""
        return Entry(self.manager, self.operation, self.version, self.subresource, frozenset()).key


class FieldConflicts(Exception):
    """An apply without force would take fields from others: (entry, path) pairs."""

    def __init__(self, found: list[tuple[Entry, Path]]) -> None:
        self.found = found
        super().__init__("conflict")


@dataclass(slots=True)
class Managers:
    """All entries of one object."""

    entries: dict[Key, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, live: JSONObject | None) -> "Managers":
        """Read an object's managedFields."""
        result = cls()
        for raw in ((live or {}).get("metadata") or {}).get("managedFields") or ():
            if raw.get("manager") is None and not raw.get("fieldsV1"):
                continue
            entry = Entry(
                raw.get("manager", ""),
                raw.get("operation", "Update"),
                raw.get("apiVersion", ""),
                raw.get("subresource", ""),
                frozenset(decode(raw.get("fieldsV1") or {})),
                raw.get("time", ""),
            )
            result.entries[entry.key] = entry
        return result

    def write(self) -> list[JSONObject]:
        """Give the managedFields, in the server's order."""
        found = []
        for entry in sorted(self.entries.values(), key=lambda one: (one.operation, one.time, one.manager)):
            raw: JSONObject = {"manager": entry.manager, "operation": entry.operation, "apiVersion": entry.version}
            raw |= {"time": entry.time} if entry.time else {}
            raw |= {"fieldsType": "FieldsV1", "fieldsV1": encode(entry.paths)}
            found.append(raw | ({"subresource": entry.subresource} if entry.subresource else {}))
        return found

    def _drop_empty(self) -> None:
        self.entries = {key: entry for key, entry in self.entries.items() if entry.paths}

    def _settle(self, live: JSONObject, new: JSONObject, shape: Shape, actor: Actor, *, force: bool) -> tuple[set[Path], set[Path]]:
        """Take from the others what the actor changed; give (changed, removed)."""
        found = compare(live, new, shape)
        changed = found.modified | found.added
        conflicts = [(entry, path) for key, entry in self.entries.items() if key != actor.key for path in sorted(entry.paths & changed)]
        if conflicts and not force:
            raise FieldConflicts(conflicts)
        for key, entry in self.entries.items():
            if key != actor.key and entry.paths & (changed | found.removed):
                self.entries[key] = Entry(
                    entry.manager, entry.operation, entry.version, entry.subresource, entry.paths - changed - found.removed, entry.time
                )
        return changed, found.removed

    def update(self, live: JSONObject, new: JSONObject, shape: Shape, actor: Actor, ignored: Callable[[Path], bool]) -> None:
        """Record a plain write."""
        changed, removed = self._settle(bare(live), bare(new), shape, actor, force=True)
        mine = self.entries.get(actor.key)
        before = mine.paths if mine is not None else frozenset()
        after = frozenset(path for path in (before - removed) | changed if path not in UNTRACKED and not ignored(path))
        self.entries[actor.key] = Entry(
            actor.manager,
            actor.operation,
            actor.version,
            actor.subresource,
            after,
            actor.now if after != before or changed else (mine.time if mine else actor.now),
        )
        self._drop_empty()

    def apply(
        self, live: JSONObject, config: JSONObject, shape: Shape, actor: Actor, ignored: Callable[[Path], bool], *, force: bool
    ) -> JSONObject:
        """Merge an applied configuration and record it. Raises FieldConflicts."""
        live = bare(live)
        merged: JSONObject = merge(live, config, shape)
        mine = self.entries.get(actor.key)
        last = mine.paths if mine is not None else frozenset()
        owned = frozenset(path for path in fields_of(config, shape) if path not in UNTRACKED and not ignored(path))
        self.entries[actor.key] = Entry(
            actor.manager, "Apply", actor.version, actor.subresource, owned, mine.time if mine is not None else ""
        )
        if last:
            kept = with_parents(frozenset(fields_of(config, shape)).union(*(entry.paths for entry in self.entries.values())))
            merged = remove(merged, shape, with_parents(last) - kept)
        changed, gone = self._settle(live, merged, shape, actor, force=force)
        if changed or gone or not live.get("metadata", {}).get("uid"):
            self.entries[actor.key].time = actor.now
        self._drop_empty()
        return merged


def bare(whole: Mapping[str, Any]) -> JSONObject:
    """Give the object without its managedFields."""
    result = deepcopy(dict(whole))
    if "metadata" in result:
        result["metadata"].pop("managedFields", None)
    return result


def timeless(whole: Mapping[str, Any] | None) -> JSONObject:
    """Give the object with no times in its managedFields: a write that would change nothing but those changes nothing."""
    if whole is None:
        return {}
    fields = whole["metadata"].get("managedFields") or ()
    without = [{key: value for key, value in one.items() if key != "time"} for one in fields]
    ordered = sorted(without, key=lambda one: (one.get("operation", ""), one.get("manager", ""), one.get("subresource", "")))
    return {**whole, "metadata": {**whole["metadata"], "managedFields": ordered}}

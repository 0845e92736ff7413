"""KV version 2 as this plugin uses it: metadata and key names for seeing, check-and-set for writing, values for nobody but a reader.

Knows paths, not resources.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from reconciler.driver import Scope
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, SecretValue
from reconciler_vault.client import Vault


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a path without reading it. ``alive`` is false when no data was ever written or the newest version is deleted.

    ``names`` are the keys of the newest version; none when it is deleted, None when they were not asked for.
    """

    version: int
    alive: bool
    written: datetime | None = None
    custom: Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] | None = None

    @classmethod
    def from_native(cls, data: JSONObject, now: datetime) -> Self:
        """Read the answer of ``GET metadata``. A deletion time in the future means that the version still lives."""
        number = int(data.get("current_version") or 0)
        newest = (data.get("versions") or {}).get(str(number)) or {}
        return cls._of(number, newest, data.get("custom_metadata"), now, None)

    @classmethod
    def from_subkeys(cls, data: JSONObject, now: datetime) -> Self:
        """Read the answer of ``GET subkeys``, which knows the newest version and all of the custom metadata beside the names."""
        facts = data.get("metadata") or {}
        found = cls._of(int(facts.get("version") or 0), facts, facts.get("custom_metadata"), now, frozenset(data.get("subkeys") or ()))
        return found if found.alive else replace(found, names=frozenset())

    @classmethod
    def _of(cls, number: int, newest: JSONObject, custom: Mapping[str, Any] | None, now: datetime, names: frozenset[str] | None) -> Self:
        ends, created = newest.get("deletion_time") or "", newest.get("created_time") or ""
        gone = bool(newest.get("destroyed")) or (bool(ends) and datetime.fromisoformat(ends) <= now)
        notes = {str(key): str(value) for key, value in (custom or {}).items()}
        return cls(number, bool(newest) and not gone, datetime.fromisoformat(created) if created else None, notes, names)

    @property
    def tombstone(self) -> bool:
        """True when the newest version was deleted or destroyed: somebody meant it."""
        return self.version > 0 and not self.alive


class KV:
    """The calls, by path with mount. Which part of a path is the mount is asked of the server once for each mount."""

    def __init__(self, vault: Vault) -> None:
        """Use ``vault`` for every call."""
        self._vault = vault
        self._mounts: frozenset[str] = frozenset()  # replaced as a whole, because other threads go through it

    def metadata(self, path: str, scope: Scope) -> Metadata | None:
        """See a path without its values; None when there is nothing."""
        data = self._vault.get(self._at(path, "metadata", scope), scope)
        return None if data is None else Metadata.from_native(data, datetime.now(UTC))

    def look(self, path: str, scope: Scope) -> Metadata | None:
        """See a path and the names of its keys, in one call where there is any version; None when there is nothing."""
        data = self._vault.get(self._at(path, "subkeys", scope), scope, params={"depth": "1"}, deleted=True)
        return Metadata.from_subkeys(data, datetime.now(UTC)) if data else self._without_versions(path, scope)

    def _without_versions(self, path: str, scope: Scope) -> Metadata | None:
        found = self.metadata(path, scope)
        return None if found is None else replace(found, names=frozenset())

    def key_names(self, path: str, scope: Scope) -> frozenset[str]:
        """Name the keys of the newest version; none when it is deleted."""
        found = self.look(path, scope)
        return (found.names or frozenset()) if found is not None else frozenset()

    def names(self, path: str, scope: Scope) -> list[str]:
        """List the names below a folder; those that end with a slash are folders."""
        return self._vault.list(self._at(path, "metadata", scope), scope)

    def read(self, path: str, scope: Scope) -> tuple[str, dict[str, SecretValue]] | None:
        """Read the newest version: its number and all values; None when there is none. Values that are not texts come as JSON."""
        answer = self._vault.get(self._at(path, "data", scope), scope, sensitive=True) or {}
        data, metadata = answer.get("data"), answer.get("metadata") or {}
        if not isinstance(data, dict):
            return None
        values = {key: SecretValue(value if isinstance(value, str) else json.dumps(value)) for key, value in data.items()}
        return str(metadata.get("version") or ""), values

    def create_metadata(self, path: str, custom: Mapping[str, str], scope: Scope) -> None:
        """Make a path that holds metadata only. Never call it on one that exists: it would replace what other tools noted there."""
        self._vault.write("POST", self._at(path, "metadata", scope, writing=True), {"custom_metadata": dict(custom)}, scope)

    def note(self, path: str, custom: Mapping[str, str | None], scope: Scope) -> None:
        """Merge into the custom metadata; None takes a key away. Other tools' notes stay."""
        self._vault.write("PATCH", self._at(path, "metadata", scope, writing=True), {"custom_metadata": dict(custom)}, scope)

    def put(self, path: str, values: Mapping[str, SecretValue], cas: int, scope: Scope) -> int:
        """Write a first version, or one after a deletion, if the current version is still ``cas``. Gives the new version."""
        return self._write("POST", path, values, cas, scope)

    def patch(self, path: str, values: Mapping[str, SecretValue], cas: int, scope: Scope) -> int:
        """Set some keys of a live secret, if the current version is still ``cas``; the others stay unread. Gives the new version."""
        return self._write("PATCH", path, values, cas, scope)

    def delete(self, path: str, version: int, scope: Scope) -> None:
        """Soft-delete one version; ``undelete`` brings it back.

        Never ``DELETE data``: that takes the newest version, whoever wrote it, and knows no check-and-set.
        """
        self._vault.write("POST", self._at(path, "delete", scope, writing=True), {"versions": [version]}, scope)

    def purge(self, path: str, scope: Scope) -> None:
        """Destroy every version and the metadata, for good."""
        self._vault.write("DELETE", self._at(path, "metadata", scope, writing=True), None, scope)

    def _write(self, method: str, path: str, values: Mapping[str, SecretValue], cas: int, scope: Scope) -> int:
        body: dict[str, Any] = {"data": {key: value.reveal() for key, value in values.items()}, "options": {"cas": cas}}
        answer = self._vault.write(method, self._at(path, "data", scope, writing=True), body, scope, sensitive=True)
        return int(answer.get("version") or cas + 1)

    def _at(self, path: str, area: str, scope: Scope, *, writing: bool = False) -> str:
        mount = self._mount(path, scope, writing=writing)
        return f"{mount}/{area}/{path[len(mount) + 1 :]}"

    def _mount(self, path: str, scope: Scope, *, writing: bool) -> str:
        """Find the mount of ``path``. One that cannot be seen yet may be read under its first part, but never written."""
        for mount in self._mounts:
            if path.startswith(mount + "/"):
                return mount
        try:
            found = self._vault.get(f"sys/internal/ui/mounts/{path}", scope) or {}
        except Permanent:
            found = {}  # the server says 403 both for a mount that is not there and for one that the token may not see
        mount = str(found.get("path") or "").strip("/")
        if not mount and writing:
            raise Permanent(f"{path}: there is no secrets engine here, or the token has no rights below it; mount kv with version 2 first")
        if not mount:
            return path.split("/", 1)[0]
        if found.get("type") != "kv" or str((found.get("options") or {}).get("version")) != "2":
            raise Permanent(f"{path}: the mount {mount}/ is not kv version 2; upgrade it or name another path")
        self._mounts |= {mount}
        return mount

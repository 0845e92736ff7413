"""The KV engine, version 2: versions, check-and-set, tombstones, metadata and its limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.resource import JSONObject
from reconciler_vault.emulator.wire import Call, Clock, Refused, duration, unsupported

CAS_MISSING = "check-and-set parameter required for this call"
CAS_WRONG = "check-and-set parameter did not match the current version"
MERGE_PATCH = "application/merge-patch+json"


@dataclass(slots=True)
class Version:
    """One version of the data; ``ends`` is the deletion time, empty while it lives."""

    data: JSONObject | None
    created: str
    ends: str = ""
    destroyed: bool = False

    @property
    def alive(self) -> bool:
        """True while it can be read."""
        return not self.ends and not self.destroyed

    def facts(self) -> JSONObject:
        """Give what metadata shows of it."""
        return {"created_time": self.created, "deletion_time": self.ends, "destroyed": self.destroyed}


@dataclass(slots=True)
class Entry:
    """One path."""

    created: str
    updated: str
    current: int = 0
    oldest: int = 0
    versions: dict[int, Version] = field(default_factory=dict)
    custom: dict[str, str] | None = None
    max_versions: int = 0
    cas_required: bool = False
    delete_after: int = 0


class KVEngine:
    """One mount."""

    def __init__(self, clock: Clock) -> None:
        """Begin empty."""
        self._clock = clock
        self.entries: dict[str, Entry] = {}
        self._config: JSONObject = {"max_versions": 0, "cas_required": False, "delete_version_after": "0s"}

    def exists(self, path: str) -> bool:
        """Answer the existence check of the access control: a write is an update when there is metadata."""
        return path.partition("/")[2] in self.entries

    def serve(self, call: Call) -> JSONObject | None:
        """Answer one call below the mount; None for an answer without a body."""
        area, _, path = call.path.partition("/")
        handler = {
            "config": self._configure,
            "data": self._data,
            "metadata": self._metadata,
            "subkeys": self._subkeys,
            "delete": self._mark,
            "undelete": self._mark,
            "destroy": self._mark,
        }.get(area)
        if handler is None:
            raise Refused(404)
        return handler(call, path)

    def _configure(self, call: Call, path: str) -> JSONObject | None:
        if call.verb == "GET":
            return {"data": dict(self._config)}
        self._config.update({key: call.body[key] for key in self._config if key in call.body})
        return None

    def _data(self, call: Call, path: str) -> JSONObject | None:
        match call.verb:
            case "GET":
                return {"data": self._read(path, call.params)}
            case "POST" | "PUT":
                return {"data": self._put(path, call.body)}
            case "PATCH":
                return {"data": self._patch(path, call)}
            case "DELETE":
                entry = self.entries.get(path)
                if entry and entry.current and entry.versions[entry.current].alive:
                    entry.versions[entry.current].ends = self._clock.stamp()
                return None
        raise unsupported()

    def _version(self, path: str, params: Mapping[str, str]) -> tuple[Entry, int, Version]:
        entry = self.entries.get(path)
        number = int(params.get("version", 0)) or (entry.current if entry else 0)
        if entry is None or number not in entry.versions:
            raise Refused(404)
        return entry, number, entry.versions[number]

    def _read(self, path: str, params: Mapping[str, str], *, subkeys: bool = False) -> JSONObject:
        entry, number, version = self._version(path, params)
        metadata = {"version": number, "custom_metadata": entry.custom, **version.facts()}
        word = "subkeys" if subkeys else "data"
        if not version.alive:
            raise Refused(404, data={word: None, "metadata": metadata})
        data = _blank(version.data, int(params.get("depth", 0))) if subkeys else version.data
        return {word: data, "metadata": metadata}

    def _subkeys(self, call: Call, path: str) -> JSONObject | None:
        if call.verb != "GET":
            raise unsupported()
        return {"data": self._read(path, call.params, subkeys=True)}

    def _put(self, path: str, body: JSONObject) -> JSONObject:
        if not isinstance(body.get("data"), dict):
            raise Refused(400, "no data provided")
        entry = self.entries.get(path)
        self._check_cas(entry, body)
        if entry is None:
            entry = self.entries[path] = Entry(self._clock.stamp(), self._clock.stamp())
        return self._add(entry, body["data"])

    def _patch(self, path: str, call: Call) -> JSONObject:
        self._check_patch(call)
        if not isinstance(call.body.get("data"), dict):
            raise Refused(400, "no data provided")
        entry = self.entries.get(path)
        if entry is None or not entry.current:
            raise Refused(404, bare=True)
        newest = entry.versions[entry.current]
        self._check_cas(entry, call.body)
        if not newest.alive or newest.data is None:
            raise Refused(404, data={"version": entry.current, "custom_metadata": entry.custom, **newest.facts()})
        merged = _merge(newest.data, call.body["data"])
        assert isinstance(merged, dict)
        return self._add(entry, merged)

    def _check_patch(self, call: Call) -> None:
        kind = call.headers.get("content-type", "").partition(";")[0]
        if kind != MERGE_PATCH:
            raise Refused(415, f"PATCH requires Content-Type of {MERGE_PATCH}, provided {kind}")

    def _check_cas(self, entry: Entry | None, body: JSONObject) -> None:
        cas = (body.get("options") or {}).get("cas")
        if cas is None and (self._config["cas_required"] or (entry is not None and entry.cas_required)):
            raise Refused(400, CAS_MISSING)
        if cas is not None and int(cas) != (entry.current if entry else 0):
            raise Refused(400, CAS_WRONG)

    def _add(self, entry: Entry, data: JSONObject) -> JSONObject:
        entry.current += 1
        entry.updated = self._clock.stamp()
        entry.versions[entry.current] = Version(dict(data), entry.updated)
        keep = entry.max_versions or int(self._config["max_versions"]) or 10
        for number in [one for one in entry.versions if one <= entry.current - keep]:
            del entry.versions[number]
        entry.oldest = min(entry.versions) if entry.current > keep else 0
        return {"version": entry.current, "custom_metadata": entry.custom, **entry.versions[entry.current].facts()}

    def _mark(self, call: Call, path: str) -> JSONObject | None:
        """Serve delete, undelete and destroy of named versions."""
        if call.verb not in ("POST", "PUT"):
            raise unsupported()
        numbers = [int(number) for number in call.body.get("versions") or ()]
        if not numbers:
            raise Refused(400, "No version number provided")
        entry = self.entries.get(path)
        area = call.path.partition("/")[0]
        for version in [entry.versions[number] for number in numbers if number in entry.versions] if entry else []:
            if area == "destroy":
                version.destroyed, version.data = True, None
            elif not version.destroyed:
                version.ends = self._clock.stamp() if area == "delete" else ""
        return None

    def _metadata(self, call: Call, path: str) -> JSONObject | None:
        match call.verb:
            case "LIST":
                return {"data": {"keys": self._names(path)}}
            case "GET":
                return {"data": self._facts(path)}
            case "POST" | "PUT":
                self._describe(path, call.body)
                return None
            case "PATCH":
                self._patch_metadata(path, call)
                return None
            case "DELETE":
                self.entries.pop(path, None)
                return None
        raise unsupported()

    def _names(self, folder: str) -> list[str]:
        prefix = folder + "/" if folder else ""
        rests = [path[len(prefix) :] for path in self.entries if path.startswith(prefix)]
        names = sorted({rest.split("/", 1)[0] + ("/" if "/" in rest else "") for rest in rests})
        if not names:
            raise Refused(404)
        return names

    def _facts(self, path: str) -> JSONObject:
        entry = self.entries.get(path)
        if entry is None:
            raise Refused(404)
        return {
            "versions": {str(number): version.facts() for number, version in entry.versions.items()},
            "current_version": entry.current,
            "oldest_version": entry.oldest,
            "created_time": entry.created,
            "updated_time": entry.updated,
            "max_versions": entry.max_versions,
            "cas_required": entry.cas_required,
            "delete_version_after": f"{entry.delete_after}s",
            "custom_metadata": entry.custom,
        }

    def _describe(self, path: str, body: JSONObject) -> None:
        """Create metadata, or set it: custom_metadata is replaced as a whole."""
        custom = body.get("custom_metadata")
        if custom is not None:
            _check_custom(custom)
        entry = self.entries.setdefault(path, Entry(self._clock.stamp(), self._clock.stamp()))
        entry.custom = dict(custom) if custom is not None else entry.custom
        self._settings(entry, body)

    def _patch_metadata(self, path: str, call: Call) -> None:
        """Merge into metadata; null takes a key away."""
        self._check_patch(call)
        entry = self.entries.get(path)
        if entry is None:
            raise Refused(404, bare=True)
        if "custom_metadata" in call.body:
            custom = _merge(entry.custom or {}, call.body["custom_metadata"] or {})
            _check_custom(custom)
            entry.custom = custom
        self._settings(entry, call.body)

    def _settings(self, entry: Entry, body: JSONObject) -> None:
        entry.max_versions = int(body.get("max_versions", entry.max_versions))
        entry.cas_required = bool(body.get("cas_required", entry.cas_required))
        entry.delete_after = duration(body.get("delete_version_after", entry.delete_after))


def _check_custom(custom: Any) -> None:
    """Hold the limits: 64 entries, names of 1 to 128 and values of 1 to 512 bytes, all printable texts."""
    faults = []
    if len(custom) > 64:
        faults.append(f"payload must contain at most 64 keys, provided {len(custom)}")
    for key, value in custom.items():
        if not 0 < len(key.encode()) <= 128:
            faults.append(f"length of key {key!r} is {len(key.encode())} but must be 0 < len(key) <= 128")
        if not isinstance(value, str) or not 0 < len(value.encode()) <= 512:
            faults.append(f"length of value for key {key!r} must be 0 < len(value) <= 512")
        elif not value.isprintable() or not key.isprintable():
            faults.append(f"key {key!r} or its value contains unprintable characters")
    if faults:
        raise Refused(400, "custom_metadata validation failed: " + "; ".join(faults))


def _merge(old: Any, patch: Any) -> Any:
    """Merge as RFC 7396 says."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(old) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _blank(data: Any, depth: int, level: int = 1) -> Any:
    """Give the names only: every leaf null, and everything below ``depth`` levels a leaf."""
    if not isinstance(data, Mapping):
        return None
    deeper = not depth or level < depth
    return {
        key: _blank(value, depth, level + 1) if deeper and isinstance(value, Mapping) and value else None for key, value in data.items()
    }

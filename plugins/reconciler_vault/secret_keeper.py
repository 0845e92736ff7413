"""Secrets: seen by metadata and key names, made by check-and-set, never read.

All that is remembered of a secret stands in its own custom_metadata, in keys that begin with ``reconciler``: the mark, what to do when
it leaves git, the record of each key, the version written last, and, while a value is being replaced, the intention to do so. These are
merged in with PATCH, so that what other tools note there stays.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from reconciler.driver import Change, Evidence, Health, Level, Mark, Scope
from reconciler.errors import Conflict, Permanent, Transient
from reconciler.resource import JSONObject, Resource, digest
from reconciler_vault import generate, shape
from reconciler_vault.answers import Raced
from reconciler_vault.keeper import Keeper, Seen
from reconciler_vault.kv import KV, Metadata
from reconciler_vault.registry import DIGEST, MARK, Claim, Registry
from reconciler_vault.spec import DECLARED, KeySpec, Secret

DELETE = "reconciler-delete"
VERSION = "reconciler-version"
MAKING = "reconciler-making"
RECORD = "reconciler-key-"
UNRECORDED = "present, not recorded"
"""Live form of a generated key whose value is there but was not made, or not recorded, by us. It is recorded and never made anew."""


class SecretKeeper(Keeper):
    """Keeps keys of KV v2 paths."""

    marks_objects: ClassVar[bool] = True

    def __init__(self, kind: str, registry: Registry, kv: KV) -> None:
        """Use ``kv`` for the calls."""
        super().__init__(kind, registry)
        self._kv = kv

    def mark(self, resource: Resource, scope: Scope) -> Mark:
        """Make the mark; a secret that is to be retained says so, because nobody can ask its file once it is gone."""
        spec = _spec(resource)
        return Mark.of(resource, scope, keep=spec.delete == "retain")

    def see(self, natural: str, wanted: Resource | None, claim: Claim | None, scope: Scope) -> Seen | None:
        """Read metadata and, for a wanted secret, the names of its keys, which costs no second call."""
        metadata = self._kv.look(natural, scope) if wanted else self._kv.metadata(natural, scope)
        if metadata is None:
            return None
        spec, names = (_spec(wanted) if wanted else None), metadata.names or frozenset()
        return Seen(
            live={"path": natural, "keys": _live_keys(spec, metadata, names), "delete": metadata.custom.get(DELETE, "retain")},
            mark=metadata.custom.get(MARK, ""),
            tool=metadata.custom.get("managed-by", ""),
            health=_health(spec, metadata, names) if spec else Health(),
            evidence=Evidence(when=metadata.written, how=f"version {metadata.version}") if metadata.version else None,
            applied=metadata.custom.get(DIGEST, ""),
            status={"version": metadata.version, "keys": sorted(names)},
            version=metadata.version,
            notes=tuple(_notes(natural, spec, metadata)) if spec else (),
        )

    def write(self, change: Change, scope: Scope) -> str | None:
        """Write as every kind; who loses a race looks again at once, because nothing was written. Raises Transient after a second loss."""
        try:
            return super().write(change, scope)
        except Raced:
            try:
                return super().write(change, scope)
            except Raced as error:
                raise Transient(str(error)) from None

    def put(self, resource: Resource, scope: Scope) -> str | None:
        """Mark first, then make what is missing, then record it: cut off anywhere, the next pass goes on without making it twice."""
        spec = _spec(resource)
        metadata = self._marked(resource, spec, scope)
        names = metadata.names or frozenset()
        missing, changed = _missing(spec, metadata, names), _changed(spec, metadata, names)
        made = sorted([*missing, *changed])
        self._check_reshaped(spec, metadata, names, scope)
        settled = {
            key: wish for key, wish in spec.keys.items() if not wish.left_alone and (not wish.generate or key in names or key in made)
        }
        notes = {RECORD + key: wish.record for key, wish in settled.items()}
        notes[DIGEST] = resource.digest
        if made or MAKING in metadata.custom:
            notes[VERSION] = str(self._make(spec, made, changed, metadata, scope) if made else metadata.version)
        self._record(spec, metadata, notes, scope, undo=bool(changed))
        return f"version {notes[VERSION]}: made {', '.join(made)}" if made else None

    def drop(self, natural: str, seen: Seen, scope: Scope) -> str | None:
        """Do what the secret's own metadata says is to be done when it leaves git, to the version that was ``seen`` and to no other."""
        metadata = self._kv.metadata(natural, scope)
        if metadata is None:
            return None
        how = metadata.custom.get(DELETE, "retain")
        if how != "retain":
            _check_version(natural, seen, metadata)
        if how != "retain" and metadata.alive:
            self._refuse_strangers(natural, metadata, scope)
        if how == "purge":
            self._kv.purge(natural, scope)
            return "all versions destroyed"
        if how == "soft" and metadata.alive:
            self._kv.delete(natural, metadata.version, scope)
            metadata = self._kv.metadata(natural, scope) or metadata
            _check_version(natural, seen, metadata)  # a version written meanwhile stays, and so does the mark, for the next pass
        self._kv.note(natural, {key: None for key in metadata.custom if key.startswith("reconciler")}, scope)
        return "newest version deleted; it can be undeleted" if how == "soft" else "let go; the values stay"

    def _marked(self, resource: Resource, spec: Secret, scope: Scope) -> Metadata:
        """Make sure that the path exists and says whose it is."""
        marks = {MARK: str(self.mark(resource, scope)), DELETE: spec.delete}
        metadata = self._kv.look(spec.path, scope)
        if metadata is None:
            self._kv.create_metadata(spec.path, marks, scope)
            return Metadata(version=0, alive=False, custom=marks)
        if any(metadata.custom.get(key) != value for key, value in marks.items()):
            self._kv.note(spec.path, marks, scope)
        return metadata

    def _check_reshaped(self, spec: Secret, metadata: Metadata, names: frozenset[str], scope: Scope) -> None:
        """Hold present values against a shape that git has changed: the one time a value is read for its own sake. Raises Permanent."""
        asked = {key: wish for key, wish in spec.keys.items() if key in names and _reshaped(wish, metadata.custom.get(RECORD + key, ""))}
        if asked:
            _, values = self._kv.read(spec.path, scope) or ("", {})
            shape.check(spec.path, values, asked)

    def _make(self, spec: Secret, made: list[str], changed: list[str], metadata: Metadata, scope: Scope) -> int:
        """Write new values for the keys in ``made``; of those, ``changed`` replace values of ours. Gives the new version."""
        values = {key: generate.make(wish.generate) for key, wish in spec.keys.items() if key in made and wish.generate}
        shape.check(spec.path, values, spec.keys)
        if changed:  # noted first, so that a write whose answer is lost is known as ours and not made again
            self._kv.note(spec.path, {MAKING: _intention(spec, changed, metadata.version)}, scope)
        write = self._kv.patch if metadata.alive else self._kv.put
        try:
            return write(spec.path, values, metadata.version, scope)
        except Raced:
            if changed:  # the next version is somebody else's and must not be taken for the intended one
                self._kv.note(spec.path, {MAKING: None}, scope)
            raise

    def _record(self, spec: Secret, metadata: Metadata, notes: Mapping[str, str], scope: Scope, *, undo: bool) -> None:
        """Write down what the keys now are, touching only what differs; ``undo`` says that an intention was noted just now."""
        after: dict[str, str | None] = {key: value for key, value in notes.items() if metadata.custom.get(key) != value}
        after |= {key: None for key in metadata.custom if key.startswith(RECORD) and key.removeprefix(RECORD) not in spec.keys}
        if undo or MAKING in metadata.custom:
            after[MAKING] = None
        if after:
            self._kv.note(spec.path, after, scope)

    def _refuse_strangers(self, natural: str, metadata: Metadata, scope: Scope) -> None:
        strangers = self._kv.key_names(natural, scope) - {key.removeprefix(RECORD) for key in metadata.custom if key.startswith(RECORD)}
        if strangers:
            raise Permanent(
                f"{natural} also holds keys that were never declared here ({', '.join(sorted(strangers))}); "
                "move them away, or set delete: retain before taking the secret out of git"
            )


def _spec(resource: Resource) -> Secret:
    assert isinstance(resource.spec, Secret)
    return resource.spec


def _check_version(natural: str, seen: Seen, metadata: Metadata) -> None:
    if metadata.version != seen.version:
        raise Conflict(
            f"{natural}: version {metadata.version} was written while version {seen.version} was to be deleted; it stays, and the next "
            "pass plans anew"
        )


def _missing(spec: Secret, metadata: Metadata, names: frozenset[str]) -> list[str]:
    """Name the generated keys to be made for the first time. A deleted version is left deleted unless the spec says otherwise."""
    if metadata.tombstone and not spec.recreate_deleted:
        return []
    return [key for key, wish in spec.keys.items() if wish.generate and key not in names]


def _changed(spec: Secret, metadata: Metadata, names: frozenset[str]) -> list[str]:
    """Name the keys that we made by another specification than the present one, unless their new values were written already."""
    keys = [key for key, wish in spec.keys.items() if key in names and _outdated(wish, metadata.custom.get(RECORD + key, ""))]
    # Check-and-set lets one writer only make the version after the one that the intention names. Were that somebody else, between our
    # death and this pass, the rotation would be taken for done; without the intention every lost answer would rotate a second time.
    landed = metadata.custom.get(MAKING) == _intention(spec, keys, metadata.version - 1)
    return [] if landed else keys


def _outdated(wish: KeySpec, record: str) -> bool:
    return wish.generate is not None and record.startswith("generated ") and record != wish.record


def _reshaped(wish: KeySpec, record: str) -> bool:
    return wish.generate is None and record.startswith(f"{DECLARED} ") and record != wish.record


def _intention(spec: Secret, keys: list[str], version: int) -> str:
    return f"after version {version}: {digest({key: spec.keys[key].record for key in keys})[:16]}"


def _live_keys(spec: Secret | None, metadata: Metadata, names: frozenset[str]) -> JSONObject:
    """Give the comparable form of the keys: what is recorded of each, as far as the key names bear it out."""
    records = {key.removeprefix(RECORD): value for key, value in metadata.custom.items() if key.startswith(RECORD)}
    if spec is None:
        return records
    live: JSONObject = dict(records)
    for key, wish in spec.keys.items():
        if wish.generate is None:
            continue
        if metadata.tombstone and not spec.recreate_deleted:
            live[key] = wish.record
        elif key not in names:
            live.pop(key, None)
        elif not records.get(key, "").startswith("generated "):
            live[key] = UNRECORDED
    return live


def _health(spec: Secret, metadata: Metadata, names: frozenset[str]) -> Health:
    if metadata.tombstone:
        mount, _, rest = spec.path.partition("/")
        bring = f"bring it back with: vault kv undelete -mount={mount} -versions={metadata.version} {rest}"
        remake = "; or set recreate_deleted: true" if any(wish.generate for wish in spec.keys.values()) else ""
        return Health(Level.DEGRADED, f"{spec.path}: version {metadata.version} was deleted; {bring}{remake}")
    verb = "patch" if metadata.alive else "put"
    lacking = [key for key, wish in sorted(spec.keys.items()) if wish.required and key not in names]
    manual = [key for key in lacking if not spec.keys[key].generate]
    if manual:
        keys, pairs = ", ".join(f"{spec.path}#{key}" for key in manual), " ".join(f"{key}=..." for key in manual)
        return Health(Level.DEGRADED, f"missing {keys}; put it with: vault kv {verb} {spec.path} {pairs}")
    return Health(Level.DEGRADED, f"missing {spec.path}#{lacking[0]}; it will be made") if lacking else Health()


def _notes(natural: str, spec: Secret, metadata: Metadata) -> Iterator[str]:
    for key, wish in sorted(spec.keys.items()):
        if not wish.consumers:
            yield f"{natural}#{key} has no consumer; name one, or take the key out"
    ours = metadata.custom.get(VERSION, "")
    if ours.isdigit() and metadata.version > int(ours):
        yield f"{natural}: version {metadata.version} was written by somebody else; ours was {ours}"

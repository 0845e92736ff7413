"""Secrets by reference: which version each has, a fingerprint for the plan, and the value for the moment of the write.

Values are read at most once per pass, held masked, and dropped with this object. A pass that may write also learns from them, when a path
has a new version, which of its keys have another value: it keeps a keyed digest of each in a note beside the path, see docs/decisions/0011.
A plan alone reads nothing. Nothing here prints or stores a value.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Protocol, TypeAlias, TypeVar

from reconciler.driver import Scope, SecretNote, SecretReading, SecretStore, SecretVersion
from reconciler.errors import DriverError, Permanent
from reconciler.expressions import ExpressionError, complete
from reconciler.resource import Resource, ResourceId, SecretRef, SecretValue

T = TypeVar("T")
Place: TypeAlias = tuple[str, str]
"""A path and a key on it."""

STRONG = 16
"""Characters that the key must have before anything derived from a value is noted: with a short one, weak values could be guessed."""
WEAK = "fingerprint_key is no long random text, so nothing about its values may be noted"


class Lane(Protocol):
    """The way to the store: it gives up what does not come back, and what fails for a moment is tried ``again``."""

    def __call__(self, work: Callable[[Scope], T], again: bool) -> T:
        """Give what ``work`` gives. Raises what it raises, or DriverError."""
        ...


@dataclass(slots=True)
class Secrets:
    """The secrets of one pass. ``key`` makes fingerprints that two installations cannot compare, and tags that nobody else can try out.

    ``trouble`` says why no secret can be had; every call of ``store`` goes through ``lane``; ``target`` names the target that it is.
    """

    store: SecretStore | None
    scope: Scope
    key: bytes
    versions: Mapping[str, SecretVersion] = field(default_factory=dict)
    trouble: str = ""
    lane: Lane | None = None
    target: str = ""
    _notes: dict[str, SecretNote] = field(default_factory=dict)
    _coarse: dict[str, str] = field(default_factory=dict)
    _unread: dict[str, str] = field(default_factory=dict)
    _readings: dict[str, SecretReading] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)
    _paths: dict[str, Lock] = field(default_factory=dict, repr=False)

    def prepare(self, resources: Iterable[Resource], *, exact: bool = False) -> dict[ResourceId, str]:
        """Learn the versions of everything referred to. Gives the resources that must wait, each with the reason.

        ``exact`` also reads each path whose version no note knows, so that only who reads a key with another value is rewritten.
        """
        refs = {one.id: found for one in resources if (found := one.spec.secrets())}
        places = sorted({place for found in refs.values() for ref in found for place in ref.inputs})
        if places and not self.trouble:
            self._learn(sorted({path for path, _ in places}))
        if exact and not self.trouble:
            self._settle(places)
        facts = self.facts()
        return {id: reason for id, found in refs.items() if (reason := self._missing(found, facts))}

    def renew(self, resources: Iterable[Resource]) -> dict[ResourceId, str]:
        """Learn the versions anew, after something was written to the store, and drop the values of what has another one now."""
        self.trouble = ""
        return self.prepare(resources, exact=True)

    def _learn(self, paths: Sequence[str]) -> None:
        store = self.store
        if store is None:
            self.trouble = "no target keeps secrets; configure one, e.g. targets.vault"
            return
        try:
            found = dict(self._ask(lambda scope: store.versions(paths, scope), again=True))
        except DriverError as error:
            self.trouble = f"the secret store cannot be seen: {error}"
        except Exception as error:  # a bug in the store must not stop what needs no secret
            self.trouble = f"the secret store cannot be seen: bug: {type(error).__name__} in the driver"
        else:
            self._take(found)

    def _ask(self, work: Callable[[Scope], T], *, again: bool = False) -> T:
        return work(self.scope) if self.lane is None else self.lane(work, again)

    def _take(self, found: Mapping[str, SecretVersion]) -> None:
        """Keep what was learnt; a note counts when it is about the present version and is ours."""
        with self._lock:
            for path, reading in list(self._readings.items()):
                known = found.get(path)
                if known is None or known.text != (reading.version or self.versions[path].text):
                    del self._readings[path]
            self.versions = found
            self._coarse, self._unread = {}, {}
            self._notes = {
                path: one.note
                for path, one in found.items()
                if one.note and one.note.version == one.text and hmac.compare_digest(one.note.seal, self._seal(path, one.note))
            }

    # -- which keys of a path have another value -------------------------------------------------------------------------------

    def _settle(self, places: Iterable[Place]) -> None:
        """Read what is not noted, each path once, and note it."""
        read: dict[str, set[str]] = {}
        for path, key in places:
            read.setdefault(path, set()).add(key)
        for path, keys in read.items():
            known = self.versions.get(path)
            present = keys if known is None or known.keys is None else keys & known.keys
            noted = self._notes.get(path)
            if known is not None and present and not (noted and present <= noted.tags.keys()):
                self._look_into(path, keys | set(known.note.tags if known.note else ()))

    def _look_into(self, path: str, keys: Iterable[str]) -> None:
        """Read one path and note the tags of ``keys``. Where no note can be kept, its consumers are compared by its version as a whole."""
        assert self.store is not None
        if len(self.key) < STRONG:
            self._coarse[path] = WEAK
            return
        try:
            reading = self._reading(path)
        except DriverError as error:
            self._unread[path] = str(error)
            return
        tags = {key: self._tag(path, key, value) for key in sorted(keys) if (value := reading.values.get(key)) is not None}
        note = SecretNote(reading.version or self.versions[path].text, tags, reading.facts)
        note = replace(note, seal=self._seal(path, note))
        store = self.store
        try:
            self._ask(lambda scope: store.note(path, note, scope))
        except DriverError as error:  # unless it is refused for good, the tags serve this pass, and the next one makes them again
            if isinstance(error, Permanent):
                self._coarse[path] = str(error)
                return
        self.versions = {**self.versions, path: SecretVersion(note.version, frozenset(reading.values), note)}
        self._notes[path] = note

    def _tag(self, path: str, key: str, value: SecretValue) -> str:
        return self._digest("tag", [path, key, value.reveal()])[:16]

    def _seal(self, path: str, note: SecretNote) -> str:
        """Keep a note from being forged or moved: whoever may write metadata could otherwise hide a rotation."""
        return self._digest("note", [path, note.version, dict(note.tags), {key: dict(facts) for key, facts in note.facts.items()}])[:32]

    def _digest(self, purpose: str, what: object) -> str:
        text = json.dumps(what, sort_keys=True, separators=(",", ":"))
        return hmac.new(hmac.digest(self.key, purpose.encode(), "sha256"), text.encode(), hashlib.sha256).hexdigest()

    def remarks(self) -> Iterator[str]:
        """Say where consumers are compared by a whole path, and where it is not known yet which key has another value."""
        for path, reason in sorted(self._coarse.items()):
            yield f"{path}: a write to any of its keys rewrites every consumer of it: {reason}"
        for path, known in sorted(self.versions.items()):
            if known.note is not None and path not in self._notes and path not in self._coarse and len(self.key) >= STRONG:
                yield f"{path}: nobody looked into version {known.text} yet; the next pass rewrites only who reads a key with another value"

    def facts(self) -> dict[Place, Mapping[str, str]]:
        """Give what may be told of present values, by path and key. What is not known is left out."""
        known = {path: note.facts for path, note in self._notes.items()} | {path: one.facts for path, one in self._readings.items()}
        return {(path, key): facts for path, by_key in known.items() for key, facts in by_key.items()}

    # -- fingerprints and values -----------------------------------------------------------------------------------------------

    def _missing(self, refs: Sequence[SecretRef], facts: Mapping[Place, Mapping[str, str]]) -> str:
        if self.trouble:
            return self.trouble
        for path, key in sorted({place for ref in refs for place in ref.inputs}):
            known = self.versions.get(path)
            if known is None:
                return f"the secret {path} does not exist; write it, or declare it with a generator"
            if known.keys is not None and key not in known.keys:
                return f"the secret {path} has no key {key!r}; write it to the store, or declare it with a generator"
            if path in self._unread:
                return self._unread[path]
            if fault := facts.get((path, key), {}).get("fault"):
                return _at_fault(path, key, fault)
        return ""

    def fingerprint(self, ref: SecretRef) -> str:
        """Give 16 hex digits over the reference and over what tells the present values of its inputs from others."""
        marks = dict.fromkeys(self._mark(path, key) for path, key in sorted(set(ref.inputs)))
        text = "\n".join((ref.template, ref.scope, *marks))
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()[:16]

    def _mark(self, path: str, key: str) -> str:
        """Give the tag of a value where it is noted, else the version of its whole path."""
        note = self._notes.get(path)
        if note is not None and key in note.tags:
            return f"{path}#{key}={note.tags[key]}"
        return f"{path}@{self.versions[path].text if path in self.versions else ''}"

    def reveal(self, ref: SecretRef) -> SecretValue:
        """Give the text of ``ref``. Raises Permanent when a key is missing or an expression fails, or what the store raises."""
        values = {(path, key): self._value(path, key) for path, key in ref.inputs}  # first, so that the store's own error gets through
        try:
            return SecretValue(complete(ref, lambda path, key: values[path, key].reveal()))
        except ExpressionError as error:
            raise Permanent(str(error)) from None

    def _value(self, path: str, key: str) -> SecretValue:
        reading = self._reading(path)
        if key not in reading.values:
            raise Permanent(f"the secret {path} has no key {key!r}; write it to the store")
        if fault := reading.facts.get(key, {}).get("fault"):
            raise Permanent(_at_fault(path, key, fault))
        return reading.values[key]

    def _reading(self, path: str) -> SecretReading:
        with self._lock:
            known = self._readings.get(path)
        return known or self._ask(lambda scope: self._read(path, scope))

    def _read(self, path: str, scope: Scope) -> SecretReading:
        """Read a path once, whoever asks for it at the same time; other paths do not wait for it."""
        if self.store is None:
            raise Permanent("no target keeps secrets")
        with self._lock:
            mine = self._paths.setdefault(path, Lock())
        with mine:
            with self._lock:
                known = self._readings.get(path)
            if known is None:
                known = self.store.read(path, scope)
                with self._lock:
                    self._readings[path] = known
            return known

    def close(self) -> None:
        """Drop every value. What was noted stays known."""
        self._readings.clear()


def _at_fault(path: str, key: str, fault: str) -> str:
    return f"{path}#{key} {fault}; put a value of the right shape or correct the rule in git"

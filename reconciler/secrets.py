"""Secrets by reference: which version each has, a fingerprint for the plan, and the value for the moment of the write.

Values are read at most once per pass, held masked, and dropped with this object. Nothing here prints, stores or compares a value.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

from reconciler.driver import Scope, SecretStore
from reconciler.errors import DriverError, Permanent
from reconciler.expressions import ExpressionError, complete
from reconciler.resource import Resource, ResourceId, SecretRef, SecretValue


@dataclass(slots=True)
class Secrets:
    """The secrets of one pass. ``key`` makes fingerprints of two installations incomparable; it protects no value.

    ``trouble`` says why no secret can be had; ``patiently`` runs a look at the versions, and again when it fails for a moment.
    """

    store: SecretStore | None
    scope: Scope
    key: bytes
    versions: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""
    patiently: Callable[[Callable[[], Mapping[str, str]]], Mapping[str, str]] = lambda work: work()
    _values: dict[str, Mapping[str, SecretValue]] = field(default_factory=dict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def prepare(self, resources: Iterable[Resource]) -> dict[ResourceId, str]:
        """Learn the versions of everything referred to. Gives the resources that must wait, each with the reason."""
        refs = {one.id: found for one in resources if (found := one.spec.secrets())}
        paths = sorted({path for found in refs.values() for ref in found for path in ref.paths})
        if paths and not self.trouble:
            self._learn(paths)
        return {id: reason for id, found in refs.items() if (reason := self._missing(found))}

    def renew(self, resources: Iterable[Resource]) -> dict[ResourceId, str]:
        """Learn the versions anew, after something was written to the store, and drop the values of what has another one now."""
        before, self.trouble = self.versions, ""
        waiting = self.prepare(resources)
        with self._lock:
            for path in [path for path in self._values if before.get(path) != self.versions.get(path)]:
                del self._values[path]
        return waiting

    def _learn(self, paths: Sequence[str]) -> None:
        store = self.store
        if store is None:
            self.trouble = "no target keeps secrets; configure one, e.g. targets.vault"
            return
        try:
            self.versions = dict(self.patiently(lambda: store.versions(paths, self.scope)))
        except DriverError as error:
            self.trouble = f"the secret store cannot be seen: {error}"
        except Exception as error:  # a bug in the store must not stop what needs no secret
            self.trouble = f"the secret store cannot be seen: bug: {type(error).__name__} in the driver"

    def _missing(self, refs: Sequence[SecretRef]) -> str:
        if self.trouble:
            return self.trouble
        absent = sorted({path for ref in refs for path in ref.paths if path not in self.versions})
        return f"the secret {absent[0]} does not exist; write it, or declare it with a generator" if absent else ""

    def fingerprint(self, ref: SecretRef) -> str:
        """Give 16 hex digits over the reference and the versions of what it reads; no value goes into it."""
        versions = [f"{path}@{self.versions.get(path, '')}" for path in ref.paths]
        text = "\n".join((ref.template, ref.scope, *versions))
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()[:16]

    def reveal(self, ref: SecretRef) -> SecretValue:
        """Give the text of ``ref``. Raises Permanent when a key is missing or an expression fails, or what the store raises."""
        values = {(path, key): self._value(path, key) for path, key in ref.inputs}  # first, so that the store's own error gets through
        try:
            return SecretValue(complete(ref, lambda path, key: values[path, key].reveal()))
        except ExpressionError as error:
            raise Permanent(str(error)) from None

    def _value(self, path: str, key: str) -> SecretValue:
        with self._lock:
            if path not in self._values:
                if self.store is None:
                    raise Permanent("no target keeps secrets")
                self._values[path] = self.store.read(path, self.scope)
        if key not in self._values[path]:
            raise Permanent(f"the secret {path} has no key {key!r}; write it to the store")
        return self._values[path][key]

    def close(self) -> None:
        """Drop every value."""
        self._values.clear()

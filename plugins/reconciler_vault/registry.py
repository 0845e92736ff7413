"""Claims: who owns the objects that have no field for a mark, and where the objects are that have one.

A claim is a KV v2 path with metadata and no data, ``<registry>/<Kind>:<name of the object>``, its slashes written ``~1``; all kinds stand
in one folder, so that one listing finds everything. It is made before the object and taken away after it, so whatever a stack owns has a
claim, even when a pass was cut off in between. For roles, which have no free text, the claim is the mark. For secrets and policies the mark
on the object decides, and the claim only says where to look, so that nothing needs the right to list everybody's secrets.
"""

from dataclasses import dataclass

from reconciler.driver import Mark, Scope
from reconciler.errors import Conflict
from reconciler_vault.kv import KV

MARK = "reconciler"
"""Key in custom_metadata that holds the mark, on claims and on secrets."""

DIGEST = "reconciler-applied"
"""Key in custom_metadata that holds the digest of what was applied last."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim as it stands: the mark's text and the digest applied last."""

    mark: str
    applied: str = ""

    def owned_by(self, owner: str) -> bool:
        """True when the mark is that of ``owner``."""
        mark = Mark.parse(self.mark)
        return mark is not None and mark.owner == owner


class Registry:
    """The claims below one folder."""

    def __init__(self, kv: KV, folder: str) -> None:
        """Keep claims in ``folder``, a KV v2 path."""
        self._kv, self._folder = kv, folder

    def names(self, scope: Scope) -> dict[str, list[str]]:
        """List the natural names of everything that is claimed, by kind, in one call."""
        found: dict[str, list[str]] = {}
        for name in self._kv.names(self._folder, scope):
            kind, colon, rest = name.partition(":")
            if colon:
                found.setdefault(kind, []).append(_plain(rest))
        return found

    def get(self, kind: str, natural: str, scope: Scope) -> Claim | None:
        """Give one claim."""
        metadata = self._kv.metadata(self._path(kind, natural), scope)
        return Claim(metadata.custom.get(MARK, ""), metadata.custom.get(DIGEST, "")) if metadata else None

    def claim(self, mark: Mark, natural: str, scope: Scope, *, taking: bool) -> None:
        """Claim an object before it is made; ``taking`` also takes it from another owner. Raises Conflict when another one has it."""
        path, found = self._path(mark.kind, natural), self.get(mark.kind, natural, scope)
        if found is None:
            self._kv.create_metadata(path, {MARK: str(mark)}, scope)
            found = self.get(mark.kind, natural, scope)  # creation has no check-and-set: of two that claim at once the last one has it
        elif found.mark != str(mark) and (taking or found.owned_by(mark.owner) or not found.mark):
            self._kv.note(path, {MARK: str(mark)}, scope)
            return
        if found is None or found.mark != str(mark):
            raise Conflict(f"vault/{mark.kind}/{mark.name}: {natural} is claimed by another owner; the next pass looks again")

    def applied(self, kind: str, natural: str, digest: str, scope: Scope) -> None:
        """Note what was applied, after it was."""
        self._kv.note(self._path(kind, natural), {DIGEST: digest}, scope)

    def release(self, kind: str, natural: str, scope: Scope) -> None:
        """Take a claim away, after its object is gone or let go."""
        self._kv.purge(self._path(kind, natural), scope)

    def _path(self, kind: str, natural: str) -> str:
        return f"{self._folder}/{kind}:{natural.replace('~', '~0').replace('/', '~1')}"


def _plain(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")

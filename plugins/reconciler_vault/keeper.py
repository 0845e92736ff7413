"""What the kinds have in common: see an object, check whose it is, claim it, write it, let it go.

One keeper serves one kind. It never compares a wish with what it sees; that is the core's work.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from reconciler.driver import Action, Change, Evidence, Health, Mark, Ownership, Scope
from reconciler.errors import Conflict
from reconciler.resource import JSONObject, Resource
from reconciler_vault.parallel import together
from reconciler_vault.registry import Claim, Registry
from reconciler_vault.spec import VaultSpec

HEALTHY = Health()


@dataclass(frozen=True, slots=True)
class Seen:
    """One live object. ``live`` is comparable with the spec. ``tool`` names another program that says it manages the object.

    ``version`` counts the writes to it, where the server does; a deletion is held to the one that was planned.
    """

    live: JSONObject
    mark: str = ""
    tool: str = ""
    health: Health = HEALTHY
    evidence: Evidence | None = None
    refused: str = ""
    applied: str = ""
    status: JSONObject | None = None
    version: int | None = None
    notes: tuple[str, ...] = ()

    def ownership(self, owner: str) -> tuple[Ownership, str]:
        """Say whose it is, seen by ``owner``, and the other owner's name."""
        mark = Mark.parse(self.mark)
        if mark is not None:
            return mark.ownership(owner), "" if mark.owner == owner else mark.owner
        return (Ownership.FOREIGN, self.tool) if self.tool else (Ownership.UNMARKED, "")


class Keeper(ABC):
    """Sees and writes the objects of one kind."""

    marks_objects: ClassVar[bool] = False
    """True when the mark stands on the object itself and a claim only says where to look."""

    def __init__(self, kind: str, registry: Registry) -> None:
        """Serve ``kind``."""
        self.kind, self.registry = kind, registry

    def claims(self, names: Sequence[str], scope: Scope, workers: int) -> Mapping[str, Claim]:
        """Read the claims on ``names``, by natural name; ``workers`` at a time."""
        found = together(lambda name: self.registry.get(self.kind, name, scope), names, workers)
        return {name: claim for name, claim in zip(names, found, strict=True) if claim is not None}

    def claim_of(self, natural: str, scope: Scope) -> Claim | None:
        """Read one claim anew, before a write."""
        return self.registry.get(self.kind, natural, scope)

    def mark(self, resource: Resource, scope: Scope) -> Mark:
        """Make the mark that the object must carry."""
        return Mark.of(resource, scope)

    @abstractmethod
    def see(self, natural: str, wanted: Resource | None, claim: Claim | None, scope: Scope) -> Seen | None:
        """Read one object; None when it does not exist."""

    @abstractmethod
    def put(self, resource: Resource, scope: Scope) -> str | None:
        """Make the object what ``resource`` says, whether it exists or not. Gives a message for people, or None."""

    @abstractmethod
    def drop(self, natural: str, seen: Seen, scope: Scope) -> str | None:
        """Delete an object that was just ``seen`` to be ours. Raises Conflict where the server can tell that it is another by now."""

    def write(self, change: Change, scope: Scope) -> str | None:
        """Create, update, adopt or replace. Raises Conflict when the object now belongs to somebody else."""
        resource = change.desired
        assert resource is not None
        natural = natural_of(resource)
        self._guard(change, natural, resource, scope)
        self.claim(resource, scope, taking=change.action is Action.ADOPT)
        message = self.put(resource, scope)
        before = str(change.handle.get("natural", natural))
        if change.action is Action.REPLACE and before != natural:
            self._remove(change, before, scope)
        return message

    def claim(self, resource: Resource, scope: Scope, *, taking: bool) -> None:
        """Write down whose the object is going to be."""
        self.registry.claim(self.mark(resource, scope), natural_of(resource), scope, taking=taking)

    def remove(self, change: Change, scope: Scope) -> str | None:
        """Delete what our own observation found; a second time does nothing. Raises Conflict when it is no longer ours."""
        return self._remove(change, str(change.handle["natural"]), scope)

    def _remove(self, change: Change, natural: str, scope: Scope) -> str | None:
        claim, message = self.claim_of(natural, scope), None
        seen = None if change.handle.get("claim_only") else self.see(natural, None, claim, scope)
        if seen is not None:
            self._check_ours(change, natural, seen, scope)
            self._check_planned(change, natural, seen)
            message = self.drop(natural, seen, scope)
        if claim is not None and claim.owned_by(scope.owner):
            self.registry.release(self.kind, natural, scope)
        return message

    def _guard(self, change: Change, natural: str, resource: Resource, scope: Scope) -> None:
        if change.action is not Action.ADOPT:
            seen = self.see(natural, resource, self.claim_of(natural, scope), scope)
            if seen is not None:
                self._check_ours(change, natural, seen, scope)

    def _check_planned(self, change: Change, natural: str, seen: Seen) -> None:
        planned = change.handle.get("version")
        if planned is not None and planned != seen.version:
            raise Conflict(f"{change.id}: {natural} was at version {planned} in the plan and is at {seen.version} now; nothing was deleted")

    def _check_ours(self, change: Change, natural: str, seen: Seen, scope: Scope) -> None:
        ownership, other = seen.ownership(scope.owner)
        if ownership is not Ownership.OURS:
            whose = f"belongs to {other}" if other else "does not carry our mark"
            raise Conflict(f"{change.id}: {natural} {whose} by now; nothing was written, the next pass looks again")


def natural_of(resource: Resource) -> str:
    """Give the natural name of the object that a resource stands for."""
    spec = resource.spec
    assert isinstance(spec, VaultSpec)
    return spec.natural

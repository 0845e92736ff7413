"""The Vault driver: what the stack wants and owns, one keeper for each kind, and the store that expressions read secrets from.

Whose an object is stands with the object where there is room for a mark: in ``custom_metadata`` of a secret, in a comment above the rules
of a policy, in the metadata of a group, behind the description of a mount. Roles have no room; for them a claim in the registry (see
``registry.py``) is the mark. Secrets, policies and groups have a claim as well, which only says where to look: finding what a stack owns
then needs no right to list everybody's secrets. Claims are made before their objects and taken away after them.

No value is read to observe. ``read`` is the one exception, called by the core for the expressions of a write.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Event

from pydantic import ValidationError

from reconciler.driver import Action, Change, Mark, Observation, Outcome, Ownership, Scope, SecretNote, SecretReading, SecretVersion
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.writing import apply_each
from reconciler_vault import notebook, told
from reconciler_vault.client import Vault
from reconciler_vault.config import VaultConfig
from reconciler_vault.group_keeper import GroupKeeper
from reconciler_vault.keeper import Keeper, Seen, natural_of
from reconciler_vault.keepers import MountKeeper, PolicyKeeper, RoleKeeper
from reconciler_vault.kv import KV, Metadata
from reconciler_vault.parallel import together
from reconciler_vault.registry import MARK, Claim, Registry
from reconciler_vault.secret_keeper import SecretKeeper
from reconciler_vault.spec import AppRole, AuthMount, KeySpec, KubernetesRole, Mount, Secret
from reconciler_vault.watch import rotations


class VaultDriver:
    """One Vault or OpenBao, as Driver and as SecretStore. Connects when first asked."""

    def __init__(self, config: VaultConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the settings; nothing is sent yet. ``clock`` gives seconds, for the life of tokens."""
        self._vault = Vault(config, clock)
        self._kv = KV(self._vault)
        self._registry = registry = Registry(self._kv, config.registry)
        self._parallel, self._poll = config.parallel, config.poll
        self._keepers: dict[str, Keeper] = {
            "Mount": MountKeeper("Mount", registry, self._vault, Mount),
            "AuthMount": MountKeeper("AuthMount", registry, self._vault, AuthMount),
            "Policy": PolicyKeeper("Policy", registry, self._vault),
            "IdentityGroup": GroupKeeper("IdentityGroup", registry, self._vault),
            "KubernetesRole": RoleKeeper("KubernetesRole", registry, self._vault, KubernetesRole),
            "AppRole": RoleKeeper("AppRole", registry, self._vault, AppRole),
            "Secret": SecretKeeper("Secret", registry, self._kv),
        }
        self._wishes: dict[str, Mapping[str, KeySpec]] = {}
        self._looked: dict[str, Metadata] = {}

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """See what is wanted and what is claimed. Raises Transient or Permanent when the claims themselves cannot be seen."""
        self._remember(wanted)
        claimed, found = self._registry.names(scope), list[Observation]()
        for kind, keeper in self._keepers.items():
            mine = [resource for resource in wanted if resource.id.kind == kind]
            if mine or kind in claimed:  # a mount that is no longer wanted stays, so there is nothing to look for
                found.extend(_observe_kind(keeper, mine, claimed.get(kind, []), scope, self._parallel))
        return found

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make the changes one after the other."""
        return apply_each(changes, lambda change: self._write(change, scope))

    def close(self) -> None:
        """Close the connections."""
        self._vault.close()

    def versions(self, paths: Sequence[str], scope: Scope) -> Mapping[str, SecretVersion]:
        """Tell of each path that has a live version its number, its keys and our note; by one call each, and without a value."""
        found = zip(paths, together(lambda path: self._kv.look(path, scope), paths, self._parallel), strict=True)
        self._looked = {path: metadata for path, metadata in found if metadata is not None and metadata.alive}
        return {path: self._version(path, metadata, scope) for path, metadata in self._looked.items()}

    def _version(self, path: str, metadata: Metadata, scope: Scope) -> SecretVersion:
        """Leave out a note whose facts were told by other rules than those of now; of another stack's path, those are not known here."""
        kept, mark = notebook.note_in(scope.owner, metadata.custom), Mark.parse(metadata.custom.get(MARK, ""))
        elsewhere = path not in self._wishes and mark is not None and mark.owner != scope.owner
        note = kept[0] if kept is not None and (elsewhere or kept[1] == told.rules_of(self._wishes.get(path, {}))) else None
        return SecretVersion(str(metadata.version), metadata.names, note)

    def read(self, path: str, scope: Scope) -> SecretReading:
        """Give the values of a path, and what may be told of them. Raises Permanent when there are none."""
        found = self._kv.read(path, scope)
        if found is None:
            raise Permanent(f"{path}: there is no live version to read; put one with: vault kv put {path} ...")
        version, values = found
        return SecretReading(values, version, told.facts_of(values, self._wishes.get(path, {})))

    def note(self, path: str, note: SecretNote, scope: Scope) -> None:
        """Keep a note in the custom metadata of a path that carries a mark of this installation. Raises Permanent for any other path."""
        metadata = self._looked.get(path)
        mark = Mark.parse(metadata.custom.get(MARK, "")) if metadata else None
        instance = scope.owner.partition("/")[0]
        if metadata is None or mark is None or mark.owner.partition("/")[0] != instance:
            raise Permanent("it carries no mark of ours; declare it as a vault/v1 Secret, with reconciler/adopt where it is there already")
        entries = notebook.parts(scope.owner, note, told.rules_of(self._wishes.get(path, {})), metadata.custom)
        if entries is None:
            raise Permanent("its custom_metadata has no room for a note; 64 entries is all that a path holds")
        self._kv.note(path, entries, scope)

    def watch(self, scope: Scope, stop: Event) -> Iterator[ResourceId | None]:
        """Hint at secrets with another version than before, by a look at their metadata every ``poll`` seconds."""
        self._remember(list(scope.wanted.values()))
        return rotations(self, scope, stop, self._poll)

    def provider(self, path: str, wanted: Sequence[Resource]) -> ResourceId | None:
        """Name the Secret that declares ``path``. What an earlier commit asked of its values is forgotten."""
        self._wishes.pop(path, None)
        self._remember(wanted)
        return next((one.id for one in wanted if isinstance(one.spec, Secret) and one.spec.path == path), None)

    def _remember(self, wanted: Sequence[Resource]) -> None:
        """Keep the declared shapes, for the moment when a value is read."""
        self._wishes |= {one.spec.path: one.spec.keys for one in wanted if isinstance(one.spec, Secret)}

    def _write(self, change: Change, scope: Scope) -> str | None:
        keeper = self._keepers[change.id.kind]
        return keeper.remove(change, scope) if change.action is Action.DELETE else keeper.write(change, scope)


def _observe_kind(keeper: Keeper, wanted: Sequence[Resource], claimed: Sequence[str], scope: Scope, workers: int) -> list[Observation]:
    """See one kind: the wanted first, then what is claimed besides."""
    first: dict[str, Resource] = {}
    for resource in wanted:
        first.setdefault(natural_of(resource), resource)
    known = [name for name in claimed if keeper.marks_objects and name in first]
    claims = {name: Claim(str(keeper.mark(first[name], scope))) for name in known}
    claims |= keeper.claims([name for name in claimed if name not in claims], scope, workers)
    looked = together(lambda one: _wanted(keeper, one, claims.get(natural_of(one)), scope), wanted, workers)
    found = [one for resource, seen in zip(wanted, looked, strict=True) if (one := _first(resource, first, seen)) is not None]
    seen_ids, wanted_ids = {one.id for one in found}, {resource.id for resource in wanted}
    for natural, claim in sorted(claims.items()):
        if natural not in first and claim.owned_by(scope.owner):
            found.extend(_owned(keeper, natural, claim, scope, seen=seen_ids, wanted=wanted_ids))
    return found


def _first(resource: Resource, first: Mapping[str, Resource], seen: Observation | None) -> Observation | None:
    """Refuse the second of two resources for one object."""
    other = first[natural_of(resource)]
    if other is resource:
        return seen
    reason = f"{natural_of(resource)} is already declared by {other.id}; put the two into one"
    return Observation(resource.id, seen.live if seen else None, refused=reason)


def _wanted(keeper: Keeper, resource: Resource, claim: Claim | None, scope: Scope) -> Observation | None:
    """See a wanted object where it should be. A missing right hides this one object only."""
    natural, expected = natural_of(resource), str(keeper.mark(resource, scope))
    try:
        seen = keeper.see(natural, resource, claim, scope)
    except (Permanent, ValidationError) as error:
        return Observation(resource.id, None, unknown=_reason(natural, error))
    if seen is None:
        return None
    ownership, owner = seen.ownership(scope.owner)
    found = _observation(resource.id, natural, seen, ownership)
    return replace(found, owner=owner, stale_mark=_stale(seen.mark, claim, expected) if ownership is Ownership.OURS else "")


def _stale(found: str, claim: Claim | None, expected: str) -> str:
    """Say what must be rewritten of a mark of ours: the name in it, or that it has no claim."""
    mark = Mark.parse(found)
    if mark is not None and found != expected:
        return mark.called
    return "" if claim is not None and claim.mark == expected else "without a claim"


def _owned(
    keeper: Keeper, natural: str, claim: Claim, scope: Scope, *, seen: set[ResourceId], wanted: set[ResourceId]
) -> Iterator[Observation]:
    """See something of ours that no file wants at this place: to be pruned, or, where its resource is wanted elsewhere, to be moved."""
    name = Mark.parse(claim.mark)
    assert name is not None
    id, aside = ResourceId("vault", name.kind, name.name), ResourceId("vault", name.kind, f"{name.name}@{natural}")
    try:
        live = keeper.see(natural, None, claim, scope)
    except (Permanent, ValidationError) as error:
        yield Observation(aside if id in wanted else id, None, unknown=_reason(natural, error))
        return
    mark = Mark.parse(live.mark) if live else None
    if live is not None and mark is not None and mark.owner == scope.owner:
        yield replace(_observation(aside if id in seen else id, natural, live, Ownership.OURS), keep=mark.keep, protect=mark.protect)
    else:  # a deletion was cut off, or another hand took the object or its mark away
        note = f"only our claim on {natural} is left; what may be there is not touched"
        handle: JSONObject = {"natural": natural, "claim_only": True}
        yield Observation(aside if id in wanted else id, {"claim": claim.mark}, handle=handle, notes=(note,))


def _observation(id: ResourceId, natural: str, seen: Seen, ownership: Ownership) -> Observation:
    return Observation(
        id,
        seen.live,
        ownership=ownership,
        health=seen.health,
        handle={"natural": natural} | ({"version": seen.version} if seen.version is not None else {}),
        evidence=seen.evidence,
        refused=seen.refused,
        applied=seen.applied,
        status=seen.status,
        notes=seen.notes,
    )


def _reason(natural: str, error: Permanent | ValidationError) -> str:
    if isinstance(error, Permanent):
        return str(error)
    fields = ", ".join(sorted({".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)}))
    return f"{natural}: the server's answer cannot be read ({fields})"

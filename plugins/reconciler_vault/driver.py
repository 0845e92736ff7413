"""The Vault driver: what the stack wants and owns, one keeper for each kind, and the store that expressions read secrets from.

Whose an object is stands with the object where there is room for a mark: in ``custom_metadata`` of a secret, in a comment above the rules
of a policy, behind the description of a mount. Roles have no room; for them a claim in the registry (see ``registry.py``) is the mark.
Secrets and policies have a claim as well, which only says where to look: finding what a stack owns then needs no right to list
everybody's secrets. Claims are made before their objects and taken away after them.

No value is read to observe. ``read`` is the one exception, called by the core for the expressions of a write.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from reconciler.driver import Action, Change, Mark, Observation, Outcome, Ownership, Scope
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, Resource, ResourceId, SecretValue
from reconciler.writing import apply_each
from reconciler_vault import shape
from reconciler_vault.client import Vault
from reconciler_vault.config import VaultConfig
from reconciler_vault.keeper import Keeper, Seen, natural_of
from reconciler_vault.keepers import MountKeeper, PolicyKeeper, RoleKeeper
from reconciler_vault.kv import KV
from reconciler_vault.registry import Claim, Registry
from reconciler_vault.secret_keeper import SecretKeeper
from reconciler_vault.spec import AppRole, AuthMount, KeySpec, KubernetesRole, Mount, Secret


class VaultDriver:
    """One Vault or OpenBao, as Driver and as SecretStore. Connects when first asked."""

    def __init__(self, config: VaultConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the settings; nothing is sent yet. ``clock`` gives seconds, for the life of tokens."""
        self._vault = Vault(config, clock)
        self._kv = KV(self._vault)
        registry = Registry(self._kv, config.registry)
        self._keepers: dict[str, Keeper] = {
            "Mount": MountKeeper("Mount", registry, self._vault, Mount),
            "AuthMount": MountKeeper("AuthMount", registry, self._vault, AuthMount),
            "Policy": PolicyKeeper("Policy", registry, self._vault),
            "KubernetesRole": RoleKeeper("KubernetesRole", registry, self._vault, KubernetesRole),
            "AppRole": RoleKeeper("AppRole", registry, self._vault, AppRole),
            "Secret": SecretKeeper("Secret", registry, self._kv),
        }
        self._wishes: dict[str, Mapping[str, KeySpec]] = {}

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """See what is wanted and what is claimed. Raises Transient or Permanent when the claims themselves cannot be seen."""
        self._remember(wanted)
        found: list[Observation] = []
        for kind, keeper in self._keepers.items():
            mine = [resource for resource in wanted if resource.id.kind == kind]
            if mine or not isinstance(keeper, MountKeeper):  # a mount that is no longer wanted stays, so there is nothing to look for
                found.extend(_observe_kind(keeper, mine, scope))
        return found

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make the changes one after the other."""
        return apply_each(changes, lambda change: self._write(change, scope))

    def close(self) -> None:
        """Close the connections."""
        self._vault.close()

    def versions(self, paths: Sequence[str], scope: Scope) -> Mapping[str, str]:
        """Give the newest version of each path that has a live one, from metadata alone."""
        found = {path: self._kv.metadata(path, scope) for path in paths}
        return {path: str(metadata.version) for path, metadata in found.items() if metadata and metadata.alive}

    def read(self, path: str, scope: Scope) -> Mapping[str, SecretValue]:
        """Give the values of a path. Raises Permanent when there are none, or when one has not the shape that the stack declares."""
        values = self._kv.read(path, scope)
        if values is None:
            raise Permanent(f"{path}: there is no live version to read; put one with: vault kv put {path} ...")
        shape.check(path, values, self._wishes.get(path, {}))
        return values

    def provider(self, path: str, wanted: Sequence[Resource]) -> ResourceId | None:
        """Name the Secret that declares ``path``."""
        self._remember(wanted)
        return next((one.id for one in wanted if isinstance(one.spec, Secret) and one.spec.path == path), None)

    def _remember(self, wanted: Sequence[Resource]) -> None:
        """Keep the declared shapes, for the moment when a value is read."""
        self._wishes |= {one.spec.path: one.spec.keys for one in wanted if isinstance(one.spec, Secret)}

    def _write(self, change: Change, scope: Scope) -> str | None:
        keeper = self._keepers[change.id.kind]
        return keeper.remove(change, scope) if change.action is Action.DELETE else keeper.write(change, scope)


def _observe_kind(keeper: Keeper, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
    """See one kind: the wanted first, then what is claimed besides."""
    claims = keeper.claims(scope)
    first: dict[str, Resource] = {}
    found = []
    for resource in wanted:
        other = first.setdefault(natural_of(resource), resource)
        observation = _wanted(keeper, resource, claims.get(natural_of(resource)), scope)
        if other is not resource:
            reason = f"{natural_of(resource)} is already declared by {other.id}; put the two into one"
            observation = Observation(resource.id, observation.live if observation else None, refused=reason)
        if observation is not None:
            found.append(observation)
    seen_ids, wanted_ids = {one.id for one in found}, {resource.id for resource in wanted}
    for natural, claim in sorted(claims.items()):
        if natural not in first and claim.owned_by(scope.owner):
            found.extend(_owned(keeper, natural, claim, scope, seen=seen_ids, wanted=wanted_ids))
    return found


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
        return mark.name + (":keep" if mark.keep else "")
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
        yield replace(_observation(aside if id in seen else id, natural, live, Ownership.OURS), keep=mark.keep)
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
        handle={"natural": natural},
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

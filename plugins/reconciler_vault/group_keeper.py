"""Identity groups: found by name, marked in their own metadata, which every write states as a whole: the server does not merge it."""

from collections.abc import Mapping
from typing import ClassVar

from reconciler.driver import Scope
from reconciler.resource import JSONObject, Resource
from reconciler_vault.client import Vault
from reconciler_vault.group import OURS, IdentityGroup
from reconciler_vault.keeper import Keeper, Seen
from reconciler_vault.registry import DIGEST, MARK, Claim, Registry


class GroupKeeper(Keeper):
    """Keeps identity groups. Members, groups within and aliases are not stated in a write, which leaves them as they are."""

    marks_objects: ClassVar[bool] = True

    def __init__(self, kind: str, registry: Registry, vault: Vault) -> None:
        """Use ``vault`` for the calls."""
        super().__init__(kind, registry)
        self._vault = vault

    def see(self, natural: str, wanted: Resource | None, claim: Claim | None, scope: Scope) -> Seen | None:
        """Read one group and take our entries out of its metadata."""
        data = self._vault.get(_at(natural), scope)
        if data is None:
            return None
        metadata = {str(key): str(text) for key, text in (data.get("metadata") or {}).items()}
        live: JSONObject = {
            "name": natural,
            "type": str(data.get("type") or "internal"),
            "policies": sorted(map(str, data.get("policies") or ())),
            "metadata": {key: text for key, text in metadata.items() if not key.startswith(OURS)},
        }
        refused = _impossible(live, _group(wanted)) if wanted else ""
        members = sorted(map(str, data.get("member_entity_ids") or ()))
        status: JSONObject = {"id": str(data.get("id") or ""), "members": members}
        return Seen(live, mark=metadata.get(MARK, ""), applied=metadata.get(DIGEST, ""), refused=refused, status=status)

    def put(self, resource: Resource, scope: Scope) -> str | None:
        """Write the group and its mark at once."""
        group = _group(resource)
        metadata: Mapping[str, str] = {**group.metadata, MARK: str(self.mark(resource, scope)), DIGEST: resource.digest}
        body = {"type": group.type, "policies": list(group.policies), "metadata": metadata}
        self._vault.write("POST", _at(group.name), body, scope)
        return None

    def drop(self, natural: str, seen: Seen, scope: Scope) -> str | None:
        """Delete the group; who was in it loses what it gave."""
        self._vault.write("DELETE", _at(natural), None, scope)
        return None


def _at(natural: str) -> str:
    return f"identity/group/name/{natural}"


def _group(resource: Resource) -> IdentityGroup:
    assert isinstance(resource.spec, IdentityGroup)
    return resource.spec


def _impossible(live: JSONObject, group: IdentityGroup) -> str:
    """Say why a group cannot become what is wanted, or nothing."""
    if live["type"] == group.type:
        return ""
    return f"{group.name} is an {live['type']} group, which cannot become {group.type}; choose another name, or delete it by hand"

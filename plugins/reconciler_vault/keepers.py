"""Policies, roles and mounts: the kinds that hold no values."""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from reconciler.driver import Action, Change, Mark, Scope
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, Resource, SecretRef
from reconciler_vault.client import Vault
from reconciler_vault.forms import tidy
from reconciler_vault.keeper import Keeper, Seen
from reconciler_vault.registry import Claim, Registry
from reconciler_vault.spec import AppRole, KubernetesRole, MountBase, Policy

POLICY_MARK = re.compile(r"\A# (reconciler:\S+)(?: applied (\w+))?\n")
MOUNT_MARK = re.compile(r" ?\[(reconciler:[^\s\]]+)\]\Z")


class PolicyKeeper(Keeper):
    """Keeps ACL policies; the mark and the digest applied last are a comment above the rules, written together with them."""

    marks_objects: ClassVar[bool] = True

    def __init__(self, kind: str, registry: Registry, vault: Vault) -> None:
        """Use ``vault`` for the calls."""
        super().__init__(kind, registry)
        self._vault = vault

    def see(self, natural: str, wanted: Resource | None, claim: Claim | None, scope: Scope) -> Seen | None:
        """Read one policy and take the mark off its text."""
        data = self._vault.get(f"sys/policies/acl/{natural}", scope)
        if data is None:
            return None
        text = str(data.get("policy") or "")
        mark = POLICY_MARK.match(text)
        rules = tidy(text[mark.end() :] if mark else text)
        return Seen({"name": natural, "policy": rules}, mark=mark[1] if mark else "", applied=(mark[2] or "") if mark else "")

    def put(self, resource: Resource, scope: Scope) -> str | None:
        """Write rules and mark at once."""
        spec = resource.spec
        assert isinstance(spec, Policy)
        text = f"# {self.mark(resource, scope)} applied {resource.digest}\n{spec.policy}\n"
        self._vault.write("POST", f"sys/policies/acl/{spec.name}", {"policy": text}, scope)
        return None

    def drop(self, natural: str, seen: Seen, scope: Scope) -> str | None:
        """Delete the policy; tokens that have it lose what it gave."""
        self._vault.write("DELETE", f"sys/policies/acl/{natural}", None, scope)
        return None


class RoleKeeper(Keeper):
    """Keeps roles of auth methods. They have no free text, so the claim in the registry is the mark."""

    def __init__(self, kind: str, registry: Registry, vault: Vault, spec: type[KubernetesRole] | type[AppRole]) -> None:
        """Use ``vault`` for the calls and ``spec`` to read the server's form."""
        super().__init__(kind, registry)
        self._vault, self._spec = vault, spec

    def see(self, natural: str, wanted: Resource | None, claim: Claim | None, scope: Scope) -> Seen | None:
        """Read one role; fields that the spec does not know are not ours."""
        mount, _, role = natural.rpartition("/")
        data = self._vault.get(_role(natural), scope)
        if data is None:
            return None
        status: JSONObject = {}
        if wanted and wanted.id in scope.status_of and self._spec is AppRole:
            status = self._vault.get(f"{_role(natural)}/role-id", scope) or {}
        live = self._spec.from_native(mount, role, data).canonical(_no_secrets)
        return Seen(live, mark=claim.mark if claim else "", applied=claim.applied if claim else "", status=status or None)

    def put(self, resource: Resource, scope: Scope) -> str | None:
        """Write every field, then note what was applied."""
        spec = resource.spec
        assert isinstance(spec, KubernetesRole | AppRole)
        self._vault.write("POST", spec.endpoint, spec.native(), scope)
        self.registry.applied(self.kind, spec.natural, resource.digest, scope)
        return None

    def drop(self, natural: str, seen: Seen, scope: Scope) -> str | None:
        """Delete the role; nobody can log in to it any more."""
        self._vault.write("DELETE", _role(natural), None, scope)
        return None


class MountKeeper(Keeper):
    """Keeps secrets engines or auth methods: makes and tunes them and never disables one. The mark stands behind the description."""

    def __init__(self, kind: str, registry: Registry, vault: Vault, spec: type[MountBase]) -> None:
        """Use ``vault`` for the calls; ``spec`` names the table."""
        super().__init__(kind, registry)
        self._vault, self._spec = vault, spec
        self._table: Mapping[str, JSONObject] = {}

    def claims(self, names: Sequence[str], scope: Scope, workers: int) -> Mapping[str, Claim]:
        """Read the whole table once for a pass; the mark on each mount serves as its claim."""
        table = self._vault.get(self._spec.table, scope) or {}
        self._table = {path.strip("/"): entry for path, entry in table.items() if isinstance(entry, dict)}
        marks = {path: _unmark(entry)[1] for path, entry in self._table.items()}
        return {path: Claim(mark) for path, mark in marks.items() if mark}

    def claim_of(self, natural: str, scope: Scope) -> Claim | None:
        """Read the table anew."""
        return self.claims((), scope, 1).get(natural)

    def mark(self, resource: Resource, scope: Scope) -> Mark:
        """Make the mark; a mount always outlives its removal from git."""
        return Mark.of(resource, scope, keep=True)

    def claim(self, resource: Resource, scope: Scope, *, taking: bool) -> None:
        """Nothing: the mark is written with the mount."""

    def see(self, natural: str, wanted: Resource | None, claim: Claim | None, scope: Scope) -> Seen | None:
        """Find one mount in the table."""
        entry = self._table.get(natural)
        if entry is None:
            return None
        description, mark = _unmark(entry)
        live = self._spec.from_native(natural, entry, description).canonical(_no_secrets)
        refused = _impossible(live, wanted.spec.canonical(_no_secrets)) if wanted else ""
        return Seen(live, mark=mark, refused=refused, status={"accessor": str(entry.get("accessor") or "")})

    def put(self, resource: Resource, scope: Scope) -> str | None:
        """Mount, or tune what is mounted."""
        spec = resource.spec
        assert isinstance(spec, MountBase)
        body = _native(spec, f"{spec.description} [{self.mark(resource, scope)}]".lstrip())
        entry, where = self._table.get(spec.path), f"{spec.table}/{spec.path}"
        if entry is None:
            leases = {key: body.pop(key) for key in ("default_lease_ttl", "max_lease_ttl")}
            self._vault.write("POST", where, {"type": spec.type, "config": leases, **body}, scope)
            return None
        live = self._spec.from_native(spec.path, entry, "")
        if getattr(live, "options", None) == getattr(spec, "options", None):
            body.pop("options", None)  # stated again, a version starts an upgrade on some servers
        self._vault.write("POST", f"{where}/tune", body, scope)
        return None

    def write(self, change: Change, scope: Scope) -> str | None:
        """Create, update or adopt; never replace."""
        if change.action is Action.REPLACE:
            raise Permanent(
                f"{change.id}: a mount is never disabled by this program; make the new one under another name and move what it holds"
            )
        return super().write(change, scope)

    def drop(self, natural: str, seen: Seen, scope: Scope) -> str | None:
        """Refuse: disabling a mount deletes everything in it."""
        raise Permanent(f"{self._spec.table}/{natural}: a mount is never disabled by this program; do it by hand if all it holds may go")


def _role(natural: str) -> str:
    mount, _, role = natural.rpartition("/")
    return f"auth/{mount}/role/{role}"


def _unmark(entry: Mapping[str, object]) -> tuple[str, str]:
    """Split a description into the text for people and the mark."""
    text = str(entry.get("description") or "")
    mark = MOUNT_MARK.search(text)
    return (text[: mark.start()], mark[1]) if mark else (text, "")


def _native(spec: MountBase, description: str) -> JSONObject:
    body: JSONObject = {"description": description}
    body |= {"default_lease_ttl": f"{spec.default_lease_ttl}s", "max_lease_ttl": f"{spec.max_lease_ttl}s"}
    options = getattr(spec, "options", None)
    return body | ({"options": dict(options)} if options else {})


def _impossible(live: JSONObject, wanted: JSONObject) -> str:
    """Say why a mount cannot become what is wanted, or nothing."""
    if live["type"] != wanted["type"]:
        return f"{live['path']} is mounted as {live['type']}, not {wanted['type']}; a mount is never disabled here, so choose another path"
    before, after = (str((form.get("options") or {}).get("version", "")) for form in (live, wanted))
    return f"{live['path']}: kv version {before} cannot go back to {after}" if before > after else ""


def _no_secrets(ref: SecretRef) -> str:
    raise AssertionError(f"no field of this kind takes a secret, yet there is {ref.template}")

"""The Vault driver against its emulator, or, for its own part below, against the traps of the real server."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import pytest

from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.testing import DriverContract, Sample
from reconciler_vault.config import VaultConfig
from reconciler_vault.driver import VaultDriver
from reconciler_vault.emulator import VaultEmulator
from reconciler_vault.spec import AppRole, AuthMount, KubernetesRole, Mount, MountBase, Policy, Secret, TokenRole

PLANTED = "planted-by-hand-4711"
SHARED = "secret/platform"


def resource(spec: Secret | Policy | TokenRole | MountBase, name: str) -> Resource:
    return Resource(ResourceId("vault", type(spec).__name__, name), spec)


def secret(path: str = "secret/mail/made", /, *, delete: str = "purge", **keys: object) -> Resource:
    spec = Secret.model_validate({"path": path, "keys": keys, "delete": delete})
    return resource(spec, path.rsplit("/", 1)[-1])


PASSWORD: JSONObject = {"generate": {"type": "password", "length": 24}, "consumers": ["a test"]}
TOKEN: JSONObject = {"generate": {"type": "hex", "length": 16}, "consumers": ["a test"]}
BY_HAND: JSONObject = {"consumers": ["a test"]}


class VaultWorld:
    """The emulator, read and meddled with by the root token and not through the driver."""

    owner = "test/contract"
    faults = frozenset({"rate-limit", "server-error", "latency", "cut-before", "cut-after"})

    def __init__(self) -> None:
        self.emulator = VaultEmulator({"secrets": {SHARED: {"theirs": PLANTED}}, "auth": ["kubernetes", "approle"]})
        self.emulator.start()

    def open(self, **settings: object) -> VaultDriver:
        return VaultDriver(VaultConfig.model_validate(self.emulator.settings() | settings))

    def samples(self) -> Sequence[Sample]:
        rules = 'path "secret/data/mail/*" {\n  capabilities = ["read"]\n}'
        role: JSONObject = {"role": "mail", "bound_service_account_names": ["mail"], "bound_service_account_namespaces": ["mail"]}
        return (
            Sample(
                resource(Mount(path="apps", type="kv", options={"version": "2"}, description="for apps"), "apps"),
                resource(Mount(path="apps", type="kv", options={"version": "2"}, max_lease_ttl=7200), "apps"),
            ),
            Sample(
                resource(AuthMount(path="machines", type="approle"), "machines"),
                resource(AuthMount(path="machines", type="approle", description="for machines", default_lease_ttl="1h"), "machines"),
            ),
            Sample(
                resource(Policy(name="mail", policy=rules), "mail"),
                resource(Policy(name="mail", policy=rules.replace('"read"', '"read", "list"')), "mail"),
            ),
            Sample(
                resource(KubernetesRole.model_validate(role | {"token_policies": ["mail"], "token_ttl": "1h"}), "mail"),
                resource(
                    KubernetesRole.model_validate(role | {"audience": "vault", "token_ttl": "20m", "token_no_default_policy": True}), "mail"
                ),
            ),
            Sample(
                resource(AppRole(role="relay", token_ttl="15m", secret_id_num_uses=3), "relay"),
                resource(AppRole(role="relay", token_policies=("mail", "dns"), token_bound_cidrs=("10.0.0.1/32",)), "relay"),
            ),
            Sample(
                secret(password=PASSWORD, given=BY_HAND | {"required": False}),
                secret(password=PASSWORD, token=TOKEN),
            ),
        )

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        system = self.emulator.system
        found: dict[str, tuple[str, JSONObject]] = {}
        for mount, engine in system.kv.items():
            for path, entry in engine.entries.items():
                versions = {str(number): version.data for number, version in entry.versions.items()}
                found[f"Secret {mount}/{path}"] = entry.created, {"custom": dict(entry.custom or {}), "versions": versions}
        for name, policy in system.policies.items():
            found[f"Policy {name}"] = name, {"policy": policy}
        for path, method in system.auth.items():
            for name, role in method.roles.items():
                kind = "KubernetesRole" if method.kind == "kubernetes" else "AppRole"
                found[f"{kind} {path}/{name}"] = method.role_ids.get(name, name), dict(role)
        for kind, table in (("Mount", system.mounts), ("AuthMount", system.methods)):
            for path, entry in table.items():
                found[f"{kind} {path}"] = entry["accessor"], {"description": entry["description"], "config": dict(entry["config"])}
        return found

    def locate(self, resource: Resource) -> str:
        assert isinstance(resource.spec, Secret | Policy | TokenRole | MountBase)
        return f"{resource.id.kind} {resource.spec.natural}"

    def plant(self, resource: Resource) -> None:
        match resource.spec:
            case Secret(path=path, keys=keys):
                self.emulator.ask("POST", path.replace("/", "/data/", 1), {"data": {key: f"{PLANTED}-{key}" for key in keys}})
            case Policy(name=name, policy=policy):
                self.emulator.ask("POST", f"sys/policies/acl/{name}", {"policy": policy})
            case TokenRole() as role:
                self.emulator.ask("POST", role.endpoint, role.native())
            case MountBase() as mount:
                config = {"default_lease_ttl": mount.default_lease_ttl, "max_lease_ttl": mount.max_lease_ttl}
                body = {"type": mount.type, "description": mount.description, "config": config}
                self.emulator.ask("POST", f"{mount.table}/{mount.path}", body | {"options": getattr(mount, "options", {})})

    def meddle(self, resource: Resource) -> None:
        match resource.spec:
            case Secret(path=path):
                self.emulator.ask("POST", path.replace("/", "/data/", 1), {"data": {"other": PLANTED}})
            case Policy(name=name):
                text = self.emulator.system.policies[name]
                self.emulator.ask("POST", f"sys/policies/acl/{name}", {"policy": text.replace('"read"', '"read", "delete"')})
            case TokenRole() as role:
                self.emulator.ask("POST", role.endpoint, {"token_max_ttl": "99h"})
            case MountBase() as mount:
                self.emulator.ask("POST", f"{mount.table}/{mount.path}/tune", {"max_lease_ttl": "99h"})

    def remove(self, resource: Resource) -> None:
        match resource.spec:
            case Secret(path=path):
                self.emulator.ask("DELETE", path.replace("/", "/metadata/", 1))
            case Policy(name=name):
                self.emulator.ask("DELETE", f"sys/policies/acl/{name}")
            case TokenRole() as role:
                self.emulator.ask("DELETE", role.endpoint)
            case MountBase() as mount:
                self.emulator.ask("DELETE", f"{mount.table}/{mount.path}")

    def writes(self) -> int:
        return self.emulator.faults.writes

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        return self.emulator.faults.during(fault, times=times, writes_only=fault.startswith("cut"))

    def secret_values(self) -> Sequence[str]:
        entries = [entry for engine in self.emulator.system.kv.values() for entry in engine.entries.values()]
        values = {str(value) for entry in entries for version in entry.versions.values() for value in (version.data or {}).values()}
        return [PLANTED, self.emulator.token, *sorted(values)]


@pytest.fixture
def world() -> Iterator[VaultWorld]:
    world = VaultWorld()
    yield world
    world.emulator.stop()


class TestContract(DriverContract):
    cannot_delete = frozenset({"Mount", "AuthMount"})

"""Vault as a world for the driver contract: by the emulator, or by a real server that may be spoilt."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import httpx

from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.testing import Sample
from reconciler_vault.config import VaultConfig
from reconciler_vault.driver import VaultDriver
from reconciler_vault.emulator import VaultEmulator
from reconciler_vault.group import IdentityGroup
from reconciler_vault.spec import AppRole, AuthMount, KubernetesRole, Mount, MountBase, Policy, Secret, TokenRole

PLANTED = "planted-by-hand-4711"
SHARED = "secret/platform"


def resource(spec: Secret | Policy | IdentityGroup | TokenRole | MountBase, name: str) -> Resource:
    return Resource(ResourceId("vault", type(spec).__name__, name), spec)


def secret(path: str = "secret/mail/made", /, *, delete: str = "purge", **keys: object) -> Resource:
    spec = Secret.model_validate({"path": path, "keys": keys, "delete": delete})
    return resource(spec, path.rsplit("/", 1)[-1])


PASSWORD: JSONObject = {"generate": {"type": "password", "length": 24}, "consumers": ["a test"]}
TOKEN: JSONObject = {"generate": {"type": "hex", "length": 16}, "consumers": ["a test"]}
BY_HAND: JSONObject = {"consumers": ["a test"]}


def data(answer: JSONObject | None) -> JSONObject:
    return (answer or {}).get("data") or {}


class VaultWorld(ABC):
    """A server, read and meddled with by an operator's token and not through the driver."""

    owner = "test/contract"
    faults: frozenset[str] = frozenset()

    @abstractmethod
    def ask(self, method: str, path: str, body: JSONObject | None = None) -> JSONObject | None:
        """Do as an operator would; None where there is nothing (404)."""

    @abstractmethod
    def settings(self) -> JSONObject:
        """The target configuration that leads the driver here."""

    def open(self, **settings: object) -> VaultDriver:
        return VaultDriver(VaultConfig.model_validate(self.settings() | settings))

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
            Sample(
                resource(IdentityGroup(name="operators", policies=("mail",), metadata={"team": "mail"}), "operators"),
                resource(IdentityGroup(name="operators", policies=("dns", "mail"), metadata={"floor": "2"}), "operators"),
            ),
        )

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        found: dict[str, tuple[str, JSONObject]] = {}
        for kind, table in (("Mount", "sys/mounts"), ("AuthMount", "sys/auth")):
            for path, entry in data(self.ask("GET", table)).items():
                found[f"{kind} {path[:-1]}"] = entry["accessor"], {"description": entry["description"], "config": dict(entry["config"])}
                found |= self._roles(path[:-1]) if table == "sys/auth" else {}
                found |= self._secrets(path[:-1]) if entry["type"] == "kv" and (entry["options"] or {}).get("version") == "2" else {}
        for name in data(self.ask("LIST", "sys/policies/acl")).get("keys", ()):
            found[f"Policy {name}"] = name, {"policy": data(self.ask("GET", f"sys/policies/acl/{name}")).get("policy")}
        for name in data(self.ask("LIST", "identity/group/name")).get("keys", ()):
            group = data(self.ask("GET", f"identity/group/name/{name}"))
            found[f"IdentityGroup {name}"] = group["id"], {key: group[key] for key in ("type", "policies", "metadata", "member_entity_ids")}
        return found

    def _roles(self, mount: str) -> dict[str, tuple[str, JSONObject]]:
        found = {}
        for name in data(self.ask("LIST", f"auth/{mount}/role")).get("keys", ()):
            role_id = data(self.ask("GET", f"auth/{mount}/role/{name}/role-id")).get("role_id")
            kind = "AppRole" if role_id else "KubernetesRole"
            found[f"{kind} {mount}/{name}"] = str(role_id or name), data(self.ask("GET", f"auth/{mount}/role/{name}"))
        return found

    def _secrets(self, mount: str) -> dict[str, tuple[str, JSONObject]]:
        found = {}
        for path in self._paths(mount, ""):
            facts = data(self.ask("GET", f"{mount}/metadata/{path}"))
            versions = {number: data(self.ask("GET", f"{mount}/data/{path}?version={number}")).get("data") for number in facts["versions"]}
            found[f"Secret {mount}/{path}"] = facts["created_time"], {"custom": facts["custom_metadata"] or {}, "versions": versions}
        return found

    def _paths(self, mount: str, folder: str) -> Iterator[str]:
        for name in data(self.ask("LIST", f"{mount}/metadata/{folder}")).get("keys", ()):
            if name.endswith("/"):
                yield from self._paths(mount, folder + name)
            else:
                yield folder + name

    def locate(self, resource: Resource) -> str:
        assert isinstance(resource.spec, Secret | Policy | IdentityGroup | TokenRole | MountBase)
        return f"{resource.id.kind} {resource.spec.natural}"

    def plant(self, resource: Resource) -> None:
        match resource.spec:
            case Secret(path=path, keys=keys):
                self.ask("POST", path.replace("/", "/data/", 1), {"data": {key: f"{PLANTED}-{key}" for key in keys}})
            case Policy(name=name, policy=policy):
                self.ask("POST", f"sys/policies/acl/{name}", {"policy": policy})
            case IdentityGroup(name=name, type=kind, policies=policies, metadata=metadata):
                body = {"type": kind, "policies": list(policies), "metadata": dict(metadata)}
                self.ask("POST", f"identity/group/name/{name}", body)
            case TokenRole() as role:
                self.ask("POST", role.endpoint, role.native())
            case MountBase() as mount:
                config = {"default_lease_ttl": mount.default_lease_ttl, "max_lease_ttl": mount.max_lease_ttl}
                body = {"type": mount.type, "description": mount.description, "config": config}
                self.ask("POST", f"{mount.table}/{mount.path}", body | {"options": getattr(mount, "options", {})})

    def meddle(self, resource: Resource) -> None:
        match resource.spec:
            case Secret(path=path):
                self.ask("POST", path.replace("/", "/data/", 1), {"data": {"other": PLANTED}})
            case Policy(name=name):
                text = str(data(self.ask("GET", f"sys/policies/acl/{name}"))["policy"])
                self.ask("POST", f"sys/policies/acl/{name}", {"policy": text.replace('"read"', '"read", "delete"')})
            case IdentityGroup(name=name):
                self.ask("POST", f"identity/group/name/{name}", {"policies": ["root-of-all"]})
            case TokenRole() as role:
                self.ask("POST", role.endpoint, {"token_max_ttl": "99h"})
            case MountBase() as mount:
                self.ask("POST", f"{mount.table}/{mount.path}/tune", {"max_lease_ttl": "99h"})

    def remove(self, resource: Resource) -> None:
        match resource.spec:
            case Secret(path=path):
                self.ask("DELETE", path.replace("/", "/metadata/", 1))
            case Policy(name=name):
                self.ask("DELETE", f"sys/policies/acl/{name}")
            case IdentityGroup(name=name):
                self.ask("DELETE", f"identity/group/name/{name}")
            case TokenRole() as role:
                self.ask("DELETE", role.endpoint)
            case MountBase() as mount:
                self.ask("DELETE", f"{mount.table}/{mount.path}")

    def writes(self) -> int:
        return 0

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        return nullcontext()

    def secret_values(self) -> Sequence[str]:
        contents = [content["versions"] for name, (_, content) in self.peek().items() if name.startswith("Secret ")]
        return [PLANTED, *{str(value) for versions in contents for version in versions.values() for value in (version or {}).values()}]


class EmulatedVault(VaultWorld):
    """The emulator, with every fault it can play."""

    faults = frozenset({"rate-limit", "server-error", "latency", "cut-before", "cut-after"})

    def __init__(self, emulator: VaultEmulator) -> None:
        """Take a listening server and give it new contents."""
        self.emulator = emulator
        emulator.system = VaultEmulator({"secrets": {SHARED: {"theirs": PLANTED}}, "auth": ["kubernetes", "approle"]}).system
        emulator.faults.active.clear()
        emulator.faults.requests.clear()

    def ask(self, method: str, path: str, body: JSONObject | None = None) -> JSONObject | None:
        return self.emulator.ask(method, path, body)

    def settings(self) -> JSONObject:
        return self.emulator.settings()

    def writes(self) -> int:
        return self.emulator.faults.writes

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        return self.emulator.faults.during(fault, times=times, writes_only=fault.startswith("cut"))

    def secret_values(self) -> Sequence[str]:
        return [self.emulator.token, *super().secret_values()]


class LiveVault(VaultWorld):
    """A real server with nothing on it that anybody needs: what the samples name is deleted before each test."""

    def __init__(self, url: str, token: str) -> None:
        """Sweep the server and mount what the samples take for granted."""
        self._url, self._token = url.rstrip("/"), token
        self._http = httpx.Client(base_url=f"{self._url}/v1/", headers={"X-Vault-Token": token}, trust_env=False)
        for sample in self.samples():
            self.remove(sample.before)
        for path in [*self._paths("secret", "reconciler/")]:
            self.ask("DELETE", f"secret/metadata/{path}")
        present = {*data(self.ask("GET", "sys/auth")), *data(self.ask("GET", "sys/mounts"))}
        for method in {"kubernetes/", "approle/"} - present:
            self.ask("POST", f"sys/auth/{method[:-1]}", {"type": method[:-1]})
        if "secret/" not in present:
            self.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})

    def ask(self, method: str, path: str, body: JSONObject | None = None) -> JSONObject | None:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        answer = self._http.request(method, path, json=body, headers=headers)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json() if answer.content else {}

    def settings(self) -> JSONObject:
        return {"url": self._url, "auth": {"method": "token", "token": self._token}}

    def close(self) -> None:
        self._http.close()

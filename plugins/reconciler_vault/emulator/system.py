"""The whole server below ``/v1/``: routing, access control, mounts, policies and health."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import replace

from reconciler.resource import JSONObject
from reconciler_vault.emulator import acl
from reconciler_vault.emulator.auth import AuthMethod, Token, Tokens
from reconciler_vault.emulator.identity import Groups
from reconciler_vault.emulator.kv import KVEngine
from reconciler_vault.emulator.wire import Call, Clock, Refused, denied, duration, unsupported

NEEDED = {"GET": "read", "LIST": "list", "POST": "update", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
BUILT_IN = frozenset({"root", "default"})
DEFAULT_POLICY = """
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
"""


class System:
    """Everything that the server holds. ``handle`` answers one call; nothing here knows of sockets."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        """Begin as a server that was just initialised and unsealed: no mounts but its own. A namespace has the tokens of the whole."""
        self.clock = tokens.clock if tokens is not None else Clock()
        self.tokens = tokens or Tokens(self.clock)
        self.namespaces: dict[str, System] = {}
        self.policies: dict[str, str] = {"default": DEFAULT_POLICY}
        self.mounts: dict[str, JSONObject] = {}
        self.methods: dict[str, JSONObject] = {}
        self.kv: dict[str, KVEngine] = {}
        self.auth: dict[str, AuthMethod] = {}
        self.groups = Groups(self.clock)
        self.initialised, self.sealed, self.standby = True, False, False
        self._describe(self.methods, "token", {"type": "token", "description": "token based credentials"})
        self._describe(self.mounts, "sys", {"type": "system", "description": "system endpoints used for control, policy and debugging"})

    def handle(self, call: Call) -> JSONObject | None:
        """Answer one call; None for an answer without a body. Raises Refused."""
        if call.path == "sys/health" and call.verb == "GET":
            if call.headers.get("x-vault-namespace", "").strip("/") not in ("", "root"):
                raise Refused(400, "operation unavailable in namespaces")
            return self._health(call.params)
        if self.sealed or not self.initialised:
            raise Refused(503, "Vault is sealed")
        if self.standby:
            raise Refused(503, "no active Vault instance found")
        name = call.headers.get("x-vault-namespace", "").strip("/")
        if name not in ("", "root"):
            if name not in self.namespaces:
                raise Refused(404, "namespace not found")
            inside = {key: value for key, value in call.headers.items() if key != "x-vault-namespace"}
            return self.namespaces[name].handle(replace(call, headers=inside))
        if call.path.startswith("auth/") and call.path.endswith("/login"):
            return self._to_auth(call)
        token = self.tokens.find(call.token)
        if call.path.startswith("sys/internal/ui/mounts/"):
            return self._preflight(token, call.path.removeprefix("sys/internal/ui/mounts/"))
        self._authorise(token, call)
        return self._dispatch(call)

    def capabilities(self, token: Token, path: str) -> frozenset[str]:
        """Give what a token may do on a path."""
        if "root" in token.policies:
            return acl.CAPABILITIES - {"deny"}
        return acl.allowed([acl.parse(self.policies[name]) for name in token.policies if name in self.policies], path)

    def _authorise(self, token: Token, call: Call) -> None:
        granted = self.capabilities(token, call.path) | (self.capabilities(token, call.path + "/") if call.verb == "LIST" else frozenset())
        needed = {NEEDED[call.verb]}
        if needed == {"update"} and self._is_new(call.path):
            needed = {"create"}
        if call.path.startswith("sys/auth/"):
            needed.add("sudo")
        if not needed <= granted:
            raise denied()

    def _is_new(self, path: str) -> bool:
        """Say whether a write would create, on the paths that make the difference."""
        mount = self._mount_of(path)
        if mount is not None:
            rest = path[len(mount) + 1 :]
            return rest.startswith(("data/", "metadata/")) and not self.kv[mount].exists(rest)
        method = self._method_of(path)
        rest = path[len(method) + 6 :] if method else ""
        return method is not None and rest.startswith("role/") and rest.count("/") == 1 and not self.auth[method].exists(rest)

    def _dispatch(self, call: Call) -> JSONObject | None:
        if call.path.startswith("sys/"):
            return self._sys(call.below("sys"))
        if call.path.startswith("auth/token/"):
            return self.tokens.serve(call.below("auth/token"))
        if call.path.startswith("auth/"):
            return self._to_auth(call)
        if f"{call.path}/".startswith("identity/group/name/"):
            return self.groups.serve(call.below("identity/group/name"))
        mount = self._mount_of(call.path)
        if mount is None:
            raise Refused(404, f'no handler for route "{call.path}". route entry not found.')
        return self.kv[mount].serve(call.below(mount))

    def _to_auth(self, call: Call) -> JSONObject | None:
        method = self._method_of(call.path)
        if method is None:
            raise Refused(404 if call.token else 403, f'no handler for route "{call.path}". route entry not found.')
        return self.auth[method].serve(call.below(f"auth/{method}"))

    def _mount_of(self, path: str) -> str | None:
        return next((mount for mount in self.kv if path.startswith(mount + "/")), None)

    def _method_of(self, path: str) -> str | None:
        return next((method for method in self.auth if path.startswith(f"auth/{method}/")), None)

    def _sys(self, call: Call) -> JSONObject | None:
        head, _, rest = call.path.partition("/")
        if head == "mounts":
            return self._table(call.below("mounts"), self.mounts)
        if head == "auth":
            return self._table(call.below("auth"), self.methods)
        if head == "namespaces" and rest and call.verb in ("POST", "PUT"):
            self.namespaces.setdefault(rest, System(self.tokens))
            return {"data": {"path": f"{rest}/"}}
        if call.path.startswith("policies/acl"):
            return self._policy(call, rest.removeprefix("acl").strip("/").lower())
        if call.path == "capabilities-self" and call.verb in ("POST", "PUT"):
            token = self.tokens.find(call.token)
            found = {path: sorted(self.capabilities(token, path)) or ["deny"] for path in call.body.get("paths") or ()}
            return {"data": found, **found}
        raise Refused(404)

    def _policy(self, call: Call, name: str) -> JSONObject | None:
        match call.verb:
            case "LIST":
                return {"data": {"keys": sorted({*self.policies, "root"})}}
            case "GET":
                if name not in self.policies:
                    raise Refused(404)
                return {"data": {"name": name, "policy": self.policies[name]}}
            case "POST" | "PUT":
                if name == "root":
                    raise Refused(400, 'cannot update "root" policy')
                text = str(call.body.get("policy") or "")
                if not text:
                    raise Refused(400, "'policy' parameter not supplied or empty")
                acl.parse(text)
                self.policies[name] = text
                return None
            case "DELETE":
                if name in BUILT_IN:
                    raise Refused(400, f"cannot delete {name if name == 'default' else json.dumps(name)} policy")
                self.policies.pop(name, None)
                return None
        raise unsupported()

    def _table(self, call: Call, table: dict[str, JSONObject]) -> JSONObject | None:
        """Serve the table of secrets engines or of auth methods."""
        path = call.path.removesuffix("/tune") if call.path.endswith("/tune") else call.path
        if not path:
            entries = {mount + "/": entry for mount, entry in table.items()}
            return {"data": entries, **entries}
        if path != call.path:
            return self._tune(call, table.get(path))
        match call.verb:
            case "GET" if path in table:
                return {"data": table[path]}
            case "POST" | "PUT":
                self.mount(table, path, call.body)
                return None
            case "DELETE":
                table.pop(path, None)
                (self.kv if table is self.mounts else self.auth).pop(path, None)
                return None
        raise Refused(400, f"no mount at {path}/") if call.verb == "GET" else unsupported()

    def mount(self, table: dict[str, JSONObject], path: str, body: Mapping[str, object]) -> None:
        """Mount an engine or a method. Raises Refused when the path is in use."""
        taken = next((one for one in table if f"{one}/".startswith(f"{path}/") or f"{path}/".startswith(f"{one}/")), None)
        if taken is not None:
            raise Refused(400, f"path is already in use at {taken}/")
        if not body.get("type"):
            raise Refused(400, "backend type must be specified as a string")
        entry = self._describe(table, path, body)
        if table is self.methods:
            self.auth[path] = AuthMethod(str(body["type"]), self.tokens)
        elif body["type"] == "kv" and (entry["options"] or {}).get("version") == "2":
            self.kv[path] = KVEngine(self.clock)

    def _describe(self, table: dict[str, JSONObject], path: str, body: Mapping[str, object]) -> JSONObject:
        config, options = body.get("config"), body.get("options")
        leases = config if isinstance(config, dict) else {}
        table[path] = {
            "type": body["type"],
            "description": body.get("description") or "",
            "accessor": f"{body['type']}_{uuid.uuid4().hex[:8]}",
            "uuid": str(uuid.uuid4()),
            "config": {key: duration(leases.get(key)) for key in ("default_lease_ttl", "max_lease_ttl")} | {"force_no_cache": False},
            "local": False,
            "seal_wrap": False,
            "options": {key: str(value) for key, value in options.items()} if isinstance(options, dict) and options else None,
        }
        return table[path]

    def _tune(self, call: Call, entry: JSONObject | None) -> JSONObject | None:
        if entry is None:
            raise Refused(400, f"no mount at {call.path.removesuffix('tune')}")
        if call.verb == "GET":
            return {"data": entry["config"] | {"description": entry["description"], "options": entry["options"]}}
        config = {key: duration(call.body[key]) for key in ("default_lease_ttl", "max_lease_ttl") if key in call.body}
        longest = config.get("max_lease_ttl", entry["config"]["max_lease_ttl"])
        if longest and config.get("default_lease_ttl", entry["config"]["default_lease_ttl"]) > longest:
            raise Refused(400, "backend max lease TTL would be less than backend default lease TTL")
        entry["config"].update(config)
        entry["description"] = str(call.body.get("description", entry["description"]))
        if call.body.get("options"):
            entry["options"] = {key: str(value) for key, value in call.body["options"].items()}
        return None

    def _preflight(self, token: Token, path: str) -> JSONObject:
        """Tell the mount of a path to a token that may do something below it, and nothing to others."""
        mount = next((one for one in self.mounts if f"{path}/".startswith(f"{one}/")), None)
        if mount is None or not self._sees(token, mount):
            raise Refused(
                403, "preflight capability check returned 403, please ensure client's policies grant access to path " + f'"{path}/"'
            )
        return {"data": {**self.mounts[mount], "path": f"{mount}/"}}

    def _sees(self, token: Token, mount: str) -> bool:
        rules = [acl.parse(self.policies[name]) for name in token.policies if name in self.policies]
        return "root" in token.policies or any(acl.reaches(pattern, f"{mount}/") for rule in rules for pattern in rule)

    def _health(self, params: Mapping[str, str]) -> JSONObject:
        body = {
            "initialized": self.initialised,
            "sealed": self.sealed or not self.initialised,
            "standby": self.standby,
            "server_time_utc": int(self.clock.now()),
            "version": "1.20.0",
        }
        if not self.initialised:
            raise Health(int(params.get("uninitcode", 501)), body)
        if self.sealed:
            raise Health(int(params.get("sealedcode", 503)), body)
        if self.standby and params.get("standbyok") != "true":
            raise Health(int(params.get("standbycode", 429)), body)
        return body


class Health(Refused):
    """A health answer: its status says what its body says."""

    def __init__(self, status: int, body: JSONObject) -> None:
        """Keep both."""
        super().__init__(status)
        self._body = body

    @property
    def body(self) -> JSONObject:
        """The body as it is."""
        return self._body

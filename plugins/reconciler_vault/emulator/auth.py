"""Tokens and the two auth methods: kubernetes and approle."""

import base64
import binascii
import json
import secrets
import uuid
from dataclasses import dataclass, field
from typing import Any

from reconciler.resource import JSONObject
from reconciler_vault.emulator.wire import Call, Clock, Refused, denied, duration, strings, unsupported

SYSTEM_TTL = 2_764_800
"""Life of a token where nobody says otherwise, in seconds: 32 days."""

COMMON: JSONObject = {
    "token_policies": [],
    "token_ttl": 0,
    "token_max_ttl": 0,
    "token_explicit_max_ttl": 0,
    "token_period": 0,
    "token_num_uses": 0,
    "token_no_default_policy": False,
    "token_bound_cidrs": [],
    "token_type": "default",
}
KINDS: dict[str, JSONObject] = {
    "kubernetes": {
        "bound_service_account_names": [],
        "bound_service_account_namespaces": [],
        "bound_service_account_namespace_selector": "",
        "audience": "",
        "alias_name_source": "serviceaccount_uid",
        **COMMON,
    },
    "approle": {
        "bind_secret_id": True,
        "secret_id_bound_cidrs": None,
        "secret_id_num_uses": 0,
        "secret_id_ttl": 0,
        "local_secret_ids": False,
        **COMMON,
    },
}


@dataclass(slots=True)
class Token:
    """One token. ``ends`` and ``last`` in seconds since the epoch; None means never."""

    value: str
    policies: list[str]
    ttl: int = 0
    ends: float | None = None
    last: float | None = None
    renewable: bool = False
    accessor: str = field(default_factory=lambda: secrets.token_hex(12))


class Tokens:
    """All tokens."""

    def __init__(self, clock: Clock) -> None:
        """Begin with none."""
        self.clock = self._clock = clock
        self.all: dict[str, Token] = {}

    def make(self, policies: list[str], *, ttl: int, longest: int = 0, value: str = "") -> Token:
        """Make a token that lives ``ttl`` seconds (0 for ever) and can be renewed up to ``longest``."""
        now = self._clock.now()
        token = Token(value or f"hvs.{secrets.token_urlsafe(24)}", policies, ttl)
        if ttl:
            token.ends, token.last, token.renewable = now + ttl, now + (longest or SYSTEM_TTL), True
        self.all[token.value] = token
        return token

    def find(self, value: str) -> Token:
        """Give a living token. Raises Refused as the server does for one that ended, was revoked or never was."""
        token = self.all.get(value)
        if token is None or (token.ends is not None and token.ends <= self._clock.now()):
            raise Refused(403, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
        return token

    def serve(self, call: Call) -> JSONObject | None:
        """Answer below ``auth/token/``."""
        token = self.find(call.token)
        match call.verb, call.path:
            case "GET", "lookup-self":
                left = max(0, round(token.ends - self._clock.now())) if token.ends else 0
                facts = {"id": token.value, "policies": token.policies, "ttl": left, "renewable": token.renewable}
                return {"data": facts | {"accessor": token.accessor, "type": "service", "creation_ttl": token.ttl}}
            case (("POST" | "PUT"), "renew-self"):
                if not token.renewable or token.last is None:
                    raise Refused(400, "lease is not renewable")
                token.ends = min(self._clock.now() + token.ttl, token.last)
                return {"auth": self.describe(token)}
            case (("POST" | "PUT"), "revoke-self"):
                del self.all[token.value]
                return None
        raise Refused(404)

    def describe(self, token: Token) -> JSONObject:
        """Give the ``auth`` part of an answer."""
        return {
            "client_token": token.value,
            "accessor": token.accessor,
            "policies": token.policies,
            "token_policies": token.policies,
            "lease_duration": max(0, round(token.ends - self._clock.now())) if token.ends else 0,
            "renewable": token.renewable,
            "metadata": {},
            "entity_id": "",
            "token_type": "service",
            "orphan": True,
            "num_uses": 0,
        }


class AuthMethod:
    """One mounted auth method with its roles."""

    def __init__(self, kind: str, tokens: Tokens) -> None:
        """Begin with no roles."""
        self.kind, self._tokens = kind, tokens
        self.roles: dict[str, JSONObject] = {}
        self.role_ids: dict[str, str] = {}
        self._secret_ids: dict[str, str] = {}
        self.logins = 0

    def exists(self, path: str) -> bool:
        """Answer the existence check of the access control."""
        return path.removeprefix("role/") in self.roles

    def serve(self, call: Call) -> JSONObject | None:
        """Answer below the mount."""
        parts = call.path.split("/")
        match parts:
            case ["login"] if call.verb in ("POST", "PUT"):
                self.logins += 1
                return {"auth": self._tokens.describe(self._login(call.body))}
            case ["role"] if call.verb == "LIST" and self.roles:
                return {"data": {"keys": sorted(self.roles)}}
            case ["role", name]:
                return self._role(call, name)
            case ["role", name, "role-id"] if name in self.role_ids and call.verb == "GET":
                return {"data": {"role_id": self.role_ids[name]}}
            case ["role", name, "secret-id"] if name in self.role_ids and call.verb in ("POST", "PUT"):
                secret_id = str(uuid.uuid4())
                self._secret_ids[secret_id] = name
                return {
                    "data": {"secret_id": secret_id, "secret_id_accessor": str(uuid.uuid4()), "secret_id_num_uses": 0, "secret_id_ttl": 0}
                }
        raise Refused(404)

    def _role(self, call: Call, name: str) -> JSONObject | None:
        match call.verb:
            case "GET":
                if name not in self.roles:
                    raise Refused(404)
                return {"data": dict(self.roles[name])}
            case "POST" | "PUT":
                self.roles[name] = self._normal(self.roles.get(name) or KINDS[self.kind], call.body)
                if self.kind == "approle":
                    self.role_ids.setdefault(name, str(uuid.uuid4()))
                return None
            case "DELETE":
                self.roles.pop(name, None)
                self.role_ids.pop(name, None)
                return None
        raise unsupported()

    def _normal(self, role: JSONObject, body: JSONObject) -> JSONObject:
        """Give the role after a write, as it is read back: durations as seconds, comma texts as lists, unknown fields ignored."""
        role = role | {key: _like(KINDS[self.kind][key], key, value) for key, value in body.items() if key in KINDS[self.kind]}
        if self.kind == "kubernetes":
            if not role["bound_service_account_names"]:
                raise Refused(400, '"bound_service_account_names" can not be empty')
            if not role["bound_service_account_namespaces"] and not role["bound_service_account_namespace_selector"]:
                raise Refused(
                    400, '"bound_service_account_namespaces" can not be empty if "bound_service_account_namespace_selector" is not set'
                )
        if role["token_max_ttl"] and role["token_ttl"] > role["token_max_ttl"]:
            raise Refused(400, "'token_ttl' cannot be greater than 'token_max_ttl'")
        return role

    def _login(self, body: JSONObject) -> Token:
        role = self._kubernetes(body) if self.kind == "kubernetes" else self._approle(body)
        policies = sorted({*role["token_policies"], *(() if role["token_no_default_policy"] else ("default",))})
        return self._tokens.make(policies, ttl=role["token_ttl"] or SYSTEM_TTL, longest=role["token_max_ttl"])

    def _kubernetes(self, body: JSONObject) -> JSONObject:
        """Check what the token claims; its signature is not checked."""
        name = body.get("role")
        if not name:
            raise Refused(400, "missing role")
        role = self.roles.get(str(name))
        if role is None:
            raise Refused(400, f'invalid role name "{name}"')
        claims = _claims(str(body.get("jwt", "")))
        _, _, namespace, account = [*str(claims.get("sub", "")).split(":"), "", "", "", ""][:4]
        if not {account, "*"} & set(role["bound_service_account_names"]):
            raise Refused(403, "service account name not authorized")
        if not {namespace, "*"} & set(role["bound_service_account_namespaces"]):
            raise Refused(403, "namespace not authorized")
        if role["audience"] and role["audience"] not in strings(claims.get("aud")):
            raise Refused(403, "invalid audience (aud) claim: audience claim does not match any expected audience")
        return role

    def _approle(self, body: JSONObject) -> JSONObject:
        name = next((name for name, role_id in self.role_ids.items() if role_id == body.get("role_id")), None)
        if name is None or (self.roles[name]["bind_secret_id"] and self._secret_ids.get(str(body.get("secret_id"))) != name):
            raise Refused(400, "invalid role or secret ID")
        return self.roles[name]


def service_account_token(namespace: str, name: str, *, audience: str = "vault") -> str:
    """Make the token of a Kubernetes service account, as far as the login here looks at one."""
    claims = {"sub": f"system:serviceaccount:{namespace}:{name}", "aud": [audience], "iss": "https://kubernetes.default.svc"}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), ""])


def _like(default: Any, key: str, value: Any) -> Any:
    if isinstance(default, bool):
        return value in (True, "true")
    if isinstance(default, int):
        return duration(value) if key.endswith(("ttl", "period")) else int(value)
    if isinstance(default, list) or default is None:
        return [item.removesuffix("/32") for item in strings(value)]
    return str(value)


def _claims(jwt: str) -> JSONObject:
    try:
        middle = jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, ValueError, binascii.Error):
        raise denied() from None
    if not isinstance(claims, dict):
        raise denied()
    return claims

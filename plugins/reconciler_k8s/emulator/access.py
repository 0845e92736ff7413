"""Who asks, and may they: bearer tokens, accounts of services, and the rules of RBAC."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from secrets import token_urlsafe

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.asking import Asked
from reconciler_k8s.emulator.statuses import ApiError
from reconciler_k8s.emulator.store import Store

RBAC = "rbac.authorization.k8s.io"
MASTERS = "system:masters"
EVERYBODY = "system:authenticated"
OPEN_PATHS = ("/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz")
OPEN_RESOURCES = frozenset({"selfsubjectreviews", "selfsubjectaccessreviews"})
FIRST_ROLES: tuple[JSONObject, ...] = (
    {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "cluster-admin"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}],
    },
    {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "cluster-admin"},
        "subjects": [{"kind": "Group", "name": MASTERS}],
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    },
)
"""What a cluster with RBAC has from the first."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a token. ``account`` is the (namespace, name) of a service's account."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    account: tuple[str, str] | None = None

    def info(self) -> JSONObject:
        """Write a UserInfo."""
        return {"username": self.name, **({"uid": self.uid} if self.uid else {}), "groups": list(self.groups)}


@dataclass(slots=True)
class Access:
    """The tokens, and the rules when ``enforced``; without them whoever has a token may do everything."""

    store: Store
    enforced: bool = False
    tokens: dict[str, User] = field(default_factory=dict)
    expiry: dict[str, float] = field(default_factory=dict)

    def add(self, token: str, name: str, groups: tuple[str, ...] = ()) -> None:
        """Give somebody a token that lasts."""
        self.tokens[token] = User(name, (*groups, EVERYBODY))

    def issue(self, account: JSONObject, seconds: int) -> str:
        """Make a token for an account of a service; it ends by time, and with the account."""
        namespace, name, uid = (account["metadata"][key] for key in ("namespace", "name", "uid"))
        user = f"system:serviceaccount:{namespace}:{name}"
        claims = {"sub": user, "exp": int(time.time()) + seconds}
        token = ".".join((_part({"alg": "RS256", "kid": ""}), _part(claims), token_urlsafe(48)))
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", EVERYBODY)
        self.tokens[token] = User(user, groups, uid, (namespace, name))
        self.expiry[token] = time.monotonic() + seconds
        return token

    def user(self, header: str | None) -> User:
        """Say who sends an ``Authorization`` header. Raises ApiError with 401."""
        token = (header or "").removeprefix("Bearer ")
        user = self.tokens.get(token)
        if user is None or time.monotonic() > self.expiry.get(token, float("inf")) or not self._lives(user):
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return user

    def _lives(self, user: User) -> bool:
        if user.account is None:
            return True
        found = self.store.peek(("", "serviceaccounts"), *user.account)
        return found is not None and found["metadata"]["uid"] == user.uid

    def check(self, user: User, asked: Asked) -> None:
        """Raise ApiError with 403 unless the user may do this."""
        if self.allows(user, asked) is not None:
            return
        if not asked.plural:
            raise ApiError(403, f'forbidden: User "{user.name}" cannot {asked.verb} path "{asked.path}"', "Forbidden", {})
        place = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
        what = f'{asked.qualified} "{asked.name}"' if asked.name else asked.qualified
        does = f'User "{user.name}" cannot {asked.verb} resource "{asked.resource}" in API group "{asked.group}" {place}'
        details = {**({"name": asked.name} if asked.name else {}), **({"group": asked.group} if asked.group else {}), "kind": asked.plural}
        raise ApiError(403, f"{what} is forbidden: {does}", "Forbidden", details)

    def allows(self, user: User, asked: Asked) -> str | None:
        """Say why the user may do this; None when nothing allows it."""
        if not self.enforced or MASTERS in user.groups:
            return ""
        if not asked.plural and any(asked.path == path or asked.path.startswith(path + "/") for path in OPEN_PATHS):
            return ""
        if asked.plural in OPEN_RESOURCES and asked.verb == "create":
            return ""
        return next((why for rule, why in self._rules(user, asked.namespace) if _covers(rule, asked)), None)

    def check_grant(self, user: User, asked: Asked, rules: list[JSONObject]) -> None:
        """Raise ApiError with 403 when somebody would write a role that may do more than he may himself."""
        if self.allows(user, replace(asked, verb="escalate")) is not None:
            return
        missing = [rule for rule in rules if not self._holds(user, asked.namespace, rule)]
        if missing:
            groups = "[" + " ".join(f'"{one}"' for one in user.groups) + "]"
            shown = "\n".join(_shown(rule) for rule in missing)
            does = f'user "{user.name}" (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{shown}'
            details = {"name": asked.name, "group": asked.group, "kind": asked.plural}
            raise ApiError(403, f'{asked.qualified} "{asked.name}" is forbidden: {does}', "Forbidden", details)

    def _holds(self, user: User, namespace: str, rule: JSONObject) -> bool:
        if rule.get("nonResourceURLs"):
            pairs = [Asked(verb, path) for verb in rule.get("verbs") or () for path in rule["nonResourceURLs"]]
            return all(self.allows(user, one) is not None for one in pairs)
        names = rule.get("resourceNames") or [""]
        return all(
            self.allows(user, Asked(verb, "", group, "", *_parts_of(resource), namespace, name)) is not None
            for verb in rule.get("verbs") or ()
            for group in rule.get("apiGroups") or ()
            for resource in rule.get("resources") or ()
            for name in names
        )

    def _rules(self, user: User, namespace: str) -> Iterator[tuple[JSONObject, str]]:
        bindings = self.store.all((RBAC, "clusterrolebindings"))
        bindings += self.store.all((RBAC, "rolebindings"), namespace) if namespace else []
        for binding in bindings:
            home = binding["metadata"].get("namespace", "")
            subject = next((one for one in binding.get("subjects") or () if _is(user, one, home)), None)
            reference = binding["roleRef"]
            if subject is None:
                continue
            local = reference["kind"] == "Role"
            role = self.store.peek((RBAC, "roles" if local else "clusterroles"), home if local else "", reference["name"])
            name = f"{binding['metadata']['name']}/{home}" if home else binding["metadata"]["name"]
            who = f"{subject['name']}/{subject['namespace']}" if subject["kind"] == "ServiceAccount" else subject["name"]
            bound = "RoleBinding" if home else "ClusterRoleBinding"
            why = f'RBAC: allowed by {bound} "{name}" of {reference["kind"]} "{reference["name"]}" to {subject["kind"]} "{who}"'
            for rule in (role or {}).get("rules") or ():
                yield rule, why


def _parts_of(resource: str) -> tuple[str, str]:
    plural, _, sub = resource.partition("/")
    return plural, sub


def _shown(rule: JSONObject) -> str:
    names = {"apiGroups": "APIGroups", "resources": "Resources", "resourceNames": "ResourceNames"}
    names |= {"nonResourceURLs": "NonResourceURLs", "verbs": "Verbs"}
    parts = [f"{name}:[" + ", ".join(f'"{one}"' for one in rule[key]) + "]" for key, name in names.items() if rule.get(key)]
    return "{" + ", ".join(parts) + "}"


def _part(value: JSONObject) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _is(user: User, subject: JSONObject, namespace: str) -> bool:
    match subject.get("kind"):
        case "User":
            return bool(subject["name"] == user.name)
        case "Group":
            return subject["name"] in user.groups
        case "ServiceAccount":
            return (subject.get("namespace") or namespace, subject["name"]) == user.account
    return False


def _covers(rule: JSONObject, asked: Asked) -> bool:
    def has(key: str, *values: str) -> bool:
        return bool({"*", *values} & set(rule.get(key) or ()))

    if not asked.plural:
        urls = rule.get("nonResourceURLs") or ()
        return has("verbs", asked.verb) and any(
            asked.path == url or (url.endswith("*") and asked.path.startswith(url[:-1])) for url in urls
        )
    names = rule.get("resourceNames")
    resources = (asked.resource, f"*/{asked.sub}") if asked.sub else (asked.plural,)
    named = not names or asked.name in names
    return named and has("verbs", asked.verb) and has("apiGroups", asked.group) and has("resources", *resources)

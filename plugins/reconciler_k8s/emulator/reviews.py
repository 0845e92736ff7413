"""What is answered and never stored: tokens for accounts of services, and the questions of who one is and what one may."""

import time
from collections.abc import Callable
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.access import Access, User
from reconciler_k8s.emulator.asking import Asked
from reconciler_k8s.emulator.kinds import SUB_GROUPS
from reconciler_k8s.emulator.managers import Actor, Managers
from reconciler_k8s.emulator.shapes import ANY
from reconciler_k8s.emulator.store import now

AUDIENCE = "https://kubernetes.default.svc"
LASTS = 3600
"""Seconds that a token lasts when nobody says."""


def _owned(body: JSONObject, actor: Actor) -> list[JSONObject]:
    managers = Managers()
    before: JSONObject = {"metadata": {}, "spec": {}}
    managers.update(before, {"metadata": {}, "spec": body.get("spec") or {}}, ANY, actor, lambda path: False)
    return managers.write()


def token_request(access: Access, account: JSONObject, body: JSONObject, manager: str) -> JSONObject:
    """Answer a TokenRequest."""
    group, version = SUB_GROUPS["token"]
    actor = Actor(manager, "Update", f"{group}/{version}", "token", now())
    spec = body.get("spec") or {}
    seconds = int(spec.get("expirationSeconds") or LASTS)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    metadata: JSONObject = {key: account["metadata"][key] for key in ("name", "namespace", "uid")}
    return {
        "kind": "TokenRequest",
        "apiVersion": f"{group}/{version}",
        "metadata": {**metadata, "creationTimestamp": now(), "managedFields": _owned(body, actor)},
        "spec": {
            "audiences": spec.get("audiences") or [AUDIENCE],
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {"token": access.issue(account, seconds), "expirationTimestamp": until},
    }


def _who_am_i(access: Access, user: User, body: JSONObject, actor: Actor) -> JSONObject:
    return {"metadata": {"creationTimestamp": now()}, "status": {"userInfo": user.info()}}


def _may_i(access: Access, user: User, body: JSONObject, actor: Actor) -> JSONObject:
    spec: Any = body.get("spec") or {}
    if "nonResourceAttributes" in spec:
        found = spec["nonResourceAttributes"]
        wanted = Asked(found.get("verb", ""), found.get("path", ""))
    else:
        found = spec.get("resourceAttributes") or {}
        keys = {"plural": "resource", "sub": "subresource", "group": "group", "namespace": "namespace", "name": "name"}
        wanted = Asked(found.get("verb", ""), "", **{key: str(found.get(place, "")) for key, place in keys.items()})
    why = access.allows(user, wanted)
    status: JSONObject = {"allowed": why is not None, **({"reason": why} if why else {})}
    fields = _owned(body, actor)
    return {"metadata": {"managedFields": fields} if fields else {}, "spec": spec, "status": status}


REVIEWS: dict[str, Callable[[Access, User, JSONObject, Actor], JSONObject]] = {
    "SelfSubjectReview": _who_am_i,
    "SelfSubjectAccessReview": _may_i,
}
"""The kinds that are only ever asked."""

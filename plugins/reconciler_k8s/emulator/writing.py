"""The writing requests: patches of four kinds, PUT, POST and DELETE, from the wire to the machine."""

import json
from dataclasses import dataclass, replace
from typing import Any

import yaml
from starlette.requests import Request as HttpRequest

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.access import RBAC, Access, User
from reconciler_k8s.emulator.asking import asked
from reconciler_k8s.emulator.decoding import decode_body
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.machine import Machine, Request
from reconciler_k8s.emulator.managers import Actor
from reconciler_k8s.emulator.patches import PatchError, json_patch, merge_patch, strategic_merge
from reconciler_k8s.emulator.pods import CREATED
from reconciler_k8s.emulator.removal import delete_options
from reconciler_k8s.emulator.reviews import REVIEWS, token_request
from reconciler_k8s.emulator.statuses import ApiError, bad_request, no_method, not_found, unprocessable
from reconciler_k8s.emulator.store import now
from reconciler_k8s.emulator.versions import served, stored
from reconciler_k8s.emulator.wire import REGISTERED, Target, check_body, check_name, decoded, parsed, scale_of, selecting

ROLES = frozenset({"roles", "clusterroles"})
APPLY, JSON_PATCH = "application/apply-patch+yaml", "application/json-patch+json"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


@dataclass(slots=True)
class Writing:
    """One writing request on its way to the machine."""

    machine: Machine
    access: Access
    user: User
    target: Target
    request: HttpRequest
    body: bytes

    def answer(self) -> tuple[int, JSONObject]:
        """Do it. Gives the code and the object. Raises ApiError."""
        if self.target.kind.group == RBAC and self.target.kind.plural in ROLES and self.request.method != "DELETE":
            self._check_grant()
        match self.request.method:
            case "PATCH":
                return self._patch()
            case "PUT":
                return self._put()
            case "POST":
                return self._post()
            case _:
                return self._delete()

    @property
    def _kind(self) -> Kind:
        """Give the version of the kind that is stored: for built-in kinds the first that discovery names."""
        kind = self.target.kind
        return kind if kind.custom else next(one for one in self.machine.store.kinds.values() if one.key == kind.key)

    @property
    def _sort(self) -> str:
        return self.request.headers.get("content-type", "").partition(";")[0]

    @property
    def _strict(self) -> bool:
        return self.request.query_params.get("fieldValidation") == "Strict"

    @property
    def _manager(self) -> str:
        agent = self.request.headers.get("user-agent", "unknown").partition("/")[0]
        return self.request.query_params.get("fieldManager") or agent

    def _live(self) -> JSONObject | None:
        return self.machine.store.get(self.target.kind.key, self.target.namespace, self.target.name)

    def _there(self) -> JSONObject:
        live = self._live()
        if live is None:
            raise not_found(self.target.kind, self.target.name)
        return live

    def _write(self, operation: str) -> Request:
        query, target, kind = self.request.query_params, self.target, self._kind
        sub = target.sub if target.sub in ("status", "scale") else ""
        actor = Actor(self._manager, operation, kind.api_version, sub, now())
        forced = query.get("force") in ("true", "1")
        return Request(kind, target.namespace, target.name, actor, query.get("dryRun") == "All", sub, forced)

    def _check_grant(self) -> None:
        try:
            body = parsed(self.body)
        except (yaml.YAMLError, ValueError):
            return  # it is refused for this later
        rules = body.get("rules") if isinstance(body, dict) else None
        wanted = asked(self.request.method, self.request.url.path, self.request.query_params)
        self.access.check_grant(self.user, wanted, rules or [])

    def _patch(self) -> tuple[int, JSONObject]:
        if self._sort == APPLY:
            return self._apply()
        live, kind = served(self._there(), self.target.kind), self.target.kind
        patch = self._decoded_patch()
        try:
            if self._sort == JSON_PATCH:
                new = json_patch(live, patch)
            elif self._sort == MERGE:
                new = merge_patch(live, patch)
            else:
                new = strategic_merge(live, patch, kind.shape)
        except PatchError:
            raise ApiError(422, "the server rejected our request due to an error in our request", "Invalid", {}) from None
        if self.target.sub == "scale":
            self._scale(patch)
            return 200, scale_of(self._live() or live)
        check_name(new, self.target)
        new = decode_body(kind, new, strict=self._strict, patch=True)
        stored(new, kind)
        return self.machine.update(self._write("Update"), new)

    def _decoded_patch(self) -> Any:
        try:
            patch = json.loads(self.body)
        except ValueError as error:
            raise bad_request(f"error decoding patch: {error}") from None
        if self._sort == JSON_PATCH and not isinstance(patch, list):
            raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp")
        if self._sort == STRATEGIC and self.target.kind.custom:
            raise ApiError(415, f"{REGISTERED}{JSON_PATCH}, {MERGE}, {APPLY}", "UnsupportedMediaType")
        return patch

    def _scale(self, patch: JSONObject) -> None:
        """Change the replicas; the server keeps this entry without a time."""
        live = self._there()
        live["spec"]["replicas"] = (patch.get("spec") or {}).get("replicas", live["spec"].get("replicas"))
        live["metadata"]["generation"] += 1
        self.machine.alter(self.target.kind, live, self._manager, sub="scale")

    def _apply(self) -> tuple[int, JSONObject]:
        try:
            config = parsed(self.body)
        except (yaml.YAMLError, ValueError) as error:
            mark, said = getattr(error, "context_mark", None), getattr(error, "problem", str(error))
            where = f"line {mark.line + 1}: " if mark is not None else ""
            raise bad_request(f"error decoding YAML: error converting YAML to JSON: yaml: {where}{said}") from None
        check_body(config, self.target)
        if self._live() is None:
            if self.target.sub:
                raise not_found(self.target.kind, self.target.name)
            # who may change what is there may not yet make what is not
            wanted = asked("PATCH", self.request.url.path, self.request.query_params)
            self.access.check(self.user, replace(wanted, verb="create"))
        stored(config, self.target.kind)
        return self.machine.apply(self._write("Apply"), config)

    def _put(self) -> tuple[int, JSONObject]:
        new, target = decoded(self.body, self.target), self.target
        if target.sub == "finalize":
            return 200, self.machine.finalize(self._write("Update"), new)
        if target.sub == "scale":
            self._scale(new)
            return 200, scale_of(self._there())
        if target.kind.custom and not new["metadata"].get("resourceVersion"):
            cause = ("FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion")
            raise unprocessable(target.kind.plural, target.kind.group, target.name, [cause])
        stored(new, target.kind)
        return self.machine.update(self._write("Update"), new)

    def _post(self) -> tuple[int, JSONObject]:
        if self._sort not in ("application/json", "application/yaml"):
            types = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
            raise ApiError(415, f"{REGISTERED}{types}", "UnsupportedMediaType")
        target = self.target
        if target.sub:
            return self._post_below()
        new = decode_body(target.kind, decoded(self.body, target), strict=self._strict, patch=False)
        target.name = new["metadata"].get("name", "")
        if target.kind.name in REVIEWS:
            actor = replace(self._write("Update").actor, version=target.kind.api_version)
            head = {"kind": target.kind.name, "apiVersion": target.kind.api_version}
            return 201, head | REVIEWS[target.kind.name](self.access, self.user, new, actor)
        new["metadata"].setdefault("namespace", target.namespace) if target.kind.namespaced else None
        stored(new, target.kind)
        return self.machine.create(self._write("Update"), new)

    def _post_below(self) -> tuple[int, JSONObject]:
        live, body = self._there(), json.loads(self.body or b"{}")
        match self.target.sub:
            case "token":
                return 201, token_request(self.access, live, body, self._manager)
            case "eviction":
                self.machine.delete(self._write("Update"), delete_options(body.get("deleteOptions"), None))
            case "binding":
                live["spec"]["nodeName"] = (body.get("target") or {}).get("name", "")
                self.machine.update(self._write("Update"), live)
            case _:
                raise no_method()
        return 201, dict(CREATED)

    def _delete(self) -> tuple[int, JSONObject]:
        options = delete_options(json.loads(self.body) if self.body else {}, self.request.query_params.get("propagationPolicy"))
        write, target, store = self._write("Update"), self.target, self.machine.store
        if options.get("dryRun") == ["All"]:
            write = replace(write, dry_run=True)
        if target.name:
            return self.machine.delete(write, options)
        matches, version = selecting(self.request.query_params), str(store.version)
        gone = [one for one in store.all(target.kind.key, target.namespace) if matches(one)]
        for one in gone:
            place = one["metadata"]
            self.machine.delete(replace(write, namespace=place.get("namespace", ""), name=place["name"]), options)
        items = [{key: value for key, value in one.items() if key not in ("kind", "apiVersion")} for one in gone]
        head = {"kind": f"{target.kind.name}List", "apiVersion": target.kind.api_version}
        return 200, {**head, "metadata": {"resourceVersion": version}, "items": items}

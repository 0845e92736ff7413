"""The HTTP face of the emulated API server: paths, media types, selectors, pages and watches."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import yaml
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from reconciler.resource import JSONObject
from reconciler_k8s.emulator import kinds as kind_docs
from reconciler_k8s.emulator.decoding import decode_body
from reconciler_k8s.emulator.machine import Machine, Request
from reconciler_k8s.emulator.managers import Actor
from reconciler_k8s.emulator.patches import PatchError, json_patch, merge_patch, strategic_merge
from reconciler_k8s.emulator.removal import delete_options
from reconciler_k8s.emulator.statuses import ApiError, bad_request, no_page, not_found, unprocessable
from reconciler_k8s.emulator.store import now
from reconciler_k8s.emulator.wire import (
    DISCOVERY,
    PARTIAL,
    PARTIAL_LIST,
    REGISTERED,
    VERSION,
    Target,
    _yaml,
    answer,
    bookmark,
    check_accept,
    check_body,
    check_list,
    check_name,
    check_options,
    continued,
    decoded,
    item_key,
    line,
    listed,
    partial_of,
    plain,
    scale_of,
    selecting,
    shown,
    sort_for,
    token,
)


@dataclass(slots=True)
class Api:
    """The ASGI application. ``token`` is the only credential; ``truncated`` makes every listing break off after its first page."""

    machine: Machine
    token: str
    truncated: bool = False
    stopping: bool = False
    writes: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = HttpRequest(scope, receive)
        try:
            response = await self._answer(request)
        except ApiError as error:
            response = plain(error.text, error.code) if error.plain else answer(error.body, error.code)
        await response(scope, receive, send)

    async def _answer(self, request: HttpRequest) -> Response:
        path = request.url.path
        if path in ("/readyz", "/livez", "/healthz"):
            return plain("ok")
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise ApiError(401, "Unauthorized", "Unauthorized")
        if path == "/version":
            return answer(VERSION)
        with self.machine.store.lock:
            found = self._discovery(path, request.headers.get("accept", ""))
        if found is not None:
            return found
        body = await request.body()
        target = self._target(path)
        if request.method == "GET" and not target.name and request.query_params.get("watch") in ("true", "1"):
            return self._watch(target, request)
        with self.machine.store.lock:
            return self._handle(target, request, body)

    # -- discovery -----------------------------------------------------------------------------------------------------------

    def _discovery(self, path: str, accept: str) -> Response | None:
        kinds = list(self.machine.store.kinds.values())
        parts = [part for part in path.split("/") if part]
        if path in ("/api", "/apis") and DISCOVERY in accept:
            body = kind_docs.aggregated(kinds, core=path == "/api")
            return Response(json.dumps(body), media_type="application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        if path == "/api":
            addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}]
            return answer({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses})
        if path == "/apis":
            return answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": kind_docs.legacy_groups(kinds)})
        if path == "/openapi/v3":
            paths = {("api/v1" if not one.group else f"apis/{one.api_version}"): one for one in kinds}
            return plain(json.dumps({"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash=0"} for path in paths}}))
        if parts[:1] == ["api"] and len(parts) == 2:
            return answer(kind_docs.legacy_list(kinds, "", parts[1]))
        if parts[:1] == ["apis"] and len(parts) == 2:
            group = next((one for one in kind_docs.legacy_groups(kinds) if one["name"] == parts[1]), None)
            return answer({"kind": "APIGroup", "apiVersion": "v1", **group}) if group is not None else None
        if parts[:1] == ["apis"] and len(parts) == 3 and any((one.group, one.version) == (parts[1], parts[2]) for one in kinds):
            return answer(kind_docs.legacy_list(kinds, parts[1], parts[2]))
        return None

    def _target(self, path: str) -> Target:
        parts = [part for part in path.split("/") if part]
        if parts[:2] == ["api", "v1"]:
            group, version, rest = "", "v1", parts[2:]
        elif parts[:1] == ["apis"] and len(parts) > 3:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise no_page()
        served = self.machine.store.kinds
        if not any(one.group == group for one in served.values()):
            raise no_page()
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2 and not (len(rest) == 3 and rest[2] in ("status", "finalize")):
            namespace, rest = rest[1], rest[2:]
        kind = served.get((group, version, rest[0])) if rest else None
        if kind is None or len(rest) > 3:
            raise ApiError(404, "the server could not find the requested resource", "NotFound", {})
        return Target(kind, namespace, rest[1] if len(rest) > 1 else "", rest[2] if len(rest) > 2 else "")

    # -- one request ---------------------------------------------------------------------------------------------------------

    def _handle(self, target: Target, request: HttpRequest, body: bytes) -> Response:
        verb = request.method
        if target.sub and target.sub not in target.kind.subresources:
            raise ApiError(404, "the server could not find the requested resource", "NotFound", {})
        check_accept(request, target)
        if verb == "GET":
            return self._get(target, request) if target.name else self._list(target, request)
        allowed = ("PUT", "PATCH", "DELETE") if target.name else ("POST", "DELETE")
        if verb not in allowed and not (verb == "POST" and target.sub == "token"):
            raise ApiError(405, "the server does not allow this method on the requested resource", "MethodNotAllowed", {})
        self.writes += request.query_params.get("dryRun") != "All"
        check_options(verb, request.query_params, request.headers.get("content-type", ""))
        match verb:
            case "PATCH":
                code, whole = self._patch(target, request, body)
            case "PUT":
                code, whole = self._put(target, request, body)
            case "POST":
                code, whole = self._post(target, request, body)
            case _:
                code, whole = self._delete(target, request, body)
        return answer(shown(whole, target.kind, request), code)

    def _get(self, target: Target, request: HttpRequest) -> Response:
        found = self.machine.store.peek(target.kind.key, target.namespace, target.name)
        if found is None:
            raise not_found(target.kind, target.name)
        return answer(scale_of(found) if target.sub == "scale" else shown(found, target.kind, request))

    def _write(self, target: Target, request: HttpRequest, operation: str) -> Request:
        query = request.query_params
        agent = request.headers.get("user-agent", "unknown").partition("/")[0]
        sub = target.sub if target.sub in ("status", "scale") else ""
        actor = Actor(query.get("fieldManager") or agent, operation, target.kind.api_version, sub, now())
        return Request(
            target.kind, target.namespace, target.name, actor, query.get("dryRun") == "All", sub, query.get("force") in ("true", "1")
        )

    def _patch(self, target: Target, request: HttpRequest, body: bytes) -> tuple[int, JSONObject]:
        sort = request.headers.get("content-type", "").partition(";")[0]
        if sort == "application/apply-patch+yaml":
            return self._apply(target, request, body)
        live = self.machine.store.get(target.kind.key, target.namespace, target.name)
        if live is None:
            raise not_found(target.kind, target.name)
        try:
            patch = json.loads(body)
        except ValueError as error:
            raise bad_request(f"error decoding patch: {error}") from None
        if sort == "application/json-patch+json" and not isinstance(patch, list):
            raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp")
        if sort == "application/strategic-merge-patch+json" and target.kind.custom:
            types = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
            raise ApiError(415, f"{REGISTERED}{types}", "UnsupportedMediaType")
        try:
            if sort == "application/json-patch+json":
                new = json_patch(live, patch)
            elif sort == "application/merge-patch+json":
                new = merge_patch(live, patch)
            else:
                new = strategic_merge(live, patch, target.kind.shape)
        except PatchError:
            raise ApiError(422, "the server rejected our request due to an error in our request", "Invalid", {}) from None
        if target.sub == "scale":
            self._scale(target, request, patch)
            return 200, scale_of(self.machine.store.get(target.kind.key, target.namespace, target.name) or live)
        check_name(new, target)
        new = decode_body(target.kind, new, strict=request.query_params.get("fieldValidation") == "Strict", patch=True)
        return self.machine.update(self._write(target, request, "Update"), new)

    def _scale(self, target: Target, request: HttpRequest, patch: JSONObject) -> None:
        """Change the replicas; the server keeps this entry without a time."""
        live = self.machine.store.get(target.kind.key, target.namespace, target.name)
        assert live is not None
        live["spec"]["replicas"] = (patch.get("spec") or {}).get("replicas", live["spec"].get("replicas"))
        live["metadata"]["generation"] += 1
        self.machine.alter(target.kind, live, self._write(target, request, "Update").actor.manager, sub="scale")

    def _apply(self, target: Target, request: HttpRequest, body: bytes) -> tuple[int, JSONObject]:
        try:
            config: Any = json.loads(body) if body.startswith(b"{") else json.loads(json.dumps(_yaml(body), default=str))
        except (yaml.YAMLError, ValueError) as error:
            mark, said = getattr(error, "context_mark", None), getattr(error, "problem", str(error))
            where = f"line {mark.line + 1}: " if mark is not None else ""
            raise bad_request(f"error decoding YAML: error converting YAML to JSON: yaml: {where}{said}") from None
        check_body(config, target)
        if target.sub and self.machine.store.peek(target.kind.key, target.namespace, target.name) is None:
            raise not_found(target.kind, target.name)
        return self.machine.apply(self._write(target, request, "Apply"), config)

    def _put(self, target: Target, request: HttpRequest, body: bytes) -> tuple[int, JSONObject]:
        new = decoded(body, target)
        if target.sub == "finalize":
            return 200, self.machine.finalize(self._write(target, request, "Update"), new)
        if target.kind.custom and not new["metadata"].get("resourceVersion"):
            cause = ("FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion")
            raise unprocessable(target.kind.plural, target.kind.group, target.name, [cause])
        return self.machine.update(self._write(target, request, "Update"), new)

    def _post(self, target: Target, request: HttpRequest, body: bytes) -> tuple[int, JSONObject]:
        if request.headers.get("content-type", "").partition(";")[0] not in ("application/json", "application/yaml"):
            types = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
            raise ApiError(415, f"{REGISTERED}{types}", "UnsupportedMediaType")
        new = decoded(body, target)
        new = decode_body(target.kind, new, strict=request.query_params.get("fieldValidation") == "Strict", patch=False)
        target.name = new["metadata"].get("name", "")
        new["metadata"].setdefault("namespace", target.namespace) if target.kind.namespaced else None
        return self.machine.create(self._write(target, request, "Update"), new)

    def _delete(self, target: Target, request: HttpRequest, body: bytes) -> tuple[int, JSONObject]:
        options = delete_options(json.loads(body) if body else {}, request.query_params.get("propagationPolicy"))
        write = self._write(target, request, "Update")
        if options.get("dryRun") == ["All"]:
            write = replace(write, dry_run=True)
        if target.name:
            return self.machine.delete(write, options)
        matches, version = selecting(request.query_params), str(self.machine.store.version)
        gone = [one for one in self.machine.store.all(target.kind.key, target.namespace) if matches(one)]
        for one in gone:
            self.machine.delete(replace(write, name=one["metadata"]["name"]), options)
        items = [{key: value for key, value in one.items() if key not in ("kind", "apiVersion")} for one in gone]
        return 200, {
            "kind": f"{target.kind.name}List",
            "apiVersion": target.kind.api_version,
            "metadata": {"resourceVersion": version},
            "items": items,
        }

    # -- lists ---------------------------------------------------------------------------------------------------------------

    def _list(self, target: Target, request: HttpRequest) -> Response:
        query = request.query_params
        store = self.machine.store
        check_list(query, store.version)
        matches = selecting(query)
        found = store.all(target.kind.key, target.namespace)
        start = continued(query["continue"], store.oldest) if query.get("continue") else None
        if start is not None and self.truncated:
            raise ApiError(410, "The provided continue parameter is too old to display a consistent list result.", "Expired")
        if start is not None:
            found = [one for one in found if item_key(one, target.namespace) >= start]
        limit = int(query.get("limit") or 0)
        if self.truncated:
            limit = 1
        matching, rest = list[JSONObject](), 0
        for number, one in enumerate(found):
            if limit and len(matching) == limit:
                rest = len(found) - number
                break
            if matches(one):
                matching.append(one)
        metadata: JSONObject = {"resourceVersion": str(store.version)}
        if rest:
            metadata["continue"] = token(store.version, item_key(matching[-1], target.namespace) + "\0")
            if not query.get("labelSelector") and not query.get("fieldSelector"):
                metadata["remainingItemCount"] = rest
        return listed(target.kind, metadata, matching, request)

    def _watch(self, target: Target, request: HttpRequest) -> Response:
        check_accept(request, target)
        seconds = float(request.query_params.get("timeoutSeconds") or 300)
        return StreamingResponse(self._events(target, request, seconds), media_type="application/json")

    async def _events(self, target: Target, request: HttpRequest, seconds: float) -> AsyncIterator[bytes]:
        store, query = self.machine.store, request.query_params
        matches = selecting(query) if PARTIAL_LIST not in request.headers.get("accept", "") else (lambda whole: False)
        partial = PARTIAL in request.headers.get("accept", "")
        version = query.get("resourceVersion") or ""
        deadline = asyncio.get_running_loop().time() + seconds
        with store.lock:
            seen = int(version) if version.isdigit() and version != "0" else store.version
            first = (
                []
                if version.isdigit() and version != "0"
                else [one for one in store.all(target.kind.key, target.namespace) if matches(one)]
            )
        if version.isdigit() and version != "0" and seen < store.oldest:
            expired = ApiError(410, f"too old resource version: {version} ({store.oldest})", "Expired").body
            yield line("ERROR", expired)
            return
        for one in first:
            yield line("ADDED", partial_of(one) if partial else one)
        if query.get("sendInitialEvents") == "true":
            yield line("BOOKMARK", bookmark(target.kind, seen, partial=partial, ends=True))
        while asyncio.get_running_loop().time() < deadline and not self.stopping:
            with store.lock:
                fresh = (
                    [event for event in store.events if event.version > seen and event.key == target.kind.key]
                    if store.version > seen
                    else []
                )
                seen = max(seen, store.version)
            for event in fresh:
                if target.namespace and event.whole["metadata"].get("namespace") != target.namespace:
                    continue
                sort = sort_for(event.sort, matches(event.before) if event.before is not None else False, matches(event.whole))
                if sort:
                    whole = event.whole
                    if sort == "DELETED" and event.sort != "DELETED" and event.before is not None:
                        whole = {**event.before, "metadata": {**event.before["metadata"], "resourceVersion": str(event.version)}}
                    yield line(sort, partial_of(whole) if partial else whole)
            await asyncio.sleep(0.01)
        if query.get("allowWatchBookmarks") == "true":
            yield line("BOOKMARK", bookmark(target.kind, seen, partial=partial, ends=False))

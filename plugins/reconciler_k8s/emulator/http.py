"""The HTTP face of the emulated API server: who asks for what, and which part answers."""

import json
from dataclasses import dataclass, field

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from reconciler_k8s.emulator import kinds as kind_docs
from reconciler_k8s.emulator.access import Access, User
from reconciler_k8s.emulator.asking import Asked, asked
from reconciler_k8s.emulator.listing import list_objects, wait_for_version
from reconciler_k8s.emulator.machine import Machine
from reconciler_k8s.emulator.pods import ON_NODES, on_node
from reconciler_k8s.emulator.reviews import REVIEWS
from reconciler_k8s.emulator.statuses import ApiError, no_method, no_page, no_resource, not_found
from reconciler_k8s.emulator.watching import Watch
from reconciler_k8s.emulator.wire import DISCOVERY, VERSION, Target, answer, check_accept, check_options, plain, scale_of, shown
from reconciler_k8s.emulator.writing import Writing

HEALTH = ("/readyz", "/livez", "/healthz")


@dataclass(slots=True)
class Api:
    """The ASGI application. ``token`` is the administrator's; ``truncated`` makes every listing break off after its first page."""

    machine: Machine
    token: str
    access: Access = field(init=False)
    truncated: bool = False
    stopping: bool = False
    writes: int = 0

    def __post_init__(self) -> None:
        """Let the administrator in."""
        self.access = Access(self.machine.store)
        self.access.add(self.token, "admin", ("system:masters",))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = HttpRequest(scope, receive)
        try:
            response = await self._answer(request)
        except ApiError as error:
            response = plain(error.text, error.code) if error.plain else answer(error.body, error.code)
        await response(scope, receive, send)

    async def _answer(self, request: HttpRequest) -> Response:
        wanted = asked(request.method, request.url.path, request.query_params)
        store = self.machine.store
        with store.lock:
            user = self.access.user(request.headers.get("authorization"))
            self.access.check(user, wanted)
            if not wanted.plural:
                return self._page(wanted.path, request.headers.get("accept", ""))
            target = self._target(wanted)
        if wanted.verb == "watch":
            check_accept(request, target)
            watch = Watch.of(store, target, request)
            return StreamingResponse(watch.lines(lambda: self.stopping), media_type="application/json")
        body = await request.body()
        if wanted.verb == "list":
            await wait_for_version(request.query_params, store)
        with store.lock:
            return self._handle(target, user, request, body)

    # -- paths that are no resources -----------------------------------------------------------------------------------------

    def _page(self, path: str, accept: str) -> Response:
        if path in HEALTH:
            return plain("ok")
        if path == "/version":
            return answer(VERSION)
        found = self._discovery(path, accept)
        if found is None:
            raise no_page()
        return found

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

    # -- resources -----------------------------------------------------------------------------------------------------------

    def _target(self, wanted: Asked) -> Target:
        kinds = self.machine.store.kinds
        if not any(one.group == wanted.group for one in kinds.values()):
            raise no_page()
        kind = kinds.get((wanted.group, wanted.version, wanted.plural))
        if kind is None or "/" in wanted.sub or (wanted.sub and wanted.sub not in kind.subresources):
            raise no_resource()
        if kind.namespaced and wanted.named and not wanted.namespace:
            raise no_resource()
        return Target(kind, wanted.namespace if kind.namespaced else "", wanted.named, wanted.sub)

    def _handle(self, target: Target, user: User, request: HttpRequest, body: bytes) -> Response:
        check_accept(request, target)
        if target.sub in ON_NODES:
            raise on_node(target.kind, target.name)
        if request.method == "GET":
            return self._get(target, request)
        allowed = ("PUT", "PATCH", "DELETE") if target.name else ("POST", "DELETE")
        if request.method not in allowed and not (request.method == "POST" and target.sub in ("token", "eviction", "binding")):
            raise no_method()
        self.writes += request.query_params.get("dryRun") != "All" and target.kind.name not in REVIEWS
        check_options(request.method, request.query_params, request.headers.get("content-type", ""))
        code, whole = Writing(self.machine, self.access, user, target, request, body).answer()
        return answer(shown(whole, target.kind, request), code)

    def _get(self, target: Target, request: HttpRequest) -> Response:
        if not target.name:
            if "list" not in target.kind.verbs:
                raise no_method()
            return list_objects(self.machine.store, target, request, truncated=self.truncated)
        found = self.machine.store.peek(target.kind.key, target.namespace, target.name)
        if found is None:
            raise not_found(target.kind, target.name)
        return answer(scale_of(found) if target.sub == "scale" else shown(found, target.kind, request))

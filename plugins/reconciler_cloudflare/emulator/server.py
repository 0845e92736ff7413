"""Cloudflare's HTTP face: routes, the envelope, credentials, filters, the rate limit and the switches for faults."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer, FaultMiddleware, Faults
from reconciler_cloudflare.emulator.rules import Refused
from reconciler_cloudflare.emulator.store import Zone, zone_from

ROOT = "/client/v4"
ACCOUNT = "e" * 32
TEXT_FILTERS = ("name", "content", "comment")
READ, WRITE, ZONE = "DNS Read", "DNS Write", "Zone Read"
RIGHTS = (READ, WRITE, ZONE)
"""What a token may do, as the dashboard calls it; the audit log has a switch of its own."""


class CloudflareEmulator:
    """An account with zones. Seed: ``{"zones": {name: {"records": [...], "quota": 200}}, "token": "..."}``, every part optional.

    ``rate_limit`` in the seed is ``[requests, seconds]``, by default Cloudflare's 1200 in 300. ``rights`` are the token's, by default
    DNS Read, DNS Write and Zone Read; a zone may have a ``status`` and be ``paused``. ``audit: false`` takes the right to read the audit
    log from the token; ``slow_audit`` (seconds) delays its answers. ``retry_after`` (seconds) is what a refusal for too many requests
    asks for when a fault plays it; by default 1.
    """

    def __init__(self, seed: JSONObject | None = None) -> None:
        """Build the account; nothing listens yet."""
        self.faults = Faults()
        self.bodies: deque[tuple[str, str, JSONObject]] = deque(maxlen=1000)
        self.headers: deque[dict[str, str]] = deque(maxlen=1000)
        self._calls: deque[float] = deque()
        self._partial = 0
        self.load(seed or {})
        self._server = AppServer(self._app())

    def load(self, seed: JSONObject) -> None:
        """Forget everything and begin again from ``seed``, on the same port."""
        self.token = str(seed.get("token") or f"emulated-{uuid4().hex}")
        self.zones = {name: zone_from(name, one) for name, one in (seed.get("zones") or {"example.com": {}}).items()}
        self.retry_after = int(seed.get("retry_after", 1))
        self.audit, self.slow_audit = bool(seed.get("audit", True)), float(seed.get("slow_audit", 0))
        self.rights = set(seed.get("rights", RIGHTS))
        self._allowed, self._window = seed.get("rate_limit", (1200, 300.0))
        for log in (self.faults.active, self.faults.requests, self.bodies, self.headers, self._calls):
            log.clear()

    def start(self) -> None:
        """Listen on a free loopback port."""
        self._server.start()

    def stop(self) -> None:
        """Close every socket."""
        self._server.stop()

    def settings(self) -> JSONObject:
        """Give the target's configuration."""
        ids = {name: zone.id for name, zone in self.zones.items()}
        return {"base_url": f"{self._server.url}{ROOT}", "token": self.token, "zones": ids}

    def summary(self) -> list[str]:
        """Say what is inside."""
        lines = [f"Cloudflare API at {self._server.url}{ROOT}"]
        for name, zone in self.zones.items():
            quota = f" of {zone.limits.quota}" if zone.limits.quota is not None else ""
            lines.append(f"zone {name}: {len(zone.records)}{quota} records; GET /zones/{zone.id}/dns_records with the bearer token")
        return lines

    @contextmanager
    def partial(self, times: int = 1_000_000) -> Iterator[None]:
        """Leave the last record out of the next ``times`` listings, while their count still speaks of it."""
        self._partial = times
        try:
            yield
        finally:
            self._partial = 0

    # -- the application -----------------------------------------------------------------------------------------------------

    def _app(self) -> ASGIApp:
        zone = f"{ROOT}/zones/{{zone}}"
        record = f"{zone}/dns_records/{{id}}"
        routes = [
            self._route(f"{ROOT}/user/tokens/verify", "GET", self._verify, ""),
            self._route(f"{ROOT}/accounts/{{account}}/tokens/verify", "GET", self._verify, ""),
            self._route(f"{ROOT}/accounts/{{account}}/audit_logs", "GET", self._audit_logs, ""),
            self._route(f"{ROOT}/zones", "GET", self._list_zones, ZONE),
            self._route(zone, "GET", self._get_zone, ZONE),
            self._route(f"{zone}/dns_records", "GET", self._list, READ),
            self._route(f"{zone}/dns_records", "POST", self._post, WRITE),
            self._route(f"{zone}/dns_records/batch", "POST", self._batch, WRITE),
            self._route(f"{zone}/dns_records/usage", "GET", self._usage, READ),
            self._route(record, "GET", self._get, READ),
            self._route(record, "PATCH", self._patch, WRITE),
            self._route(record, "PUT", self._put, WRITE),
            self._route(record, "DELETE", self._delete, WRITE),
        ]
        app = Starlette(routes=routes, exception_handlers={404: _no_route, 405: _no_route})
        return FaultMiddleware(app, self.faults, self._fault)

    def _route(self, path: str, method: str, handle: Callable[[Request, JSONObject], JSONObject], right: str) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                body = await self._admitted(request)
                if right and right not in self.rights:
                    raise Refused(10000, "Authentication error", status=403)
                if handle == self._audit_logs:
                    await asyncio.sleep(self.slow_audit)
                return self._headed(JSONResponse(handle(request, body)))
            except Refused as error:
                return self._headed(_failure(error))

        return Route(path, endpoint, methods=[method])

    async def _admitted(self, request: Request) -> JSONObject:
        """Check the rate and the credential; give the body."""
        self.headers.append(dict(request.headers))
        now = time.monotonic()
        while self._calls and now - self._calls[0] >= self._window:
            self._calls.popleft()
        if len(self._calls) >= self._allowed:
            raise Refused(10429, "Rate limited. Please wait and consider throttling your request speed.", status=429)
        self._calls.append(now)
        authorization = request.headers.get("authorization")
        if authorization is None:
            raise Refused(9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
        if authorization != f"Bearer {self.token}":
            raise Refused(10000, "Authentication error", status=403)
        body = _body(await request.body())
        if request.method != "GET":
            self.bodies.append((request.method, request.url.path.removeprefix(ROOT), body))
        return body

    def _headed(self, response: Response) -> Response:
        remaining = max(0, self._allowed - len(self._calls))
        response.headers["Ratelimit-Policy"] = f'"default";q={self._allowed};w={self._window:g}'
        response.headers["Ratelimit"] = f'"default";r={remaining};t={self._window:g}'
        if response.status_code == 429:
            response.headers["Retry-After"] = str(max(1, round(self._window)))
        return response

    def _fault(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        json_type = {"content-type": "application/json"}
        if kind == "rate-limit":
            limited = _failure(Refused(10429, "Rate limited. Please wait and consider throttling your request speed.", status=429))
            return (
                429,
                {**json_type, "retry-after": str(self.retry_after), "ratelimit": f'"default";r=0;t={min(1, self.retry_after)}'},
                bytes(limited.body),
            )
        if kind == "unsuccessful":
            return 200, json_type, bytes(_failure(Refused(10013, "An unknown error has occurred.")).body)
        if kind == "html":
            return 502, {"content-type": "text/html"}, b"<html><head><title>502 Bad Gateway</title></head></html>"
        return 500, json_type, bytes(_failure(Refused(10001, "Internal server error", status=500)).body)

    # -- operations ----------------------------------------------------------------------------------------------------------

    def _verify(self, request: Request, body: JSONObject) -> JSONObject:
        return _success({"id": "0" * 32, "status": "active"})

    def _zone(self, request: Request) -> Zone:
        id = request.path_params["zone"]
        zone = next((one for one in self.zones.values() if one.id == id), None)
        if zone is None:
            path = request.url.path.removeprefix(ROOT)
            raise Refused(7003, f"Could not route to {path}, perhaps your object identifier is invalid?", status=404)
        return zone

    def _list_zones(self, request: Request, body: JSONObject) -> JSONObject:
        name = request.query_params.get("name")
        found = [_zone_answer(one) for one in self.zones.values() if name is None or _named(one.name, name)]
        return _page(request, found, size=20, largest=50)

    def _get_zone(self, request: Request, body: JSONObject) -> JSONObject:
        return _success(_zone_answer(self._zone(request)))

    def _audit_logs(self, request: Request, body: JSONObject) -> JSONObject:
        if not self.audit or request.path_params["account"] != ACCOUNT:
            raise Refused(10000, "Authentication error", status=403)
        query = request.query_params
        lines = [line for zone in self.zones.values() if query.get("zone.name", zone.name) == zone.name for line in zone.log]
        found = [line for line in lines if _between(line["when"], query.get("since"), query.get("before"))]
        found.sort(key=lambda line: str(line["when"]), reverse=query.get("direction", "desc") == "desc")
        page, size = _number(request, "page", 1), min(1000, _number(request, "per_page", 100))
        return _success(found[(page - 1) * size : page * size])

    def _list(self, request: Request, body: JSONObject) -> JSONObject:
        found = [one for one in self._zone(request).listing() if _passes(one, request)]
        answer = _page(request, found, size=100, largest=5000)
        if self._partial and answer["result"]:
            self._partial -= 1
            answer["result"] = answer["result"][:-1]
            answer["result_info"]["count"] -= 1
        return answer

    def _post(self, request: Request, body: JSONObject) -> JSONObject:
        zone = self._zone(request)
        with zone.transaction():
            return _success(zone.post(body))

    def _batch(self, request: Request, body: JSONObject) -> JSONObject:
        return _success(self._zone(request).batch(body))

    def _usage(self, request: Request, body: JSONObject) -> JSONObject:
        zone = self._zone(request)
        return _success({"record_quota": zone.limits.quota, "record_usage": len(zone.records)})

    def _get(self, request: Request, body: JSONObject) -> JSONObject:
        return _success(self._zone(request).get(request.path_params["id"]))

    def _patch(self, request: Request, body: JSONObject) -> JSONObject:
        zone = self._zone(request)
        with zone.transaction():
            return _success(zone.patch(request.path_params["id"], body))

    def _put(self, request: Request, body: JSONObject) -> JSONObject:
        zone = self._zone(request)
        with zone.transaction():
            return _success(zone.put(request.path_params["id"], body))

    def _delete(self, request: Request, body: JSONObject) -> JSONObject:
        zone = self._zone(request)
        with zone.transaction():
            return _success(zone.delete(request.path_params["id"]))


def _success(result: object) -> JSONObject:
    return {"success": True, "errors": [], "messages": [], "result": result}


def _failure(error: Refused) -> JSONResponse:
    return JSONResponse({"success": False, "errors": error.errors(), "messages": [], "result": None}, error.status)


async def _no_route(request: Request, error: Exception) -> Response:
    path = request.url.path.removeprefix(ROOT)
    return _failure(Refused(7000, f"No route for that URI: {path}", status=404))


def _page(request: Request, found: list[JSONObject], *, size: int, largest: int) -> JSONObject:
    page, size = _number(request, "page", 1), min(largest, _number(request, "per_page", size))
    shown = found[(page - 1) * size : page * size]
    info = {
        "page": page,
        "per_page": size,
        "count": len(shown),
        "total_count": len(found),
        "total_pages": -(-len(found) // size),
    }
    return {**_success(shown), "result_info": info}


def _body(text: bytes) -> JSONObject:
    try:
        body = json.loads(text) if text else {}
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(0, "The request body must be a JSON object.")
    return body


def _number(request: Request, name: str, usual: int) -> int:
    """Read a count of at least one. Raises Refused."""
    try:
        return max(1, int(float(request.query_params.get(name, usual))))
    except (ValueError, OverflowError):
        raise Refused(0, f"{name} must be a number.") from None


def _between(when: str, since: str | None, before: str | None) -> bool:
    moment = datetime.fromisoformat(when)
    return (since is None or datetime.fromisoformat(since) <= moment) and (before is None or moment < datetime.fromisoformat(before))


def _named(name: str, wanted: str) -> bool:
    operator, _, text = wanted.rpartition(":")
    return text.lower() in name if operator == "contains" else name == text.lower()


def _zone_answer(zone: Zone) -> JSONObject:
    account = {"id": ACCOUNT, "name": "Emulated account"}
    dates = dict.fromkeys(("created_on", "modified_on", "activated_on"), zone.made)
    originals = dict.fromkeys(("original_name_servers", "original_registrar", "original_dnshost"))
    servers = ["ada.ns.cloudflare.com", "bob.ns.cloudflare.com"]
    state = {"status": zone.status, "paused": zone.paused, "type": "full", "development_mode": 0, "name_servers": servers}
    return {
        "id": zone.id,
        "name": zone.name,
        **state,
        **originals,
        **dates,
        "account": account,
        "owner": {"type": "user"},
        "meta": {"step": 2},
    }


def _passes(record: JSONObject, request: Request) -> bool:
    query = request.query_params
    if "type" in query and record["type"] != query["type"]:
        return False
    return all(_text_passes(str(record.get(field) or "").lower(), field, query.items()) for field in TEXT_FILTERS)


def _text_passes(text: str, field: str, query: Iterable[tuple[str, str]]) -> bool:
    tests: dict[str, Callable[[str], bool]] = {
        field: lambda wanted: text == wanted,
        f"{field}.exact": lambda wanted: text == wanted,
        f"{field}.contains": lambda wanted: wanted in text,
        f"{field}.startswith": text.startswith,
        f"{field}.endswith": text.endswith,
        f"{field}.present": lambda wanted: bool(text),
        f"{field}.absent": lambda wanted: not text,
    }
    return all(tests[key](value.lower()) for key, value in query if key in tests)

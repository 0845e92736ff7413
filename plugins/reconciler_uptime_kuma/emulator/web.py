"""The emulated HTTP side: push addresses and metrics."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from reconciler.resource import JSONObject
from reconciler_uptime_kuma.emulator.auth import Auth
from reconciler_uptime_kuma.emulator.store import Store

NEVER = 3600.0
"""Seconds of a silence that outlasts every client."""
_STATES = {"up": 1, "down": 0}


def application(store: Store, auth: Auth, show: Callable[[JSONObject], Awaitable[None]]) -> Starlette:
    """Build the pages; ``show`` pushes a heartbeat to the sockets."""

    async def push(request: Request) -> Response:
        if not store.dialect.modern and request.method != "GET":
            return HTMLResponse(f"Cannot {request.method} {request.url.path}", status_code=404)
        token, query = request.path_params["token"], request.query_params
        with store.lock:
            id = next((id for id, row in store.monitors.items() if row["pushToken"] == token and store.view(id)["active"]), None)
            if id is None:
                return JSONResponse({"ok": False, "msg": "Monitor not found or not active."}, status_code=404)
            ping = float(query["ping"]) if query.get("ping") else None
            beat = store.beat(id, _STATES.get(query.get("status", "up"), 1), query.get("msg", "OK"), ping)
        await show(beat)
        return JSONResponse({"ok": True})

    async def metrics(request: Request) -> Response:
        user, _, password = _credentials(request).partition(":")
        right = password in store.api_keys.values() if store.api_keys else (user, password) == (auth.username, auth.password)
        if not right:
            return HTMLResponse("", status_code=401)
        with store.lock:
            lines = [_metric(store, id) for id in sorted(store.monitors) if store.beats.get(id) and not _mislabelled(store, id)]
        return PlainTextResponse("\n".join(["# TYPE monitor_status gauge", *lines, ""]), media_type="text/plain; version=0.0.4")

    async def page(request: Request) -> Response:
        return HTMLResponse("<title>Uptime Kuma</title>")

    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(
        routes=[
            Route("/api/push/{token}", push, methods=every),
            Route("/api/status-page/{slug}", partial(_status_page, store)),
            Route("/metrics", metrics),
            Route("/{path:path}", page),
        ]
    )


async def _status_page(store: Store, request: Request) -> Response:
    with store.lock:
        shown = store.pages.public(request.path_params["slug"], store.monitors)
    if shown is None and store.dialect.modern:
        return JSONResponse({"status": "fail", "msg": "Status Page Not Found"}, status_code=404)
    if shown is None:  # the real 1.23 never answers
        await asyncio.sleep(NEVER)
    return JSONResponse(shown)


def _credentials(request: Request) -> str:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        return base64.b64decode(value).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        return ""


def _mislabelled(store: Store, id: int) -> bool:
    """Say whether a monitor has a tag that the metrics of 2.x did not know at the start, and so is left out of them."""
    return store.dialect.modern and any(one["monitor_id"] == id and one["tag_id"] not in store.labels for one in store.monitor_tags)


def _metric(store: Store, id: int) -> str:
    row = store.monitors[id]
    labels = {"monitor_id": id} if store.dialect.modern else {}
    labels |= {f"monitor_{key}": row[key] for key in ("name", "type", "url", "hostname", "port")}
    text = ",".join(f'{key}="{"null" if value is None else value}"' for key, value in labels.items())
    return f"monitor_status{{{text}}} {store.beats[id][-1]['status']}"

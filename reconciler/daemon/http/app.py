"""Which routes stand behind which door, as the settings are now. Builds the applications; what a route does is in the room of its own."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from reconciler.daemon.http import openapi
from reconciler.daemon.http.access import Access
from reconciler.daemon.http.api import OPERATIONS, PREFIX, Api
from reconciler.daemon.http.bodies import Bodies, Room
from reconciler.daemon.http.door import Door
from reconciler.daemon.http.following import Following
from reconciler.daemon.http.health import Health
from reconciler.daemon.http.limits import Strikes
from reconciler.daemon.http.metrics import TYPE, Meters
from reconciler.daemon.http.operations import routes
from reconciler.daemon.http.problems import Trouble, on_bug, on_http_error, problem
from reconciler.daemon.http.slack import pressing
from reconciler.daemon.http.webhooks import Memory, Pokes, Webhooks
from reconciler.daemon.loop import Daemon
from reconciler.settings import Settings


def doors(daemon: Daemon, meters: Meters) -> list[Door]:
    """Give the doors that the settings ask for; none is open yet.

    They stay where they are. What is behind them follows the settings, and keeps in mind who was refused and what has come.
    """
    http, outside, inside = daemon.workshop.settings.http, Outside(daemon, meters), Inside(daemon, meters)
    made = []
    if http.webhook_listen:
        made.append(Door("webhooks", http.webhook_listen, _following(daemon, outside.routes)))
    if http.listen:
        behind = (inside.routes,) if http.webhook_listen else (inside.routes, outside.routes)
        made.append(Door("http", http.listen, _following(daemon, *behind)))
    return made


def _following(daemon: Daemon, *behind: Callable[[Settings], list[BaseRoute]]) -> ASGIApp:
    def build(now: Settings) -> ASGIApp:
        return application([route for routes_of in behind for route in routes_of(now)], now.http.trusted_proxies)

    return Following(lambda: daemon.workshop.settings, build)


def application(listed: Sequence[BaseRoute], proxies: Sequence[str] = ()) -> ASGIApp:
    """Make an application of some routes, with problem documents for what no route takes. ``proxies`` are believed about addresses."""
    made = Starlette(routes=listed, exception_handlers={HTTPException: on_http_error, Exception: on_bug})
    if not proxies:
        return made
    return cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", made), list(proxies)))  # uvicorn has names of its own for the same shapes


class Outside:
    """What may face the internet: webhooks and presses, whose senders prove themselves who they are."""

    def __init__(self, daemon: Daemon, meters: Meters) -> None:
        """Begin with a memory of nobody."""
        self._daemon, self._meters = daemon, meters
        self._memory, self._pressing = Memory(Pokes(daemon.head.poke)), pressing(daemon)

    def routes(self, now: Settings) -> list[BaseRoute]:
        """List those that the settings ask for."""
        told_from_forged = bool(now.notify.slack.signing_secret.get_secret_value())
        found: list[BaseRoute] = [self._pressing] if told_from_forged else []
        if now.http.webhooks:
            endpoint = Webhooks(now.http, self._memory, self._meters.received, self._daemon.vitals.arrived)
            found.append(Route("/webhooks/{name}", endpoint.receive, methods=["POST"]))
        return found


class Inside:
    """What is for the inside: health, metrics and, where there are tokens, the API."""

    def __init__(self, daemon: Daemon, meters: Meters) -> None:
        """Begin with a memory of nobody."""
        self._daemon, self._meters, self._health = daemon, meters, Health(daemon)
        self._strikes, self._room = Strikes(), Room()

    def routes(self, now: Settings) -> list[BaseRoute]:
        """List those that the settings ask for."""
        http, access = now.http, Access(now.http.tokens, self._strikes)
        asks = bool(http.tokens) and http.metrics == "token"
        found: list[BaseRoute] = [
            Route("/healthz", self._health.live),
            Route("/readyz", self._health.ready),
            Route("/metrics", _metrics(self._meters, access if asks else None)),
        ]
        if http.tokens:
            found += api_routes(self._daemon, access, Bodies(http.max_body, http.deadline, self._room))
        return found


def _metrics(meters: Meters, access: Access | None) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:
        try:
            if access is not None:
                access.person(request, "read")
        except Trouble as trouble:
            return problem(trouble.status, trouble.detail, headers=trouble.headers)
        return Response(await run_in_threadpool(meters.text), headers={"content-type": TYPE})

    return metrics


def api_routes(daemon: Daemon, access: Access, bodies: Bodies) -> list[BaseRoute]:
    """List the API and the document that describes it."""
    described = openapi.document(OPERATIONS, PREFIX)

    async def document(request: Request) -> Response:
        return JSONResponse(described)

    return [Route(f"{PREFIX}/openapi.json", document), *routes(OPERATIONS, Api(daemon), access, bodies, PREFIX)]

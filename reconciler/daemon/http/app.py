"""Which routes stand behind which door. Builds the applications; what a route does is in the room of its own."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.daemon.http import openapi
from reconciler.daemon.http.access import Access
from reconciler.daemon.http.api import OPERATIONS, PREFIX, Api
from reconciler.daemon.http.bodies import Bodies
from reconciler.daemon.http.config import Http
from reconciler.daemon.http.door import Door
from reconciler.daemon.http.health import Health
from reconciler.daemon.http.metrics import TYPE, Meters
from reconciler.daemon.http.operations import routes
from reconciler.daemon.http.problems import Trouble, on_bug, on_http_error, problem
from reconciler.daemon.http.webhooks import Webhooks
from reconciler.daemon.loop import Daemon


def doors(settings: Http, daemon: Daemon, meters: Meters, more: Sequence[BaseRoute] = ()) -> list[Door]:
    """Give the doors that the settings ask for; none is open yet. ``more`` are routes for the outside that prove who sends themselves."""
    outside = [*outside_routes(settings, daemon, meters), *more]
    made = []
    if settings.webhook_listen:
        made.append(Door("webhooks", settings.webhook_listen, application(outside), settings.trusted_proxies))
        outside = []
    if settings.listen:
        inside = inside_routes(settings, daemon, meters)
        made.append(Door("http", settings.listen, application([*inside, *outside]), settings.trusted_proxies))
    return made


def application(listed: Sequence[BaseRoute]) -> Starlette:
    """Make an application of some routes, with problem documents for what no route takes."""
    return Starlette(routes=listed, exception_handlers={HTTPException: on_http_error, Exception: on_bug})


def outside_routes(settings: Http, daemon: Daemon, meters: Meters) -> list[BaseRoute]:
    """List what may face the internet: the webhooks."""
    if not settings.webhooks:
        return []
    endpoint = Webhooks(settings, daemon.head.poke, meters.received, daemon.vitals.arrived)
    return [Route("/webhooks/{name}", endpoint.receive, methods=["POST"])]


def inside_routes(settings: Http, daemon: Daemon, meters: Meters) -> list[BaseRoute]:
    """List what is for the inside: health, metrics and, where there are tokens, the API."""
    health, access = Health(daemon), Access(settings.tokens)

    async def metrics(request: Request) -> Response:
        try:
            if settings.tokens and settings.metrics == "token":
                access.person(request, "read")
        except Trouble as trouble:
            return problem(trouble.status, trouble.detail, headers=trouble.headers)
        return Response(await run_in_threadpool(meters.text), headers={"content-type": TYPE})

    found: list[BaseRoute] = [Route("/healthz", health.live), Route("/readyz", health.ready), Route("/metrics", metrics)]
    if settings.tokens:
        found += api_routes(daemon, access, Bodies(settings.max_body, settings.deadline))
    return found


def api_routes(daemon: Daemon, access: Access, bodies: Bodies) -> list[BaseRoute]:
    """List the API and the document that describes it."""
    described = openapi.document(OPERATIONS, PREFIX)

    async def document(request: Request) -> Response:
        return JSONResponse(described)

    return [Route(f"{PREFIX}/openapi.json", document), *routes(OPERATIONS, Api(daemon), access, bodies, PREFIX)]

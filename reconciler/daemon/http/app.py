"""Which routes stand behind which door. Builds the applications; what a route does is in the room of its own."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from reconciler.daemon.http.config import Http
from reconciler.daemon.http.door import Door
from reconciler.daemon.loop import Daemon


def doors(settings: Http, daemon: Daemon) -> list[Door]:
    """Give the doors that the settings ask for; none is open yet."""
    outside = outside_routes(settings, daemon)
    made = []
    if settings.webhook_listen:
        made.append(Door("webhooks", settings.webhook_listen, application(outside), settings.trusted_proxies))
        outside = []
    if settings.listen:
        made.append(Door("http", settings.listen, application([*inside_routes(settings, daemon), *outside]), settings.trusted_proxies))
    return made


def application(routes: Sequence[BaseRoute]) -> Starlette:
    """Make an application of some routes."""
    return Starlette(routes=routes)


def inside_routes(settings: Http, daemon: Daemon) -> list[BaseRoute]:
    """List what is for the inside: health, metrics and the API."""
    return [Route("/healthz", _alive)]


def outside_routes(settings: Http, daemon: Daemon) -> list[BaseRoute]:
    """List what may face the internet: the webhooks, and whatever else proves by a signature who sends it."""
    return []


async def _alive(request: Request) -> Response:
    return PlainTextResponse("ok\n")

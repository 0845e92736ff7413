"""The web page of the mail host: one text at every path."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from reconciler.sandbox.server import AppServer


class WebServer:
    """Answers ``/`` with a redirect to ``/login``, ``/login`` with the page, all else with 404."""

    def __init__(self, page: str) -> None:
        """Take the text of the page."""
        self._page = page
        self._server = AppServer(Starlette(routes=[Route("/", self._home), Route("/login", self._login)]))

    async def _home(self, request: Request) -> Response:
        return RedirectResponse("/login", 302)

    async def _login(self, request: Request) -> Response:
        return PlainTextResponse(self._page, headers={"x-host": request.headers.get("host", "")})

    @property
    def port(self) -> int:
        """The port, once started."""
        return self._server.port

    def start(self) -> None:
        """Listen on a free loopback port."""
        self._server.start()

    def stop(self) -> None:
        """Close every socket."""
        self._server.stop()

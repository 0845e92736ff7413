"""The web server of the mail host: a login page, and whatever pages it is told of."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from reconciler.sandbox.server import AppServer


class WebServer:
    """Answers ``/`` with a redirect to ``/login``, ``/login`` with the page, what ``find`` knows with its text, all else with 404."""

    def __init__(self, page: str, find: Callable[[str], str | None]) -> None:
        """Take the text of the login page and the look-up for the others."""
        self._page, self._find = page, find
        routes = [Route("/", self._home), Route("/login", self._login), Route("/{path:path}", self._other)]
        self._server = AppServer(Starlette(routes=routes))

    async def _home(self, request: Request) -> Response:
        return RedirectResponse("/login", 302)

    async def _login(self, request: Request) -> Response:
        return PlainTextResponse(self._page, headers={"x-host": request.headers.get("host", "")})

    async def _other(self, request: Request) -> Response:
        text = await run_in_threadpool(self._find, request.url.path)
        return PlainTextResponse("not found", 404) if text is None else PlainTextResponse(text)

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

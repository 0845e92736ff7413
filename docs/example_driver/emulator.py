"""A small board on a real socket, for the sandbox and for the contract."""

from itertools import count

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer, FaultMiddleware, Faults


class BoardEmulator:
    """Notes in memory, faults on demand. ``seed`` lists the notes that are there at first."""

    def __init__(self, seed: list[JSONObject] | None = None) -> None:
        self.faults, self._numbers = Faults(), count(1)
        self.notes: dict[int, JSONObject] = {next(self._numbers): note for note in seed or []}
        routes = [Route("/notes", self._board, methods=["GET", "POST"]), Route("/notes/{id:int}", self._note, methods=["PUT", "DELETE"])]
        self._server = AppServer(FaultMiddleware(Starlette(routes=routes), self.faults, _trouble))

    async def _board(self, request: Request) -> JSONResponse:
        if request.method == "POST":
            self.notes[next(self._numbers)] = await request.json()
        found = [{"id": number, **note} for number, note in self.notes.items()]
        return JSONResponse({"notes": found, "total": len(found)})

    async def _note(self, request: Request) -> JSONResponse:
        if (number := request.path_params["id"]) not in self.notes:
            return JSONResponse({"error": "there is no such note"}, 404)
        if request.method == "PUT":
            self.notes[number] = await request.json()
        else:
            del self.notes[number]
        return JSONResponse({})

    def start(self) -> None:
        """Listen."""
        self._server.start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.stop()

    def settings(self) -> JSONObject:
        """Give the target that leads here."""
        return {"url": self._server.url, "token": "board-token"}

    def summary(self) -> list[str]:
        """Say what is inside."""
        return [f"{len(self.notes)} notes at {self._server.url}/notes"]


def _trouble(kind: str) -> tuple[int, dict[str, str], bytes]:
    return (429, {"retry-after": "1"}, b"{}") if kind == "rate-limit" else (503, {}, b"{}")

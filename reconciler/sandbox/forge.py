"""Emulated forges: the few endpoints of GitHub, Gitea and GitLab that are used, with what each demands and refuses.

They follow the public descriptions of the three programs: required headers, the length of a description, who may edit a comment, pages with
a ``Link`` header, GitLab's state machine. The git half is a real bare repository elsewhere; here are only the words about it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer, FaultMiddleware, Faults

Kind = Literal["github", "gitea", "gitlab"]
ME, TOKEN, REPOSITORY = "reconciler-bot", "emulated-token", "house/desired"
PREFIX = {"github": "", "gitea": "/api/v1", "gitlab": "/api/v4"}
STATES = {
    "github": {"pending", "success", "failure", "error"},
    "gitea": {"pending", "success", "failure", "error", "warning"},
    "gitlab": {"pending", "running", "success", "failed", "canceled", "skipped"},
}
LONGEST = {"github": (140, 65_536), "gitea": (10_000, 10_000_000), "gitlab": (255, 1_000_000)}
"""The longest description of a status and the longest comment."""


@dataclass(slots=True)
class Note:
    """One comment."""

    id: int
    author: str
    body: str


@dataclass(slots=True)
class Proposal:
    """One pull request. ``fork`` when its branch is in another repository; None when that was deleted."""

    number: int
    head: str
    author: str
    base: str = "main"
    fork: bool | None = False
    open: bool = True
    title: str = "a change"
    branch: str = "topic"
    body: str = ""
    notes: list[Note] = field(default_factory=list)


class ForgeEmulator:
    """One forge with one repository. ``commits`` are those that exist, or None for all. ``statuses`` holds what was set, oldest first.

    ``nameless``: the token may not know whose it is; ``closed``: it may open no pull request.
    Beside the usual faults it plays ``secondary-limit`` (GitHub's 403 with Retry-After) and ``moved``.
    """

    def __init__(self, kind: Kind, commits: set[str] | None = None) -> None:
        """Build the server; nothing listens yet."""
        self.kind, self.commits = kind, commits
        self.faults = Faults()
        self.proposals: dict[int, Proposal] = {}
        self.statuses: list[JSONObject] = []
        self.nameless = self.closed = False
        self.page = 30
        self._last = 1000
        app = Starlette(routes=self._gitlab() if kind == "gitlab" else self._github())
        self._server = AppServer(FaultMiddleware(app, self.faults, _render))

    def start(self) -> None:
        """Listen on a free loopback port."""
        self._server.start()

    def stop(self) -> None:
        """Close every socket."""
        self._server.stop()

    def settings(self) -> JSONObject:
        """Give the section ``forge`` of the settings that leads here."""
        return {"kind": self.kind, "url": self._server.url + PREFIX[self.kind], "token": TOKEN, "repository": REPOSITORY}

    def summary(self) -> list[str]:
        """Say what is inside."""
        return [f"{self.kind} at {self._server.url}", f"{len(self.proposals)} pull requests, {len(self.statuses)} statuses"]

    def shown(self, commit: str) -> dict[str, str]:
        """Give the newest state of each context of a commit."""
        return {str(one["context"]): str(one["state"]) for one in self.statuses if one["sha"] == commit}

    def say(self, number: int, author: str, body: str) -> Note:
        """Have somebody comment."""
        self._last += 1
        note = Note(self._last, author, body)
        self.proposals[number].notes.append(note)
        return note

    # -- routes ----------------------------------------------------------------------------------------------------------------

    def _route(self, path: str, method: str, work: Callable[[Request, JSONObject], Response]) -> Route:
        async def served(request: Request) -> Response:
            refusal = self._identify(request)
            if refusal is not None:
                return refusal
            raw = await request.body()
            try:
                body = json.loads(raw) if raw else {}
            except ValueError:
                return _no(400, "Problems parsing JSON")
            return work(request, body)

        return Route(PREFIX[self.kind] + path, served, methods=[method])

    def _identify(self, request: Request) -> Response | None:
        """Check who asks, as each forge does."""
        given = request.headers.get("private-token" if self.kind == "gitlab" else "authorization", "")
        wanted = {"github": f"Bearer {TOKEN}", "gitea": f"token {TOKEN}", "gitlab": TOKEN}[self.kind]
        if self.kind == "github" and not request.headers.get("user-agent"):
            return _no(403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header")
        return None if given == wanted else _no(401, "Bad credentials" if self.kind == "github" else "401 Unauthorized")

    def _github(self) -> list[Route]:
        at = f"/repos/{REPOSITORY}"
        return [
            self._route("/user", "GET", self._who),
            self._route(at + "/statuses/{sha}", "POST", self._set_status),
            self._route(at + "/pulls", "GET", lambda request, _: self._list(request, "open", self._as_github)),
            self._route(at + "/pulls", "POST", lambda _, body: self._open(body, "head", "base", "body", self._as_github)),
            self._route(at + "/issues/{number:int}/comments", "GET", self._notes),
            self._route(at + "/issues/{number:int}/comments", "POST", self._say),
            self._route(at + "/issues/comments/{id:int}", "PATCH", self._edit),
            self._route(at + "/issues/comments/{id:int}", "DELETE", self._withdraw),
        ]

    def _gitlab(self) -> list[Route]:
        # the server hands over the path with %2F already read as a slash
        at = f"/projects/{REPOSITORY}"
        return [
            self._route("/user", "GET", self._who),
            self._route(at + "/statuses/{sha}", "POST", self._set_status),
            self._route(at + "/merge_requests", "GET", lambda request, _: self._list(request, "opened", self._as_gitlab)),
            self._route(
                at + "/merge_requests",
                "POST",
                lambda _, body: self._open(body, "source_branch", "target_branch", "description", self._as_gitlab),
            ),
            self._route(at + "/merge_requests/{number:int}/notes", "GET", self._notes),
            self._route(at + "/merge_requests/{number:int}/notes", "POST", self._say),
            self._route(at + "/merge_requests/{number:int}/notes/{id:int}", "PUT", self._edit),
            self._route(at + "/merge_requests/{number:int}/notes/{id:int}", "DELETE", self._withdraw),
        ]

    # -- what they do ----------------------------------------------------------------------------------------------------------

    def _who(self, request: Request, body: JSONObject) -> Response:
        if self.nameless:
            return _no(403, "Resource not accessible by integration")
        return JSONResponse({"id": 7, "username" if self.kind == "gitlab" else "login": ME})

    def _set_status(self, request: Request, body: JSONObject) -> Response:
        sha, state = request.path_params["sha"], body.get("state")
        name = "name" if self.kind == "gitlab" else "context"
        if self.commits is not None and sha not in self.commits:
            return _no(404, "404 Commit Not Found") if self.kind == "gitlab" else _no(422, f"No commit found for SHA: {sha}")
        if state not in STATES[self.kind]:
            return _no(400 if self.kind == "gitlab" else 422, "state does not have a valid value")
        if len(str(body.get("description", ""))) > LONGEST[self.kind][0]:
            return _no(400 if self.kind == "gitlab" else 422, "description is too long")
        context = str(body.get(name, "default"))
        if self.kind == "gitlab" and state in ("pending", "running") and self.shown(sha).get(context) == state:
            return _no(400, f'Cannot transition status via :enqueue from :{state} (Reason(s): Status cannot transition via "enqueue")')
        self.statuses.append({**body, "context": context, "sha": sha})
        return JSONResponse({"id": len(self.statuses), "state": state}, 201)

    def _list(self, request: Request, state: str, shape: Callable[[Proposal], JSONObject]) -> Response:
        found = [
            shape(one) for _, one in sorted(self.proposals.items(), reverse=True) if one.open or request.query_params.get("state") != state
        ]
        return self._paged(request, found)

    def _open(self, given: JSONObject, head: str, base: str, text: str, shape: Callable[[Proposal], JSONObject]) -> Response:
        """Open a pull request, one for each branch: the three say that there is one already in ways of their own."""
        if self.closed:
            return _no(403, "Resource not accessible by integration")
        branch = given.get(head)
        if not branch or not given.get("title") or given.get(base) != "main":
            return _no(400 if self.kind == "gitlab" else 422, "Validation Failed")
        there = next((one for one in self.proposals.values() if one.open and one.branch == branch and one.fork is False), None)
        if there is not None:
            said = {"github": "Validation Failed", "gitea": "pull request already exists for these targets"}
            other = f"Another open merge request already exists for this source branch: !{there.number}"
            return _no(422 if self.kind == "github" else 409, said.get(self.kind, other))
        number = max(self.proposals, default=0) + 1
        one = Proposal(number, f"{number:040x}", ME, title=str(given["title"]), branch=str(branch), body=str(given.get(text, "")))
        self.proposals[number] = one
        return JSONResponse(shape(one), 201)

    def _as_github(self, one: Proposal) -> JSONObject:
        mine, other = {"id": 1, "full_name": REPOSITORY}, {"id": 2, "full_name": f"{one.author}/desired"}
        source = mine if one.fork is False else other if one.fork else None
        return {
            "number": one.number,
            "title": one.title,
            "user": {"login": one.author},
            "head": {"sha": one.head, "ref": one.branch, "repo": source},
            "html_url": f"https://forge.example.org/{REPOSITORY}/pulls/{one.number}",
            "base": {"ref": one.base, "repo": mine},
        }

    def _as_gitlab(self, one: Proposal) -> JSONObject:
        source = 1 if one.fork is False else 2 if one.fork else None
        where = {"source_project_id": source, "target_project_id": 1, "target_branch": one.base}
        return {
            "iid": one.number,
            "id": 5000 + one.number,
            "title": one.title,
            "sha": one.head,
            "source_branch": one.branch,
            "web_url": f"https://forge.example.org/{REPOSITORY}/-/merge_requests/{one.number}",
            "author": {"username": one.author},
            **where,
        }

    def _notes(self, request: Request, body: JSONObject) -> Response:
        proposal = self.proposals.get(request.path_params["number"])
        return _no(404, "Not Found") if proposal is None else self._paged(request, [self._shape(one) for one in proposal.notes])

    def _say(self, request: Request, body: JSONObject) -> Response:
        number, text = request.path_params["number"], body.get("body")
        if number not in self.proposals:
            return _no(404, "Not Found")
        if not text or len(text) > LONGEST[self.kind][1]:
            return _no(
                400 if self.kind == "gitlab" else 422, "body is too long (maximum is 65536 characters)" if text else "body is missing"
            )
        return JSONResponse(self._shape(self.say(number, ME, text)), 201)

    def _edit(self, request: Request, body: JSONObject) -> Response:
        found = self._mine(request)
        if isinstance(found, Response):
            return found
        _, note = found
        note.body = str(body.get("body", ""))
        return JSONResponse(self._shape(note))

    def _withdraw(self, request: Request, body: JSONObject) -> Response:
        found = self._mine(request)
        if isinstance(found, Response):
            return found
        proposal, note = found
        proposal.notes.remove(note)
        return Response(status_code=204)

    def _mine(self, request: Request) -> tuple[Proposal, Note] | Response:
        """Find a comment that the asker may change."""
        notes = [(one, note) for one in self.proposals.values() for note in one.notes if note.id == request.path_params["id"]]
        if not notes:
            return _no(404, "Not Found")
        return notes[0] if notes[0][1].author == ME else _no(403, "Must have admin rights to Repository.")

    def _shape(self, one: Note) -> JSONObject:
        who = {"author": {"username": one.author}, "system": False} if self.kind == "gitlab" else {"user": {"login": one.author}}
        return {"id": one.id, "body": one.body, **who}

    def _paged(self, request: Request, found: list[JSONObject]) -> Response:
        """Give one page, and where the next one is; a server caps the size that is asked for."""
        asked = int(request.query_params.get("limit" if self.kind == "gitea" else "per_page", 30))
        size, page = min(asked, self.page), int(request.query_params.get("page", 1))
        more = {"Link": f'<{request.url.include_query_params(page=page + 1)}>; rel="next"'} if page * size < len(found) else {}
        return JSONResponse(found[(page - 1) * size : page * size], headers=more)


def _no(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)


def _render(kind: str) -> tuple[int, dict[str, str], bytes]:
    """Give a forge's own answer for a fault."""
    kinds: Mapping[str, tuple[int, dict[str, str], Any]] = {
        "rate-limit": (429, {"Retry-After": "7"}, {"message": "429 Too Many Requests"}),
        "secondary-limit": (403, {"Retry-After": "60"}, {"message": "You have exceeded a secondary rate limit."}),
        "moved": (301, {"Location": "http://127.0.0.1:9/elsewhere"}, {"message": "Moved Permanently"}),
    }
    status, headers, body = kinds.get(kind, (502, {}, None))
    return status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode() if body else b"<html>Bad Gateway</html>"

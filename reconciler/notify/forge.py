"""GitHub, Gitea or Forgejo, and GitLab: commit statuses, pull requests, and one comment on each. Nothing else of them is touched.

Sources: docs.github.com/rest (commits/statuses, pulls, issues/comments), the Swagger description of Gitea, and docs.gitlab.com/api
(commits, merge_requests, notes). This room neither retries nor waits. The token goes into a header and nowhere else.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

import httpx

from reconciler import __version__
from reconciler.errors import Permanent, Transient
from reconciler.notify import Closed, Gone
from reconciler.notify.states import State
from reconciler.resource import SecretValue

PAGE, PAGES = 50, 40
TITLE = 250
SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Pull:
    """One open pull or merge request. ``head`` is its newest commit, ``base`` the branch it is for.

    ``ours`` when its ``branch`` is in this repository, so that whoever wrote it may write here. ``url`` is its page.
    """

    number: int
    head: str
    base: str
    author: str
    ours: bool
    title: str = ""
    branch: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment, by its id."""

    id: str
    author: str
    body: str


class Forge(Protocol):
    """What is asked of a forge. Every method raises Transient, Permanent, Closed or Gone."""

    refs: ClassVar[str]
    longest: ClassVar[int]

    def status(self, commit: str, context: str, state: State, description: str, link: str) -> None:
        """Set the status of a commit."""
        ...

    def pulls(self) -> list[Pull]:
        """List what is open."""
        ...

    def request(self, branch: str, base: str, title: str, body: str) -> str:
        """Open a pull request of a branch of this repository; give the address of its page, empty when it has none."""
        ...

    def comments(self, number: int) -> Iterator[Comment]:
        """Give the comments of a pull request, the oldest first."""
        ...

    def comment(self, number: int, body: str) -> str:
        """Write a comment; give its id."""
        ...

    def edit(self, number: int, id: str, body: str) -> None:
        """Replace a comment. Raises Gone when it is not there."""
        ...

    def withdraw(self, number: int, id: str) -> None:
        """Take a comment of ours away. Raises Gone when it is not there."""
        ...

    def me(self) -> str:
        """Give the name under which we write; empty when the token may not know."""
        ...


class _Http:
    """The connection: one client, a deadline, and what answers mean."""

    name = ""
    refs: ClassVar[str] = "refs/pull/*/head"
    longest: ClassVar[int] = 65_000

    def __init__(self, url: str, token: SecretValue, repository: str) -> None:
        """Take the API's address, a token, and ``owner/name``. Nothing is asked yet."""
        self._at, self._repository, self._token = url.rstrip("/"), repository, token
        headers = {"User-Agent": f"reconciler/{__version__}", **self.headers(token)}
        # calls are rare, so no connection is kept that would have to be closed
        self._client = httpx.Client(timeout=SECONDS, limits=httpx.Limits(max_keepalive_connections=0), headers=headers)

    def headers(self, token: SecretValue) -> dict[str, str]:
        """Give the headers that say who asks."""
        return {"Authorization": f"Bearer {token.reveal()}"}

    @property
    def project(self) -> str:
        """The path of the repository below the API."""
        return "/repos/" + "/".join(quote(part, safe="") for part in self._repository.split("/"))

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> httpx.Response:
        """Ask once. Raises what the answer means."""
        try:
            answer = self._client.request(method, self._at + path, json=body, params=query or None)
        except httpx.TransportError as error:
            raise Transient(f"{self.name}: cannot be reached: {type(error).__name__}; check forge.url and the network") from None
        if answer.status_code < 300:
            return answer
        raise self._judged(method, path, answer)

    def _judged(self, method: str, path: str, answer: httpx.Response) -> Exception:
        status, where = answer.status_code, f"{self.name}: {method} {path}: {answer.status_code}"
        limited = answer.headers.get("x-ratelimit-remaining", answer.headers.get("ratelimit-remaining")) == "0"
        if status == 429 or (status == 403 and (limited or "retry-after" in answer.headers)):
            return Transient(f"{where}: too many requests", retry_after=_delay(answer.headers))
        if status >= 500 or status == 408:
            return Transient(where)
        words = _words(answer, self._token)
        if status in (301, 302, 307, 308):
            return Closed(f"{where}: it has moved; set forge.url and forge.repository anew")
        if status in (401, 403):
            return Closed(f"{where}: {words}; check forge.token and its rights")
        if status in (404, 410):
            return Gone(f"{where}: {words}; check forge.repository, and what the token may see")
        return Permanent(f"{where}: {words}")

    def pages(self, path: str, **query: Any) -> Iterator[Any]:
        """Give the entries of a list, page by page. Only the number of the page is ours; no address of an answer is followed."""
        for page in range(1, PAGES + 1):
            answer = self.call("GET", path, **query, page=page)
            yield from _json(answer, list)
            if "next" not in answer.links:
                return

    def me(self) -> str:
        """Give the name under which we write; empty when the token may not know."""
        try:
            user = _json(self.call("GET", "/user"), dict)
        except (Closed, Gone):
            return ""
        return str(user.get("login") or user.get("username") or "")


class GitHub(_Http):
    """GitHub, and GitHub Enterprise below ``/api/v3``."""

    name = "github"
    description = 140
    size: ClassVar[Mapping[str, int]] = {"per_page": PAGE}
    states: ClassVar[Mapping[State, str]] = {"pending": "pending", "success": "success", "failure": "failure", "error": "error"}

    def headers(self, token: SecretValue) -> dict[str, str]:
        """Add the version of the API to who asks."""
        return {**super().headers(token), "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}

    def status(self, commit: str, context: str, state: State, description: str, link: str) -> None:
        """Set the status of a commit; the newest of a context counts."""
        body = {"state": self.states[state], "context": context, "description": _short(description, self.description)}
        self.call("POST", f"{self.project}/statuses/{commit}", {**body, **({"target_url": link} if link else {})})

    def pulls(self) -> list[Pull]:
        """List what is open."""
        found = self.pages(f"{self.project}/pulls", state="open", **self.size)
        return [self._pull(one) for one in found]

    def _pull(self, one: Mapping[str, Any]) -> Pull:
        head, base = one["head"], one["base"]
        source, target = head.get("repo") or {}, base.get("repo") or {}
        ours = bool(source) and source.get("id") == target.get("id")
        who, title, page = str(one["user"]["login"]), str(one["title"]), _page(one.get("html_url"))
        return Pull(int(one["number"]), str(head["sha"]), str(base["ref"]), who, ours, title, str(head.get("ref", "")), page)

    def request(self, branch: str, base: str, title: str, body: str) -> str:
        """Open a pull request; give the address of its page."""
        asked = {"head": branch, "base": base, "title": title, "body": body}
        return _page(_json(self.call("POST", f"{self.project}/pulls", asked), dict).get("html_url"))

    def comments(self, number: int) -> Iterator[Comment]:
        """Give the comments of a pull request, the oldest first."""
        for one in self.pages(f"{self.project}/issues/{number}/comments", **self.size):
            yield Comment(str(one["id"]), str((one.get("user") or {}).get("login", "")), str(one.get("body") or ""))

    def comment(self, number: int, body: str) -> str:
        """Write a comment; give its id."""
        return str(_json(self.call("POST", f"{self.project}/issues/{number}/comments", {"body": body}), dict)["id"])

    def edit(self, number: int, id: str, body: str) -> None:
        """Replace a comment."""
        self.call("PATCH", f"{self.project}/issues/comments/{quote(id, safe='')}", {"body": body})

    def withdraw(self, number: int, id: str) -> None:
        """Take a comment away."""
        self.call("DELETE", f"{self.project}/issues/comments/{quote(id, safe='')}")


class Gitea(GitHub):
    """Gitea and Forgejo, below ``/api/v1``: GitHub's paths with a page size of another name."""

    name = "gitea"
    description = 255
    size: ClassVar[Mapping[str, int]] = {"limit": PAGE}

    def headers(self, token: SecretValue) -> dict[str, str]:
        """Give the header as every version of Gitea takes it."""
        return {"Authorization": f"token {token.reveal()}", "Accept": "application/json"}


class GitLab(_Http):
    """GitLab, below ``/api/v4``."""

    name = "gitlab"
    refs: ClassVar[str] = "refs/merge-requests/*/head"
    longest: ClassVar[int] = 900_000
    states: ClassVar[Mapping[State, str]] = {"pending": "pending", "success": "success", "failure": "failed", "error": "canceled"}

    def headers(self, token: SecretValue) -> dict[str, str]:
        """Give the header of access tokens of any sort."""
        return {"PRIVATE-TOKEN": token.reveal()}

    @property
    def project(self) -> str:
        """The path of the project, its whole name as one piece."""
        return f"/projects/{quote(self._repository, safe='')}"

    def status(self, commit: str, context: str, state: State, description: str, link: str) -> None:
        """Set the status of a commit. GitLab refuses the state that it is in already, which is as good as done."""
        body = {"state": self.states[state], "name": context, "description": _short(description, 255)}
        try:
            self.call("POST", f"{self.project}/statuses/{commit}", {**body, **({"target_url": link} if link else {})})
        except Permanent as error:
            if "Cannot transition status" not in str(error):
                raise

    def pulls(self) -> list[Pull]:
        """List what is open."""
        found = self.pages(f"{self.project}/merge_requests", state="opened", per_page=PAGE)
        return [
            Pull(
                int(one["iid"]),
                str(one["sha"]),
                str(one["target_branch"]),
                str(one["author"]["username"]),
                one["source_project_id"] == one["target_project_id"],
                str(one["title"]),
                str(one.get("source_branch", "")),
                _page(one.get("web_url")),
            )
            for one in found
        ]

    def request(self, branch: str, base: str, title: str, body: str) -> str:
        """Open a merge request; give the address of its page."""
        asked = {"source_branch": branch, "target_branch": base, "title": title, "description": body, "remove_source_branch": True}
        return _page(_json(self.call("POST", f"{self.project}/merge_requests", asked), dict).get("web_url"))

    def comments(self, number: int) -> Iterator[Comment]:
        """Give the notes of people and of us, the oldest first."""
        for one in self.pages(f"{self.project}/merge_requests/{number}/notes", sort="asc", per_page=PAGE):
            if not one.get("system"):
                yield Comment(str(one["id"]), str((one.get("author") or {}).get("username", "")), str(one.get("body") or ""))

    def comment(self, number: int, body: str) -> str:
        """Write a note; give its id."""
        return str(_json(self.call("POST", f"{self.project}/merge_requests/{number}/notes", {"body": body}), dict)["id"])

    def edit(self, number: int, id: str, body: str) -> None:
        """Replace a note."""
        self.call("PUT", f"{self.project}/merge_requests/{number}/notes/{quote(id, safe='')}", {"body": body})

    def withdraw(self, number: int, id: str) -> None:
        """Take a note away."""
        self.call("DELETE", f"{self.project}/merge_requests/{number}/notes/{quote(id, safe='')}")


KINDS: Mapping[str, type[GitHub] | type[GitLab]] = {"github": GitHub, "gitea": Gitea, "gitlab": GitLab}


def opened(forge: Forge, branch: str, base: str, title: str, body: str) -> str:
    """Open a pull request of a branch of ours, unless there is one already; give the address of its page, empty when it has none."""
    there = next((one.url for one in forge.pulls() if one.ours and one.branch == branch), None)
    return there if there is not None else forge.request(branch, base, _short(title, TITLE), _short(body, forge.longest))


def _json(answer: httpx.Response, kind: type) -> Any:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, kind):
        raise Transient(f"{answer.request.url.host}: the answer to {answer.request.method} {answer.request.url.path} could not be read")
    return found


def _page(address: Any) -> str:
    """Give the address of a page as a forge tells it, when it is one that can be a link."""
    return address if isinstance(address, str) and address.startswith(("https://", "http://")) else ""


def _words(answer: httpx.Response, token: SecretValue) -> str:
    """Give what a forge says was wrong, on one line, and without the token should it quote that."""
    try:
        found = answer.json()
    except ValueError:
        return "no reason given"
    said = found.get("message", found.get("error", "")) if isinstance(found, dict) else ""
    return _short(token.out_of(" ".join(str(said).split())), 200) or "no reason given"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _delay(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Read how long to wait: seconds, or the time at which the limit is renewed."""
    if (after := headers.get("retry-after", "")).isdigit():
        return float(after)
    if (until := headers.get("x-ratelimit-reset", headers.get("ratelimit-reset", ""))).isdigit():
        return max(1.0, float(until) - (time.time() if now is None else now))
    return None

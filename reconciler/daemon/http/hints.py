"""What a verified webhook seems to speak of. Pure. A hint and nothing more: what is deployed is what the source says when it is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson

from reconciler.daemon.http.bodies import Refused

PINGS = frozenset({"ping", "diagnostics:ping"})
PUSHES = frozenset({"push", "create", "delete", "Push Hook", "Tag Push Hook", "repo:push", "repo:refs_changed"})
REQUESTS = ("pull_request", "Merge Request Hook", "pullrequest:", "pr:")


@dataclass(frozen=True, slots=True)
class Hint:
    """The repository (``owner/name``) and the branches that an event names; empty where it does not say."""

    repository: str = ""
    branches: tuple[str, ...] = ()

    def concerns(self, repository: str, branch: str) -> bool:
        """Say whether it may be about this repository and branch; what it does not say may be."""
        if repository and self.repository and self.repository.lower() != repository.lower():
            return False
        return not branch or not self.branches or branch in self.branches


def interesting(event: str) -> bool:
    """Say whether an event of this name may change what is desired; one without a name may."""
    return not event or event in PUSHES or event.startswith(REQUESTS)


def hint(body: bytes, content_type: str, *, strict: bool) -> Hint:
    """Read a body. Raises Refused (400) when ``strict`` and it is no JSON object, as every forge sends."""
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        body = _form(body)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        data = None
    if not isinstance(data, dict):
        if strict:
            raise Refused(400, "a body that is no JSON object")
        return Hint()
    return Hint(_repository(data), tuple(dict.fromkeys(_branches(data))))


def _form(body: bytes) -> bytes:
    """Give the field ``payload`` of a form, as GitHub sends it to whoever asks for forms."""
    try:
        return parse_qs(body.decode("ascii"), max_num_fields=10).get("payload", [""])[0].encode()
    except ValueError:
        return b""


def _repository(data: dict[str, Any]) -> str:
    project, repository = _mapping(data, "project"), _mapping(data, "repository")
    name = project.get("path_with_namespace") or repository.get("full_name")
    if not name and repository.get("slug"):  # Bitbucket Data Center
        name = f"{_mapping(repository, 'project').get('key')}/{repository['slug']}"
    return name if isinstance(name, str) else ""


def _branches(data: dict[str, Any]) -> Iterator[str]:
    """Yield the names in the places where GitHub and its kin, Bitbucket Cloud and Bitbucket Data Center put them."""
    if isinstance(ref := data.get("ref"), str):
        yield _short(ref)
    for change in _list(data, "changes"):
        if isinstance(ref := change.get("refId"), str):
            yield _short(ref)
    for change in _list(_mapping(data, "push"), "changes"):
        for side in ("new", "old"):
            if isinstance(name := _mapping(change, side).get("name"), str):
                yield name


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def _mapping(data: dict[str, Any], key: str) -> dict[str, Any]:
    found = data.get(key)
    return found if isinstance(found, dict) else {}


def _list(data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = data.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

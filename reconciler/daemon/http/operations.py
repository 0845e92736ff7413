"""What an operation of the API is: a method and a path, the role it needs, its shapes, and the function that does it.

The function is synchronous and runs beside the loop; this room does what all have in common: token, body, shapes, problem documents.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.daemon.http.access import Access, Person
from reconciler.daemon.http.bodies import Bodies, Refused
from reconciler.daemon.http.config import Role
from reconciler.daemon.http.problems import Trouble, problem

audit = logging.getLogger("reconciler.audit")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request whose sender, parameters and body are known to be well formed."""

    person: Person
    path: Mapping[str, Any]
    query: Any = None
    body: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of the API. ``do`` takes the API and what was asked; ``query`` and ``body`` are shapes.

    ``troubles`` are the statuses that it may answer instead, each with the reason.
    """

    method: str
    path: str
    role: Role
    about: str
    do: Callable[[Any, Asked], Any]
    answer: Any
    status: int = 200
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    troubles: Mapping[int, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the operation, from its function."""
        return getattr(self.do, "__name__", "")

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r"\{(\w+)(:\w+)?\}", r"{\1}", self.path)


def routes(operations: Sequence[Operation], api: object, access: Access, bodies: Bodies, prefix: str) -> list[Route]:
    """Make the routes; the operations of one path are one route, so that another method is told which ones there are."""
    by_path: dict[str, dict[str, Operation]] = {}
    for one in operations:
        by_path.setdefault(one.path, {})[one.method] = one
    return [Route(f"{prefix}{path}", _endpoint(found, api, access, bodies), methods=list(found)) for path, found in by_path.items()]


def _endpoint(operations: Mapping[str, Operation], api: object, access: Access, bodies: Bodies) -> Any:
    async def endpoint(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        try:
            asked = await _asked(operation, request, access, bodies)
            answer = await run_in_threadpool(operation.do, api, asked)
        except Trouble as trouble:
            return problem(trouble.status, trouble.detail, trouble.errors, trouble.headers)
        except Refused as refusal:
            return problem(refusal.status, str(refusal), headers={"connection": "close"})
        body = TypeAdapter(operation.answer).dump_json(answer)
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return Response(body, operation.status, headers, "application/json")

    return endpoint


async def _asked(operation: Operation, request: Request, access: Access, bodies: Bodies) -> Asked:
    person = access.person(request, operation.role)
    if operation.method != "GET":
        audit.info(
            "%s (%s, from %s): %s %s",
            person.name,
            person.role,
            person.address,
            operation.method,
            request.scope["raw_path"].decode("latin-1"),
        )
    query = _shaped(operation.query, _singles(request)) if operation.query is not None else None
    body = None
    if operation.body is not None:
        raw = await bodies.read(request)
        body = _parsed(operation.body, raw)
    return Asked(person, request.path_params, query, body)


def _singles(request: Request) -> dict[str, str]:
    pairs = request.query_params.multi_items()
    if len({name for name, _ in pairs}) < len(pairs):
        raise Trouble(400, "a parameter is given twice")
    return dict(pairs)


def _shaped(shape: type[BaseModel], data: Mapping[str, Any]) -> BaseModel:
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        raise Trouble(400, "a parameter is wrong", _fields(error)) from None


def _parsed(shape: type[BaseModel], raw: bytes) -> BaseModel:
    try:
        return shape.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise Trouble(400, "the body is not what is asked for", _fields(error)) from None


def _fields(error: ValidationError) -> list[dict[str, str]]:
    """Name what is wrong, and never repeat what was sent."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [{"field": ".".join(str(part) for part in one["loc"]), "message": str(one["msg"]).lower()} for one in found]

"""The OpenAPI 3.1 document of the API, made from its operations and shapes. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from reconciler import __version__
from reconciler.daemon.http.operations import Operation
from reconciler.daemon.http.problems import TYPE
from reconciler.daemon.http.shapes import ProblemDocument

ABOUT = (
    "How the stacks fare, and a person's word to them. There are the roles read, operate and approve; each may do what those before it may."
)
REF = "#/components/schemas/{model}"
COMMON = {401: "No token, or a wrong one.", 403: "The role is too small.", 429: "Too many wrong tokens from this address."}
WITH_BODY = {400: "Not what is asked for.", 408: "The body came too slowly.", 413: "The body is too large.", 415: "The body is compressed."}


def document(operations: Sequence[Operation], prefix: str) -> dict[str, Any]:
    """Give the document."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(f"{prefix}{one.template}", {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Reconciler",
            "version": __version__,
            "description": ABOUT,
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "A token from `http.tokens`."}},
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    troubles = {**COMMON, **(WITH_BODY if one.body is not None else {}), **({400: "Not what is asked for."} if one.query else {})}
    said: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.about,
        "description": f"Needs the role `{one.role}`.",
        "parameters": [*_in_path(one), *_in_query(one)],
        "responses": {
            str(one.status): {
                "description": HTTPStatus(one.status).phrase,
                "content": {"application/json": {"schema": TypeAdapter(one.answer).json_schema(ref_template=REF, mode="serialization")}},
            },
            **{str(status): _trouble(text) for status, text in sorted({**troubles, **one.troubles}.items())},
        },
    }
    for answer in said["responses"].values():
        for content in answer["content"].values():
            content["schema"].pop("$defs", None)
    if one.body is not None:
        needed = any(field.is_required() for field in one.body.model_fields.values())
        said["requestBody"] = {
            "required": needed,
            "content": {"application/json": {"schema": {"$ref": REF.format(model=one.body.__name__)}}},
        }
    return said


def _trouble(text: str) -> dict[str, Any]:
    return {"description": text, "content": {TYPE: {"schema": {"$ref": REF.format(model=ProblemDocument.__name__)}}}}


def _in_path(one: Operation) -> Iterator[dict[str, Any]]:
    for name, kind in re.findall(r"\{(\w+)(:\w+)?\}", one.path):
        schema = {"type": "integer", "minimum": 0} if kind == ":int" else {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _in_query(one: Operation) -> Iterator[dict[str, Any]]:
    if one.query is None:
        return
    schema = one.query.model_json_schema()
    for name, field in schema["properties"].items():
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field}


def _schemas(operations: Sequence[Operation]) -> Mapping[str, Any]:
    models: dict[Any, None] = {ProblemDocument: None}
    for one in operations:
        models |= dict.fromkeys([*getattr(one.answer, "__args__", (one.answer,)), *([one.body] if one.body else [])])
    inputs = {one.body for one in operations}
    modes = [(model, "validation" if model in inputs else "serialization") for model in models]
    _, schema = models_json_schema(modes, ref_template=REF)  # type: ignore[arg-type]  # the two literals, one each
    return dict(sorted(schema["$defs"].items()))

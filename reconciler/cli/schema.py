"""``reconciler schema``: what may stand in a file, for editors that complete and check while somebody types."""

import json
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from reconciler.cli import common
from reconciler.errors import ReconcilerError
from reconciler.registry import ANNOTATIONS, OWN_GROUP, catalog
from reconciler.resource import Spec
from reconciler.stack import ExceptionSpec, StackSpec

NAME = {"type": "string", "description": "what the resource is called"}


@click.command("schema")
@click.argument("kind", required=False)
@click.option("--write", type=click.Path(file_okay=False, path_type=Path), help="Write one file per kind into this folder.")
def command(kind: str | None, write: Path | None) -> int:
    """Print the JSON Schema of all kinds in one, or of one KIND such as cloudflare/v1/DNSRecord."""
    schemas = _schemas()
    if write is not None:
        write.mkdir(parents=True, exist_ok=True)
        for name, schema in schemas.items():
            (write / f"{name.replace('/', '-')}.json").write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
        click.echo(f"{len(schemas)} files in {write}")
    elif kind is None:
        common.say_json(_together(schemas))
    elif kind in schemas:
        common.say_json(schemas[kind])
    else:
        raise ReconcilerError(f"{kind}: there is no such kind; there are {', '.join(schemas)}")
    return common.IN_SYNC


def _schemas() -> dict[str, dict[str, Any]]:
    models: dict[str, Any] = {f"{OWN_GROUP}/Stack": StackSpec, f"{OWN_GROUP}/DriftException": ExceptionSpec}
    for plugin in catalog().plugins:
        models |= {f"{plugin.api_version}/{kind}": spec for kind, spec in plugin.kinds.items() if kind != "*"}
    return {name: _envelope(name, _spec(model)) for name, model in sorted(models.items())}


class _AsWritten(GenerateJsonSchema):
    """Describes what may be written, where pydantic describes what it becomes: a port may be a number before it is a text."""

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        """Let a text that something is read into also be a number."""
        inner = super().function_before_schema(schema)
        return {**inner, "type": ["string", "integer"]} if inner.get("type") == "string" else inner


def _spec(model: Any) -> dict[str, Any]:
    """Give the schema of a spec; what the kind takes from ``metadata.name`` is not required."""
    schema: dict[str, Any] = model.model_json_schema(schema_generator=_AsWritten)
    if not issubclass(model, Spec) or "required" not in schema:
        return schema
    try:
        model.from_document({"metadata": {"name": "any-name"}, "spec": {}})
    except ValidationError as error:
        missing = {one["loc"][0] for one in error.errors() if one["type"] == "missing"}
        return {**schema, "required": [name for name in schema["required"] if name in missing]} if missing else schema
    return {key: value for key, value in schema.items() if key != "required"}


def _together(schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Join the schemas into one that picks by ``apiVersion`` and ``kind``. A group that is not ours may be one of Kubernetes."""
    definitions: dict[str, Any] = {}
    rules: list[dict[str, Any]] = []
    kinds: dict[str, list[str]] = {}
    for name, schema in schemas.items():
        api_version, _, kind = name.rpartition("/")
        kinds.setdefault(api_version, []).append(kind)
        prefix = name.replace("/", ".")
        inner = {f"{prefix}.{key}": _moved(value, prefix) for key, value in schema["$defs"].items()}
        definitions |= {prefix: _moved({key: value for key, value in schema.items() if key != "$defs"}, prefix), **inner}
        rules.append(_when({"apiVersion": api_version, "kind": kind}, {"$ref": f"#/$defs/{prefix}"}))
    rules += [_when({"apiVersion": group}, {"properties": {"kind": {"enum": names}}}) for group, names in kinds.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "allOf": rules,
        "$defs": definitions,
    }


def _when(fields: dict[str, str], then: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"properties": {key: {"const": value} for key, value in fields.items()}, "required": list(fields)}, "then": then}


def _moved(schema: Any, prefix: str) -> Any:
    """Point every reference to where the definitions of this kind now stand."""
    if isinstance(schema, list):
        return [_moved(one, prefix) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _moved(value, prefix) for key, value in schema.items()}
    if isinstance(target := moved.get("$ref"), str):
        moved["$ref"] = target.replace("#/$defs/", f"#/$defs/{prefix}.")
    return moved


def _envelope(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Wrap the schema of a spec in the envelope. A field may also be an expression, so each also admits a text that holds one."""
    api_version, _, kind = name.rpartition("/")
    definitions = spec.pop("$defs", {})
    annotations: dict[str, Any] = {f"reconciler/{one}": {} for one in ANNOTATIONS}
    return {
        "title": name,
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": api_version},
            "kind": {"const": kind},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": NAME, "annotations": {"type": "object", "properties": annotations}, "labels": {"type": "object"}},
            },
            "spec": _or_expression(spec),
        },
        "$defs": {key: _or_expression(value) for key, value in definitions.items()},
    }


def _or_expression(schema: dict[str, Any]) -> dict[str, Any]:
    expression = {"type": "string", "pattern": r"\$\{"}
    fields = {name: {"anyOf": [field, expression], **_kept(field)} for name, field in schema.get("properties", {}).items()}
    return {**schema, "properties": fields} if fields else schema


def _kept(field: dict[str, Any]) -> dict[str, Any]:
    return {key: field[key] for key in ("description", "default", "title") if key in field}

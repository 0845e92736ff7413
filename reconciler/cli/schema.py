"""``reconciler schema``: what may stand in a file, for editors that complete and check while somebody types."""

import json
from pathlib import Path
from typing import Any

import click

from reconciler.cli import common
from reconciler.errors import ReconcilerError
from reconciler.registry import ANNOTATIONS, OWN_GROUP, catalog
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
        common.say_json({"$schema": "https://json-schema.org/draft/2020-12/schema", "anyOf": list(schemas.values())})
    elif kind in schemas:
        common.say_json(schemas[kind])
    else:
        raise ReconcilerError(f"{kind}: there is no such kind; there are {', '.join(schemas)}")
    return common.IN_SYNC


def _schemas() -> dict[str, dict[str, Any]]:
    models: dict[str, Any] = {f"{OWN_GROUP}/Stack": StackSpec, f"{OWN_GROUP}/DriftException": ExceptionSpec}
    for plugin in catalog().plugins:
        models |= {f"{plugin.api_version}/{kind}": spec for kind, spec in plugin.kinds.items() if kind != "*"}
    return {name: _envelope(name, model.model_json_schema()) for name, model in sorted(models.items())}


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

"""Writes the pages that the code itself can tell: ``python -m docs.generate``; with ``--check`` it only says which are out of date.

Every page is a pure function of the installed code: settings and kinds from their models, verbs from click, errors from their tree.
The files of the example driver are copied into the page that explains them, so that what is read is what is tested.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from reconciler import errors
from reconciler.checks.findings import RULES
from reconciler.cli import VERBS, group
from reconciler.daemon.http.api import OPERATIONS, PREFIX
from reconciler.daemon.http.openapi import document
from reconciler.daemon.http.operations import Operation
from reconciler.driver import Plugin
from reconciler.registry import OWN_GROUP, catalog
from reconciler.resource import Spec
from reconciler.settings import Settings
from reconciler.stack import ExceptionSpec, StackSpec

HERE = Path(__file__).parent
NOTE = "<!-- Written by `python -m docs.generate`; change the code instead. -->"
BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "at least {} of them",
}
WORDS = {
    "array": "list",
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "object": "mapping",
    "null": "none",
}

ANNOTATIONS: Mapping[str, tuple[str, str]] = {
    "adopt": ('"true"', "Take over an object that already exists and is not ours. Without it such an object is refused and left alone."),
    "depends-on": ("list of ids", "Do not touch this resource until those are applied and healthy."),
    "drift": ("enforce, report", "What to do with a change that somebody made by hand: put it back (the default), or only say so."),
    "force": ('"true"', "Kubernetes only: take every field of the manifest from whoever else manages it, an autoscaler included."),
    "health": ("CEL", 'Kubernetes only: the condition under which the object is healthy, such as `status.phase == "Ready"`.'),
    "ignore": ("list of JSON pointers", "Fields that are neither compared nor written, such as `/spec/replicas`."),
    "protect": ('"true"', "Never delete or replace it without an approval, not even when it is taken out of git."),
    "prune": ('"false"', "Leave the object where it is when it is taken out of git."),
    "replace": ('"true"', "Allow that it is deleted and made anew although its identity carries history."),
    "restart-on-change": ('"true"', "Kubernetes only: restart the pods when a ConfigMap or Secret of the stack that they read changes."),
    "target": ("target name", "Use this target of the settings instead of the driver's own."),
    "waive": ("list of rules", "Accept what these rules of the checks find about this resource, such as `dkim-key`."),
}
"""Every annotation below ``reconciler/``: what it takes and what it does."""


# -- models as tables ----------------------------------------------------------------------------------------------------------


def cell(text: str) -> str:
    """Make a text safe to stand in a table; inside code marks everything is literal but the bar."""
    pieces = " ".join(text.split()).replace("``", "`").replace("|", "\\|").split("`")
    return "`".join(piece.replace("<", "&lt;") if number % 2 == 0 else piece for number, piece in enumerate(pieces))


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Give a table in Markdown."""
    lines = [head, tuple("---" for _ in head), *(tuple(cell(one) for one in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def first_paragraph(thing: object) -> str:
    """Give the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split()).replace("``", "`")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield every model that a type speaks of, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from models_in(part)


def parts_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """List the models nested in ``model``, at any depth, each once, in the order of their first use."""
    found: dict[type[BaseModel], None] = {}
    for field in model.model_fields.values():
        for part in models_in(field.annotation):
            found |= {part: None} | dict.fromkeys(parts_of(part))
    return list(found)


def described(field: FieldInfo) -> str:
    """Give a field's description, or what its model says of itself. A field with one possible value needs none."""
    if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
        return "chooses this form"
    return field.description or next((first_paragraph(part) for part in models_in(field.annotation)), "")


def is_secret(field: FieldInfo) -> bool:
    """Say whether a field of the settings holds a credential."""
    return "SecretStr" in str(field.annotation)


def type_name(schema: Mapping[str, Any]) -> str:
    """Name a type of JSON Schema in the words of a person who writes YAML."""
    if "$ref" in schema:
        return f"[{(name := schema['$ref'].rpartition('/')[2])}](#{slug(name)})"
    for key in ("enum", "const"):
        if key in schema:
            values = schema[key] if key == "enum" else [schema[key]]
            return ", ".join(f"`{json.dumps(one) if not isinstance(one, str) else one}`" for one in values)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            kinds = dict.fromkeys(type_name(one) for one in schema[key] if one.get("type") != "null")
            return " or ".join("secret reference" if name == "text with an expression" else name for name in kinds)
    return _plain_type(schema)


def _plain_type(schema: Mapping[str, Any]) -> str:
    if schema.get("pattern") == r"\$\{.*\}":
        return "text with an expression"
    name = WORDS.get(str(schema.get("type")), "any value")
    if name == "list" and schema.get("items"):
        return f"list of {type_name(schema['items'])}"
    if name == "mapping" and isinstance(schema.get("additionalProperties"), dict):
        return f"mapping of {type_name(schema['additionalProperties'])}"
    if schema.get("format") in ("path", "date", "time", "password"):
        return {"path": "path", "date": "date", "time": "time of day", "password": "secret text"}[schema["format"]]
    return name


def bounds(schema: Mapping[str, Any]) -> str:
    """Give the limits of a number or a list, if there are any."""
    options = [schema, *schema.get("anyOf", ())]
    return ", ".join(text.format(one[key]) for one in options for key, text in BOUNDS.items() if key in one)


def default_text(value: Any) -> str:
    """Show a default as YAML shows it."""
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(plain, BaseModel):
        return "see there"
    if plain is None:
        return "none"
    if isinstance(plain, str | tuple | list | dict) and not plain:
        return "empty"
    return f"`{json.dumps(plain) if isinstance(plain, bool | tuple | list | dict) else plain}`"


def default_of(field: FieldInfo, *, needed: bool) -> str:
    """Give the default of a field; a required one that takes the resource's name says so."""
    if "metadata.name" in (field.description or ""):
        return "`metadata.name`"
    if field.default_factory is not None:
        return default_text(field.get_default(call_default_factory=True, validated_data={}))
    if field.default is PydanticUndefined:
        return "**required**" if needed else "`metadata.name`"
    return default_text(field.default)


def fields_of(model: type[BaseModel], *, immutable: tuple[str, ...] = (), needed: frozenset[str] | None = None) -> str:
    """Give the table of a model's fields."""
    schema = model.model_json_schema()
    rows = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        found = schema["properties"][key]
        limits = f" ({limit})" if (limit := bounds(found)) else ""
        fixed = " *Cannot change in place.*" if f"/{key}" in immutable else ""
        default = default_of(field, needed=needed is None or key in needed)
        rows.append((f"`{key}`", type_name(found) + limits, default, described(field) + fixed))
    return table(("Field", "Type", "Default", "Description"), rows)


def nested(model: type[BaseModel], level: str) -> str:
    """Give a section for each model nested in ``model``."""
    parts = parts_of(model)
    return "".join(f"\n{level} {part.__name__}\n\n{first_paragraph(part)}\n\n{fields_of(part)}" for part in parts)


def slug(heading: str) -> str:
    """Give the anchor that a forge makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# -- settings ------------------------------------------------------------------------------------------------------------------


def setting_rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, ...]]:
    """Yield one row for each setting, sections flattened to dotted paths."""
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        path, inner = f"{prefix}{name}", list(models_in(field.annotation))
        if len(inner) == 1 and inner[0] is field.annotation:
            yield from setting_rows(inner[0], f"{path}.")
            continue
        found = schema["properties"][name]
        limits = f" ({limit})" if (limit := bounds(found)) else ""
        kind = "**secret** text" if is_secret(field) else type_name(found)
        if inner:
            kind = ", ".join(f"[{one.__name__}](#{slug(one.__name__)})" for one in inner)
        yield f"`{path}`", kind + limits, default_of(field, needed=True), described(field)


def settings_page() -> str:
    """Give the page of every setting, with the configuration of each driver's targets."""
    head = ("Setting", "Type", "Default", "Description")
    targets = []
    for plugin in catalog().plugins:
        inner = "".join(
            f"\n#### {part.__name__}\n\n{first_paragraph(part)}\n\n{table(head, list(setting_rows(part)))}"
            for part in parts_of(plugin.config)
        )
        targets.append(f"### {plugin.name}\n\n{first_paragraph(plugin.config)}\n\n{table(head, list(setting_rows(plugin.config)))}{inner}")
    listed = table(head, list(setting_rows(Settings)))
    parts = "".join(
        f"\n### {part.__name__}\n\n{first_paragraph(part)}\n\n{table(head, list(setting_rows(part)))}"
        for part in parts_of(Settings)
        if f"(#{slug(part.__name__)})" in listed
    )
    return SETTINGS.format(note=NOTE, table=listed + parts, targets="\n".join(targets))


SETTINGS = """{note}
# Settings

Desired state says *what*; settings say *where, and with what right*. They are read from the file that `--settings` names, else from
`reconciler.yaml` in the working directory if there is one. An environment variable wins over the file: `RECONCILER_` and the path in
capitals, its parts joined by two underscores, for example `RECONCILER_STATE__PATH` or `RECONCILER_TARGETS__CLOUDFLARE__TOKEN`.

A value of the form `file:/run/secrets/token` is replaced by the content of that file, without the newline at its end; give every
**secret** that way, so that the settings file itself holds none. A name that is not a setting is an error.

{table}
## Targets

`targets` maps a name to the configuration of one system. The name is that of the driver; to have two systems of one sort, name them
as you like and add `driver`, the name of the driver. A driver that needs no configuration needs no entry.

{targets}"""


# -- kinds ---------------------------------------------------------------------------------------------------------------------


def needed_fields(spec: type[Spec]) -> frozenset[str]:
    """Name the fields that a document must give; some of those that the model requires are derived from ``metadata.name``."""
    try:
        spec.from_document({"metadata": {"name": "name"}, "spec": {}})
    except ValidationError as error:
        return frozenset(str(one["loc"][0]) for one in error.errors() if one["type"] == "missing")
    return frozenset()


def kind_section(api_version: str, kind: str, spec: type[BaseModel]) -> str:
    """Give the section of one kind."""
    fixed: tuple[str, ...] = ()
    needed, notes = None, ""
    if issubclass(spec, Spec):
        fixed, needed = spec.immutable, needed_fields(spec)
        if spec.identity_bearing:
            notes = '\nHistory hangs on its identity: to replace it needs `reconciler/replace: "true"`.\n'
    body = fields_of(spec, immutable=fixed, needed=needed)
    return f"### {kind}\n\n`apiVersion: {api_version}`. {first_paragraph(spec)}\n{notes}\n{body}{nested(spec, '####')}"


def plugin_section(plugin: Plugin) -> str:
    """Give the section of one plugin with all its kinds."""
    about = first_paragraph(sys.modules[plugin.config.__module__.rpartition(".")[0]])
    kinds = [kind_section(plugin.api_version, kind, spec) for kind, spec in plugin.kinds.items() if kind != "*"]
    if "*" in plugin.kinds:
        kinds.append(ANY_KIND.format(about=first_paragraph(plugin.kinds["*"])))
    return f"## {plugin.name}\n\n{about}\n\n" + "\n".join(kinds)


def kinds_page() -> str:
    """Give the page of every kind and every annotation."""
    own = [kind_section(OWN_GROUP, "Stack", StackSpec), kind_section(OWN_GROUP, "DriftException", ExceptionSpec)]
    rows = [(f"`reconciler/{name}`", *ANNOTATIONS[name]) for name in catalog().annotations()]
    annotations = table(("Annotation", "Value", "Meaning"), rows)
    sections = ["## reconciler\n\n" + "\n".join(own)]
    sections += [plugin_section(plugin) for plugin in catalog().plugins]
    return KINDS.format(note=NOTE, annotations=annotations, sections="\n".join(sections))


KINDS = """{note}
# Kinds

A document has `apiVersion`, `kind`, `metadata` (`name`, `annotations`, `labels`) and `spec`; the fields below stand in `spec`. Every
field may be an expression such as `${{vars.domain}}`. A field that is left out means its default, also when it was there before. The
same as JSON Schema, for editors: `reconciler schema --write schemas`.

## Annotations

{annotations}
{sections}"""

ANY_KIND = """### Any kind

{about}

Every group that no other plugin claims belongs to Kubernetes: `v1`, `apps/v1`, and the groups of your own CRDs. Write the manifest as
`kubectl` takes it; its fields are those of the cluster, which checks them itself by a dry-run while the plan is made. The id of such a
resource is `k8s/Kind/namespace/name`, or `k8s/Kind/name` where there is no namespace. Only the annotations below `reconciler/` and what
the server alone writes (`status`, `uid`, `managedFields` and the like) are taken off before it is sent.

A PersistentVolumeClaim, PersistentVolume, Namespace or CustomResourceDefinition is replaced only with `reconciler/replace: "true"`,
because data or other objects go with it.
"""


# -- the command line ----------------------------------------------------------------------------------------------------------


def option_row(parameter: click.Parameter, context: click.Context) -> tuple[str, ...]:
    """Give the table row of one option or argument."""
    if isinstance(parameter, click.Option):
        record = parameter.get_help_record(context)
        assert record is not None
        return f"`{record[0]}`", record[1]
    return f"`{parameter.make_metavar(context)}`", "argument" if parameter.required else "argument, may be left out"


def root() -> click.Context:
    """Give the context of the program itself."""
    return click.Context(group, info_name="reconciler", **group.context_settings)


def verb_section(name: str) -> str:
    """Give the section of one verb."""
    command = group.get_command(click.Context(group), name)
    assert command is not None
    context = click.Context(command, parent=root(), info_name=name)
    rows = [option_row(one, context) for one in command.params]
    usage = " ".join(command.collect_usage_pieces(context))
    text = inspect.cleandoc(command.help or "").replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n")
    options = f"\n{table(('Option', 'Meaning'), rows)}" if rows else ""
    return f"## {name}\n\n`reconciler {name} {usage}`\n\n{text}\n{options}"


def cli_page() -> str:
    """Give the page of every verb."""
    context = root()
    rows = [option_row(one, context) for one in group.get_params(context)]
    sections = "\n".join(verb_section(name) for name in VERBS)
    return CLI.format(note=NOTE, about=inspect.getdoc(group.callback), options=table(("Option", "Meaning"), rows), sections=sections)


CLI = """{note}
# Command line

{about}

Options before the verb:

{options}
Exit codes, for every verb:

| Code | Meaning |
| --- | --- |
| 0 | Done, and in sync. |
| 1 | An error: wrong input, wrong settings, a system that could not be seen, a write that failed. |
| 2 | Nothing failed, but something is pending: a change, a drift, something held. |
| 130 | You said no, or pressed Ctrl-C at a question. |

{sections}"""


# -- errors --------------------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """Give the page of the error tree."""
    tree = (inspect.getdoc(errors) or "").partition("::\n\n")[2].partition("\n\nAny other")[0]
    body = ast.parse(inspect.getsource(errors)).body
    names = [node.name for node in body if isinstance(node, ast.ClassDef) and node.name != "Problem"]
    rows = [(f"`{name}`", first_paragraph(getattr(errors, name))) for name in names]
    return ERRORS.format(note=NOTE, tree=inspect.cleandoc(tree), table=table(("Error", "Meaning"), rows))


ERRORS = """{note}
# Errors

Whatever goes wrong and was foreseen is one of these. The command line prints its message and ends with 1; the daemon records it.
Anything else is a bug: it is named by its type alone, because its text might carry a secret.

```text
{tree}
```

{table}"""


# -- checks --------------------------------------------------------------------------------------------------------------------


def checks_page() -> str:
    """Give the page of every rule of the checks."""
    rows = [(f"`{name}`", rule.asks, rule.reference) for name, rule in RULES.items()]
    return CHECKS.format(note=NOTE, table=table(("Rule", "What it asks", "Where it is written"), rows))


CHECKS = """{note}
# Checks

What a stack about mail is asked before anything is written; [the guide](../guide.md#checks-before-anything-is-written) says what becomes
of a finding. `reconciler/waive` takes the names in the first column.

{table}"""


# -- the API -------------------------------------------------------------------------------------------------------------------


def api_page() -> str:
    """Give the page of every operation of the API."""
    rows = [(f"`{one.method} {PREFIX}{one.template}`", f"`{one.role}`", one.about, _shape(one)) for one in OPERATIONS]
    shapes = [one.body for one in OPERATIONS if one.body is not None] + [one.query for one in OPERATIONS if one.query is not None]
    sections = "\n".join(f"## {one.__name__}\n\n{first_paragraph(one)}\n\n{fields_of(one)}" for one in shapes)
    return API.format(note=NOTE, prefix=PREFIX, table=table(("Operation", "Role", "What it does", "Takes"), rows), sections=sections)


def _shape(one: Operation) -> str:
    shape = one.body or one.query
    return f"[{shape.__name__}](#{slug(shape.__name__)})" if shape is not None else ""


def api_document() -> str:
    """Give the OpenAPI document."""
    return json.dumps(document(OPERATIONS, PREFIX), indent=2) + "\n"


API = """{note}
# API

Served at `http.listen` where `http.tokens` are set, to whoever shows one of them: `Authorization: Bearer TOKEN`. The roles are `read`,
`operate` and `approve`; each may do what those before it may. What cannot be done is answered by a problem document (RFC 9457). The whole
of it as OpenAPI 3.1: [openapi.json](openapi.json), served at `{prefix}/openapi.json`.

{table}
{sections}"""


# -- included files ------------------------------------------------------------------------------------------------------------

INCLUDED = re.compile(r"<!-- file: (?P<path>\S+) -->\n```python\n.*?```\n", re.DOTALL)


def with_files(text: str) -> str:
    """Give a page with every file that it includes brought up to date."""

    def block(match: re.Match[str]) -> str:
        content = (HERE / match["path"]).read_text(encoding="utf-8")
        return f"<!-- file: {match['path']} -->\n```python\n{content}```\n"

    return INCLUDED.sub(block, text)


def _drivers_page() -> str:
    return with_files((HERE / "drivers.md").read_text(encoding="utf-8"))


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/settings.md": settings_page,
    "reference/kinds.md": kinds_page,
    "reference/cli.md": cli_page,
    "reference/errors.md": errors_page,
    "reference/checks.md": checks_page,
    "reference/api.md": api_page,
    "reference/openapi.json": api_document,
    "drivers.md": _drivers_page,
}
"""Path below this folder -> what it must hold."""


def main(arguments: list[str]) -> int:
    """Write the pages that are out of date; with ``--check`` only name them. Gives 1 when there was one to name."""
    stale = []
    for name, page in PAGES.items():
        path, text = HERE / name, page()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(path)
            if "--check" not in arguments:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(HERE.parent)}: {'is out of date; run python -m docs.generate' if '--check' in arguments else 'written'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the verbs share: options, the engine they run on, colours and exit codes."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reconciler.errors import SettingsError

if TYPE_CHECKING:  # a verb pays only for the rooms that it enters
    from reconciler.compose import Workshop
    from reconciler.desired import Desired
    from reconciler.registry import Catalog
    from reconciler.repositories import Repository
    from reconciler.resource import ResourceId
    from reconciler.settings import Settings
    from reconciler.stack import Stack
    from reconciler.state import Store

F = TypeVar("F", bound=Callable[..., Any])
IN_SYNC, ERROR, PENDING = 0, 1, 2
COLOURS = {"+": "green", "~": "yellow", "±": "magenta", "-": "red", "⊕": "cyan"}

output = click.option("-o", "--output", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True, help="Form.")
stacks = click.option("--stack", "wanted", multiple=True, metavar="NAME", help="Only this stack; may be repeated. [default: all]")
path = click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Read this working tree instead of the repository: a stack, a folder of stacks, or a repository.",
)


def settings_of(ctx: click.Context) -> "Settings":
    """Load the settings that the command line names."""
    from reconciler.settings import load_settings

    name = ctx.obj["settings"]
    return load_settings(Path(name) if name else None)


def desired_of(settings: "Settings", tree: Path | None) -> "Desired":
    """Read the desired state: a working tree, or the head of the repository."""
    from reconciler.desired import desired_below, desired_from

    if tree is not None:
        return desired_below(tree, settings.repository.folder)
    from reconciler.compose import cache_of, git_source

    name, repository = repository_of(settings)
    source = git_source(repository, cache_of(settings))
    return replace(desired_from(source.read(source.fetch(), repository.folder), repository.folder), source=name)


def repository_of(settings: "Settings") -> "tuple[str, Repository]":
    """Give the repository that the command line names, or the only one there is, with its name."""
    there = settings.sources()
    wanted = click.get_current_context().find_root().obj.get("repository") or ""
    if wanted and wanted not in there:
        raise SettingsError(f"the settings have no repository {wanted!r}; they have {', '.join(there) or 'none'}")
    if not there:
        raise SettingsError("there is nothing to read: give --path DIR, or set repository.url in reconciler.yaml")
    if len(there) > 1 and not wanted:
        raise SettingsError(f"the settings have several repositories; choose one, as in reconciler --repository {next(iter(there))} ...")
    name = wanted or next(iter(there))
    return name, there[name]


def loaded(desired: "Desired", wanted: Sequence[str], kinds: "Catalog") -> "list[Stack]":
    """Load the stacks that were asked for, or all. Raises InputError with the problems of all of them, before anything is done."""
    from reconciler.clock import Clock
    from reconciler.desired import chosen
    from reconciler.errors import InputError, Problem

    problems: list[Problem] = []
    found = []
    for name in chosen(desired, wanted):
        try:
            found.append(desired.load(name, kinds, Clock().now().date()))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return found


@contextmanager
def opened(ctx: click.Context, *, write: bool = False) -> Iterator["tuple[Workshop, Store]"]:
    """Give the workshop and the store, with tracing on; everything is closed at the end."""
    from reconciler import telemetry
    from reconciler.compose import Workshop
    from reconciler.state import Store

    settings = settings_of(ctx)
    telemetry.configure_logging("warning", settings.telemetry.log_format)
    telemetry.configure(settings.telemetry.exporter, file=settings.telemetry.file, endpoint=settings.telemetry.endpoint)
    store = Store(settings.state, read_only=not write)
    try:
        yield Workshop(settings), store
    finally:
        store.close()
        telemetry.shutdown()


def resource_id(text: str) -> "ResourceId":
    """Read the id that a person typed. Raises ReconcilerError."""
    from reconciler.errors import ReconcilerError
    from reconciler.resource import ResourceId

    try:
        return ResourceId.parse(text)
    except ValueError as error:
        raise ReconcilerError(str(error)) from None


def say(text: str) -> None:
    """Print lines, changes in the colour of their action."""
    for line in text.splitlines():
        word = line.strip()[:1]
        problem = line.startswith(("held", "blocked", "refused", "unknown", "  failed", "  blocked", "  held"))
        click.secho(line, fg="yellow" if problem else COLOURS.get(word))


def say_json(data: Any) -> None:
    """Print JSON for other programs."""
    click.echo(json.dumps(data, indent=2, default=str, ensure_ascii=False))

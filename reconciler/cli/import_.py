"""``reconciler import``: what already runs, written as desired state. What is asked of the system is the plugin's own affair."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from reconciler.cli import common
from reconciler.driver import Driver, Plugin
from reconciler.errors import SettingsError
from reconciler.registry import OWN_GROUP, catalog, load
from reconciler.settings import Settings

STACK_FILE = "stack.yaml"
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("import", context_settings={"ignore_unknown_options": True})
@click.argument("driver")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--target", default="", metavar="NAME", help="Read this target of the settings. [default: the driver's own]")
@click.option(
    "--owner", default="", metavar="STACK", help="The stack that will own it. [default: as the folder of --stack, else the driver]"
)
@click.option("--write", type=click.Path(dir_okay=False, path_type=Path), help="Write this file. [default: print]")
@click.option("--stack", "folder", type=FOLDER, help="Write into the folder of this stack, and its stack.yaml where it has none.")
@click.option("--force", is_flag=True, help="Write over a file that exists; never over a stack.yaml.")
@click.pass_context
def command(
    ctx: click.Context,
    driver: str,
    arguments: tuple[str, ...],
    target: str,
    owner: str,
    write: Path | None,
    folder: Path | None,
    force: bool,
) -> int:
    """Write what DRIVER finds in its system as desired state. ARGUMENTS say what, such as --zone example.com for cloudflare.

    Each resource is written as it is and with leave to be adopted, so that the plan only adopts and changes no field.
    """
    stack = folder.resolve().name if folder is not None else owner or driver
    if write is not None and folder is not None:
        raise click.UsageError("give --write or --stack, not both")
    if owner not in ("", stack):
        raise click.UsageError(f"a stack is called as its folder is, so --owner must be {stack}")
    settings, plugin = common.settings_of(ctx), _importing(driver)
    target = target or driver
    found = _found(settings, plugin, target, {**_pairs(arguments), "owner": f"{settings.instance}/{stack}"})
    if folder is not None:
        _write({folder / Path(name).name: text for name, text in found.items()}, force)
        _start(folder / STACK_FILE, stack, {} if target == driver else {driver: target})
    elif write is not None:
        _write({write: _joined(found.values())}, force)
    else:
        click.echo(_joined(found.values()), nl=False)
    return common.IN_SYNC


def _importing(driver: str) -> Plugin:
    plugin = catalog().plugin(driver)
    if not plugin.importer:
        able = ", ".join(one.name for one in catalog().plugins if one.importer) or "none"
        raise SettingsError(f"the driver {driver} cannot write down what it finds; those that can: {able}")
    return plugin


def _pairs(arguments: tuple[str, ...]) -> dict[str, str]:
    """Read ``--name value`` and ``--name=value``, whatever the names are."""
    pairs: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--") or not (equals or rest):
            raise click.UsageError(f"{name}: what to import is said as --name value")
        pairs[name.removeprefix("--")] = value if equals else rest.pop(0)
    return pairs


def _found(settings: Settings, plugin: Plugin, target: str, arguments: Mapping[str, str]) -> dict[str, str]:
    """Open the target and let the plugin write; a temporary trouble is waited out as in a pass."""
    from reconciler.compose import Workshop

    with Workshop(settings).engine() as engine:
        problem = engine.observer.targets.problem(target, plugin.name)
        if problem:
            raise SettingsError(problem)
        driver: Driver = engine.observer.targets.get(target)
        written: dict[str, str] = engine.retry.call(lambda: load(plugin.importer)(driver, arguments))
    return written


def _joined(texts: Iterable[str]) -> str:
    return "---\n".join(texts)


def _write(files: Mapping[Path, str], force: bool) -> None:
    """Write all files or, when one of them is there already, none."""
    there = [str(file) for file in files if file.exists()]
    if there and not force:
        raise SettingsError(f"{', '.join(there)}: is there already; --force writes over it")
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        click.echo(f"written: {file}")


def _start(file: Path, stack: str, targets: Mapping[str, str]) -> None:
    """Write the stack's own file, unless there is one: that one says more than we know."""
    if file.exists():
        return
    spec = f"{{targets: {json.dumps(targets)}}}" if targets else "{}"
    text = f"apiVersion: {OWN_GROUP}\nkind: Stack\nmetadata: {{name: {json.dumps(stack)}}}\nspec: {spec}\n"
    file.write_text(text, encoding="utf-8")
    click.echo(f"written: {file}")

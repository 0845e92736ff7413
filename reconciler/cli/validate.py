"""``reconciler validate``: the desired state alone, no system is asked."""

from datetime import UTC, datetime
from pathlib import Path

import click

from reconciler.cli import common
from reconciler.desired import desired_below
from reconciler.errors import InputError, Problem
from reconciler.registry import catalog


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@common.output
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], output: str) -> int:
    """Check the desired state below PATHS [default: desired]: a stack, a folder of stacks, or a repository."""
    problems: list[Problem] = []
    lines: list[str] = []
    for path in paths or (Path("desired"),):
        found, well = _check(path)
        problems += found
        lines += well
    if output == "json":
        common.say_json({"ok": not problems, "stacks": lines, "problems": [str(one) for one in problems]})
    else:
        bullet = "- " if output == "markdown" else ""
        for line in lines:
            click.echo(f"{bullet}{line}")
        for problem in problems:
            click.secho(f"{bullet}{problem}", fg="red", err=output == "text")
    return common.ERROR if problems else common.IN_SYNC


def _check(path: Path) -> tuple[list[Problem], list[str]]:
    problems: list[Problem] = []
    lines: list[str] = []
    try:
        desired = desired_below(path, about=False)
    except InputError as error:
        return list(error.problems), []
    for name in desired.names:
        try:
            stack = desired.load(name, catalog(), datetime.now(UTC).date())
        except InputError as error:
            problems += error.problems
        else:
            lines.append(f"{name}: {len(stack.graph.resources)} resources in {len(stack.graph.waves)} waves, no problems")
    return problems, lines

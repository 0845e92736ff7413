"""``reconciler validate``: the desired state alone, no system is asked."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from reconciler.checks import Finding, Severity
from reconciler.cli import common
from reconciler.desired import desired_below
from reconciler.errors import InputError, Problem
from reconciler.registry import catalog

COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: None}


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@common.output
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], output: str) -> int:
    """Check the desired state below PATHS [default: desired]: a stack, a folder of stacks, or a repository.

    It must be well formed, and where it is about mail its systems must agree; a finding of severity error is a problem, too.
    """
    problems: list[Problem] = []
    lines: list[str] = []
    findings: list[Finding] = []
    for path in paths or (Path("desired"),):
        found, well, remarks = _check(path)
        problems += found
        lines += well
        findings += remarks
    wrong = bool(problems) or any(one.severity is Severity.ERROR for one in findings)
    if output == "json":
        details = [asdict(one) | {"resource": str(one.resource)} for one in findings]
        common.say_json({"ok": not wrong, "stacks": lines, "problems": [str(one) for one in problems], "findings": details})
    else:
        _show(lines, findings, problems, output)
    return common.ERROR if wrong else common.IN_SYNC


def _show(lines: list[str], findings: list[Finding], problems: list[Problem], output: str) -> None:
    bullet = "- " if output == "markdown" else ""
    for line in lines:
        click.echo(f"{bullet}{line}")
    for finding in findings:
        loud = output == "text" and finding.severity is Severity.ERROR
        click.secho(f"{bullet}{finding.severity}: {finding}", fg=COLOURS[finding.severity], err=loud)
    for problem in problems:
        click.secho(f"{bullet}{problem}", fg="red", err=output == "text")


def _check(path: Path) -> tuple[list[Problem], list[str], list[Finding]]:
    problems: list[Problem] = []
    lines: list[str] = []
    findings: list[Finding] = []
    try:
        desired = desired_below(path, about=False)
    except InputError as error:
        return list(error.problems), [], []
    for name in desired.names:
        try:
            stack = desired.load(name, catalog(), datetime.now(UTC).date())
        except InputError as error:
            problems += error.problems
        else:
            findings += stack.findings
            said = f"{len(stack.findings)} findings" if stack.findings else "no problems"
            lines.append(f"{name}: {len(stack.graph.resources)} resources in {len(stack.graph.waves)} waves, {said}")
    return problems, lines, findings

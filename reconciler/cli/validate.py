"""``reconciler validate``: the desired state alone, no system is asked."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from reconciler.checks import Finding, Severity
from reconciler.cli import common
from reconciler.desired import desired_below
from reconciler.errors import InputError, Problem, SettingsError
from reconciler.registry import catalog

DEFAULT = Path("reconciler.yaml")
COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: None}


@click.command("validate")
@click.argument("paths", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@common.output
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], output: str) -> int:
    """Check the desired state below PATHS [default: desired]: a stack, a folder of stacks, or a repository.

    It must be well formed, and where it is about mail its systems must agree; a finding of severity error is a problem, too. Where there
    are settings, those of the targets are checked as well.
    """
    problems: list[Problem] = []
    lines: list[str] = []
    findings: list[Finding] = []
    wiring = Wiring(ctx.obj["settings"])
    for path in paths or (Path("desired"),):
        found, well, remarks = _check(path, wiring)
        problems += found
        lines += well
        findings += remarks
    problems += wiring.problems()
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


@dataclass(slots=True)
class Wiring:
    """What is wrong with the settings of the targets. ``file`` is what the command line names; without settings nothing is."""

    file: str | None
    used: set[tuple[str, str]] = field(default_factory=set)

    def problems(self) -> list[Problem]:
        """Give what can be known of it without asking a system: of each target once, and which of them are missing."""
        if self.file is None and not DEFAULT.is_file():
            return []
        from reconciler.settings import load_settings
        from reconciler.targets import Targets
        from reconciler.wiring import target_problems

        try:
            configs = load_settings(Path(self.file) if self.file else None).targets
        except SettingsError as error:
            return [Problem(self.file or str(DEFAULT), 0, one.removeprefix(f"{self.file or DEFAULT}: ")) for one in str(error).splitlines()]
        targets = Targets(configs, catalog())
        missing = (targets.problem(target, driver) for target, driver in sorted(self.used))
        found = [*target_problems(configs, catalog()), *filter(None, missing if configs else ())]
        return [Problem(self.file or str(DEFAULT), 0, one) for one in found]


def _check(path: Path, wiring: Wiring) -> tuple[list[Problem], list[str], list[Finding]]:
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
            wiring.used |= {(target, id.driver) for id, target in stack.targets.items()}
            said = f"{len(stack.findings)} findings" if stack.findings else "no problems"
            lines.append(f"{name}: {len(stack.graph.resources)} resources in {len(stack.graph.waves)} waves, {said}")
    return problems, lines, findings

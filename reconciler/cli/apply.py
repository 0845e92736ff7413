"""``reconciler apply``: one converge of each stack, now."""

import sys
from pathlib import Path

import click

from reconciler.cli import common
from reconciler.engine import Engine
from reconciler.plan import Plan
from reconciler.report import Report, Verdict, plan_text, report_data, report_markdown, report_text
from reconciler.source import Revision
from reconciler.stack import Stack


@click.command("apply")
@common.path
@common.stacks
@common.output
@click.option("--approve", "approved", multiple=True, metavar="DIGEST", help="Let the plan with this digest pass its guard.")
@click.option("--yes", is_flag=True, help="Do not ask. [default: ask on a terminal]")
@click.pass_context
def command(ctx: click.Context, path: Path | None, wanted: tuple[str, ...], output: str, approved: tuple[str, ...], yes: bool) -> int:
    """Converge once, now. Exit code 0: converged, 2: something is held or pending, 1: error."""
    with common.opened(ctx, write=True) as (workshop, store):
        desired = common.desired_of(workshop.settings, path)
        stacks = common.loaded(desired, wanted, workshop.kinds)
        ask = not yes and output == "text" and sys.stdin.isatty()
        with workshop.engine(store) as engine:
            reports = [_one(engine, desired.revision, stack, approved, ask) for stack in stacks]
    _unused(approved, reports)
    if output == "json":
        common.say_json([report_data(report) for report in reports])
    else:
        render = report_markdown if output == "markdown" else report_text
        common.say("\n".join(render(report) for report in reports))
    return max((_code(report.verdict) for report in reports), key=[0, 2, 1].index, default=common.IN_SYNC)


def _one(engine: Engine, revision: Revision, stack: Stack, approved: tuple[str, ...], ask: bool) -> Report:
    digests = _full(engine.plan(stack, revision.commit, exact=True)[0], approved) if approved or ask else ()
    shown = ""
    if ask:
        plan, _ = engine.plan(stack, revision.commit, approved=digests, exact=True)
        common.say(plan_text(plan))
        if plan.waves:
            click.confirm("apply this plan?", abort=True)
            shown = plan.digest
    return engine.converge(stack, revision.commit, reason="by hand", subject=revision.subject, approved=digests, shown=shown)


def _full(plan: Plan, approved: tuple[str, ...]) -> tuple[str, ...]:
    """Give the whole digest of the plan when one of those given is its beginning, at least 12 digits long."""
    return tuple(plan.digest for one in approved if len(one) >= 12 and plan.digest.startswith(one))


def _unused(approved: tuple[str, ...], reports: list[Report]) -> None:
    """Say which approvals fitted no plan: the systems or git moved on since it was shown, or it was mistyped."""
    for one in approved:
        if len(one) < 12 or not any(report.plan.digest.startswith(one) for report in reports):
            click.secho(
                f"--approve {one}: no plan has this digest (at least its first 12 digits); nothing was approved", fg="red", err=True
            )


def _code(verdict: Verdict) -> int:
    if verdict is Verdict.CONVERGED:
        return common.IN_SYNC
    return common.PENDING if verdict in (Verdict.PENDING, Verdict.DEGRADED) else common.ERROR

"""``reconciler drift``: what is different although no commit asked for it."""

from pathlib import Path

import click

from reconciler.cli import common
from reconciler.desired import chosen
from reconciler.plan import Plan
from reconciler.report import change_line, diff_lines, drifted


@click.command("drift")
@common.path
@common.stacks
@common.output
@click.pass_context
def command(ctx: click.Context, path: Path | None, wanted: tuple[str, ...], output: str) -> int:
    """Show what somebody changed behind git's back, and who, as far as the systems tell. Exit code 0: none, 2: some, 1: error."""
    with common.opened(ctx) as (workshop, store):
        desired = common.desired_of(workshop.settings, path)
        with workshop.engine(store) as engine:
            stacks = [desired.load(name, workshop.kinds, workshop.today()) for name in chosen(desired, wanted)]
            plans = [engine.plan(stack, desired.revision.commit)[0] for stack in stacks]
        known = {(row["stack"], row["resource"]): row for row in store.drifts()}
    lines = [line for plan in plans for line in _lines(plan, {resource: row["onset"] for (_, resource), row in known.items()})]
    unseen = [str(one.id) for plan in plans for one in plan.stuck if one.unknown]
    if output == "json":
        common.say_json({"drift": lines, "unknown": unseen})
    else:
        common.say("\n".join(lines or ["no drift"]))
        common.say("\n".join(f"unknown: {id}: could not be seen" for id in unseen))
    if unseen:
        return common.ERROR
    return common.PENDING if lines else common.IN_SYNC


def _lines(plan: Plan, onset: dict[str, str]) -> list[str]:
    lines = []
    waived = {held.change.id: held.reason for held in plan.held if held.guard == "exception"}
    for change in drifted(plan):
        since = f" since {onset[str(change.id)][:19]}" if str(change.id) in onset else ""
        lines.append(change_line(change) + since + (f": {waived[change.id]}" if change.id in waived else ""))
        lines += [f"    {line}" for line in diff_lines(change.diffs)]
    return lines

"""``reconciler plan``: what would change, and why the rest would not."""

from pathlib import Path

import click

from reconciler.cli import common
from reconciler.report import plan_data, plan_markdown, plan_text


@click.command("plan")
@common.path
@common.stacks
@common.output
@click.pass_context
def command(ctx: click.Context, path: Path | None, wanted: tuple[str, ...], output: str) -> int:
    """Show what would change. Writes nothing. Exit code 0: in sync, 2: changes pending, 1: error."""
    with common.opened(ctx) as (workshop, store):
        desired = common.desired_of(workshop.settings, path)
        stacks = common.loaded(desired, wanted, workshop.kinds)
        with workshop.engine(store) as engine:
            plans = [engine.plan(stack, desired.revision.commit)[0] for stack in stacks]
    if output == "json":
        common.say_json([plan_data(plan) for plan in plans])
    elif output == "markdown":
        click.echo("\n\n".join(plan_markdown(plan) for plan in plans))
    else:
        common.say("\n".join(plan_text(plan) for plan in plans))
    if any(one.unknown for plan in plans for one in plan.stuck):
        return common.ERROR
    return common.IN_SYNC if all(plan.in_sync for plan in plans) else common.PENDING

"""``reconciler status``: how the stacks fare, from what the last runs wrote down. Asks no system."""

from typing import Any

import click

from reconciler.cli import common
from reconciler.state import Store

GOOD = {"converged": "green", "pending": "yellow", "degraded": "yellow"}


@click.command("status")
@common.stacks
@common.output
@click.pass_context
def command(ctx: click.Context, wanted: tuple[str, ...], output: str) -> int:
    """Show how the stacks fare, from the last runs. Exit code 0: all converged, 2: something is open, 1: a run failed."""
    store = Store(common.settings_of(ctx).state, read_only=True)
    try:
        rows = [row for name in (wanted or store.stacks()) if (row := _row(store, name)) is not None]
    finally:
        store.close()
    if output == "json":
        common.say_json(rows)
    elif not rows:
        click.echo("no run yet; start one with: reconciler apply --path DIR")
    else:
        _print(rows, markdown=output == "markdown")
    verdicts = {row["verdict"] for row in rows}
    if verdicts - GOOD.keys():
        return common.ERROR
    return common.PENDING if verdicts - {"converged"} else common.IN_SYNC


def _row(store: Store, name: str) -> dict[str, Any] | None:
    run = store.latest(name)
    if run is None:
        return None
    report = run.pop("report")
    return {
        **run,
        "drift": store.drifts(name),
        "unhealthy": report["health"],
        "held": report["remaining"]["held"],
        "problems": report["problems"],
    }


def _print(rows: list[dict[str, Any]], *, markdown: bool) -> None:
    for row in rows:
        head = (
            f"{row['stack']}: {row['verdict']} at {row['revision'][:12] or 'working tree'} ({row['finished'][:19]} UTC): {row['summary']}"
        )
        click.secho(f"- {head}" if markdown else head, fg=None if markdown else GOOD.get(row["verdict"], "red"))
        for problem in row["problems"]:
            click.echo(f"  {problem}")
        for held in row["held"]:
            click.echo(f"  held by {held['guard']}: {held['id']}: {held['reason']}")
        for drift in row["drift"]:
            click.echo(f"  {drift['state']} drift since {drift['onset'][:19]}: {drift['resource']} {drift['evidence']}".rstrip())
        for id, health in row["unhealthy"].items():
            click.echo(f"  {health['level']}: {id}: {health['message']}")

"""``reconciler status``: how the stacks fare, from what the last runs wrote down. Asks no system."""

from typing import Any

import click

from reconciler.cli import common
from reconciler.state import Store
from reconciler.telemetry import trace_link

GOOD = {"converged": "green", "pending": "yellow", "degraded": "yellow"}


@click.command("status")
@common.stacks
@common.output
@click.pass_context
def command(ctx: click.Context, wanted: tuple[str, ...], output: str) -> int:
    """Show how the stacks fare, from the last runs. Exit code 0: all converged, 2: something is open, 1: a run failed."""
    settings = common.settings_of(ctx)
    store = Store(settings.state, read_only=True)
    try:
        untold = _conditions(store)
        rows = [row for name in (wanted or store.stacks()) if (row := _row(store, name, settings.telemetry.trace_url)) is not None]
    finally:
        store.close()
    if output == "json":
        common.say_json([{**row, "conditions": untold} for row in rows])
    elif not rows:
        click.echo("no run yet; start one with: reconciler apply --path DIR")
    else:
        _print(rows, markdown=output == "markdown")
    if output != "json":
        for one in untold:
            click.secho(f"{one['name']} cannot be told since {one['since'][:19]} UTC: {one['message']}", fg="red")
    verdicts = {row["verdict"] for row in rows}
    if verdicts - GOOD.keys():
        return common.ERROR
    return common.PENDING if verdicts - {"converged"} else common.IN_SYNC


def _conditions(store: Store) -> list[dict[str, str]]:
    """Give what keeps people from being told."""
    from reconciler.daemon.cards import conditions  # with the words of the cards, which only this needs

    with store.transaction() as connection:
        return conditions(connection)


def _row(store: Store, name: str, trace_url: str) -> dict[str, Any] | None:
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
        "trace": trace_link(trace_url, run["trace_id"]),
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
        if row["trace"]:
            click.echo(f"  trace: {row['trace']}")

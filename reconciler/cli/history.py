"""``reconciler history``: the runs that were, newest first."""

import click

from reconciler.cli import common
from reconciler.state import Store


@click.command("history")
@click.argument("number", required=False, type=int)
@click.option("-n", "--most", default=20, show_default=True, type=click.IntRange(1), help="How many runs.")
@common.stacks
@common.output
@click.pass_context
def command(ctx: click.Context, number: int | None, most: int, wanted: tuple[str, ...], output: str) -> int:
    """Show past runs, or everything about the run NUMBER."""
    store = Store(common.settings_of(ctx).state, read_only=True)
    try:
        if number is not None:
            return _one(store, number)
        rows = [row for name in (wanted or ("",)) for row in store.runs(name, most=most)]
        rows = sorted(rows, key=lambda row: int(row["id"]), reverse=True)[:most]
    finally:
        store.close()
    if output == "json":
        common.say_json(rows)
        return common.IN_SYNC
    for row in rows:
        line = (
            f"{row['id']:>5}  {row['finished'][:19]}  {row['stack']:<12} {row['verdict']:<11} {row['revision'][:10]:<10}  {row['summary']}"
        )
        click.echo(f"- {line.strip()}" if output == "markdown" else f"{line}  [{row['reason']}] {row['subject']}")
    return common.IN_SYNC


def _one(store: Store, number: int) -> int:
    run = store.run(number)
    if run is None:
        click.secho(f"there is no run {number}; see reconciler history", fg="red", err=True)
        return common.ERROR
    common.say_json(run)
    return common.IN_SYNC

"""``reconciler approve``: a person's word for one plan."""

import getpass
from collections.abc import Iterator

import click

from reconciler.cli import common
from reconciler.errors import ReconcilerError
from reconciler.state import Store


@click.command("approve")
@click.argument("digest")
@click.option("--who", default="", help="Who approves. [default: the user of this shell]")
@click.pass_context
def command(ctx: click.Context, digest: str, who: str) -> int:
    """Let exactly the held plan with this DIGEST pass (at least its first 12 digits), at the next pass of its stack."""
    with common.opened(ctx, write=True) as (workshop, store):
        known = {row["digest"] for row in store.runs(most=500)} | set(_open(store))
        full = [one for one in known if one.startswith(digest)]
        if len(digest) < 12:
            raise ReconcilerError(f"{digest}: give at least the first 12 digits of the digest")
        if len(full) != 1:
            raise ReconcilerError(f"{digest}: no run has a plan with this digest; see reconciler status for what is held")
        store.approve(full[0], who or getpass.getuser(), workshop.clock.now().isoformat())
    click.echo(f"plan {full[0][:12]} is approved")
    return common.IN_SYNC


def _open(store: Store) -> Iterator[str]:
    """Give the digest of what each stack's last run left over; it is another than that of the run when a part was applied."""
    for name in store.stacks():
        run = store.latest(name)
        if run is not None:
            yield run["report"]["remaining"]["digest"]

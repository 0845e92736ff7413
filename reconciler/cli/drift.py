"""``reconciler drift``: what is different although no commit asked for it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from reconciler.cli import common
from reconciler.driver import Change
from reconciler.plan import Plan
from reconciler.report import by_whom, change_line, diff_lines, drifted


@click.command("drift")
@common.path
@common.stacks
@common.output
@click.pass_context
def command(ctx: click.Context, path: Path | None, wanted: tuple[str, ...], output: str) -> int:
    """Show what somebody changed behind git's back, and who, as far as the systems tell.

    Exit code 0: none, or all of it acknowledged by a DriftException; 2: some; 1: error.
    """
    with common.opened(ctx) as (workshop, store):
        desired = common.desired_of(workshop.settings, path)
        stacks = common.loaded(desired, wanted, workshop.kinds)
        with workshop.engine(store) as engine:
            plans = [engine.plan(stack, desired.revision.commit)[0] for stack in stacks]
        onset = {(row["stack"], row["resource"]): str(row["onset"]) for row in store.drifts()}
    found = [(change, row) for plan in plans for change, row in _found(plan, onset)]
    unseen = [str(one.id) for plan in plans for one in plan.stuck if one.unknown]
    if output == "json":
        common.say_json({"drift": [row for _, row in found], "unknown": unseen})
    else:
        _print(found, unseen, "- " if output == "markdown" else "")
    if unseen:
        return common.ERROR
    return common.PENDING if any(not row["acknowledged"] for _, row in found) else common.IN_SYNC


def _found(plan: Plan, onset: Mapping[tuple[str, str], str]) -> Iterator[tuple[Change, dict[str, Any]]]:
    waived = {held.change.id: held.reason for held in plan.held if held.guard == "exception"}
    accepted = [held.change for held in plan.held if held.change.id in waived]  # whatever its cause: nobody is about to write it
    for change in {one.id: one for one in (*drifted(plan), *accepted)}.values():
        yield (
            change,
            {
                "stack": plan.stack,
                "id": str(change.id),
                "action": change.action.value,
                "evidence": by_whom(change.evidence),
                "since": onset.get((plan.stack, str(change.id)), ""),
                "acknowledged": waived.get(change.id, ""),
                "fields": [asdict(one) for one in change.diffs],
            },
        )


def _print(found: list[tuple[Change, dict[str, Any]]], unseen: list[str], bullet: str) -> None:
    for change, row in found:
        since = f" since {row['since'][:19]}" if row["since"] else ""
        common.say(bullet + change_line(change) + since + (f": {row['acknowledged']}" if row["acknowledged"] else ""))
        common.say("\n".join(f"    {bullet}{line}" for line in diff_lines(change.diffs)))
    for id in unseen:
        common.say(f"{bullet}unknown: {id}: could not be seen")
    if not found and not unseen:
        common.say("no drift")

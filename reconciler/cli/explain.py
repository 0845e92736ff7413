"""``reconciler explain``: why a resource is in its state, from git to the live object."""

from collections.abc import Iterator
from pathlib import Path

import click

from reconciler.cli import common
from reconciler.compose import Workshop
from reconciler.desired import Desired, chosen
from reconciler.driver import Action
from reconciler.errors import ReconcilerError
from reconciler.observing import Seen
from reconciler.plan import Plan
from reconciler.report import change_line, diff_lines
from reconciler.resource import Resource, ResourceId
from reconciler.state import Store


@click.command("explain")
@click.argument("resource")
@common.path
@common.stacks
@common.output
@click.pass_context
def command(ctx: click.Context, resource: str, path: Path | None, wanted: tuple[str, ...], output: str) -> int:
    """Say why RESOURCE (driver/Kind/name) is in its state: declared where, waiting for what, held by whom, different since when."""
    id = common.resource_id(resource)
    with common.opened(ctx) as (workshop, store):
        desired = common.desired_of(workshop.settings, path)
        lines = list(_explain(workshop, store, desired, wanted, id))
    if output == "json":
        common.say_json({"resource": str(id), "because": lines})
    else:
        prefix = "- " if output == "markdown" else ""
        for line in lines:
            click.echo(f"{prefix}{line}")
    return common.IN_SYNC


def _explain(workshop: Workshop, store: Store, desired: Desired, wanted: tuple[str, ...], id: ResourceId) -> Iterator[str]:
    for name in chosen(desired, wanted):
        stack = desired.load(name, workshop.kinds, workshop.today())
        if id in stack.graph.resources:
            with workshop.engine(store) as engine:
                plan, seen = engine.plan(stack, desired.revision.commit)
            yield from _declared(stack.name, seen, seen.graph.resources[id])
            yield from _state(plan, seen, id)
            yield from _history(store, name, id)
            return
    raise ReconcilerError(f"{id}: no stack declares it; see reconciler graph for what there is")


def _declared(stack: str, seen: Seen, resource: Resource) -> Iterator[str]:
    yield f"{resource.id} is declared at {resource.origin} in the stack {stack}, target {seen.target(resource.id)}"
    gates = set(resource.needs)
    for before in sorted(seen.graph.before[resource.id]):
        yield f"comes after {before}{' and needs it healthy' if before in gates else ''}"
    dependents = sorted(seen.graph.after()[resource.id])
    if dependents:
        yield f"comes before {', '.join(str(one) for one in dependents)}"


def _state(plan: Plan, seen: Seen, id: ResourceId) -> Iterator[str]:
    change = next((one for one in plan.changes if one.id == id), None)
    held = next((one for one in plan.held if one.change.id == id), None)
    stuck = next((one for one in plan.stuck if one.id == id), None)
    if stuck is not None:
        yield f"{'unknown' if stuck.unknown else stuck.status.value}: {stuck.reason}"
    elif held is not None:
        yield f"held by {held.guard}: {held.reason}"
    elif change is None:
        yield "in sync: the live object is as git wants it"
    pending = change or (held.change if held is not None else None)
    if pending is not None:
        yield f"would {pending.action}: {change_line(pending)}"
        if pending.action is not Action.DELETE:
            yield from (f"  {line}" for line in diff_lines(pending.diffs))
    _, observation = seen.observations().get(id, ("", None))
    if observation is None:
        yield "does not exist in its system" if stuck is None or not stuck.unknown else "could not be seen"
    elif observation.live is not None:
        yield f"health: {observation.health.level.name.lower()}{f': {observation.health.message}' if observation.health.message else ''}"
        yield from (f"note: {note}" for note in observation.notes)


def _history(store: Store, stack: str, id: ResourceId) -> Iterator[str]:
    applied = store.last_applied(stack, id)
    if applied is not None:
        subject = f" ({applied['subject']})" if applied["subject"] else ""
        revision = applied["revision"][:12] or "a working tree"
        yield f"last known to match git at {revision}{subject}, run {applied['run']}, {applied['finished'][:19]} UTC"
    for drift in store.drifts(stack, closed=True):
        if drift["resource"] == str(id):
            yield f"drift {drift['state']} since {drift['onset'][:19]} UTC {drift['evidence']}".rstrip()

"""``reconciler adopt``: what is live of a resource, taken into its file; as a diff, a saved file, or a branch to review."""

from dataclasses import asdict
from pathlib import Path

import click

from reconciler.adopting import Adoption, adopt
from reconciler.cli import common
from reconciler.committing import propose_in
from reconciler.compose import Workshop, cache_of, git_source
from reconciler.desired import Desired, chosen
from reconciler.errors import ReconcilerError, SourceError
from reconciler.git import Git, check_branch
from reconciler.resource import ResourceId
from reconciler.state import Store


@click.command("adopt")
@click.argument("resource")
@common.path
@common.stacks
@common.output
@click.option("--replace", "over", is_flag=True, help="Write over expressions, too; never over a secret reference.")
@click.option("--write", is_flag=True, help="Save the file; needs --path.")
@click.option("--branch", metavar="NAME", help="Commit it as this new branch; pushed when the repository is that of the settings.")
@click.pass_context
def command(
    ctx: click.Context, resource: str, path: Path | None, wanted: tuple[str, ...], output: str, over: bool, write: bool, branch: str | None
) -> int:
    """Take what is live of RESOURCE (driver/Kind/name) into its YAML file; comments, order and everything else stay as they are.

    Prints the change as a diff, and what could not be taken over. Exit code 0: a plan would find no difference any more; 2: something is
    left; 1: error.
    """
    if write and path is None:
        raise click.UsageError("--write saves a file of the working tree that --path names")
    id = common.resource_id(resource)
    with common.opened(ctx) as (workshop, store):
        desired = common.desired_of(workshop.settings, path)
        found = _adopted(workshop, store, desired, wanted, id, over)
        done = _put(workshop, desired, found, path, write, branch)
    _show(found, output, done)
    return common.IN_SYNC if found.complete else common.PENDING


def _adopted(workshop: Workshop, store: Store, desired: Desired, wanted: tuple[str, ...], id: ResourceId, over: bool) -> Adoption:
    for name in chosen(desired, wanted):
        stack = desired.load(name, workshop.kinds, workshop.today())
        if id in stack.graph.resources:
            with workshop.engine(store) as engine:
                return adopt(engine, desired, stack, id, workshop.kinds, over=over)
    raise ReconcilerError(f"{id}: no stack declares it; see reconciler graph for what there is")


def _put(workshop: Workshop, desired: Desired, found: Adoption, path: Path | None, write: bool, branch: str | None) -> str:
    """Save or commit the change; give what was done."""
    if not found.taken:
        return ""
    if write:
        try:
            if Path(found.file).read_bytes() != found.before:
                raise SourceError(f"{found.file}: was saved by somebody else meanwhile; run the command again")
            Path(found.file).write_bytes(found.after)
        except OSError as error:
            raise SourceError(f"{found.file}: cannot be written: {error.strerror}") from None
        return f"written: {found.file}"
    if branch is None:
        return ""
    if path is not None:
        check_branch(branch)
        commit = propose_in(Git(str(path)), Path(found.file), branch, found.after, found.message)
        return f"committed: {commit[:12]} as {branch}; push it when it is right"
    _, repository = common.repository_of(workshop.settings)
    source = git_source(repository, cache_of(workshop.settings))
    commit = source.propose(branch, desired.revision.commit, {found.file: found.after}, found.message)
    return f"pushed: {commit[:12]} as {branch}"


def _show(found: Adoption, output: str, done: str) -> None:
    if output == "json":
        row = {"resource": str(found.id), "stack": found.stack, "file": found.file, "diff": found.patch, "done": done}
        common.say_json({**row, "taken": found.taken, "refused": [asdict(one) for one in found.refused]})
        return
    fence = "```" if output == "markdown" else ""
    click.echo(f"{fence}diff\n{found.patch}{fence}" if fence else found.patch, nl=bool(fence))
    for one in found.refused:
        click.secho(f"not taken over: {one.path}: {one.reason}", fg="yellow", err=output == "text")
    if done:
        click.echo(done, err=output == "text")

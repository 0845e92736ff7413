"""``reconciler graph``: the order of the resources, as waves or as a drawing."""

from collections.abc import Mapping
from pathlib import Path

import click

from reconciler.cli import common
from reconciler.errors import ReconcilerError
from reconciler.graph import Graph
from reconciler.registry import catalog
from reconciler.resource import ResourceId


@click.command("graph")
@common.path
@common.stacks
@common.output
@click.option("--of", "root", metavar="RESOURCE", help="Only this resource and what it needs.")
@click.pass_context
def command(ctx: click.Context, path: Path | None, wanted: tuple[str, ...], output: str, root: str | None) -> int:
    """Show the order of the resources; with -o markdown as a Mermaid drawing."""
    desired = common.desired_of(common.settings_of(ctx), path)
    graphs = {stack.name: stack.graph for stack in common.loaded(desired, wanted, catalog())}
    if root is not None:
        graphs = _below(graphs, root)
    if output == "json":
        common.say_json({name: _edges(graph) for name, graph in graphs.items()})
        return common.IN_SYNC
    for name, graph in graphs.items():
        if len(graphs) > 1:
            click.secho(f"### {name}" if output == "markdown" else f"stack {name}", bold=True)
        if output == "markdown":
            click.echo(_mermaid(graph))
        else:
            _print(graph)
    return common.IN_SYNC


def _below(graphs: Mapping[str, Graph], root: str) -> dict[str, Graph]:
    """Keep what one resource needs, in the stack that declares it."""
    try:
        id = ResourceId.parse(root)
    except ValueError as error:
        raise ReconcilerError(str(error)) from None
    found = {name: graph.subgraph([id]) for name, graph in graphs.items() if id in graph.resources}
    if not found:
        raise ReconcilerError(f"{id}: no stack declares it; see reconciler graph for what there is")
    return found


def _edges(graph: Graph) -> dict[str, list[str]]:
    return {str(id): sorted(str(one) for one in before) for id, before in graph.before.items()}


def _print(graph: Graph) -> None:
    for number, wave in enumerate(graph.waves, 1):
        click.secho(f"wave {number}", bold=True)
        for id in wave:
            gates = set(graph.resources[id].needs)
            before = ", ".join(f"{one}{' (gate)' if one in gates else ''}" for one in sorted(graph.before[id]))
            click.echo(f"  {id}{f'  ← {before}' if before else ''}")


def _mermaid(graph: Graph) -> str:
    numbers = {id: f"n{number}" for number, id in enumerate(graph.resources)}
    nodes = [f'  {numbers[id]}["{id}"]' for id in graph.resources]
    edges = [f"  {numbers[before]} --> {numbers[id]}" for id, earlier in graph.before.items() for before in sorted(earlier)]
    return "\n".join(["```mermaid", "graph LR", *nodes, *edges, "```"])

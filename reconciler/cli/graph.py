"""``reconciler graph``: the order of the resources, as waves or as a drawing."""

from pathlib import Path

import click

from reconciler.cli import common
from reconciler.desired import chosen
from reconciler.graph import Graph
from reconciler.registry import catalog
from reconciler.settings import load_settings


@click.command("graph")
@common.path
@common.stacks
@common.output
@click.option("--of", "root", metavar="RESOURCE", help="Only this resource and what it needs.")
@click.pass_context
def command(ctx: click.Context, path: Path | None, wanted: tuple[str, ...], output: str, root: str | None) -> int:
    """Show the order of the resources; with -o markdown as a Mermaid drawing."""
    from reconciler.clock import Clock
    from reconciler.resource import ResourceId

    settings = load_settings(Path(ctx.obj["settings"]) if ctx.obj["settings"] else None)
    desired = common.desired_of(settings, path)
    for name in chosen(desired, wanted):
        graph = desired.load(name, catalog(), Clock().now().date()).graph
        graph = graph.subgraph([ResourceId.parse(root)]) if root else graph
        if output == "json":
            common.say_json({str(id): sorted(str(one) for one in before) for id, before in graph.before.items()})
        elif output == "markdown":
            click.echo(_mermaid(graph))
        else:
            _print(graph)
    return common.IN_SYNC


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

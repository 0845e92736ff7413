"""The order in which sick resources are told: each once, and never before what it depends on."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.daemon.ranking import ranked
from reconciler.graph import build
from reconciler.resource import ResourceId
from tests.unit.core.memory import degraded, mem, resource

NAMES = "abcdefgh"


@st.composite
def outages(draw: st.DrawFn) -> tuple[dict[ResourceId, set[ResourceId]], set[ResourceId], set[ResourceId]]:
    """A graph, given by what stands above each; who is sick, and who of the others waits."""
    order = draw(st.permutations(NAMES))
    edges = {name: draw(st.sets(st.sampled_from(order[:place]), max_size=2)) if place else set() for place, name in enumerate(order)}
    graph = build([resource(name, needs=sorted(edges[name])) for name in order])
    sick = {mem(name) for name in draw(st.sets(st.sampled_from(NAMES), min_size=1))}
    return {mem(name): graph.upstream(mem(name)) for name in NAMES}, sick, {mem(name) for name in NAMES} - sick


@given(outages())
def test_each_is_told_once_and_a_cause_before_what_it_caused(
    outage: tuple[dict[ResourceId, set[ResourceId]], set[ResourceId], set[ResourceId]],
) -> None:
    above, sick, well = outage
    waiting = {id: [one for one in well if id in above[one]] for id in sick}
    lines = ranked({id: degraded() for id in sick}, above, waiting)
    assert sorted(lines) == sorted(map(str, sick))
    told = list(lines)
    for id in sick:
        causes = above[id] & sick
        roots = [one for one in causes if not above[one] & sick]
        assert not causes or any(told.index(str(one)) < told.index(str(id)) for one in roots)
        reach = {one for one in above if id in above[one]}
        if not causes:
            assert (f"({len(reach)} other" in lines[str(id)]) is bool(reach)
    roots = [id for id in told if " depends on " not in lines[id]]
    sizes = [sum(1 for one in above if ResourceId.parse(id) in above[one]) for id in roots]
    assert sizes == sorted(sizes, reverse=True), "the widest reach comes first"

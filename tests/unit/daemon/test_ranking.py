"""The order in which sick resources are told: each once, and never before what it depends on."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.daemon.ranking import consequences, ranked
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


def test_who_waits_for_what_a_cause_has_made_sick_waits_for_the_cause_too() -> None:
    sick = {mem(name): degraded() for name in "ab"}
    lines = ranked(sick, {mem("b"): [mem("a")]}, {mem("b"): [mem("w")]})
    assert list(lines) == ["mem/Thing/a", "mem/Thing/b"]
    assert lines["mem/Thing/a"].startswith("mem/Thing/a (2 others wait for it): ")


def test_what_has_two_causes_is_told_with_the_one_of_the_widest_reach() -> None:
    sick = {mem(name): degraded() for name in "abx"}
    lines = ranked(sick, {mem("x"): [mem("a"), mem("b")]}, {mem("b"): [mem("w")]})
    assert list(lines) == ["mem/Thing/b", "mem/Thing/x", "mem/Thing/a"]
    assert lines["mem/Thing/x"].endswith("; depends on mem/Thing/b")


def test_what_a_cause_that_was_told_already_has_made_sick_is_its_consequence_and_the_cause_is_not() -> None:
    sick = {mem(name): degraded() for name in "abcd"}
    above = {mem("b"): [mem("a")], mem("c"): [mem("b")], mem("d"): [mem("x")]}
    assert list(consequences(sick, above, [mem("a"), mem("b")])) == [(mem("c"), mem("b"))]

"""The order of changes: levels everywhere, one transaction where a system writes as one, and never anything before what it comes after."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.driver import Action, Change, Outcome, Scope, Status
from reconciler.graph import Graph, build
from reconciler.registry import Catalog
from reconciler.resource import Resource, ResourceId
from reconciler.waves import in_waves
from tests.unit.core import memory
from tests.unit.core.memory import Bench, MemoryDriver, Thing, degraded, thing

ALIAS, NODE, BACKEND, FRONTEND = "fw:alias", "k8s:node", "fw:backend", "fw:frontend"
PROBE, FORWARD, MONITOR = "probe:inside", "fw:forward", "kuma:monitor"


def id_of(name: str) -> ResourceId:
    driver, _, rest = name.partition(":")
    return ResourceId(driver, "Thing", rest)


def graph_of(edges: Mapping[str, Sequence[str]]) -> Graph:
    """A graph in which ``!x`` is a gate and ``x`` only comes before."""
    return build(
        Resource(
            id_of(name),
            Thing(),
            needs=tuple(id_of(one[1:]) for one in before if one.startswith("!")),
            refs=tuple(id_of(one) for one in before if not one.startswith("!")),
        )
        for name, before in edges.items()
    )


MAIL = graph_of(
    {
        ALIAS: [],
        NODE: [],
        BACKEND: ["!" + NODE],
        FRONTEND: [BACKEND, ALIAS],
        PROBE: ["!" + FRONTEND],
        FORWARD: ["!" + PROBE, ALIAS],
        MONITOR: ["!" + FORWARD],
    }
)


def change(name: str, action: Action = Action.CREATE) -> Change:
    return Change(action, id_of(name), name.partition(":")[0])


def order(
    graph: Graph,
    changed: Sequence[str],
    gone: Sequence[str] = (),
    remembered: Mapping[str, Sequence[str]] | None = None,
    transactional: Sequence[str] = ("fw",),
) -> list[list[str]]:
    targets = {one.id: one.id.driver for one in graph} | {id_of(one): one.partition(":")[0] for one in gone}
    edges = {id_of(name): [id_of(one) for one in before] for name, before in (remembered or {}).items()}
    changes = {id_of(one): change(one) for one in changed}
    deletes = {id_of(one): change(one, Action.DELETE) for one in gone}
    waves = in_waves(graph, changes, deletes, edges, targets, transactional)
    return [[f"{one.id.driver}:{one.id.name}" for one in wave] for wave in waves]


def test_changes_of_one_transaction_stand_together_unless_a_gate_lies_between_them() -> None:
    assert order(MAIL, [ALIAS, BACKEND, FRONTEND, FORWARD]) == [[ALIAS, BACKEND, FRONTEND], [FORWARD]]


def test_without_transactions_every_level_is_a_wave() -> None:
    assert order(MAIL, [ALIAS, BACKEND, FRONTEND], transactional=()) == [[ALIAS], [BACKEND], [FRONTEND]]


def test_another_system_in_between_ends_the_transaction() -> None:
    assert order(MAIL, [ALIAS, NODE, BACKEND, FRONTEND, FORWARD, MONITOR]) == [
        [ALIAS, NODE],
        [BACKEND, FRONTEND],
        [FORWARD],
        [MONITOR],
    ]


def test_a_gate_inside_the_same_system_ends_it_as_well() -> None:
    graph = graph_of({"fw:a": [], "fw:b": ["!fw:a"], "fw:c": ["fw:b"]})
    assert order(graph, ["fw:a", "fw:b", "fw:c"]) == [["fw:a"], ["fw:b", "fw:c"]]


def test_what_does_not_change_holds_nothing_up() -> None:
    assert order(MAIL, [ALIAS, BACKEND]) == [[ALIAS, BACKEND]]
    assert order(graph_of({NODE: [], BACKEND: ["!" + NODE], "fw:other": []}), [BACKEND, "fw:other"]) == [["fw:other", BACKEND]]


def test_a_repair_does_not_wait_for_the_gates_of_others() -> None:
    """A transaction is as early as it can be, not as late: what can be mended now is not kept for a pod that is not ready."""
    assert order(MAIL, [NODE, ALIAS, BACKEND])[0] == [ALIAS, NODE]


def test_deletes_of_one_transaction_are_one_wave_and_join_its_last_when_nothing_else_changes() -> None:
    remembered = {"fw:old_frontend": ["fw:old_backend"], "fw:old_backend": ["fw:old_alias"]}
    gone = ["fw:old_alias", "fw:old_backend", "fw:old_frontend"]
    assert order(MAIL, [], gone, remembered) == [sorted(gone)]
    assert order(MAIL, [FORWARD], gone, remembered) == [[FORWARD, *sorted(gone)]]
    assert order(MAIL, [FORWARD, MONITOR], gone, remembered) == [[FORWARD], [MONITOR], sorted(gone)]
    assert order(MAIL, [FORWARD], gone, remembered, transactional=())[1:] == [["fw:old_frontend"], ["fw:old_backend"], ["fw:old_alias"]]


def test_deletes_of_another_system_in_between_keep_their_place() -> None:
    remembered = {"kuma:old": ["fw:old_forward"], "fw:old_forward": []}
    assert order(MAIL, [FORWARD], ["fw:old_forward", "kuma:old"], remembered) == [[FORWARD], ["kuma:old"], ["fw:old_forward"]]


# -- laws --------------------------------------------------------------------------------------------------------------------------

SYSTEMS = ("fw", "k8s", "dns")
NAMES = [f"{system}:{letter}" for letter in "abcd" for system in SYSTEMS]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    """Edges go from a later name to an earlier one, so that there is no circle; each orders or gates."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    edges = {}
    for number, name in enumerate(names):
        before = draw(st.lists(st.sampled_from(names[:number]), unique=True, max_size=3)) if number else []
        edges[name] = [draw(st.sampled_from(["", "!"])) + one for one in before]
    return edges


def ways(edges: Mapping[str, Sequence[str]], late: str, early: str, trail: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every way from ``late`` back to ``early``, as the marked names on it."""
    found = []
    for one in edges[late]:
        name = one.removeprefix("!")
        found += [(*trail, one)] if name == early else ways(edges, name, early, (*trail, one))
    return found


@given(graphs(), st.sets(st.sampled_from(NAMES)), st.sampled_from([(), ("fw",), ("fw", "k8s")]))
def test_nothing_comes_before_what_it_depends_on_and_beside_it_only_inside_one_transaction(
    edges: dict[str, list[str]], changed: set[str], transactional: tuple[str, ...]
) -> None:
    here = [name for name in edges if name in changed]
    waves = order(graph_of(edges), here, transactional=transactional)
    assert sorted(name for wave in waves for name in wave) == sorted(here)
    number = {name: number for number, wave in enumerate(waves) for name in wave}
    place = {name: wave.index(name) for wave in waves for name in wave}
    for late, early in product(here, here):
        for way in ways(edges, late, early):
            system = early.partition(":")[0]
            together = system in transactional and all(one.startswith(system + ":") for one in (late, *way))
            assert number[early] <= number[late]
            assert number[early] < number[late] or (together and place[early] < place[late]), (late, way, waves)


@given(graphs(), st.sets(st.sampled_from(NAMES)))
def test_a_system_that_writes_as_one_is_written_at_most_as_often_as_it_has_levels(edges: dict[str, list[str]], changed: set[str]) -> None:
    here = [name for name in edges if name in changed]

    def count(waves: list[list[str]]) -> int:
        return sum(any(name.startswith("fw:") for name in wave) for wave in waves)

    assert count(order(graph_of(edges), here)) <= count(order(graph_of(edges), here, transactional=()))


# -- a pass ------------------------------------------------------------------------------------------------------------------------


class Ledger(MemoryDriver):
    """Counts its transactions."""

    together: list[list[str]]

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        self.together.append([f"{one.action} {one.id.name}" for one in changes])
        return super().apply(changes, scope)


def ledger_bench() -> tuple[Bench, list[list[str]]]:
    Ledger.together = []
    plugin = replace(memory.PLUGIN, driver="tests.unit.core.test_waves:Ledger", transactional=True)
    return Bench(pool=memory.System(), catalog=Catalog((plugin, memory.OTHER))), Ledger.together


def test_a_pass_hands_a_transactional_driver_everything_at_once() -> None:
    bench, together = ledger_bench()
    report = bench.run(thing("a") + thing("b", needs=["a"]) + thing("c", needs=["b"]))
    assert {one.status for one in report.outcomes} == {Status.APPLIED}
    assert together == [["create a", "create b", "create c"]]
    bench.run(thing("a", size=2) + thing("d"))
    assert sorted(together[1]) == ["create d", "delete b", "delete c", "update a"]
    assert len(together) == 2


def test_what_is_blocked_inside_a_transaction_blocks_its_dependents_there() -> None:
    bench, together = ledger_bench()
    bench.system.health["Thing/gate"] = [degraded("down")]
    wishes = {
        "all.yaml": thing("gate")
        + thing("a", annotations={"depends-on": ["mem/Thing/gate"]})
        + thing("b", needs=["a"])
        + thing("c", needs=["b"])
        + thing("free"),
        "stack.yaml": memory.stack_file(health_deadline=1),
    }
    report = bench.run(wishes)
    assert together == [["create free", "create gate"]]
    reasons: dict[str, Any] = {one.id.name: one.message for one in report.outcomes if one.status is Status.BLOCKED}
    assert reasons["a"] == "waits for mem/Thing/gate: degraded: down"
    assert reasons["b"].startswith("waits for mem/Thing/a")
    assert reasons["c"].startswith("waits for mem/Thing/b")

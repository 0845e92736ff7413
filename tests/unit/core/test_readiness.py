"""Every change as soon as it may be made: order is kept, nothing is dropped, and what is slow delays nobody but its own dependents."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.driver import Action, Change, Health
from reconciler.gates import Gates, Look
from reconciler.graph import Graph
from reconciler.readiness import TOGETHER, Agenda
from reconciler.report import Verdict
from reconciler.resource import ResourceId
from reconciler.waves import in_waves
from tests.unit.core import memory
from tests.unit.core.memory import Bench, System, degraded, progressing, stack_file, thing
from tests.unit.core.test_waves import NAMES, change, graph_of, graphs, id_of, ledger_bench, ways

SLOW, QUICK = "mem/Thing/slow", "mem/Thing/quick"


def after(gate: str) -> dict[str, str]:
    return {"depends-on": gate}


def statuses(report: object) -> dict[str, str]:
    return {one.id.name: one.status.value for one in report.outcomes}  # type: ignore[attr-defined]


# -- one pass ----------------------------------------------------------------------------------------------------------------------


def test_a_slow_gate_delays_only_what_is_behind_it() -> None:
    bench = Bench()
    bench.system.health["Thing/slow"] = [progressing()] * 30 + [Health()]
    made: dict[str, float] = {}
    bench.system.before_write = lambda name: made.setdefault(name, bench.time.seconds) and None
    text = (
        thing("slow")
        + thing("quick")
        + thing("b", annotations=after(SLOW))
        + thing("c", annotations=after(QUICK))
        + thing("d", needs=["c"])
    )
    report = bench.run(text)
    assert report.verdict is Verdict.CONVERGED
    assert made["Thing/c"] == made["Thing/d"] == 0.0, "though they stand in the wave of the slow one, and behind it"
    assert made["Thing/b"] > 30
    assert bench.system.written()[-1] == "create Thing/b"


def test_a_gate_that_stays_closed_blocks_what_is_behind_it_and_the_rest_is_made_at_once() -> None:
    bench = Bench()
    bench.system.health["Thing/slow"] = [degraded("down")]
    made: dict[str, float] = {}
    bench.system.before_write = lambda name: made.setdefault(name, bench.time.seconds) and None
    text = (
        thing("slow") + thing("b", annotations=after(SLOW)) + thing("e", needs=["b"]) + thing("c", needs=["slow"]) + thing("d", needs=["c"])
    )
    report = bench.run({"stack.yaml": stack_file(health_deadline=60), "all.yaml": text})
    assert statuses(report) == {"slow": "applied", "b": "blocked", "e": "blocked", "c": "applied", "d": "applied"}
    assert set(made.values()) == {0.0}


def test_deletes_wait_for_everything_that_is_made_however_slow_its_gate() -> None:
    bench = Bench()
    assert bench.run(thing("old") + thing("slow")).verdict is Verdict.CONVERGED
    bench.system.health["Thing/slow"] = [progressing()] * 10 + [Health()]
    bench.system.calls.clear()
    assert bench.run(thing("slow", size=2) + thing("b", annotations=after(SLOW))).verdict is Verdict.CONVERGED
    assert bench.system.written() == ["update Thing/slow", "create Thing/b", "delete Thing/old"]


@contextmanager
def hanging(bench: Bench, name: str) -> Iterator[threading.Event]:
    """Hold the write of one thing; gives what lets it go."""
    go = threading.Event()
    bench.system.before_write = lambda one: go.wait(20) and None if one == name else None
    try:
        yield go
    finally:
        go.set()


def test_a_write_that_takes_long_delays_its_dependents_and_not_the_next_wave_of_another_target() -> None:
    bench = Bench(pool=System())
    assert bench.pool is not None
    with hanging(bench, "Thing/a") as go:
        bench.pool.before_write = lambda name: go.set() if name == "Thing/last" else None
        text = (
            thing("a")
            + thing("b", needs=["a"])
            + thing("first", group="pool/v1")
            + thing("next", group="pool/v1", annotations=after("pool/Thing/first"))
            + thing("last", group="pool/v1", annotations=after("pool/Thing/next"))
        )
        report = bench.run(text)
    assert report.verdict is Verdict.CONVERGED, "the slow write ended only when the last wave of the other target was there"
    assert bench.system.written() == ["create Thing/a", "create Thing/b"]


def test_a_target_is_asked_one_thing_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, inside, most = Bench(pool=System()), Counter[int](), Counter[int]()

    def counted(verb: str) -> None:
        original = getattr(memory.MemoryDriver, verb)

        def wrapped(self: memory.MemoryDriver, *arguments: Any) -> Any:
            one = id(self)
            inside[one] += 1
            most[one] = max(most[one], inside[one])
            try:
                return original(self, *arguments)
            finally:
                inside[one] -= 1

        monkeypatch.setattr(memory.MemoryDriver, verb, wrapped)

    counted("observe")
    counted("apply")
    bench.system.health["Thing/slow"] = [progressing()] * 5 + [Health()]
    text = "".join(thing(f"t{number}", annotations=after(SLOW if number % 2 else QUICK)) for number in range(6))
    text += "".join(thing(f"p{number}", group="pool/v1", annotations=after(SLOW if number % 2 else QUICK)) for number in range(6))
    assert bench.run(thing("slow") + thing("quick") + text).verdict is Verdict.CONVERGED
    assert set(most.values()) == {1}


def test_a_transaction_waits_a_while_for_its_rest_and_then_goes_without_it() -> None:
    for patience, expected in ((3, [["b", "c"]]), (12, [["c"], ["b"]])):
        bench, together = ledger_bench()
        assert bench.pool is not None
        bench.pool.health["Thing/slow"] = [progressing()] * patience + [Health()]
        text = (
            thing("slow", group="pool/v1")
            + thing("quick", group="pool/v1")
            + thing("b", annotations=after("pool/Thing/slow"))
            + thing("c", annotations=after("pool/Thing/quick"))
        )
        assert bench.run(text).verdict is Verdict.CONVERGED
        assert [[one.removeprefix("create ") for one in part] for part in together] == expected


class Crash(BaseException):
    """The process ends here."""


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 14), st.integers(0, 8), st.booleans())
def test_a_crash_or_a_stop_at_any_write_converges_later_without_a_duplicate(point: int, slow: int, stop: bool) -> None:
    bench = Bench(pool=System())
    assert bench.pool is not None
    gate = lambda name: {"depends-on": name}  # noqa: E731
    text = (
        thing("slow")
        + thing("quick", group="pool/v1")
        + thing("a", annotations=gate(SLOW))
        + thing("b", group="pool/v1", annotations=gate("pool/Thing/quick"))
        + thing("c", group="pool/v1", annotations=gate("mem/Thing/a"))
        + thing("d", needs=["slow"], zone="2")
        + thing("e", annotations=gate("pool/Thing/b"))
    )
    assert bench.run(thing("d", zone="1") + thing("gone") + thing("gone", group="pool/v1")).verdict is Verdict.CONVERGED
    bench.system.health["Thing/slow"] = [progressing()] * slow + [Health()]
    left, lock = [point], threading.Lock()

    def write(name: str) -> None:
        with lock:
            left[0] -= 1
            if left[0] < 0 and not stop:
                raise Crash
            if left[0] == 0 and stop:
                bench.stop.set()

    bench.system.before_write = bench.pool.before_write = write
    with suppress(Crash):
        bench.run(text)
    bench.stop.clear()
    bench.system.before_write = bench.pool.before_write = lambda name: None
    assert bench.run(text).verdict is Verdict.CONVERGED
    assert sorted(bench.system.objects) == ["Thing/a", "Thing/d", "Thing/e", "Thing/slow"]
    assert sorted(bench.pool.objects) == ["Thing/b", "Thing/c", "Thing/quick"]
    for system in (bench.system, bench.pool):
        made = [one for one in system.written() if one.startswith("create")]
        assert len([one for one in made if one != "create Thing/d"]) == len({one for one in made if one != "create Thing/d"})


# -- the laws ----------------------------------------------------------------------------------------------------------------------


class Simulation:
    """A pass without threads: what lands next, and what a look shows, is drawn."""

    def __init__(self, graph: Graph, waves: Sequence[Sequence[Change]], transactional: Sequence[str], draw: Callable[[int], int]) -> None:
        self.graph, self.draw, self.now, self.deadline = graph, draw, 0.0, 60.0
        self.agenda = Agenda.of(graph, waves, transactional)
        self.gates = Gates(graph, {}, 1.0)
        self.log: list[tuple[str, tuple[ResourceId, ...]]] = []
        self.blocked: set[ResourceId] = set()
        self.sick: set[ResourceId] = set()

    def run(self) -> None:
        self.gates.health = {one.id: Health() for one in self.graph}
        air: list[tuple[Change, ...]] = []
        for _ in range(2000):
            self.block()
            for _, batch in self.agenda.ready(self.gates.closed, self.now):
                self.log.append(("start", tuple(one.id for one in batch)))
                air.append(batch)
            wanted = {id for one in self.agenda.reached(self.gates.closed) for id in self.gates.before(one)}
            if air and (not wanted or self.draw(2)):
                landed = air.pop(self.draw(len(air)))
                self.log.append(("end", tuple(one.id for one in landed)))
                self.agenda.settled([one.id for one in landed])
                self.gates.moved([one.id for one in landed])
            elif wanted:
                self.now += 1
                shown = {id: degraded() if id in self.sick or self.draw(2) else Health() for id in sorted(wanted)}
                self.gates.looked("all", Look(frozenset(wanted), shown), self.now, self.deadline)
            elif (held := self.agenda.held_back(self.now)) is not None:
                self.now += held
            else:
                return
        raise AssertionError("it does not end")

    def block(self) -> None:
        while fallen := [
            one.id
            for one in self.agenda.reached(self.gates.closed)
            if one.action is not Action.DELETE
            and (self.blocked & self.graph.before[one.id] or self.gates.never(one, over=self.now >= self.deadline))
        ]:
            self.blocked |= {*fallen}
            self.agenda.settled(fallen)


@settings(max_examples=300, deadline=None)
@given(st.data(), graphs(), st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)), st.sampled_from([(), ("fw",), ("fw", "k8s")]))
def test_whatever_is_slow_the_order_is_kept_and_nothing_is_dropped_or_made_twice(
    data: st.DataObject, edges: Mapping[str, Sequence[str]], changed: set[str], sick: set[str], transactional: tuple[str, ...]
) -> None:
    here = [name for name in edges if name in changed]
    gone = data.draw(st.lists(st.sampled_from(["fw:x", "fw:y", "k8s:x", "dns:x"]), unique=True))
    graph, ids = graph_of(edges), {name: id_of(name) for name in (*edges, *gone)}
    targets = {id: id.driver for id in ids.values()}
    deletes = {ids[name]: change(name, Action.DELETE) for name in gone}
    made = {ids[name]: replace(change(name), desired=graph.resources[ids[name]]) for name in here}
    remembered = {ids[later]: [ids[earlier]] for earlier, later in pairwise(gone)}
    waves = in_waves(graph, made, deletes, remembered, targets, transactional)
    simulation = Simulation(graph, waves, transactional, lambda most: data.draw(st.integers(0, most - 1)))
    simulation.sick = {ids[name] for name in sick if name in edges}
    simulation.run()
    started = [id for what, batch in simulation.log for id in batch if what == "start"]
    assert len(started) == len({*started}), "nothing is made twice"
    assert {*started} | simulation.blocked == {*made, *deletes}, "nothing is dropped"
    assert not {*started} & simulation.blocked
    assert not simulation.blocked or sick
    begin = {id: at for at, (what, batch) in enumerate(simulation.log) for id in batch if what == "start"}
    end = {id: at for at, (what, batch) in enumerate(simulation.log) for id in batch if what == "end"}
    for late in here:
        for early in here:
            for way in ways(edges, late, early):
                one, other = ids[early], ids[late]
                if one in begin and other in begin and begin[one] == begin[other]:
                    assert one.driver in transactional
                    assert all(id_of(name.removeprefix("!")).driver == one.driver for name in way)
                elif other in begin:
                    assert one in simulation.blocked or end[one] < begin[other], (late, early, simulation.log)
    for id in deletes:
        for other in (one for one in made if one in begin):
            together = begin[id] == begin[other] and id.driver in transactional
            assert together or end[other] < begin[id], "deletes come last"
    for earlier, later in pairwise(gone):
        together = begin[ids[earlier]] == begin[ids[later]] and ids[later].driver in transactional
        assert together or end[ids[later]] < begin[ids[earlier]], "and what came last goes first"


def test_a_transaction_that_also_deletes_is_never_divided() -> None:
    graph = graph_of({"fw:a": ["!k8s:gate"], "fw:b": [], "k8s:gate": []})
    changes = {id_of(name): replace(change(name), desired=graph.resources[id_of(name)]) for name in ("fw:a", "fw:b")}
    gone = {id_of("fw:old"): change("fw:old", Action.DELETE)}
    waves = in_waves(graph, changes, gone, {}, {id: id.driver for id in (*graph.resources, *gone)}, ("fw",))
    agenda, gates = Agenda.of(graph, waves, ("fw",)), Gates(graph, {id_of("k8s:gate"): degraded()}, 1.0)
    assert agenda.ready(gates.closed, 0.0) == []
    assert agenda.ready(gates.closed, TOGETHER * 100) == []
    assert agenda.held_back(TOGETHER * 100) is None
    gates.looked("k8s", Look(frozenset(), {id_of("k8s:gate"): Health()}), 1.0, 60.0)
    ((_, batch),) = agenda.ready(gates.closed, TOGETHER * 100)
    assert {one.id.name for one in batch} == {"a", "b", "old"}


def test_a_gate_that_was_healthy_before_a_write_must_be_seen_again_after_it() -> None:
    graph = graph_of({"k8s:pod": [], "k8s:gate": ["k8s:pod"], "fw:a": ["!k8s:gate"]})
    wish = replace(change("fw:a"), desired=graph.resources[id_of("fw:a")])
    gates = Gates(graph, {id_of("k8s:gate"): Health()}, 1.0)
    assert not gates.closed(wish)
    gates.moved([id_of("k8s:pod")])
    assert gates.closed(wish)
    gates.looked("k8s", Look(frozenset({id_of("k8s:gate")}), {}), 1.0, 60.0)
    assert gates.closed(wish), "what a look did not show is not taken for well"
    assert gates.never(wish, over=False) == ""
    assert gates.never(wish, over=True) == "waits for k8s/Thing/gate: unknown: cannot be seen"
    gates.looked("k8s", Look(frozenset({id_of("k8s:gate")}), {id_of("k8s:gate"): Health()}), 2.0, 60.0)
    assert not gates.closed(wish)


def test_looks_at_a_gate_come_ever_slower_and_at_once_after_a_write() -> None:
    graph = graph_of({"k8s:gate": [], "fw:a": ["!k8s:gate"]})
    gates, times = Gates(graph, {}, 1.0), []
    now = 0.0
    for _ in range(8):
        assert gates.due("k8s", now)
        gates.looked("k8s", Look(frozenset(), {id_of("k8s:gate"): degraded()}), now, 1000.0)
        times.append(gates.next_look("k8s") - now)
        now = gates.next_look("k8s")
    assert times == pytest.approx([0.25, 0.5, 1, 1.5, 2.25, 3.375, 5.0625, 7.59375])
    assert not gates.due("k8s", now - 1)
    gates.moved([id_of("k8s:gate")])
    assert gates.due("k8s", now - 1)
    gates.looked("k8s", Look(frozenset(), {id_of("k8s:gate"): degraded()}), now, 1000.0)
    assert gates.next_look("k8s") - now == pytest.approx(0.25), "what was just written is looked at as eagerly as at first"

"""A target that does not come back delays itself and what depends on it, and nothing else."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from reconciler.engine import Engine
from reconciler.errors import Transient
from reconciler.lanes import Call, Lanes, Overdue
from tests.unit.core.memory import Bench, Object, System, stack_of, thing


@dataclass(slots=True)
class Stuck(System):
    """A system whose listing hangs while ``shut`` is not set."""

    shut: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def list(self) -> tuple[dict[str, Object], bool]:
        self.asked += 1
        self.shut.wait(20)
        return System.list(self)


class Patient(Bench):
    """An installation that waits for a tenth of a second, with one engine for all its passes."""

    made: Engine | None = None

    def engine(self) -> Engine:
        if self.made is None:
            engine = super().engine()
            self.made = replace(engine, observer=replace(engine.observer, lanes=Lanes(0.1)))
        return self.made


BOTH = thing("a", text="git") + thing("b", text="git", group="pool/v1") + thing("c", annotations={"depends-on": "pool/Thing/b"})


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    made.shut.set()


def status(report: Any) -> dict[str, str]:
    return {one.id.name: one.status.value for one in report.outcomes}


def test_a_target_that_hangs_is_given_up_and_the_others_go_on(stuck: Stuck) -> None:
    bench = Patient(pool=stuck)
    report = bench.run(BOTH)
    assert report.verdict == "failed"
    assert status(report)["a"] == "applied"
    reasons = {one.id.name: one.reason for one in report.plan.stuck}
    assert "pool: did not come back within 0.1 s (engine.deadline); it is left alone until it does" in reasons["b"]
    assert "c" in reasons
    assert stuck.writes == 0


def test_a_target_that_hangs_is_not_asked_again_until_it_has_come_back(stuck: Stuck) -> None:
    bench = Patient(pool=stuck)
    for _ in range(3):
        report = bench.run(BOTH)
    assert stuck.asked == 1, "or every pass would leave another thread behind"
    assert any("has not come back for" in one.reason for one in report.remaining.stuck)
    stuck.shut.set()
    lanes = bench.engine().observer.lanes
    assert lanes._stuck["pool"].over.wait(5)
    assert bench.run(BOTH).verdict == "converged"
    assert set(stuck.objects) == {"Thing/b"}


def test_a_write_that_hangs_is_reported_and_nothing_is_written_after_it_when_it_comes_back() -> None:
    bench, go, begun = Patient(), threading.Event(), threading.Event()

    def hang(name: str) -> None:
        if name == "Thing/b":
            begun.set()
            go.wait(20)

    bench.system.before_write = hang
    report = bench.run(thing("a") + thing("b") + thing("c"))
    assert begun.is_set()
    assert report.verdict == "failed"
    assert set(status(report).values()) == {"failed"}, "what became of them is not known"
    assert "did not come back within 0.1 s" in report.outcomes[0].message
    call = bench.engine().observer.lanes._stuck["mem"]
    go.set()
    assert call.over.wait(5)
    assert sorted(bench.system.objects) == ["Thing/a", "Thing/b"], "the write under way ends; the rest is not made"
    assert bench.run(thing("a") + thing("b") + thing("c")).verdict == "converged"


def test_nothing_more_is_written_in_the_middle_of_a_wave_once_the_program_stops() -> None:
    bench = Bench()
    bench.system.before_write = lambda name: bench.stop.set() if name == "Thing/b" else None
    report = bench.run(thing("a") + thing("b") + thing("c"))
    assert report.verdict == "interrupted"
    assert sorted(bench.system.objects) == ["Thing/a", "Thing/b"]
    assert status(report)["c"] == "blocked"


def test_what_a_call_raises_or_gives_comes_out_as_it_is() -> None:
    lanes = Lanes(5)
    assert lanes.run("x", lambda call: 7) == 7
    with pytest.raises(Transient, match="later"):
        lanes.run("x", _fail)
    assert lanes.run("x", lambda call: call.left.is_set()) is False


def _fail(call: Call) -> None:
    raise Transient("later")


def test_the_lane_of_another_target_is_free() -> None:
    lanes, go = Lanes(0.05), threading.Event()
    with pytest.raises(Overdue):
        lanes.run("slow", lambda call: go.wait(20))
    assert lanes.run("quick", lambda call: True)
    with pytest.raises(Overdue, match="slow: a call has not come back"):
        lanes.run("slow", lambda call: True)
    go.set()


def test_the_plan_alone_gives_a_hanging_target_up_too(stuck: Stuck) -> None:
    bench = Patient(pool=stuck)
    plan, _ = bench.engine().plan(stack_of(BOTH, bench.catalog))
    assert any("did not come back" in one.reason for one in plan.stuck)

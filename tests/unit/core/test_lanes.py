"""A target that does not come back delays itself and what depends on it, and nothing else."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from reconciler.driver import no_span
from reconciler.engine import Engine
from reconciler.errors import Transient
from reconciler.lanes import LEAST, UNKNOWN, Call, Lanes, Overdue, Tempers
from tests.unit.core import memory
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


# -- long is not stuck -------------------------------------------------------------------------------------------------------------


@contextmanager
def held(lanes: Lanes, target: str, work: Callable[[Call], Any]) -> Iterator[list[Any]]:
    """Have a call under way in a thread; gives what becomes of it."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(lanes.run(target, work))
        except Overdue as error:
            found.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    yield found
    thread.join(10)


def busy(seconds: float, go: threading.Event) -> Callable[[Call], str]:
    """A look of many quick calls."""

    def work(call: Call) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with call.heard(no_span)("GET"):
                go.wait(0.01)
        return "seen"

    return work


def test_a_look_of_many_calls_may_take_longer_than_a_target_may_be_silent() -> None:
    assert Lanes(30, 0.2).run("big", busy(0.6, threading.Event())) == "seen"


def test_a_call_that_fails_again_and_again_is_no_sign_of_life() -> None:
    lanes, go = Lanes(30, 0.2), threading.Event()

    def work(call: Call) -> None:
        while not go.wait(0.01):
            with suppress(Transient), call.heard(no_span)("GET"):
                raise Transient("no answer")

    with pytest.raises(Overdue, match=r"big: did not answer for 0.2 s \(engine.patience\); it is left alone until it does"):
        lanes.run("big", work)
    go.set()


def test_a_wait_that_the_server_asked_for_is_no_silence() -> None:
    lanes = Lanes(30, 0.2)
    assert lanes.run("x", lambda call: (call.alive(5), call.left.wait(0.5))[1]) is False, "it was not given up"


def test_a_target_that_was_silent_is_given_little_time_at_the_next_try_and_all_of_it_once_it_answered() -> None:
    tempers = Tempers()
    assert tempers.patience("x", 120) == UNKNOWN, "nothing is known of it"
    tempers.came_back("x", Call(longest=0.3), well=True)
    assert tempers.patience("x", 120) == LEAST, "it is quick"
    assert tempers.patience("x", 120, writes=True) == 120, "a write may be something else"
    tempers.came_back("x", Call(longest=5), well=True)
    assert tempers.patience("x", 120) == 50
    tempers.came_back("x", Call(longest=90), well=True)
    assert tempers.patience("x", 120) == 120, "it has always been slow"
    tempers.silent("x")
    assert tempers.patience("x", 120) == 12
    assert tempers.patience("y", 120) == UNKNOWN, "another one"
    tempers.came_back("x", Call(), well=False)
    assert tempers.patience("x", 120) == 12
    tempers.came_back("x", Call(), well=True)
    assert tempers.patience("x", 120) == 120


def test_who_waits_for_another_target_is_not_silent_and_outlives_it() -> None:
    """A driver that reads a secret while it writes: the store hangs, and the write says so itself."""
    lanes, go = Lanes(30, 0.3), threading.Event()

    def write(call: Call) -> str:
        try:
            lanes.run("vault", lambda _: go.wait(20))
        except Overdue as error:
            return f"failed: {error}"
        return "written"

    assert "failed: vault: did not answer for 0.3 s" in lanes.run("k8s", write)
    assert lanes.run("k8s", lambda call: "free") == "free"
    go.set()


def test_a_call_inside_another_ends_early_enough_for_that_one_to_go_on() -> None:
    lanes, go = Lanes(0.6), threading.Event()

    def write(call: Call) -> str:
        with pytest.raises(Overdue, match="vault: did not come back"):
            lanes.run("vault", lambda _: go.wait(20))
        return "written without it"

    assert lanes.run("k8s", write) == "written without it"
    go.set()


def test_a_program_that_is_to_end_waits_for_a_silent_look_a_moment_and_for_a_write_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.lanes.STOPPING", 0.1)
    stop, go = threading.Event(), threading.Event()
    lanes = Lanes(30, 30, stop=stop)
    with held(lanes, "x", lambda call: go.wait(20)) as found:
        stop.set()
    assert found == ["x: did not answer for 0.1 s (engine.patience); it is left alone until it does"]
    assert lanes.run("y", lambda call: go.wait(0.5), writes=True) is False, "it was waited for"
    go.set()


def test_a_secret_store_that_hangs_stops_its_consumers_only(stuck: Stuck) -> None:
    bench = Patient(pool=System())
    bench.system = stuck
    text = thing("free", group="pool/v1") + thing("user", group="pool/v1", text="${vault('app', 'password')}")
    stuck.shut.set()
    stuck.keep_secret("app", password="x")
    go = threading.Event()

    class Versions(dict[str, int]):
        def __getitem__(self, path: str) -> int:
            go.wait(20)
            return super().__getitem__(path)

    stuck.versions = Versions(stuck.versions)
    report = bench.run(text)
    assert status(report) == {"free": "applied"}
    (reason,) = [one.reason for one in report.plan.stuck if one.id.name == "user"]
    assert reason.startswith("the secret store cannot be seen: mem: did not come back")
    assert any(one.reason.startswith("the secret store cannot be seen: mem: a call has not") for one in report.remaining.stuck)
    go.set()
    assert bench.engine().observer.lanes._stuck["mem"].over.wait(5)
    assert bench.run(text).verdict == "converged"


def test_a_secret_whose_value_does_not_come_fails_its_consumer_and_nothing_else_of_the_wave(stuck: Stuck) -> None:
    bench = Bench(pool=System())
    engine = bench.engine()
    lanes, go = Lanes(2, 0.5), threading.Event()
    engine = replace(engine, observer=replace(engine.observer, lanes=lanes))
    bench.system.keep_secret("app", password="x")
    bench.key = b"short"
    original = System.read
    text = thing("a", group="pool/v1") + thing("user", group="pool/v1", text="${vault('app', 'password')}") + thing("z", group="pool/v1")

    def read(self: System, path: str) -> dict[str, str]:
        go.wait(20)
        return original(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(System, "read", read)
        report = engine.converge(stack_of(text, bench.catalog), "r", reason="test")
        go.set()
    assert status(report) == {"a": "applied", "user": "failed", "z": "applied"}
    assert next(one.message for one in report.outcomes if one.id.name == "user").startswith("mem: ")


def test_a_target_that_cannot_be_opened_or_closed_in_time_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    go, opening = threading.Event(), memory.PoolDriver.__init__
    bench = Patient(pool=System())

    def slow(self: memory.PoolDriver, config: memory.Config) -> None:
        go.wait(20)
        opening(self, config)

    monkeypatch.setattr(memory.PoolDriver, "__init__", slow)
    assert status(bench.run(BOTH)) == {"a": "applied"}
    go.set()
    assert bench.engine().observer.lanes._stuck["pool"].over.wait(5)
    assert bench.run(BOTH).verdict == "converged"
    monkeypatch.setattr("reconciler.targets.CLOSING", 0.1)
    late = threading.Event()
    monkeypatch.setattr(memory.PoolDriver, "close", lambda self: late.wait(20))
    bench.engine().observer.targets.close()
    late.set()

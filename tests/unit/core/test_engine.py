"""Whole passes over systems in memory: what is written, in what order, what waits, what stops, and what is said about it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.driver import Health, Level, Status
from reconciler.engine import Forgetful
from reconciler.errors import Permanent, PlanChanged, Transient, TurnLost
from reconciler.report import Verdict
from reconciler.settings import Engine as EngineSettings
from reconciler.state import Store
from tests.unit.core.memory import Bench, FakeTime, Object, System, degraded, mem, progressing, stack_file, stack_of, thing

CANARY = "c4n4ry-v4lue"


def named(things: Any) -> list[str]:
    return [str(one.id.name) for one in things]


def outcomes(report: Any) -> dict[str, tuple[str, str]]:
    return {one.id.name: (one.status.value, one.message) for one in report.outcomes}


# -- waves and failures -----------------------------------------------------------------------------------------------------------


def test_waves_are_written_in_order_and_deleted_backwards(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    bench = Bench(memory=store)
    report = bench.run(thing("c", needs=["b"]) + thing("a") + thing("b", needs=["a"]) + thing("keep"))
    assert report.verdict is Verdict.CONVERGED
    assert [one for one in bench.system.written() if "keep" not in one] == ["create Thing/a", "create Thing/b", "create Thing/c"]
    bench.system.calls.clear()
    assert bench.run(thing("keep")).verdict is Verdict.CONVERGED
    assert bench.system.written() == ["delete Thing/c", "delete Thing/b", "delete Thing/a"]
    store.close()


def test_planning_writes_nothing() -> None:
    bench = Bench()
    assert named(bench.plan(thing("a")).changes) == ["a"]
    assert bench.system.written() == []


def test_a_failure_blocks_its_dependents_and_nobody_else() -> None:
    bench = Bench()
    bench.system.before_write = lambda name: _refuse(name, "Thing/b")
    report = bench.run(thing("a") + thing("b") + thing("c", needs=["b"]) + thing("d", needs=["c"]) + thing("e", needs=["a"]))
    assert report.verdict is Verdict.FAILED
    found = outcomes(report)
    assert {name: status for name, (status, _) in found.items()} == {
        "a": "applied",
        "b": "failed",
        "c": "blocked",
        "d": "blocked",
        "e": "applied",
    }
    assert found["c"][1] == "waits for mem/Thing/b: Thing/b: forbidden"
    assert found["d"][1].startswith("waits for mem/Thing/c")


def _refuse(name: str, bad: str) -> None:
    if name == bad:
        raise Permanent(f"{name}: forbidden")


def test_what_fails_for_good_is_tried_once_while_others_make_progress() -> None:
    bench = Bench()
    tried: list[str] = []

    def watch(name: str) -> None:
        tried.append(name)
        _refuse(name, "Thing/b")

    bench.system.before_write = watch
    assert bench.run(thing("a") + thing("b")).verdict is Verdict.FAILED
    assert tried.count("Thing/b") <= 2, "once, and once more because another write may have made it possible"


def test_a_bug_in_a_driver_is_named_by_its_type_only() -> None:
    bench = Bench()
    bench.system.on_write = [RuntimeError(f"unexpected {CANARY}")]
    report = bench.run(thing("a"))
    assert outcomes(report) == {"a": ("failed", "bug: RuntimeError in the driver")}
    bench.system.on_read = [RuntimeError(CANARY)]
    report = bench.run(thing("a"))
    assert report.verdict is Verdict.FAILED
    assert [one.reason for one in report.plan.stuck] == ["mem cannot be seen: bug: RuntimeError in the driver while observing"]


def test_a_driver_that_gives_no_outcome_fails_that_change_and_not_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.core import memory

    monkeypatch.setattr(memory.MemoryDriver, "apply", lambda self, changes, scope: [])
    report = Bench().run(thing("a"))
    assert outcomes(report) == {"a": ("failed", "bug: the driver gave no outcome for this change")}


def test_a_whole_apply_that_raises_fails_its_changes_and_not_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.core import memory

    def broken(self: Any, changes: Any, scope: Any) -> Any:
        raise ValueError(CANARY)

    monkeypatch.setattr(memory.MemoryDriver, "apply", broken)
    assert outcomes(Bench().run(thing("a"))) == {"a": ("failed", "bug: ValueError in the driver while writing")}


# -- trying again -----------------------------------------------------------------------------------------------------------------


def test_what_fails_for_a_moment_is_tried_again_after_the_servers_own_delay() -> None:
    bench = Bench()
    bench.system.on_write = [Transient("a: 429", retry_after=7), Transient("a: 503"), None]
    assert bench.run(thing("a")).verdict is Verdict.CONVERGED
    assert bench.time.waits[:2] == [7, 2]


def test_a_delay_longer_than_ours_is_cut_and_the_last_failure_is_told() -> None:
    bench = Bench()
    bench.system.on_write = [Transient("a: 429", retry_after=900)] * 9
    report = bench.run(thing("a"))
    assert report.verdict is Verdict.FAILED
    assert bench.time.waits[:2] == [30, 30]
    assert outcomes(report) == {"a": ("failed", "a: 429")}
    assert len(bench.system.on_write) == 6


def test_only_what_failed_is_tried_again() -> None:
    bench = Bench()
    bench.system.on_write = [None, Transient("b: 503")]
    assert bench.run(thing("a") + thing("b")).verdict is Verdict.CONVERGED
    assert bench.system.written() == ["create Thing/a", "create Thing/b"]


def test_a_look_that_fails_for_a_moment_is_repeated() -> None:
    bench = Bench()
    bench.system.on_read = [Transient("503"), Transient("503")]
    assert bench.run(thing("a")).verdict is Verdict.CONVERGED


def test_a_target_that_cannot_be_seen_refuses_its_resources_and_only_those() -> None:
    bench = Bench(pool=System())
    text = (
        thing("a")
        + thing("b", group="pool/v1")
        + thing("c", needs=["a"])
        + thing("d", group="pool/v1", annotations={"depends-on": "mem/Thing/a"})
    )
    bench.system.on_read = [Transient("mem: timed out")] * 20
    report = bench.run(text)
    assert report.verdict is Verdict.FAILED
    assert sorted(str(one.id) for one in report.outcomes) == ["pool/Thing/b"]
    reasons = {one.id.name: (one.status.value, one.unknown, one.reason) for one in report.plan.stuck}
    assert reasons["a"] == ("refused", True, "mem cannot be seen: mem: timed out")
    assert reasons["d"] == ("blocked", False, "waits for mem/Thing/a: mem cannot be seen: mem: timed out")
    assert bench.system.written() == []


def test_a_target_that_is_not_configured_refuses_its_resources_and_names_those_there_are() -> None:
    report = Bench().run(thing("a") + thing("b", group="pool/v1") + thing("c", annotations={"target": "elsewhere"}))
    reasons = {one.id.name: one.reason for one in report.plan.stuck}
    assert reasons["b"] == "pool cannot be seen: the settings have no target 'pool' (configured: mem); add it below targets"
    assert reasons["c"].startswith("elsewhere cannot be seen: the settings have no target 'elsewhere'")
    assert named(report.outcomes) == ["a"]


def test_a_resource_that_moves_to_another_target_is_made_there_and_the_old_one_is_named() -> None:
    from tests.unit.core.memory import CATALOG

    bench = Bench()
    bench.run(thing("a"))
    second = System()
    engine = bench.engine()
    engine.observer.targets._configs = {"mem": {"system": bench.system}, "two": {"system": second, "driver": "mem"}}
    from tests.unit.core.memory import stack_of

    stack = stack_of(thing("a", annotations={"target": "two"}), CATALOG)
    report = engine.converge(stack, "r2", reason="test")
    assert list(second.objects) == ["Thing/a"]
    assert report.remaining.notes == ("mem/Thing/a: an object of ours is still in target mem; delete it there, or move the resource back",)


# -- gates --------------------------------------------------------------------------------------------------------------------------


def test_what_needs_another_waits_until_that_is_healthy() -> None:
    bench = Bench()
    bench.system.health["Thing/a"] = [progressing()] * 3 + [Health()]
    report = bench.run(thing("a") + thing("b", annotations={"depends-on": "mem/Thing/a"}))
    assert report.verdict is Verdict.CONVERGED
    assert bench.system.written() == ["create Thing/a", "create Thing/b"]
    assert [event.stage for event in bench.heard].count("wait") == 4


def test_a_gate_is_looked_at_soon_and_then_less_and_less_often() -> None:
    bench = Bench(time=FakeTime(), settings=EngineSettings(attempts=1, poll=2))
    bench.system.health["Thing/a"] = [*[progressing()] * 7, Health()]
    assert bench.run(thing("a") + thing("b", annotations={"depends-on": "mem/Thing/a"})).verdict is Verdict.CONVERGED
    assert bench.time.waits == [0.5, 1, 2, 3, 4.5, 6.75, 10]


@dataclass(slots=True)
class Meeting(System):
    """A system whose listings, once there is somebody to meet, come back together with another's or not at all."""

    other: Barrier | None = None

    def list(self) -> tuple[dict[str, Object], bool]:
        if self.other is not None:
            self.other.wait(5)
        return System.list(self)


def test_gates_in_several_systems_are_looked_at_side_by_side() -> None:
    bench = Bench(system=Meeting(), pool=Meeting())
    systems = (bench.system, bench.pool)

    def meet(event: Any) -> None:
        barrier = Barrier(2) if event.stage == "outcome" else None  # from the first wave to the look at what the second needs
        for one in systems:
            if event.stage in ("outcome", "wait"):
                one.other = barrier

    gated = thing("last", annotations={"depends-on": ["mem/Thing/a", "pool/Thing/b"]})
    engine = replace(bench.engine(), listen=meet)
    report = engine.converge(stack_of(thing("a") + thing("b", group="pool/v1") + gated, bench.catalog), "r1", reason="test")
    assert report.verdict is Verdict.CONVERGED
    assert outcomes(report)["last"][0] == "applied"


def test_a_gate_that_never_becomes_healthy_ends_at_the_deadline_with_a_reason() -> None:
    bench = Bench()
    bench.system.health["Thing/a"] = [progressing("0/1 ready")]
    files = {
        "stack.yaml": stack_file(health_deadline=60),
        "all.yaml": thing("a") + thing("b", annotations={"depends-on": "mem/Thing/a"}) + thing("c"),
    }
    report = bench.run(files)
    assert report.verdict is Verdict.PENDING
    assert outcomes(report)["b"] == ("blocked", "waits for mem/Thing/a: progressing: 0/1 ready")
    assert outcomes(report)["c"] == ("applied", "")
    assert report.health == {mem("a"): Health(Level.PROGRESSING, "0/1 ready")}
    assert 60 <= bench.time.seconds < 200


def test_the_end_of_a_pass_waits_for_health_and_calls_what_stays_sick_degraded() -> None:
    bench = Bench()
    bench.system.health["Thing/a"] = [degraded("crash loop")]
    report = bench.run({"stack.yaml": stack_file(health_deadline=30), "all.yaml": thing("a")})
    assert report.verdict is Verdict.DEGRADED
    assert 30 <= bench.time.seconds <= 31
    quiet = bench.run({"stack.yaml": stack_file(health_deadline=30), "all.yaml": thing("a")})
    assert (quiet.verdict, quiet.outcomes) == (Verdict.DEGRADED, ())


def test_the_report_names_for_each_sick_resource_what_it_stands_on_that_is_not_well_either() -> None:
    bench = Bench()
    files = {
        "stack.yaml": stack_file(health_deadline=1),
        "all.yaml": thing("sick") + thing("well", needs=["sick"]) + thing("bad") + thing("leaf", needs=["well", "bad"]) + thing("alone"),
    }
    assert bench.run(files).verdict is Verdict.CONVERGED
    bench.system.health = {f"Thing/{one}": [degraded("down")] for one in ("sick", "leaf", "alone")}
    bench.system.objects["Thing/bad"].content["text"] = "by hand"
    bench.system.before_write = lambda name: _refuse(name, "Thing/bad")
    report = bench.run(files)
    assert named_above(report) == {"leaf": ["bad", "sick"]}, "what is well or stands on nothing sick is not named"


def named_above(report: Any) -> dict[str, list[str]]:
    return {id.name: [one.name for one in above] for id, above in report.above.items()}


def test_a_field_that_stays_different_is_called_non_convergent_and_not_written_for_ever() -> None:
    bench = Bench()
    bench.system.stubborn["Thing/a"] = {"text": "as the server likes it"}
    report = bench.run(thing("a", text="x") + thing("b"))
    assert report.verdict is Verdict.FAILED
    status, message = outcomes(report)["a"]
    assert status == "failed"
    assert message.startswith("non-convergent: /text stays different after the write")
    assert bench.system.written().count("update Thing/a") <= 1


def test_a_stale_read_after_a_write_is_looked_at_again() -> None:
    bench = Bench()
    from tests.unit.core import memory

    looks: list[int] = []
    original = memory.System.list

    def stale(self: System) -> Any:
        found = original(self)
        looks.append(1)
        return ({}, True) if len(looks) == 2 else found

    memory.System.list = stale  # type: ignore[method-assign]
    try:
        assert bench.run(thing("a")).verdict is Verdict.CONVERGED
    finally:
        memory.System.list = original  # type: ignore[method-assign]
    assert bench.system.written() == ["create Thing/a"]


# -- secrets and rounds ---------------------------------------------------------------------------------------------------------------


def test_a_secret_that_is_generated_is_used_in_the_next_round_of_the_same_pass() -> None:
    bench = Bench()
    text = thing("user", text="${vault('app', 'password')}") + thing("made", kind="Secret", path="app")
    report = bench.run(text)
    assert report.verdict is Verdict.CONVERGED
    assert report.rounds == 2
    assert bench.system.written() == ["create Secret/made", "create Thing/user"]
    assert bench.system.objects["Thing/user"].content["text"] == "generated-password"
    assert bench.plan(text).in_sync


def test_a_secret_that_this_pass_itself_rotates_reaches_its_consumers_in_the_same_converge() -> None:
    bench = Bench()
    user = thing("user", text="${vault('app', 'password')}")
    assert bench.run(user + thing("made", kind="Secret", path="app")).verdict is Verdict.CONVERGED

    def rotate(name: str) -> None:
        if name == "Secret/made":
            bench.system.keep_secret("app", password="another")

    bench.system.before_write = rotate
    text = user + thing("made", kind="Secret", path="app", keys=["password", "more"]) + thing("late", text="${vault('app', 'password')}")
    report = bench.run(text)
    assert report.verdict is Verdict.CONVERGED
    assert {outcome.status for outcome in report.outcomes} == {Status.APPLIED}
    assert [bench.system.objects[f"Thing/{name}"].content["text"] for name in ("user", "late")] == ["another", "another"]
    assert bench.plan(text).in_sync


GENERATED = thing("user", text="${vault('app', 'password')}") + thing("made", kind="Secret", path="app")
"""A secret that the first round makes, and who reads it, which only the second can write."""


def looks_by_round(bench: Bench, text: str, heard: Any = lambda event, number: None) -> list[list[str]]:
    """Run a pass; give for each round the targets that were looked at between its beginning and its plan."""
    rounds: list[list[str]] = []
    engine, systems = bench.engine(), {"mem": bench.system, "pool": bench.pool}
    before: dict[str, int] = {}

    def listen(event: Any) -> None:
        now = {name: one.calls.count("list") for name, one in systems.items() if one is not None}
        if event.stage == "observe":
            before.clear()
            before.update(now)
        elif event.stage == "plan":
            rounds.append([name for name, count in now.items() if count > before[name]])
        heard(event, len(rounds))

    report = replace(engine, listen=listen).converge(stack_of(text), "r1", reason="test")
    assert report.verdict is Verdict.CONVERGED
    return rounds


def test_a_second_round_begins_with_what_the_first_has_just_verified() -> None:
    assert looks_by_round(Bench(), GENERATED) == [["mem"], []]


def test_a_second_round_looks_at_what_the_first_did_not_see_since_its_last_write() -> None:
    bench = Bench(pool=System())
    assert looks_by_round(bench, GENERATED + thing("other", group="pool/v1")) == [["mem", "pool"], []], "both were written to"
    bench = Bench(pool=System())
    bench.run(thing("other", group="pool/v1"))
    assert looks_by_round(bench, GENERATED + thing("other", group="pool/v1")) == [["mem", "pool"], ["pool"]]


def test_what_was_changed_by_hand_in_a_target_that_was_not_written_to_is_seen_by_the_second_round() -> None:
    bench = Bench(pool=System())
    assert bench.pool is not None
    bench.run(thing("other", group="pool/v1", size=5))
    pool = bench.pool

    def meddle(event: Any, number: int) -> None:
        if event.stage == "verify" and number == 1:
            pool.objects["Thing/other"].content["size"] = 77

    looks_by_round(bench, GENERATED + thing("other", group="pool/v1", size=5), meddle)
    assert pool.objects["Thing/other"].content["size"] == 5


def test_a_secret_that_another_hand_writes_between_two_rounds_makes_the_second_look_at_everything() -> None:
    bench = Bench()

    def rotate(event: Any, number: int) -> None:
        if event.stage == "verify" and number == 1:
            bench.system.keep_secret("app", password="another")

    assert looks_by_round(bench, GENERATED, rotate) == [["mem"], ["mem"]]
    assert bench.system.objects["Thing/user"].content["text"] == "another"


def test_a_spec_made_from_a_status_is_made_from_the_present_one_in_every_round() -> None:
    bench = Bench()
    bench.system.status["Thing/gate"] = {"address": "first"}
    asks = thing("asks", text='${status("mem/Thing/gate").address}')

    def move(event: Any, number: int) -> None:
        if event.stage == "verify" and number == 1:
            bench.system.status["Thing/gate"] = {"address": "second"}

    looks = looks_by_round(bench, GENERATED + thing("gate") + asks, move)
    assert looks[-1] == ["mem"]
    assert bench.system.objects["Thing/asks"].content["text"] == "second"


def test_a_target_that_could_not_be_seen_is_looked_at_again_by_the_next_round() -> None:
    bench = Bench(pool=System(), settings=EngineSettings(attempts=1))
    assert bench.pool is not None
    pool = bench.pool

    def blind(event: Any, number: int) -> None:
        if event.stage == "outcome" and number == 1:
            pool.on_read = [Transient("pool: 503 try again")]

    text = GENERATED + thing("other", group="pool/v1")
    bench.run(thing("other", group="pool/v1"))
    pool.objects.clear()
    assert looks_by_round(bench, text, blind) == [["mem", "pool"], ["pool"]]
    assert pool.objects.keys() == {"Thing/other"}


def test_a_plan_that_moved_since_it_was_shown_is_not_applied() -> None:
    bench = Bench()
    shown = bench.plan(thing("a")).digest
    with pytest.raises(PlanChanged, match="look at it again"):
        bench.run(thing("a") + thing("b"), shown=shown)
    assert bench.system.written() == []
    assert bench.run(thing("a"), shown=shown).verdict is Verdict.CONVERGED


def test_a_secret_that_nobody_makes_blocks_its_consumer_with_the_way_out() -> None:
    report = Bench().run(thing("user", text="${vault('app', 'password')}") + thing("other"))
    assert [(one.id.name, one.reason) for one in report.remaining.stuck] == [
        ("user", "the secret app does not exist; write it, or declare it with a generator")
    ]
    assert named(report.outcomes) == ["other"]


def test_a_missing_key_of_a_secret_blocks_its_consumer_only_and_shows_no_value() -> None:
    bench = Bench()
    bench.system.keep_secret("app", other=CANARY)
    report = bench.run(thing("user", text="${vault('app', 'password')}") + thing("x"))
    reason = "the secret app has no key 'password'; write it to the store, or declare it with a generator"
    assert [(one.id.name, one.reason) for one in report.remaining.stuck] == [("user", reason)]
    assert outcomes(report) == {"x": ("applied", "")}
    assert CANARY not in repr(report)


def test_a_rotated_secret_is_written_again_as_a_rotation_and_nothing_shows_its_value() -> None:
    bench = Bench()
    bench.system.keep_secret("app", password=f"{CANARY}-1")
    text = thing("user", text="${vault('app', 'password')}")
    said = repr(bench.run(text))
    assert bench.plan(text).in_sync
    bench.system.keep_secret("app", password=f"{CANARY}-2")
    plan = bench.plan(text)
    assert [(one.id.name, one.cause.value) for one in plan.changes] == [("user", "rotation")]
    said += repr(plan) + repr(bench.run(text)) + repr(bench.heard)
    assert bench.system.objects["Thing/user"].content["text"] == f"{CANARY}-2"
    assert CANARY not in said


def test_a_secret_store_that_fails_for_a_moment_is_asked_again_and_one_with_a_bug_stops_only_its_consumers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.unit.core.memory import MemoryDriver

    bench = Bench()
    bench.system.keep_secret("app", password=CANARY)
    text = thing("user", text="${vault('app', 'password')}") + thing("other")
    errors: list[Exception] = [RuntimeError(CANARY)]
    original = MemoryDriver.versions

    def versions(self: MemoryDriver, paths: Any, scope: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return original(self, paths, scope)

    monkeypatch.setattr(MemoryDriver, "versions", versions)
    plan = bench.plan(text)
    assert [one.reason for one in plan.stuck] == ["the secret store cannot be seen: bug: RuntimeError in the driver"]
    assert named(plan.changes) == ["other"]
    errors[:] = [Transient("503"), Transient("503")]
    assert bench.run(text).verdict is Verdict.CONVERGED


def test_a_secret_store_that_cannot_be_opened_stops_only_its_consumers() -> None:
    bench = Bench(pool=System())
    engine = bench.engine()
    engine.observer.targets._configs = {"mem": {"tokn": CANARY}, "pool": {"system": bench.pool}}
    from tests.unit.core.memory import stack_of

    stack = stack_of(thing("user", group="pool/v1", text="${vault('app', 'password')}") + thing("other", group="pool/v1"))
    plan, _ = engine.plan(stack)
    assert named(plan.changes) == ["other"]
    assert plan.stuck[0].reason.startswith("the secret store cannot be opened: target of driver mem: system: field required")
    report = engine.converge(stack, reason="test")
    assert report.rounds == 2, "the other was made, which might have helped"
    assert report.remaining.stuck[0].reason == plan.stuck[0].reason, "and the second round still knows why"
    assert CANARY not in repr(plan)


def test_planning_reads_no_secret() -> None:
    bench = Bench()
    bench.system.keep_secret("app", password=CANARY)
    bench.plan(thing("user", text="${vault('app', 'password')}"))
    assert not [one for one in bench.system.calls if one.startswith("read")]


# -- crashes, restarts and stops --------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process ends here."""


SHAPE = thing("a") + thing("b", needs=["a"]) + thing("c", needs=["b"], zone="2") + thing("d", size=2)
EARLIER = thing("c", zone="1") + thing("d", size=1) + thing("gone") + thing("gone-too")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 8))
def test_a_crash_after_any_write_converges_later_without_a_duplicate(crash_after: int) -> None:
    bench = Bench()
    assert bench.run(EARLIER).verdict is Verdict.CONVERGED
    left = [crash_after]

    def crash(name: str) -> None:
        if left[0] == 0:
            raise Crash
        left[0] -= 1

    bench.system.before_write = crash
    with suppress(Crash):
        bench.run(SHAPE)
    bench.system.before_write = lambda name: None
    assert bench.run(SHAPE).verdict is Verdict.CONVERGED
    assert sorted(bench.system.objects) == ["Thing/a", "Thing/b", "Thing/c", "Thing/d"]
    assert bench.plan(SHAPE).in_sync


def test_the_memory_may_be_deleted_between_two_passes(tmp_path: Path) -> None:
    store = Store(tmp_path / "one.db")
    bench = Bench(memory=store)
    bench.run(SHAPE)
    store.close()
    fresh = Bench(system=bench.system, memory=Store(tmp_path / "two.db"))
    bench.system.calls.clear()
    assert fresh.run(SHAPE).verdict is Verdict.CONVERGED
    assert bench.system.written() == []
    fresh.run(thing("a"))
    assert list(bench.system.objects) == ["Thing/a"], "what is owned is found by its mark, not by the memory"
    fresh.memory.close()  # type: ignore[attr-defined]


def test_a_stop_ends_the_pass_after_the_write_under_way_and_is_recorded(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    bench = Bench(memory=store)
    bench.system.before_write = lambda name: bench.stop.set() if name == "Thing/a" else None
    report = bench.run(thing("a") + thing("b", needs=["a"]))
    assert report.verdict is Verdict.INTERRUPTED
    assert bench.system.written() == ["create Thing/a"]
    latest = store.latest("test")
    assert latest is not None
    assert latest["verdict"] == "interrupted"
    store.close()


def test_an_object_that_lives_and_is_not_ours_is_left_alone() -> None:
    bench = Bench()
    bench.system.objects["Thing/a"] = Object(99, {"text": "theirs"}, "")
    report = bench.run(thing("a"))
    assert report.verdict is Verdict.PENDING
    assert bench.system.written() == []


def test_an_empty_stack_deletes_nothing_even_if_everything_is_ours() -> None:
    bench = Bench()
    bench.run(thing("a") + thing("b"))
    bench.system.calls.clear()
    report = bench.run({})
    assert report.verdict is Verdict.PENDING
    assert {held.guard for held in report.remaining.held} == {"empty"}
    assert bench.system.written() == []


def test_protection_put_on_later_counts_when_the_resource_leaves_git(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    bench = Bench(memory=store)
    bench.run(thing("a") + thing("b"))
    bench.run(thing("a", annotations={"protect": "true"}) + thing("b"))
    report = bench.run(thing("b"))
    assert [held.guard for held in report.remaining.held] == ["protect"]
    assert "Thing/a" in bench.system.objects
    report = bench.run(thing("b"), approved={report.plan.digest})
    assert report.verdict is Verdict.CONVERGED
    assert "Thing/a" not in bench.system.objects
    store.close()


def test_what_is_protected_stays_when_its_database_and_its_file_are_lost_in_the_same_moment() -> None:
    bench = Bench()
    bench.run(thing("a", annotations={"protect": "true"}) + thing("b"))
    report = bench.run(thing("b"))
    assert [held.guard for held in report.remaining.held] == ["protect"], "nothing is remembered here; the object says it itself"
    assert "Thing/a" in bench.system.objects
    assert bench.run(thing("b"), approved={report.plan.digest}).verdict is Verdict.CONVERGED
    assert "Thing/a" not in bench.system.objects


def test_passes_of_one_commit_end_after_so_many_rounds() -> None:
    bench = Bench(settings=EngineSettings(rounds=2, attempts=1))
    texts = "".join(thing(str(number), text=f"${{vault('p{number}', 'password')}}") for number in range(3))
    texts += "".join(
        thing(f"s{number}", kind="Secret", path=f"p{number}", annotations={"depends-on": f"mem/Thing/{number - 1}"} if number else None)
        for number in range(3)
    )
    report = bench.run(texts)
    assert report.rounds == 2
    assert report.verdict is Verdict.PENDING
    assert bench.run(texts).verdict is Verdict.CONVERGED


# -- drift ------------------------------------------------------------------------------------------------------------------------------


def test_drift_is_repaired_under_its_own_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    bench = Bench(memory=store)
    bench.run(thing("a", text="git"))
    bench.system.objects["Thing/a"].content["text"] = "by hand"
    report = bench.run(thing("a", text="git"))
    assert [(one.id.name, one.cause.value) for one in report.plan.changes] == [("a", "drift")]
    assert bench.system.objects["Thing/a"].content["text"] == "git"
    store.close()


def test_every_outcome_and_event_of_a_pass_is_heard() -> None:
    bench = Bench(time=FakeTime())
    bench.run(thing("a"))
    assert [event.stage for event in bench.heard] == ["observe", "plan", "wave", "outcome", "verify", "done"]
    assert bench.heard[3].outcome is not None
    assert bench.heard[3].outcome.status is Status.APPLIED


class Lost(Forgetful):
    """A memory whose turn goes to another worker while the pass looks."""

    @contextmanager
    def turn(self, stack: str) -> Iterator[Any]:
        class Gone:
            def held(self) -> bool:
                return False

        yield Gone()


def test_a_pass_that_lost_its_turn_while_it_looked_notes_nothing_and_writes_nothing() -> None:
    bench = Bench(key=b"a long random text for the tests")
    bench.system.keep_secret("app", password=CANARY)
    text = thing("user", text="${vault('app', 'password')}")
    bench.memory = Lost()
    with pytest.raises(TurnLost):
        bench.run(text)
    assert bench.system.written() == []
    assert bench.system.notes == {}
    bench.memory = Forgetful()
    bench.run(text)
    assert bench.system.notes

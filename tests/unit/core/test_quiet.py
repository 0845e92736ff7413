"""While a pass changes what somebody watches, the watcher is asked to keep quiet: what, when, for how long, and what is said about it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from reconciler.driver import Mark, Observation, Plugin, Quieted, Scope
from reconciler.errors import Permanent, Transient
from reconciler.registry import Catalog
from reconciler.report import Verdict
from reconciler.resource import ResourceId
from tests.unit.core.memory import PLUGIN, Bench, Config, MemoryDriver, Object, System, Thing, degraded, stack_file, thing

UNTIL = datetime(2026, 4, 1, 13).astimezone()


class EyeDriver(MemoryDriver):
    """A system of watchers. What it is quiet about lives in the system, and outlives the driver."""

    def see(self, name: str, live: Object, mark: Mark | None, scope: Scope) -> Observation:
        seen = super().see(name, live, mark, scope)
        return replace(seen, id=ResourceId("eye", seen.id.kind, seen.id.name))

    def quiet(self, ids: Sequence[ResourceId], scope: Scope, reason: str, seconds: float) -> None:
        self.system.calls.append(f"quiet {' '.join(one.name for one in ids)} for {seconds:g}: {reason}")
        if self.system.on_note is not None:
            raise self.system.on_note
        self.system.status["quiet"] = {"ids": sorted({*self.system.status.get("quiet", {}).get("ids", ()), *(one.name for one in ids)})}

    def quieted(self, scope: Scope) -> Quieted | None:
        found = self.system.status.get("quiet")
        return Quieted(tuple(ResourceId("eye", "Thing", one) for one in found["ids"]), UNTIL) if found is not None else None

    def unquiet(self, scope: Scope) -> None:
        self.system.calls.append("unquiet")
        del self.system.status["quiet"]


EYE = Plugin("eye", "eye/v1", {"Thing": Thing}, Config, f"{__name__}:EyeDriver")
CATALOG = Catalog((PLUGIN, EYE))


class House(Bench):
    """One installation over a system and its watchers, which share a log of calls."""

    def __init__(self, **more: Any) -> None:
        super().__init__(catalog=CATALOG, **more)
        self.eye = System(calls=self.system.calls)

    def engine(self) -> Any:
        engine = super().engine()
        engine.observer.targets._configs["eye"] = {"system": self.eye}
        return engine

    def did(self) -> list[str]:
        """The calls that wrote or silenced, in order; forgets them."""
        found = [call for call in self.system.calls if not call.startswith(("list", "read"))]
        self.system.calls.clear()
        return found


def files(*documents: str, quiet: bool = True, **spec: Any) -> dict[str, str]:
    return {"stack.yaml": stack_file(monitoring={"quiet": quiet}, **spec), "all.yaml": "".join(documents)}


def world(size: int = 1, *, other: int = 1) -> tuple[str, ...]:
    """Two watched things with a part between, one watched by nobody, and three watchers."""
    eyes = {"near": "mem/Thing/door", "far": "mem/Thing/shed", "through": "mem/Thing/room"}
    watchers = (thing(name, group="eye/v1", annotations={"depends-on": id}) for name, id in eyes.items())
    return (thing("door", size=size), thing("room", needs=["door"]), thing("shed", size=other), thing("alone", size=size), *watchers)


@pytest.fixture
def house() -> House:
    house = House()
    assert house.run(files(*world())).verdict is Verdict.CONVERGED
    assert [call for call in house.did() if "quiet" in call] == [], "what does not exist yet needs no quiet"
    return house


def test_just_what_watches_the_change_is_quiet_from_before_the_first_write_until_all_is_well(house: House) -> None:
    report = house.run(files(*world(2)))
    assert report.verdict is Verdict.CONVERGED
    assert house.did() == [
        "quiet near through for 3600: test: mem/Thing/alone, mem/Thing/door being changed",
        "update Thing/alone",
        "update Thing/door",
        "unquiet",
    ]
    assert report.remaining.notes == ()


def test_where_a_round_ended_the_quiet_the_next_one_looks_again(house: House) -> None:
    secret = thing("made", kind="Secret", path="app") + thing("user", text="${vault('app', 'password')}")
    report = house.run(files(*world(2), secret))
    assert (report.verdict, report.rounds) == (Verdict.CONVERGED, 2)
    calls = house.system.calls
    between = calls[calls.index("unquiet") : calls.index("create Thing/user")]
    assert "list" in between, "what a watcher shows may be another thing now"


def test_a_change_that_nobody_watches_and_one_of_a_watcher_itself_need_no_quiet(house: House) -> None:
    assert house.run(files(*world()[:-3], thing("alone2"), *world()[-3:])).verdict is Verdict.CONVERGED
    resized = thing("near", group="eye/v1", annotations={"depends-on": "mem/Thing/door"}, size=5)
    assert house.run(files(*world()[:-3], thing("alone2"), resized, *world()[-2:])).verdict is Verdict.CONVERGED
    assert house.did() == ["create Thing/alone2", "update Thing/near"]


def test_a_stack_that_does_not_ask_for_it_is_watched_throughout(house: House) -> None:
    house.run(files(*world(2), quiet=False))
    assert house.did() == ["update Thing/alone", "update Thing/door"]


def test_what_is_not_proven_to_work_stays_quiet_and_says_until_when_and_why(house: House) -> None:
    house.system.health["Thing/door"] = [degraded("does not open")]
    report = house.run(files(*world(2), health_deadline=5))
    assert report.verdict is Verdict.DEGRADED
    assert "unquiet" not in house.did()
    (note,) = report.remaining.notes
    assert note.startswith("eye: stays quiet about eye/Thing/near, eye/Thing/through until 2026-04-01")
    assert note.endswith("at most, because mem/Thing/door is degraded: does not open")
    house.system.health.clear()
    assert house.run(files(*world(2))).remaining.notes == ()
    assert house.did() == ["unquiet"]


def test_trouble_with_what_they_do_not_watch_keeps_nobody_quiet(house: House) -> None:
    house.system.health["Thing/shed"] = [degraded()]
    assert house.run(files(*world(2), health_deadline=5)).verdict is Verdict.DEGRADED
    assert house.did()[-1] == "unquiet"


def test_a_failed_write_keeps_quiet_and_is_named(house: House) -> None:
    def refuse(name: str) -> None:
        if name == "Thing/door":
            raise Permanent("forbidden")

    house.system.before_write = refuse
    report = house.run(files(*world(2)))
    assert report.remaining.notes[0].endswith("because mem/Thing/door: failed: forbidden")
    assert "unquiet" not in house.did()


def test_what_a_dead_process_left_is_ended_by_the_next_pass_that_finds_all_well(house: House) -> None:
    def die(name: str) -> None:
        raise KeyboardInterrupt

    house.system.before_write = die
    with pytest.raises(KeyboardInterrupt):
        house.run(files(*world(2)))
    assert house.eye.status["quiet"] == {"ids": ["near", "through"]}
    house.system.before_write = lambda name: None
    house.did()
    assert house.run(files(*world(1), quiet=False)).verdict is Verdict.CONVERGED
    assert house.did() == ["unquiet"], "also when nothing is left to be written, and when the stack asks for no quiet any more"


def test_an_interrupted_pass_leaves_the_quiet_to_the_next(house: House) -> None:
    house.system.before_write = lambda name: house.stop.set()
    report = house.run(files(*world(2)))
    assert report.verdict is Verdict.INTERRUPTED
    assert report.remaining.notes[0].endswith("because the pass was interrupted")
    assert "unquiet" not in house.did()


@pytest.mark.parametrize(
    ("error", "said"),
    [(Transient("eye: timed out"), "eye: timed out"), (Permanent("eye: no"), "eye: no"), (KeyError("x"), "bug: KeyError in the driver")],
)
def test_a_watcher_that_cannot_keep_quiet_stops_nobody_and_is_noted(house: House, error: Exception, said: str) -> None:
    house.eye.on_note = error
    report = house.run(files(*world(2)))
    assert report.verdict is Verdict.CONVERGED
    assert report.remaining.notes == (f"eye: it may raise alarms: {said}",)


def test_a_watcher_that_somebody_else_owns_is_not_asked_for(house: House) -> None:
    house.eye.objects["Thing/near"].mark = "reconciler:another/stack:Thing/near"
    house.run(files(*world(2)))
    assert house.did()[0].startswith("quiet through for")


def test_a_watcher_that_hangs_on_a_changed_watcher_only_needs_no_quiet(house: House) -> None:
    group, leaf = thing("group", group="eye/v1"), thing("leaf", group="eye/v1", annotations={"depends-on": "eye/Thing/group"})
    assert house.run(files(*world(), group, leaf)).verdict is Verdict.CONVERGED
    house.did()
    assert house.run(files(*world(), thing("group", group="eye/v1", size=5), leaf)).verdict is Verdict.CONVERGED
    assert house.did() == ["update Thing/group"]


def test_what_is_watched_and_cannot_be_changed_keeps_quiet_and_is_named(house: House) -> None:
    house.eye.status["quiet"] = {"ids": ["near"]}
    house.system.objects["Thing/door"].mark = "reconciler:another/stack:Thing/door"
    report = house.run(files(*world(2)))
    assert "unquiet" not in house.did()
    assert "mem/Thing/door: " in report.remaining.notes[0]


def test_of_a_target_that_cannot_be_seen_nothing_is_asked(house: House) -> None:
    house.eye.status["quiet"] = {"ids": ["near"]}
    house.eye.on_read = [Permanent("eye: forbidden")] * 20
    house.run(files(*world(2)))
    assert not [call for call in house.did() if "quiet" in call], "whether it may end is not known"

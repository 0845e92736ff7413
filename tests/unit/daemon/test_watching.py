"""What becomes of the hints of drivers that watch their system."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from typing import Any

import pytest

from reconciler.daemon.watching import HINT_MOST, HINT_PAUSE, LONGEST_PAUSE, Pace, reason
from reconciler.driver import Plugin, Scope
from reconciler.errors import Permanent, Transient
from reconciler.registry import Catalog
from reconciler.resource import ResourceId, SecretRef
from tests.unit.core.memory import CATALOG, MemoryDriver, mem, thing
from tests.unit.daemon.house import House, commit

ASK = reason("mem")


@dataclass
class Wires:
    """What the watching drivers of a test do: each watch that begins takes the next script and puts itself on ``begun``."""

    scripts: list[Callable[[], Iterator[ResourceId | None]]] = field(default_factory=list)
    begun: "SimpleQueue[Scope]" = field(default_factory=SimpleQueue)
    ended: "SimpleQueue[Scope]" = field(default_factory=SimpleQueue)
    hints: "SimpleQueue[ResourceId | Exception | None]" = field(default_factory=SimpleQueue)


WIRES = Wires()


class WatchingDriver(MemoryDriver):
    """A memory driver that hints at what the test says."""

    def watch(self, scope: Scope, stop: Event) -> Iterator[ResourceId | None]:
        wires = WIRES
        wires.begun.put(scope)
        try:
            while not stop.is_set():
                try:
                    hint = wires.hints.get(timeout=0.01)
                except Exception:
                    continue
                if isinstance(hint, Exception):
                    raise hint
                yield hint
        finally:
            wires.ended.put(scope)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    global WIRES
    WIRES = Wires()
    made = House(tmp_path)
    found = CATALOG.plugin("mem")
    watching = Plugin(**{name: getattr(found, name) for name in Plugin.__dataclass_fields__} | {"driver": f"{__name__}:WatchingDriver"})
    made.daemon.workshop.kinds = Catalog((watching,))
    yield made
    made.daemon.watchers.close()
    made.store.close()


def begun() -> Scope:
    return WIRES.begun.get(timeout=5)


def ended() -> Scope:
    return WIRES.ended.get(timeout=5)


def until(true: Callable[[], Any]) -> None:
    waited = Event()
    for _ in range(500):
        if true():
            return
        waited.wait(0.01)
    raise AssertionError("not in time")


def reasons(house: House) -> list[str]:
    """The reasons of the next pass that is due soon; none when only the interval is waited for."""
    house.time.seconds += 1
    claim = house.daemon.queue.take(0)
    if claim is None:
        return []
    house.daemon.queue.done(claim)
    return list(claim.reasons)


class TestAHint:
    def test_asks_for_a_pass_and_says_which_system_gave_it(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        begun()
        WIRES.hints.put(mem("a"))
        until(lambda: reasons(house) == [ASK])

    def test_is_one_of_many_that_cause_one_pass(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        begun()
        for _ in range(100):
            WIRES.hints.put(None)
        until(WIRES.hints.empty)
        until(lambda: reasons(house) == [ASK])
        assert reasons(house) == []

    def test_during_a_pass_causes_one_after_it(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        begun()
        house.daemon.watchers.passing("mail")
        WIRES.hints.put(mem("a"))
        until(lambda: house.daemon.watchers._passing["mail"])
        assert reasons(house) == []
        house.daemon.watchers.passed("mail", None)
        assert reasons(house) == [ASK]

    def test_that_comes_while_a_new_commit_is_written_is_dropped_because_the_new_watch_lists_everything(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        begun()
        house.daemon.accept(commit("c2", mail=thing("a", text="new")))
        house.system.before_write = lambda name: (
            WIRES.hints.put(mem("a")),
            until(lambda: house.daemon.watchers._passing["mail"]),
        )[0]
        house.passes()
        begun()
        assert reasons(house) == []


class TestAFight:
    def test_with_another_hand_is_met_ever_more_slowly_and_after_a_calm_time_at_once_again(self) -> None:
        pace, now, pauses = Pace(), 0.0, []
        for _ in range(20):
            pauses.append(pace.after(now))
            now += pace.after(now)
            pace = pace.repaired(now)
        assert pauses[:4] == [HINT_PAUSE, HINT_PAUSE * 2, HINT_PAUSE * 4, HINT_PAUSE * 8]
        assert pauses[-1] == HINT_MOST
        assert pace.after(now + HINT_MOST * 10 + 1) == HINT_PAUSE

    def test_slows_down_only_its_own_stack(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a"), web=thing("w")))
        house.passes()
        for _ in range(6):
            house.system.objects["Thing/a"].content["text"] = "meddled"
            house.daemon.queue.request("mail", "a hint")
            house.passes(1)
        asked: list[tuple[str, float]] = []
        house.daemon.watchers.ask = lambda stack, reason, after: asked.append((stack, after))
        for stack in ("mail", "web"):
            house.daemon.watchers._ask(stack, "mem")
        assert asked[0][1] > 5
        assert asked[1] == ("web", HINT_PAUSE)


class TestAWatch:
    def test_knows_what_is_wanted_and_can_read_no_secret(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        scope = begun()
        assert list(scope.wanted) == [mem("a")]
        assert scope.owner == "default/mail"
        with pytest.raises(Permanent, match="no secret store"):
            scope.reveal(SecretRef('vault("kv/a", "password")', (("kv/a", "password"),)))

    def test_goes_on_over_passes_that_want_nothing_new(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        begun()
        house.daemon.accept(commit("c2", mail=thing("a")))
        house.passes()
        assert WIRES.begun.empty()
        assert WIRES.ended.empty()

    def test_begins_anew_when_the_stack_wants_something_else(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        first = begun()
        house.daemon.accept(commit("c2", mail=thing("a") + thing("b")))
        house.passes()
        assert ended() is first
        assert sorted(begun().wanted) == [mem("a"), mem("b")]

    def test_begins_anew_when_a_secret_was_rotated(self, house: House) -> None:
        house.system.keep_secret("kv/a", password="one")
        house.daemon.accept(commit("c1", mail=thing("a", text='${vault("kv/a", "password")}')))
        house.passes()
        begun()
        house.system.keep_secret("kv/a", password="two")
        house.daemon.queue.request("mail", "resync")
        house.passes()
        ended()
        begun()

    def test_that_breaks_off_is_begun_again_a_little_later_each_time(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        for _ in range(8):
            begun()
            WIRES.hints.put(Transient("mem: the connection was cut"))
            ended()
        begun()
        pauses = house.time.waits[-8:]
        assert 0.5 <= pauses[0] <= 1
        assert pauses[-1] <= LONGEST_PAUSE
        assert pauses[-1] >= 30, pauses

    def test_with_a_bug_is_begun_again_and_ends_nothing_else(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a")))
        house.passes()
        begun()
        WIRES.hints.put(ValueError("a bug"))
        ended()
        begun()
        WIRES.hints.put(None)
        until(lambda: reasons(house) == [ASK])

    def test_ends_with_its_stack_and_with_the_daemon(self, house: House) -> None:
        house.daemon.accept(commit("c1", mail=thing("a"), web=thing("w")))
        house.passes()
        begun()
        begun()
        house.daemon.accept(commit("c2", web=thing("w")))
        assert ended().owner == "default/mail"
        house.daemon.watchers.close()
        assert ended().owner == "default/web"

    def test_is_not_begun_beyond_the_number_that_the_settings_allow(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        settings = house.daemon.workshop.settings
        house.daemon.workshop.settings = settings.model_copy(update={"engine": settings.engine.model_copy(update={"watches": 1})})
        house.daemon.accept(commit("c1", mail=thing("a"), web=thing("w")))
        house.passes()
        assert house.daemon.watchers.watched() == [("mail", "mem")]
        assert "engine.watches is reached" in caplog.text


def test_a_driver_that_cannot_watch_is_looked_at_every_interval_only(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.daemon.accept(commit("c1", mail=thing("a")))
    house.passes()
    assert house.daemon.watchers.watched() == []
    house.store.close()

"""What a daemon does when the machine's clock is set: intervals go on by the steady clock, and nobody waits for yesterday."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.unit.daemon.house import BETTER, GOOD, House, commit

JUMPS = [timedelta(days=-400), timedelta(hours=-1), timedelta(hours=1), timedelta(days=400)]


@pytest.fixture(params=JUMPS, ids=str)
def house(tmp_path: Path, request: pytest.FixtureRequest) -> House:
    """A daemon whose stack had converged before the clock was set."""
    made = House(tmp_path)
    made.daemon.outbox.debounce = 60.0
    made.daemon.accept(commit("c1", mail=GOOD))
    made.passes()
    made.told()
    made.time.now += request.param
    return made


def test_the_next_look_comes_at_the_interval_and_neither_at_once_nor_never(house: House) -> None:
    assert house.passes() == []
    house.time.seconds += 400
    assert house.passes() == ["mail"]


def test_a_new_commit_is_converged_and_is_the_newest_run(house: House) -> None:
    house.daemon.accept(commit("c2", mail=BETTER))
    house.passes()
    assert [row["revision"] for row in house.store.runs("mail", most=1)] == ["c2"]
    assert set(house.system.objects) == {"Thing/a", "Thing/b"}


def test_drift_is_repaired_and_told_once(house: House) -> None:
    house.system.objects["Thing/a"].content["text"] = "meddled"
    house.time.seconds += 400
    house.passes()
    assert house.system.objects["Thing/a"].content["text"] == "Hello"
    assert house.store.drifts("mail") == []
    house.time.now += timedelta(seconds=61)
    assert house.told().count("mail: drift in 1 resource") == 1
    assert house.told() == []


def test_a_trouble_that_opened_before_is_told_though_the_clock_went_back(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.daemon.outbox.debounce = 60.0
    house.system.on_read = [ValueError("x")] * 40
    house.daemon.accept(commit("c1", mail=GOOD))
    house.passes(1)
    assert house.told() == [], "it may pass"
    house.time.now -= timedelta(days=1)
    assert len(house.told()) == 1

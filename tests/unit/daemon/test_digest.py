"""The list of what nobody has dealt with: once a day, and only what is old."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.daemon.digest import MOST, digest, owe_digest
from reconciler.state import Store
from tests.unit.core.memory import NOW, thing
from tests.unit.daemon.house import House, commit


def row(name: str, hours: float, **more: str) -> dict[str, str]:
    onset = (NOW - timedelta(hours=hours)).isoformat()
    return {"stack": "mail", "resource": f"mem/Thing/{name}", "state": "open", "onset": onset, "reason": "", "evidence": "", **more}


def test_only_drift_that_is_older_than_a_day_is_listed_the_oldest_first() -> None:
    notice = digest(
        [row("new", 23), row("old", 30, evidence="by ada"), row("older", 72, state="acknowledged", reason="until the cut-over")], NOW
    )
    assert notice is not None
    assert notice.title == "drift older than a day in 2 resources"
    assert notice.lines == (
        "mail: mem/Thing/older, acknowledged for 3 days; until the cut-over",
        "mail: mem/Thing/old, open for 30 h; by ada",
    )


def test_nothing_old_is_no_news() -> None:
    assert digest([row("new", 23)], NOW) is None


def test_a_long_list_is_cut() -> None:
    notice = digest([row(f"t{number}", 48) for number in range(30)], NOW)
    assert notice is not None
    assert notice.lines[-1] == f"and {30 - MOST} more"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.daemon.accept(commit("c1", mail=thing("a", text="Hello", annotations={"drift": "report"})))
    made.passes(1)
    made.system.objects["Thing/a"].content["text"] = "meddled"
    made.time.seconds += 300
    made.passes(1)
    yield made
    made.store.close()


def owed(store: Store) -> list[str]:
    return [str(payload["title"]) for _, payload in store.unsent() if payload["key"] == "digest"]


def test_it_is_owed_once_a_day_however_often_it_is_asked_for_and_over_a_restart(house: House) -> None:
    day = house.time.now + timedelta(days=2)
    for minutes in range(0, 600, 60):
        owe_digest(house.store, 7, day.replace(hour=8) + timedelta(minutes=minutes))
    assert len(owed(house.store)) == 1
    house.restart()
    owe_digest(house.store, 7, day.replace(hour=20))
    assert len(owed(house.store)) == 1
    owe_digest(house.store, 7, day.replace(hour=8) + timedelta(days=1))
    assert len(owed(house.store)) == 2


def test_it_waits_for_its_hour_and_is_not_made_where_nobody_wants_it(house: House) -> None:
    day = (house.time.now + timedelta(days=2)).replace(hour=6)
    owe_digest(house.store, 7, day)
    owe_digest(house.store, None, day.replace(hour=12))
    assert owed(house.store) == []

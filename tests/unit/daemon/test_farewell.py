"""What becomes of what is known of stacks that are followed no more, and of nothing else."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.daemon import cards
from reconciler.daemon.farewell import ABOUT, say
from reconciler.daemon.incidents import Found, Incident, Part, Sort
from reconciler.state import Store
from reconciler.tables import DRIFT
from tests.unit.core.memory import NOW

LATER = NOW + timedelta(hours=5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state.db")
    yield made
    made.close()


def tell(store: Store, place: str, key: str, sort: Sort) -> None:
    with store.transaction() as connection:
        cards.tell(connection, place, [Found(key, sort, Part("about", {place: place}))], [sort], NOW)


def known(store: Store) -> dict[str, Incident]:
    with store.transaction() as connection:
        return {one.key: one for one in cards.known(connection, LATER)}


def test_what_was_open_about_the_repository_and_its_stacks_is_over_and_of_others_it_is_not(store: Store) -> None:
    tell(store, "repository web", "source", Sort.SOURCE)
    tell(store, "shop", "rejected:shop", Sort.REJECTED)
    tell(store, "shop", "unseen:vault", Sort.UNSEEN)
    tell(store, "mail", "unseen:vault", Sort.UNSEEN)
    tell(store, "mail", "held:mail", Sort.HELD)
    say(store, "web", ["shop"], LATER)
    found = known(store)
    assert {key: one.open for key, one in found.items()} == {
        "source": False,
        "rejected:shop": False,
        "unseen:vault": True,
        "held:mail": True,
        "left:repository web": False,
    }
    assert list(found["unseen:vault"].parts) == ["mail"]
    assert found["left:repository web"].parts["repository web"].about == ABOUT


def test_its_open_drift_is_closed_now_and_what_was_closed_before_stays_as_it_was(store: Store) -> None:
    row = {"resource": "mem/Thing/a", "action": "update", "fields": "[]", "evidence": "", "state": "open", "reason": ""}
    at, before = NOW.isoformat(), (NOW + timedelta(hours=1)).isoformat()
    with store.transaction() as connection:
        for stack, closed in (("shop", ""), ("shop", before), ("mail", "")):
            connection.execute(sa.insert(DRIFT), {**row, "stack": stack, "onset": at, "last_seen": at, "closed": closed})
    say(store, "web", ["shop"], LATER)
    found = sorted((one["stack"], one["closed"]) for one in store.drifts(closed=True))
    assert found == [("mail", ""), ("shop", before), ("shop", LATER.isoformat())]


def test_a_repository_without_stacks_is_named_too(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    say(store, "web", [], LATER)
    say(store, "web", [], LATER)
    (one,) = known(store).values()
    assert (one.key, one.times, one.event) == ("left:repository web", 1, True)
    assert "repository web is followed no more, nothing is deleted of: no stack" in caplog.text

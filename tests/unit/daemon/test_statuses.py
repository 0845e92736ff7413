"""What is written down of a commit's status, when more than one had to do with it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.daemon.statuses import CommitStatus, doubted, set_status, shown, unshown
from reconciler.state import Store
from tests.unit.core.memory import NOW

PENDING = CommitStatus("a" * 40, "mail", "pending", "accepted", source="home")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "state.db")
    yield made
    made.close()


def waiting(store: Store) -> list[CommitStatus]:
    with store.transaction() as connection:
        return list(unshown(connection))


def test_what_was_sent_by_two_at_once_is_sent_again_whoever_writes_it_down_last(store: Store) -> None:
    for late in (False, True):
        with store.transaction() as connection:
            set_status(connection, PENDING, NOW)
        (one,) = waiting(store)
        with store.transaction() as connection:
            for write in (shown, doubted) if late else (doubted, shown):
                write(connection, one)
        assert waiting(store) == [one], "nobody knows which of them arrived last"
        (again,) = waiting(store)
        with store.transaction() as connection:
            shown(connection, again)
        assert waiting(store) == []
        with store.transaction() as connection:
            doubted(connection, again)


def test_a_status_keeps_the_repository_of_its_commit_when_a_pass_says_what_came_of_it(store: Store) -> None:
    with store.transaction() as connection:
        set_status(connection, PENDING, NOW)
        set_status(connection, CommitStatus("a" * 40, "mail", "success", "converged"), NOW)
    (one,) = waiting(store)
    assert (one.state, one.source) == ("success", "home")

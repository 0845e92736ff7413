"""What is written down of a commit's status, when more than one had to do with it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.daemon.statuses import CommitStatus, doubted, of_report, set_status, shown, unshown
from reconciler.errors import Problem
from reconciler.notify.states import State
from reconciler.plan import Plan
from reconciler.report import Report, Verdict
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


def told(store: Store, *given: CommitStatus, days: float = 0) -> dict[tuple[str, str], str]:
    """Write statuses, one second after the other; give the state of each that waits, by commit and stack, in their order."""
    for number, one in enumerate(given):
        with store.transaction() as connection:
            set_status(connection, one, NOW + timedelta(days=days, seconds=number))
    return {(one.revision[0], one.stack): one.state for one in waiting(store)}


def status(sign: str, state: State = "pending", stack: str = "mail") -> CommitStatus:
    return CommitStatus(sign * 40, stack, state, "said")


class TestACommitThatIsOvertaken:
    def test_is_only_that_of_the_same_stack_and_only_when_nothing_came_of_it_yet(self, store: Store) -> None:
        before = (status("a"), status("b", "success"), status("c", "failure"), status("a", stack="web"))
        assert told(store, *before, status("d")) == {
            ("b", "mail"): "success",
            ("c", "mail"): "failure",
            ("a", "web"): "pending",
            ("a", "mail"): "error",
            ("d", "mail"): "pending",
        }

    def test_overtakes_nobody_when_another_daemon_meets_it_late(self, store: Store) -> None:
        assert told(store, status("a"), status("b"), status("a")) == {("a", "mail"): "error", ("b", "mail"): "pending"}

    def test_stays_so_when_its_pass_ends_after_all(self, store: Store) -> None:
        assert told(store, status("a"), status("b"), status("a", "success")) == {("a", "mail"): "error", ("b", "mail"): "pending"}

    def test_is_not_one_before_a_commit_that_is_refused(self, store: Store) -> None:
        assert told(store, status("a"), status("b", "failure")) == {("a", "mail"): "pending", ("b", "mail"): "failure"}


def test_a_status_is_kept_for_a_month_and_the_oldest_is_sent_first(store: Store) -> None:
    told(store, status("a", "success"))
    assert list(told(store, status("b", "success"), days=20)) == [("a", "mail"), ("b", "mail")]
    assert list(told(store, status("c"), days=31)) == [("b", "mail"), ("c", "mail")]


def test_a_pass_says_of_its_commit_what_came_of_it_and_of_nothing_else_anything() -> None:
    plan = Plan("mail", "x").sealed()
    problems = (Problem("desired/mail/dns.yaml", 6, "unknown field"), Problem("desired/mail/dns.yaml", 9, "another"))
    report = Report("mail", "a" * 40, "", Verdict.CONVERGED, NOW, NOW, plan, plan, problems=problems, source="home")
    said = {one: of_report(replace(report, verdict=one), "https://r.example/1") for one in Verdict}
    assert {one: found.state for one, found in said.items() if found is not None} == {
        Verdict.CONVERGED: "success",
        Verdict.PENDING: "pending",
        Verdict.DEGRADED: "failure",
        Verdict.FAILED: "failure",
        Verdict.REJECTED: "failure",
    }
    assert {(one.revision, one.stack, one.link, one.source) for one in said.values() if one is not None} == {
        ("a" * 40, "mail", "https://r.example/1", "home")
    }
    rejected = said[Verdict.REJECTED]
    assert rejected is not None
    assert rejected.description == str(problems[0])
    assert of_report(replace(report, revision="worktree")) is None, "what is no commit has no status"


def test_what_is_doubted_twice_is_sent_though_who_read_the_first_doubt_has_sent_it(store: Store) -> None:
    told(store, status("a"))
    for _ in range(2):
        (one,) = waiting(store)
        with store.transaction() as connection:
            doubted(connection, one)
    with store.transaction() as connection:
        shown(connection, one)
    assert waiting(store) == [one], "it was sent before somebody else sent, too"

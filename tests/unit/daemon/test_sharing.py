"""Two daemons on one queue and one store: neither goes back behind what the other knows, and people hear of everything once."""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from reconciler.daemon.heads import Heads
from reconciler.daemon.loop import Daemon
from reconciler.daemon.queue import KeyedQueue
from reconciler.desired import Desired
from reconciler.errors import SourceError
from tests.unit.core.memory import thing
from tests.unit.daemon.house import BAD, GOOD, Hand, House, commit


class SharedQueue(KeyedQueue):
    """The queue in memory, taken from by two daemons of one process."""

    shared = True


class Pair:
    """Two daemons; ``first`` saw the newer commit already, when a test lets it."""

    def __init__(self, folder: Path) -> None:
        self.house = House(folder)
        self.queue = SharedQueue(lambda: self.house.time.seconds)
        self.first, self.second = self._daemon(), self._daemon()

    def _daemon(self) -> Daemon:
        self.house.head = Hand()
        made = self.house.make()
        made.queue = self.queue
        return made

    def work(self, daemon: Daemon) -> list[str]:
        """Let one of them work off what is due."""
        worked = []
        with daemon.workshop.engine(self.house.store) as engine:
            while (claim := self.queue.take(0)) is not None:
                daemon._claimed(engine, claim, [])
                worked.append(claim.key)
        return worked

    def revisions(self, stack: str = "mail") -> list[str]:
        return [row["revision"] for row in reversed(self.house.store.runs(stack, most=50))]

    def text(self) -> object:
        return self.house.system.objects["Thing/a"].content["text"]


OLD, NEW = commit("c1", mail=thing("a", text="old")), commit("c2", mail=thing("a", text="new"))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    made.first.accept(OLD)
    made.second.accept(OLD)
    assert made.work(made.second) == ["mail"], "asked for twice, worked on once"
    made.first.accept(NEW)
    yield made
    made.house.store.close()


def answers(daemon: Daemon, *more: object) -> None:
    daemon.head.answers += more  # type: ignore[attr-defined]  # it is a Hand


def test_a_daemon_that_has_not_seen_the_newest_commit_looks_before_it_works_on_it(pair: Pair) -> None:
    answers(pair.second, NEW)
    pair.work(pair.second)
    assert pair.text() == "new"
    assert pair.revisions()[:2] == ["c1", "c2"]


def test_a_resync_by_a_daemon_that_is_behind_does_not_put_the_older_commit_back(pair: Pair) -> None:
    pair.work(pair.first)
    pair.house.time.seconds = 400
    answers(pair.second, NEW)
    pair.work(pair.second)
    assert pair.text() == "new"
    assert "c1" not in pair.revisions()[1:]


def test_a_daemon_that_is_behind_and_cannot_read_the_repository_leaves_the_stack_to_others(pair: Pair) -> None:
    pair.work(pair.first)
    pair.house.time.seconds = 400
    answers(pair.second, SourceError("git is down"))
    pair.work(pair.second)
    assert (pair.text(), pair.revisions()) == ("new", ["c1", "c2"])
    assert len(pair.queue) == 1, "it is asked for again, and whoever can takes it"


def test_a_daemon_that_knows_the_newest_commit_goes_on_while_git_is_down(pair: Pair) -> None:
    pair.work(pair.first)
    pair.house.time.seconds = 400
    answers(pair.first, SourceError("git is down"))
    pair.house.system.objects["Thing/a"].content["text"] = "meddled"
    pair.work(pair.first)
    assert pair.text() == "new"


def test_history_that_was_rewritten_back_is_followed_after_a_look(pair: Pair) -> None:
    pair.work(pair.first)
    pair.house.time.seconds = 400
    pair.work(pair.second)  # its head still says c1, freshly asked
    assert pair.revisions()[-1] == "c1"


def test_a_stack_that_a_daemon_does_not_know_is_looked_for_and_else_let_go(pair: Pair) -> None:
    pair.work(pair.first)
    pair.queue.request("web", "commit c3")
    answers(pair.second, commit("c3", mail=thing("a", text="new"), web=GOOD))
    pair.work(pair.second)
    assert set(pair.revisions("web")) == {"c3"}
    pair.queue.request("gone", "resync")
    assert "gone" in pair.work(pair.second)
    assert pair.revisions("gone") == []


def test_a_commit_that_another_has_converged_is_not_asked_for_again(pair: Pair) -> None:
    pair.work(pair.first)
    before = pair.revisions()
    pair.second.accept(NEW)
    assert pair.work(pair.second) == []
    assert pair.revisions() == before


def test_a_rejection_is_recorded_once_and_told_once(pair: Pair) -> None:
    bad = commit("c3", mail=BAD)
    pair.first.accept(bad)
    pair.second.accept(bad)
    assert [row["verdict"] for row in pair.house.store.runs("mail")].count("rejected") == 1
    good = commit("c4", mail=GOOD)
    pair.house.told()
    pair.first.accept(good)
    pair.second.accept(good)
    assert pair.house.told() == ["mail: the newest revision can be used"]


def test_a_failing_stack_backs_off_whoever_works_on_it(pair: Pair) -> None:
    pair.work(pair.first)
    pair.second.accept(NEW)
    pauses = []
    for number in range(6):
        pair.house.system.on_read = [ValueError("x")] * 4
        pair.queue.request("mail", "resync")
        pair.work((pair.first, pair.second)[number % 2])
        pauses.append(pair.queue.snapshot()[0].seconds)
        pair.house.time.seconds += 1000
    assert pauses == sorted(pauses)
    assert pauses[-1] > 60


def test_a_daemon_that_is_behind_asks_its_repository_though_it_is_not_due(pair: Pair) -> None:
    heads, hand = Heads({"": (pair.second.head, 1000.0)}), pair.second.head
    pair.second.head = heads
    heads.due()
    assert not heads.due(), "it was asked a moment ago"
    pair.work(pair.first)
    pair.house.time.seconds = 400
    hand.answers += [NEW]  # type: ignore[attr-defined]  # it is a Hand
    pair.work(pair.second)
    assert (pair.text(), pair.revisions()[-1]) == ("new", "c2")


class Slow:
    """A head that answers when it is let."""

    def __init__(self, *answers: Desired | None) -> None:
        self.answers, self.free, self.asked = list(answers), Event(), 0

    def changed(self) -> Desired | None:
        self.asked += 1
        assert self.free.wait(20)
        return self.answers.pop(0)

    def wait(self, stop: Event) -> None:
        return

    def poke(self) -> None:
        return


def test_an_answer_to_a_question_that_was_under_way_does_not_count_as_asked_afresh(pair: Pair) -> None:
    slow = Slow(None, NEW)
    heads = Heads({"": (slow, 1000.0), "other": (Hand(), 1000.0)})
    pair.second.head = heads
    heads.due()
    while not slow.asked:
        time.sleep(0.001)
    pair.work(pair.first)
    pair.house.time.seconds = 400
    pair.second.vitals.monotonic = heads._clock
    slow.free.set()
    pair.work(pair.second)
    assert (pair.text(), pair.revisions()[-1], slow.asked) == ("new", "c2", 2)


def test_a_claim_that_tells_of_the_commit_in_force_asks_nobody(pair: Pair) -> None:
    pair.work(pair.first)
    pair.queue.request("mail", "commit c2")
    asked = pair.first.head.asked  # type: ignore[attr-defined]  # it is a Hand
    pair.work(pair.first)
    assert pair.first.head.asked == asked  # type: ignore[attr-defined]  # as above
    pair.queue.request("mail", "webhook")
    pair.work(pair.first)
    assert pair.first.head.asked == asked + 1  # type: ignore[attr-defined]  # as above

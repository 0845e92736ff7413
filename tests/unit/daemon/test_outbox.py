"""The outbox: in order, once, when the receiver is ready, and not forgotten over a restart."""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Event

import pytest

from reconciler.daemon.outbox import Outbox
from reconciler.errors import Permanent, Transient
from reconciler.notify import Notice
from reconciler.state import Owed, Store
from tests.unit.core.memory import FakeTime


class Receiver:
    """A sink that answers as it is told, and well when it is told nothing."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.got: list[Notice] = []

    def send(self, notice: Notice) -> None:
        if self.answers and (answer := self.answers.pop(0)) is not None:
            raise answer
        self.got.append(notice)

    @property
    def titles(self) -> list[str]:
        return [one.title for one in self.got]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "state.db")
    yield opened
    opened.close()


def owe(store: Store, *titles: str) -> None:
    for title in titles:
        store.owe(Owed(title, asdict(Notice(title, "info", "mail", ("one", "two"), ("context",), key="mail"))), "2026-04-01T12:00:00")


def flush(store: Store, sink: Receiver, time: FakeTime | None = None) -> float:
    return Outbox(store, sink, (time or FakeTime()).clock()).flush(Event())


def test_notices_are_sent_in_the_order_in_which_they_were_owed_and_once(store: Store) -> None:
    sink = Receiver()
    owe(store, "first", "second", "third")
    flush(store, sink)
    flush(store, sink)
    assert sink.titles == ["first", "second", "third"]
    assert not store.unsent()


def test_a_notice_arrives_as_it_was_owed(store: Store) -> None:
    sink = Receiver()
    owe(store, "first")
    flush(store, sink)
    assert sink.got == [Notice("first", "info", "mail", ("one", "two"), ("context",), key="mail")]


def test_there_is_a_pause_after_each_because_chat_systems_count(store: Store) -> None:
    time = FakeTime()
    owe(store, "first", "second")
    flush(store, Receiver(), time)
    assert time.waits == [1.0, 1.0]


def test_a_receiver_that_is_busy_is_left_alone_as_long_as_it_says_and_nothing_overtakes(store: Store) -> None:
    sink = Receiver(None, Transient("slack: 429", retry_after=30))
    owe(store, "first", "second", "third")
    assert flush(store, sink) == 30
    assert sink.titles == ["first"]
    flush(store, sink)
    assert sink.titles == ["first", "second", "third"]


def test_a_receiver_that_is_down_is_asked_again_soon(store: Store) -> None:
    owe(store, "first")
    assert flush(store, Receiver(Transient("slack: connection refused"))) == 5
    assert len(store.unsent()) == 1


def test_what_can_never_be_delivered_is_dropped_and_logged_and_the_rest_is_sent(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    sink = Receiver(Permanent("slack: 404 no_service"), Permanent("slack: 404 no_service"))
    owe(store, "first", "second")
    with caplog.at_level(logging.ERROR):
        flush(store, sink)
    assert sink.titles == ["second"]
    assert "cannot be delivered and is dropped: slack: 404 no_service" in caplog.text
    assert not store.unsent()


def test_a_bug_in_a_sink_costs_one_notice_and_not_the_daemon(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    sink = Receiver(TypeError("oops"))
    owe(store, "first", "second")
    flush(store, sink)
    assert sink.titles == ["second"]
    assert "bug: a notice is dropped: TypeError" in caplog.text


def test_a_notice_of_another_version_of_the_program_does_not_stop_the_others(store: Store) -> None:
    sink = Receiver()
    store.owe(Owed("old", {"text": "before the fields were called so"}), "2026-04-01T12:00:00")
    owe(store, "first")
    flush(store, sink)
    assert sink.titles == ["first"]


def test_what_was_not_sent_is_sent_after_a_restart_and_the_rest_is_not_sent_again(tmp_path: Path) -> None:
    first = Store(tmp_path / "state.db")
    owe(first, "first", "second")
    before, after = Receiver(None, Transient("down")), Receiver()
    flush(first, before)
    first.close()
    second = Store(tmp_path / "state.db")
    flush(second, after)
    second.close()
    assert (before.titles, after.titles) == (["first"], ["second"])


def test_one_incident_is_owed_once_however_often_it_is_noticed(store: Store) -> None:
    owe(store, "same", "same")
    assert len(store.unsent()) == 1


def test_the_thread_ends_with_the_stop_signal(store: Store) -> None:
    stop, time = Event(), FakeTime()
    sink = Receiver()
    owe(store, "first", "second")
    stop.set()
    Outbox(store, sink, time.clock()).run(stop)
    assert len(sink.got) + len(store.unsent()) == 2, "what is left waits for the next start"

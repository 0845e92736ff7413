"""What only a store that several processes share has to promise: turns that can be lost, one sender, one migration."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from reconciler.daemon import cards, lean
from reconciler.daemon.incidents import Found, Part, Sort
from reconciler.daemon.outbox import Outbox
from reconciler.database import PostgresDatabase
from reconciler.driver import Status
from reconciler.errors import Problem, StoreError, Transient, TurnLost
from reconciler.notify import Notice
from reconciler.plan import Applied, Plan, Stuck
from reconciler.report import Report, Verdict
from reconciler.settings import State
from reconciler.state import Owed, Recorded, Store
from tests.postgres import PASSWORD, PostgresServer
from tests.unit.core.memory import NOW, Bench, FakeTime, mem, thing

GIT = thing("a", text="git") + thing("b", needs=["a"]) + thing("c", needs=["b"])


@pytest.fixture
def url(postgres: PostgresServer) -> SecretStr:
    return SecretStr(postgres.database())


@pytest.fixture
def store(url: SecretStr) -> Iterator[Store]:
    made = Store(State(url=url))
    yield made
    made.close()


def shared(store: Store) -> PostgresDatabase:
    assert isinstance(store.database, PostgresDatabase)
    return store.database


def cut(postgres: PostgresServer, store: Store) -> None:
    """End every session of a store, as a network or a failover would."""
    name = shared(store).url.database
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()")


def test_daemons_that_start_at_once_on_an_empty_database_make_the_schema_once(url: SecretStr) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: Store(State(url=url)), range(4)))
    for one in stores:
        assert one.runs() == []
        one.close()


def test_daemons_that_let_another_process_make_the_schema_may_start_at_once_too(url: SecretStr) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: lean.migrate(State(url=url)), range(3)))
    Store(State(url=url), read_only=True).close()  # a reader makes nothing


def test_a_password_is_never_on_the_command_line_of_a_migration(url: SecretStr, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[Any, Any]] = []
    run = subprocess.run

    def note(command: Any, **more: Any) -> Any:
        started.append((command, more.get("env")))
        return run(command, **more)

    monkeypatch.setattr(subprocess, "run", note)
    lean.migrate(State(url=url))
    assert len(started) == 1
    assert PASSWORD not in repr(started)


def test_a_pass_that_loses_its_turn_writes_nothing_more_and_records_nothing(store: Store, postgres: PostgresServer) -> None:
    bench = Bench(memory=store)
    bench.system.before_write = lambda name: cut(postgres, store) if name == "Thing/b" else None
    with pytest.raises(TurnLost, match="test: another worker has the stack now; nothing more was written"):
        bench.run(GIT)
    assert sorted(bench.system.objects) == ["Thing/a", "Thing/b"], "the write under way ends, the next is not begun"
    assert store.runs() == []
    bench.system.before_write = lambda name: None
    assert bench.run(GIT).verdict == "converged"
    assert [row["verdict"] for row in store.runs()] == ["converged"]


def test_changes_of_one_wave_stop_in_the_middle_when_the_turn_is_lost(store: Store, postgres: PostgresServer) -> None:
    bench = Bench(memory=store)
    bench.system.before_write = lambda name: cut(postgres, store) if name == "Thing/b" else None
    with pytest.raises(TurnLost):
        bench.run(thing("a") + thing("b") + thing("c") + thing("d"))
    assert sorted(bench.system.objects) == ["Thing/a", "Thing/b"]


def test_what_is_recorded_after_the_turn_was_lost_is_not_recorded(store: Store, postgres: PostgresServer) -> None:
    report = Bench().run(thing("a"))
    with store.turn("test") as turn:
        cut(postgres, store)
        with pytest.raises(StoreError):
            store.record(replace(report, revision="late"), {mem("a"): Applied("x")})
        assert not turn.held()
    assert store.runs() == []
    assert store.applied("test") == {}


def test_a_connection_that_was_cut_is_replaced_and_nobody_notices(store: Store, postgres: PostgresServer) -> None:
    bench = Bench(memory=store)
    bench.run(thing("a"))
    cut(postgres, store)
    assert bench.run(thing("a", text="next"), "r2").verdict == "converged"
    assert [row["revision"] for row in store.runs()] == ["r2", "r1"]


def test_the_session_of_who_no_longer_answers_is_ended_by_its_name_and_no_other(store: Store) -> None:
    turns = shared(store).turns
    turn = turns.claim("mail", "reconciler pass 7")
    assert turn is not None
    locks = shared(store).locks
    assert locks.take("mail", wait=False) is None
    assert not locks.end("mail", "reconciler pass 8")
    assert not locks.end("web", "reconciler pass 7")
    assert turn.held()
    assert locks.end("mail", "reconciler pass 7")
    assert not turn.held()
    other = locks.take("mail", wait=False)
    assert other is not None
    turns.release("mail", turn)
    assert other.held(), "who lost it takes nothing away from who has it now"
    other.leave()


def test_the_command_line_waits_for_the_daemon_and_the_other_way_round(store: Store, url: SecretStr) -> None:
    entered = Event()
    other = Store(State(url=url))

    def later() -> None:
        with other.turn("mail"):
            entered.set()

    claimed = shared(store).turns.claim("mail")
    assert claimed is not None
    thread = threading.Thread(target=later)
    thread.start()
    with store.turn("mail") as turn:
        assert turn is claimed, "the pass enters the turn that its claim came with"
    assert not entered.wait(0.1)
    shared(store).turns.release("mail", claimed)
    assert entered.wait(5)
    thread.join()
    other.close()


def owe(store: Store, count: int) -> None:
    for number in range(count):
        notice = Notice(f"n{number:02}", "info", "mail", key="mail")
        store.owe(Owed(notice.title, asdict(notice)), NOW.isoformat())


class Receiver:
    """A channel that several daemons post to."""

    def __init__(self) -> None:
        self.got: list[str] = []

    def send(self, notice: Notice) -> None:
        self.got.append(notice.title)


def test_of_several_daemons_one_sends_at_a_time_each_notice_once_and_in_order(store: Store, url: SecretStr) -> None:
    owe(store, 40)
    channel = Receiver()
    stores = [store, *(Store(State(url=url)) for _ in range(3))]
    outboxes = [Outbox(one, channel, FakeTime().clock(), pace=0) for one in stores]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            list(pool.map(lambda one: one.flush(Event()), outboxes))
    assert channel.got == [f"n{number:02}" for number in range(40)]
    for one in stores[1:]:
        one.close()


def test_a_sender_that_lost_its_turn_sends_nothing_more(store: Store, postgres: PostgresServer) -> None:
    class Cutting(Receiver):
        def send(self, notice: Notice) -> None:
            super().send(notice)
            cut(postgres, store)

    owe(store, 3)
    sink = Cutting()
    Outbox(store, sink, FakeTime().clock(), pace=0).flush(Event())
    assert sink.got == ["n00"]
    again = Receiver()
    Outbox(store, again, FakeTime().clock(), pace=0).flush(Event())
    assert again.got == ["n01", "n02"], "and what was sent was marked"


def test_the_same_notice_owed_by_two_at_once_is_owed_once(store: Store, url: SecretStr) -> None:
    other = Store(State(url=url))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: (store, other)[number % 2].owe(Owed(f"k{number // 8}", {}), NOW.isoformat()), range(64)))
    assert len(store.unsent()) == 8
    other.close()


def test_a_rejection_that_all_daemons_come_to_at_once_is_one_run_and_one_card(url: SecretStr) -> None:
    stores = [Store(State(url=url), news=cards.record) for _ in range(4)]
    plan = Plan("mail", "c1").sealed()
    for number in range(8):
        problem = Problem("desired/mail/dns.yaml", 6, "unknown field")
        report = Report("mail", f"c{number}", "a commit", Verdict.REJECTED, NOW, NOW, plan, plan, problems=(problem,))
        with ThreadPoolExecutor(4) as pool:
            written = list(pool.map(lambda one, said=report: one.record(said, {}, once=True), stores))
        assert sum(one is not None for one in written) == 1
    assert [row["revision"] for row in reversed(stores[0].runs("mail"))] == [f"c{number}" for number in range(8)]
    with stores[0].transaction() as connection:
        assert len(cards.unshown(connection)) == 1
    for one in stores:
        one.close()


def test_a_trouble_that_all_daemons_meet_at_once_is_one_card(url: SecretStr) -> None:
    stores = [Store(State(url=url)) for _ in range(4)]

    def meet(store: Store) -> None:
        found = Found("source", Sort.SOURCE, Part("the repository cannot be read", {"": "git is down"}))
        with store.transaction() as connection:
            cards.tell(connection, "repository", [found], [Sort.SOURCE], NOW)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(meet, stores))
    with stores[0].transaction() as connection:
        assert len(cards.unshown(connection)) == 1
    for one in stores:
        one.close()


def unseen_by(stack: str) -> Report:
    stuck = Stuck(mem(f"{stack}-a"), Status.BLOCKED, "mem cannot be seen: refused", unknown=True)
    plan = Plan(stack, "c1", stuck=(stuck,)).sealed()
    return Report(stack, "c1", "a commit", Verdict.PENDING, NOW, NOW, plan, plan)


@pytest.mark.parametrize(
    "meet",
    [
        lambda connection, stack: cards.record(connection, unseen_by(stack), Recorded(1, "", ())),
        lambda connection, stack: cards.tell(connection, stack, [Found("source", Sort.SOURCE, Part("down"))], [Sort.SOURCE], NOW),
    ],
    ids=["a pass", "a look"],
)
def test_who_meets_a_trouble_while_another_writes_of_it_waits_and_adds_to_the_same_card(
    url: SecretStr, postgres: PostgresServer, meet: Callable[[sa.Connection, str], None]
) -> None:
    first, second = Store(State(url=url)), Store(State(url=url))

    def late() -> None:
        with second.transaction() as connection:
            meet(connection, "web")

    def waits() -> bool:
        return bool(postgres.execute(f"SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = '{name}'"))

    name, thread = shared(first).url.database, threading.Thread(target=late)
    with first.transaction() as connection:
        meet(connection, "mail")
        thread.start()
        while thread.is_alive() and not waits():
            thread.join(timeout=0.05)
    thread.join(timeout=10)
    with first.transaction() as connection:
        (card,) = cards.unshown(connection)
    assert sorted(card.incident.parts) == ["mail", "web"]
    first.close()
    second.close()


def test_a_daemon_that_is_frozen_in_mid_transaction_keeps_nobody_waiting_for_long(url: SecretStr) -> None:
    limit = postgres_setting(url, "idle_in_transaction_session_timeout")
    assert limit == "15s", "the server ends the transaction of a process that says nothing"


def postgres_setting(url: SecretStr, name: str) -> str:
    store = Store(State(url=url))
    with store.transaction() as connection:
        found = connection.execute(sa.text(f"SHOW {name}")).scalar_one()
    store.close()
    return str(found)


def test_a_reader_changes_nothing_and_needs_a_schema(postgres: PostgresServer, store: Store, url: SecretStr) -> None:
    reader = Store(State(url=url), read_only=True)
    with pytest.raises(StoreError, match="read-only"):
        reader.approve("x", "y", "z")
    reader.close()
    with pytest.raises(Exception, match="holds schema none"):
        Store(State(url=SecretStr(postgres.database())), read_only=True)


def test_no_error_and_no_representation_holds_the_password(store: Store, url: SecretStr, postgres: PostgresServer) -> None:
    wrong = SecretStr(url.get_secret_value().replace(":canary-", ":wrong-canary-"))
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        Store(State(url=wrong))
    said = [str(caught.value), repr(caught.value), str(shared(store).name), repr(store.database.engine), repr(State(url=url))]
    assert not [text for text in said if PASSWORD in text or "wrong-canary" in text]


def test_a_receiver_that_is_down_keeps_the_turn_free_for_others(store: Store, url: SecretStr) -> None:
    class Down(Receiver):
        def send(self, notice: Notice) -> None:
            raise Transient("down")

    owe(store, 1)
    other, sink = Store(State(url=url)), Receiver()
    Outbox(store, Down(), FakeTime().clock(), pace=0).flush(Event())
    Outbox(other, sink, FakeTime().clock(), pace=0).flush(Event())
    assert sink.got == ["n00"]
    other.close()

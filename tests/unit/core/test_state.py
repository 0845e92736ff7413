"""The store: history, drift with its life, approvals and what is owed; and every way in which its file can be wrong."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from reconciler.daemon import cards
from reconciler.errors import ReconcilerError, StoreError
from reconciler.plan import Applied
from reconciler.settings import State
from reconciler.state import HEAD, Owed, Store
from reconciler.tables import METADATA
from tests.unit.core.memory import NOW, Bench, mem, stack_file, thing


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    """Where a store is kept: what it promises, it promises everywhere."""
    if request.param == "sqlite":
        return State(path=tmp_path / "reconciler.db")
    return State(url=SecretStr(request.getfixturevalue("postgres").database()))


@pytest.fixture
def store(place: State) -> Iterator[Store]:
    found = Store(place)
    yield found
    found.close()


@pytest.fixture
def bench(store: Store) -> Bench:
    return Bench(memory=store)


GIT = thing("a", text="git")


def meddle(bench: Bench, text: str = "by hand") -> None:
    bench.system.objects["Thing/a"].content["text"] = text


def drifts(store: Store, **more: Any) -> list[tuple[str, str]]:
    return [(row["resource"], row["state"]) for row in store.drifts("test", **more)]


# -- runs and what was applied ------------------------------------------------------------------------------------------------------


def test_every_pass_is_remembered_newest_first(store: Store, bench: Bench) -> None:
    bench.run(GIT, "r1", subject="First")
    bench.run(GIT + thing("b"), "r2")
    assert [(row["revision"], row["verdict"], row["summary"]) for row in store.runs("test")] == [
        ("r2", "converged", "1 to create"),
        ("r1", "converged", "1 to create"),
    ]
    assert store.stacks() == ["test"]
    assert store.runs("other") == []
    latest = store.latest("test")
    assert latest is not None
    assert latest["report"]["outcomes"][0]["id"] == "mem/Thing/b"
    assert store.run(99) is None
    assert store.latest("other") is None


def test_what_was_applied_is_remembered_with_its_edges_and_its_protection(store: Store, bench: Bench) -> None:
    bench.run(GIT + thing("b", needs=["a"], annotations={"protect": "true"}))
    known = store.applied("test")
    assert (known[mem("b")].before, known[mem("b")].protect) == ((mem("a"),), True)
    first = store.last_applied("test", mem("a"))
    bench.run(GIT + thing("b"), "r2")
    known = store.applied("test")
    assert (known[mem("b")].before, known[mem("b")].protect) == ((), False)
    assert store.last_applied("test", mem("a")) == first, "what did not change keeps the run that wrote it"
    assert store.last_applied("test", mem("none")) is None


def test_what_was_deleted_is_forgotten(store: Store, bench: Bench) -> None:
    bench.run(GIT + thing("b"))
    bench.run(GIT)
    assert set(store.applied("test")) == {mem("a")}


# -- drift ------------------------------------------------------------------------------------------------------------------------


def test_repaired_drift_is_kept_as_closed(store: Store, bench: Bench) -> None:
    bench.run(GIT)
    meddle(bench)
    bench.run(GIT)
    assert drifts(store) == []
    (row,) = store.drifts("test", closed=True)
    assert (row["state"], row["fields"]) == ("repaired", [{"path": "/text", "wanted": "git", "found": "by hand"}])


def test_reported_drift_stays_open_with_its_onset_until_somebody_puts_it_back(store: Store, bench: Bench) -> None:
    wish = thing("a", text="git", annotations={"drift": "report"})
    bench.run(wish)
    meddle(bench)
    bench.run(wish)
    (first,) = store.drifts("test")
    bench.time.now = bench.time.now.replace(hour=20)
    bench.run(wish)
    (second,) = store.drifts("test")
    assert (second["state"], second["onset"]) == ("open", first["onset"])
    assert second["last_seen"] > first["last_seen"]
    meddle(bench, "git")
    bench.run(wish)
    assert drifts(store) == []
    assert drifts(store, closed=True) == [("mem/Thing/a", "reverted")]


def test_what_becomes_of_drift_is_the_policy_of_the_stack_where_the_resource_says_nothing(store: Store, bench: Bench) -> None:
    wish = {"stack.yaml": stack_file(policy={"drift": "report"}), "a.yaml": thing("a") + thing("b", annotations={"drift": "enforce"})}
    bench.run(wish)
    for name in ("Thing/a", "Thing/b"):
        bench.system.objects[name].content["text"] = "by hand"
    bench.run(wish)
    assert drifts(store) == [("mem/Thing/a", "open")]
    assert sorted(drifts(store, closed=True)) == [("mem/Thing/a", "open"), ("mem/Thing/b", "repaired")]


def test_reported_drift_that_git_now_asks_for_was_adopted(store: Store, bench: Bench) -> None:
    bench.run(thing("a", text="git", annotations={"drift": "report"}))
    bench.system.objects["Thing/a"].content["text"] = "live"
    bench.run(thing("a", text="git", annotations={"drift": "report"}))
    assert drifts(store) == [("mem/Thing/a", "open")]
    bench.run(thing("a", text="live", annotations={"drift": "report"}), revision="r2")
    assert drifts(store, closed=True) == [("mem/Thing/a", "adopted")]
    assert bench.system.written() == ["create Thing/a"]


def test_reported_drift_over_which_a_commit_wrote_was_repaired(store: Store, bench: Bench) -> None:
    bench.run(thing("a", text="git", annotations={"drift": "report"}))
    bench.system.objects["Thing/a"].content["text"] = "live"
    bench.run(thing("a", text="git", annotations={"drift": "report"}))
    bench.run(thing("a", text="new", annotations={"drift": "report"}), revision="r2")
    assert drifts(store, closed=True) == [("mem/Thing/a", "repaired")]


def test_acknowledged_drift_is_one_row_with_its_reason_however_often_it_is_seen(store: Store, bench: Bench) -> None:
    exception = thing("x", kind="DriftException", group="reconciler/v1", resource="mem/Thing/a", reason="cut-over", expires="2026-05-31")
    bench.run(GIT)
    meddle(bench)
    for _ in range(3):
        assert bench.run(GIT + exception).verdict == "converged"
    (row,) = store.drifts("test", closed=True)
    assert (row["state"], row["reason"]) == ("acknowledged", "acknowledged until 2026-05-31: cut-over")
    bench.run(GIT)
    assert drifts(store, closed=True) == [("mem/Thing/a", "repaired")]


def test_drift_that_cannot_be_seen_any_more_is_not_called_reverted(store: Store, bench: Bench) -> None:
    wish = thing("a", text="git", annotations={"drift": "report"})
    bench.run(wish)
    meddle(bench)
    bench.run(wish)
    bench.system.on_read = [ValueError("x")]
    bench.run(wish)
    assert drifts(store) == [("mem/Thing/a", "open")]


def test_a_commit_is_no_drift(store: Store, bench: Bench) -> None:
    bench.run(GIT)
    bench.run(thing("a", text="new"), "r2")
    assert drifts(store, closed=True) == []


# -- approvals and what is owed -----------------------------------------------------------------------------------------------------


def test_an_approval_in_the_store_releases_the_plan_with_its_digest(store: Store, bench: Bench) -> None:
    files = {"stack.yaml": stack_file(policy={"approval": "commits"}), "all.yaml": GIT}
    report = bench.run(files)
    assert report.verdict == "pending"
    for _ in range(2):
        store.approve(report.plan.digest, "alice", NOW.isoformat())
    assert store.approved() == {report.plan.digest}
    assert bench.run(files).verdict == "converged"


def test_a_notice_with_a_known_key_is_owed_once(store: Store) -> None:
    now = NOW.isoformat()
    store.owe(Owed("drift:a:1", {"text": "x"}), now)
    store.owe(Owed("drift:a:1", {"text": "y"}), now)
    store.owe(Owed("drift:a:2", {"text": "z"}), now)
    (first, payload), (second, _) = store.unsent()
    assert payload == {"text": "x"}
    with store.transaction() as connection:
        cards.spent(connection, first, NOW)
    assert [number for number, _ in store.unsent()] == [second]
    store.owe(Owed("drift:a:1", {"text": "again"}), now)
    assert len(store.unsent()) == 1, "what was sent is not sent again"


def test_a_pass_and_the_notices_it_owes_are_written_together_or_not_at_all(store: Store, bench: Bench) -> None:
    report = bench.run(GIT)
    broken: Any = [Owed("fine", {}), Owed("bad", {"value": object()})]
    with pytest.raises(TypeError):
        store.record(replace(report, revision="r9"), {mem("z"): Applied("x")}, broken)
    assert [row["revision"] for row in store.runs()] == ["r1"]
    assert mem("z") not in store.applied("test")
    assert store.unsent() == []


# -- the file -----------------------------------------------------------------------------------------------------------------------


def test_what_was_written_is_there_after_a_restart(place: State) -> None:
    first = Store(place)
    Bench(memory=first).run(GIT)
    first.close()
    again = Store(place)
    assert len(again.runs()) == 1
    again.close()


def test_a_reader_sees_what_the_writer_wrote(tmp_path: Path) -> None:
    writer = Store(tmp_path / "with space?.db")
    Bench(memory=writer).run(GIT)
    reader = Store(tmp_path / "with space?.db", read_only=True)
    assert len(reader.runs()) == 1
    with pytest.raises(StoreError, match="readonly"):
        reader.approve("x", "y", "z")
    reader.close()
    writer.close()


def test_one_stack_is_converged_by_one_process_at_a_time_and_another_stack_does_not_wait(place: State) -> None:
    first, second = Store(place), Store(place)
    entered = Event()

    def later() -> None:
        with second.turn("mail"):
            entered.set()

    thread = Thread(target=later)
    with first.turn("mail"):
        with second.turn("other"):
            pass
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(5)
    thread.join()
    first.close()
    second.close()


def test_reading_a_file_that_does_not_exist_finds_nothing_and_makes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "none.db", read_only=True)
    assert (store.runs(), store.drifts(), store.applied("x"), store.approved()) == ([], [], {}, set())
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_named_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    file.write_bytes(b"this is not a database" * 100)
    for read_only in (False, True):
        with pytest.raises(ReconcilerError) as caught:
            Store(file, read_only=read_only)
        assert str(caught.value) == f"{file}: cannot be used as the database: file is not a database; move it away; only history is lost"


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReconcilerError, match="unable to open database file"):
        Store(tmp_path / "no" / "x.db")


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    Store(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for read_only in (False, True):
        with pytest.raises(ReconcilerError, match="holds schema 9999, this version needs"):
            Store(file, read_only=read_only)


def test_a_reader_does_not_migrate(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    sqlite3.connect(file).close()
    file.touch()
    with pytest.raises(ReconcilerError, match="holds schema none"):
        Store(file, read_only=True)


def test_the_migrations_make_the_schema_that_the_code_speaks_of(store: Store) -> None:
    inspector = sa.inspect(store.database.engine)
    for table in METADATA.sorted_tables:
        made = {column["name"]: (str(column["type"]), column["nullable"]) for column in inspector.get_columns(table.name)}
        assert made == {column.name: (str(column.type), column.nullable) for column in table.columns}, table.name
    with store.database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == HEAD

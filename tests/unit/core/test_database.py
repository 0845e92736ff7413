"""What happens when the database fails: the systems are converged all the same, the message says what to do, and only history is lost."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.daemon import cards
from reconciler.database import SqliteDatabase
from reconciler.errors import ReconcilerError, StoreError
from reconciler.forgetting import forget
from reconciler.settings import State
from reconciler.state import Owed, Store
from tests.unit.core.memory import NOW, Bench, thing

GIT = thing("a", text="git")


def sqlite(store: Store) -> SqliteDatabase:
    assert isinstance(store.database, SqliteDatabase)
    return store.database


def pragma(store: Store, text: str) -> None:
    with sqlite(store).engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA {text}")
        connection.commit()


def fill(store: Store) -> None:
    """Let the file grow no further."""
    with sqlite(store).engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        connection.commit()
    with pytest.raises(StoreError):
        _owe_without_end(store)


def _owe_without_end(store: Store) -> None:
    for number in range(1000):
        store.owe(Owed(f"filler {number}", {"text": "x" * 4000}), NOW.isoformat())


def spoil(path: Path, *, start: int = 4096) -> None:
    """Overwrite a database from a place on, as a failing disk would."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * (size - start))


# -- the disk is full -----------------------------------------------------------------------------------------------------------------


def test_a_full_disk_costs_the_record_and_not_the_pass(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path / "x.db")
    bench = Bench(memory=store)
    bench.run(GIT)
    fill(store)
    report = bench.run(thing("a", text="next" * 2000), "r2")
    assert report.verdict == "converged"
    assert bench.system.objects["Thing/a"].content["text"] == "next" * 2000
    assert "is full; make room; the passes go on, and what happens meanwhile is missing from the history" in caplog.text
    assert [row["revision"] for row in store.runs()] == ["r1"]
    pragma(store, "max_page_count=1073741823")
    assert bench.run(GIT, "r3").verdict == "converged"
    assert [row["revision"] for row in store.runs()] == ["r3", "r1"], "it remembers again as soon as there is room"
    store.close()


def test_a_lock_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    (tmp_path / "x.db.test.lock").mkdir()
    with pytest.raises(StoreError, match=r"x\.db\.test\.lock: cannot be made, so nobody knows whose turn it is"), store.turn("test"):
        pass
    store.close()


# -- the database is locked -----------------------------------------------------------------------------------------------------------


def test_a_locked_database_costs_the_record_and_not_the_pass(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path / "x.db")
    pragma(store, "busy_timeout=10")
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench = Bench(memory=store)
    assert bench.run(GIT).verdict == "converged"
    assert "database is locked; another program holds it" in caplog.text
    other.execute("ROLLBACK")
    other.close()
    assert bench.run(GIT, "r2").verdict == "converged"
    assert [row["revision"] for row in store.runs()] == ["r2"]
    store.close()


# -- the database is broken -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 4096], ids=["zeroed beginning", "spoiled pages"])
def test_a_broken_database_is_moved_aside_at_the_start_and_a_new_one_is_begun(
    tmp_path: Path, start: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "x.db"
    first = Store(file)
    Bench(memory=first).run(GIT)
    first.close()
    if start == 0:
        file.write_bytes(bytes(4096) + file.read_bytes()[4096:])
    else:
        spoil(file)
    with pytest.raises(ReconcilerError, match="move it away; only history is lost"):
        Store(file, read_only=True).runs()
    store = Store(file, heal=True)
    assert store.runs() == []
    (aside,) = tmp_path.glob("x.db.corrupt-*")
    assert aside.stat().st_size > 0
    assert f"it was moved to {aside}, and a new one was begun" in caplog.text
    assert Bench(memory=store).run(GIT, "r2").verdict == "converged"
    assert [row["revision"] for row in store.runs()] == ["r2"]
    store.close()


def test_a_database_that_breaks_in_mid_run_is_replaced_and_the_pass_is_recorded_in_the_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "x.db"
    store = Store(file, heal=True)
    bench = Bench(memory=store)
    for number in range(3):
        bench.run(thing("a", text=str(number)), f"r{number}")
    pragma(store, "wal_checkpoint(TRUNCATE)")
    pragma(store, "cache_size=0")
    pragma(store, "shrink_memory")
    spoil(file)
    assert bench.run(GIT, "after").verdict == "converged"
    assert [row["revision"] for row in store.runs()] == ["after"]
    assert len(list(tmp_path.glob("x.db.corrupt-*"))) >= 1
    assert "a new one was begun" in caplog.text
    assert set(store.applied("test")) != set()
    store.close()


def test_a_file_that_never_was_a_database_is_somebodys_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(b"these are my notes, not a database\n" * 100)
    with pytest.raises(ReconcilerError, match="file is not a database; move it away"):
        Store(file, heal=True)
    assert file.read_bytes().startswith(b"these are my notes")
    assert list(tmp_path.iterdir()) == [file]


def test_without_leave_to_heal_a_broken_database_is_left_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    Store(file).close()
    spoil(file)
    with pytest.raises(ReconcilerError):
        Bench(memory=Store(file)).memory.record(None, {})  # type: ignore[arg-type]  # it does not come to look at it
    assert not list(tmp_path.glob("*.corrupt-*"))


# -- what is old is forgotten ---------------------------------------------------------------------------------------------------------


def history(store: Store, count: int, *, hours: float = 24) -> Bench:
    """Passes at even steps, the last one now."""
    bench = Bench(memory=store)
    for number in range(count):
        bench.time.now = NOW - timedelta(hours=hours * (count - 1 - number))
        bench.run(GIT if number % 2 else thing("a", text="other"), f"r{number}")
    return bench


def test_runs_older_than_the_limit_are_forgotten_and_the_newest_stay_whatever_the_clock_says(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    history(store, 60)
    assert forget(store, (NOW - timedelta(days=30)).isoformat(), 1000) == 29
    assert len(store.runs(most=100)) == 31
    assert forget(store, (NOW + timedelta(days=9999)).isoformat(), 1000) == 11, "a clock that jumped"
    assert len(store.runs(most=100)) == 20
    store.close()


def test_no_stack_keeps_more_runs_than_the_limit(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    history(store, 60, hours=1)
    forget(store, (NOW - timedelta(days=30)).isoformat(), 25)
    assert [row["revision"] for row in store.runs(most=100)][-1] == "r35"
    store.close()


def test_the_run_that_wrote_what_still_stands_is_kept_without_its_report(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    bench = Bench(memory=store)
    bench.run(GIT, "first")
    for number in range(30):
        bench.run(GIT, f"r{number}")
    forget(store, (NOW + timedelta(days=1)).isoformat(), 1000)
    assert [row["revision"] for row in store.runs(most=100)][-1] == "first"
    (number,) = [row["id"] for row in store.runs(most=100) if row["revision"] == "first"]
    found = store.run(number)
    assert found is not None
    assert found["report"] == {}
    store.close()


def test_closed_drift_and_sent_notices_are_forgotten_and_what_is_open_or_owed_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    wish = thing("a", text="git") + thing("b", text="git", annotations={"drift": "report"})
    bench = Bench(memory=store)
    bench.run(wish)
    for name in ("Thing/a", "Thing/b"):
        bench.system.objects[name].content["text"] = "by hand"
    bench.run(wish)
    store.owe(Owed("sent", {}), NOW.isoformat())
    store.owe(Owed("owed", {}), NOW.isoformat())
    mark_sent(store, store.unsent()[0][0])
    forget(store, (NOW + timedelta(days=1)).isoformat(), 1000)
    assert [row["state"] for row in store.drifts(closed=True)] == ["open"]
    with store.database.reading() as connection:
        assert connection.execute(sa.text("SELECT key FROM outbox")).scalars().all() == ["owed"]
    store.close()


def mark_sent(store: Store, number: int) -> None:
    with store.transaction() as connection:
        cards.spent(connection, number, NOW)


def test_the_room_of_what_was_forgotten_is_given_back(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    store = Store(file)
    for number in range(500):
        store.owe(Owed(f"n{number}", {"text": "x" * 4000}), NOW.isoformat())
        mark_sent(store, number + 1)
    pragma(store, "wal_checkpoint(TRUNCATE)")
    before = file.stat().st_size
    forget(store, (NOW + timedelta(days=1)).isoformat(), 1000)
    store.database.vacuum()
    pragma(store, "wal_checkpoint(TRUNCATE)")
    assert file.stat().st_size < before / 10
    store.close()


# -- settings -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["mysql://u:canary@h/d", "postgresql+psycopg://u:canary@h", "canary", "postgresql+psycopg://u:canary@h:port/d"]
)
def test_a_url_that_is_none_of_ours_is_refused_without_repeating_it(url: str) -> None:
    from pydantic import SecretStr

    with pytest.raises(ReconcilerError, match=r"^state\.url: must be postgresql\+psycopg://") as caught:
        Store(State(url=SecretStr(url)))
    assert "canary" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    from pydantic import SecretStr

    with pytest.raises(StoreError, match="see whether the server runs and lets us in") as caught:
        Store(State(url=SecretStr("postgresql+psycopg://me:canary@127.0.0.1:1/x")))
    assert "canary" not in str(caught.value)
    assert "canary" not in repr(State(url=SecretStr("postgresql+psycopg://me:canary@127.0.0.1:1/x")))
    with pytest.raises(StoreError, match=r"^postgresql://127\.0\.0\.1:1/x: ") as caught:
        Store(State(url=SecretStr("postgresql+psycopg://127.0.0.1:1/x?user=me&password=canary")))
    assert "canary" not in str(caught.value)

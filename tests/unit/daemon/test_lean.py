"""A daemon stays small: what is needed once or never is not kept in its memory."""

import gc
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import reconciler
from reconciler.daemon import lean
from reconciler.errors import ReconcilerError
from reconciler.settings import State
from reconciler.state import Store

ONCE_OR_NEVER = {"alembic", "mako", "pygments", "rich", "sqlalchemy.dialects.postgresql"}


def modules_after(code: str) -> set[str]:
    """What a fresh process has loaded when ``code`` is done."""
    code += "; import sys; print('|', *(name for name, one in sys.modules.items() if one is not None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.rpartition("|")[2].split())


def test_a_daemon_on_a_new_database_keeps_nothing_of_what_made_it_and_no_command_line_of_a_library(tmp_path: Path) -> None:
    code = (
        "from reconciler.daemon import lean; lean.begin(); from pathlib import Path; from reconciler.settings import State;"
        f"state = State(path=Path({str(tmp_path / 'new.db')!r})); lean.migrate(state);"
        "from reconciler.state import Store; Store(state, heal=True).close(); import httpx; httpx.Client(verify=False).close()"
    )
    loaded = modules_after(code)
    assert {"httpx", "sqlalchemy"} <= loaded
    assert not ONCE_OR_NEVER & loaded


def test_a_database_that_another_process_made_is_the_one_that_is_opened(tmp_path: Path) -> None:
    state = State(path=tmp_path / "new.db")
    lean.migrate(state)
    Store(state, read_only=True).close()  # a reader makes and migrates nothing


def test_an_old_database_is_migrated_and_keeps_what_it_holds(tmp_path: Path) -> None:
    state = State(path=tmp_path / "old.db")
    config = Config()
    config.set_main_option("script_location", str(Path(reconciler.__file__).parent / "migrations"))
    engine = sa.create_engine(f"sqlite:///{state.path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        connection.exec_driver_sql("INSERT INTO applied VALUES ('s', 'mem/Thing/a', 'd', '[]', 0, 'r1', 1)")
    engine.dispose()
    with pytest.raises(ReconcilerError, match="holds schema 0002"):
        Store(state, read_only=True)
    lean.migrate(state)
    store = Store(state, read_only=True)
    assert [str(id) for id in store.applied("s")] == ["mem/Thing/a"]
    store.close()


def test_a_database_that_is_as_it_must_be_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(path=tmp_path / "there.db")
    Store(state).close()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    lean.migrate(state)


def test_a_file_that_is_no_database_of_ours_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State(path=tmp_path / "letter.txt")
    state.path.write_text("Dear Sir or Madam, " * 100)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    lean.migrate(state)
    assert state.path.read_text().startswith("Dear")


@pytest.mark.parametrize("executable", ["/nonexistent/python", "/bin/false"])
def test_a_migration_that_cannot_be_made_aside_is_made_where_the_database_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str
) -> None:
    state = State(path=tmp_path / "new.db")
    monkeypatch.setattr(sys, "executable", executable)
    lean.migrate(state)
    Store(state).close()
    Store(state, read_only=True).close()


def test_a_path_that_cannot_be_used_is_told_by_who_opens_it(tmp_path: Path) -> None:
    state = State(path=tmp_path / "no" / "such" / "folder.db")
    lean.migrate(state)
    with pytest.raises(ReconcilerError, match=r"set state\.path to a file that this user may write"):
        Store(state)


def test_what_is_alive_is_settled_again_only_when_code_was_loaded_since() -> None:
    settling, before = lean.Settling(), gc.get_freeze_count()
    try:
        assert settling.settle()
        assert gc.get_freeze_count() > before
        assert not settling.settle()
        sys.modules["a_module_that_came_later"] = ModuleType("a_module_that_came_later")
        assert settling.settle()
    finally:
        sys.modules.pop("a_module_that_came_later", None)
        gc.unfreeze()

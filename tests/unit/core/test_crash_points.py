"""SIGKILL at any point: a process is killed at each statement it sends to its database, and the next one goes on with nothing lost."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.daemon.recording import recorder
from reconciler.settings import Settings
from reconciler.state import Store
from tests.unit.core.memory import Bench, thing

WISH = thing("a", text="git") + thing("b", needs=["a"])


def child(file: Path, point: int) -> int:
    """Run two passes in a process that dies before its statement number ``point``; give how it ended."""
    number = os.fork()
    if number:
        return os.waitpid(number, 0)[1]
    try:
        store = Store(file, news=recorder(Settings()))
        count = 0

        @sa.event.listens_for(store.database.engine, "before_cursor_execute")
        def _(*_: object) -> None:
            nonlocal count
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)

        bench = Bench(memory=store)
        bench.run(WISH, "r1")
        bench.system.objects["Thing/a"].content["text"] = "by hand"
        bench.run(WISH, "r2")
        store.close()
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_is_killed_at_any_statement_leaves_whole_passes_with_all_they_owe(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    Store(empty).close()
    for point in range(1, 200):
        file = tmp_path / f"{point}.db"
        shutil.copyfile(empty, file)
        how = child(file, point)
        store = Store(file, news=recorder(Settings()))
        told = len(store.unsent(most=100))
        runs = [row["revision"] for row in reversed(store.runs())]
        assert runs in ([], ["r1"], ["r1", "r2"])
        assert told == len(runs), "a pass that is recorded owes its notice, and one that is not owes none"
        assert bool(store.applied("test")) == bool(runs)
        assert len(store.drifts(closed=True)) == len(runs[1:])
        assert Bench(memory=store).run(WISH, "r3").verdict == "converged"
        store.close()
        if how == 0:
            break
    assert 10 < point < 199, "every statement was a point once"

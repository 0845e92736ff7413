"""200 stacks of 50 unchanged resources: how long a sweep of all takes, with one worker and with two processes that share the work.

What is measured is all of ours: the queue and the store in PostgreSQL, the daemon's loop and the engine. The system behind the driver is
in the process and answers each look after 0.1 s, as a vendor's API over the internet does; then, without a bar, at once. PostgreSQL and
the workers share the machine.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import figure
from tests.postgres import PostgresServer, binaries

STACKS, RESOURCES, ANSWER = 200, 50, 0.1


def measure() -> list[dict[str, object]]:
    """Measure a sweep by one, then by two."""
    if binaries() is None:
        return [figure("PostgreSQL is not installed: nothing measured", None, "", None)]
    server = PostgresServer()
    try:
        server.start()
        one, two = (_sweep(server, ANSWER, workers) for workers in (1, 2))
        busy_one, busy_two = (_sweep(server, 0.0, workers) for workers in (1, 2))
    finally:
        server.remove()
    what = f"a sweep of {STACKS} stacks x {RESOURCES} unchanged resources"
    return [
        figure(f"{what}, 1 worker, {ANSWER:g} s an answer", one, "s", 60),
        figure(f"{what}, 2 worker processes", two, "s", None),
        figure("share of the time that 2 worker processes take", two / one, "", 1 / 1.7),
        figure(f"{what}, 1 worker, answers at once", busy_one, "s", None),
        figure(f"{what}, 2 worker processes, answers at once", busy_two, "s", None),
    ]


def _sweep(server: PostgresServer, answer: float, workers: int) -> float:
    """Give the seconds from the first request to the end of the last pass, the faster of two, after every daemon's first round."""
    from pydantic import SecretStr

    from reconciler.daemon.pgqueue import PostgresQueue
    from reconciler.database import PostgresDatabase
    from reconciler.settings import State
    from reconciler.state import Store

    url = server.database()
    Store(State(url=SecretStr(url))).close()
    database = PostgresDatabase(url)
    queue = PostgresQueue(database, workers=0)
    with tempfile.TemporaryDirectory() as folder:
        processes = [_worker(folder, number, answer, url) for number in range(workers)]
        try:
            _settled(database, STACKS, processes, quiet=8.0)  # the last to start has loaded its stacks, too
            found = []
            for number in (2, 3):
                started = time.monotonic()
                for stack in range(STACKS):
                    queue.request(f"s{stack:03}", "resync")
                _settled(database, number * STACKS, processes)
                found.append(time.monotonic() - started)
            return min(found)
        finally:
            for one in processes:
                one.terminate()
                one.wait(30)
            queue.close()
            queue.join(10)
            database.close()


def _worker(folder: str, number: int, answer: float, url: str) -> subprocess.Popen[bytes]:
    own = Path(folder) / str(number)
    own.mkdir()
    command = [sys.executable, "-m", "benchmarks.scale_worker", str(STACKS), str(RESOURCES), str(answer), str(own), url]
    return subprocess.Popen(command)


def _settled(database: object, runs: int, processes: list[subprocess.Popen[bytes]], *, quiet: float = 0.0) -> None:
    """Wait until at least so many passes are recorded, and nothing has been due for ``quiet`` seconds."""
    import sqlalchemy as sa

    from reconciler.database import PostgresDatabase

    assert isinstance(database, PostgresDatabase)
    due = sa.text(
        "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM procrastinate_jobs"
        " WHERE lock IS NOT NULL AND (status = 'doing' OR status = 'todo' AND (scheduled_at IS NULL OR scheduled_at < now()))) AS due"
    )
    end, since = time.monotonic() + 300, time.monotonic()
    while True:
        time.sleep(0.05)
        with database.reading() as connection:
            found = connection.execute(due).one()
        if found.runs < runs or found.due:
            since = time.monotonic()
        elif time.monotonic() - since >= quiet:
            return
        if time.monotonic() > end or any(one.poll() is not None for one in processes):
            raise RuntimeError(f"{found.runs} of {runs} passes after five minutes, or a worker ended")

"""The work queue that several daemons share: procrastinate's jobs in PostgreSQL, one waiting and one running job a stack.

What procrastinate gives: a lock and a queueing lock a key, LISTEN/NOTIFY, heartbeats, periodic work. What is added here, because
reconciling wants it: a request brings a delayed job forward; a stalled job is ended and asked for anew, never retried; and a session
advisory lock is the fence round every claim, so that one who was taken for dead writes nothing when it wakes. Times are the server's.

Its worker lives on an event loop in its own thread and hands jobs to the threads that ``take``. Imported only when ``state.url`` is set.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import sqlalchemy as sa
from procrastinate import App, JobContext, PsycopgConnector, exceptions
from procrastinate.jobs import Job, Status
from procrastinate.schema import SchemaManager
from procrastinate.types import JSONDict
from procrastinate.worker import Worker

from reconciler.daemon.queue import MOST_REASONS, Claim, KeyState
from reconciler.database import MIGRATING, PostgresDatabase, connecting
from reconciler.errors import StoreError
from reconciler.turns import Turn

log = logging.getLogger("reconciler.queue")
QUEUE, PASS, TIDY = "reconciler", "reconciler.pass", "reconciler.tidy"
LOST = "its worker was lost"
SOONER = """
UPDATE procrastinate_jobs SET
  scheduled_at = CASE WHEN scheduled_at IS NULL THEN NULL ELSE LEAST(scheduled_at, now() + make_interval(secs => %(after)s)) END,
  args = CASE WHEN jsonb_exists(args->'reasons', %(reason)s)
      OR (SELECT count(*) FROM jsonb_object_keys(args->'reasons')) < %(most)s
    THEN jsonb_set(args, ARRAY['reasons', %(reason)s], to_jsonb(LEAST(
      CASE WHEN %(after)s <= 0 THEN 0 ELSE extract(epoch FROM now())::float8 + %(after)s END,
      COALESCE((args->'reasons'->>%(reason)s)::float8, 'Infinity'))))
    ELSE args END
WHERE queueing_lock = %(key)s AND status = 'todo'
RETURNING pg_notify('procrastinate_queue_v1#' || queue_name, json_build_object('type', 'job_inserted', 'job_id', id)::text)
"""
MINE = "SELECT id, lock AS key FROM procrastinate_jobs WHERE status = 'doing' AND worker_id = %(worker)s AND task_name = %(task)s"
STATES = sa.text(
    "SELECT lock, status::text, GREATEST(0, extract(epoch FROM scheduled_at - now()))::float8 AS ahead,"
    " extract(epoch FROM now() - COALESCE(scheduled_at,"
    " (SELECT min(at) FROM procrastinate_events AS e WHERE e.job_id = j.id)))::float8 AS age"
    " FROM procrastinate_jobs AS j WHERE status IN ('todo', 'doing') AND lock IS NOT NULL ORDER BY lock, status"
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often the queue looks, in seconds: for work, for its own heartbeat, for the dead. ``stalled`` + ``sweep`` is the takeover."""

    poll: float = 0.5
    heartbeat: float = 3.0
    stalled: float = 15.0
    sweep: float = 2.0
    grace: float = 30.0
    keep_hours: int = 24


@dataclass(slots=True)
class _Given:
    """A job that this process has: waiting to be taken, or taken under a turn."""

    number: int
    key: str
    reasons: tuple[str, ...]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False
    turn: Turn | None = None


class PostgresQueue:
    """One daemon's end of the shared queue. ``workers`` is how many threads take from it."""

    shared = True

    def __init__(self, database: PostgresDatabase, *, workers: int, pace: Pace | None = None) -> None:
        """Make the tables when they are missing, and start the loop. Raises StoreError."""
        self._database, self._workers, self._pace = database, workers, pace or Pace()
        self._fetched: queue.SimpleQueue[_Given] = queue.SimpleQueue()
        self._given: dict[int, _Given] = {}
        self._kept: list[tuple[str, str, float]] = []
        self._closing = False
        self._app: App | None = None
        self._worker: Worker | None = None
        self._suspects: set[int] = set()
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # a server that is away is told once, not at every try
        make_tables(database)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="queue", daemon=True)
        self._opened = threading.Event()
        self._thread.start()
        self._opened.wait(10)

    # -- what the daemon's threads call --------------------------------------------------------------------------------------

    def request(self, key: str, reason: str, *, after: float = 0.0) -> None:
        """Ask for a look at ``key``. While the server cannot be reached the request is kept, and made when it can."""
        due = time.monotonic() + after

        async def ask() -> None:
            try:
                await self._ask(key, reason, after)
            except Exception as error:
                log.warning("%s: the request waits for the database (%s)", key, type(error).__name__)
                self._kept.append((key, reason, due))

        self._there(ask(), 10.0)

    def take(self, timeout: float) -> Claim | None:
        """Wait for a job of the shared queue, and for its turn."""
        end = time.monotonic() + timeout
        while not self._closing:
            try:
                given = self._fetched.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if given.gone:
                continue
            try:
                given.turn = self._database.turns.claim(given.key, label(given.number))
            except StoreError as error:
                log.warning("%s", error)
            if given.turn is not None:
                return Claim(given.key, given.reasons, given.number)
            self._put_back(given, after=1.0)
        return None

    def still_mine(self, claim: Claim) -> bool:
        """Ask the server whether it still knows us."""
        given = self._given.get(claim.number)
        return given is not None and given.turn is not None and given.turn.held()

    def done(self, claim: Claim) -> None:
        """Leave the turn and let the job end."""
        given = self._given.get(claim.number)
        if given is not None and given.turn is not None:
            self._database.turns.release(given.key, given.turn)
            self._end(given)

    def snapshot(self) -> list[KeyState]:
        """Give what every key is doing, on all machines; nothing while the server cannot be reached."""
        try:
            with self._database.reading() as connection:
                rows = connection.execute(STATES).all()
        except StoreError:
            return []
        return [
            KeyState(row.lock, "running", 0.0)
            if row.status == "doing"
            else KeyState(row.lock, "delayed" if row.ahead else "waiting", row.ahead or -row.age)
            for row in rows
        ]

    def overdue(self) -> float:
        """Give the seconds for which the longest waiting key could have been worked on and was not, by whichever daemon."""
        found = self.snapshot()
        running = {one.key for one in found if one.state == "running"}
        return max([0.0, *(-one.seconds for one in found if one.state == "waiting" and one.key not in running)])

    def __len__(self) -> int:
        """Count the keys that wait."""
        return sum(one.state != "running" for one in self.snapshot())

    def close(self) -> None:
        """Take no more jobs from the server; what was fetched and not begun goes back."""
        self._closing = True
        if self._worker is not None:
            self._worker.stop()  # type: ignore[no-untyped-call]  # as it comes
        while True:
            try:
                self._put_back(self._fetched.get_nowait())
            except queue.Empty:
                return

    def join(self, timeout: float) -> None:
        """Wait until the worker has signed off."""
        self._thread.join(timeout)

    # -- between the threads -------------------------------------------------------------------------------------------------

    def _there(self, work: Coroutine[Any, Any, None], timeout: float) -> None:
        """Run ``work`` on the loop, and wait for it a while: it goes on when the wait is over."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop has ended, and whatever starts next asks for every stack
            work.close()
            return
        with suppress(TimeoutError, asyncio.CancelledError):
            future.result(timeout)

    def _put_back(self, given: _Given, *, after: float = 0.0) -> None:
        for reason in given.reasons or ("resync",):
            self.request(given.key, reason, after=after)
        self._end(given)

    def _end(self, given: _Given) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(given.over.set)

    # -- the loop ------------------------------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        """Work until closed; begin anew whenever the server goes away."""
        while not self._closing:
            try:
                await self._connected()
            except Exception as error:
                log.error("the queue lost the database (%s); it tries again every second", type(error).__name__)
                await self._reachable()

    async def _reachable(self) -> None:
        """Wait until the server answers, with even steps: a pool's own pauses grow with the outage."""
        arguments = session(self._database)
        while not self._closing:
            await asyncio.sleep(min(1.0, self._pace.poll))
            with suppress(psycopg.Error):
                await (await psycopg.AsyncConnection.connect(**arguments)).close()
                return

    async def _connected(self) -> None:
        app = App(connector=connector(self._database))
        app.task(name=PASS, queue=QUEUE, pass_context=True)(self._visit)
        tidy = app.task(name=TIDY, queue=QUEUE, queueing_lock=TIDY, pass_context=True)(self._tidy)
        app.periodic(cron="17 * * * *")(tidy)  # also keeps procrastinate's watch over its side tasks alive, which ends with the first
        async with app.open_async():
            self._app = app
            self._opened.set()
            pace = self._pace
            self._worker = worker = Worker(
                app,
                queues=[QUEUE],
                concurrency=self._workers,
                fetch_job_polling_interval=pace.poll,
                update_heartbeat_interval=pace.heartbeat,
                stalled_worker_timeout=pace.stalled,
                shutdown_graceful_timeout=pace.grace,
                install_signal_handlers=False,
            )
            sweeper = asyncio.create_task(self._sweep(app, worker))
            try:
                if not self._closing:
                    await worker.run()  # type: ignore[no-untyped-call]  # as it comes
            finally:
                self._worker = None
                sweeper.cancel()
                with suppress(asyncio.CancelledError):
                    await sweeper
                self._app = None

    async def _visit(self, context: JobContext, reasons: Mapping[str, float]) -> None:
        """Hand a job to a thread, and end when it has."""
        job = context.job
        assert job.id is not None
        assert job.lock is not None
        due = job.scheduled_at.timestamp() + 0.001 if job.scheduled_at else 0.0  # what lay later did not cause this look
        given = _Given(job.id, job.lock, tuple(reason for reason, when in reasons.items() if when <= due))
        self._given[job.id] = given
        self._fetched.put(given)
        try:
            await given.over.wait()
        finally:
            given.gone = True
            del self._given[job.id]

    async def _tidy(self, context: JobContext, timestamp: int) -> None:
        """Forget jobs that ended long ago, once an hour and by one of all daemons."""
        await context.app.job_manager.delete_old_jobs(
            self._pace.keep_hours, include_failed=True, include_aborted=True, include_cancelled=True
        )

    async def _ask(self, key: str, reason: str, after: float) -> None:
        """Insert the one job that waits, or bring it forward and add the reason."""
        if self._app is None:
            raise exceptions.ConnectorException
        jobs = self._app.job_manager
        for _ in range(5):
            now = (await jobs.connector.execute_query_one_async("SELECT now() AS now"))["now"] if after > 0 else None
            when = now + timedelta(seconds=after) if now is not None else None
            known: JSONDict = {"reasons": {reason: when.timestamp() if when is not None else 0.0}}
            job = Job(task_name=PASS, queue=QUEUE, lock=key, queueing_lock=key, task_kwargs=known, scheduled_at=when)
            try:
                await jobs.defer_job_async(job)
                return
            except exceptions.AlreadyEnqueued:
                asked = {"key": key, "reason": reason, "after": after, "most": MOST_REASONS}
                if await jobs.connector.execute_query_all_async(SOONER, **asked):
                    return  # else it was begun between the two, and might not have seen what we saw

    # -- the dead ------------------------------------------------------------------------------------------------------------

    async def _sweep(self, app: App, worker: Worker) -> None:
        """End the jobs of workers that no longer answer, and make what could not be asked for."""
        while True:
            try:
                await self._make_kept()
                stalled = await app.job_manager.get_stalled_jobs(queue=QUEUE, seconds_since_heartbeat=self._pace.stalled)
                for job in [*stalled, *await self._dropped(app, worker)]:
                    await self._bury(app, job)
            except Exception as error:
                log.warning("the queue could not be swept (%s)", type(error).__name__)
            await asyncio.sleep(self._pace.sweep)

    async def _make_kept(self) -> None:
        while self._kept:
            key, reason, due = self._kept[0]
            await self._ask(key, reason, max(0.0, due - time.monotonic()))
            self._kept.pop(0)

    async def _dropped(self, app: App, worker: Worker) -> list[Job]:
        """Give the jobs that the server thinks are ours and are not, twice in a row: their end could not be written."""
        rows = await app.job_manager.connector.execute_query_all_async(MINE, worker=worker.worker_id, task=PASS)
        strange = {row["id"]: row["key"] for row in rows if row["id"] not in self._given}
        twice, self._suspects = self._suspects & set(strange), set(strange) - self._suspects
        return [Job(id=id, queue=QUEUE, lock=strange[id], queueing_lock=strange[id], task_name=PASS) for id in sorted(twice)]

    async def _bury(self, app: App, job: Job) -> None:
        """Ask anew, end the job, and end the session that is its fence: who wakes then knows that it is late."""
        assert job.id is not None
        if job.lock is not None and job.task_name == PASS:
            log.warning("%s: %s; another look is asked for", job.lock, LOST)
            await self._ask(job.lock, LOST, 0.0)
            await asyncio.to_thread(self._database.locks.end, job.lock, label(job.id))
        with suppress(exceptions.ConnectorException):  # another daemon was faster
            await app.job_manager.finish_job_by_id_async(job.id, Status.FAILED, delete_job=False)


def label(number: int) -> str:
    """Give the name under which the session that fences a job is known to the server."""
    return f"reconciler pass {number}"


def session(database: PostgresDatabase) -> dict[str, Any]:
    """Give what a connection of the queue is opened with."""
    _, arguments = database.engine.dialect.create_connect_args(database.url)
    return {**arguments, **connecting()}


def connector(database: PostgresDatabase) -> PsycopgConnector:
    """Give procrastinate connections of its own."""
    return PsycopgConnector(kwargs=session(database), min_size=1, max_size=4, timeout=3.0, reconnect_timeout=2.0)


def make_tables(database: PostgresDatabase) -> None:
    """Make procrastinate's tables, by one daemon at a time."""
    with database.transaction() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATING})
        if connection.execute(sa.text("SELECT to_regclass('procrastinate_jobs')")).scalar() is None:
            raw: Any = connection.connection.driver_connection
            raw.execute(SchemaManager.get_schema())

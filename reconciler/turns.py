"""Whose turn it is: one process at a time converges a stack, and one at a time sends notices.

Two that create the same thing at the same time would make it twice where a system has no names, as Uptime Kuma has none. On one machine
a turn is a lock on a file, which ends with the process, however that ends. On PostgreSQL it is a session advisory lock on a connection
of its own: when the server lets that connection go, the turn is lost, and ``held`` says so before the next write.

Who is to be replaced when its process freezes takes a turn that beats: the server ends a session of which it hears nothing for a while.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import sqlalchemy as sa

from reconciler.errors import StoreError

log = logging.getLogger("reconciler.turns")
TRY = sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
WAIT = sa.text("SELECT pg_advisory_lock(hashtextextended(:name, 0))")
LEAVE = sa.text("SELECT pg_advisory_unlock_all(), set_config('idle_session_timeout', '0', false)")
CALLED = sa.text("SELECT set_config('application_name', :label, false), set_config('idle_session_timeout', :silence, false)")
HOLDERS = (
    "FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (l.classid::bigint << 32) + l.objid::bigint = hashtextextended(:name, 0) AND a.application_name = :label"
)
END = sa.text(f"SELECT pg_terminate_backend(l.pid) {HOLDERS}")
LABEL = "reconciler"
SILENCE, BEAT = 15.0, 4.0
"""Seconds after which the server ends the session of a turn that beats and is silent, and between two beats of it."""


class Turn(Protocol):
    """A turn that was given. Ends with ``leave``, with the process, or by being lost."""

    def held(self) -> bool:
        """Say whether it is still ours; asks the server where there is one."""
        ...

    def leave(self) -> None:
        """Let the next one in."""
        ...


class Turns(Protocol):
    """Gives turns by name, to all processes that share one database."""

    def take(self, name: str, *, wait: bool, label: str = LABEL, beats: bool = False) -> Turn | None:
        """Give the turn; without ``wait``, None when another has it. ``label`` says on the server who holds it.

        One that ``beats`` passes on though its process is not dead but frozen, where there is a server that can tell.
        """
        ...


@dataclass(slots=True)
class FileTurn:
    """A lock on a file. Nobody can take it from a process that lives."""

    number: int

    def held(self) -> bool:
        """Say yes until it was left."""
        return self.number >= 0

    def leave(self) -> None:
        """Release the lock."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)


@dataclass(frozen=True, slots=True)
class FileTurns:
    """Locks beside the database file."""

    path: Path

    def take(self, name: str, *, wait: bool, label: str = LABEL, beats: bool = False) -> FileTurn | None:
        """Lock ``<database>.<name>.lock``. Raises StoreError when that file cannot be made."""
        path = Path(f"{self.path}.{quote(name, safe='')}.lock")
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{path}: cannot be made, so nobody knows whose turn it is: {error.strerror}") from None
        try:
            fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException as error:
            os.close(number)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return FileTurn(number)


class AdvisoryTurn:
    """A session advisory lock. Thread-safe, because the writers of one wave all ask."""

    def __init__(self, name: str, connection: sa.Connection) -> None:
        """Take over the connection whose session has the lock."""
        self.name, self.connection = name, connection
        self.lock = threading.RLock()
        self._lost = False
        self._left = threading.Event()

    def beat(self, seconds: float) -> None:
        """Let the server hear of us so often, on a thread of its own, until the turn was left or lost."""

        def say() -> None:
            while not self._left.wait(seconds) and self.held():
                pass

        threading.Thread(target=say, name=f"turn {self.name.strip()}", daemon=True).start()

    def held(self) -> bool:
        """Ask the server; a session that it let go has lost the lock, and never gets it back."""
        with self.lock:
            if not self._lost:
                try:
                    with self._session():
                        self.connection.execute(sa.text("SELECT 1"))
                        self.connection.commit()
                except Exception as error:  # whatever the reason, the lock cannot be vouched for
                    self._lost = True
                    log.warning("%s: the turn was lost (%s)", self.name, type(error).__name__)
            return not self._lost

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Give a transaction in the session that has the lock. Raises StoreError when that session has ended; nothing is written then."""
        with self.lock, self._session(), self.connection.begin():
            yield self.connection

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Use the connection as long as it is the one that has the lock: the library would quietly open another in its place."""
        if self._lost or self.connection.invalidated:
            self._lost = True
            raise StoreError(f"{self.name}: the session that had the turn has ended")
        yield

    def leave(self) -> None:
        """Release the lock and the connection."""
        self._left.set()
        with self.lock:
            try:
                if not self._lost:
                    with self._session():
                        self.connection.execute(LEAVE)
                        self.connection.commit()
            except Exception:  # the session is gone, and the lock with it
                self._lost = True
            if self._lost:
                with suppress(Exception):
                    self.connection.invalidate()
            self._lost = True
            with suppress(Exception):
                self.connection.close()


@dataclass(frozen=True, slots=True)
class AdvisoryTurns:
    """Advisory locks of one database. ``connect`` gives a connection of which no transaction is open.

    ``silence`` and ``pause`` are the seconds after which a turn that beats is lost, and between two beats.
    """

    connect: Callable[[], sa.Connection]
    silence: float = SILENCE
    pause: float = BEAT

    def take(self, name: str, *, wait: bool, label: str = LABEL, beats: bool = False) -> AdvisoryTurn | None:
        """Lock the hash of ``name``. Raises StoreError when the server cannot be asked."""
        connection = self.connect()
        try:
            connection.execute(CALLED, {"label": label, "silence": f"{self.silence * 1000:.0f}" if beats else "0"})
            got = connection.execute(WAIT if wait else TRY, {"name": name}).scalar()
            connection.commit()
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        turn = AdvisoryTurn(name, connection)
        if got is False:
            turn.leave()
            return None
        if beats:
            turn.beat(self.pause)
        return turn

    def end(self, name: str, label: str) -> bool:
        """End the session that holds ``name``, when it is the one called ``label``: its process no longer answers."""
        with self.connect() as connection:
            found = connection.execute(END, {"name": name, "label": label}).all()
            connection.commit()
        return bool(found)


class Lent:
    """The turns that a thread has at the moment, by name, so that a pass enters the turn that its claim came with."""

    def __init__(self, turns: Turns) -> None:
        """Hold none."""
        self.turns = turns
        self._local = threading.local()

    def _mine(self) -> dict[str, Turn]:
        found: dict[str, Turn] = self._local.__dict__.setdefault("turns", {})
        return found

    def claim(self, name: str, label: str = LABEL) -> Turn | None:
        """Take a turn that this thread enters later; None when another has it."""
        turn = self.turns.take(name, wait=False, label=label)
        if turn is not None:
            self._mine()[name] = turn
        return turn

    def current(self, name: str) -> Turn | None:
        """Give the turn that this thread has, or None."""
        return self._mine().get(name)

    def release(self, name: str, turn: Turn) -> None:
        """Leave a turn that was claimed, in whichever thread."""
        if self._mine().get(name) is turn:
            del self._mine()[name]
        turn.leave()

    @contextmanager
    def enter(self, name: str) -> Iterator[Turn]:
        """Give the turn that this thread claimed, or wait for one and leave it at the end."""
        if (mine := self.current(name)) is not None:
            yield mine
            return
        turn = self.turns.take(name, wait=True)
        assert turn is not None, "who waits gets it"
        self._mine()[name] = turn
        try:
            yield turn
        finally:
            self.release(name, turn)

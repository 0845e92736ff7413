"""Where the store is kept: a SQLite file, or PostgreSQL when daemons share it. Opens, migrates, and says what is wrong in plain words.

Every trouble with the database comes out as StoreError, wherever it happens; the passes go on without a memory. No text of this room
holds a password.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

import sqlalchemy as sa

from reconciler.errors import ReconcilerError, SettingsError, StoreError
from reconciler.settings import State
from reconciler.turns import AdvisoryTurn, AdvisoryTurns, FileTurns, Lent

log = logging.getLogger("reconciler.database")
DRIVER = "postgresql+psycopg"
MAGIC = b"SQLite format 3\x00"
BROKEN = ("malformed", "not a database")
FULL = ("is full", "No space left", "could not extend")
MIGRATING = 7_236_412_518
"""The advisory lock under which one daemon at a time looks at the schema."""
ALONE = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 1))")


class Database(Protocol):
    """What the store needs of its place. ``name`` is how it is called in errors."""

    name: str
    engine: sa.Engine
    turns: Lent
    shared: bool

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """Give a context manager with a connection in a transaction."""
        ...

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Give a context manager with a connection to read from."""
        ...

    def recording(self, stack: str) -> AbstractContextManager[sa.Connection]:
        """Give a transaction that fails when the turn at ``stack`` was lost meanwhile."""
        ...

    def mend(self, error: StoreError) -> bool:
        """Start afresh after ``error`` where that helps; say whether it did."""
        ...

    def vacuum(self) -> None:
        """Give the room of what was deleted back to the system, where that does not happen by itself."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


def _complaining(engine: sa.Engine, name: str) -> None:
    """Make every error of the database, wherever it comes up, a StoreError."""

    @sa.event.listens_for(engine, "handle_error")
    def _(context: Any) -> None:
        error = context.original_exception
        if context.is_pre_ping:  # a connection that was cut is replaced; only when that fails is there trouble
            return
        if isinstance(context.sqlalchemy_exception, sa.exc.IntegrityError | sa.exc.ProgrammingError | sa.exc.DataError):
            return
        if isinstance(context.sqlalchemy_exception, sa.exc.DBAPIError) or isinstance(error, sqlite3.Error):
            raise trouble(name, error) from None


def trouble(name: str, error: BaseException) -> StoreError:
    """Say what is wrong with the database, and what to do about it."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    broken = any(word in text for word in BROKEN)
    if any(word in text for word in FULL):
        hint = "make room; the passes go on, and what happens meanwhile is missing from the history"
    elif "locked" in text:
        hint = "another program holds it; the passes go on, and what happens meanwhile is missing from the history"
    elif "readonly" in text or "read-only" in text or "unable to open" in text:
        hint = "set state.path to a file that this user may write"
    elif broken:
        hint = "move it away; only history is lost"
    else:
        hint = "see whether the server runs and lets us in (state.url)" if name.startswith("postgresql") else "see the state of the disk"
    return StoreError(f"{name}: cannot be used as the database: {text}; {hint}", broken=broken)


class SqliteDatabase:
    """One file with one writing connection. ``heal`` moves a broken one aside and starts afresh, which loses history only."""

    shared = False

    def __init__(self, path: Path, *, read_only: bool = False, heal: bool = False) -> None:
        """Open ``path``, made and migrated when needed. Raises ReconcilerError when the file is not a database of ours."""
        self.path, self.name, self._heal = path, str(path), heal
        self.turns = Lent(FileTurns(path))
        self.lock = RLock()
        self._read_only = read_only and path.exists()
        self._location = ":memory:" if read_only and not path.exists() else str(path)
        self.engine = self._opened()
        try:
            self._prepare()
        except StoreError as error:
            if not self.mend(error):
                self.engine.dispose()
                raise

    def _opened(self) -> sa.Engine:
        location = f"{self.path.absolute().as_uri()}?mode=ro" if self._read_only else self._location
        engine = sa.create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(location, uri=self._read_only, check_same_thread=False, timeout=5),
            poolclass=sa.pool.StaticPool,
        )
        _complaining(engine, self.name)
        return engine

    def _prepare(self) -> None:
        with self.engine.connect() as connection:
            if not self._read_only:
                for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON"):
                    connection.exec_driver_sql(f"PRAGMA {pragma}")
            if self._heal and (said := connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()) != "ok":
                raise trouble(self.name, sqlite3.DatabaseError(f"malformed: {said}"))
            connection.commit()
            prepare(connection, self.name, read_only=self._read_only)

    def mend(self, error: StoreError) -> bool:
        """Move a broken database aside and open a new one. A file that never was a database is somebody's, and stays."""
        if not (self._heal and error.broken and self._ours()):
            return False
        aside = f"{self.path}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        with self.lock:
            self.engine.dispose()
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{end}").rename(f"{aside}{end}")
            log.error("%s; it was moved to %s, and a new one was begun", error, aside)
            self.engine = self._opened()
            self._prepare()
        return True

    def _ours(self) -> bool:
        """Say whether the file was a database once: it begins like one, or lost its beginning and left a journal or zeros."""
        try:
            with self.path.open("rb") as file:
                start = file.read(len(MAGIC))
        except OSError:
            return False
        return start == MAGIC or not start.strip(b"\0") or Path(f"{self.path}-wal").exists()

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Write, alone."""
        with self.lock, self.engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Read, alone: there is one connection."""
        with self.lock, self.engine.connect() as connection:
            yield connection

    def recording(self, stack: str) -> AbstractContextManager[sa.Connection]:
        """Write; a turn on one machine cannot be lost."""
        return self.transaction()

    def vacuum(self) -> None:
        """Rewrite the file when a quarter of it is empty. Raises StoreError, when there is no room for a copy for one."""
        with self.lock, self.engine.connect() as connection:
            free, pages = (connection.exec_driver_sql(f"PRAGMA {one}_count").scalar_one() for one in ("freelist", "page"))
            connection.commit()
            if free * 4 > pages:
                connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")

    def close(self) -> None:
        """Close the file."""
        self.engine.dispose()


class PostgresDatabase:
    """A database on a server. Each process has a few connections, and one more for each stack that it converges at the moment."""

    shared = True

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        """Connect to ``url`` and migrate when needed. Raises SettingsError for a URL that is none, StoreError when nobody answers."""
        self.url = _parsed(url)
        self.name = self.url.set(password=None, query={}, drivername="postgresql").render_as_string()
        self.engine = self._opened(read_only=read_only, pool_size=4, max_overflow=16)
        self._sessions = self._opened(read_only=False, pool_size=4, max_overflow=-1)
        self.locks = AdvisoryTurns(self._sessions.connect)
        self.turns = Lent(self.locks)
        try:
            with self.engine.begin() as connection:
                if not read_only:
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATING})
                prepare(connection, self.name, read_only=read_only)
        except BaseException:
            self.close()
            raise

    def _opened(self, *, read_only: bool, **more: Any) -> sa.Engine:
        engine = sa.create_engine(self.url, pool_pre_ping=True, hide_parameters=True, connect_args=connecting(read_only=read_only), **more)
        _complaining(engine, self.name)
        return engine

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """Write."""
        return self.engine.begin()

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Read."""
        return self.engine.connect()

    def recording(self, stack: str) -> AbstractContextManager[sa.Connection]:
        """Write in the session that has the turn at ``stack``: when the turn is lost, so is the transaction."""
        turn = self.turns.current(stack)
        return turn.transaction() if isinstance(turn, AdvisoryTurn) else self.engine.begin()

    def mend(self, error: StoreError) -> bool:
        """Do nothing: a server is mended by its people."""
        return False

    def vacuum(self) -> None:
        """Do nothing: the server does."""

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self._sessions.dispose()


def alone(connection: sa.Connection, name: str) -> None:
    """Let no other transaction go on that says the same ``name``, until this one ends. SQLite lets one write at a time anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(ALONE, {"name": name})


def connecting(*, read_only: bool = False) -> dict[str, Any]:
    """Give what every connection to PostgreSQL is opened with: either side learns within some 15 seconds that the other is gone.

    A process that is frozen in the middle of a transaction is as good as gone, and what it had locked is let go.
    """
    session = {
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 3,
        "tcp_keepalives_count": 3,
        "client_connection_check_interval": 5000,
        "idle_in_transaction_session_timeout": 15_000,
    }
    if read_only:
        session["default_transaction_read_only"] = 1
    return {
        "connect_timeout": 10,
        "keepalives_idle": 5,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
    }


def _parsed(url: str) -> sa.URL:
    wanted = f"state.url: must be {DRIVER}://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        found = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # its text may hold the password
        raise SettingsError(wanted) from None
    if found.drivername not in (DRIVER, "postgresql") or not found.database:
        raise SettingsError(wanted)
    return found.set(drivername=DRIVER)


def prepare(connection: sa.Connection, name: str, *, read_only: bool) -> None:
    """Bring the schema to what this version needs. Raises ReconcilerError when a newer version made it, or nobody yet and we only read."""
    from reconciler.state import HEAD

    tables = sa.inspect(connection).get_table_names()
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() if "alembic_version" in tables else None
    if (found is not None and found > HEAD) or (read_only and found != HEAD):
        raise ReconcilerError(
            f"{name}: holds schema {found or 'none'}, this version needs {HEAD}; name another database, or let the daemon migrate it"
        )
    if found == HEAD:
        return
    from alembic import command  # a second of import that only a new or old database pays
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        connection.commit()


def open_database(where: Path | State, *, read_only: bool = False, heal: bool = False) -> Database:
    """Open what the settings name, or a SQLite file."""
    if isinstance(where, State) and (url := where.url.get_secret_value()):
        return PostgresDatabase(url, read_only=read_only)
    return SqliteDatabase(where.path if isinstance(where, State) else where, read_only=read_only, heal=heal)


def unless_there(connection: sa.Connection, table: sa.Table) -> Any:
    """Give an INSERT that leaves a row with the same key as it is, also when another process writes the same at this moment."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # two megabytes that only those pay who share

        return postgresql.insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table).on_conflict_do_nothing()

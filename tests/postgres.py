"""A PostgreSQL of the tests' own: started in a temporary folder, on loopback, with a password, and gone with the tests."""

import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psycopg

PASSWORD = "canary-" + secrets.token_hex(8)
USER = "reconciler"


def binaries() -> Path | None:
    """The folder of initdb and postgres, the newest version first; None when it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]), reverse=True)
    if found:
        return found[0].parent
    there = shutil.which("initdb")
    return Path(there).resolve().parent if there else None


def owner() -> str | None:
    """The user that the server runs as: initdb refuses root."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return pwd.getpwnam("nobody").pw_name


def _children(process: int) -> list[int]:
    """The processes that one started; each server process is a session of its own and in no group with the others."""
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


class PostgresServer:
    """One server; every test takes a database of its own."""

    def __init__(self) -> None:
        found = binaries()
        assert found is not None
        self.bin = found
        self.root = Path(tempfile.mkdtemp(prefix="reconciler-pg-"))
        self.user = owner()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.numbers = itertools.count(1)
        self.process: subprocess.Popen[bytes] | None = None
        word = self.root / "password"
        word.write_text(PASSWORD)
        if self.user:
            for path in (self.root, word):
                shutil.chown(path, self.user)
        self._run(
            "initdb", "-D", str(self.root / "data"), "-U", USER, "-A", "scram-sha-256", "--pwfile", str(word), "--no-sync", "-E", "UTF8"
        )

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([self.bin / program, *arguments], user=self.user, capture_output=True, text=True, cwd=self.root, check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.root,
            "fsync": "off",
            "max_connections": 100,
        }
        command = [str(self.bin / "postgres"), "-D", str(self.root / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        log = (self.root / "log").open("ab")
        self.process = subprocess.Popen(command, user=self.user, stdout=log, stderr=log, cwd=self.root)
        log.close()
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres").replace("+psycopg", ""), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.root / "log").read_text()
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End every session at once (SIGINT, a fast shutdown), or as a crash would (SIGQUIT)."""
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:  # a server that is told to end in the middle of a fork may wait for ever
                for one in (self.process.pid, *_children(self.process.pid)):
                    with suppress(ProcessLookupError):
                        os.kill(one, signal.SIGKILL)
                self.process.wait(timeout=10)
            self.process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.root, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Make an empty database; give its URL."""
        name = f"test{next(self.numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database).replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(sql)  # type: ignore[call-overload]  # the tests' own texts
            return cursor.fetchall() if cursor.description else []

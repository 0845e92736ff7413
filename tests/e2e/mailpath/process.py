"""A server of the lab: a process in a group of its own, which ends with the test."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class Server:
    """One real server, started by its command; all that it starts is in its process group."""

    def __init__(self, command: Sequence[str | Path], log: Path, *more: Path) -> None:
        """``log`` takes what the process prints; ``more`` are logs that it writes itself, shown when it fails."""
        self._logs = (log, *more)
        with log.open("ab") as out:
            # a server hears of it when the test is killed; Postfix's master does not, because it changes accounts while it starts
            guarded = ["setpriv", "--pdeathsig", "TERM", "--", *command]
            self.process = subprocess.Popen(guarded, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def wait_for(self, address: tuple[str, int], patience: float = 10) -> None:
        """Return when the address takes connections; raises AssertionError with what the server printed."""
        end = time.monotonic() + patience
        while not listens(address):
            said = "".join(one.read_text(errors="replace") for one in self._logs if one.exists())
            assert self.process.poll() is None, f"{self.process.args!r} ended: {said}"
            assert time.monotonic() < end, f"{self.process.args!r} does not listen on {address}\n{said}"
            time.sleep(0.05)

    def stop(self) -> None:
        """End the process, and then whatever it left behind."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def listens(address: tuple[str, int]) -> bool:
    """Say whether something takes connections at the address."""
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def wait_for(doors: Mapping[tuple[str, int], Server]) -> None:
    """Return when every address is open, or stop all the servers and raise what went wrong."""
    try:
        for address, server in doors.items():
            server.wait_for(address)
    except BaseException:
        for server in set(doors.values()):
            server.stop()
        raise

"""The firewall's half: real HAProxy on the rendered haproxy.cfg, and the forwards that the rendered rules ask for."""

import csv
import io
import re
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from reconciler.sandbox.wires import Address
from tests.e2e.mailpath.process import Server, wait_for

PRIVATE = re.compile(r"^\t(chroot|daemon|gid|server-state-file|uid)\b.*\n", re.MULTILINE)
"""Lines that belong to the machine and not to the path: a second instance must not share what they name.

Who changes its account is not told any more that the test has died, hence the accounts.
"""


class HAProxy:
    """Runs a haproxy.cfg as it is, but for where it keeps its own files."""

    def __init__(self, text: str, folder: Path, door: Address) -> None:
        """``door`` is an address that answers when it runs."""
        self._socket = folder / "haproxy.sock"
        self._file = folder / "haproxy.cfg"
        self._file.write_text(PRIVATE.sub("", text).replace("/tmp/haproxy.socket", str(self._socket)))
        self._log, self._door = folder / "haproxy.log", door

    def start(self) -> None:
        """Start; returns when the door is open."""
        program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert program is not None
        self._server = Server([program, "-db", "-f", self._file], self._log)
        wait_for({self._door: self._server})

    def stop(self) -> None:
        """End it."""
        self._server.stop()

    def states(self, backend: str) -> Mapping[str, str]:
        """Give the servers of the backends whose names begin so, each with its state and what the last check was."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self._socket))
            asking.sendall(b"show stat\n")
            answer = asking.makefile().read().removeprefix("# ")
        rows = [one for one in csv.DictReader(io.StringIO(answer)) if one["pxname"].startswith(backend)]
        servers = [one for one in rows if one["svname"] not in ("FRONTEND", "BACKEND")]
        return {f"{one['pxname']}/{one['svname']}": f"{one['status']} {one['check_status'].removeprefix('* ')}" for one in servers}

    def wait_for_checks(self, backend: str, count: int, patience: float = 15) -> Mapping[str, str]:
        """Return when ``count`` servers are up by a check of their own, and give the states in any case."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            states = self.states(backend)
            if len(states) == count and all(one == "UP L4OK" for one in states.values()):
                break
            time.sleep(0.1)
        return states


def check_ports(text: str) -> set[Address]:
    """Read out of a haproxy.cfg which addresses its health checks go to."""
    checked = (line for line in text.splitlines() if line.strip().startswith("server") and " check " in line)
    found = (re.search(r"server\s+\S+ (\S+):(\d+) .*?(?: port (\d+))?$", line.strip()) for line in checked)
    return {(one[1], int(one[3] or one[2])) for one in found if one}


def passed(rules: str, target: Address) -> bool:
    """Say whether a pass rule lets what was forwarded reach its target; without one, pf drops it."""
    return re.search(rf"^pass .* to {re.escape(target[0])} port {target[1]}\b", rules, re.MULTILINE) is not None

"""What a process that lives for months does to stay small: it keeps no code that it needs once or never, and hands back free memory.

Called where the daemon starts and between two passes. It decides nothing and never stops anything: whatever does not work here costs
memory only. See docs/decisions/0025.
"""

import ctypes
import gc
import json
import logging
import subprocess
import sys
from contextlib import suppress

from reconciler.errors import ReconcilerError, SettingsError, StoreError
from reconciler.settings import State

log = logging.getLogger("reconciler.lean")
ARENAS, M_ARENA_MAX = 2, -8
"""glibc gives each thread a heap of its own, up to eight for each core, and hands little of them back (mallopt(3))."""
UNUSED = ("httpx._main",)
"""Command lines of libraries. Each is left out by its library when it cannot be imported, with all the highlighting that it needs."""
PATIENCE = 300.0
"""Seconds that a migration may take."""


class Settling:
    """Notes how much code there was when it was last taken for here to stay."""

    def __init__(self) -> None:
        """Have settled nothing yet."""
        self._modules = 0

    def settle(self) -> bool:
        """Take what is alive for here to stay, if new code came since the last time; say whether that was so.

        The collector does not walk through it again: without this, each of its full rounds stops every thread for a tenth of a second.
        """
        if len(sys.modules) == self._modules:
            return False
        self._modules = len(sys.modules)
        gc.collect()
        gc.freeze()
        with suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
        return True


def begin() -> None:
    """Set this process up for a long life. Before the first thread, and before anything imports an HTTP client."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # "not to be found" (Python reference, 5.3.1)


def migrate(state: State) -> None:
    """Let another process make or migrate the database, when it must be: what that takes would stay in this one for months.

    What goes wrong there goes wrong again where this process opens the database, and is told there.
    """
    from reconciler.state import Store

    url = state.url.get_secret_value()
    if url or state.path.exists():
        try:
            Store(state, read_only=True).close()
            return
        except (StoreError, SettingsError):  # nobody answers, or it is broken: a second process would only wait as long
            return
        except ReconcilerError:  # it holds another schema, or none
            pass
    with suppress(OSError, subprocess.TimeoutExpired):
        wanted = json.dumps({"path": str(state.path), "url": url})
        command = [sys.executable, "-P", "-m", "reconciler.migrations"]  # -P: never from where we happen to stand
        done = subprocess.run(command, input=wanted, capture_output=True, text=True, timeout=PATIENCE, check=False)  # noqa: S603 - ourselves
        if done.returncode:
            log.debug("the database was not prepared aside: %s", done.stderr[-500:])

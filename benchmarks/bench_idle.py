"""What the daemon holds when it has converged desired/mail and waits, every target configured and open."""

import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import yaml

from benchmarks.common import PROGRAM, figure
from reconciler.clock import Clock
from reconciler.desired import desired_below
from reconciler.errors import ReconcilerError
from reconciler.registry import catalog
from reconciler.sandbox.world import World
from reconciler.state import Store

HTTP = {
    "listen": "127.0.0.1:0",
    "tokens": {"bench": {"token": "a-token-of-the-benchmark", "role": "read"}},
    "webhooks": {"forge": {"scheme": "github", "secrets": ["a-secret-of-the-benchmark"]}},
}


def measure() -> list[dict[str, object]]:
    """Measure the daemon's process beside an embedded world in this one."""
    kinds = catalog()
    stack = desired_below(Path("desired/mail")).load("mail", kinds, Clock().now().date())
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), kinds, stack)
        world.start()
        world.remote.copy(Path("desired"), "desired")
        world.remote.edit("desired/mail/stack.yaml", world.with_own_key)
        world.remote.push("Run our own mail")
        settings = Path(folder) / "reconciler.yaml"
        settings.write_text(yaml.safe_dump({**yaml.safe_load(world.settings_text()), "http": HTTP}), encoding="utf-8")
        daemon = subprocess.Popen([PROGRAM, "--settings", str(settings), "run"])
        try:
            _wait(Path(folder) / "reconciler.db")
            resident = _resident(daemon.pid)
        finally:
            daemon.terminate()
            daemon.wait(timeout=30)
            world.stop()
    return [figure("memory of the daemon, converged and idle, everything configured", resident, "MB", 160)]


def _wait(database: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        time.sleep(1)
        with suppress(ReconcilerError):  # while the daemon makes the database
            store = Store(database, read_only=True)
            run = store.latest("mail")
            store.close()
            if run is not None and run["verdict"] == "converged":
                time.sleep(3)
                return
    raise RuntimeError("the daemon did not converge within two minutes")


def _resident(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024

"""How long a push of the whole mail system takes until it runs, on the emulated systems, and how long a pass that changes nothing.

The daemon has been running: its targets are open, and nothing of the mail system is there yet.
"""

import shutil
import tempfile
import time
from datetime import datetime
from pathlib import Path

import yaml

from benchmarks.common import figure
from benchmarks.daemons import Running
from reconciler.clock import Clock
from reconciler.desired import desired_below
from reconciler.registry import catalog
from reconciler.sandbox.world import World

PASSES = 5


def measure() -> list[dict[str, object]]:
    """Measure the daemon's process beside an embedded world in this one."""
    kinds = catalog()
    stack = desired_below(Path("desired/mail")).load("mail", kinds, Clock().now().date())
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), kinds, stack)
        world.start()
        try:
            (world.remote.work / "desired/mail").mkdir(parents=True)
            shutil.copy("desired/mail/stack.yaml", world.remote.work / "desired/mail")
            world.remote.push("Begin with a stack that has nothing in it yet")
            daemon = Running(Path(folder), yaml.safe_load(world.settings_text()))
            try:
                return _measured(daemon, world)
            finally:
                daemon.stop()
        finally:
            world.stop()


def _measured(daemon: Running, world: World) -> list[dict[str, object]]:
    daemon.until(lambda: daemon.converged("mail", world.remote.head()), "the empty stack")
    world.remote.copy(Path("desired"), "desired")
    world.remote.edit("desired/mail/stack.yaml", world.with_own_key)
    commit = world.remote.push("Run our own mail")
    began = time.monotonic()
    daemon.webhook()
    pushed = daemon.until(lambda: daemon.converged("mail", commit), "the mail system", pause=0.05) - began
    for _ in range(PASSES):
        _pass(daemon)
    unchanged = min(_seconds(one) for one in daemon.runs("mail")[:PASSES])
    return [
        figure("from the push of desired/mail until it is converged", pushed, "s", 5),
        figure("a pass of desired/mail that changes nothing", unchanged, "s", 1),
    ]


def _pass(daemon: Running) -> None:
    before = len(daemon.runs("mail"))
    daemon.trigger("mail")
    daemon.until(lambda: len(daemon.runs("mail")) > before, "a pass", pause=0.05)


def _seconds(run: dict[str, str]) -> float:
    return (datetime.fromisoformat(run["finished"]) - datetime.fromisoformat(run["started"])).total_seconds()

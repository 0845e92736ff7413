"""A day of the daemon in simulated time, with faults: what it remembers of it in memory and on disk.

20 stacks of 10 resources look every five minutes; systems answer badly, drift and refuse; a commit comes every hour, every sixth is wrong.
The daemon is the real one, driven by hand over a clock that jumps; the system is in the process and keeps nothing.
"""

import gc
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

from benchmarks.common import figure
from benchmarks.scale_world import CATALOG, stacks
from reconciler.clock import Clock
from reconciler.compose import Workshop
from reconciler.daemon.housekeeping import Housekeeper
from reconciler.daemon.loop import Daemon
from reconciler.daemon.outbox import Outbox
from reconciler.daemon.queue import KeyedQueue
from reconciler.daemon.recording import recorder
from reconciler.desired import Desired, desired_from
from reconciler.engine import Engine
from reconciler.notify import Notice
from reconciler.settings import Engine as EngineSettings
from reconciler.settings import Settings, State
from reconciler.source import Revision
from reconciler.state import Store

HOUR, STACKS, RESOURCES = 3600.0, 20, 10
BEGAN = datetime(2026, 4, 1, tzinfo=UTC)


@dataclass
class Time:
    """Seconds that pass when somebody waits."""

    seconds: float = 0.0

    def clock(self) -> Clock:
        """Give a clock that shows it."""
        return Clock(lambda: BEGAN + timedelta(seconds=self.seconds), lambda: self.seconds, self.wait)

    def wait(self, stop: Event, seconds: float) -> bool:
        """Let the seconds pass at once."""
        self.seconds += seconds
        return stop.is_set()


class Nobody:
    """A sink that counts, and a head that never has anything new."""

    told = 0

    def send(self, notice: Notice) -> None:
        """Count."""
        self.told += 1

    def changed(self) -> Desired | None:
        """Give nothing."""
        return None

    def wait(self, stop: Event) -> None:
        """Return."""

    def poke(self) -> None:
        """Do nothing."""


class Day:
    """The daemon and its day."""

    def __init__(self, folder: Path) -> None:
        """Begin at midnight."""
        self.time, self.nobody = Time(), Nobody()
        engine = EngineSettings(backoff=0.01)
        state = State(path=folder / "state.db", keep_days=1 / 12, keep_runs=50)
        settings = Settings(targets={"bench": {"trouble": 0.04}}, engine=engine, state=state)
        workshop = Workshop(settings, self.time.clock(), kinds=CATALOG)
        self.store = Store(state, news=recorder(settings))
        outbox = Outbox(self.store, self.nobody, workshop.clock, pace=0)
        self.daemon = Daemon(workshop, self.store, self.nobody, outbox, queue=KeyedQueue(lambda: self.time.seconds))
        self.house = Housekeeper(self.store, state, workshop.clock)
        self.passes = 0

    def commit(self, hour: int) -> None:
        """Push what git wants from this hour on."""
        tree = stacks(STACKS, RESOURCES, text=f"hour {hour}")
        if hour % 6 == 5:
            tree["desired/s003/items.yaml"] = tree["desired/s003/items.yaml"].replace(b"size: 1}", b"sise: 1}")
        self.daemon.accept(desired_from(Revision(f"{hour:040x}", tree, subject=f"Hour {hour}"), "desired"))

    def hours(self, engine: Engine, first: int, last: int) -> float:
        """Live from one hour to another; give the memory afterwards in MB."""
        for hour in range(first, last):
            self.commit(hour)
            while self.time.seconds < (hour + 1) * HOUR:
                claim = self.daemon.queue.take(0)
                if claim is None:
                    self.time.seconds += max(0.01, min(one.seconds for one in self.daemon.queue.snapshot()))
                    continue
                self.daemon._pass(engine, claim)
                self.daemon.queue.done(claim)
                self.passes += 1
            self.daemon.outbox.flush(Event())
            self.house.tidy()
        gc.collect()
        return resident()


def resident() -> float:
    """Give the memory of this process now, in MB."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


def measure() -> list[dict[str, object]]:
    """Live 27 hours: three to warm up, then the day that counts."""
    import logging

    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        day = Day(Path(folder))
        with day.daemon.workshop.engine(day.store) as engine:
            before = day.hours(engine, 0, 3)
            early, passes = (Path(folder) / "state.db").stat().st_size / 1e6, day.passes
            after = day.hours(engine, 3, 27)
        late, bad = (Path(folder) / "state.db").stat().st_size / 1e6, _bad(day.store)
        day.store.close()
    what = f"24 h of simulated time ({day.passes - passes} passes, {day.nobody.told} notices, {bad:.0%} of the runs kept not converged)"
    return [
        figure(f"growth of memory in {what}", after - before, "MB", 5),
        figure("the database after 3 h, with two hours of history kept", early, "MB", None),
        figure("the database after 27 h", late, "MB", None),
    ]


def _bad(store: Store) -> float:
    rows = store.runs(most=100_000)
    bad = [row for row in rows if row["verdict"] != "converged"]
    return len(bad) / len(rows)

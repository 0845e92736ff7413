"""One daemon on a shared database, for ``bench_scale``: ``python -m benchmarks.scale_worker STACKS RESOURCES ANSWER FOLDER URL``."""

import signal
import sys
from pathlib import Path
from threading import Event

from pydantic import SecretStr

from benchmarks.scale_world import CATALOG, stacks
from reconciler.compose import Workshop
from reconciler.daemon.loop import Daemon
from reconciler.daemon.outbox import Outbox
from reconciler.daemon.service import queue_of
from reconciler.desired import Desired, desired_from
from reconciler.notify import LogSink
from reconciler.settings import Settings, State
from reconciler.source import Revision
from reconciler.state import Store


class Given:
    """A head with one revision."""

    def __init__(self, desired: Desired) -> None:
        """Keep it until it is asked for."""
        self._desired: Desired | None = desired

    def changed(self) -> Desired | None:
        """Give it once."""
        found, self._desired = self._desired, None
        return found

    def wait(self, stop: Event) -> None:
        """Wait for the end."""
        stop.wait()

    def poke(self) -> None:
        """Do nothing: there is never anything new."""


def main(count: int, resources: int, answer: float, folder: str, url: str) -> None:
    """Run until told to stop."""
    state = State(path=Path(folder) / "state.db", url=SecretStr(url))
    settings = Settings(targets={"bench": {"answer": answer}}, state=state)
    workshop = Workshop(settings, kinds=CATALOG)
    store = Store(settings.state)
    tree = stacks(count, resources, interval=86_400)
    head, outbox = Given(desired_from(Revision("c" * 40, tree), "desired")), Outbox(store, LogSink(), workshop.clock)
    signal.signal(signal.SIGTERM, lambda *_: workshop.stop.set())
    Daemon(workshop, store, head, outbox, workers=1, queue=queue_of(store, 1)).run()
    store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], sys.argv[5])

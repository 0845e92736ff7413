"""Keeps the memory small: what is older than the settings say is forgotten, once at the start and once an hour."""

import logging
from datetime import timedelta
from threading import Event

from reconciler.clock import Clock
from reconciler.errors import StoreError
from reconciler.forgetting import forget
from reconciler.settings import State
from reconciler.state import Store

log = logging.getLogger("reconciler.housekeeping")
EVERY = 3600.0


class Housekeeper:
    """One thread's work."""

    def __init__(self, store: Store, settings: State, clock: Clock) -> None:
        """Take the store to keep small, and how small."""
        self._store, self._settings, self._clock = store, settings, clock

    def run(self, stop: Event) -> None:
        """Tidy until ``stop`` is set."""
        while not stop.is_set():
            self.tidy()
            self._clock.wait(stop, EVERY)

    def tidy(self) -> int:
        """Forget what is too old; give the number of runs that were forgotten."""
        before = self._clock.now() - timedelta(days=self._settings.keep_days)
        try:
            gone = forget(self._store, before.isoformat(), self._settings.keep_runs)
            self._store.database.vacuum()
        except StoreError as error:
            log.error("%s", error)
            return 0
        if gone:
            log.info("forgot %d runs from before %s, or more than %d of a stack", gone, before.date(), self._settings.keep_runs)
        return gone

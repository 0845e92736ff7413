"""Puts a daemon together from the settings."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from reconciler.applying import Listener
from reconciler.compose import Workshop, cache_of
from reconciler.daemon.farewell import say
from reconciler.daemon.heads import DirectoryHead, Head, Heads
from reconciler.daemon.loop import Daemon
from reconciler.daemon.owners import Owners
from reconciler.daemon.queue import KeyedQueue, WorkQueue
from reconciler.daemon.reload import heads
from reconciler.daemon.telling import outbox
from reconciler.database import PostgresDatabase
from reconciler.engine import silent
from reconciler.errors import SettingsError
from reconciler.settings import Settings
from reconciler.state import Store

if TYPE_CHECKING:
    from reconciler.notify.forge import Forge


def daemon(settings: Settings, store: Store, *, path: Path | None = None, workers: int = 1, listen: Listener = silent) -> Daemon:
    """Make a daemon that watches ``path``, or the repository of the settings. Raises SettingsError."""
    workshop = Workshop(settings)
    owners = Owners(cache_of(settings) / "stacks.json" if path is None else None)
    left = owners.follow(frozenset(settings.sources())) if path is None else {}
    head, post, queue = _head(settings, workshop, path), outbox(settings, store, workshop.clock), queue_of(store, workers)
    made = Daemon(workshop, store, head, post, listen, workers=workers, queue=queue, owners=owners)
    made.aside = {"offers": _offers(made)}
    for source, stacks in left.items():
        say(store, source, stacks, workshop.clock.now())
    if path is None:
        made.aside = {**made.aside, "forge": _reception(made)}
    if settings.http.listen or settings.http.webhook_listen:
        _listen(made)
    return made


def queue_of(store: Store, workers: int) -> WorkQueue:
    """Keep the queue where the store is: in PostgreSQL when daemons share it."""
    if not isinstance(store.database, PostgresDatabase):
        return KeyedQueue()
    from reconciler.daemon.pgqueue import PostgresQueue  # half a second that only those pay who share

    return PostgresQueue(store.database, workers=workers)


def _listen(made: Daemon) -> None:
    """Give the daemon its doors. A web server and its metrics are what only those who listen pay for."""
    from reconciler import telemetry
    from reconciler.daemon.http.app import doors
    from reconciler.daemon.http.metrics import Meters

    meters = Meters(made)
    telemetry.ears[:] = [meters]  # of one daemon in this process: the newest
    made.meter = meters.passed
    made.doors = doors(made, meters)


def _offers(made: Daemon) -> Callable[[Event], None]:
    """Give the daemon somebody who brings into git what buttons ask for. It costs nothing until the settings let cards have buttons."""

    def forge(repository: str) -> "Forge | None":
        from reconciler.daemon.reception import client

        found = made.workshop.settings.forges().get(repository)
        return client(found) if found is not None else None

    def run(stop: Event) -> None:
        while not made.workshop.settings.notify.slack.signing_secret.get_secret_value():
            if stop.wait(1.0):
                return
        from reconciler.daemon.offers import Offers

        Offers(made.workshop, made.store, made.force.get, forge).run(stop)  # also what was asked for before buttons went away again

    return run


def _reception(made: Daemon) -> Callable[[Event], None]:
    """Give the daemon those who speak with the forges. They cost nothing until the settings name one."""

    def run(stop: Event) -> None:
        while not made.workshop.settings.forges():
            if stop.wait(1.0):
                return
        from reconciler.daemon.reception import Reception

        Reception(made.workshop, made.store, made.owners.of).run(stop)

    return run


def _head(settings: Settings, workshop: Workshop, path: Path | None) -> Head:
    if path is not None:
        return DirectoryHead(path, settings.repository.folder)
    if not settings.sources():
        raise SettingsError("there is nothing to watch: set repository.url in reconciler.yaml, or give --path DIR")
    return Heads(heads(settings))

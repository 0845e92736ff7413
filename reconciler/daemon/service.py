"""Puts a daemon together from the settings."""

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from reconciler.applying import Listener
from reconciler.compose import Workshop, cache_of
from reconciler.daemon.heads import DirectoryHead, Head, Heads
from reconciler.daemon.loop import Daemon
from reconciler.daemon.owners import Owners
from reconciler.daemon.queue import KeyedQueue, WorkQueue
from reconciler.daemon.reload import heads
from reconciler.daemon.telling import outbox
from reconciler.database import PostgresDatabase
from reconciler.engine import silent
from reconciler.errors import SettingsError
from reconciler.resource import SecretValue
from reconciler.settings import Settings
from reconciler.state import Store

if TYPE_CHECKING:
    from reconciler.daemon.pulls import Desk
    from reconciler.notify.forge import Forge


def daemon(settings: Settings, store: Store, *, path: Path | None = None, workers: int = 1, listen: Listener = silent) -> Daemon:
    """Make a daemon that watches ``path``, or the repository of the settings. Raises SettingsError."""
    workshop = Workshop(settings)
    owners = Owners(cache_of(settings) / "stacks.json" if path is None else None)
    head, post, queue = _head(settings, workshop, path), outbox(settings, store, workshop.clock), queue_of(store, workers)
    made = Daemon(workshop, store, head, post, listen, workers=workers, queue=queue, owners=owners)
    forge = _forge(settings)
    if forge is not None:
        made.aside = {"forge": _desk(settings, made, forge).run}
    if settings.notify.slack.signing_secret.get_secret_value():
        made.aside = {**made.aside, "offers": _offers(made, forge)}
    if settings.http.listen or settings.http.webhook_listen:
        _listen(settings, made)
    return made


def queue_of(store: Store, workers: int) -> WorkQueue:
    """Keep the queue where the store is: in PostgreSQL when daemons share it."""
    if not isinstance(store.database, PostgresDatabase):
        return KeyedQueue()
    from reconciler.daemon.pgqueue import PostgresQueue  # half a second that only those pay who share

    return PostgresQueue(store.database, workers=workers)


def _listen(settings: Settings, made: Daemon) -> None:
    """Give the daemon its doors. A web server and its metrics are what only those who listen pay for."""
    from reconciler import telemetry
    from reconciler.daemon.http.app import doors
    from reconciler.daemon.http.metrics import Meters
    from reconciler.daemon.http.slack import slack_routes

    meters = Meters(made)
    telemetry.ears[:] = [meters]  # of one daemon in this process: the newest
    made.meter = meters.passed
    made.doors = doors(settings.http, made, meters, slack_routes(made))


def _forge(settings: Settings) -> "Forge | None":
    if not settings.forge.kind:
        return None
    from reconciler.notify.forge import KINDS

    forge = settings.forge
    return KINDS[forge.kind](forge.url, SecretValue(forge.token.get_secret_value()), forge.repository)


def _offers(made: Daemon, forge: "Forge | None") -> Callable[[Event], None]:
    """Give the daemon somebody who brings into git what buttons ask for, which only those who have buttons pay for."""
    from reconciler.daemon.offers import Offers

    return Offers(made.workshop, made.store, made.force.get, forge).run


def _desk(settings: Settings, made: Daemon, forge: "Forge") -> "Desk":
    """Give the daemon somebody who speaks with the forge, which only those who have one pay for."""
    from reconciler.daemon.pulls import Desk
    from reconciler.git import Credentials
    from reconciler.proposals import ProposalSource

    repository = settings.repository
    desk = Desk(made.workshop, made.store, forge)
    if repository.pull_requests and repository.url:
        token = SecretValue(repository.token.get_secret_value()) if repository.token.get_secret_value() else None
        desk.source = ProposalSource(
            repository.url,
            repository.branch,
            settings.state.path.parent / "git" / "proposals",
            credentials=Credentials(token, repository.username, repository.ssh_key, repository.known_hosts, repository.ca_file),
            timeout=repository.timeout,
            allow_file=repository.url.startswith("file://"),
        )
    return desk


def _head(settings: Settings, workshop: Workshop, path: Path | None) -> Head:
    if path is not None:
        return DirectoryHead(path, settings.repository.folder)
    if not settings.sources():
        raise SettingsError("there is nothing to watch: set repository.url in reconciler.yaml, or give --path DIR")
    return Heads(heads(settings))

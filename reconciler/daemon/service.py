"""Puts a daemon together from the settings."""

from pathlib import Path

from reconciler.applying import Listener
from reconciler.compose import Workshop, git_source
from reconciler.daemon.heads import DirectoryHead, GitHead
from reconciler.daemon.loop import Daemon, Head
from reconciler.daemon.outbox import Outbox
from reconciler.daemon.queue import KeyedQueue, WorkQueue
from reconciler.database import PostgresDatabase
from reconciler.engine import silent
from reconciler.errors import SettingsError
from reconciler.notify import LogSink, Sink
from reconciler.resource import SecretValue
from reconciler.settings import Settings
from reconciler.state import Store


def daemon(settings: Settings, store: Store, *, path: Path | None = None, workers: int = 1, listen: Listener = silent) -> Daemon:
    """Make a daemon that watches ``path``, or the repository of the settings. Raises SettingsError."""
    workshop = Workshop(settings)
    head, outbox = _head(settings, workshop, path), Outbox(store, _sink(settings), workshop.clock)
    return Daemon(workshop, store, head, outbox, listen, workers=workers, queue=queue_of(store, workers))


def queue_of(store: Store, workers: int) -> WorkQueue:
    """Keep the queue where the store is: in PostgreSQL when daemons share it."""
    if not isinstance(store.database, PostgresDatabase):
        return KeyedQueue()
    from reconciler.daemon.pgqueue import PostgresQueue  # half a second that only those pay who share

    return PostgresQueue(store.database, workers=workers)


def _head(settings: Settings, workshop: Workshop, path: Path | None) -> Head:
    repository = settings.repository
    if path is not None:
        return DirectoryHead(path, repository.folder)
    if not repository.url:
        raise SettingsError("there is nothing to watch: set repository.url in reconciler.yaml, or give --path DIR")
    return GitHead(git_source(settings, settings.state.path.parent / "git"), repository.folder, repository.poll)


def _sink(settings: Settings) -> Sink:
    webhook = settings.notify.slack_webhook.get_secret_value()
    if not webhook:
        return LogSink()
    from reconciler.notify.slack import SlackSink  # a quarter of a second that only Slack's users pay

    return SlackSink(SecretValue(webhook))

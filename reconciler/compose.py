"""Puts the rooms together: from the settings to an engine that can plan and converge. The only room that knows all the others.

The command line and the daemon are both thin shells round what is built here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Event

from reconciler.applying import Listener
from reconciler.clock import Clock
from reconciler.engine import Engine, Forgetful, Memory, silent
from reconciler.lanes import Lanes
from reconciler.observing import Observer
from reconciler.registry import Catalog, catalog
from reconciler.resource import SecretValue
from reconciler.retry import Retry
from reconciler.settings import Settings
from reconciler.source import GitSource
from reconciler.targets import Targets


def git_source(settings: Settings, cache: Path) -> GitSource:
    """Make the source that the settings name. Raises SettingsError."""
    from reconciler.git import Credentials

    repository = settings.repository
    token = SecretValue(repository.token.get_secret_value()) if repository.token.get_secret_value() else None
    credentials = Credentials(token, repository.username, repository.ssh_key, repository.known_hosts, repository.ca_file)
    allow_file = repository.url.startswith("file://")
    return GitSource(repository.url, repository.branch, cache, credentials=credentials, timeout=repository.timeout, allow_file=allow_file)


@dataclass(slots=True)
class Workshop:
    """Builds engines that share the settings, the clock and the stop signal, but no connection."""

    settings: Settings
    clock: Clock = field(default_factory=Clock)
    stop: Event = field(default_factory=Event)
    kinds: Catalog = field(default_factory=catalog)

    @contextmanager
    def engine(self, memory: Memory | None = None, listen: Listener = silent) -> Iterator[Engine]:
        """Give an engine with connections of its own, closed at the end."""
        retry = Retry(self.settings.engine, self.stop, self.clock)
        key = self.settings.fingerprint_key.get_secret_value().encode()
        with Targets(self.settings.targets, self.kinds) as targets:
            observer = Observer(
                targets, self.kinds, retry, self.settings.instance, key, self.settings.engine.workers, Lanes(self.settings.engine.deadline)
            )
            yield Engine(observer, retry, memory or Forgetful(), self.settings.engine, listen)

    def today(self) -> date:
        """Give the date by which exceptions end, in UTC."""
        return self.clock.now().date()

"""Puts the rooms together: from the settings to an engine that can plan and converge. The only room that knows all the others.

The command line and the daemon are both thin shells round what is built here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from threading import Event

from reconciler.applying import Listener
from reconciler.clock import Clock
from reconciler.engine import Engine, Forgetful, Memory, silent, unheeded
from reconciler.git import Credentials
from reconciler.lanes import Lanes, Tempers
from reconciler.observing import Observer, Seen
from reconciler.registry import Catalog, catalog
from reconciler.repositories import Repository
from reconciler.resource import SecretValue
from reconciler.resting import Rests
from reconciler.retry import Retry
from reconciler.settings import Settings
from reconciler.signatures import SignaturePolicy
from reconciler.source import GitSource
from reconciler.targets import Targets


def git_source(repository: Repository, cache: Path) -> GitSource:
    """Make the source of one repository of the settings. Raises SettingsError."""
    return GitSource(
        repository.url,
        repository.branch,
        cache,
        tag=repository.tag,
        depth=repository.depth,
        credentials=credentials_of(repository),
        signatures=signatures_of(repository),
        timeout=repository.timeout,
        allow_file=repository.url.startswith("file://"),
    )


def credentials_of(repository: Repository) -> Credentials:
    """Give what a repository is read with."""
    token = SecretValue(repository.token.get_secret_value()) if repository.token.get_secret_value() else None
    return Credentials(token, repository.username, repository.ssh_key, repository.known_hosts, repository.ca_file)


def signatures_of(repository: Repository) -> SignaturePolicy:
    """Give which commits of a repository must be signed, and by whom."""
    signed = repository.signatures
    return SignaturePolicy(signed.policy, signed.allowed_signers, signed.gpg_keys, signed.gnupg_home, signed.since)


def cache_of(settings: Settings) -> Path:
    """Give the directory of the mirrors."""
    return settings.state.path.parent / "git"


@dataclass(slots=True)
class Workshop:
    """Builds engines that share the settings, the clock, the stop signal and what is known of targets and failures, but no connection."""

    settings: Settings
    clock: Clock = field(default_factory=Clock)
    stop: Event = field(default_factory=Event)
    kinds: Catalog = field(default_factory=catalog)
    rests: Rests = field(default_factory=Rests)
    tempers: Tempers = field(default_factory=Tempers)

    @contextmanager
    def engine(self, memory: Memory | None = None, listen: Listener = silent, after: Callable[[Seen], None] = unheeded) -> Iterator[Engine]:
        """Give an engine with connections of its own, closed at the end."""
        retry = Retry(self.settings.engine, self.stop, self.clock)
        key = self.settings.fingerprint_key.get_secret_value().encode()
        with Targets(self.settings.targets, self.kinds) as targets:
            engine = self.settings.engine
            lanes = Lanes(engine.deadline, engine.patience, self.tempers, self.stop)
            observer = Observer(targets, self.kinds, retry, self.settings.instance, key, engine.workers, lanes=lanes)
            yield Engine(observer, retry, memory or Forgetful(), self.settings.engine, listen, after, self.rests)

    def renewed(self, engine: Engine) -> Engine:
        """Give an engine that goes by the settings as they are now. Between passes; only connections whose settings changed are closed."""
        if engine.settings is self.settings.engine and engine.observer.targets.current(self.settings.targets):
            return engine
        retry = replace(engine.retry, settings=self.settings.engine)
        engine.observer.targets.renew(self.settings.targets)
        key = self.settings.fingerprint_key.get_secret_value().encode()
        observer = replace(engine.observer, retry=retry, key=key, workers=self.settings.engine.workers)
        return replace(engine, observer=observer, retry=retry, settings=self.settings.engine)

    def today(self) -> date:
        """Give the date by which exceptions end, in UTC."""
        return self.clock.now().date()

"""New settings without a restart: the file, or one that it names, was exchanged, or somebody sent SIGHUP.

Settings that cannot be used change nothing and are reported. What changed is named, its value never. What each change means for the parts
of a daemon that runs is decided here; connections are closed by the workers themselves, between two passes.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Event
from time import monotonic

from reconciler.compose import cache_of, git_source
from reconciler.daemon.force import SETTINGS
from reconciler.daemon.heads import GitHead, Head, Heads
from reconciler.daemon.loop import Daemon
from reconciler.daemon.merging import merge
from reconciler.daemon.recording import recorder
from reconciler.daemon.telling import outbox
from reconciler.errors import Problem, SettingsError
from reconciler.registry import Catalog, checked_config
from reconciler.repositories import Repository
from reconciler.settings import DEFAULT_FILE, Settings, differing, files_named, load_settings
from reconciler.telemetry import configure_logging

log = logging.getLogger("reconciler.settings")
SWEEP = 30.0
"""Seconds after which the files are looked at though nobody said that they changed: not every file system tells."""


def heads(settings: Settings, known: Mapping[str, tuple[Head, float]] | None = None) -> dict[str, tuple[Head, float]]:
    """Make a head for each repository; those in ``known`` stay what they are. Raises SettingsError."""
    known = known or {}
    return {name: known[name] if name in known else _head(one, cache_of(settings)) for name, one in settings.sources().items()}


def _head(repository: Repository, cache: Path) -> tuple[Head, float]:
    return GitHead(git_source(repository, cache), repository.folder, repository.poll), repository.poll


@dataclass(slots=True)
class Reloader:
    """Watches the settings of one daemon."""

    daemon: Daemon
    file: Path | None
    _stamps: dict[str, str] = field(default_factory=dict)
    _said: str = ""
    _asked: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        """Begin with the files as they are now."""
        self._stamps = self._look()

    def attend(self) -> None:
        """Have the daemon run this beside its work and watch over it: one that hears of no new settings any more has to start afresh."""
        self.daemon.aside = {**self.daemon.aside, "settings": self.run}

    def ask(self) -> None:
        """Have the settings read, and the repositories looked at, within a second. May be called by a signal handler."""
        self._asked.set()
        self.daemon.head.poke()

    def run(self, stop: Event) -> None:
        """Follow the files until ``stop`` is set."""
        looked = monotonic()
        while not stop.is_set():
            for event in self._events(stop):
                asked = self._asked.is_set()
                if asked or event or monotonic() - looked > SWEEP:
                    self._asked.clear()
                    looked = monotonic()
                    if self.turn(asked=asked):
                        break  # other files may be named now

    def _events(self, stop: Event) -> Iterator[object]:
        """Yield something true when a file beside one of ours changed, and something empty every second."""
        import watchfiles

        folders = sorted({str(path.absolute().parent) for path in self._files().values() if path.absolute().parent.is_dir()})
        try:
            if folders:
                yield from watchfiles.watch(
                    *folders, stop_event=stop, rust_timeout=1000, yield_on_timeout=True, recursive=False, debounce=300
                )
        except OSError as error:
            log.warning("the files of the settings cannot be watched (%s); they are looked at every %g s", error, SWEEP)
        while not stop.wait(1.0):
            yield ()

    def _files(self) -> dict[str, Path]:
        own = {"": self.file or DEFAULT_FILE}
        try:
            return own | files_named(self.file)
        except SettingsError:
            return own

    def _look(self) -> dict[str, str]:
        return {name: _digest(path) for name, path in self._files().items()}

    def turn(self, *, asked: bool = False) -> bool:
        """Look once; take new settings when there are any. Says whether there were."""
        stamps = self._look()
        if stamps == self._stamps and not asked:
            return False
        exchanged = {name for name in stamps if stamps[name] != self._stamps.get(name, stamps[name])}
        try:
            settings = load_settings(self.file)
            check(settings, self.daemon.workshop.kinds)
            changed = self._take(settings, exchanged)
        except SettingsError as error:
            self._stamps = stamps  # said once, and read again when somebody writes again
            self._refuse(str(error))
            return False
        self._stamps = stamps
        self._said = ""
        self.daemon.well(SETTINGS)
        log.info("the settings were read anew: %s", ", ".join(changed) or "nothing changed")
        return bool(changed)

    def _refuse(self, message: str) -> None:
        for line in message.splitlines():
            log.error("%s", line)
        log.error("the settings stay as they were")
        if message != self._said:
            self._said = message
            self.daemon.reject(SETTINGS, [Problem("settings", 0, f"{line}; they stay as they were") for line in message.splitlines()])

    def _take(self, settings: Settings, exchanged: Iterable[str]) -> list[str]:
        """Put new settings in force as far as that can be; give the names of what changed. Raises SettingsError before anything did."""
        before = self.daemon.workshop.settings
        changed = sorted({*differing(before, settings), *(name for name in exchanged if name.startswith(("targets.", "repositor")))})
        if not changed:
            return []
        merged = merge(before, settings, changed)
        settings = merged.settings
        self._follow(before, settings, changed)
        self.daemon.workshop.settings = settings  # from here on, also behind the doors
        if _touched(changed, "notify"):
            self.daemon.outbox.exchange(outbox(settings, self.daemon.store, self.daemon.workshop.clock))
        if _touched(changed, "forge", "repository", "repositories", "notify"):
            self.daemon.store.news = recorder(settings)
        if _touched(changed, "telemetry"):
            configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
        for word in merged.words:
            log.warning("%s", word)
        if merged.late:
            log.warning("after a restart only: %s", ", ".join(merged.late))
        if _touched(changed, "targets", "engine", "fingerprint_key"):
            for stack in list(self.daemon.force):
                self.daemon.watchers.forget(stack)
                self.daemon.queue.request(stack, "new settings")
        return changed

    def _follow(self, before: Settings, settings: Settings, changed: list[str]) -> None:
        head = self.daemon.head
        if not isinstance(head, Heads) or not _touched(changed, "repository", "repositories"):
            return
        if not settings.sources():
            raise SettingsError("there is nothing to watch any more: set repository.url, or repositories")
        same = {
            name
            for name, one in settings.sources().items()
            if before.sources().get(name) == one
            and not _touched(changed, f"repositories.{name}" if one is not settings.repository else name)
        }
        head.exchange(heads(settings, {name: pair for name, pair in head.pairs().items() if name in same}))
        for name in sorted(set(before.sources()) - set(settings.sources())):
            self.daemon.leave(name)
        self.daemon.owners.follow(frozenset(settings.sources()))


def _touched(changed: Iterable[str], *sections: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for name in changed for one in sections)


def check(settings: Settings, kinds: Catalog) -> None:
    """Find what is wrong with targets and repositories before they are used. Raises SettingsError with all of it."""
    problems = []
    for name, config in sorted(settings.targets.items()):
        try:
            checked_config(kinds.plugin(str(config.get("driver", name))), {key: value for key, value in config.items() if key != "driver"})
        except SettingsError as error:
            problems.append(f"targets.{name}: {error}")
    for name, one in settings.sources().items():
        try:
            git_source(one, cache_of(settings))
        except SettingsError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise SettingsError("\n".join(problems))


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError):
        return ""

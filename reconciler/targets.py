"""The targets that the settings name, opened when first needed and closed in reverse order."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from reconciler.driver import Driver
from reconciler.errors import SettingsError
from reconciler.registry import Catalog
from reconciler.wiring import open_target

log = logging.getLogger("reconciler.targets")
CLOSING = 10.0
"""Seconds that a driver may take to let go of its connections."""
LARGEST = 1_048_576
"""Bytes of a file that may be a key; what is larger is not looked into."""


class Targets:
    """Drivers by target name. A context manager; a driver that fails to close is logged and does not stop the others."""

    def __init__(self, configs: Mapping[str, Mapping[str, Any]], catalog: Catalog) -> None:
        """Take the ``targets`` of the settings; nothing is imported or opened yet."""
        self._configs, self._catalog = configs, catalog
        self._open: dict[str, Driver] = {}
        self._stamps: dict[str, str] = {}
        self._opening: dict[str, Lock] = {}
        self._lock = Lock()

    def names(self) -> list[str]:
        """List the configured targets."""
        return sorted(self._configs)

    def driver_name(self, target: str) -> str:
        """Give the driver that a target uses."""
        return str(self._configs.get(target, {}).get("driver", target))

    def problem(self, target: str, driver: str) -> str:
        """Say why a resource of ``driver`` cannot use ``target``; empty when it can."""
        if target not in self._configs and not self._needs_nothing(target):
            known = ", ".join(self.names()) or "none"
            return f"the settings have no target {target!r} (configured: {known}); add it below targets"
        used = self.driver_name(target)
        return "" if used == driver else f"target {target!r} uses the driver {used}, not {driver}"

    def _needs_nothing(self, target: str) -> bool:
        """A driver whose configuration has a default for everything needs no entry."""
        try:
            self._catalog.plugin(target).config()
        except (SettingsError, ValidationError):
            return False
        return True

    def get(self, target: str) -> Driver:
        """Give the driver of a target, opened on first use; nobody waits for another target. Raises SettingsError."""
        with self._lock:
            opening = self._opening.setdefault(target, Lock())
        with opening:
            with self._lock:
                known, config = self._open.get(target), dict(self._configs.get(target, {}))
            if known is not None:
                return known
            plugin = self._catalog.plugin(str(config.pop("driver", target)))
            found = stamp(config)
            driver: Driver = open_target(plugin, config)
            with self._lock:
                self._stamps[target], self._open[target] = found, driver
            return driver

    def current(self, configs: object) -> bool:
        """Say whether these are the very settings that are in use."""
        return configs is self._configs

    def renew(self, configs: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Take new settings between two passes: what is open and is configured otherwise now, or whose files changed, is closed.

        Gives the names of what was closed; it is opened again when it is needed.
        """
        with self._lock:
            plain = {name: {key: value for key, value in configs.get(name, {}).items() if key != "driver"} for name in self._open}
            changed = [
                name for name in self._open if configs.get(name) != self._configs.get(name) or stamp(plain[name]) != self._stamps[name]
            ]
            self._configs = configs
            leaving = {name: self._open.pop(name) for name in changed}
        for name, driver in leaving.items():
            _close(name, driver)
        return changed

    def __iter__(self) -> Iterator[str]:
        """Walk the names of the configured targets."""
        return iter(self.names())

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close everything that was opened."""
        self.close()

    def close(self) -> None:
        """Close everything that was opened, newest first."""
        while self._open:
            _close(*self._open.popitem())


def _close(name: str, driver: Driver) -> None:
    """Close a driver; one that does not come back is left behind, as everywhere."""
    well: list[bool] = []

    def closing() -> None:
        with suppress(Exception):
            driver.close()
            well.append(True)

    thread = Thread(target=closing, name=f"close-{name}", daemon=True)
    thread.start()
    thread.join(CLOSING)
    if not well:
        log.warning("target %s did not close cleanly", name)


def stamp(config: Any) -> str:
    """Digest the content of every file that a configuration names, so that an exchanged key or certificate is noticed."""
    found = hashlib.sha256()
    for path in sorted(_paths(config)):
        with suppress(OSError, ValueError):
            if path.is_file() and path.stat().st_size < LARGEST:
                found.update(str(path).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _paths(config: Any) -> Iterator[Path]:
    if isinstance(config, Mapping):
        for item in config.values():
            yield from _paths(item)
    elif isinstance(config, list | tuple):
        for item in config:
            yield from _paths(item)
    elif isinstance(config, Path) or (isinstance(config, str) and "/" in config and len(config) < 1000):
        yield Path(config)

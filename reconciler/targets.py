"""The targets that the settings name, opened when first needed and closed in reverse order."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from threading import Lock
from types import TracebackType
from typing import Any, Self

from pydantic import ValidationError

from reconciler.driver import Driver
from reconciler.errors import SettingsError
from reconciler.registry import Catalog, open_target

log = logging.getLogger("reconciler.targets")


class Targets:
    """Drivers by target name. A context manager; a driver that fails to close is logged and does not stop the others."""

    def __init__(self, configs: Mapping[str, Mapping[str, Any]], catalog: Catalog) -> None:
        """Take the ``targets`` of the settings; nothing is imported or opened yet."""
        self._configs, self._catalog = configs, catalog
        self._open: dict[str, Driver] = {}
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
        """Give the driver of a target, opened on first use. Raises SettingsError."""
        with self._lock:
            if target not in self._open:
                plugin = self._catalog.plugin(self.driver_name(target))
                config = {key: value for key, value in self._configs.get(target, {}).items() if key != "driver"}
                self._open[target] = open_target(plugin, config)
            return self._open[target]

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
            name, driver = self._open.popitem()
            with suppress(Exception):
                driver.close()
                continue
            log.warning("target %s did not close cleanly", name)

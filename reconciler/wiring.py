"""What is wrong with the settings of the targets, as far as that can be known without asking a system.

It may read the files that the settings name. A driver, and with it its vendor library, is imported only by who opens a target.
"""

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from reconciler import registry
from reconciler.driver import Plugin
from reconciler.errors import SettingsError
from reconciler.registry import Catalog, checked_config


def _unreadable(config: BaseModel) -> Iterator[str]:
    """Say which files that the settings name cannot be read, or hold no certificate where one belongs. Defaults are not looked for."""
    for name, path in _files(config):
        try:
            with path.open("rb"):
                pass
            if name.rpartition(".")[2] == "ca_file":
                ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            yield f"{name}: {path} holds no certificate in PEM form"
        except (OSError, ValueError) as error:
            yield f"{name}: {path} cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}"


def _files(config: BaseModel, place: str = "") -> Iterator[tuple[str, Path]]:
    """Walk the files that are set: fields that are paths, and what the ``files`` of a configuration names besides."""
    for name in sorted(config.model_fields_set):
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _files(value, f"{place}{name}.")
        elif isinstance(value, Path):
            yield f"{place}{name}", value
    named: Mapping[str, Path] = getattr(config, "files", dict)()
    yield from ((f"{place}{name}", path) for name, path in named.items())


def check_target(plugin: Plugin, config: Mapping[str, Any]) -> None:
    """Hold the settings of a target against what its plugin wants, and look at the files that they name. Raises SettingsError."""
    if unreadable := "; ".join(_unreadable(checked_config(plugin, config))):
        raise SettingsError(f"target of driver {plugin.name}: {unreadable}")


def open_target(plugin: Plugin, config: Mapping[str, Any]) -> Any:
    """Build the driver of a target once its files were found to be there. Raises SettingsError."""
    check_target(plugin, config)
    return registry.open_target(plugin, config)


def target_problems(configs: Mapping[str, Mapping[str, Any]], catalog: Catalog) -> Iterator[str]:
    """Say of each target what is wrong with its settings, as far as that can be known without asking its system."""
    for name, config in sorted(configs.items()):
        try:
            driver = str(config.get("driver", name))
            check_target(catalog.plugin(driver), {key: value for key, value in config.items() if key != "driver"})
        except SettingsError as error:
            yield f"targets.{name}: {error}"

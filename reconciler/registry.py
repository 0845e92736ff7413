"""Which plugins there are: entry points of the group ``reconciler.drivers``, and the catalogue of kinds that they bring.

Loading a plugin imports its specs and settings only; its driver, and with it the vendor library, is imported when a target is opened.
"""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from reconciler.driver import Plugin
from reconciler.errors import SettingsError
from reconciler.resource import Spec

GROUP = "reconciler.drivers"
OWN_GROUP = "reconciler/v1"
ANNOTATIONS = ("adopt", "depends-on", "drift", "ignore", "protect", "prune", "replace", "target", "waive")


@dataclass(frozen=True, slots=True)
class Catalog:
    """The kinds that may stand in desired state, by ``apiVersion`` and kind."""

    plugins: tuple[Plugin, ...]

    def find(self, api_version: str, kind: str) -> tuple[Plugin, type[Spec]]:
        """Give the plugin and spec of a kind. Raises KeyError with a message that suggests what may be meant."""
        plugin = next((one for one in self.plugins if one.api_version == api_version), None)
        if plugin is not None:
            if kind not in plugin.kinds:
                raise KeyError(f"{api_version} has no kind {kind!r}; it has {', '.join(sorted(plugin.kinds))}{_hint(kind, plugin.kinds)}")
            return plugin, plugin.kinds[kind]
        near = _near(api_version, [one.api_version for one in self.plugins if one.api_version] + [OWN_GROUP])
        wide = next((one for one in self.plugins if "*" in one.kinds), None)
        if near or wide is None:
            raise KeyError(f"the group {api_version!r} is not known" + (f"; did you mean {near}?" if near else ""))
        return wide, wide.kinds["*"]

    def annotations(self) -> tuple[str, ...]:
        """List the annotations below ``reconciler/`` that have a meaning."""
        return tuple(sorted({*ANNOTATIONS, *(name for plugin in self.plugins for name in plugin.annotations)}))

    def plugin(self, name: str) -> Plugin:
        """Give the plugin of a driver name. Raises SettingsError with the names there are."""
        found = next((one for one in self.plugins if one.name == name), None)
        if found is None:
            known = ", ".join(sorted(one.name for one in self.plugins))
            raise SettingsError(f"there is no driver {name!r}; installed are {known}")
        return found


def _hint(word: str, words: Iterable[str]) -> str:
    close = get_close_matches(word, list(words), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _near(api_version: str, known: list[str]) -> str:
    """Find the known group that was probably meant: alike but not equal, or right but for its version."""
    group = api_version.split("/")[0]
    same = [one for one in known if one.split("/")[0] == group]
    close = same or get_close_matches(group, [one.split("/")[0] for one in known], n=1, cutoff=0.75)
    if not close or (not same and "." in group):
        return ""
    return same[0] if same else next(one for one in known if one.split("/")[0] == close[0])


@cache
def catalog() -> Catalog:
    """Load every installed plugin, by name. Cached for the life of the process."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return Catalog(tuple(point.load() for point in points))


def load(path: str) -> Any:
    """Import ``module:attribute``. Raises SettingsError when it does not exist."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{path} cannot be loaded: {error}") from error


def checked_config(plugin: Plugin, config: Mapping[str, Any]) -> Any:
    """Give the configuration of a target as its plugin wants it. Raises SettingsError with every field that is wrong, never its value."""
    from pydantic import ValidationError

    try:
        return plugin.config.model_validate(dict(config))
    except ValidationError as error:
        fields = "; ".join(filter(None, (_said(one) for one in error.errors(include_input=False))))
        raise SettingsError(f"target of driver {plugin.name}: {fields}") from None


def _said(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    return f"{where}: {error['msg'].removeprefix('Value error, ').lower()}" if where else error["msg"].removeprefix("Value error, ")


def open_target(plugin: Plugin, config: Mapping[str, Any]) -> Any:
    """Build the driver of a target. Raises SettingsError with every field that is wrong, never with its value."""
    return load(plugin.driver)(checked_config(plugin, config))

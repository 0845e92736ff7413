"""Which repository a stack belongs to, where there are several: two of one name would take turns at deleting what the other wants.

Remembered in a file beside the mirrors, so that the first repository that answers after a restart does not win what is another's, and so
that one that was taken out of the settings meanwhile is missed.
"""

import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from reconciler.daemon.force import REPOSITORY
from reconciler.desired import Desired
from reconciler.errors import InputError, Problem

log = logging.getLogger("reconciler.daemon")


class Owners:
    """Stack name -> name of its repository. Without ``file`` nothing outlives the process."""

    def __init__(self, file: Path | None = None) -> None:
        """Read what was known before; a file that cannot be read is as good as none."""
        self._file = file
        self._owner: dict[str, str] = {}
        self._has: dict[str, tuple[str, ...]] = {}
        self._followed: frozenset[str] = frozenset()
        if file is not None:
            with suppress(OSError, ValueError, AttributeError, TypeError):
                self._read(json.loads(file.read_text(encoding="utf-8")))

    def _read(self, found: Any) -> None:
        stacks = found["stacks"] if isinstance(found.get("stacks"), dict) else found  # older versions wrote nothing else
        self._owner = {str(name): str(source) for name, source in stacks.items()}
        self._followed = frozenset(map(str, found.get("followed", ()))) if stacks is not found else frozenset()

    def follow(self, sources: frozenset[str]) -> dict[str, list[str]]:
        """Forget the repositories that are not followed any more: their stacks may move. Gives each of them with its stacks."""
        gone = sorted({*self._followed, *self._owner.values()} - sources)
        left = {one: sorted(name for name, source in self._owner.items() if source == one) for one in gone}
        self._owner = {name: source for name, source in self._owner.items() if source in sources}
        self._has = {source: names for source, names in self._has.items() if source in sources}
        self._followed = sources
        self._keep()
        return left

    def claim(self, name: str, desired: Desired) -> None:
        """Let the repository of ``desired`` have a stack. Raises InputError naming both when another one has it."""
        source, owner = desired.source, self._owner.get(name, desired.source)
        self._has[source] = desired.names
        if owner != source and name in self._has.get(owner, (name,)):
            message = (
                f"the repositories {owner} and {source} both have a stack of this name, and {owner} had it first; "
                "rename one of them, nothing of either is deleted"
            )
            raise InputError([Problem(f"{desired.folder}/{name}", 0, message)])
        if self._owner.get(name) != source:
            self._owner[name] = source
            self._keep()

    def stacks(self, source: str) -> frozenset[str]:
        """Give the stacks of a repository, those from before a restart too."""
        return frozenset(name for name, owner in self._owner.items() if owner == source)

    def of(self, name: str) -> str:
        """Give the repository of a stack, or of a repository that people are told of by name; empty when nobody claimed it yet."""
        if name == REPOSITORY or name.startswith(f"{REPOSITORY} "):
            return name.removeprefix(f"{REPOSITORY} ")
        return self._owner.get(name, "")

    def _keep(self) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps({"stacks": self._owner, "followed": sorted(self._followed)}, sort_keys=True), encoding="utf-8")
        except OSError as error:
            log.warning("%s: %s; which repository a stack belongs to is forgotten at a restart", self._file, error.strerror)

"""Hints from the secrets: a look at their metadata now and then, for Vault tells nobody of a write. Reads no value, decides nothing."""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from threading import Event
from typing import Protocol

from reconciler.driver import Scope, SecretVersion
from reconciler.errors import Transient
from reconciler.resource import ResourceId
from reconciler_vault.spec import Secret

LONGEST_PAUSE = 300.0
"""Seconds between two looks at most, while the server does not answer."""

log = logging.getLogger(__name__)


class Store(Protocol):
    """What is looked at."""

    def versions(self, paths: Sequence[str], scope: Scope) -> Mapping[str, SecretVersion]:
        """Tell the version of each path that has one."""
        ...


def watched(scope: Scope) -> dict[str, ResourceId | None]:
    """Map every path that the stack reads or declares to the resource that declares it, if one does."""
    read = {path for one in scope.wanted.values() for ref in one.spec.secrets() for path in ref.paths}
    declared = {one.spec.path: id for id, one in scope.wanted.items() if isinstance(one.spec, Secret)}
    return {path: declared.get(path) for path in sorted(read | declared.keys())}


def rotations(store: Store, scope: Scope, stop: Event, poll: float) -> Iterator[ResourceId | None]:
    """Yield a hint for each path whose version is another than at the look before, and at first for what was rotated since its note.

    Raises Permanent, and at the first look Transient.
    """
    paths = watched(scope)
    if not paths:
        stop.wait()
        return
    first, trouble = store.versions(list(paths), scope), 0
    yield from (paths[path] for path, one in first.items() if one.note is not None and one.note.version != one.text)
    before = {path: one.text for path, one in first.items()}
    while not stop.wait(min(poll * 2.0**trouble, max(poll, LONGEST_PAUSE)) * random.uniform(0.9, 1.0)):  # noqa: S311 - jitter
        try:
            now = {path: one.text for path, one in store.versions(list(paths), scope).items()}
        except Transient as error:
            trouble = min(trouble + 1, 16)
            log.info("%s; the versions of secrets are looked at again", error)
            continue
        trouble = 0
        for path in [path for path in paths if before.get(path) != now.get(path)]:
            log.info("%s: version %s", path, now.get(path, "none"))
            yield paths[path]
        before = now

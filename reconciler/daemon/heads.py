"""Where the daemon gets revisions from: a branch that is polled, or a directory that is watched while somebody edits it."""

import random
from pathlib import Path
from threading import Event

from reconciler.clock import Clock
from reconciler.desired import Desired, desired_below, desired_from
from reconciler.source import GitSource


class GitHead:
    """The head of a branch. Asking is one ``ls-remote``; only a new head is fetched. ``poke`` makes the next look immediate."""

    def __init__(self, source: GitSource, folder: str, poll: float, clock: Clock) -> None:
        """Look every ``poll`` seconds, with jitter, so that many daemons do not ask at once."""
        self._source, self._folder, self._poll, self._clock = source, folder, poll, clock
        self._seen = ""
        self._poked = Event()

    def changed(self) -> Desired | None:
        """Give the new desired state, or None when the head is the one already given."""
        if self._source.head() == self._seen:
            return None
        commit = self._source.fetch()
        self._seen = commit  # a revision with problems is reported once, not at every look
        return desired_from(self._source.read(commit, self._folder), self._folder)

    def poke(self) -> None:
        """Ask for a look now."""
        self._poked.set()

    def wait(self, stop: Event) -> None:
        """Wait for the next look, a poke, or the end."""
        left = self._poll * random.uniform(0.8, 1.0)  # noqa: S311 - jitter
        while left > 0 and not stop.is_set() and not self._poked.wait(min(left, 0.2)):
            left -= 0.2
        self._poked.clear()


class DirectoryHead:
    """A working tree, for development: edit, save, and see it converge."""

    def __init__(self, path: Path, folder: str) -> None:
        """Watch ``path``."""
        self._path, self._folder, self._fresh = path, folder, True

    def changed(self) -> Desired | None:
        """Give the tree as it is now, when something in it was saved."""
        if not self._fresh:
            return None
        self._fresh = False
        return desired_below(self._path, self._folder)

    def wait(self, stop: Event) -> None:
        """Wait until a file is saved."""
        import watchfiles  # only for those who edit in place

        for _ in watchfiles.watch(self._path, stop_event=stop, rust_timeout=1000, yield_on_timeout=False):
            self._fresh = True
            return

"""Where the daemon gets revisions from: a branch that is polled, or a directory that is watched while somebody edits it."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from reconciler.desired import Desired, desired_below, desired_from
from reconciler.errors import InputError, SourceError
from reconciler.source import GitSource


class GitHead:
    """The head of a branch. Asking is one ``ls-remote``; only a new head is fetched. ``poke`` makes the next look immediate."""

    def __init__(self, source: GitSource, folder: str, poll: float) -> None:
        """Look every ``poll`` seconds, with jitter, so that many daemons do not ask at once."""
        self._source, self._folder, self._poll = source, folder, poll
        self._seen = ""
        self._rewritten = False
        self._poked = Event()

    def changed(self) -> Desired | None:
        """Give the new desired state, or None when the head is the one already given."""
        if self._source.head() == self._seen:
            return None
        commit = self._source.fetch()
        # the mirror is shared with the command line, which may have fetched the rewritten branch before us
        lost = bool(self._seen) and not self._source.descends(commit, self._seen)
        self._rewritten = self._rewritten or self._source.rewritten or lost
        try:
            revision = self._source.read(commit, self._folder)
        except InputError:
            self._seen = commit  # a revision with problems is reported once, not at every look
            raise
        self._seen, rewritten, self._rewritten = commit, self._rewritten, False
        return replace(desired_from(revision, self._folder), rewritten=rewritten)

    def poke(self) -> None:
        """Ask for a look now."""
        self._poked.set()

    def wait(self, stop: Event) -> None:
        """Wait for the next look, a poke, or the end."""
        left = self._poll * random.uniform(0.8, 1.0)  # noqa: S311 - jitter
        while left > 0 and not stop.is_set() and not self._poked.wait(min(left, 0.2)):
            left -= 0.2
        self._poked.clear()


class Heads:
    """The heads of several repositories, by name. The loop asks each by itself; one that is down does not hide the others."""

    def __init__(self, heads: Mapping[str, "Head"]) -> None:
        """Follow these, until ``replace`` gives others."""
        self._heads = dict(heads)

    def parts(self) -> "dict[str, Head]":
        """Give the heads by name, as they are now."""
        return dict(self._heads)

    def replace(self, heads: Mapping[str, "Head"]) -> None:
        """Follow these from now on, beginning at once."""
        before, self._heads = self._heads, dict(heads)
        for one in (*before.values(), *heads.values()):
            one.poke()

    def changed(self) -> Desired | None:
        """Give what the first of them that has something new gives."""
        found = ((name, one.changed()) for name, one in self.parts().items())
        return next((replace(desired, source=name) for name, desired in found if desired is not None), None)

    def wait(self, stop: Event) -> None:
        """Wait until the first of them is due. All are then asked, which costs one ``ls-remote`` each."""
        heads = list(self._heads.values())
        if not heads:
            stop.wait(1.0)
            return
        min(heads, key=lambda one: one.poll).wait(stop)

    def poke(self) -> None:
        """Ask for a look at all of them now."""
        for one in self._heads.values():
            one.poke()


class DirectoryHead:
    """A working tree, for development: edit, save, and see it converge."""

    def __init__(self, path: Path, folder: str) -> None:
        """Watch ``path``."""
        self._path, self._folder = path, folder
        self._seen: Any = None
        self._saves: Iterator[object] = iter(())

    def changed(self) -> Desired | None:
        """Give the tree as it is now, when it is another than the one given before."""
        seen = self._look()
        if seen == self._seen:
            return None
        self._seen = seen
        return desired_below(self._path, self._folder)

    def _look(self) -> object:
        """Read everything, because a save may come while nobody watches; a tree that cannot be read is as good as its complaint."""
        try:
            found = desired_below(self._path, self._folder, about=False)
        except (InputError, SourceError) as error:
            return str(error)
        return found.names, found.revision.tree

    def poke(self) -> None:
        """Do nothing: it looks every second."""

    def wait(self, stop: Event) -> None:
        """Wait until a file is saved, a second at most."""
        import watchfiles  # only for those who edit in place

        try:
            if next(self._saves, None) is None:
                self._saves = watchfiles.watch(self._path, stop_event=stop, rust_timeout=1000, yield_on_timeout=True)
                next(self._saves, None)
        except OSError:  # the directory is gone; perhaps it comes back
            stop.wait(1.0)

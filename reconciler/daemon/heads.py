"""Where the daemon gets revisions from: a branch that is polled, or a directory that is watched while somebody edits it."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any, Protocol

from reconciler.desired import Desired, desired_below, desired_from
from reconciler.errors import InputError, SourceError, Untrusted
from reconciler.source import GitSource


class GitHead:
    """The head of a branch. Asking is one ``ls-remote``; only a new head is fetched. ``poke`` makes the next look immediate."""

    def __init__(self, source: GitSource, folder: str, poll: float) -> None:
        """Look every ``poll`` seconds, with jitter, so that many daemons do not ask at once."""
        self._source, self._folder, self._poll = source, folder, poll
        self._seen = ""
        self._instead = ""
        self._rewritten = False
        self._poked = Event()

    def changed(self) -> Desired | None:
        """Give the new desired state, or None when the head is the one already given."""
        if self._instead:
            commit, self._instead = self._instead, ""
            return replace(desired_from(self._source.read(commit, self._folder), self._folder), older=True)
        if self._source.head() == self._seen:
            return None
        commit = self._source.fetch()
        # the mirror is shared with the command line, which may have fetched the rewritten branch before us
        lost = bool(self._seen) and not self._source.descends(commit, self._seen)
        self._rewritten = self._rewritten or self._source.rewritten or lost
        try:
            revision = self._source.read(commit, self._folder)
        except InputError as error:
            if isinstance(error, Untrusted) and not self._seen:  # after a restart nothing is in force: the last that was trusted is, next
                self._instead = self._source.trusted()
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


class Head(Protocol):
    """Where revisions come from."""

    def changed(self) -> Desired | None:
        """Give the newest desired state when it is another than the last one given, else None. Raises SourceError or InputError."""
        ...

    def wait(self, stop: Event) -> None:
        """Return when it is time to ask again, or when ``stop`` is set."""
        ...

    def poke(self) -> None:
        """Let ``wait`` return now."""
        ...


class Question:
    """A head that is being asked on a thread of its own, so that a slow server keeps nobody else waiting."""

    def __init__(self, head: Head, answered: Event, began: float) -> None:
        """Ask at ``began``, and set ``answered`` afterwards."""
        self._head, self._answered, self.began, self.done = head, answered, began, False
        self._answer: Desired | None = None
        self._error: BaseException | None = None
        self._thread = Thread(target=self._ask, name="asking", daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self._answer = self._head.changed()
        except BaseException as error:  # told to whoever asks for the answer
            self._error = error
        self.done = True
        self._answered.set()

    def changed(self) -> Desired | None:
        """Give the answer, or raise what it was."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer

    def wait(self, stop: Event) -> None:
        """Do nothing: the answer is there."""

    def poke(self) -> None:
        """Do nothing: the answer is there."""


class Heads:
    """The heads of several repositories, by name, each with a pace of its own. They can be exchanged while they are followed."""

    def __init__(self, heads: Mapping[str, tuple[Head, float]], clock: Callable[[], float] = monotonic) -> None:
        """Take each head with the seconds between two looks at it."""
        self._clock, self._wake, self._lock = clock, Event(), Lock()  # a webhook pokes while the source is asked
        self._heads = dict(heads)
        self._due: dict[str, float] = {}
        self._asked: dict[str, tuple[Head, Question]] = {}

    def exchange(self, heads: Mapping[str, tuple[Head, float]]) -> None:
        """Follow these from now on. One that was followed before goes on as it was; a new one is looked at now."""
        with self._lock:
            self._due = {name: due for name, due in self._due.items() if heads.get(name) == self._heads.get(name)}
            self._heads = dict(heads)
        self._wake.set()

    def pairs(self) -> dict[str, tuple[Head, float]]:
        """Give every head with its pace."""
        return dict(self._heads)

    def due(self) -> dict[str, Head]:
        """Give the heads whose time has come, and count them as looked at. Of several, give those that have answered."""
        with self._lock:
            return self._due_now()

    def _due_now(self) -> dict[str, Head]:
        now, heads = self._clock(), self._heads
        found = {name: one for name, (one, _) in heads.items() if self._due.get(name, now) <= now and name not in self._asked}
        self._due |= {name: now + heads[name][1] * random.uniform(0.8, 1.0) for name in found}  # noqa: S311 - jitter
        if len(heads) == 1 and not self._asked:
            return found
        self._asked |= {name: (one, Question(one, self._wake, now)) for name, one in found.items()}
        ready = {name: asked for name, asked in self._asked.items() if asked[1].done}
        for name in ready:
            del self._asked[name]
        # what a head says that was exchanged meanwhile counts no more
        return {name: question for name, (one, question) in ready.items() if name in heads and heads[name][0] is one}

    def changed(self) -> Desired | None:
        """Give what the first of those that are due has to give. Raises what it raises."""
        for name, head in self.due().items():
            if (desired := head.changed()) is not None:
                return replace(desired, source=name)
        return None

    def wait(self, stop: Event) -> None:
        """Wait until one is due or has answered, for a poke, or for the end."""
        while not stop.is_set() and not self._wake.wait(0.2):
            with self._lock:
                waiting = [self._due.get(name, 0.0) for name in self._heads if name not in self._asked]
                if any(question.done for _, question in self._asked.values()) or min(waiting, default=0.0) <= self._clock():
                    break
        self._wake.clear()

    def poke(self) -> None:
        """Ask for a look at all of them now."""
        with self._lock:
            self._due.clear()
        self._wake.set()


def parts(head: Head) -> dict[str, Head]:
    """Give the heads that are to be asked now, by the name of their repository; the name is empty where there is none."""
    return head.due() if isinstance(head, Heads) else {"": head}


def named(head: Head) -> tuple[str, ...]:
    """Give the names of the repositories that are followed; one empty name where they have none."""
    return tuple(head.pairs()) if isinstance(head, Heads) else ("",)


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

"""Keeps a desk for each repository that has a forge, as the settings are now; one is opened anew when what it is made of changes.

Each desk works on a thread of its own, so that a slow forge keeps no other waiting. One that cannot be opened, or dies of a bug, is opened
again a while later, and the others go on.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread

from reconciler.compose import Workshop, cache_of, credentials_of
from reconciler.daemon.pulls import Desk
from reconciler.errors import ReconcilerError
from reconciler.notify.forge import KINDS
from reconciler.notify.forge import Forge as Client
from reconciler.proposals import ProposalSource
from reconciler.repositories import Forge, Repository
from reconciler.resource import SecretValue
from reconciler.settings import SINGLE, Settings
from reconciler.state import Store

log = logging.getLogger("reconciler.forge")
PAUSE, AGAIN = 1.0, 30.0


@dataclass(slots=True)
class _Open:
    """A desk that works, and what it was made of."""

    of: tuple[Forge, Repository]
    stop: Event
    thread: Thread


@dataclass(slots=True)
class Reception:
    """One thread's work. ``owner`` gives the name of the repository that a stack, or a place that people are told of, belongs to."""

    workshop: Workshop
    store: Store
    owner: Callable[[str], str]
    _open: dict[str, _Open] = field(default_factory=dict)
    _rests: dict[str, float] = field(default_factory=dict)
    _ending: list[Thread] = field(default_factory=list)

    def run(self, stop: Event) -> None:
        """Follow the settings until ``stop`` is set, then close every desk."""
        while True:
            self.look()
            if stop.wait(PAUSE):
                break
        self.close()

    def look(self) -> None:
        """Open and close desks until there is one for each forge of the settings."""
        settings = self.workshop.settings
        sources, forges = settings.sources(), settings.forges()
        for name, desk in list(self._open.items()):
            wanted = name in forges and desk.of == (forges[name], sources[name])
            if not wanted or not desk.thread.is_alive():
                desk.stop.set()
                self._ending.append(desk.thread)
                del self._open[name]
                self._rest(name, AGAIN if wanted else 0.0)
        self._ending = [one for one in self._ending if one.is_alive()]
        for name, forge in forges.items():
            if name not in self._open and self._rests.get(name, 0.0) <= self.workshop.clock.monotonic():
                self._try(settings, name, forge, sources[name])

    def _rest(self, name: str, seconds: float) -> None:
        self._rests[name] = self.workshop.clock.monotonic() + seconds

    def _try(self, settings: Settings, name: str, forge: Forge, repository: Repository) -> None:
        """Open a desk; when that cannot be, such as without a file that the settings name, say so and leave the others alone."""
        try:
            self._open[name] = self._opened(settings, name, forge, repository)
        except Exception as error:
            log.error("the forge of %s is told nothing, and is tried again in %g s: %s", name, AGAIN, _said(error))
            self._rest(name, AGAIN)

    def _opened(self, settings: Settings, name: str, forge: Forge, repository: Repository) -> _Open:
        made = Desk(self.workshop, self.store, client(forge), name=name, mine=lambda stack: self.owner(stack) == name)
        if repository.pull_requests:
            made.source = proposals(settings, name, repository)
        stop = Event()
        thread = Thread(target=_work, args=(made, stop), name=f"forge {name}", daemon=True)
        thread.start()
        return _Open((forge, repository), stop, thread)

    def close(self) -> None:
        """Let every desk end, and wait for it."""
        for desk in self._open.values():
            desk.stop.set()
        for thread in [*self._ending, *(desk.thread for desk in self._open.values())]:
            thread.join(timeout=30)
        self._open.clear()


def _work(desk: Desk, stop: Event) -> None:
    try:
        desk.run(stop)
    except Exception as error:  # a bug in telling people must not end what they are told of
        log.exception("bug: nobody speaks with the forge of %s for %g s: %s", desk.name, AGAIN, type(error).__name__)


def _said(error: Exception) -> str:
    """Give what an error says when it is one of ours; of another one its name, because its text may hold anything."""
    return str(error) if isinstance(error, ReconcilerError) else type(error).__name__


def client(forge: Forge) -> Client:
    """Give the client of a forge."""
    return KINDS[forge.kind](forge.url, SecretValue(forge.token.get_secret_value()), forge.repository)


def proposals(settings: Settings, name: str, repository: Repository) -> ProposalSource:
    """Give the source of what is proposed to a repository, in a place of its own. What is proposed need not be signed to be planned."""
    place = "proposals" if name == SINGLE else f"proposals-{name}"
    return ProposalSource(
        repository.url,
        repository.branch,
        cache_of(settings) / place,
        credentials=credentials_of(repository),
        timeout=repository.timeout,
        allow_file=repository.url.startswith("file://"),
    )

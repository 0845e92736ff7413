"""A daemon over a system in memory, driven by hand: no thread, no network, no waiting."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from reconciler.compose import Workshop
from reconciler.daemon.cards import record
from reconciler.daemon.loop import Daemon
from reconciler.daemon.outbox import Outbox
from reconciler.desired import Desired, desired_from
from reconciler.notify import Notice
from reconciler.observing import Seen
from reconciler.report import Report
from reconciler.settings import Settings
from reconciler.source import Revision
from reconciler.state import Store
from tests.unit.core.memory import CATALOG, STACK, FakeTime, System, thing


class Hand:
    """A head whose next answers are laid out beforehand: a desired state, an error, or None."""

    def __init__(self, *answers: Desired | Exception | None) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.wait: Callable[[Event], None] = lambda stop: stop.set() if not self.answers else None
        self.poke: Callable[[], None] = lambda: None

    def changed(self) -> Desired | None:
        self.asked += 1
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return answer


class Mailbox:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[Notice] = []

    def send(self, notice: Notice) -> None:
        self.got.append(notice)


def commit(name: str, *, rewritten: bool = False, **stacks: str | Mapping[str, str]) -> Desired:
    """A revision with these stacks; a lone text is the file ``all.yaml``."""
    tree: dict[str, bytes] = {}
    for stack, files in stacks.items():
        named = {"all.yaml": files} if isinstance(files, str) else files
        plain = STACK.replace("name: test", f"name: {stack}")
        tree |= {f"desired/{stack}/{file}": text.encode() for file, text in {"stack.yaml": plain, **named}.items()}
    return replace(desired_from(Revision(name, tree, subject=f"subject of {name}"), "desired"), rewritten=rewritten)


GOOD = thing("a", text="Hello")
BETTER = thing("a", text="Hello") + thing("b", size=2)
BAD = thing("a", sise=2)


@dataclass
class House:
    """One daemon with what it writes to and whom it tells."""

    folder: Path
    system: System = field(default_factory=System)
    time: FakeTime = field(default_factory=FakeTime)
    head: Hand = field(default_factory=Hand)
    reports: list[Report] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stop = Event()
        self.mailbox = Mailbox()
        self.store = Store(self.folder / "state.db", news=record)
        self.daemon = self.make()

    def make(self, **more: Any) -> Daemon:
        from reconciler.daemon.queue import KeyedQueue

        settings = Settings().model_copy(update={"targets": {"mem": {"system": self.system}}})
        workshop = Workshop(settings, self.time.clock(), self.stop, CATALOG)
        outbox = Outbox(self.store, self.mailbox, self.time.clock(), pace=0)
        queue = KeyedQueue(lambda: self.time.seconds)
        return Daemon(workshop, self.store, self.head, outbox, done=self.reports.append, queue=queue, **more)

    def restart(self) -> None:
        """Begin anew on the same database."""
        self.store.close()
        self.store = Store(self.folder / "state.db", news=record)
        self.daemon = self.make()

    def passes(self, most: int = 10) -> list[str]:
        """Run what is due now; give the stacks in the order in which they were worked on."""
        worked: list[str] = []
        seen: list[Seen] = []
        with self.daemon.workshop.engine(self.store, after=seen.append) as engine:
            while len(worked) < most and (claim := self.daemon.queue.take(0)) is not None:
                self.daemon._claimed(engine, claim, seen)
                worked.append(claim.key)
        return worked

    def told(self) -> list[str]:
        """Send what is owed; give it as ``stack: title``."""
        self.mailbox.got.clear()
        self.daemon.outbox.flush(Event())
        return [f"{one.stack}: {one.title}" for one in self.mailbox.got]

"""Speaks with the forge: commit statuses, and the plan of each open pull request as one comment that is edited in place.

A pull request is untrusted input. Those from branches of this repository are planned, because whoever may push there is trusted to propose;
those from elsewhere only when the settings name their author. A plan of one writes nothing, reveals no secret and runs no probe; what it
shows of live objects is seen by all who may read the forge.

Of the daemons that share a store one works for a repository, as long as it goes well there. Who lost the turn meanwhile, because it was
frozen, writes nothing more; what it had begun is shown anew by who has the turn.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event
from typing import Any

import sqlalchemy as sa

from reconciler.compose import Workshop, signatures_of
from reconciler.daemon import cards, statuses
from reconciler.daemon.statuses import CommitStatus
from reconciler.desired import Desired, desired_from
from reconciler.errors import InputError, Permanent, ReconcilerError, SourceError, StoreError, Transient, TurnLost
from reconciler.notify import Closed, Gone
from reconciler.notify.comment import NextHead, Planned, body, mark
from reconciler.notify.forge import Comment, Forge, Pull
from reconciler.notify.states import State
from reconciler.proposals import ProposalSource
from reconciler.repositories import Repository
from reconciler.resource import digest
from reconciler.settings import SINGLE
from reconciler.state import Store
from reconciler.tables import METADATA
from reconciler.telemetry import span
from reconciler.turns import Turn

log = logging.getLogger("reconciler.forge")
PULLS = sa.Table(
    "pulls",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("head", "base", "body", "state", "comment", "shown", "at")),
)
CONTEXT = "reconciler"
KEPT = timedelta(days=30)
SOON, ELECTION, AGAIN, SHUT = 1.0, 3.0, 30.0, 900.0
UNREADABLE, UNREAD = "Not planned: it cannot be read; see the log of the daemon", "unread"


@dataclass(slots=True)
class Desk:
    """One thread's work for one repository, called ``name``, of which the stacks are ``mine``; its commits are, whatever stack they touch.

    ``source`` is None where pull requests are not planned; then only statuses are sent.
    """

    workshop: Workshop
    store: Store
    forge: Forge
    source: ProposalSource | None = None
    name: str = SINGLE
    mine: Callable[[str], bool] = lambda stack: True
    _seen: object = None
    _me: str | None = None
    _turn: Turn | None = None

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set. What was not sent is in the store."""
        pause = 0.0
        while not self.workshop.clock.wait(stop, pause):
            pause = self.serve(stop)

    def serve(self, stop: Event) -> float:
        """Work as long as it is our turn and all goes well; give the seconds until it may be our turn again."""
        try:
            with self.store.sending(f" forge {self.name}") as turn:
                return ELECTION if turn is None else self._serve(stop, turn)
        except StoreError as error:
            log.error("%s", error)
            return AGAIN

    def _serve(self, stop: Event, turn: Turn) -> float:
        clock, due, pause = self.workshop.clock, 0.0, 0.0
        self._turn = turn
        try:
            while turn.held():
                pause = self.once(pulls=clock.monotonic() >= due)
                if clock.monotonic() >= due:
                    due = clock.monotonic() + self._repository().poll
                if pause > SOON or clock.wait(stop, pause):
                    return pause  # in trouble, another daemon may fare better
            return ELECTION
        finally:
            self._turn = None

    def _held(self) -> bool:
        return self._turn is None or self._turn.held()

    def _ask(self) -> None:
        """Be sure that it is our turn, before something is written. Raises TurnLost."""
        if not self._held():
            raise TurnLost(f"forge: another daemon works for {self.name} now; nothing more was written")

    def _writing(self) -> AbstractContextManager[sa.Connection]:
        return self.store.transaction() if self._turn is None else self.store.within(self._turn)

    @contextmanager
    def _about(self, number: int) -> Iterator[None]:
        """Work on one pull request; when the turn was lost meanwhile, let who has it now show the plan once more."""
        try:
            self._ask()
            yield
        finally:
            if not self._held():
                with self.store.transaction() as connection:
                    connection.execute(sa.update(PULLS).where(*self._of(number)).values(shown=statuses.unknown()))

    def once(self, *, pulls: bool = True) -> float:
        """Send what can be sent now; give the seconds until the next look."""
        try:
            self.send()
            if pulls and self.source is not None:
                self.look(self.source)
        except Transient as error:
            log.warning("the forge is asked again: %s", error)
            return error.retry_after or AGAIN
        except (Closed, Gone) as error:
            self._condition(str(error))
            return SHUT
        except ReconcilerError as error:
            log.error("%s", error)
            return AGAIN
        except Exception as error:  # a bug in telling people must not end what they are told of
            log.exception("bug: the forge is not told: %s", type(error).__name__)
            return AGAIN
        self._condition("")
        return SOON

    def _repository(self) -> Repository:
        """Give what the settings say of it; what they say of any, when it was taken out this moment."""
        return self.workshop.settings.sources().get(self.name) or Repository()

    def _condition(self, message: str) -> None:
        name = "forge" if self.name == SINGLE else f"forge {self.name}"
        try:
            with self.store.transaction() as connection:
                cards.condition(connection, name, message, self.workshop.clock.now())
        except StoreError as error:  # it is said at the next look
            log.error("%s", error)

    # -- statuses --------------------------------------------------------------------------------------------------------------

    def send(self) -> None:
        """Send every status that the forge does not show yet; to send one twice changes nothing."""
        with self.store.transaction() as connection:
            waiting = [one for one in statuses.unshown(connection) if self._of_us(one)]
        for one in waiting:
            self._ask()
            try:
                self.forge.status(one.revision, f"{CONTEXT}/{one.stack}", one.state, one.description, one.link)
            except (Closed, Gone):
                raise
            except Permanent as error:  # such as a commit that the forge no longer has
                log.error("the status of %s is dropped: %s", one.revision[:12], error)
            with self.store.transaction() as connection:
                (statuses.shown if self._held() else statuses.doubted)(connection, one)

    def _of_us(self, one: CommitStatus) -> bool:
        return one.source == self.name if one.source else self.mine(one.stack)

    # -- pull requests ---------------------------------------------------------------------------------------------------------

    def look(self, source: ProposalSource) -> None:
        """Plan what is new, and show every plan that is not shown yet."""
        heads, head = source.heads(self.forge.refs), source.head()
        if (heads, head) != self._seen:
            base = source.fetch()
            found = self.forge.pulls()
            read = [self._agreed(one, heads) and self._consider(source, one, base) for one in found]
            self._forget({one.number for one in found})
            self._seen = (heads, head) if all(read) else None
        with self.store.transaction() as connection:
            unshown = sa.select(PULLS).where(PULLS.c.source == self.name, PULLS.c.shown != PULLS.c.body)
            waiting = [dict(row._mapping) for row in connection.execute(unshown)]
        for row in waiting:
            with self._about(int(row["number"])):
                self._show(row)

    def _agreed(self, one: Pull, heads: Mapping[str, str]) -> bool:
        """Say whether a forge and its git speak of the same commit. After a push one is a moment behind; what one plans then is not it."""
        if heads.get(self.forge.refs.replace("*", str(one.number)), one.head) == one.head:
            return True
        log.info("pull request %d is planned when the forge and its git agree on its newest commit", one.number)
        return False

    def _forget(self, open_: Collection[int]) -> None:
        """Forget what was planned long ago of pull requests that are open no more; one that is opened again soon keeps its comment."""
        old = (self.workshop.clock.now() - KEPT).isoformat()
        with self._writing() as connection:
            connection.execute(sa.delete(PULLS).where(PULLS.c.source == self.name, PULLS.c.at < old, PULLS.c.number.not_in(open_)))

    def _consider(self, source: ProposalSource, one: Pull, base: str) -> bool:
        """Plan one pull request, unless it was planned as it is. Says whether that is settled; what could not be read is tried again."""
        if one.base != self._repository().branch:
            return True
        if not one.ours and one.author not in self.workshop.settings.forges()[self.name].authors:
            log.info("pull request %d is by %s, who is not in forge.authors, from elsewhere; it is not planned", one.number, one.author)
            return True
        with self.store.transaction() as connection:
            known = connection.execute(sa.select(PULLS).where(*self._of(one.number))).first()
        if known is not None and (known.head, known.base) == (one.head, base):
            return True
        with self._about(one.number):
            return self._plan(source, one, base, known)

    def _plan(self, source: ProposalSource, one: Pull, base: str, known: "sa.Row[Any] | None") -> bool:
        """Plan one pull request, and write down what to show; ``known`` is what was planned of it before. Says whether it could be read."""
        if known is None or (known.head, known.base) != (one.head, UNREAD):
            self.forge.status(one.head, f"{CONTEXT}/plan", "pending", "planning", "")
        with span("plan pull request", number=one.number):
            text, state, read = self._comment(source, one, base)
        values = {
            "head": one.head,
            "base": base if read else UNREAD,
            "body": text,
            "state": state,
            "at": self.workshop.clock.now().isoformat(),
        }
        with self._writing() as connection:
            if known is None:
                connection.execute(sa.insert(PULLS), {"source": self.name, "number": one.number, "comment": "", "shown": "", **values})
            else:
                connection.execute(sa.update(PULLS).where(*self._of(one.number)).values(**values))
        return read

    def _of(self, number: int) -> tuple["sa.ColumnElement[bool]", ...]:
        return PULLS.c.source == self.name, PULLS.c.number == number

    def _comment(self, source: ProposalSource, one: Pull, base: str) -> tuple[str, State, bool]:
        """Give the comment on a pull request, its state, and whether the request could be read."""
        folder, stacks = self._repository().folder, list[Planned]()
        trouble, doubts, policy = "", tuple[str, ...](), signatures_of(self._repository())
        next_head: NextHead | None = None
        try:
            ref = self.forge.refs.replace("*", str(one.number))
            merged = source.merged(base, head := source.bring(ref))
            doubts = source.doubts(base, head, policy)
            if policy.mode == "head":
                next_head, doubts = NextHead(source.descends(head, base), *doubts[:1]), ()
            if merged:
                stacks = list(self._planned(desired_from(source.read(merged, folder), folder), self._now(source, base)))
            else:
                trouble = "Not planned: it conflicts with the branch"
        except InputError as error:
            stacks = [Planned(folder, problems=tuple(str(problem) for problem in error.problems))]
        except SourceError as error:
            log.warning("pull request %d cannot be read: %s", one.number, error)
            trouble = UNREADABLE
        text = body(self.workshop.settings.instance, one.head, base, stacks, self.forge.longest, trouble, doubts, next_head)
        state: State = "failure" if trouble or doubts or any(stack.bad for stack in stacks) else "success"
        return text, state, trouble != UNREADABLE

    def _now(self, source: ProposalSource, base: str) -> Desired | None:
        """Give what the branch asks for today; None when that cannot be read, so that every stack counts as touched."""
        folder = self._repository().folder
        try:
            return desired_from(source.read(base, folder), folder)
        except (InputError, SourceError):
            return None

    def _planned(self, then: Desired, now: Desired | None) -> Iterator[Planned]:
        """Plan every stack whose files a pull request touches."""
        for name in touched(then, now):
            if name not in then.names:
                yield Planned(name, problems=("the stack disappears; nothing of it would be deleted",))
                continue
            try:
                stack = then.load(name, self.workshop.kinds, self.workshop.today())
            except InputError as error:
                yield Planned(name, problems=tuple(str(problem) for problem in error.problems))
                continue
            with self.workshop.engine(self.store) as engine:
                careful = replace(engine, observer=replace(engine.observer, trusting=False))
                plan, _ = careful.plan(stack, then.revision.commit)
            yield Planned(name, plan, stack.findings)

    # -- comments --------------------------------------------------------------------------------------------------------------

    def _show(self, row: dict[str, str]) -> None:
        """Put a plan into its comment: the one that we know, or the one that carries our mark, or a new one."""
        number = int(row["number"])
        try:
            id = self._written(number, row["comment"] or self._ours(number), row["body"])
            state: State = "success" if row["state"] == "success" else "failure"
            self.forge.status(row["head"], f"{CONTEXT}/plan", state, _headline(row["body"]), "")
        except Closed:
            raise
        except Permanent as error:  # such as a pull request that was taken away
            log.error("the plan of pull request %d is not shown: %s", number, error)
            id = row["comment"]
        shown = sa.case((PULLS.c.shown == row["shown"], row["body"]), else_=PULLS.c.shown)  # somebody may doubt meanwhile that it is
        with self._writing() as connection:
            connection.execute(sa.update(PULLS).where(*self._of(number)).values(comment=id, shown=shown))

    def _written(self, number: int, id: str, text: str) -> str:
        """Edit a comment, or write one where there is none; give its id."""
        if id:
            try:
                self.forge.edit(number, id, text)
            except Gone:
                log.info("the comment on pull request %d was taken away; it is written again", number)
            else:
                return id
        return self._alone(number, self.forge.comment(number, text))

    def _ours(self, number: int) -> str:
        """Find a comment that we wrote and do not remember. One of somebody else with our mark in it is not ours."""
        if self._me is None:
            self._me = self.forge.me()
        return next((one.id for one in self._marked(number) if one.author == self._me), "") if self._me else ""

    def _marked(self, number: int) -> Iterator[Comment]:
        sign = mark(self.workshop.settings.instance)
        return (one for one in self.forge.comments(number) if one.body.startswith(sign))

    def _alone(self, number: int, id: str) -> str:
        """Let one comment stand, when one that was frozen while it wrote has written, too: that of who has the turn. Give its id."""
        found = list(self._marked(number))
        author = next((one.author for one in found if one.id == id), "")
        others = [one.id for one in found if author and one.author == author and one.id != id]
        for one in others if self._held() else [id] if others else []:
            log.warning("pull request %d has the comment of another daemon, too; one of them is taken away", number)
            try:
                self.forge.withdraw(number, one)
            except Permanent as error:
                log.warning("the second comment on pull request %d stays: %s", number, error)
        return id


def touched(then: Desired, now: Desired | None) -> list[str]:
    """List the stacks whose files differ."""
    if now is None:
        return sorted(then.names)
    return [name for name in sorted({*then.names, *now.names}) if _files(then, name) != _files(now, name)]


def _files(desired: Desired, name: str) -> str:
    start = f"{desired.folder}/{name}/" if desired.folder else f"{name}/"
    return digest(sorted((path, content.hex()) for path, content in desired.revision.tree.items() if path.startswith(start)))


def _headline(text: str) -> str:
    """Give the title of a comment as the description of a status."""
    return next((line.removeprefix("### ").replace("`", "") for line in text.splitlines() if line.startswith("### ")), "")

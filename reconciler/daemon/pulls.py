"""Speaks with the forge: commit statuses, and the plan of each open pull request as one comment that is edited in place.

A pull request is untrusted input. Those from branches of this repository are planned, because whoever may push there is trusted to propose;
those from elsewhere only when the settings name their author. A plan of one writes nothing, reveals no secret and runs no probe; what it
shows of live objects is seen by all who may read the forge.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Event

import sqlalchemy as sa

from reconciler.compose import Workshop, signatures_of
from reconciler.daemon import cards, statuses
from reconciler.desired import Desired, desired_from
from reconciler.errors import InputError, Permanent, ReconcilerError, SourceError, StoreError, Transient
from reconciler.notify import Closed, Gone
from reconciler.notify.comment import Planned, body, mark
from reconciler.notify.forge import Forge, Pull
from reconciler.notify.states import State
from reconciler.proposals import ProposalSource
from reconciler.repositories import Repository
from reconciler.resource import digest
from reconciler.settings import SINGLE
from reconciler.state import Store
from reconciler.tables import METADATA
from reconciler.telemetry import span

log = logging.getLogger("reconciler.forge")
PULLS = sa.Table(
    "pulls",
    METADATA,
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("head", "base", "body", "state", "comment", "shown", "at")),
)
CONTEXT = "reconciler"
AGAIN, SHUT = 30.0, 900.0
UNREADABLE, UNREAD = "Not planned: it cannot be read; see the log of the daemon", "unread"


@dataclass(slots=True)
class Desk:
    """One thread's work for one repository, called ``name``, of which the stacks are ``mine``.

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

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set. What was not sent is in the store."""
        pause = 0.0
        due = 0.0
        clock = self.workshop.clock
        while not clock.wait(stop, pause):
            pause = self.once(pulls=clock.monotonic() >= due)
            if clock.monotonic() >= due:
                due = clock.monotonic() + self._repository().poll

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
        return 1.0

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
            waiting = [one for one in statuses.unshown(connection) if self.mine(one.stack)]
        for one in waiting:
            try:
                self.forge.status(one.revision, f"{CONTEXT}/{one.stack}", one.state, one.description, one.link)
            except (Closed, Gone):
                raise
            except Permanent as error:  # such as a commit that the forge no longer has
                log.error("the status of %s is dropped: %s", one.revision[:12], error)
            with self.store.transaction() as connection:
                statuses.shown(connection, one)

    # -- pull requests ---------------------------------------------------------------------------------------------------------

    def look(self, source: ProposalSource) -> None:
        """Plan what is new, and show every plan that is not shown yet."""
        heads, head = source.heads(self.forge.refs), source.head()
        if (heads, head) != self._seen:
            base = source.fetch()
            read = [self._consider(source, one, base) for one in self.forge.pulls()]
            self._seen = (heads, head) if all(read) else None
        with self.store.transaction() as connection:
            unshown = sa.select(PULLS).where(PULLS.c.source == self.name, PULLS.c.shown != PULLS.c.body)
            waiting = [dict(row._mapping) for row in connection.execute(unshown)]
        for row in waiting:
            self._show(row)

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
        with self.store.transaction() as connection:
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
        trouble, doubts = "", tuple[str, ...]()
        try:
            ref = self.forge.refs.replace("*", str(one.number))
            merged = source.merged(base, head := source.bring(ref))
            doubts = source.doubts(base, head, signatures_of(self._repository()))
            if merged:
                stacks = list(self._planned(desired_from(source.read(merged, folder), folder), self._now(source, base)))
            else:
                trouble = "Not planned: it conflicts with the branch"
        except InputError as error:
            stacks = [Planned(folder, problems=tuple(str(problem) for problem in error.problems))]
        except SourceError as error:
            log.warning("pull request %d cannot be read: %s", one.number, error)
            trouble = UNREADABLE
        text = body(self.workshop.settings.instance, one.head, base, stacks, self.forge.longest, trouble, doubts)
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
        with self.store.transaction() as connection:
            connection.execute(sa.update(PULLS).where(*self._of(number)).values(comment=id, shown=row["body"]))

    def _written(self, number: int, id: str, text: str) -> str:
        """Edit a comment, or write one where there is none; give its id."""
        if id:
            try:
                self.forge.edit(number, id, text)
            except Gone:
                log.info("the comment on pull request %d was taken away; it is written again", number)
            else:
                return id
        return self.forge.comment(number, text)

    def _ours(self, number: int) -> str:
        """Find a comment that we wrote and do not remember. One of somebody else with our mark in it is not ours."""
        if self._me is None:
            self._me = self.forge.me()
        sign = mark(self.workshop.settings.instance)
        if not self._me:
            return ""
        return next((one.id for one in self.forge.comments(number) if one.author == self._me and one.body.startswith(sign)), "")


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

"""What a forge shows beside a commit: one status for each stack, and what of it was sent.

A status says whether the commit was brought about. Once it was, what happens to the stack later is no longer about this commit.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

import sqlalchemy as sa

from reconciler.git import HEX
from reconciler.notify.states import State
from reconciler.report import Report, Verdict, summary
from reconciler.tables import METADATA

STATUSES = sa.Table(
    "statuses",
    METADATA,
    sa.Column("revision", sa.Text, primary_key=True),
    sa.Column("stack", sa.Text, primary_key=True),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("state", "description", "link", "at", "shown")),
    sa.Column("source", sa.Text, nullable=False, server_default=""),
)
KEPT = timedelta(days=30)
OF: dict[Verdict, State] = {
    Verdict.CONVERGED: "success",
    Verdict.PENDING: "pending",
    Verdict.DEGRADED: "failure",
    Verdict.FAILED: "failure",
    Verdict.REJECTED: "failure",
}


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """The status of one commit for one stack. ``source`` names the repository of the commit; empty: that of the stack.

    ``shown`` is what the store knew of the forge when it was read.
    """

    revision: str
    stack: str
    state: State
    description: str
    link: str = ""
    source: str = ""
    shown: str = field(default="", compare=False)

    @property
    def face(self) -> str:
        """What a forge shows of it."""
        return f"{self.state} {self.description} {self.link}"


def of_report(report: Report, link: str = "") -> CommitStatus | None:
    """Give the status that a pass means for its commit; None when it says nothing, or there is no commit."""
    state = OF.get(report.verdict)
    if state is None or not HEX.fullmatch(report.revision):
        return None
    if report.verdict is Verdict.REJECTED:
        words = str(report.problems[0]) if report.problems else "rejected"
    elif report.verdict is Verdict.CONVERGED:
        words = f"converged: {summary(report.plan)}"
    else:
        words = f"{report.verdict}: {summary(report.remaining)}"
    return CommitStatus(report.revision, report.stack, state, words, link, report.source)


def following(before: CommitStatus | None, after: CommitStatus) -> CommitStatus:
    """Give the status to show: one that succeeded, or was overtaken, stays so."""
    return before if before is not None and before.state in ("success", "error") else after


def set_status(connection: sa.Connection, after: CommitStatus, now: datetime) -> None:
    """Write what a forge should show; older commits of the stack that never came to an end were overtaken by this one."""
    c = STATUSES.c
    row = connection.execute(sa.select(STATUSES).where(c.revision == after.revision, c.stack == after.stack)).first()
    before = _status(row) if row is not None else None
    if before is not None and not after.source:
        after = replace(after, source=before.source)
    new = following(before, after)
    if new != before:
        values = {"state": new.state, "description": new.description, "link": new.link, "at": now.isoformat(), "source": new.source}
        if row is None:
            connection.execute(sa.insert(STATUSES), {"revision": new.revision, "stack": new.stack, "shown": "", **values})
        else:
            connection.execute(sa.update(STATUSES).where(c.revision == new.revision, c.stack == new.stack).values(**values))
    if row is None and after.state == "pending":  # one that was rejected overtakes nothing: the older one stays in force
        _overtake(connection, after, now)


def _overtake(connection: sa.Connection, by: CommitStatus, now: datetime) -> None:
    c = STATUSES.c
    older = sa.update(STATUSES).where(c.stack == by.stack, c.revision != by.revision, c.state == "pending")
    connection.execute(older.values(state="error", description=f"overtaken by {by.revision[:12]}", at=now.isoformat()))
    connection.execute(sa.delete(STATUSES).where(c.at < (now - KEPT).isoformat()))


def unshown(connection: sa.Connection) -> Iterator[CommitStatus]:
    """Give what a forge does not show yet, the oldest first."""
    for row in connection.execute(sa.select(STATUSES).order_by(STATUSES.c.at)).all():
        if row.shown != (one := _status(row)).face:
            yield one


def shown(connection: sa.Connection, one: CommitStatus) -> None:
    """Write down that a forge shows a status, unless somebody has said meanwhile that it may not."""
    c = STATUSES.c
    mine = sa.update(STATUSES).where(c.revision == one.revision, c.stack == one.stack)
    connection.execute(mine.where(c.shown == one.shown).values(shown=one.face))


def doubted(connection: sa.Connection, one: CommitStatus) -> None:
    """Write down that nobody knows what a forge shows, so that the status is sent again."""
    c = STATUSES.c
    connection.execute(sa.update(STATUSES).where(c.revision == one.revision, c.stack == one.stack).values(shown=unknown()))


def unknown() -> str:
    """Give what stands for what is shown when that is not known; never the same, so that who writes at the same time notices."""
    return f"unknown {secrets.token_hex(8)}"


def _status(row: Any) -> CommitStatus:
    return CommitStatus(row.revision, row.stack, cast("State", row.state), row.description, row.link, row.source, row.shown)

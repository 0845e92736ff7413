"""The store: memory for people, in a SQLite file or in PostgreSQL; deleting it loses history only.

Each pass is written in one transaction together with the drift it found and the notices it owes. Times are ISO 8601 in UTC. No value of
a secret ever reaches this room, because none is in a plan or a report.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa

from reconciler.acknowledging import ACKNOWLEDGEMENTS, LOUD, Acknowledgement, exemptions
from reconciler.database import alone, open_database, unless_there
from reconciler.driver import Action, Change, Status
from reconciler.errors import StoreError
from reconciler.plan import Applied, Exemption
from reconciler.report import Report, Verdict, by_whom, drifted, report_data, summary
from reconciler.resource import ResourceId
from reconciler.settings import State
from reconciler.tables import APPLIED, APPROVALS, BEATS, DRIFT, OUTBOX, RUNS
from reconciler.turns import AdvisoryTurn, Turn

HEAD = "0005"
SENDING = " outbox"
"""The name of the turn to send; no stack's name begins with a space."""
FLAPS, FLAP_TIME = 3, timedelta(hours=1)
"""So many repairs of one resource in so long mean that two hands work against each other."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A notice that must be sent once. ``key`` is unique per incident; a second one with the same key is not stored."""

    key: str
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a pass changed in the memory: its number, the verdict before it, and the resources whose drift is new.

    ``flapping`` are those of them that were repaired several times in the last hour already: something else writes them, too.
    """

    run: int
    before: str
    opened: tuple[str, ...]
    flapping: tuple[str, ...] = ()


News: TypeAlias = Callable[[sa.Connection, Report, Recorded], None]
"""Writes down what a pass owes to people; called inside the transaction that records the pass."""


def no_news(connection: sa.Connection, report: Report, recorded: Recorded) -> None:
    """Owe nothing."""


class Store:
    """One open database. Thread-safe; every method is one transaction."""

    def __init__(self, where: Path | State, *, read_only: bool = False, heal: bool = False, news: News = no_news) -> None:
        """Open the database, made and migrated when needed; ``heal`` begins anew beside a broken file.

        Raises ReconcilerError when it is not a database of ours, StoreError when it cannot be reached.
        """
        self.database, self.news = open_database(where, read_only=read_only, heal=heal), news

    def close(self) -> None:
        """Close every connection."""
        self.database.close()

    # -- what the engine asks ------------------------------------------------------------------------------------------------

    def applied(self, stack: str) -> dict[ResourceId, Applied]:
        """Give what was last applied of each resource."""
        rows = self._rows(sa.select(APPLIED).where(APPLIED.c.stack == stack))
        return {ResourceId.parse(row.resource): Applied(row.digest, _ids(row.before), row.protect) for row in rows}

    def approved(self) -> set[str]:
        """Give the digests that somebody approved."""
        return {row.digest for row in self._rows(sa.select(APPROVALS.c.digest))}

    def acknowledged(self, stack: str, now: datetime) -> tuple[Exemption, ...]:
        """Give what people acknowledged in a stack outside of git, and what of it ended not long ago."""
        known = ACKNOWLEDGEMENTS.c
        return exemptions(self._dicts(sa.select(ACKNOWLEDGEMENTS).where(known.stack == stack, known.until > (now - LOUD).isoformat())), now)

    def record(self, report: Report, applied: Mapping[ResourceId, Applied], *, once: bool = False) -> Recorded | None:
        """Write a pass, what it applied, the drift it found and the notices it owes, all in one transaction.

        With ``once`` nothing is written when the newest run of the stack came to the same verdict about the same commit.
        """
        try:
            return self._record(report, applied, once)
        except StoreError as error:
            if not self.database.mend(error):
                raise
            return self._record(report, applied, once)

    def _record(self, report: Report, applied: Mapping[ResourceId, Applied], once: bool) -> Recorded | None:
        with self.database.recording(report.stack) as connection:
            if once and _stands(connection, report):
                return None
            told = RUNS.c.verdict.not_in([Verdict.REJECTED.value, Verdict.INTERRUPTED.value])  # neither says how the stack fares
            last = sa.select(RUNS.c.verdict).where(RUNS.c.stack == report.stack, told).order_by(RUNS.c.id.desc()).limit(1)
            before = connection.execute(last).scalar() or ""
            run = int(connection.execute(sa.insert(RUNS).returning(RUNS.c.id), _run_row(report)).scalar_one())
            renewed = self._remember(connection, report, applied, run)
            opened = self._drift(connection, report, renewed)
            recorded = Recorded(run, before, tuple(opened), tuple(self._flapping(connection, report, opened)))
            self.news(connection, report, recorded)
        return recorded

    def turn(self, stack: str) -> AbstractContextManager[Turn]:
        """Wait until no other process converges ``stack`` on this database, and keep others waiting meanwhile."""
        return self.database.turns.enter(stack)

    @contextmanager
    def sending(self, what: str = SENDING) -> Iterator[Turn | None]:
        """Give the turn to send notices, or ``what`` else one daemon does at a time and in order; None when another has it.

        It passes on within half a minute when its process dies or freezes.
        """
        turn = self.database.turns.turns.take(what, wait=False, beats=True)
        try:
            yield turn
        finally:
            if turn is not None:
                turn.leave()

    def _remember(self, connection: sa.Connection, report: Report, applied: Mapping[ResourceId, Applied], run: int) -> set[str]:
        """Write down what is now as git wants it; give the resources of which git wants something else than before."""
        rows = connection.execute(sa.select(APPLIED).where(APPLIED.c.stack == report.stack))
        known = {row.resource: Applied(row.digest, _ids(row.before), row.protect) for row in rows}
        gone = [str(change.id) for change in report.plan.changes if change.action is Action.DELETE and _was_applied(report, change)]
        fresh = [(str(id), one) for id, one in applied.items() if known.get(str(id)) != one]
        for id in {*gone, *(id for id, _ in fresh)} & set(known):
            connection.execute(sa.delete(APPLIED).where(APPLIED.c.stack == report.stack, APPLIED.c.resource == id))
        if fresh:
            connection.execute(sa.insert(APPLIED), [_applied_row(report, id, one, run) for id, one in fresh])
        return {id for id, one in fresh if id in known and known[id].digest != one.digest}

    def _drift(self, connection: sa.Connection, report: Report, renewed: Collection[str]) -> list[str]:
        """Open, refresh and close the drifts of a stack; give those that are new.

        A drift that is no longer seen was repaired by us, adopted into git (``renewed``), or put back by somebody; one that could not be
        looked at, or waits for something, stays as it is.
        """
        if report.verdict is Verdict.REJECTED:
            return []
        now = report.finished.isoformat()
        open_rows = connection.execute(sa.select(DRIFT).where(DRIFT.c.stack == report.stack, DRIFT.c.closed == ""))
        known = {row.resource: row for row in open_rows}
        waived = {held.change.id: held.reason for held in report.remaining.held if held.guard == "exception"}
        still = {change.id for change in drifted(report.remaining)} | set(waived)
        opened: list[str] = []
        found = {one.id: one for one in (*drifted(report.plan), *(one.change for one in report.remaining.held if one.change.id in waived))}
        for change in found.values():
            row = _drift_row(report, change, now, still, waived.get(change.id, ""))
            if (before := known.pop(str(change.id), None)) is None:
                connection.execute(sa.insert(DRIFT), row)
                opened.append(row["resource"])
            else:
                connection.execute(sa.update(DRIFT).where(DRIFT.c.id == before.id), {**row, "onset": before.onset})
        for left in known.values():
            if not _stuck(report, left.resource):
                state = _ending(report, left.resource, renewed)
                connection.execute(sa.update(DRIFT).where(DRIFT.c.id == left.id), {"state": state, "closed": now})
        return opened

    def _flapping(self, connection: sa.Connection, report: Report, opened: Collection[str]) -> Iterator[str]:
        """Find what drifted again although it was repaired several times of late."""
        since = (report.finished - FLAP_TIME).isoformat()
        mine = sa.select(DRIFT.c.resource, sa.func.count()).where(DRIFT.c.stack == report.stack, DRIFT.c.resource.in_(opened))
        lately = mine.where(DRIFT.c.state == "repaired", DRIFT.c.closed >= since).group_by(DRIFT.c.resource)
        return (resource for resource, count in connection.execute(lately) if count >= FLAPS)

    # -- what people ask -----------------------------------------------------------------------------------------------------

    def runs(self, stack: str = "", *, most: int = 20) -> list[dict[str, Any]]:
        """Give the newest runs first, without their reports."""
        columns = [column for column in RUNS.c if column.name != "report"]
        query = sa.select(*columns).order_by(RUNS.c.id.desc()).limit(most)
        return self._dicts(query.where(RUNS.c.stack == stack) if stack else query)

    def run(self, number: int) -> dict[str, Any] | None:
        """Give one run with its whole report, or None."""
        found = self._dicts(sa.select(RUNS).where(RUNS.c.id == number))
        return {**found[0], "report": json.loads(found[0]["report"])} if found else None

    def latest(self, stack: str) -> dict[str, Any] | None:
        """Give the newest run of a stack with its whole report, or None."""
        found = self.runs(stack, most=1)
        return self.run(found[0]["id"]) if found else None

    def stacks(self) -> list[str]:
        """List the stacks that ever had a run."""
        return sorted(row.stack for row in self._rows(sa.select(RUNS.c.stack).distinct()))

    def drifts(self, stack: str = "", *, closed: bool = False) -> list[dict[str, Any]]:
        """Give the drifts, open ones only unless ``closed``; newest onset first."""
        query = sa.select(DRIFT).order_by(DRIFT.c.onset.desc())
        query = query.where(DRIFT.c.stack == stack) if stack else query
        found = self._dicts(query if closed else query.where(DRIFT.c.closed == ""))
        return [{**row, "fields": json.loads(row["fields"])} for row in found]

    def drift(self, number: int) -> dict[str, Any] | None:
        """Give one drift, or None."""
        found = self._dicts(sa.select(DRIFT).where(DRIFT.c.id == number))
        return {**found[0], "fields": json.loads(found[0]["fields"])} if found else None

    def last_applied(self, stack: str, id: ResourceId) -> dict[str, Any] | None:
        """Give when and by which run a resource was last written, or None."""
        query = sa.select(APPLIED, RUNS.c.finished, RUNS.c.subject).join(RUNS, RUNS.c.id == APPLIED.c.run)
        found = self._dicts(query.where(APPLIED.c.stack == stack, APPLIED.c.resource == str(id)))
        return found[0] if found else None

    def approve(self, digest: str, who: str, at: str) -> None:
        """Let the plan with this digest pass its guard, once or however often it is made."""
        with self.database.transaction() as connection:
            connection.execute(sa.delete(APPROVALS).where(APPROVALS.c.digest == digest))
            connection.execute(unless_there(connection, APPROVALS), {"digest": digest, "who": who, "at": at})

    def acknowledge(self, drift: int, word: Acknowledgement) -> int:
        """Write down that a drift is acknowledged; it shows at once. Gives the number of the acknowledgement."""
        with self.database.transaction() as connection:
            number = connection.execute(sa.insert(ACKNOWLEDGEMENTS).returning(ACKNOWLEDGEMENTS.c.id), word.row()).scalar_one()
            found = sa.update(DRIFT).where(DRIFT.c.id == drift, DRIFT.c.closed == "")
            connection.execute(found, {"state": "acknowledged", "reason": word.reason})
        return int(number)

    def beat(self, who: str, at: str) -> str:
        """Write a row, to see whether that is possible; give the reason when it is not."""
        try:
            with self.database.transaction() as connection:
                connection.execute(sa.delete(BEATS).where(BEATS.c.who == who))
                connection.execute(unless_there(connection, BEATS), {"who": who, "at": at})
        except (StoreError, sa.exc.SQLAlchemyError) as error:
            return f"cannot be written: {error if isinstance(error, StoreError) else type(error).__name__}"
        return ""

    def last_converged(self, stack: str) -> str:
        """Give when the newest run ended that left a stack converged; empty when none did."""
        query = sa.select(RUNS.c.finished).where(RUNS.c.stack == stack, RUNS.c.verdict == Verdict.CONVERGED.value)
        found = self._rows(query.order_by(RUNS.c.id.desc()).limit(1))
        return str(found[0][0]) if found else ""

    def drift_counts(self) -> dict[tuple[str, str], int]:
        """Count the open drifts by stack and state."""
        query = sa.select(DRIFT.c.stack, DRIFT.c.state, sa.func.count()).where(DRIFT.c.closed == "")
        return {(stack, state): count for stack, state, count in self._rows(query.group_by(DRIFT.c.stack, DRIFT.c.state))}

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """Give a connection inside one transaction, for rooms that keep tables of their own in this database."""
        return self.database.transaction()

    def within(self, turn: Turn) -> AbstractContextManager[sa.Connection]:
        """Give a connection inside a transaction of which nothing is written when ``turn`` was lost. Raises StoreError then."""
        return turn.transaction() if isinstance(turn, AdvisoryTurn) else self.database.transaction()

    # -- the outbox ----------------------------------------------------------------------------------------------------------

    def owe(self, one: Owed, now: str) -> None:
        """Add a notice outside of a run."""
        with self.database.transaction() as connection:
            owe(connection, one, now)

    def unsent(self, *, most: int = 50) -> list[tuple[int, dict[str, Any]]]:
        """Give the oldest notices that are still to be sent."""
        query = sa.select(OUTBOX).where(OUTBOX.c.sent == "").order_by(OUTBOX.c.id).limit(most)
        return [(row.id, json.loads(row.payload)) for row in self._rows(query)]

    def owed(self) -> int:
        """Count the notices that are still to be sent."""
        return int(self._rows(sa.select(sa.func.count()).select_from(OUTBOX).where(OUTBOX.c.sent == ""))[0][0])

    def _rows(self, query: Any) -> Sequence[Any]:
        with self.database.reading() as connection:
            return connection.execute(query).all()

    def _dicts(self, query: Any) -> list[dict[str, Any]]:
        return [dict(row._mapping) for row in self._rows(query)]


def _stands(connection: sa.Connection, report: Report) -> bool:
    """Say whether the newest run of a stack says the same; whoever else would write it waits until this transaction ends."""
    alone(connection, f"runs {report.stack}")
    newest = sa.select(RUNS.c.verdict, RUNS.c.revision).where(RUNS.c.stack == report.stack).order_by(RUNS.c.id.desc()).limit(1)
    row = connection.execute(newest).first()
    return row is not None and tuple(row) == (report.verdict.value, report.revision)


def owe(connection: sa.Connection, one: Owed, now: str) -> None:
    """Add a notice to the outbox, unless one with its key is there."""
    row = {"key": one.key, "payload": json.dumps(one.payload), "created": now, "tries": 0, "sent": ""}
    connection.execute(unless_there(connection, OUTBOX), row)


def _ids(text: str) -> tuple[ResourceId, ...]:
    return tuple(ResourceId.parse(one) for one in json.loads(text))


def _run_row(report: Report) -> dict[str, Any]:
    return {
        "stack": report.stack,
        "revision": report.revision,
        "subject": report.subject,
        "reason": report.reason,
        "verdict": report.verdict.value,
        "started": report.started.isoformat(),
        "finished": report.finished.isoformat(),
        "digest": report.plan.digest,
        "trace_id": report.trace_id,
        "summary": summary(report.plan),
        "report": json.dumps(report_data(report)),
    }


def _applied_row(report: Report, id: str, one: Applied, run: int) -> dict[str, Any]:
    before = json.dumps([str(earlier) for earlier in one.before])
    return {
        "stack": report.stack,
        "resource": id,
        "digest": one.digest,
        "before": before,
        "protect": one.protect,
        "revision": report.revision,
        "run": run,
    }


def _drift_row(report: Report, change: Change, now: str, still: set[ResourceId], waived: str) -> dict[str, Any]:
    state = "acknowledged" if waived else "open" if change.id in still else "repaired"
    return {
        "stack": report.stack,
        "resource": str(change.id),
        "action": change.action.value,
        "fields": json.dumps([{"path": one.path, "wanted": one.after, "found": one.before} for one in change.diffs], default=str),
        "evidence": by_whom(change.evidence),
        "state": state,
        "reason": waived,
        "onset": now,
        "last_seen": now,
        "closed": now if state == "repaired" else "",
    }


def _was_applied(report: Report, change: Change) -> bool:
    return _written(report, str(change.id))


def _written(report: Report, resource: str) -> bool:
    return any(str(one.id) == resource and one.status is Status.APPLIED for one in report.outcomes)


def _ending(report: Report, resource: str, renewed: Collection[str]) -> str:
    """Say how a drift ended that is no longer seen."""
    return "repaired" if _written(report, resource) else "adopted" if resource in renewed else "reverted"


def _stuck(report: Report, resource: str) -> bool:
    return any(str(one.id) == resource for one in report.remaining.stuck)

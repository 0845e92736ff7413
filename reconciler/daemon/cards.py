"""Where incidents are kept: each with its card, where that was posted, and what of it is shown there.

Every function takes a connection inside somebody's transaction, so that a pass and what people will hear of it are written together or not
at all. What is to be said is decided in ``incidents`` and ``news``; who says it is ``outbox``.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from reconciler.daemon import news
from reconciler.daemon.faces import note
from reconciler.daemon.incidents import QUIET, Found, Incident, Part, Sort, Step, merge
from reconciler.database import alone
from reconciler.notify import Place
from reconciler.report import Report
from reconciler.resource import digest
from reconciler.state import Owed, Recorded, owe
from reconciler.tables import METADATA, OUTBOX

CARDS = sa.Table(
    "cards",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("key", "sort", "opened", "changed", "closed")),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("payload", "face", "loud")),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("channel", "ts", "shown", "heard", "tried")),
)
CONDITIONS = sa.Table(
    "conditions",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("message", "since")),
)
PART = {one.name for one in fields(Part)}
KEPT = timedelta(days=30)
WAITING = 20
"""So many notes of one card may wait to be sent; the oldest beyond are dropped and counted, so that a long outage fills no disk."""


@dataclass(frozen=True, slots=True)
class Card:
    """An incident with what its board knows of it.

    ``place`` is empty until it was posted; ``face`` is a digest of what the card should show, ``loud`` of that part of it which is worth
    a message of its own where nothing can be edited; ``shown`` and ``heard`` are what people were given of each; ``tried`` is when a
    post was begun whose end is not known (ISO 8601), else empty.
    """

    incident: Incident
    place: Place
    face: str
    loud: str
    shown: str
    heard: str
    tried: str

    @property
    def posted(self) -> bool:
        """True when it stands somewhere."""
        return bool(self.place.ts)


@dataclass(frozen=True, slots=True)
class OwedNote:
    """A notice in the outbox, of a card (its id) or of none (0)."""

    id: int
    key: str
    card: int
    payload: Mapping[str, Any]
    created: str
    tries: int


def record(connection: sa.Connection, report: Report, recorded: Recorded) -> None:
    """Write down what a pass means for the incidents; called inside the transaction that records it."""
    found = [replace(one, part=replace(one.part, run=recorded.run)) for one in news.found(report, recorded.flapping)]
    alone(connection, CARDS.name)
    steps = merge(
        report.stack,
        known(connection, report.finished, [one.key for one in found]),
        found,
        report.finished,
        sorts=news.judged(report),
        unknown=news.unknown(report),
    )
    for step in steps:
        save(connection, step)


def tell(connection: sa.Connection, stack: str, found: Iterable[Found], sorts: Iterable[Sort], now: datetime) -> None:
    """Merge what was found outside of a pass, such as a repository that cannot be read."""
    listed = list(found)
    alone(connection, CARDS.name)
    for step in merge(stack, known(connection, now, [one.key for one in listed]), listed, now, sorts=sorts):
        save(connection, step)


def known(connection: sa.Connection, now: datetime, keys: Iterable[str] = ()) -> list[Incident]:
    """Give the incidents that are open, those that ended not long ago, and the newest of each of ``keys``."""
    wanted = list(keys)
    recent = (now - QUIET).isoformat()
    query = sa.select(CARDS).where(sa.or_(CARDS.c.closed == "", CARDS.c.closed >= recent, CARDS.c.key.in_(wanted)))
    return [_incident(row) for row in connection.execute(query.order_by(CARDS.c.id))]


def save(connection: sa.Connection, step: Step) -> int:
    """Write a step, with the note that its thread is owed; give the id of the card."""
    row = _row(step.incident)
    number = step.incident.id
    if number:
        connection.execute(sa.update(CARDS).where(CARDS.c.id == number), row)
    else:
        fresh = {**row, "channel": "", "ts": "", "shown": "", "heard": "", "tried": ""}
        number = int(connection.execute(sa.insert(CARDS).returning(CARDS.c.id), fresh).scalar_one())
        _prune(connection, step.incident.changed)
    if step.lines:
        said = replace(step, incident=replace(step.incident, id=number))
        add_note(connection, number, asdict(note(said)), step.incident.changed)
    return number


def _prune(connection: sa.Connection, now: datetime) -> None:
    """Forget what is over, was told, and is old."""
    old = (now - KEPT).isoformat()
    connection.execute(sa.delete(CARDS).where(CARDS.c.closed != "", CARDS.c.closed < old, CARDS.c.shown == CARDS.c.face))
    connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.sent != "", OUTBOX.c.created < old))


def add_note(connection: sa.Connection, card: int, payload: Mapping[str, Any], now: datetime) -> None:
    """Owe a note to the thread of a card; drop the oldest when too many wait."""
    last = connection.execute(sa.select(sa.func.max(OUTBOX.c.id))).scalar() or 0
    owe(connection, Owed(f"note:{card}:{now.isoformat()}:{last}", {**payload, "card": card}), now.isoformat())
    waiting = [one.id for one in owed(connection) if one.card == card]
    for number in waiting[:-WAITING]:
        connection.execute(sa.update(OUTBOX).where(OUTBOX.c.id == number).values(sent=f"dropped {now.isoformat()}"))


def find(connection: sa.Connection, number: int) -> Card | None:
    """Give one card, or None."""
    row = connection.execute(sa.select(CARDS).where(CARDS.c.id == number)).first()
    return _card(row) if row is not None else None


def unshown(connection: sa.Connection) -> list[Card]:
    """Give the cards whose newest state no board shows yet, the oldest first."""
    query = sa.select(CARDS).where(CARDS.c.shown != CARDS.c.face).order_by(CARDS.c.id)
    return [_card(row) for row in connection.execute(query)]


def trying(connection: sa.Connection, number: int, now: datetime) -> None:
    """Write down that a post begins, because nobody will know how it ended if we die now."""
    connection.execute(sa.update(CARDS).where(CARDS.c.id == number).values(tried=now.isoformat()))


def shown(connection: sa.Connection, card: Card, place: Place) -> None:
    """Write down that people were given a card as it was when it was read, and where it stands."""
    values = {"channel": place.channel, "ts": place.ts, "shown": card.face, "heard": card.loud, "tried": ""}
    connection.execute(sa.update(CARDS).where(CARDS.c.id == card.incident.id).values(**values))


def forget(connection: sa.Connection, number: int) -> None:
    """Take away an incident that was over before anybody heard of it, with its notes."""
    connection.execute(sa.delete(CARDS).where(CARDS.c.id == number))
    for one in owed(connection):
        if one.card == number:
            connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id == one.id))


def owed(connection: sa.Connection, *, most: int = 500) -> list[OwedNote]:
    """Give what the outbox still has to send, the oldest first."""
    query = sa.select(OUTBOX).where(OUTBOX.c.sent == "").order_by(OUTBOX.c.id).limit(most)
    return [_owed(row) for row in connection.execute(query)]


def _owed(row: Any) -> OwedNote:
    payload = json.loads(row.payload)
    return OwedNote(row.id, row.key, int(payload.pop("card", 0)), payload, row.created, row.tries)


def attempt(connection: sa.Connection, number: int) -> None:
    """Count a try before it is made: what was tried once may have arrived."""
    connection.execute(sa.update(OUTBOX).where(OUTBOX.c.id == number).values(tries=OUTBOX.c.tries + 1))


def spent(connection: sa.Connection, number: int, now: datetime) -> None:
    """Mark a notice as sent, or as given up."""
    connection.execute(sa.update(OUTBOX).where(OUTBOX.c.id == number).values(sent=now.isoformat()))


# -- conditions ------------------------------------------------------------------------------------------------------------------


def condition(connection: sa.Connection, name: str, message: str, now: datetime) -> None:
    """Remember what keeps people from being told, or that nothing does (an empty message)."""
    before = connection.execute(sa.select(CONDITIONS.c.message).where(CONDITIONS.c.name == name)).scalar()
    if before == message or (before is None and not message):
        return
    connection.execute(sa.delete(CONDITIONS).where(CONDITIONS.c.name == name))
    if message:
        connection.execute(sa.insert(CONDITIONS), {"name": name, "message": message, "since": now.isoformat()})


def conditions(connection: sa.Connection) -> list[dict[str, str]]:
    """Give every condition: name, message, since."""
    return [dict(row._mapping) for row in connection.execute(sa.select(CONDITIONS).order_by(CONDITIONS.c.name))]


# -- rows ------------------------------------------------------------------------------------------------------------------------


def _row(one: Incident) -> dict[str, Any]:
    payload = {"parts": {name: asdict(part) for name, part in one.parts.items()}, "times": one.times, "event": one.event, "said": one.said}
    items = {name: sorted(part.items) for name, part in one.parts.items()}
    plans = {name: part.digest for name, part in one.parts.items()}
    return {
        "face": digest([payload, one.closed is None]),
        "loud": digest([items, plans, one.times, one.closed is None, len(one.said)]),
        "key": one.key,
        "sort": one.sort.value,
        "opened": one.opened.isoformat(),
        "changed": one.changed.isoformat(),
        "closed": one.closed.isoformat() if one.closed else "",
        "payload": json.dumps(payload),
    }


def _incident(row: Any) -> Incident:
    payload = json.loads(row.payload)
    return Incident(
        row.key,
        Sort(row.sort),
        {name: _part(part) for name, part in payload["parts"].items()},
        datetime.fromisoformat(row.opened),
        datetime.fromisoformat(row.changed),
        datetime.fromisoformat(row.closed) if row.closed else None,
        payload["times"],
        payload["event"],
        tuple(payload["said"]),
        row.id,
    )


def _part(found: dict[str, Any]) -> Part:
    """Read a part back; what a newer version of the program wrote beside it is passed over."""
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items() if key in PART}
    return Part(**given)


def _card(row: Any) -> Card:
    return Card(_incident(row), Place(row.channel, row.ts), row.face, row.loud, row.shown, row.heard, row.tried)


def old(one: Incident, now: datetime) -> timedelta:
    """Give how long an incident has been, or had been, open."""
    return (one.closed or now) - one.opened

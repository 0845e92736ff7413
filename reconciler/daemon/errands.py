"""What a press asks of git, written down until it is done: the press is answered at once, and what follows from it outlives a restart.

Every function takes a connection inside somebody's transaction. Who carries an errand out is ``offers``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from reconciler.tables import METADATA

PRESSES = sa.Table(
    "presses",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("who", "at", "outcome")),
)
"""Each press once. ``outcome`` is the errand as JSON while it is to be done, then what came of it; empty when nothing had to follow."""
OWED = PRESSES.c.outcome.like("{%")


@dataclass(frozen=True, slots=True)
class Errand:
    """One thing to do in git. ``card`` is the id of the card, ``stack`` its stack; ``who`` asked for it.

    ``drifts`` maps the resources whose live state git is to want to what their presser saw of each: pointer to live value. ``documents`` is
    YAML to be added to the exceptions of the stack.
    """

    card: int
    stack: str
    who: str
    drifts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    documents: str = ""


def before(connection: sa.Connection, key: str) -> str | None:
    """Say who made a press before; None when nobody did."""
    found = connection.execute(sa.select(PRESSES.c.who).where(PRESSES.c.key == key)).scalar()
    return None if found is None else str(found)


def press(connection: sa.Connection, key: str, who: str, now: datetime) -> None:
    """Write a press down."""
    connection.execute(sa.insert(PRESSES), {"key": key, "who": who, "at": now.isoformat(), "outcome": ""})


def owe(connection: sa.Connection, key: str, errand: Errand) -> None:
    """Let a press that was written down have an errand."""
    connection.execute(sa.update(PRESSES).where(PRESSES.c.key == key).values(outcome=json.dumps(asdict(errand), default=str)))


def owed(connection: sa.Connection) -> list[tuple[str, Errand]]:
    """Give what is still to be done, by the key of its press, the oldest first. What only another version can read is left to it."""
    rows = connection.execute(sa.select(PRESSES.c.key, PRESSES.c.outcome).where(OWED).order_by(PRESSES.c.at, PRESSES.c.key))
    read = [(str(row.key), _errand(row.outcome)) for row in rows]
    return [(key, errand) for key, errand in read if errand is not None]


def _errand(text: str) -> Errand | None:
    try:
        return Errand(**json.loads(text))
    except (TypeError, ValueError):
        return None


def done(connection: sa.Connection, key: str, outcome: str) -> None:
    """End an errand, with what came of it."""
    connection.execute(sa.update(PRESSES).where(PRESSES.c.key == key).values(outcome=outcome))


def undone(connection: sa.Connection, key: str) -> None:
    """Forget a press of which nothing came, so that it can be made again."""
    connection.execute(sa.delete(PRESSES).where(PRESSES.c.key == key))

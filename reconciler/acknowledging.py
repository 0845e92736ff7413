"""What somebody acknowledged by a word to the daemon rather than by a commit: which drift, until when, why and who.

An acknowledgement is an exception that ends. It accepts the values that were live when it was given; another value is drift again. The
statements are run by the store; this room opens nothing.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from reconciler.plan import Exemption
from reconciler.resource import ResourceId

ACKNOWLEDGEMENTS = sa.Table(
    "acknowledgements",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("stack", "resource", "fields", "reason", "who", "at", "until")),
)
LOUD = timedelta(days=1)
"""For so long after its end an acknowledgement is still spoken of in the plan's notes."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """One word of a person about one drift. ``fields`` maps pointers to the values accepted there; none means the whole resource."""

    stack: str
    resource: str
    fields: Mapping[str, Any]
    reason: str
    who: str
    at: datetime
    until: datetime

    def row(self) -> dict[str, Any]:
        """Give it as a row."""
        return {
            "stack": self.stack,
            "resource": self.resource,
            "fields": json.dumps(dict(self.fields), default=str),
            "reason": self.reason,
            "who": self.who,
            "at": self.at.astimezone(UTC).isoformat(),
            "until": self.until.astimezone(UTC).isoformat(),
        }


def of_drift(row: Mapping[str, Any], *, reason: str, who: str, at: datetime, until: datetime) -> Acknowledgement:
    """Acknowledge what a row of the drift table found; an object that is gone, as a whole."""
    fields = {} if row["action"] == "create" else {one["path"]: one["found"] for one in row["fields"]}
    return Acknowledgement(row["stack"], row["resource"], fields, reason, who, at, until)


def exemptions(rows: Iterable[Mapping[str, Any]], now: datetime) -> tuple[Exemption, ...]:
    """Give what counts now, and what has ended not long ago, marked as such."""
    found = []
    for row in rows:
        until, fields = datetime.fromisoformat(row["until"]), json.loads(row["fields"])
        if now - until < LOUD:
            found.append(
                Exemption(
                    resource=ResourceId.parse(row["resource"]),
                    fields=tuple(fields),
                    reason=row["reason"],
                    ticket=f"by {row['who']}",
                    expires=f"{until:%Y-%m-%d %H:%M} UTC",
                    expired=now >= until,
                    values=tuple(fields.items()),
                )
            )
    return tuple(found)

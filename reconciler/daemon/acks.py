"""Words of people at a card: a plan that may be applied once, and the document that would make an acknowledgement last."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import yaml

from reconciler.acknowledging import Acknowledgement
from reconciler.resource import is_sealed
from reconciler.tables import METADATA
from reconciler.telltales import may_tell

GRANTS = sa.Table(
    "grants",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("stack", "digest", "who", "at", "used")),
)


def document(one: Acknowledgement) -> str:
    """Give the DriftException to commit; it accepts the same values, and counts until the end of its last day.

    Of a secret only the field is named, because its fingerprint says nothing to a reader of git; and so is it of what may be one by its
    name, because a value in clear says too much there.
    """
    values = {path: value for path, value in one.fields.items() if not (is_sealed(value) or may_tell(path, value))}
    fields = [path for path in one.fields if path not in values]
    spec: dict[str, Any] = {"resource": one.resource}
    if values:
        spec["values"] = values
    if fields:
        spec["fields"] = fields
    spec |= {"reason": f"{one.reason} by {one.who}", "expires": one.until.astimezone(UTC).date()}
    name = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in one.resource.lower())
    metadata = {"name": f"{name[:50].strip('-')}-{one.at:%Y%m%d}"}
    made = {"apiVersion": "reconciler/v1", "kind": "DriftException", "metadata": metadata, "spec": spec}
    return yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=100)


def grant(connection: sa.Connection, stack: str, digest: str, who: str, now: datetime) -> None:
    """Let the plan with this digest pass its guard once; a second word for the same one adds nothing."""
    c = GRANTS.c
    if connection.execute(sa.select(c.id).where(c.stack == stack, c.digest == digest, c.used == "")).first() is None:
        row = {"stack": stack, "digest": digest, "who": who, "at": now.isoformat(), "used": ""}
        connection.execute(sa.insert(GRANTS), row)


def granted(connection: sa.Connection, stack: str) -> tuple[str, ...]:
    """Give the digests that may pass at the next pass of a stack."""
    return tuple(connection.execute(sa.select(GRANTS.c.digest).where(GRANTS.c.stack == stack, GRANTS.c.used == "")).scalars())


def used(connection: sa.Connection, stack: str, digests: Sequence[str], now: datetime) -> None:
    """End what was good for one pass, when that pass is over."""
    c = GRANTS.c
    connection.execute(sa.update(GRANTS).where(c.stack == stack, c.digest.in_(digests), c.used == "").values(used=now.isoformat()))

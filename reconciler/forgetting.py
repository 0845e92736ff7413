"""Forgets what is old, so that the memory does not grow without end. Deletes rows of the store, and nothing that still counts."""

import sqlalchemy as sa

from reconciler.state import Store
from reconciler.tables import APPLIED, DRIFT, OUTBOX, RUNS

LEAST = 20
"""Runs of a stack that are never forgotten."""


def forget(store: Store, before: str, most: int) -> int:
    """Forget runs from before ``before``, or more than ``most`` of a stack, and with them what ended or was sent then.

    The newest of each stack stay whatever the clock says. Of a run that wrote what still stands only its report is forgotten. Gives
    the number of runs that are gone. Raises StoreError.
    """
    place = sa.func.row_number().over(partition_by=RUNS.c.stack, order_by=RUNS.c.id.desc()).label("place")
    ranked = sa.select(RUNS.c.id, RUNS.c.finished, place).subquery()
    old = sa.select(ranked.c.id).where(ranked.c.place > LEAST, sa.or_(ranked.c.place > most, ranked.c.finished < before))
    used = sa.select(APPLIED.c.run)
    with store.transaction() as connection:
        gone = connection.execute(sa.delete(RUNS).where(RUNS.c.id.in_(old), RUNS.c.id.not_in(used))).rowcount
        connection.execute(sa.update(RUNS).where(RUNS.c.id.in_(old), RUNS.c.report != "{}"), {"report": "{}"})
        connection.execute(sa.delete(DRIFT).where(DRIFT.c.closed != "", DRIFT.c.closed < before))
        connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.sent != "", OUTBOX.c.sent < before))
    return gone

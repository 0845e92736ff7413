"""What becomes of all that is known of stacks that are followed no more: what was open about them is over, and people are told once."""

import logging
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from reconciler.daemon import cards
from reconciler.daemon.force import called
from reconciler.daemon.incidents import Found, Part, Sort
from reconciler.errors import StoreError
from reconciler.state import Store
from reconciler.tables import DRIFT

log = logging.getLogger("reconciler.daemon")
ABOUT = "the repository was taken out of the settings; its stacks are followed no more, and nothing of them is deleted"


def say(store: Store, source: str, stacks: Sequence[str], now: datetime) -> None:
    """Say of a repository of these stacks that it is followed no more; only to the log when the store cannot be written to."""
    log.warning("%s is followed no more, nothing is deleted of: %s", called(source), ", ".join(stacks) or "no stack")
    try:
        with store.transaction() as connection:
            unfollowed(connection, called(source), stacks, now)
    except StoreError as error:
        log.error("%s", error)


def unfollowed(connection: sa.Connection, place: str, stacks: Sequence[str], now: datetime) -> None:
    """End what is open about ``stacks`` and about ``place``, by whose name people know the repository, and say so there."""
    for stack in stacks:
        cards.tell(connection, stack, (), tuple(Sort), now)
        open_ = sa.update(DRIFT).where(DRIFT.c.stack == stack, DRIFT.c.closed == "")
        connection.execute(open_.values(closed=now.isoformat()))
    part = Part(ABOUT, {stack: stack for stack in stacks})
    found = Found(f"left:{place}", Sort.LEFT, part, lasting=False)
    cards.tell(connection, place, [found], (Sort.SOURCE, Sort.REJECTED, Sort.LEFT), now)

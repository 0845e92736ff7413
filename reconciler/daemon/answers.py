"""What a person says by a button: approve, fix now, acknowledge, adopt, plan, look again.

A press counts once, for exactly what its presser saw, and only from those whom the settings name. Everything it means is written in one
transaction; a pass, a plan or a branch that follows from it comes afterwards.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock, Thread
from typing import Any

import sqlalchemy as sa

from reconciler.acknowledging import ACKNOWLEDGEMENTS, of_drift
from reconciler.daemon import acks, cards, errands, faces
from reconciler.daemon.errands import Errand
from reconciler.daemon.faces import ACKNOWLEDGE, ADOPT, APPROVE, FIX, LOOK, PLAN, note, pieces, seen
from reconciler.daemon.incidents import Incident, Sort, Step
from reconciler.notify.interactive import Press
from reconciler.state import Store
from reconciler.tables import APPROVALS, DRIFT

log = logging.getLogger("reconciler.answers")
DAY = timedelta(hours=24)
MAY = {APPROVE: (Sort.HELD,), FIX: (Sort.DRIFT,), ACKNOWLEDGE: (Sort.DRIFT,), ADOPT: (Sort.DRIFT,)}
"""Which cards an action belongs to; the others go with every card."""
STALE = "this card has changed since you saw it; nothing was done, look at it again"


@dataclass(slots=True)
class Answers:
    """Takes presses. ``users`` gives those who may, by id, with the name that is written down; ``whisper`` tells one person something.

    ``pushes`` says of a stack whether we may push branches to its repository.
    """

    store: Store
    asked: Callable[[str, str], None]
    users: Callable[[], Mapping[str, str]]
    now: Callable[[], datetime]
    planned: Callable[[str], str] = lambda stack: ""
    whisper: Callable[[str, str], None] = lambda user, text: None
    pushes: Callable[[str], bool] = lambda stack: False
    _planning: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def take(self, press: Press) -> str:
        """Do what a press means. Gives what to tell its presser alone; empty when the card says it."""
        who = self.users().get(press.user, "")
        if not who:
            log.warning("a press of %s by %s, who is not in notify.slack.users, was refused", press.action, press.user)
            return "you may not do that here; whoever runs this can add you to notify.slack.users"
        number, as_seen = press.value.get("card"), press.value.get("seen")
        if not isinstance(number, int) or press.action not in (*MAY, PLAN, LOOK):
            return "that button is not known here"
        with self.store.transaction() as connection:
            found = cards.find(connection, number)
            if found is None or not found.incident.open or seen(found.incident) != as_seen:
                return STALE
            one = found.incident
            if one.sort not in MAY.get(press.action, tuple(Sort)) or (press.action == ADOPT and not _adoptable(one)):
                return "that button is not known here"
            key = f"{press.action}:{number}:{as_seen}"
            if press.action in MAY:
                if (earlier := errands.before(connection, key)) is not None:
                    return f"{earlier} did that already"
                errands.press(connection, key, who, self.now())
            lines = self._say(connection, press.action, one, who, key)
        for stack in one.parts:
            if press.action == PLAN:
                self._plan_soon(stack, one, who)
            elif press.action != ADOPT:  # which changes nothing before somebody merges it
                self.asked(stack, lines[0] if lines else f"{who} asked")
        return ""

    def _say(self, connection: sa.Connection, action: str, one: Incident, who: str, key: str) -> tuple[str, ...]:
        """Write down what an action means, and on the card and in its thread who did it."""
        now = self.now()
        code = ""
        (stack, part), *_ = one.parts.items()
        match action:
            case faces.APPROVE:
                _approve(connection, part.digest, who, now)
                said = f"plan {part.digest[:12]} approved by {who}"
            case faces.FIX:
                acks.grant(connection, stack, part.digest, who, now)
                said = f"to be put back now, said {who}"
            case faces.ACKNOWLEDGE:
                code = self._acknowledge(connection, stack, tuple(part.items), who, now)
                said = f"acknowledged by {who} until {now + DAY:%Y-%m-%d %H:%M} UTC"
                if code and self.pushes(stack):
                    errands.owe(connection, key, Errand(one.id, stack, who, documents=code))
                    code = ""
            case faces.ADOPT:
                errands.owe(connection, key, Errand(one.id, stack, who, _found(connection, stack, part.adopt)))
                said = f"to be taken into git, said {who}"
            case _:
                return ()
        step = Step(replace(one, said=(*one.said, said), changed=now), said)
        cards.save(connection, step)
        told = pieces(note(replace(step, lines=("to make it last, commit this:",))), code) if code else [note(replace(step, lines=(said,)))]
        for one_note in told:
            cards.add_note(connection, one.id, asdict(one_note), now)
        return (said,)

    def _acknowledge(self, connection: sa.Connection, stack: str, ids: tuple[str, ...], who: str, now: datetime) -> str:
        """Accept each drift of a card as it was found; give the documents that would make it last."""
        documents = []
        for id in ids:
            if (found := _latest(connection, stack, id)) is not None:
                word = of_drift(found, reason="acknowledged in Slack", who=who, at=now, until=now + DAY)
                connection.execute(sa.insert(ACKNOWLEDGEMENTS), word.row())
                known = {"state": "acknowledged", "reason": word.reason}
                connection.execute(sa.update(DRIFT).where(DRIFT.c.id == found["id"], DRIFT.c.closed == ""), known)
                documents.append(acks.document(word))
        return "---\n".join(documents)

    def _plan_soon(self, stack: str, one: Incident, who: str) -> None:
        """Have a plan made beside the passes, one at a time for each stack."""
        with self._lock:
            if stack in self._planning:
                return
            self._planning.add(stack)
        Thread(target=self._plan, args=(stack, one, who), name=f"plan-{stack}", daemon=True).start()

    def _plan(self, stack: str, one: Incident, who: str) -> None:
        try:
            text = self.planned(stack)
        except Exception as error:  # whatever it is, the person who asked wants to hear of it
            log.exception("the plan that %s asked for failed: %s", who, type(error).__name__)
            text = f"{type(error).__name__}; see the log"
        finally:
            with self._lock:
                self._planning.discard(stack)
        now = self.now()
        step = Step(one, f"the plan of {stack} now, asked for by {who}")
        with self.store.transaction() as connection:
            cards.add_note(connection, one.id, asdict(note(step, text)), now)


def _approve(connection: sa.Connection, digest: str, who: str, now: datetime) -> None:
    """Let a plan pass, as ``Store.approve`` does, inside a transaction that is open."""
    if connection.execute(sa.select(APPROVALS.c.digest).where(APPROVALS.c.digest == digest)).first() is None:
        connection.execute(sa.insert(APPROVALS), {"digest": digest, "who": who, "at": now.isoformat()})


def _adoptable(one: Incident) -> bool:
    return any(part.adopt for part in one.parts.values())


def _latest(connection: sa.Connection, stack: str, id: str) -> dict[str, Any] | None:
    """Give the newest drift of a resource, with its fields read; None when it has none."""
    query = sa.select(DRIFT).where(DRIFT.c.stack == stack, DRIFT.c.resource == id).order_by(DRIFT.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else {**row._mapping, "fields": json.loads(row.fields)}


def _found(connection: sa.Connection, stack: str, ids: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Give what is known to be live at each field of some resources that drifted, as the card told of it."""
    rows = {id: _latest(connection, stack, id) for id in ids}
    return {id: {one["path"]: one["found"] for one in row["fields"]} for id, row in rows.items() if row is not None}

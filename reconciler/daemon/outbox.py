"""Tells people: brings what a board shows into line with the incidents in the store, and sends each note once, oldest first.

It works like a pass: it compares what should stand there with what does, so that it does not matter when it was stopped or how long nobody
could be reached. Before something is posted that is written down; when the end of a post is not known, the board is searched before it is
posted again. Of several daemons one sends at a time. What opened and was over within the debounce is told to nobody.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Event
from typing import Any, TypeVar

from reconciler.clock import Clock
from reconciler.daemon import cards
from reconciler.daemon.cards import Card, OwedNote
from reconciler.daemon.faces import card as face
from reconciler.daemon.incidents import Incident, Part
from reconciler.errors import Permanent, StoreError, Transient
from reconciler.notify import Board, Button, Closed, Gone, Notice, Place, Sink
from reconciler.state import Store
from reconciler.turns import Turn

log = logging.getLogger("reconciler.outbox")
T = TypeVar("T")
SLACK = 60.0
"""Seconds by which another machine's clock may be behind ours when it is searched for what we posted."""
SHUT = 900.0
"""Seconds until a way that is shut is tried again: somebody may have invited the bot meanwhile."""
EARLY, OVER = "early", "over"


@dataclass(slots=True)
class Outbox:
    """One thread's work. ``pace`` is the pause after each message in seconds; chat systems allow about one a second.

    ``debounce`` is how many seconds an incident must last before it is told. ``name`` is that of the condition in the status.
    ``before`` runs at each look, for what is owed by the calendar.
    """

    store: Store
    sink: Sink
    clock: Clock
    pace: float = 1.0
    debounce: float = 0.0
    name: str = "notify"
    instance: str = ""
    address: Callable[[Part, str], str] = lambda part, stack: ""
    before: Callable[[datetime], None] = lambda now: None

    def exchange(self, other: "Outbox") -> None:
        """Send as that one would from now on."""
        self.sink, self.pace, self.debounce, self.name, self.before = other.sink, other.pace, other.debounce, other.name, other.before
        self.address = other.address

    def run(self, stop: Event) -> None:
        """Send until ``stop`` is set, then one more at most; what is left waits in the store for the next start."""
        while not self.clock.wait(stop, self.flush(stop)):
            pass
        self.flush(stop)

    def flush(self, stop: Event) -> float:
        """Send what can be sent now, unless another daemon is at it; give the seconds to wait before the next try."""
        try:
            with self.store.sending() as turn:
                return self._flush(stop, turn) if turn is not None else max(self.pace, 0.2)
        except StoreError as error:
            log.error("%s", error)
            return 5.0

    def _flush(self, stop: Event, turn: Turn) -> float:
        try:
            self._by_calendar()
            for what in self._left():
                if not turn.held():
                    break
                if self._one(what) and self.clock.wait(stop, self.pace):
                    return 0.0
        except Transient as error:
            log.warning("a notice waits: %s", error)
            return error.retry_after or 5.0
        except Closed as error:
            self._condition(str(error))
            return SHUT
        return max(self.pace, 0.2)

    def _by_calendar(self) -> None:
        try:
            self.before(self.clock.now())
        except StoreError:
            raise
        except Exception as error:  # a bug in telling people must not end what they are told of
            log.exception("bug: what is due today is not told: %s", type(error).__name__)

    def _left(self) -> Iterator[Card | OwedNote]:
        """Give what is to be brought up to date: cards first, because their notes stand below them."""
        with self.store.transaction() as connection:
            changed = cards.unshown(connection)
        yield from changed
        with self.store.transaction() as connection:
            waiting = cards.owed(connection)
        yield from waiting

    def _one(self, what: Card | OwedNote) -> bool:
        """Do one thing; drop it when it can never be done. Gives whether something was sent."""
        try:
            sent = self._card(what) if isinstance(what, Card) else self._note(what)
        except (Transient, Closed, StoreError):
            raise
        except Permanent as error:
            log.error("a notice cannot be delivered and is dropped: %s", error)
            self._drop(what)
            return False
        except Exception as error:  # as above
            log.exception("bug: a notice is dropped: %s", type(error).__name__)
            self._drop(what)
            return False
        if sent:
            self._condition("")
        return sent

    def _drop(self, what: Card | OwedNote) -> None:
        with self.store.transaction() as connection:
            if isinstance(what, Card):
                cards.shown(connection, what, what.place)
            else:
                cards.spent(connection, what.id, self.clock.now())

    # -- cards -----------------------------------------------------------------------------------------------------------------

    def _card(self, one: Card) -> bool:
        """Bring one card up to date. Gives whether something was sent."""
        incident = one.incident
        if not one.heard and (pause := self._early(incident)):
            if pause == OVER and not one.tried:
                with self.store.transaction() as connection:
                    cards.forget(connection, incident.id)
            return False
        notice = face(incident, self.address)
        if not isinstance(self.sink, Board):
            return self._plain(one, notice)
        place = self._stand(self.sink, one, notice)
        with self.store.transaction() as connection:
            cards.shown(connection, one, place)
        return True

    def _early(self, one: Incident) -> str:
        """Say whether it is too early to tell of an incident, or whether it was over before it was worth a word."""
        patience = timedelta(seconds=self.debounce)
        lasted = cards.old(one, self.clock.now())
        if not one.open and not one.event and one.times == 1 and lasted < patience:
            return OVER
        since = self.clock.now() - one.opened
        return EARLY if timedelta() <= since < patience else ""  # a clock that was set back makes nobody wait for it to come again

    def _plain(self, one: Card, notice: Notice) -> bool:
        """Tell of a card where nothing can be edited: again only when something happened that is worth a message."""
        told = one.heard == one.loud
        if not told:
            _taken(self.sink.send, notice)
        with self.store.transaction() as connection:
            cards.shown(connection, one, one.place)
        return not told

    def _stand(self, board: Board, one: Card, notice: Notice) -> Place:
        """Have the board show a card; give where. Posts only when it does not stand there already."""
        mark = self._mark(f"{one.incident.key} {one.incident.opened.isoformat()}")
        gone: Place | None = None
        for place in self._places(board, one, mark):
            if _edited(board, place, notice, mark):
                return place
            gone = place
        if gone is not None and not one.incident.open:
            return gone  # somebody took it away, and it is over
        if not one.tried:
            with self.store.transaction() as connection:
                cards.trying(connection, one.incident.id, self.clock.now())
        return _taken(lambda one: board.post(one, mark), notice)

    def _places(self, board: Board, one: Card, mark: str) -> Iterator[Place]:
        """Give where a card may stand: where it was posted, and where it came to by a later try whose end is not known."""
        if one.posted:
            yield one.place
        found = self._found(board, mark, one.tried)
        if found is not None and found != one.place:
            yield found

    def _found(self, board: Board, mark: str, tried: str, thread: str = "") -> Place | None:
        """Look for what may have been posted by a try whose end is not known."""
        if not tried:
            return None
        try:
            return board.find(mark, datetime.fromisoformat(tried).timestamp() - SLACK, thread)
        except Closed:
            raise
        except Permanent as error:  # we may not look, or nobody understands that we do
            log.warning("it is not known whether a notice arrived, and the board cannot be searched; it may appear twice: %s", error)
            return None

    def _mark(self, text: str) -> str:
        return sha256(f"{self.instance} {text}".encode()).hexdigest()[:32]

    # -- notes -----------------------------------------------------------------------------------------------------------------

    def _note(self, one: OwedNote) -> bool:
        """Send one note into the thread of its card, or a notice that has none. Gives whether something was sent."""
        with self.store.transaction() as connection:
            card = cards.find(connection, one.card) if one.card else None
        board = isinstance(self.sink, Board)
        if card is not None and board and not card.posted and card.shown != card.face:
            return False  # its card comes first
        if one.card and (card is None or not board or not card.posted):
            self._done(one)  # where there is no thread, the card says all
            return False
        notice, thread = _notice(one.payload), card.place.ts if card is not None else ""
        if isinstance(self.sink, Board):
            mark = self._mark(one.key)
            begun = one.created if one.tries else ""
            if self._found(self.sink, mark, begun, thread) is None:
                with self.store.transaction() as connection:
                    cards.attempt(connection, one.id)
                self._answer(self.sink, notice, mark, thread)
        else:
            with self.store.transaction() as connection:
                cards.attempt(connection, one.id)
            _taken(self.sink.send, notice)
        self._done(one)
        return True

    def _answer(self, board: Board, notice: Notice, mark: str, thread: str) -> None:
        try:
            _taken(lambda one: board.post(one, mark, thread), notice)
        except Gone as error:
            log.info("a note has no card to stand below any more: %s", error)

    def _done(self, one: OwedNote) -> None:
        with self.store.transaction() as connection:
            cards.spent(connection, one.id, self.clock.now())

    def _condition(self, message: str) -> None:
        if message:
            log.error("people cannot be told: %s", message)
        with self.store.transaction() as connection:
            cards.condition(connection, self.name, message, self.clock.now())


def _edited(board: Board, place: Place, notice: Notice, mark: str) -> bool:
    """Put a notice in a place; say whether there still is such a place."""
    try:
        _taken(lambda one: board.edit(place, one, mark), notice)
    except Gone:
        return False
    return True


def _taken(give: Callable[[Notice], T], notice: Notice) -> T:
    """Give a notice; when its content is refused, so that nothing of it stands anywhere, the essentials of it as plain text."""
    try:
        return give(notice)
    except (Closed, Gone):
        raise
    except Permanent as error:
        log.error("%s: %s: the content was refused and is given as plain text: %s", notice.stack, notice.title, error)
        return give(replace(notice, bare=True))


def _notice(payload: Any) -> Notice:
    """Read a notice back from the store."""
    found: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in payload.items()}
    found["buttons"] = tuple(Button(**one) for one in found.get("buttons", ()))
    return Notice(**found)

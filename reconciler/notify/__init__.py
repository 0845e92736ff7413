"""Where news goes: a notice is a value, a sink delivers it. Which news is worth a notice, and when, is decided elsewhere."""

import logging
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from reconciler.errors import Permanent

NoticeLevel: TypeAlias = Literal["ok", "info", "warning", "error"]

log = logging.getLogger(__name__)


class Closed(Permanent):
    """The way out is shut for every notice until somebody changes the settings or the rights. Nothing is dropped meanwhile."""


class Blind(Permanent):
    """What was posted may not be looked for."""


class Gone(Permanent):
    """What was to be edited or answered is no longer there, or may no longer be edited."""


@dataclass(frozen=True, slots=True)
class Button:
    """Something a person may do about a notice.

    ``action`` names it for the program, ``label`` for the person; ``value`` comes back with the press. ``style`` is empty, ``primary`` or
    ``danger``. ``ask`` is the question that is put before it counts; empty: none.
    """

    action: str
    label: str
    value: str
    style: str = ""
    ask: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """One piece of news for people. It holds no secret value.

    ``lines`` say what happened, one fact each; ``context`` says where and by whom (revision, author, duration). ``key`` is the same for
    news about the same thing, so that a sink that can may keep it together. ``link`` is our own address with more to read. ``code`` is
    text to be copied as it stands. ``buttons`` are for sinks whose readers can answer. ``bare``: the receiver did not take the whole, so
    that only the essentials are to be given, as plain text.
    """

    title: str
    level: NoticeLevel
    stack: str
    lines: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    key: str = ""
    link: str = ""
    code: str = ""
    buttons: tuple[Button, ...] = ()
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message stands: the id of its channel, and its id there."""

    channel: str
    ts: str


class Sink(Protocol):
    """One way out for notices. It neither retries nor waits: the outbox does, in one place."""

    def send(self, notice: Notice) -> None:
        """Deliver one notice.

        Raises Transient when another try may succeed, Permanent when this notice will never be taken, and Closed when no notice will.
        """
        ...


@runtime_checkable
class Board(Protocol):
    """A way out where what was posted can be found again, edited and answered. Raises what a Sink raises."""

    def post(self, notice: Notice, mark: str, thread: str = "") -> Place:
        """Post a notice, below the message ``thread`` if it is given. ``mark`` is the name by which it can be found again."""
        ...

    def edit(self, place: Place, notice: Notice, mark: str) -> None:
        """Put a notice in the place of an older one. Raises Gone when there is none that can be edited."""
        ...

    def find(self, mark: str, since: float, thread: str = "") -> Place | None:
        """Look for what was posted under ``mark`` since a time (seconds of the epoch). Raises Blind when we may not look."""
        ...


@runtime_checkable
class Whisperer(Protocol):
    """A way out that can speak to one person alone. Raises what a Sink raises."""

    def whisper(self, user: str, text: str) -> None:
        """Show a line to one person."""
        ...


class LogSink:
    """Writes notices to the program's own log; what is left when nothing else is configured."""

    levels = {"ok": logging.INFO, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}  # noqa: RUF012 - a constant

    def send(self, notice: Notice) -> None:
        """Write the notice as one record. Raises nothing."""
        log.log(self.levels[notice.level], "%s: %s", notice.stack, "; ".join([notice.title, *notice.lines, *notice.context]))

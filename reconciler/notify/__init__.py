"""Where news goes: a notice is a value, a sink delivers it. Which news is worth a notice, and when, is decided elsewhere."""

import logging
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

NoticeLevel: TypeAlias = Literal["ok", "info", "warning", "error"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """One piece of news for people. It holds no secret value.

    ``lines`` say what happened, one fact each; ``context`` says where and by whom (revision, author, duration). ``key`` is the same for
    news about the same thing, so that a sink that can may keep it together. ``link`` is our own address with more to read.
    """

    title: str
    level: NoticeLevel
    stack: str
    lines: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    key: str = ""
    link: str = ""


class Sink(Protocol):
    """One way out for notices. It neither retries nor waits: the outbox does, in one place."""

    def send(self, notice: Notice) -> None:
        """Deliver one notice. Raises Transient when another try may succeed, Permanent when none will."""
        ...


class LogSink:
    """Writes notices to the program's own log; what is left when nothing else is configured."""

    levels = {"ok": logging.INFO, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}  # noqa: RUF012 - a constant

    def send(self, notice: Notice) -> None:
        """Write the notice as one record. Raises nothing."""
        log.log(self.levels[notice.level], "%s: %s", notice.stack, "; ".join([notice.title, *notice.lines, *notice.context]))

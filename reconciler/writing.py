"""Help for the writing half of a driver: independent changes, one call each, every failure turned into that change's outcome.

This room may import the driver contract and the error tree. It never retries: that is the engine's work.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

from reconciler.driver import Change, Outcome, Status
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import ResourceId

LATE = "not written: another worker has the stack now"
_WHY_NOT: ContextVar[Callable[[], str]] = ContextVar("why_not", default=lambda: "")


@contextmanager
def gated(why_not: Callable[[], str]) -> Iterator[None]:
    """Have ``why_not`` asked before every write inside; what it answers, unless empty, is why the write is not made."""
    token = _WHY_NOT.set(why_not)
    try:
        yield
    finally:
        _WHY_NOT.reset(token)


class Withheld(Permanent):
    """The stack is not ours to write, or no longer: nothing was sent."""


def may_write() -> None:
    """Ask whether the stack is still ours to write. Called right before each request that writes; raises Withheld.

    One change may be several requests. A process that was frozen between two of them is late when it wakes: another has the stack by then.
    """
    if reason := _WHY_NOT.get()():
        raise Withheld(reason)


def failed(id: ResourceId, error: DriverError, seconds: float = 0.0) -> Outcome:
    """Turn an error into the outcome of a change; what was withheld waits, the rest failed."""
    if isinstance(error, Withheld):
        return Outcome(id, Status.BLOCKED, str(error), seconds)
    after = error.retry_after if isinstance(error, Transient) else None
    return Outcome(id, Status.FAILED, str(error), seconds, isinstance(error, Transient), after)


def apply_each(changes: Sequence[Change], write: Callable[[Change], str | None], *, workers: int = 1) -> list[Outcome]:
    """Apply independent changes one call each, at most ``workers`` at a time, and turn what each raises into its outcome.

    ``write`` returns a message for the outcome or None. Any exception that is not a DriverError is a bug: it is named by its type
    only, because its text might carry a secret. Before each change it is asked whether the stack is still ours to write; when it is
    not, the rest is blocked. A change that is several requests asks before each of them: ``may_write``.
    """

    def one(change: Change) -> Outcome:
        started = time.monotonic()
        try:
            may_write()
            message = write(change) or ""
        except DriverError as error:
            return failed(change.id, error, time.monotonic() - started)
        except Exception as error:  # a bug must not take the neighbours down with it
            return Outcome(change.id, Status.FAILED, f"bug: {type(error).__name__} in the driver", time.monotonic() - started)
        return Outcome(change.id, Status.APPLIED, message, time.monotonic() - started)

    if workers == 1 or len(changes) < 2:
        return [one(change) for change in changes]
    contexts = [copy_context() for _ in changes]
    with ThreadPoolExecutor(min(workers, len(changes))) as pool:
        return list(pool.map(lambda context, change: context.run(one, change), contexts, changes))

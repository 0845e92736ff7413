"""Help for the writing half of a driver: independent changes, one call each, every failure turned into that change's outcome.

This room may import the driver contract and the error tree. It never retries: that is the engine's work.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

from reconciler.driver import Change, Outcome, Status
from reconciler.errors import Permanent, Transient

_WHY_NOT: ContextVar[Callable[[], str]] = ContextVar("why_not", default=lambda: "")


@contextmanager
def gated(why_not: Callable[[], str]) -> Iterator[None]:
    """Let ``apply_each`` ask ``why_not`` before every write; what it answers, unless empty, is why the write is not made."""
    token = _WHY_NOT.set(why_not)
    try:
        yield
    finally:
        _WHY_NOT.reset(token)


def apply_each(changes: Sequence[Change], write: Callable[[Change], str | None], *, workers: int = 1) -> list[Outcome]:
    """Apply independent changes one call each, at most ``workers`` at a time, and turn what each raises into its outcome.

    ``write`` returns a message for the outcome or None. Any exception that is not a DriverError is a bug: it is named by its type
    only, because its text might carry a secret. Before each write it is asked whether the stack is still ours to write; when it is
    not, the rest is blocked.
    """

    def one(change: Change) -> Outcome:
        if reason := _WHY_NOT.get()():
            return Outcome(change.id, Status.BLOCKED, reason)
        started = time.monotonic()
        try:
            message = write(change) or ""
        except Transient as error:
            return Outcome(change.id, Status.FAILED, str(error), time.monotonic() - started, True, error.retry_after)
        except Permanent as error:
            return Outcome(change.id, Status.FAILED, str(error), time.monotonic() - started)
        except Exception as error:  # a bug must not take the neighbours down with it
            return Outcome(change.id, Status.FAILED, f"bug: {type(error).__name__} in the driver", time.monotonic() - started)
        return Outcome(change.id, Status.APPLIED, message, time.monotonic() - started)

    if workers == 1 or len(changes) < 2:
        return [one(change) for change in changes]
    contexts = [copy_context() for _ in changes]
    with ThreadPoolExecutor(min(workers, len(changes))) as pool:
        return list(pool.map(lambda context, change: context.run(one, change), contexts, changes))

"""Several calls at a time, each worker with a share of them, in the order they were asked for. Knows nothing of Vault."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def together(work: Callable[[T], R], items: Sequence[T], workers: int) -> list[R]:
    """Give the results in order. The first error of a worker ends its share and is raised when the others are done with theirs."""
    share = min(workers, len(items))
    if share < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(share, thread_name_prefix="vault") as pool:
        running = [pool.submit(copy_context().run, lambda part: [work(item) for item in part], items[at::share]) for at in range(share)]
        parts = [one.result() for one in running]
    return [parts[number % share][number // share] for number in range(len(items))]

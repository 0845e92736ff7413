"""Load, graph and plan of 10,000 resources in a world that has not changed."""

import time
from datetime import date

from benchmarks.common import figure, megabytes, tree
from reconciler.driver import Observation
from reconciler.load import load_stack
from reconciler.plan import Inputs, make_plan
from reconciler.registry import catalog

COUNT = 10_000


def measure() -> list[dict[str, object]]:
    """Measure one cold run; the observations are prepared outside of the clock."""
    files, kinds = tree(COUNT), catalog()
    started = time.perf_counter()
    stack = load_stack(files, "desired/big", kinds, today=date(2026, 1, 1))
    loaded = time.perf_counter() - started
    seen = [Observation(one.id, one.spec.canonical(lambda ref: "")) for one in stack.graph]
    started = time.perf_counter()
    plan = make_plan("big", "", stack.graph, Inputs(seen, lambda ref: "", stack.targets))
    planned = time.perf_counter() - started
    assert plan.in_sync
    assert plan.unchanged == COUNT
    return [
        figure("load + graph + plan of 10,000 resources", loaded + planned, "s", 4.0),
        figure("memory of that", megabytes(), "MB", 300),
    ]

"""What the engine itself costs for each resource that has not changed: a whole pass over a driver that answers at once."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from benchmarks.common import figure, tree
from reconciler.compose import Workshop
from reconciler.driver import Change, Observation, Outcome, Scope
from reconciler.load import load_stack
from reconciler.registry import catalog
from reconciler.resource import Resource
from reconciler.settings import Settings

COUNT = 10_000


class Instant:
    """Answers from a list that was made before."""

    def __init__(self, answer: list[Observation]) -> None:
        """Keep the answer."""
        self.answer = answer

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """Give it."""
        return self.answer

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Never called: nothing changes."""
        raise AssertionError

    def close(self) -> None:
        """Hold nothing."""


def measure() -> list[dict[str, object]]:
    """Measure the processor time of the fastest of five passes."""
    kinds = catalog()
    stack = load_stack(tree(COUNT), "desired/big", kinds, today=date(2026, 1, 1))
    settings = Settings(targets={"cloudflare": {"token": "unused"}})
    with Workshop(settings, kinds=kinds).engine() as engine:
        answer = [Observation(one.id, one.spec.canonical(lambda ref: "")) for one in stack.graph]
        engine.observer.targets._open["cloudflare"] = Instant(answer)
        found = []
        for _ in range(5):
            started = time.process_time()
            report = engine.converge(stack, "0" * 40, reason="benchmark")
            found.append(time.process_time() - started)
            assert replace(report).verdict == "converged"
    return [figure("engine overhead for each unchanged resource", min(found) / COUNT * 1e6, "µs", 100)]

"""An in-process system for the benchmarks of scale: it answers after a set time, drifts and fails as it is told, and grows with nothing."""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from reconciler.driver import Change, Observation, Outcome, Ownership, Plugin, Scope, Status
from reconciler.errors import Permanent, Transient
from reconciler.registry import Catalog
from reconciler.resource import Resource, ResourceId, Spec, Text


class Item(Spec):
    """Something with a text and a size."""

    text: Text = ""
    size: int = 1


class Config(BaseModel):
    """``answer`` is the seconds until it answers, ``trouble`` the share of calls that go wrong."""

    answer: float = 0.0
    trouble: float = 0.0


class World:
    """What is there, for all engines of this process. What was never written is as git wants it."""

    objects: dict[ResourceId, Mapping[str, Any]] = {}  # noqa: RUF012 - the one world
    luck = random.Random(1)


class Driver:
    """Reads and writes the world."""

    def __init__(self, config: Config) -> None:
        """Keep how it behaves."""
        self.config = config

    def _unlucky(self, share: float) -> bool:
        return World.luck.random() < share * self.config.trouble

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """Give what is there, after a while."""
        time.sleep(self.config.answer)
        if self._unlucky(0.5):
            raise Transient("bench: 503 try again", retry_after=3)
        if self._unlucky(0.1):
            raise ValueError("a bug")
        if wanted and self._unlucky(0.5):
            one = World.luck.choice(list(wanted))
            World.objects[one.id] = {**one.spec.canonical(lambda ref: ""), "text": "meddled with"}
        found = [(one.id, World.objects.get(one.id) or one.spec.canonical(lambda ref: "")) for one in wanted]
        return [Observation(id, dict(live), Ownership.OURS) for id, live in found]

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Write, or fail in one of several ways."""
        outcomes = []
        for change in changes:
            if self._unlucky(1.0):
                raise Transient("bench: 429 too many requests", retry_after=5)
            if self._unlucky(0.5):
                raise Permanent("bench: 403 not allowed")
            World.objects.pop(change.id, None)
            outcomes.append(Outcome(change.id, Status.APPLIED))
        return outcomes

    def close(self) -> None:
        """Hold nothing."""


CATALOG = Catalog((Plugin("bench", "bench/v1", {"Item": Item}, Config, "benchmarks.scale_world:Driver"),))


def stacks(count: int, resources: int, *, text: str = "as git wants it", interval: int = 300) -> dict[str, bytes]:
    """Generate a repository of ``count`` stacks with ``resources`` items each."""
    files: dict[str, bytes] = {}
    for number in range(count):
        head = f"apiVersion: reconciler/v1\nkind: Stack\nmetadata: {{name: s{number:03}}}\nspec: {{interval: {interval}}}\n"
        items = "---\n".join(
            f"apiVersion: bench/v1\nkind: Item\nmetadata: {{name: s{number:03}-{item}}}\nspec: {{text: {text}, size: {item}}}\n"
            for item in range(resources)
        )
        files[f"desired/s{number:03}/stack.yaml"] = head.encode()
        files[f"desired/s{number:03}/items.yaml"] = items.encode()
    return files

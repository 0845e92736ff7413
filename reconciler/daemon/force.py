"""What the daemon holds in force, and by which names it speaks of what is no stack. Values only; asks nothing and starts nothing."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date
from threading import Thread
from typing import Protocol

from reconciler.desired import Desired
from reconciler.stack import Stack

REPOSITORY = "repository"
SETTINGS = "settings"


class Door(Protocol):
    """Something that listens beside the daemon, on a thread of its own."""

    thread: Thread

    def open(self) -> None:
        """Listen. Raises ReconcilerError when it cannot."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


@dataclass(slots=True)
class Trouble:
    """How often in a row a source could not be read, what was said of it last, when it was asked last and whether it answered.

    ``heard`` once it answered since the start.
    """

    said: str = ""
    misses: int = 0
    heard: bool = False
    answered: tuple[float, bool] = (-math.inf, False)


@dataclass(slots=True)
class InForce:
    """The newest good revision of one stack."""

    desired: Desired
    stack: Stack
    day: date
    failures: int = 0
    gone: bool = False


def missed(force: Mapping[str, InForce], known: Collection[str], desired: Desired) -> list[str]:
    """Name what a revision has no more of the stacks of its repository that are in force, or ``known`` from before a restart.

    Those in force are marked, so that each is missed once.
    """
    ours = {name for name, one in force.items() if one.desired.source == desired.source and not one.gone}
    gone = sorted({*ours, *known} - {*desired.names})
    for name in ours.intersection(gone):
        force[name].gone = True
    return gone


def called(source: str) -> str:
    """Give the name under which people are told of a source."""
    return REPOSITORY if source in ("", REPOSITORY) else f"{REPOSITORY} {source}"


def careful(stack: Stack) -> Stack:
    """Give a stack whose deletes wait for a person: commits that were rewritten away are no wish to delete."""
    policy = stack.spec.policy
    if policy.approval != "never":
        return stack
    held = stack.spec.model_copy(update={"policy": policy.model_copy(update={"approval": "deletes"})})
    return replace(stack, spec=held)

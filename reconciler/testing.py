"""The suite that every driver passes, and so the manual for the author of a plugin.

Subclass ``DriverContract`` in ``tests/contract/test_<system>.py`` and give it one fixture, ``world``. The world wraps the emulator, or
the real system when the environment names one. ``peek`` reads the system behind the driver's back, so that a driver is never its own
witness. Read the tests below from top to bottom: each is one promise that the engine relies on.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from reconciler.driver import Driver
from reconciler.resource import JSONObject, Resource


@dataclass(frozen=True, slots=True)
class Sample:
    """One kind at work: a resource, the same resource with other values (same id, changeable in place), and what it needs to exist."""

    before: Resource
    after: Resource
    needs: tuple[Resource, ...] = ()


class World(Protocol):
    """One system under test, fresh for each test."""

    owner: str
    """The owner mark to work under, ``test/contract`` unless the system needs another."""

    faults: frozenset[str]
    """The faults that ``fail`` can play, of: rate-limit, server-error, latency, cut-before, cut-after, partial."""

    def open(self) -> Driver:
        """Connect a new driver, as a restarted daemon would."""
        ...

    def samples(self) -> Sequence[Sample]:
        """One or more samples of every kind of the driver."""
        ...

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        """Everything in the system: a natural name -> (the system's own id, the content without volatile fields)."""
        ...

    def locate(self, resource: Resource) -> str:
        """The natural name, as in ``peek``, of the object that ``resource`` stands for."""
        ...

    def plant(self, resource: Resource) -> None:
        """Put the object there as a foreigner would: same content, no mark."""
        ...

    def meddle(self, resource: Resource) -> None:
        """Change one field of the live object behind the driver's back, leaving its mark alone."""
        ...

    def remove(self, resource: Resource) -> None:
        """Delete the live object behind the driver's back."""
        ...

    def writes(self) -> int:
        """How many writing calls the system has received so far."""
        ...

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        """Play one of ``faults`` on the next ``times`` calls inside the block (cut-* on writes only)."""
        ...

    def secret_values(self) -> Sequence[str]:
        """Values planted in the samples' secrets that must never appear in an outcome, an observation or an exception."""
        ...

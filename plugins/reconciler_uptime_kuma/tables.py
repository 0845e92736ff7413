"""The calls of each kind behind one face, so that whoever writes need not know which kind it is."""

from typing import Protocol

from reconciler.driver import Scope
from reconciler.resource import Resource, SecretRef
from reconciler_uptime_kuma.match import Live


class Table(Protocol):
    """The calls for one kind. Each raises DriverError."""

    def known(self, name: str) -> list[Live]:
        """Give what carried our mark and this name when the table was made, or was made by it since, lowest number first."""
        ...

    def marked(self, name: str) -> list[Live]:
        """Read afresh what carries our mark and this name, lowest number first."""
        ...

    def find(self, id: int) -> Live | None:
        """Read one object afresh."""
        ...

    def add(self, resource: Resource) -> int:
        """Make it, mark included, and give its number."""
        ...

    def edit(self, resource: Resource, live: Live) -> None:
        """Lay the wish over what is there, and write it."""
        ...

    def complete(self, resource: Resource, live: Live) -> str:
        """Make what is no part of the object itself, now that it is there and ours. Gives a remark for people, or nothing."""
        ...

    def same(self, resource: Resource, live: Live) -> bool:
        """Say whether the object itself is what is wanted, mark included."""
        ...

    def delete(self, live: Live) -> None:
        """Delete it."""
        ...


def reveal(scope: Scope, ref: SecretRef) -> str:
    """Give the value of a secret, for the expression that builds a call."""
    return scope.reveal(ref).reveal()

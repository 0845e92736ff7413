"""An application that is what the settings say now. It decides nothing: what is built of what is given to it.

Who asks first after a change has it built anew; a request that is under way ends on the one that it began with. Whatever must outlive
the change is in the hands of who builds.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")


class Following(Generic[T]):
    """Serves what ``build`` makes of what ``made_of`` gives, for as long as that is the same object. For the one thread of a door."""

    def __init__(self, made_of: Callable[[], T], build: Callable[[T], ASGIApp]) -> None:
        """Build the first one."""
        self._made_of, self._build = made_of, build
        self._of = made_of()
        self._app = build(self._of)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. What cannot be built answers nobody: the old one would let in who may no longer come."""
        now = self._made_of()
        if now is not self._of:
            self._app = self._build(now)
            self._of = now
        await self._app(scope, receive, send)

"""How a connection becomes a user's. The only room that knows of passwords and tokens.

Uptime Kuma 3.0 moves the login from the socket to HTTP, so everything else asks a ``Login`` to let it in and knows no more.
"""

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from reconciler.errors import Permanent, Transient
from reconciler.resource import JSONObject
from reconciler_uptime_kuma.answers import TooMany
from reconciler_uptime_kuma.config import UptimeKumaConfig


class Line(Protocol):
    """A fresh connection, on which nobody is logged in yet."""

    async def emit(self, event: str, *args: Any) -> JSONObject:
        """Send one call and give its answer. Raises Transient or Permanent."""
        ...

    async def until(self, *events: str) -> None:
        """Wait until each of these was pushed. Raises Transient when the connection is lost first."""
        ...


class Login(Protocol):
    """Lets a connection in."""

    async def enter(self, line: Line) -> None:
        """Log in. Raises Permanent when that can never work, Transient when it may work later."""
        ...


class SocketLogin:
    """The login of 1.23 and 2.x: the session token first, whose logins nobody counts, then the password.

    Shared by every connection of a process, so that it spends one password login. After a refusal the password is kept back for
    ``login_pause`` seconds and the refusal is repeated from memory, because each try would lock out people, too.
    """

    def __init__(self, config: UptimeKumaConfig, now: Callable[[], float] = time.monotonic) -> None:
        self._config, self._now = config, now
        self._token = ""
        self._refusal: Permanent | TooMany | None = None
        self._until = 0.0

    async def enter(self, line: Line) -> None:
        """Log in by token, or else by password; without a user, wait for the server to say that it asks for none."""
        if not self._config.username:
            await line.until("autoLogin")
            return
        if self._token:
            try:
                await line.emit("loginByToken", self._token)
                return
            except Permanent:  # the password was changed
                self._token = ""
        self._stay_away()
        login = {"username": self._config.username, "password": self._config.password.get_secret_value(), "token": ""}
        try:
            answer = await line.emit("login", login)
        except (Permanent, TooMany) as error:  # a lost connection is no refusal
            self._refusal, self._until = error, self._now() + self._config.login_pause
            raise self._repeated(error) from None
        self._token, self._refusal = str(answer.get("token", "")), None

    def _stay_away(self) -> None:
        if self._refusal is not None and self._now() < self._until:
            raise self._repeated(self._refusal)

    def _repeated(self, refusal: Permanent | TooMany) -> Permanent | Transient:
        left = max(0.0, self._until - self._now())
        if isinstance(refusal, TooMany):
            return Transient(str(refusal), retry_after=left)
        return Permanent(f"{refusal}; it is tried again in {left:.0f} s at the earliest, because logins are limited")


@lru_cache(maxsize=64)
def shared_login(config: UptimeKumaConfig) -> Login:
    """Give the login that every connection with these settings shares."""
    return SocketLogin(config)

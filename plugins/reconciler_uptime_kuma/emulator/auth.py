"""Who may call: the password, the session tokens, and the limit on logins that everybody shares."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field

from reconciler_uptime_kuma.emulator.refusals import Refused

LOGINS_PER_MINUTE = 20


@dataclass(slots=True)
class Auth:
    """The one user. ``key`` signs tokens and outlives a restart; a new password makes old tokens worthless."""

    username: str
    password: str
    modern: bool
    two_factor: bool = False
    enabled: bool = True
    key: bytes = b"emulator"
    _tokens: float = LOGINS_PER_MINUTE
    _since: float = field(default_factory=time.monotonic)

    def limit(self) -> None:
        """Count one login or logout, right or wrong. Raises Refused when there were too many."""
        now = time.monotonic()
        self._tokens = min(LOGINS_PER_MINUTE, self._tokens + (now - self._since) * LOGINS_PER_MINUTE / 60)
        self._since = now
        if self._tokens < 1:
            raise Refused("Too frequently, try again later.")
        self._tokens -= 1

    def exhaust(self) -> None:
        """Act as if others had used up every login for a long while."""
        self._tokens = -1000.0

    def relax(self) -> None:
        """Forget the logins so far."""
        self._tokens = LOGINS_PER_MINUTE

    def login(self, data: dict[str, object]) -> str | None:
        """Check a password and give a token; None asks for the second factor."""
        if data.get("username") != self.username or data.get("password") != self.password:
            raise Refused("authIncorrectCreds" if self.modern else "Incorrect username or password.")
        return None if self.two_factor else self.token()

    def token(self) -> str:
        """Sign a token; it never ends by itself."""
        claims = {"username": self.username, "h": hashlib.shake_256(self.password.encode()).hexdigest(16), "iat": 1}
        body = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        return f"{body}.{_text(hmac.digest(self.key, body.encode(), 'sha256'))}"

    def check(self, token: object) -> None:
        """Raises Refused for a token of another key or an older password."""
        if token != self.token():
            raise Refused("authInvalidToken" if self.modern else "Invalid token.")


def _encoded(value: object) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

"""Who asks, and what they may. Bearer tokens from the settings, compared in constant time, each with one role."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from reconciler.daemon.http.config import ROLES, Role, Token
from reconciler.daemon.http.limits import Strikes
from reconciler.daemon.http.problems import Trouble

CHALLENGE = {"www-authenticate": 'Bearer realm="reconciler"'}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whose token was right: the name from the settings, the role, and the address that the request came from."""

    name: str
    role: Role
    address: str


class Access:
    """Knows the tokens by their hashes. For the one thread of a door."""

    def __init__(self, tokens: Mapping[str, Token], strikes: Strikes) -> None:
        """Take the tokens of the settings. ``strikes`` remembers who showed wrong ones."""
        self._known = [(name, one.role, _hash(one.token.get_secret_value())) for name, one in tokens.items()]
        self._strikes = strikes

    def person(self, request: Request, role: Role) -> Person:
        """Give who asks. Raises Trouble: 401 without a right token, 403 when the role is too small, 429 after many wrong tokens."""
        address = request.client.host if request.client is not None else ""
        if (wait := self._strikes.wait(address, time.monotonic())) > 0:
            raise Trouble(429, "too many wrong tokens from this address", headers={"retry-after": str(int(wait) + 1)})
        given = request.headers.getlist("authorization")
        scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        offered = _hash(token.strip()) if scheme.lower() == "bearer" and token.strip() else b""
        found = [(name, has) for name, has, known in self._known if hmac.compare_digest(known, offered)]  # every one, always
        if not found:
            if given:
                self._strikes.strike(address, time.monotonic())
            raise Trouble(401, "show a token: Authorization: Bearer ...", headers=CHALLENGE)
        name, has = found[0]
        if ROLES.index(has) < ROLES.index(role):
            raise Trouble(403, f"{name} has the role {has}; this needs {role}")
        return Person(name, has, address)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()

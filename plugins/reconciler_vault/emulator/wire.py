"""What the rooms of the emulator share: a call, a refusal, times and durations as Vault writes them."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reconciler.resource import JSONObject

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``path`` stands below ``/v1/``, without slashes at the ends; ``verb`` is LIST for a listing by either way."""

    verb: str
    path: str
    body: JSONObject = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str = ""

    def below(self, prefix: str) -> "Call":
        """Give the same call with its path below ``prefix``."""
        rest = self.path[len(prefix) :].strip("/")
        return Call(self.verb, rest, self.body, self.params, self.headers, self.token)


class Refused(Exception):
    """An answer other than 2xx. ``data`` stands beside the errors, or in their place."""

    def __init__(self, status: int, *errors: str, data: JSONObject | None = None, bare: bool = False) -> None:
        """Keep status and texts; ``bare`` is an answer without any body."""
        self.status, self.errors, self.data, self.bare = status, errors, data, bare
        super().__init__(status, *errors)

    @property
    def body(self) -> JSONObject:
        """The body that Vault sends."""
        return {"data": self.data} if self.data is not None else {"errors": list(self.errors)}


DENIED = "1 error occurred:\n\t* permission denied\n\n"


def denied() -> Refused:
    """Make the refusal that says nothing about its reason."""
    return Refused(403, DENIED)


def unsupported() -> Refused:
    """Make the refusal of a verb that a path does not have."""
    return Refused(405, "1 error occurred:\n\t* unsupported operation\n\n")


class Clock:
    """Time that a test may push forward."""

    def __init__(self) -> None:
        """Begin now."""
        self.ahead = 0.0

    def now(self) -> float:
        """Give seconds since the epoch."""
        return time.time() + self.ahead

    def stamp(self) -> str:
        """Give the time with nine digits behind the point, as Go does."""
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def duration(value: Any) -> int:
    """Read seconds or a text such as ``1h30m``; an empty text and ``system`` are 0."""
    text = str(value or 0).strip()
    if text == "system":
        return 0
    if text.isdigit():
        return int(text)
    if not re.fullmatch(r"(\d+[dhms])+", text):
        raise Refused(400, f'error parsing duration "{text}"')
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))


def strings(value: Any) -> list[str]:
    """Read a list or a comma text."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [str(item) for item in value or ()]

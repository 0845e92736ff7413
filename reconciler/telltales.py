"""Tells whether a live value may be a secret, so that it is not written where people read. Pure.

It is told by what it is called, or by being an address with a password in it. A secret that git refers to is known by its fingerprint;
this is about the others, which a hand put into a system in clear.
"""

import re
from collections.abc import Iterator
from typing import Any

from reconciler.resource import get, split_pointer

SECRET = re.compile(
    r"(pass(wd|word|phrase)?|token|secret|((private|api|secret|access)[_-]?)key|credentials?|webhook([_-]?url)?)$", re.IGNORECASE
)

ADDRESS = re.compile(r"\w://[^/\s:@]*:(?:[^/\s]+|(?!\d+/)\S*)@")


def named(called: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every value with what it is called: its key, or the name beside it, as in the environment of a container."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from named(value.get("name", key) if key == "value" else key, item)
    elif isinstance(value, list):
        for item in value:
            yield from named(called, item)
    else:
        yield called, value


def tells(called: Any, value: Any) -> bool:
    """Say whether something in ``value`` is called as secrets are, or is an address with a password in it."""
    texts = ((str(key), item) for key, item in named(called, value) if isinstance(item, str) and item)
    return any(SECRET.search(key) or ADDRESS.search(item) for key, item in texts)


def called(data: Any, pointer: str) -> str:
    """Give what the value at ``pointer`` in ``data`` is called: its key, or the name beside it."""
    above, _, last = pointer.rpartition("/")
    beside = get(data, above) if above and last == "value" else None
    return str(beside.get("name", last)) if isinstance(beside, dict) else last


def may_tell(pointer: str, value: Any) -> bool:
    """Say whether the value at ``pointer`` may be a secret, where nobody knows what stands beside it."""
    *before, last = split_pointer(pointer) if pointer else [""]
    nameless = last == "value" and before[-1:] and before[-1].isdigit()
    return tells(last, value) or bool(nameless and isinstance(value, str) and value)

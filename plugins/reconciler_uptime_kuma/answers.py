"""What Uptime Kuma's answers mean: yes, no, not now. Pure.

An error text may quote values, because the server passes on the database's own words; nothing of a value may leave this room.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from reconciler.errors import Permanent, Transient
from reconciler.resource import JSONObject, SecretValue

_BUSY = ("SQLITE_BUSY", "database is locked", "Timeout acquiring a connection", "ER_LOCK")
_QUOTING = re.compile(r"Duplicate entry |Incorrect [a-z ]+ value: ")
_CARRYING = frozenset(["login", "loginByToken", "add", "editMonitor", "addNotification"])
"""Events whose arguments may hold a credential, in any field: a row goes back whole, with what others wrote into it."""
_OPEN = frozenset(["name", "description", "type", "method", "username", "hostname", "slug"])
"""Fields of these that may be quoted."""
_ABSENT = ("Cannot read properties of null", "No slug?", "not found", "Not Found")


class TooMany(Transient):
    """The server takes no login for a while, from anybody."""


def accepted(url: str, event: str, answer: Any, sent: Sequence[Any] = ()) -> JSONObject:
    """Give an answer that says yes. Raises TooMany for too many logins, Transient for a busy database, Permanent otherwise.

    ``sent`` are the arguments of the call; no refusal quotes one that may be a credential.
    """
    if not isinstance(answer, dict):
        raise Permanent(f"{url}: {event} got an answer that is not an object; is this Uptime Kuma?")
    if answer.get("ok"):
        return answer
    if answer.get("tokenRequired"):
        raise Permanent(f"{url}: the user needs a second factor; use a user without one, since nobody is there to type it")
    said = str(answer.get("msg", "no reason given"))
    text = safe(without(said, sent) if event in _CARRYING else said)
    if "Too frequently" in said:
        raise TooMany(f"{url}: {event}: {text}")
    if any(sign in said for sign in _BUSY):
        raise Transient(f"{url}: {event}: {text}")
    hint = "; check username and password" if event == "login" else ""
    raise Permanent(f"{url}: {event} was refused: {text}{hint}")


def absent(error: Permanent) -> bool:
    """Say whether a refusal only means that there is no such object: the server does not know of absence, it stumbles over it."""
    return any(sign in str(error) for sign in _ABSENT)


def without(text: str, sent: Any) -> str:
    """Give ``text`` without any text of what was sent, but for the fields that everybody may know."""
    for value in sorted(set(_texts(sent)), key=len, reverse=True):
        text = SecretValue(value).out_of(text)
    return text


def _texts(sent: Any) -> Iterator[str]:
    if isinstance(sent, str):
        yield sent
    elif isinstance(sent, dict):
        yield from (text for key, item in sent.items() if key not in _OPEN for text in _texts(item))
    elif isinstance(sent, list | tuple):
        yield from (text for item in sent for text in _texts(item))


def _hidden(quoting: re.Match[str]) -> str:
    """Keep MariaDB's words before a quotation; any other may be a part of the value."""
    before = _QUOTING.match(quoting[0])
    return f"{before[0] if before else ''}'…'"


def safe(text: str) -> str:
    """Take everything out of an error text that may echo a value: the statement before the database's own words, and quotations.

    MariaDB quotes values and names alike: ``Duplicate entry 'x' for key 'slug'``. A value may hold what separates the statement, too.
    """
    if re.match(r"(insert|update|select|delete)\b", text, re.IGNORECASE):
        text = text.rpartition(" - ")[2]
        text = re.sub(r"^.*'(?= for (?:column|key)\b)", _hidden, text, flags=re.DOTALL)
    return re.sub(r'".*"', '"…"', text, flags=re.DOTALL)  # to the last one: a value may hold quotation marks

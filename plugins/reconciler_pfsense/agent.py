"""The program that runs on the firewall, and its answer. Pure: it builds and reads texts, and sends nothing."""

import base64
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from reconciler.errors import Conflict, Permanent, Transient
from reconciler.resource import JSONObject, digest

PLACE = "@REQUEST@"
OPENING = "<?php\n"
OURS = "reconciler "
"""What the description of every revision that we write holds, behind the user's name that pfSense puts before it."""
_ANSWER = re.compile(r"^RECONCILER-RESULT (\w+) ([A-Za-z0-9+/=]*) END$", re.MULTILINE)
_REQUEST = re.compile(r"base64_decode\('([A-Za-z0-9+/=]+)'\), true\)")
_PASSING = re.compile(r"allowed memory size|maximum execution time", re.IGNORECASE)


@cache
def source() -> str:
    """Give the text of ``agent.php``."""
    return resources.files(__package__).joinpath("agent.php").read_text("utf-8")


class Used(Permanent):
    """What a transaction would delete is still used by something that is not ours; nothing was written."""


@dataclass(frozen=True, slots=True)
class Program:
    """One execution: its request, and the nonce its answer must carry."""

    request: JSONObject
    nonce: str

    @classmethod
    def of(cls, verb: str, **request: Any) -> "Program":
        """Make a request: ``observe``, ``glance`` or ``apply``."""
        nonce = secrets.token_hex(8)
        return cls({"verb": verb, "nonce": nonce, **request}, nonce)

    @property
    def script(self) -> str:
        """Give the text for PHP's standard input; the answer is printed."""
        return self._embedded(prints=True)

    @property
    def code(self) -> str:
        """Give the text for ``exec_php``; the answer is in ``$toreturn`` and nothing is printed, because that would break the reply."""
        return self._embedded(prints=False).removeprefix(OPENING)

    def _embedded(self, *, prints: bool) -> str:
        body = json.dumps({**self.request, "print": prints}).encode()
        return source().replace(PLACE, base64.b64encode(body).decode())


def embedded_request(program: str) -> JSONObject:
    """Read the request back out of a program. Raises ValueError when there is none."""
    found = _REQUEST.search(program)
    if found is None:
        raise ValueError("the program carries no request")
    request: JSONObject = json.loads(base64.b64decode(found[1]))
    return request


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one execution saw: the hash of the file, its last revision, our five lists, HAProxy's settings and server states.

    ``settings`` is None where the package is not installed; ``stats`` is None where HAProxy does not answer. ``pending`` is true when
    something was saved and then not loaded. ``history`` holds the revisions before the last one, newest first.
    """

    sha: str
    revision: JSONObject
    lists: dict[str, list[JSONObject]]
    settings: JSONObject | None
    stats: dict[str, str] | None = None
    pending: bool = False
    version: str = field(default="", compare=False)
    history: tuple[JSONObject, ...] = ()

    @classmethod
    def of(cls, body: JSONObject) -> "Snapshot":
        """Read the body of an answer. Items that are no objects carry nothing and are left out, but keep their index."""
        lists = {path: [item if isinstance(item, dict) else {} for item in items] for path, items in body["lists"].items()}
        stats = body["stats"]
        history = tuple(body["history"])
        return cls(body["sha"], body["revision"], lists, body["settings"], stats, body["pending"], body["version"], history)


def transaction_id(expect: str, edits: list[JSONObject]) -> str:
    """Name a transaction by what it does, so that the same one is recognised when its answer was lost."""
    return "tx:" + digest([expect, edits])[:16]


def foreign_revisions(revision: JSONObject, history: Sequence[JSONObject]) -> list[JSONObject]:
    """Give the revisions since our last one, newest first. Where none is ours, only the last counts: the others may be years old."""
    revisions = [revision, *history]
    ours = next((number for number, one in enumerate(revisions) if OURS in str(one.get("description", ""))), None)
    return revisions[: 1 if ours is None else ours]


def read_answer(target: str, program: Program, output: str, status: int | None, *, way: str = "exit code") -> JSONObject:
    """Give the body of the answer; ``way`` says what sort of number ``status`` is.

    Raises Transient, Conflict or Permanent (Used among them), with the firewall's reason.
    """
    for nonce, body in _ANSWER.findall(output.replace("\r\n", "\n")):
        if nonce == program.nonce:
            return _body(target, json.loads(base64.b64decode(body)))
    if "PHP ERROR" in output or "Fatal error" in output:
        words = _php_error(output)
        raise (Transient if _PASSING.search(words) else Permanent)(f"{target}: php stopped: {words}")
    if status in (126, 127):
        raise Permanent(f"{target}: php cannot be started (exit code {status}); set php in the target's settings")
    raise Transient(f"{target}: the answer did not arrive whole ({way} {status}); whether anything was done is not known")


def _body(target: str, answer: JSONObject) -> JSONObject:
    if answer["ok"]:
        body: JSONObject = answer["body"]
        return body
    message = f"{target}: {answer['message']}"
    match answer["kind"]:
        case "busy":
            raise Transient(message)
        case "conflict":
            raise Conflict(f"{message}; nothing was written, the next pass plans anew")
        case "used":
            raise Used(message)
    raise Permanent(message)


def _php_error(output: str) -> str:
    """Give the first line of PHP's own message; a stack trace could show arguments."""
    text = re.sub(r"<[^>]*>", " ", output[max(output.find("PHP ERROR"), output.find("Fatal error"), 0) :])
    return " ".join(re.split(r"Stack trace|Details:|, Errfile|\n", text)[0].split())[:300] or "without a message"

"""The program that runs on the firewall, and its answer. Pure: it builds and reads texts, and sends nothing."""

import base64
import json
import re
import secrets
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from reconciler.errors import Conflict, Permanent, Transient
from reconciler.resource import JSONObject, digest

PLACE = "@REQUEST@"
_ANSWER = re.compile(r"^RECONCILER-RESULT (\w+) ([A-Za-z0-9+/=]*) END$", re.MULTILINE)
_REQUEST = re.compile(r"base64_decode\('([A-Za-z0-9+/=]+)'\), true\)")
_PASSING = re.compile(r"allowed memory size|maximum execution time", re.IGNORECASE)


@cache
def source() -> str:
    """Give the text of ``agent.php``."""
    return resources.files(__package__).joinpath("agent.php").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Program:
    """One execution: the text for PHP's standard input, and the nonce its answer must carry."""

    text: str
    nonce: str

    @classmethod
    def of(cls, verb: str, **request: Any) -> "Program":
        """Embed a request."""
        nonce = secrets.token_hex(8)
        body = json.dumps({"verb": verb, "nonce": nonce, **request}).encode()
        return cls(source().replace(PLACE, base64.b64encode(body).decode()), nonce)


def embedded_request(program: str) -> JSONObject:
    """Read the request back out of a program. Raises ValueError when there is none."""
    found = _REQUEST.search(program)
    if found is None:
        raise ValueError("the program carries no request")
    request: JSONObject = json.loads(base64.b64decode(found[1]))
    return request


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one execution saw: the hash of the file, its last revision, our four lists, HAProxy's settings and server states.

    ``settings`` is None where the package is not installed; ``stats`` is None where HAProxy does not answer. ``pending`` is true when
    something was saved and then not loaded.
    """

    sha: str
    revision: JSONObject
    lists: dict[str, list[JSONObject]]
    settings: JSONObject | None
    stats: dict[str, str] | None = None
    pending: bool = False
    version: str = field(default="", compare=False)

    @classmethod
    def of(cls, body: JSONObject) -> "Snapshot":
        """Read the body of an answer. Items that are no objects carry nothing and are left out, but keep their index."""
        lists = {path: [item if isinstance(item, dict) else {} for item in items] for path, items in body["lists"].items()}
        stats = body["stats"]
        return cls(body["sha"], body["revision"], lists, body["settings"], stats, body["pending"], body["version"])


def transaction_id(expect: str, edits: list[JSONObject]) -> str:
    """Name a transaction by what it does, so that the same one is recognised when its answer was lost."""
    return "tx:" + digest([expect, edits])[:16]


def read_answer(target: str, program: Program, output: str, status: int | None) -> Snapshot:
    """Give what the program saw. Raises Transient, Conflict or Permanent, with the firewall's reason."""
    for nonce, body in _ANSWER.findall(output.replace("\r\n", "\n")):
        if nonce == program.nonce:
            return _body(target, json.loads(base64.b64decode(body)))
    if "PHP ERROR" in output or "Fatal error" in output:
        words = _php_error(output)
        raise (Transient if _PASSING.search(words) else Permanent)(f"{target}: php stopped: {words}")
    if status in (126, 127):
        raise Permanent(f"{target}: php cannot be started (exit code {status}); set php in the target's settings")
    raise Transient(f"{target}: the answer did not arrive whole (exit code {status}); whether anything was done is not known")


def _body(target: str, answer: JSONObject) -> Snapshot:
    if answer["ok"]:
        return Snapshot.of(answer["body"])
    message = f"{target}: {answer['message']}"
    match answer["kind"]:
        case "busy":
            raise Transient(message)
        case "conflict":
            raise Conflict(f"{message}; nothing was written, the next pass plans anew")
    raise Permanent(message)


def _php_error(output: str) -> str:
    """Give the first line of PHP's own message; a stack trace could show arguments."""
    text = re.sub(r"<[^>]*>", " ", output[max(output.find("PHP ERROR"), output.find("Fatal error"), 0) :])
    return " ".join(re.split(r"Stack trace|Details:|, Errfile|\n", text)[0].split())[:300] or "without a message"

"""Canaries: what of a secret is looked for and in which spellings, and servers that fail each call and quote what they were sent.

Each call fails once for each voice. A voice quotes one thing only, because whoever drops all words that hold a token would drop the
values in them as well, and be taken for careful with values.
"""

import base64
import html
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.sandbox.server import AppServer

SHORTEST = 12
"""Characters that a canary must have, so that it is found nowhere by chance."""


def canaries_of(value: str) -> Iterator[str]:
    """Give a secret and its parts: what stands in it as JSON, the lines of a key, and the words of a line."""
    yield value
    try:
        data = json.loads(value)
    except ValueError:
        data = None
    if isinstance(data, dict):
        yield from (str(one) for one in data.values())
        return  # the names in it are mailboxes, which everybody may know
    if value.startswith("-----"):
        yield from (line for line in value.splitlines() if not line.startswith("-----"))
    yield from value.replace(":", " ").replace("/", " ").split()


def spellings(canary: str) -> set[bytes]:
    """Give the texts by which a value would be known again: in clear, and as each encoding on our way writes it."""
    raw = canary.encode()
    found = {raw, quote(canary).encode(), quote(canary, safe="").encode(), quote_plus(canary).encode()}
    found |= {html.escape(canary).encode(), raw.hex().encode()}
    found |= {json.dumps(canary)[1:-1].encode(), json.dumps(json.dumps(canary))[3:-3].encode(), repr(canary)[1:-1].encode()}
    for before in range(3):  # base64 looks different at each place that a value may have in what is encoded
        text = base64.b64encode(b"x" * before + raw)
        inner = text[4 if before else 0 : len(text) // 4 * 4 - 4]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return {one for one in found if len(one) >= SHORTEST}


@dataclass
class Canaries:
    """Everything that must not be found. ``public`` is what a secret shares with what is none."""

    public: set[str] = field(default_factory=set)
    known: dict[bytes, str] = field(default_factory=dict)

    def plant(self, name: str, value: str) -> None:
        """Look for a value from now on, under a name for people."""
        for canary in canaries_of(value):
            if len(canary) >= SHORTEST and canary not in self.public:
                self.known |= dict.fromkeys(spellings(canary), name)

    def found_in(self, text: bytes) -> dict[str, bytes]:
        """Give the names of what is found, each with what stands round it."""
        places = {name: text.find(spelled) for spelled, name in self.known.items() if spelled in text}
        return {name: text[max(0, at - 200) : at + 60] for name, at in places.items()}


VOICES = ("values", "body", "sender")
"""What a failing server quotes: each value by itself, the whole body, or who sent it and to where."""


@dataclass
class Trouble:
    """Fails each distinct call in each round, and keeps what was sent. Thread-safe.

    In a ``thorough`` round each fails once with each voice, in any other once with the one that ``voice`` gives.
    """

    status: Callable[[str], int] = lambda key: 500
    thorough: bool = True
    voice: Callable[[str], str] = lambda key: VOICES[sum(key.encode()) % len(VOICES)]
    active: bool = False
    failed: Counter[str] = field(default_factory=Counter)
    sent: list[tuple[str, str, str, bytes]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, status: Callable[[str], int], *, thorough: bool = False) -> None:
        """Begin a round: every call fails again, with ``status`` by what is called."""
        with self._lock:
            self.status, self.thorough, self.active = status, thorough, True
            self.failed.clear()

    def due(self, key: str) -> tuple[int, str]:
        """Give the status with which this call must fail and the voice to say it with, or 0."""
        with self._lock:
            begun = self.failed[key]
            if not self.active or begun == (len(VOICES) if self.thorough else 1):
                return 0, ""
            self.failed[key] += 1
            return self.status(key), VOICES[begun] if self.thorough else self.voice(key)


class Echoing:
    """Stands before an emulator: a failing server that quotes the request, or what it should have answered, as badly written ones do."""

    def __init__(self, app: ASGIApp, system: str, trouble: Trouble) -> None:
        self.app, self.system, self.trouble = app, system, trouble

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or b"watch=" in scope.get("query_string", b"") or self._is_the_world(scope):
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.trouble.sent.append((self.system, scope["method"], scope["path"], body))
        left = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(left, None) or await receive()

        status, voice = self.trouble.due(f"{self.system} {scope['method']} {scope['path']}")
        if not status:
            await self.app(scope, again, send)
            return
        about = await self._answer(scope, again) if scope["method"] == "GET" and voice != "sender" else body
        await _say(send, status, _words(self.system, status, f"cannot process {_quoted(voice, scope, about)}"))

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        """Give what would have been answered: a server may stumble over what it read as well."""
        found = [b""]

        async def keep(message: Message) -> None:
            found.append(message.get("body", b""))

        await self.app(scope, receive, keep)
        return b"".join(found)

    def _is_the_world(self, scope: Scope) -> bool:
        """Let the emulated network look where packets go: it is no driver, and without it nothing answers."""
        return any(name == b"user-agent" and b"python-httpx" in value for name, value in scope["headers"])


def _quoted(voice: str, scope: Scope, body: bytes) -> str:
    if voice == "sender":
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        tokens = [value.rpartition(" ")[2] for name, value in headers.items() if re.search(rb"auth|token|key", name)]
        return " ".join([*tokens, scope["path"], *headers.values()])
    if voice == "values":
        try:
            return " ".join(values_of(json.loads(body)))
        except ValueError:
            pass
    return body.decode("utf-8", "replace")


def values_of(data: Any) -> Iterator[str]:
    """Give what is written as values in a request or an answer, those under ``data`` first, because long words are cut off."""
    inner = data.get("data") if isinstance(data, dict) else None
    yield from (text for text in texts_of([inner, data]) if len(text) >= SHORTEST)


def _words(system: str, status: int, text: str) -> bytes:
    match system:
        case "vault":
            return json.dumps({"errors": [f"1 error occurred: {text}"]}).encode()
        case "cloudflare":
            errors = [{"code": 9000 + status, "message": text, "error_chain": [{"code": 1, "message": text}]}]
            return json.dumps({"success": False, "errors": errors, "messages": [], "result": None}).encode()
        case "k8s":
            reason = {403: "Forbidden", 409: "Conflict", 422: "Invalid"}.get(status, "InternalError")
            causes = [{"reason": "FieldValueInvalid", "field": "data", "message": text}]
            whole = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status, "message": text}
            return json.dumps({**whole, "details": {"causes": causes}}).encode()
    return text.encode()


async def _say(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def haunt(world: Any, trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put trouble before every system of a world, before it starts."""
    servers = {"slack": world.slack, **world.systems}
    for name, emulator in servers.items():
        server = getattr(emulator, "_server", None)
        if isinstance(server, AppServer) and name != "uptime-kuma":
            server.app = Echoing(server.app, name, trouble)  # type: ignore[arg-type]
    _haunt_monitoring(world, trouble, monkeypatch)
    _haunt_firewall(world, trouble, monkeypatch)
    _haunt_mailbox(trouble, monkeypatch)


def _haunt_monitoring(world: Any, trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler_uptime_kuma.emulator.sockets import Sockets

    call = Sockets._call

    async def echoing(self: Sockets, event: str, sid: str, *args: Any) -> Any:
        text = json.dumps(args, default=str)
        trouble.sent.append(("uptime-kuma", "EVENT", event, text.encode()))
        status, voice = trouble.due(f"uptime-kuma {event}")
        if status:
            sign, quoted = "SQLITE_BUSY" if status >= 500 else "SQLITE_ERROR", " ".join(values_of(args)) if voice == "values" else text
            return {"ok": False, "msg": f"{sign}: cannot process {quoted}"}
        return await call(self, event, sid, *args)

    monkeypatch.setattr(Sockets, "_call", echoing)


def _haunt_firewall(world: Any, trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler_pfsense.emulator import PfSenseEmulator, embedded_request

    run = PfSenseEmulator.run

    def echoing(self: PfSenseEmulator, program: str) -> tuple[str, int]:
        trouble.sent.append(("pfsense", "RUN", "", program.encode()))
        request = embedded_request(program)
        status, voice = trouble.due(f"pfsense {request['verb']}")
        if status:
            sign = "Maximum execution time" if status >= 500 else "Uncaught Error"
            return f"PHP ERROR: Type: 1, Message: {sign} near {request if voice == 'values' else program}", 255
        return run(self, program)

    monkeypatch.setattr(PfSenseEmulator, "run", echoing)


def _haunt_mailbox(trouble: Trouble, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler_probe.emulator import imap

    session = next(one for one in vars(imap).values() if isinstance(one, type) and hasattr(one, "do_login"))
    login = session.do_login

    def echoing(self: Any, user: str, password: str) -> str:
        if trouble.due(f"probe LOGIN {user}")[0]:
            return f"NO [AUTHENTICATIONFAILED] cannot log in as {user} with {password}"
        return str(login(self, user, password))

    monkeypatch.setattr(session, "do_login", echoing)


def texts_of(values: Iterable[Any]) -> Iterator[str]:
    """Give every text in nested data that is long enough to be a credential."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from texts_of(value.values())
        elif isinstance(value, list | tuple):
            yield from texts_of(value)

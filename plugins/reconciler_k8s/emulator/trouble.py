"""Everything that goes wrong between a client and an API server, on switches."""

import asyncio
import json
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.resource import JSONObject
from reconciler.sandbox.server import Fault, Faults, answer, cut, swallow
from reconciler_k8s.emulator.asking import Asked, asked
from reconciler_k8s.emulator.statuses import ApiError

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
EVER = 1_000_000
LOOK = 0.02
"""Seconds between two looks at whether a frozen server thaws."""


@dataclass(slots=True)
class ClusterFault(Fault):
    """A fault that knows what a request asks for.

    ``number`` is a status code, a delay in seconds or a count of events, ``text`` the name of a field manager, as the kind has it.
    """

    verbs: Collection[str] = ()
    number: int = 0
    text: str = ""

    def hits(self, wanted: Asked) -> bool:
        """Say whether a request of this sort is meant."""
        return not self.verbs or wanted.verb in self.verbs


@dataclass(slots=True)
class ClusterFaults(Faults):
    """The switches, each in force inside a ``with`` block for so many requests, and by verbs: get list watch create update patch delete."""

    stopping: bool = False
    watches: "set[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]]" = field(default_factory=set)

    def latency(self, seconds: float, *, times: int = EVER, verbs: Collection[str] = ()) -> AbstractContextManager[None]:
        """Answer late."""
        return self._in_force(ClusterFault("latency", times, seconds, verbs=verbs))

    def too_many_requests(self, retry_after: int = 1, *, times: int = EVER, verbs: Collection[str] = ()) -> AbstractContextManager[None]:
        """Answer 429 with ``Retry-After`` in seconds; nothing is done."""
        return self._in_force(ClusterFault("rate-limit", times, verbs=verbs, number=retry_after))

    def server_error(self, code: int = 500, *, times: int = EVER, verbs: Collection[str] = ()) -> AbstractContextManager[None]:
        """Answer with a 5xx; nothing is done."""
        return self._in_force(ClusterFault("server-error", times, verbs=verbs, number=code))

    def cut_before(self, *, times: int = EVER, verbs: Collection[str] = WRITES) -> AbstractContextManager[None]:
        """Break the connection; nothing is done."""
        return self._in_force(ClusterFault("cut-before", times, verbs=verbs))

    def cut_after(self, *, times: int = EVER, verbs: Collection[str] = WRITES) -> AbstractContextManager[None]:
        """Do what is asked and break the connection instead of answering."""
        return self._in_force(ClusterFault("cut-after", times, verbs=verbs))

    def cut_watch(self, after: int = 0, *, times: int = 1) -> AbstractContextManager[None]:
        """Break a watch in the middle of the event that follows so many."""
        return self._in_force(ClusterFault("cut-watch", times, verbs=("watch",), number=after))

    def expired_watch(self, *, times: int = 1) -> AbstractContextManager[None]:
        """Answer a watch with 200 and an ERROR event of 410: its version is forgotten."""
        return self._in_force(ClusterFault("expired-watch", times, verbs=("watch",)))

    def expired_list(self, *, times: int = 1) -> AbstractContextManager[None]:
        """Answer a list with 410: its version is forgotten."""
        return self._in_force(ClusterFault("expired-list", times, verbs=("list",)))

    def conflict(self, manager: str = "", *, times: int = 1, verbs: Collection[str] = WRITES) -> AbstractContextManager[None]:
        """Answer a write with 409: somebody was faster, or with ``manager`` somebody of this name owns a field of it."""
        return self._in_force(ClusterFault("conflict", times, verbs=verbs, text=manager))

    def frozen(self) -> AbstractContextManager[None]:
        """Take every request and answer none; open watches fall silent. What came meanwhile is lost with its connection."""
        return self._in_force(ClusterFault("frozen", EVER))

    def drop_watches(self) -> None:
        """Break every watch that is open now."""
        for loop, task in list(self.watches):
            loop.call_soon_threadsafe(task.cancel)

    @contextmanager
    def _in_force(self, fault: Fault) -> Iterator[None]:
        self.active.append(fault)
        try:
            yield
        finally:
            if fault in self.active:
                self.active.remove(fault)

    @property
    def is_frozen(self) -> bool:
        """Say whether the server is frozen now."""
        return not self.stopping and any(fault.kind == "frozen" for fault in self.active)

    def due(self, method: str, path: str, wanted: Asked) -> Fault | None:
        """Give the fault that hits this request, used up by one."""
        others = [fault for fault in self.active if not isinstance(fault, ClusterFault) or fault.hits(wanted)]
        for fault in others:
            if fault.matches(method, path):
                fault.times -= 1
                if fault.times <= 0 and fault in self.active:
                    self.active.remove(fault)
                return fault
        return None


class FaultLayer:
    """Logs each request and plays the fault that is due."""

    def __init__(self, app: ASGIApp, faults: ClusterFaults) -> None:
        """Wrap the API server."""
        self.app, self.faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        self.faults.requests.append((method, path))
        wanted = asked(method, path, dict(parse_qsl(scope["query_string"].decode())))
        fault = self.faults.due(method, path, wanted)
        if fault is None or fault.kind in ("latency", "cut-watch"):
            if fault is not None and fault.kind == "latency":
                await asyncio.sleep(fault.seconds)
            await self._serve(scope, receive, send, wanted, fault)
        elif fault.kind == "frozen":
            while self.faults.is_frozen:
                await asyncio.sleep(LOOK)
            await cut(send)
        elif fault.kind in ("cut-before", "cut-after"):
            if fault.kind == "cut-after":
                await self.app(scope, receive, swallow)
            await cut(send)
        else:
            await answer(send, *rendered(fault, wanted))

    async def _serve(self, scope: Scope, receive: Receive, send: Send, wanted: Asked, fault: Fault | None) -> None:
        if wanted.verb != "watch":
            await self.app(scope, receive, send)
            return
        limit = fault.number if isinstance(fault, ClusterFault) and fault.kind == "cut-watch" else None
        task = asyncio.ensure_future(self._watch(scope, receive, _Stream(send, self.faults, limit)))
        entry = (asyncio.get_running_loop(), task)
        self.faults.watches.add(entry)
        try:
            await asyncio.wait([task])
        finally:
            self.faults.watches.discard(entry)
            task.cancel()
        if not task.cancelled():
            task.result()

    async def _watch(self, scope: Scope, receive: Receive, stream: "_Stream") -> None:
        await self.app(scope, receive, stream)


class _Stream:
    """The answer to a watch: held while the server is frozen, broken off after ``limit`` events, in the middle of the next."""

    def __init__(self, send: Send, faults: ClusterFaults, limit: int | None) -> None:
        self.send, self.faults, self.left = send, faults, limit

    async def __call__(self, message: Message) -> None:
        while self.faults.is_frozen:
            await asyncio.sleep(LOOK)
        body = message.get("body", b"")
        if self.left is None or not body:
            if self.left is None or message["type"] == "http.response.start":
                await self.send(message)
        elif self.left > 0:
            self.left -= 1
            await self.send(message)
        elif self.left == 0:
            self.left = -1
            await self.send({**message, "body": body[: len(body) // 2], "more_body": True})
            raise asyncio.CancelledError


def rendered(fault: Fault, wanted: Asked) -> tuple[int, dict[str, str], bytes]:
    """Give the server's own words for a fault: code, headers, body."""
    if fault.kind == "html":
        return 502, {"content-type": "text/html"}, b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    found = fault if isinstance(fault, ClusterFault) else ClusterFault(fault.kind)
    error, headers = _error(found, wanted), {"content-type": "application/json"}
    if found.kind == "expired-watch":
        return 200, headers, json.dumps({"type": "ERROR", "object": error.body}).encode() + b"\n"
    if error.code == 429:
        headers["retry-after"] = str(found.number or 1)
    return error.code, headers, json.dumps(error.body).encode()


def _error(fault: ClusterFault, wanted: Asked) -> ApiError:
    match fault.kind:
        case "rate-limit":
            why = "the server has received too many requests and has asked us to try again later"
            return ApiError(429, why, "TooManyRequests", {"retryAfterSeconds": fault.number or 1})
        case "conflict":
            return _owned(fault.text) if fault.text else _stale(wanted)
        case "expired-watch":
            return ApiError(410, "too old resource version: 1 (2)", "Expired")
        case "expired-list":
            return ApiError(410, "The resourceVersion for the provided list is too old.", "Expired")
    if fault.number == 503:
        return ApiError(503, "the server is currently unable to handle the request", "ServiceUnavailable")
    if fault.number == 504:
        return ApiError(504, "Timeout: request did not complete within the allotted timeout", "Timeout")
    return ApiError(fault.number or 500, "Internal error occurred: etcdserver: request timed out", "InternalError")


def _stale(wanted: Asked) -> ApiError:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    details: JSONObject = {"name": wanted.name, **({"group": wanted.group} if wanted.group else {}), "kind": wanted.plural}
    return ApiError(409, f'Operation cannot be fulfilled on {wanted.qualified} "{wanted.name}": {why}', "Conflict", details)


def _owned(manager: str) -> ApiError:
    cause = {"reason": "FieldManagerConflict", "message": f'conflict with "{manager}"', "field": ".spec"}
    return ApiError(409, f'Apply failed with 1 conflict: conflict with "{manager}": .spec', "Conflict", {"causes": [cause]})

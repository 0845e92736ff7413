"""A Slack that only knows incoming webhooks: it checks what the real one checks and keeps what it was sent."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer, FaultMiddleware, Faults

PATH = "/services/T00000000/B00000000/emulated"
REFUSALS = {
    "no-service": (404, "no_service"),
    "invalid-token": (403, "invalid_token"),
    "archived": (410, "channel_is_archived"),
    "odd": (200, "maintenance"),
    "server-error": (500, "rollup_error"),
}


def text_fault(value: Any, limit: int, *, kinds: tuple[str, ...] = ("plain_text", "mrkdwn")) -> bool:
    """Say whether a text object is wrong: its type, no text, or too much of it."""
    if not isinstance(value, Mapping) or value.get("type") not in kinds or not isinstance(value.get("text"), str):
        return True
    return not 0 < len(value["text"]) <= limit


def block_fault(block: Any) -> bool:
    """Say whether a block breaks a limit of Block Kit. Only the kinds that are used here are known."""
    if not isinstance(block, Mapping) or len(str(block.get("block_id", ""))) > 255:
        return True
    match block.get("type"):
        case "header":
            return text_fault(block.get("text"), 150, kinds=("plain_text",))
        case "section":
            text, fields = block.get("text"), block.get("fields", [])
            wrong_text = text_fault(text, 3000) if text is not None else not fields
            return wrong_text or len(fields) > 10 or any(text_fault(one, 2000) for one in fields)
        case "context":
            elements = block.get("elements", [])
            return not 0 < len(elements) <= 10 or any(text_fault(one, 3000) for one in elements)
        case "divider":
            return False
    return True


def message_fault(message: Any) -> str:
    """Name what is wrong with a message in Slack's words; nothing when it is right."""
    if not isinstance(message, Mapping):
        return "invalid_payload"
    blocks, attachments = message.get("blocks", []), message.get("attachments", [])
    if not isinstance(blocks, list) or len(blocks) > 50 or any(map(block_fault, blocks)):
        return "invalid_blocks"
    if len(attachments) > 100:
        return "too_many_attachments"
    return "" if message.get("text") or blocks or attachments else "no_text"


class SlackEmulator:
    """One workspace with one webhook. ``messages`` holds what was accepted, oldest first. The seed is not used: a channel begins empty.

    Beside the usual faults it plays ``no-service``, ``invalid-token``, ``archived`` and ``odd`` (status 200 with another body).
    """

    def __init__(self, seed: JSONObject | None = None) -> None:
        """Build the server; nothing listens yet."""
        self.faults = Faults()
        self.messages: list[JSONObject] = []
        app = Starlette(routes=[Route("/services/{team}/{hook}/{secret}", self._post, methods=["POST"])])
        self._server = AppServer(FaultMiddleware(app, self.faults, _render))

    async def _post(self, request: Request) -> PlainTextResponse:
        """Take one message."""
        if request.url.path != PATH:
            return PlainTextResponse("no_service", 404)
        try:
            message = json.loads(await request.body())
        except ValueError:
            return PlainTextResponse("invalid_payload", 400)
        if problem := message_fault(message):
            return PlainTextResponse(problem, 400)
        self.messages.append(message)
        return PlainTextResponse("ok")

    def start(self) -> None:
        """Listen on a free loopback port."""
        self._server.start()

    def stop(self) -> None:
        """Close every socket."""
        self._server.stop()

    def settings(self) -> JSONObject:
        """Give the sink's configuration."""
        return {"url": self._server.url + PATH}

    def summary(self) -> list[str]:
        """Say what is inside."""
        return [f"slack webhook at {self._server.url}{PATH}", f"{len(self.messages)} messages"]


def _render(kind: str) -> tuple[int, dict[str, str], bytes]:
    """Give Slack's own answer for a fault."""
    if kind == "rate-limit":
        return 429, {"Retry-After": "7", "Content-Type": "text/plain"}, b"rate_limited"
    status, body = REFUSALS.get(kind, (503, "service_unavailable"))
    return status, {"Content-Type": "text/plain"}, body.encode()

"""An emulated Slack: an incoming webhook, the Web API for one bot, and the presses of buttons. It checks what the real one checks.

A test presses a button by ``press``, which signs and sends what Slack would.
"""

import hashlib
import hmac
import json
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer, FaultMiddleware, Faults
from reconciler.sandbox.slack_api import TEAM, Channel, Refusal, Workspace
from reconciler.sandbox.slack_rules import message_fault

PATH = "/services/T00000000/B00000000/emulated"
REFUSALS = {
    "no-service": (404, "no_service"),
    "invalid-token": (403, "invalid_token"),
    "archived": (410, "channel_is_archived"),
    "odd": (200, "maintenance"),
    "server-error": (500, "rollup_error"),
}


class SlackEmulator:
    """One workspace with one webhook and one bot. ``messages`` holds what was accepted, oldest first; an edit shows in it.

    The seed is not used: a channel begins empty. Beside the usual faults it plays ``no-service``, ``invalid-token``, ``archived`` and
    ``odd`` (status 200 with another body) for the webhook, and ``api-rate-limit`` for the bot.
    """

    signing_secret = "8f742231b10e8888abcd99yyyzzz85a5"  # noqa: S105 - of an emulator

    def __init__(self, seed: JSONObject | None = None, workspace: Workspace | None = None) -> None:
        """Build the server; nothing listens yet."""
        self.faults = Faults()
        self.messages: list[JSONObject] = []
        self.workspace = workspace or Workspace()
        self.workspace.listen = self.messages.append
        self._hooked = Channel("C00000002", "hooked")
        routes = [
            Route("/services/{team}/{hook}/{secret}", self._post, methods=["POST"]),
            Route("/api/{method}", self.workspace.serve, methods=["POST"]),
        ]
        self._server = AppServer(FaultMiddleware(Starlette(routes=routes), self.faults, _render))

    @property
    def previews(self) -> list[str]:
        """The addresses in messages that Slack fetched to show what is behind them, oldest first."""
        return self.workspace.previews

    async def _post(self, request: Request) -> PlainTextResponse:
        """Take one message."""
        if request.url.path != PATH:
            return PlainTextResponse("no_service", 404)
        try:
            message = json.loads(await request.body())
        except ValueError:
            return PlainTextResponse("invalid_payload", 400)
        if problem := message_fault(message) or self.workspace.dislikes(message):
            return PlainTextResponse(problem, 400)
        try:
            self.workspace.pace(self._hooked)
        except Refusal as refusal:
            return PlainTextResponse("rate_limited", refusal.status, refusal.headers)
        self.messages.append(message)
        self.workspace.preview(message)
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

    def bot(self) -> JSONObject:
        """Give the settings of ``notify.slack`` that lead here."""
        (channel, *_) = self.workspace.channels
        return {"bot_token": self.workspace.token, "channel": channel, "api_url": f"{self._server.url}/api/"}

    # -- buttons ---------------------------------------------------------------------------------------------------------------

    def pressed(self, ts: str, action: str, user: str) -> bytes:
        """Give what Slack sends when ``user`` presses a button of the message ``ts``. Raises KeyError when it has none such."""
        message = self.workspace.message(ts)
        elements = [one for block in message["blocks"] if block["type"] == "actions" for one in block["elements"]]
        (button,) = [one for one in elements if one["action_id"] == action] or [None]
        if button is None:
            raise KeyError(action)
        (channel, *_) = self.workspace.channels
        payload = {
            "type": "block_actions",
            "team": {"id": TEAM, "domain": "emulated"},
            "user": {"id": user, "username": user.lower(), "name": user.lower(), "team_id": TEAM},
            "api_app_id": "A00000001",
            "container": {"type": "message", "message_ts": ts, "channel_id": channel, "is_ephemeral": False},
            "trigger_id": f"{self.workspace.stamp()}.1",
            "channel": {"id": channel, "name": self.workspace.channels[channel].name},
            "message": message,
            "actions": [{**button, "block_id": "b", "action_ts": self.workspace.stamp()}],
        }
        return urlencode({"payload": json.dumps(payload)}).encode()

    def signed(self, body: bytes, at: float | None = None) -> dict[str, str]:
        """Give the headers under which Slack sends a body, at a time in seconds of the epoch."""
        stamp = str(int(self.workspace.now() if at is None else at))
        words = b"v0:" + stamp.encode() + b":" + body
        signature = hmac.new(self.signing_secret.encode(), words, hashlib.sha256).hexdigest()
        kind = "application/x-www-form-urlencoded"
        return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={signature}", "Content-Type": kind}

    def press(self, url: str, ts: str, action: str, user: str) -> int:
        """Press a button as ``user``; give the status that the program answers within the three seconds that Slack waits."""
        import httpx

        body = self.pressed(ts, action, user)
        return httpx.post(url, content=body, headers=self.signed(body), timeout=3).status_code

    def summary(self) -> list[str]:
        """Say what is inside."""
        return [f"slack webhook at {self._server.url}{PATH}", f"{len(self.messages)} messages"]


def _render(kind: str) -> tuple[int, dict[str, str], bytes]:
    """Give Slack's own answer for a fault."""
    if kind == "rate-limit":
        return 429, {"Retry-After": "7", "Content-Type": "text/plain"}, b"rate_limited"
    if kind == "api-rate-limit":
        return 429, {"Retry-After": "7", "Content-Type": "application/json"}, b'{"ok": false, "error": "ratelimited"}'
    status, body = REFUSALS.get(kind, (503, "service_unavailable"))
    return status, {"Content-Type": "text/plain"}, body.encode()

"""The half of the emulated Slack that a bot talks to: the Web API, with its scopes, its limits, and 200 to everything.

What is not modelled: files, users of other workspaces, and every method that the program does not call.
"""

import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse

from reconciler.resource import JSONObject
from reconciler.sandbox.slack_rules import TEXT_HARD, blocks_faults

BOT, BOT_USER, TEAM = "B00000001", "U00000001", "T00000001"
PER_MINUTE = {"chat.update": 50, "conversations.history": 50, "conversations.replies": 50, "chat.postEphemeral": 100}
"""docs.slack.dev/apis/web-api/rate-limits: tier 3 is 50 and more a minute, tier 4 is 100 and more."""
ADDRESS = re.compile(r"https?://[^\s\"<>|]+")
SCOPES = ("chat:write", "channels:history")


class Refusal(Exception):
    """An answer with ``ok: false``."""

    def __init__(self, word: str, status: int = 200, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        """Keep the word that Slack says, and what stands beside it."""
        super().__init__(word)
        self.body = {"ok": False, "error": word, **more}
        self.status, self.headers = status, dict(headers or {})


@dataclass(slots=True)
class Channel:
    """One channel. ``posts`` are the times of the newest posts; ``messages`` are in the order in which they came, threads included."""

    id: str
    name: str
    member: bool = True
    archived: bool = False
    messages: list[JSONObject] = field(default_factory=list)
    posts: deque[float] = field(default_factory=deque)


@dataclass(slots=True)
class Workspace:
    """One workspace with one bot. ``burst`` messages may follow one another at once; on average one a second may.

    ``trouble`` is a word that every call gets for an answer, such as ``token_revoked``; ``window_closed`` forbids edits. ``dislikes`` gives
    a word such as ``invalid_blocks`` for a message whose content is refused for a reason that nobody foresaw, else nothing.
    """

    token: str = "xoxb-emulated"  # noqa: S105 - of an emulator
    scopes: set[str] = field(default_factory=lambda: set(SCOPES))
    channels: dict[str, Channel] = field(default_factory=lambda: {"C00000001": Channel("C00000001", "ops")})
    users: set[str] = field(default_factory=lambda: {"U0000ADA", "U0000EVE"})
    whispers: list[JSONObject] = field(default_factory=list)
    previews: list[str] = field(default_factory=list)
    trouble: str = ""
    window_closed: bool = False
    dislikes: Callable[[JSONObject], str] = lambda message: ""
    burst: int = 4
    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    listen: Callable[[JSONObject], None] = lambda message: None
    _calls: dict[str, deque[float]] = field(default_factory=dict)
    _last: float = 0.0

    async def serve(self, request: Request) -> JSONResponse:
        """Answer one call."""
        method = request.path_params["method"]
        try:
            if method not in METHODS:
                raise Refusal("unknown_method", req_method=method)
            self._admit(method, request.headers.get("authorization", ""))
            return JSONResponse({"ok": True, **METHODS[method](self, await _arguments(request))})
        except Refusal as refusal:
            return JSONResponse(refusal.body, refusal.status, refusal.headers)

    def message(self, ts: str) -> JSONObject:
        """Give a message by its id. Raises KeyError."""
        found = next((one for channel in self.channels.values() for one in channel.messages if one["ts"] == ts), None)
        if found is None:
            raise KeyError(ts)
        return found

    def _admit(self, method: str, authorization: str) -> None:
        """Check the token and the tier of a method."""
        if not authorization:
            raise Refusal("not_authed")
        if authorization != f"Bearer {self.token}":
            raise Refusal("invalid_auth")
        if self.trouble:
            raise Refusal(self.trouble)
        calls, now = self._calls.setdefault(method, deque()), self.monotonic()
        while calls and now - calls[0] >= 60:
            calls.popleft()
        if len(calls) >= PER_MINUTE.get(method, 10_000):
            raise _later(60 - (now - calls[0]))
        calls.append(now)

    def scope(self, name: str) -> None:
        """Demand a scope."""
        if name not in self.scopes:
            raise Refusal("missing_scope", needed=name, provided=",".join(sorted(self.scopes)))

    def channel(self, given: Any, *, named: bool = False) -> Channel:
        """Find a channel that the bot may use, by id, and by name where Slack takes one."""
        found = self.channels.get(str(given))
        if found is None and named:
            found = next((one for one in self.channels.values() if given in (one.name, f"#{one.name}")), None)
        if found is None:
            raise Refusal("channel_not_found")
        if found.archived:
            raise Refusal("is_archived")
        if not found.member:
            raise Refusal("not_in_channel")
        return found

    def stamp(self) -> str:
        """Give the id of a new message: its time, unique in the workspace."""
        self._last = max(self.now(), self._last + 0.0001)
        return f"{self._last:.6f}"

    def preview(self, message: Mapping[str, Any]) -> None:
        """Fetch the pages that a message names, unless it says that nobody shall; ``previews`` lists them."""
        if message.get("unfurl_links") is not False or message.get("unfurl_media") is not False:
            self.previews += ADDRESS.findall(json.dumps([message.get("text", ""), message.get("blocks", [])]))

    def pace(self, channel: Channel) -> None:
        """Let one message a second pass, and short bursts."""
        now = self.monotonic()
        while channel.posts and now - channel.posts[0] >= self.burst:
            channel.posts.popleft()
        if len(channel.posts) >= self.burst:
            raise _later(self.burst - (now - channel.posts[0]))
        channel.posts.append(now)


def _later(seconds: float) -> Refusal:
    return Refusal("ratelimited", 429, {"Retry-After": str(max(1, int(seconds + 0.999)))})


async def _arguments(request: Request) -> dict[str, Any]:
    """Read what a call was given: JSON, a form, or the query."""
    given: dict[str, Any] = dict(request.query_params)
    kind = request.headers.get("content-type", "")
    if kind.startswith("application/json"):
        try:
            body = await request.json()
        except ValueError:
            raise Refusal("invalid_json") from None
        if not isinstance(body, dict):
            raise Refusal("json_not_object")
        return given | body
    if kind.startswith("application/x-www-form-urlencoded"):
        return given | dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
    return given


def _content(workspace: Workspace, given: Mapping[str, Any]) -> JSONObject:
    """Check what a message is to say, and give it as it is kept."""
    if word := workspace.dislikes(dict(given)):
        raise Refusal(word)
    text, blocks = given.get("text", ""), given.get("blocks", [])
    if faults := blocks_faults(blocks):
        raise Refusal("invalid_blocks", errors=faults, response_metadata={"messages": [f"[ERROR] {one}" for one in faults]})
    if not text and not blocks:
        raise Refusal("no_text")
    if len(text) > TEXT_HARD:
        raise Refusal("msg_too_long")
    metadata = given.get("metadata")
    if metadata is not None and not (isinstance(metadata, Mapping) and {"event_type", "event_payload"} <= set(metadata)):
        raise Refusal("invalid_metadata_format")
    return {"text": text, "blocks": blocks, **({"metadata": dict(metadata)} if metadata is not None else {})}


def _post(workspace: Workspace, given: Mapping[str, Any]) -> JSONObject:
    workspace.scope("chat:write")
    channel = workspace.channel(given.get("channel"), named=True)
    content = _content(workspace, given)
    workspace.pace(channel)
    thread = {"thread_ts": str(given["thread_ts"])} if given.get("thread_ts") else {}
    message = {"type": "message", "user": BOT_USER, "bot_id": BOT, "ts": workspace.stamp(), **content, **thread}
    channel.messages.append(message)
    workspace.listen(message)
    workspace.preview(given)
    return {"channel": channel.id, "ts": message["ts"], "message": message}


def _update(workspace: Workspace, given: Mapping[str, Any]) -> JSONObject:
    """Replace a message: only the bot's own, only by the channel's id. What is not given stays, but blocks do not beside a new text.

    Source: docs.slack.dev/reference/methods/chat.update.
    """
    workspace.scope("chat:write")
    channel = workspace.channel(given.get("channel"))
    message = next((one for one in channel.messages if one["ts"] == given.get("ts")), None)
    if message is None:
        raise Refusal("message_not_found")
    if message["user"] != BOT_USER:
        raise Refusal("cant_update_message")
    if workspace.window_closed:
        raise Refusal("edit_window_closed")
    given = given if "blocks" in given or "text" in given else {**given, "blocks": message["blocks"]}
    message.update(_content(workspace, given), edited={"user": BOT_USER, "ts": f"{workspace.now():.6f}"})
    return {"channel": channel.id, "ts": message["ts"], "text": message["text"], "message": message}


def _whisper(workspace: Workspace, given: Mapping[str, Any]) -> JSONObject:
    workspace.scope("chat:write")
    workspace.channel(given.get("channel"))
    if given.get("user") not in workspace.users:
        raise Refusal("user_not_in_channel")
    workspace.whispers.append({"user": given["user"], **_content(workspace, given)})
    return {"message_ts": workspace.stamp()}


def _history(workspace: Workspace, given: Mapping[str, Any]) -> JSONObject:
    workspace.scope("channels:history")
    channel = workspace.channel(given.get("channel"))
    top = [one for one in channel.messages if one.get("thread_ts", one["ts"]) == one["ts"]]
    return _page([one for one in reversed(top) if float(one["ts"]) > float(given.get("oldest", 0))], given)


def _replies(workspace: Workspace, given: Mapping[str, Any]) -> JSONObject:
    workspace.scope("channels:history")
    channel, thread = workspace.channel(given.get("channel")), given.get("ts")
    if not any(one["ts"] == thread for one in channel.messages):
        raise Refusal("thread_not_found")
    found = [one for one in channel.messages if one["ts"] == thread or one.get("thread_ts") == thread]
    return _page([one for one in found if one["ts"] == thread or float(one["ts"]) > float(given.get("oldest", 0))], given)


def _page(found: list[JSONObject], given: Mapping[str, Any]) -> JSONObject:
    start, size = int(given.get("cursor") or 0), int(given.get("limit", 100))
    whole = str(given.get("include_all_metadata", "")).lower() in ("1", "true")
    shown = [{name: value for name, value in one.items() if whole or name != "metadata"} for one in found[start : start + size]]
    more = start + size < len(found)
    return {"messages": shown, "has_more": more, "response_metadata": {"next_cursor": str(start + size) if more else ""}}


def _who(workspace: Workspace, given: Mapping[str, Any]) -> JSONObject:
    return {"team_id": TEAM, "user_id": BOT_USER, "bot_id": BOT}


METHODS: Mapping[str, Callable[[Workspace, Mapping[str, Any]], JSONObject]] = {
    "auth.test": _who,
    "chat.postMessage": _post,
    "chat.update": _update,
    "chat.postEphemeral": _whisper,
    "conversations.history": _history,
    "conversations.replies": _replies,
}

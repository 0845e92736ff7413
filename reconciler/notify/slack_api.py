"""Slack by a bot token: messages that can be found again, edited in place and answered in their threads.

Every answer has status 200, so only ``ok`` in the body counts. This room neither retries nor waits, and decides nothing: which words mean
"later", "never this one" or "never anything" is all it knows.
"""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from reconciler.errors import DriverError, Permanent, Transient
from reconciler.notify import Blind, Closed, Gone, Notice, Place
from reconciler.notify.slack import blocks, escape, fallback
from reconciler.resource import SecretValue

EVENT = "reconciler_notice"
WORD = re.compile(r"[a-z][a-z0-9_]*")
LATER = {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"}
GONE = {"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found", "is_inactive"}
NOT_THIS = {
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_too_long",
    "msg_blocks_too_long",
    "no_text",
    "invalid_arguments",
    "invalid_arg_name",
    "invalid_metadata_format",
    "invalid_metadata_schema",
    "metadata_too_large",
    "metadata_must_be_sent_from_app",
    "too_many_attachments",
    "restricted_action_thread_locked",
}
ADVICE = {
    "invalid_auth": "set notify.slack.bot_token anew",
    "not_authed": "set notify.slack.bot_token",
    "token_revoked": "install the app again and set notify.slack.bot_token anew",
    "token_expired": "set notify.slack.bot_token anew",
    "account_inactive": "the bot was removed; install the app again",
    "channel_not_found": "set notify.slack.channel to the id of a channel that the bot is in",
    "not_in_channel": "invite the bot to the channel",
    "is_archived": "take the channel out of the archive, or set another one",
    "restricted_action": "the workspace lets the bot not post there; ask its owner",
}
PAGES, PAGE = 10, 200


class SlackBot:
    """One bot in one channel. ``base_url`` leads to the Web API. Thread-safe, as the client keeps nothing between calls."""

    def __init__(
        self, token: SecretValue, channel: str, *, base_url: str = "https://slack.com/api/", timeout: int = 15, buttons: bool = True
    ) -> None:
        """Take the bot's token and the channel's id; ``timeout`` in seconds. Nothing is asked yet.

        Without ``buttons`` none are shown, because nobody hears them.
        """
        silent = logging.Logger("slack", logging.CRITICAL + 1)  # the client logs what it sends
        # its own retry would post twice when an answer is lost
        self._client = WebClient(token.reveal(), base_url=base_url, timeout=timeout, logger=silent, retry_handlers=[])
        self._channel, self._buttons, self._token = channel, buttons, token

    def send(self, notice: Notice) -> None:
        """Post a notice that nobody will look for again."""
        self.post(notice, "")

    def post(self, notice: Notice, mark: str, thread: str = "") -> Place:
        """Post a notice, in a thread if one is given. Raises Transient, Permanent, Closed or Gone."""
        more = {"thread_ts": thread} if thread else {}
        answer = self._call(
            "chat.postMessage", channel=self._channel, unfurl_links=False, unfurl_media=False, **self._body(notice, mark), **more
        )
        return Place(str(answer["channel"]), str(answer["ts"]))

    def edit(self, place: Place, notice: Notice, mark: str) -> None:
        """Put a notice in the place of an older one. Raises Transient, Permanent, Closed or Gone."""
        self._call("chat.update", channel=place.channel, ts=place.ts, **self._body(notice, mark))

    def find(self, mark: str, since: float, thread: str = "") -> Place | None:
        """Look through the channel, or a thread of it, for what was posted under ``mark``. Raises Transient, Blind or Closed."""
        method = "conversations.replies" if thread else "conversations.history"
        asked: dict[str, Any] = {"channel": self._channel, "oldest": f"{since:.6f}", "include_all_metadata": True, "limit": PAGE}
        if thread:
            asked["ts"] = thread
        for _ in range(PAGES):
            answer = self._call(method, **asked)
            for one in answer.get("messages", []):
                if _marked(one, mark):
                    return Place(self._channel, str(one["ts"]))
            cursor = (answer.get("response_metadata") or {}).get("next_cursor", "")
            if not cursor:
                return None
            asked["cursor"] = cursor
        return None

    def whisper(self, user: str, text: str) -> None:
        """Show a line to one person only; it is gone when they look away. Raises Transient, Permanent or Closed."""
        self._call("chat.postEphemeral", channel=self._channel, user=user, text=escape(text, 1000))

    def _body(self, notice: Notice, mark: str) -> dict[str, Any]:
        body: dict[str, Any] = {"text": fallback(notice), "blocks": blocks(notice, buttons=self._buttons)}
        if mark:
            body["metadata"] = {"event_type": EVENT, "event_payload": {"id": mark}}
        return body

    def _call(self, method: str, **body: Any) -> Mapping[str, Any]:
        call: Callable[..., Any] = self._client.api_call
        try:
            answer = call(method, params=body) if method.startswith("conversations.") else call(method, json=body)
        except SlackApiError as error:
            raise _judged(method, error, self._token) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise Transient(f"slack: cannot be reached: {type(reason).__name__}; check the network and the proxy") from None
        except Exception as error:
            raise Transient(f"slack: the answer could not be read: {type(error).__name__}") from None
        if not isinstance(answer.data, Mapping):
            raise Transient("slack: the answer could not be read: it is no JSON")
        return answer.data


def _marked(message: Mapping[str, Any], mark: str) -> bool:
    metadata = message.get("metadata") or {}
    return metadata.get("event_type") == EVENT and (metadata.get("event_payload") or {}).get("id") == mark


def _judged(method: str, error: SlackApiError, token: SecretValue) -> DriverError:
    """Turn a refusal into what it means. A word that is not known shuts the way, so that nothing is lost by our not knowing it."""
    response: Any = error.response
    status = int(getattr(response, "status_code", 0) or 0)
    data = getattr(response, "data", None)
    found = data if isinstance(data, Mapping) else {}
    word = str(found.get("error", ""))
    if status == 429 or word in LATER:
        return Transient(
            "slack: too many messages; the next one waits" if status == 429 else f"slack: {word}", retry_after=_delay(response)
        )
    if status >= 500 or status == 408 or not WORD.fullmatch(word):  # a proxy's page, not Slack's answer
        return Transient(f"slack: {method} answered {status}")
    if word in GONE:
        return Gone(f"slack: {method}: {word}")
    told = escape(token.out_of("; ".join([word, *map(str, (found.get("response_metadata") or {}).get("messages", []))])), 300)
    if word in NOT_THIS:
        return Permanent(f"slack: {method}: {told}")
    if word == "missing_scope":
        kind = Blind if method.startswith("conversations.") else Closed
        return kind(f"slack: {method}: give the app the scope {found.get('needed', '')} and install it again")
    return Closed(f"slack: {method}: {told}; {ADVICE.get(word, 'check notify.slack and the settings of the app')}")


def _delay(response: Any) -> float | None:
    """Read the seconds that Slack asks us to wait; None when it does not say."""
    headers = {str(name).lower(): value for name, value in (getattr(response, "headers", None) or {}).items()}
    value = headers.get("retry-after", "")
    text = str(value[0] if isinstance(value, list) and value else value)
    return float(text) if text.isascii() and text.isdigit() else None

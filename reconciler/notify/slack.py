"""Slack's Block Kit, and the minimal way to Slack: an incoming webhook, by which a notice is posted once and never seen again.

The address of a webhook is its secret, so it appears in no message and no log. This room decides neither what is news
nor when to try again.
"""

import logging
import re
from collections.abc import Iterator

from slack_sdk.webhook import WebhookClient, WebhookResponse

from reconciler.errors import Permanent, SettingsError, Transient
from reconciler.notify import Button, Closed, Notice
from reconciler.resource import JSONObject, SecretValue

ICONS = {"ok": "✅", "info": "ℹ️", "warning": "⚠️", "error": "🚨"}  # noqa: RUF001 - the sign that people know
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
HEADER, SECTION, ROW, ELEMENT, ELEMENTS, ROWS, FALLBACK = 150, 3000, 280, 300, 10, 10, 4000
BUTTON, VALUE, BUTTONS, CODE, QUESTION = 75, 2000, 5, 2800, 300
"""Limits of Block Kit in characters and pieces (docs.slack.dev/reference/block-kit); a row, an element, the code and the number of
buttons are our own, for the eye."""
BARE, BARE_ROWS = 700, 3
"""How much of a message is given as plain text when Slack refused the whole."""
WORD = re.compile(r"[a-z_]{1,60}")
"""What Slack answers with. Anything else is a proxy's page, and may quote the address, which is the secret."""
REFUSED = (400, 413)
"""A webhook's answers that are about one message; every other refusal is about the webhook."""


def escape(text: str, limit: int) -> str:
    """Make ``text`` harmless and at most ``limit`` characters long: one line, no control characters, no mention, no link.

    An entity is never cut in two, which Slack would show as rubbish.
    """
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    pieces = [ENTITIES.get(sign, sign) for sign in line]
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    room, kept = limit - 1, []
    for piece in pieces:
        if len(piece) > room:
            break
        room -= len(piece)
        kept.append(piece)
    return "".join(kept) + "…"


def rows(notice: Notice) -> Iterator[str]:
    """Yield the lines that fit, and how many do not."""
    for line in notice.lines[:ROWS]:
        yield "• " + escape(line, ROW - 2)
    if len(notice.lines) > ROWS:
        yield f"and {len(notice.lines) - ROWS} more"


def blocks(notice: Notice, *, buttons: bool = True) -> list[JSONObject]:
    """Render a notice as Block Kit blocks: a header, what happened, where, what to copy, and what can be done about it.

    Of a bare one there are none, which also takes away those of a message that is edited.
    """
    if notice.bare:
        return []
    header = {"type": "plain_text", "text": escape(f"{ICONS[notice.level]} {notice.title}", HEADER), "emoji": True}
    found: list[JSONObject] = [{"type": "header", "text": header}]
    if notice.lines:
        found.append({"type": "section", "text": verbatim("\n".join(rows(notice)))})
    details = [notice.stack, *notice.context][: ELEMENTS - bool(notice.link)]
    elements = [verbatim(text) for detail in details if (text := escape(detail, ELEMENT))]
    if notice.link:
        elements.append(verbatim(link(notice.link)))
    if elements:
        found.append({"type": "context", "elements": elements})
    if notice.code:
        found.append(preformatted(notice.code))
    if buttons and notice.buttons:
        found.append({"type": "actions", "elements": [button(one) for one in notice.buttons[:BUTTONS]]})
    return found


def preformatted(code: str) -> JSONObject:
    """Make a block whose text Slack shows as it stands and parses for nothing, so that it needs no escaping and can be copied."""
    shown = code if len(code) <= CODE else code[:CODE] + "…"
    text = {"type": "text", "text": "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in shown)}
    return {"type": "rich_text", "elements": [{"type": "rich_text_preformatted", "elements": [text]}]}


def button(one: Button) -> JSONObject:
    """Make a button; one that asks first gets a question."""
    label = escape(one.label, BUTTON) or one.action[:BUTTON]
    found: JSONObject = {"type": "button", "action_id": one.action, "value": one.value[:VALUE], "text": plain(label)}
    if one.style:
        found["style"] = one.style
    if ask := escape(one.ask, QUESTION):
        found["confirm"] = {"title": plain("Sure?"), "text": plain(ask), "confirm": plain(label[:30]), "deny": plain("Cancel")}
    return found


def plain(text: str) -> JSONObject:
    """Make a text object that Slack does not parse."""
    return {"type": "plain_text", "text": text}


def verbatim(text: str) -> JSONObject:
    """Make a text object in which Slack looks for no names, channels or addresses of its own accord."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def link(address: str) -> str:
    """Write a link to our own page."""
    return f"<{escape(address, SECTION).replace('|', '%7C').replace(' ', '%20')}|details>"


def fallback(notice: Notice) -> str:
    """Render a notice as the one line that notifications and screen readers get; of a bare one it is all that there is."""
    said = "; ".join([f"{notice.stack}: {notice.title}", *notice.lines[: BARE_ROWS if notice.bare else ROWS]])
    if not notice.bare:
        return escape(said, FALLBACK)
    return escape(f"{ICONS[notice.level]} {said}", BARE) + " (this message could not be shown in full; see reconciler status)"


class SlackSink:
    """Posts notices to one channel, the one that the webhook was made for. It answers ``ok`` and nothing that could be updated later."""

    def __init__(self, url: SecretValue, *, timeout: int = 10) -> None:
        """Take the webhook's address; ``timeout`` in seconds. Raises SettingsError when it is not an address."""
        if not re.match(r"https?://[^/\s]+/\S+$", url.reveal()):
            raise SettingsError("slack: the webhook's address must begin with https:// and have a path; copy it from the app's settings")
        # the client logs the address; a logger outside the hierarchy keeps it from every handler
        silent = logging.Logger("slack", logging.CRITICAL + 1)
        # its own retry would post twice when an answer is lost
        self._client = WebhookClient(url.reveal(), timeout=timeout, logger=silent, retry_handlers=[])

    def send(self, notice: Notice) -> None:
        """Post once. Raises Transient when Slack cannot be reached, is busy or broken, Permanent when it will never take this."""
        try:
            response = self._client.send(
                text=fallback(notice), blocks=blocks(notice, buttons=False), unfurl_links=False, unfurl_media=False
            )
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise Transient(f"slack: cannot be reached: {type(reason).__name__}; check the network and the proxy") from None
        except Exception as error:
            raise Transient(f"slack: the answer could not be read: {type(error).__name__}") from None
        judge(response)


def judge(response: WebhookResponse) -> None:
    """Turn an answer into nothing, Transient or Permanent. A status of 200 counts only with the body ``ok``."""
    body = response.body.strip() if WORD.fullmatch(response.body.strip()) else "with words that are not Slack's"
    if response.status_code == 200 and response.body.strip() == "ok":
        return
    if response.status_code == 429:
        raise Transient("slack: too many messages; the next one waits", retry_after=delay(response))
    if response.status_code >= 500 or response.status_code == 408:
        raise Transient(f"slack: answered {response.status_code} {body}")
    kind = Permanent if response.status_code in REFUSED else Closed
    raise kind(f"slack: answered {response.status_code} {body}; check the webhook in the app's settings")


def delay(response: WebhookResponse) -> float | None:
    """Read the seconds that Slack asks us to wait; None when it does not say."""
    headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None

"""What Slack sends when somebody presses a button: is it from Slack, is it new, and what was pressed by whom.

Pure but for the memory of what has come. It decides nothing about who may.
"""

import hashlib
import hmac
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl

from reconciler.resource import SecretValue

WINDOW = 300.0
"""Seconds by which a request may be old or early (docs.slack.dev/authentication/verifying-requests-from-slack)."""
MOST_SEEN = 10_000


@dataclass(frozen=True, slots=True)
class Press:
    """One button that somebody pressed. ``user`` is Slack's id of the person; ``value`` is what we put into the button."""

    action: str
    value: Mapping[str, Any]
    user: str


@dataclass(slots=True)
class Seal:
    """Knows Slack's requests by their signature, each once. Thread-safe. ``secret`` is the app's signing secret."""

    secret: SecretValue
    _seen: "OrderedDict[bytes, float]" = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def fresh(self, stamp: bytes, signature: bytes, body: bytes, now: float) -> bool:
        """Say whether the raw ``body`` was signed by Slack within five minutes of ``now`` (seconds) and has not come before.

        Works on bytes alone, so that no input can make it raise.
        """
        if not genuine(self.secret, stamp, signature, body, now):
            return False
        key = hashlib.sha256(stamp + b" " + signature).digest()
        with self._lock:
            while self._seen and (now - next(iter(self._seen.values())) > 2 * WINDOW or len(self._seen) >= MOST_SEEN):
                self._seen.popitem(last=False)
            if key in self._seen:
                return False
            self._seen[key] = now
        return True


def genuine(secret: SecretValue, stamp: bytes, signature: bytes, body: bytes, now: float) -> bool:
    """Say whether a signature is right and its time near; compared in constant time."""
    if not 1 <= len(stamp) <= 12 or not stamp.isdigit() or abs(now - int(stamp)) > WINDOW:
        return False
    wanted = hmac.new(secret.reveal().encode(), b"v0:" + stamp + b":" + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(b"v0=" + wanted.encode(), signature)


def presses(body: bytes) -> list[Press]:
    """Read the presses in a verified body; none when it holds something else. Raises ValueError when it is no payload at all."""
    form = dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=20))
    payload = json.loads(form.get("payload", ""))
    if not isinstance(payload, dict) or payload.get("type") != "block_actions":
        return []
    user, actions = payload.get("user"), payload.get("actions")
    if not isinstance(user, dict) or not isinstance(actions, list):
        raise ValueError("a press without a user or an action")
    return [_press(one, str(user.get("id", ""))) for one in actions if isinstance(one, dict) and one.get("type") == "button"]


def _press(action: Mapping[str, Any], user: str) -> Press:
    value = json.loads(str(action.get("value", "{}")))
    return Press(str(action.get("action_id", "")), value if isinstance(value, dict) else {}, user)

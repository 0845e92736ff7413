"""What an unwelcome answer of the API server means. Pure: from status code and body to one exception of our tree.

Codes alone mislead: a schema error is a 500, a terminating namespace a 403, and both an ownership conflict and a stale version are 409.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import JSONObject, SecretValue

_DUMP = re.compile(r'(Invalid value: )("(?:[^"\\]|\\.){80,}"|[^"].{80,}?)(?=: )', re.DOTALL)
_RIGHTS = re.compile(r'User "[^"]*" cannot ')
_WEBHOOK = re.compile(r'(?:admission|failed calling) webhook "([^"]*)"')
SCHEMA_ERRORS = ("failed to create typed patch object", "failed to convert new object", "failed to create manager for existing fields")
_CREDENTIAL = re.compile(r"\b(bearer|basic)\s+[^\s\"',;]+", re.IGNORECASE)
"""What a server, or a proxy before it, may quote of the request's own header."""
LONGEST = 600
NOTHING = SecretValue("")


class NotFound(Permanent):
    """The object, its namespace or its whole kind is not there; ``missing`` is the plural of what is missing, empty for a kind."""

    def __init__(self, message: str, missing: str) -> None:
        """Keep what is missing."""
        self.missing = missing
        super().__init__(message)


class FieldConflict(Conflict):
    """Other managers own fields that the apply would change; ``causes`` as the server sent them."""

    def __init__(self, message: str, causes: list[JSONObject]) -> None:
        """Keep the causes."""
        self.causes = causes
        super().__init__(message)


class Forbidden(Permanent):
    """The credentials do not allow the call."""


class NoDryRun(Permanent):
    """An admission webhook cannot be asked without being obeyed, so the server predicts nothing."""


class Invalid(Permanent):
    """The server's validation says no; ``immutable`` when only a new object could have these values."""

    def __init__(self, message: str, *, immutable: bool) -> None:
        """Keep whether a replacement would help."""
        self.immutable = immutable
        super().__init__(message)


def read_status(body: bytes) -> JSONObject:
    """Give the Status object of an answer, or an empty one for anything else."""
    try:
        status: Any = json.loads(body)
    except ValueError:
        return {}
    return status if isinstance(status, dict) and status.get("kind") == "Status" else {}


def failure(
    what: str,
    code: int,
    body: bytes,
    *,
    retry_after: str | None = None,
    confidential: bool = False,
    right: str = "",
    credential: SecretValue = NOTHING,
) -> DriverError:
    """Make the exception for an answer. ``confidential`` keeps every text of the server out of it except reasons and field names.

    ``credential`` is what we showed to the server, and stands in no message though the server, or a proxy before it, should quote it.
    ``right`` names what the call needs to be allowed. A 403 is a matter of rights only when it says so; quotas, admission webhooks and
    policies answer 403, too, and mean the object.
    """
    status = read_status(body)
    details = status.get("details") or {}
    causes: list[JSONObject] = list(details.get("causes") or ())
    reason = str(status.get("reason") or "")
    text = f"{what}: {_said(code, reason, status, causes, confidential=confidential, credential=credential)}"
    match code:
        case 401:
            return Permanent(f"{text}; the cluster does not know these credentials")
        case 403:
            return _forbidden(text, str(status.get("message") or ""), causes, right)
        case 404:
            return NotFound(text, str(details.get("kind") or ""))
        case 409:
            owned = any(cause.get("reason") == "FieldManagerConflict" for cause in causes)
            return FieldConflict(text, causes) if owned else Conflict(text)
        case 422:
            return Invalid(text, immutable=_immutable(str(status.get("message") or ""), causes))
        case 500 if str(status.get("message") or "").startswith(SCHEMA_ERRORS):
            return Permanent(text)
    if code == 400 and "does not support dry run" in str(status.get("message")):
        return NoDryRun(text)
    if code in (408, 410, 429) or code >= 500:
        return Transient(text, retry_after=_seconds(retry_after, details))
    return Permanent(text)


def _forbidden(text: str, message: str, causes: Sequence[JSONObject], right: str) -> DriverError:
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return Transient(text)
    if message and not _RIGHTS.search(message):
        return Permanent(text)
    return Forbidden(f"{text}; the credentials need the right to {right}" if right else text)


def _seconds(header: str | None, details: JSONObject) -> float | None:
    value = header if header is not None else details.get("retryAfterSeconds")
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


def _said(code: int, reason: str, status: JSONObject, causes: Sequence[JSONObject], *, confidential: bool, credential: SecretValue) -> str:
    head = f"HTTP {code}" + (f" {reason}" if reason else "")
    if confidential:
        fields = ", ".join(sorted({f"{cause.get('field')} ({cause.get('reason')})" for cause in causes}))
        webhook = _WEBHOOK.search(str(status.get("message") or ""))
        head += f" from the admission webhook {webhook[1]}" if webhook else ""
        return f"{head}; the server's text may show secrets and is left out" + (f"; fields: {fields}" if fields else "")
    text = _CREDENTIAL.sub(r"\1 ***", credential.out_of(_DUMP.sub(r"\1...", str(status.get("message") or ""))))
    return f"{head}: {text[:LONGEST]}" if text else head


def _immutable(message: str, causes: Sequence[JSONObject]) -> bool:
    said = [str(cause.get("message") or "") for cause in causes] or [message]
    signs = ("immutable", "may not change once set", "updates to", "is forbidden after creation", "spec is immutable")
    return any(sign in text for text in said for sign in signs)

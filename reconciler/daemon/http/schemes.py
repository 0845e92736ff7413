"""How each sender of webhooks proves who it is. Pure: headers, body, secrets and the time come in as values.

The scheme is the configured one, never the one whose header happens to be there. Each compares in constant time over the raw body, and
takes a header only when it is there exactly once. Sources: docs.github.com "Validating webhook deliveries", forgejo.org "Webhooks",
docs.gitlab.com "Webhooks", standardwebhooks.com specification 1.0, support.atlassian.com "Manage webhooks", fluxcd.io "Receivers".
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from reconciler.daemon.http.bodies import Refused
from reconciler.daemon.http.config import Scheme, signing_key

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""As they came: names in lower case, values raw, in order."""
TOLERANCE = 300.0
"""Seconds that the time of a Standard Webhook may be away from ours."""
STANDARD_ID, STANDARD_TIME, STANDARD_SIGNATURE = b"webhook-id", b"webhook-timestamp", b"webhook-signature"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook whose sender is known. ``id`` is what a second copy of it has, too; empty when copies cannot be told from new ones."""

    event: str
    id: str


@dataclass(frozen=True, slots=True)
class _Sender:
    event: bytes
    id: tuple[bytes, ...]
    proof: Callable[[Headers, bytes, Sequence[bytes], float], str]


def verify(scheme: Scheme, secrets: Sequence[str], headers: Headers, body: bytes, now: float) -> Delivery:
    """Give the delivery when one of ``secrets`` signed it. Raises Refused (401). ``now`` is the Unix time in seconds."""
    keys = [key for text in secrets if (key := signing_key(text) if scheme == "standard-webhooks" else text.encode())]
    if not keys:
        raise Refused(401, "no secret is configured")
    sender = SENDERS[scheme]
    signed = sender.proof(headers, body, keys, now)
    named = next((text for name in sender.id if (text := _optional(headers, name))), "")
    return Delivery(_optional(headers, sender.event), signed or named)


def _one(headers: Headers, name: bytes) -> bytes:
    """Give the value of a header that must be there once and not empty."""
    found = [value.strip() for key, value in headers if key == name]
    if len(found) != 1 or not found[0]:
        raise Refused(401, f"{name.decode()}: {'is missing' if not any(found) else 'is there more than once'}")
    return found[0]


def _optional(headers: Headers, name: bytes) -> str:
    return next((value.decode("latin-1").strip()[:200] for key, value in headers if key == name), "")


def _matches(given: bytes, keys: Sequence[bytes], made: Callable[[bytes], bytes]) -> bool:
    """Compare with what every key makes, and always with all of them, so that the time tells nothing."""
    return max([hmac.compare_digest(given, made(key)) for key in keys])


def _hexadecimal(name: bytes, prefixes: Mapping[bytes, str]) -> Callable[[Headers, bytes, Sequence[bytes], float], str]:
    """Make the proof of a header ``<prefix><hex HMAC of the body>``. The signature itself names the delivery: its id is not signed."""

    def proof(headers: Headers, body: bytes, keys: Sequence[bytes], now: float) -> str:
        value = _one(headers, name)
        prefix = next((one for one in prefixes if value.startswith(one)), None)
        if prefix is None:
            raise Refused(401, f"{name.decode()}: has not the form of a signature")
        algorithm = prefixes[prefix]
        text = value[len(prefix) :]
        if not re.fullmatch(rb"[0-9a-fA-F]{%d}" % (hashlib.new(algorithm).digest_size * 2), text):
            raise Refused(401, f"{name.decode()}: has not the form of a signature")
        given = binascii.unhexlify(text)
        if not _matches(given, keys, lambda key: hmac.digest(key, body, algorithm)):
            raise Refused(401, f"{name.decode()}: is not the signature of this body")
        return given.hex()

    return proof


def _anonymous(proof: Callable[[Headers, bytes, Sequence[bytes], float], str]) -> Callable[[Headers, bytes, Sequence[bytes], float], str]:
    """Make a proof whose signature names nothing: a sender that posts the same body each time means it each time."""

    def checked(headers: Headers, body: bytes, keys: Sequence[bytes], now: float) -> str:
        proof(headers, body, keys, now)
        return ""

    return checked


def _token(headers: Headers, body: bytes, keys: Sequence[bytes], now: float) -> str:
    if not _matches(hashlib.sha256(_one(headers, b"x-gitlab-token")).digest(), keys, lambda key: hashlib.sha256(key).digest()):
        raise Refused(401, "x-gitlab-token: is not the secret")
    return ""


def _standard(headers: Headers, body: bytes, keys: Sequence[bytes], now: float) -> str:
    id, moment, signatures = (_one(headers, name) for name in (STANDARD_ID, STANDARD_TIME, STANDARD_SIGNATURE))
    if not re.fullmatch(rb"[0-9]{1,12}", moment) or abs(now - int(moment)) > TOLERANCE:
        raise Refused(401, "webhook-timestamp: is not of these minutes")
    if not re.fullmatch(rb"[a-z0-9]+,[^\s,]+( +[a-z0-9]+,[^\s,]+){0,7}", signatures):
        raise Refused(401, "webhook-signature: has not the form of signatures")
    signed = b".".join((id, moment, body))
    given = [_decoded(one[3:]) for one in signatures.split() if one.startswith(b"v1,")]
    if not any(_matches(one, keys, lambda key: hmac.digest(key, signed, "sha256")) for one in given):
        raise Refused(401, "webhook-signature: is not the signature of this body")
    return id.decode("latin-1")[:200]


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


SHA256 = {b"sha256=": "sha256"}
SENDERS: Mapping[str, _Sender] = {
    "github": _Sender(b"x-github-event", (), _hexadecimal(b"x-hub-signature-256", SHA256)),
    "gitea": _Sender(b"x-gitea-event", (), _hexadecimal(b"x-gitea-signature", {b"": "sha256"})),
    "forgejo": _Sender(b"x-forgejo-event", (), _hexadecimal(b"x-forgejo-signature", {b"": "sha256"})),
    "gitlab-token": _Sender(b"x-gitlab-event", (b"idempotency-key", b"x-gitlab-event-uuid"), _token),
    "standard-webhooks": _Sender(b"x-gitlab-event", (), _standard),
    "bitbucket": _Sender(b"x-event-key", (), _hexadecimal(b"x-hub-signature", SHA256)),
    "hmac": _Sender(b"", (), _anonymous(_hexadecimal(b"x-signature", {**SHA256, b"sha512=": "sha512"}))),
}

"""What may be told of a value: which rule of its declaration it breaks, and, by its form, the parts that are no secret. Pure.

The host that a password map is for stands in Postfix' own settings, and the public half of a key in DNS: both can be compared with other
systems while nobody reads the secret. What is not named here stays untold.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping

from reconciler.resource import SecretValue, digest
from reconciler_vault import shape
from reconciler_vault.spec import KeySpec

FAULT = "fault"
MOST_PROVEN = 256
"""Private keys that are remembered, each by its digest, with the half that is public anyway."""
_proven: dict[bytes, dict[str, str]] = {}
_MAP = re.compile(r"^(?P<host>\[[A-Za-z0-9.:-]+\](?::\w+)?|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\w+)?)[ \t]+[^\s:]+:\S", re.MULTILINE)
"""A line of a password map: a host, then user:password (postconf(5), smtp_sasl_password_maps). What is no host is not told."""


def rules_of(wishes: Mapping[str, KeySpec]) -> str:
    """Give a digest of what is asked of the values; empty when nothing is."""
    asked = {key: wish.model_dump(mode="json", include={"pattern", "json_schema", "form"}) for key, wish in wishes.items() if wish.asks}
    return digest(asked)[:16] if asked else ""


def facts_of(values: Mapping[str, SecretValue], wishes: Mapping[str, KeySpec]) -> dict[str, dict[str, str]]:
    """Give the facts of every declared key that is there."""
    found = {key: _of(values[key], wish) for key, wish in wishes.items() if wish.asks and key in values}
    return {key: facts for key, facts in found.items() if facts}


def _of(value: SecretValue, wish: KeySpec) -> dict[str, str]:
    faults = shape.faults(value, wish)
    try:
        told = FORMS[wish.form](value.reveal()) if wish.form else {}
    except ValueError as error:  # raised below, with words that hold nothing of the value
        faults.append(str(error))
        told = {}
    return {**told, FAULT: " and ".join(faults)} if faults else told


def _password_map(text: str) -> dict[str, str]:
    hosts = sorted({found["host"].lower() for found in _MAP.finditer(text)})
    if not hosts:
        raise ValueError("is no password map: a line is a host and user:password")
    return {"hosts": " ".join(hosts)}


def _private_key(text: str) -> dict[str, str]:
    """Tell the public half. To prove that the primes of a key are primes takes a tenth of a second, so it is proven once for each key."""
    seal = hashlib.sha256(text.encode()).digest()
    if seal not in _proven:
        told = _public_half(text)  # what is no key is not remembered: it may be a word that somebody could guess from its digest
        if len(_proven) >= MOST_PROVEN:
            _proven.clear()
        _proven[seal] = told
    return dict(_proven[seal])


def _public_half(text: str) -> dict[str, str]:
    from cryptography.exceptions import UnsupportedAlgorithm  # takes 0.1 s to import, and few secrets hold keys
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("is no private key in PEM without a passphrase") from None
    public = key.public_key()
    if isinstance(public, ed25519.Ed25519PublicKey):  # DKIM publishes it bare (RFC 8463 4.2)
        return {"type": "ed25519", "public": base64.b64encode(public.public_bytes_raw()).decode()}
    if not isinstance(public, rsa.RSAPublicKey):
        raise ValueError("is a key of a kind that is not rsa or ed25519")
    form = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {"type": "rsa", "public": base64.b64encode(form).decode()}


def _json(text: str) -> dict[str, str]:
    try:
        json.loads(text)
    except ValueError:
        raise ValueError("is not JSON") from None
    return {}


FORMS = {"password-map": _password_map, "private-key": _private_key, "json": _json}
"""What is told of a value by its form. Each raises ValueError, in words without anything of the value, when it has not that form."""

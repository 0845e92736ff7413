"""Makes values that nobody has to know. May import the cryptography library, and only when a key pair is asked for."""

import base64
import secrets
import string
import uuid

from reconciler.resource import SecretValue
from reconciler_vault.spec import Generate

LETTERS = string.ascii_letters + string.digits
SYMBOLS = "!#%*+-./:=?@_~"


def make(wish: Generate) -> SecretValue:
    """Make one value from the system's source of randomness."""
    if wish.type == "password":
        return SecretValue(_password(wish.length, LETTERS + SYMBOLS if wish.symbols else LETTERS))
    if wish.type == "hex":
        return SecretValue(secrets.token_hex(wish.length))
    if wish.type == "base64":
        return SecretValue(base64.b64encode(secrets.token_bytes(wish.length)).decode())
    if wish.type == "uuid":
        return SecretValue(str(uuid.uuid4()))
    return SecretValue(_private_key(wish.type))


def _password(length: int, alphabet: str) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def _private_key(kind: str) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=int(kind.removeprefix("rsa-")))
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()

"""Keys of signatures (RFC 6376, RFC 8301, RFC 8463): each selector one key that can be read and is strong enough. Pure."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reconciler.checks.findings import Finding, error, info, warning
from reconciler.checks.tags import tags
from reconciler.checks.view import MailView, Record

LEAST, WANTED = 1024, 2048
"""Bits of an RSA key: fewer are not verified by anybody, and signers must have the second (RFC 8301 3.2)."""
ED25519 = 32
"""Bytes of an Ed25519 key, which stands there without any wrapping (RFC 8463 4.2)."""

_SELECTOR = re.compile(r'^\s*selector\s*=\s*"?(?P<selector>[\w.-]+)"?\s*;', re.MULTILINE)
_DOMAIN = re.compile(r'^\s*"?(?P<domain>[\w-]+(?:\.[\w-]+)+)"?\s*\{(?P<body>[^}]*)\}', re.MULTILINE)


def keys(view: MailView) -> Iterator[Record]:
    """Give every key record, by name."""
    return (one for one in sorted(view.records, key=lambda one: one.id) if one.type == "TXT" and "._domainkey." in one.name)


def one_key(view: MailView) -> Iterator[Finding]:
    """With two records at a selector it is not said which one counts."""
    for record in keys(view):
        others = view.at("TXT", record.name)
        if record is not others[0]:
            yield error("dkim-one", record.id, f"{record.name} has {len(others)} keys; give each a selector of its own")


def syntax(view: MailView) -> Iterator[Finding]:
    """Check each record by itself."""
    for record in keys(view):
        found = tags(record.content)
        if found is None or "p" not in found:
            yield error("dkim-syntax", record.id, "has no key: a record is a list of tags, and p= is one of them")
            continue
        if found.get("v", "DKIM1") != "DKIM1" or ("v" in found and next(iter(found)) != "v"):
            yield error("dkim-syntax", record.id, "has a version that is not v=DKIM1, or not at its beginning; verifiers ignore the record")
        if found.get("k", "rsa") not in ("rsa", "ed25519"):
            yield error("dkim-syntax", record.id, f"has a key of the kind {found['k']!r}; there are rsa and ed25519")
        if "sha256" not in [part.strip() for part in found.get("h", "sha256").split(":")]:
            yield error("dkim-syntax", record.id, f"allows only {found['h']}; signatures are made with sha256 (RFC 8301 3.1)")
        if "y" in found.get("t", "").split(":"):
            yield warning("dkim-syntax", record.id, "is marked as a test (t=y), so a wrong signature counts as none")


def key(view: MailView) -> Iterator[Finding]:
    """Read the keys themselves."""
    for record in keys(view):
        found = tags(record.content) or {}
        text = "".join(found.get("p", "").split())
        if not text:
            if "p" in found:
                yield info("dkim-key", record.id, "has an empty key, which means revoked")
            continue
        try:
            binary = base64.b64decode(text, validate=True)
        except binascii.Error:
            yield error("dkim-key", record.id, "p= is not base64; was it cut?")
            continue
        yield from _strength(record, binary, found.get("k", "rsa"))


def _strength(record: Record, binary: bytes, kind: str) -> Iterator[Finding]:
    if kind == "ed25519":
        if len(binary) != ED25519:
            yield error("dkim-key", record.id, f"an ed25519 key has {ED25519} bytes, this one {len(binary)}")
        return
    bits = rsa_bits(binary)
    if bits is None:
        yield error("dkim-key", record.id, "p= holds no RSA key; was it cut?")
    elif bits < LEAST:
        yield error("dkim-key", record.id, f"an RSA key of {bits} bits is not verified by anybody; make one of {WANTED}")
    elif bits < WANTED:
        yield warning("dkim-key", record.id, f"an RSA key of {bits} bits is weak; make one of {WANTED}")


def rsa_bits(binary: bytes) -> int | None:
    """Give the size of a public RSA key in DER, or None when it is none."""
    from cryptography.exceptions import UnsupportedAlgorithm  # only where there is a key to read
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        public = load_der_public_key(binary)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return public.key_size if isinstance(public, RSAPublicKey) else None


def pair(record: Record, public: str, private: str) -> Iterator[Finding]:
    """Hold a key record against the public half of the private key that signs under its selector; ``private`` names that key.

    ``public`` is PEM, or base64 of its DER or, for ed25519, of its 32 bytes; blanks do not matter. A record that holds no key at all is
    the business of the rules above, and so is a public half that cannot be read.
    """
    found = tags(record.content) or {}
    text, wanted = "".join(found.get("p", "").split()), material(public)
    if wanted is None or "p" not in found:
        return
    if not text:
        yield error("dkim-private", record.id, f"is revoked, and {private} signs for it; publish p={wanted.text}")
    elif (read := material(text)) is not None and read != wanted:
        message = f"has not the public half of {private}; every signature would fail. Publish k={wanted.kind}; p={wanted.text}"
        yield error("dkim-private", record.id, message)
    elif read is not None and found.get("k", "rsa") != wanted.kind:
        yield error("dkim-private", record.id, f"says k={found.get('k', 'rsa')}, and {private} is {wanted.kind}")


@dataclass(frozen=True, slots=True)
class Material:
    """A public key however it was written: its kind as ``k=`` names it, and what ``p=`` must hold (RFC 6376 3.6.1, RFC 8463 4)."""

    kind: str
    text: str


def material(public: str) -> Material | None:
    """Read a public key. None when it is none, or neither RSA nor ed25519."""
    from cryptography.exceptions import UnsupportedAlgorithm  # only where there is a key to read
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key, load_pem_public_key

    try:
        if "-----" in public:
            key: object = load_pem_public_key(public.strip().encode() + b"\n")
        else:
            binary = base64.b64decode("".join(public.split()), validate=True)
            key = Ed25519PublicKey.from_public_bytes(binary) if len(binary) == ED25519 else load_der_public_key(binary)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, Ed25519PublicKey):
        return Material("ed25519", base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode())
    if isinstance(key, RSAPublicKey):
        return Material("rsa", base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode())
    return None


def not_only_ed25519(view: MailView) -> Iterator[Finding]:
    """Many verifiers know RSA only."""
    kinds: dict[str, list[tuple[Record, str]]] = {}
    for record in keys(view):
        domain = record.name.partition("._domainkey.")[2]
        kinds.setdefault(domain, []).append((record, (tags(record.content) or {}).get("k", "rsa")))
    for domain, found in kinds.items():
        delegated = any(one.type == "CNAME" and one.name.endswith(f"._domainkey.{domain}") for one in view.records)
        if not delegated and all(kind == "ed25519" for _, kind in found):
            yield warning("dkim-key", found[0][0].id, f"{domain} has ed25519 keys only, which many verifiers do not know; add an rsa one")


def delegation(view: MailView) -> Iterator[Finding]:
    """A proxied name answers with addresses, and the key behind it is never found."""
    for record in view.records:
        if record.type == "CNAME" and "._domainkey." in record.name and record.proxied:
            yield error("dkim-delegation", record.id, "is proxied, so nobody finds the key behind it; set proxied: false")


def selector(view: MailView) -> Iterator[Finding]:
    """What Rspamd signs with (``dkim_signing.conf``) can be looked up."""
    for config in view.cluster.configs:
        for name, text in config.texts.items():
            if "dkim_signing" not in name:
                continue
            for block in _DOMAIN.finditer(text):
                if found := _SELECTOR.search(block["body"]):
                    domain, place = block["domain"].lower(), f"{found['selector']}._domainkey.{block['domain']}".lower()
                    known = view.lookup(place, "TXT") or view.lookup(place, "CNAME")
                    if not known and any(one.name.endswith(f"._domainkey.{domain}") for one in keys(view)):
                        yield error(
                            "dkim-selector", config.id, f"signs with {place}, which is not among the keys of {domain} in this stack"
                        )
                    elif not known:
                        yield info("dkim-selector", config.id, f"signs with {place}; whether that is published is unknown here")


RULES: tuple[Callable[[MailView], Iterator[Finding]], ...] = (one_key, syntax, key, not_only_ed25519, delegation, selector)

"""Keyed digests of texts that stand in git, for places that more people may read than git. Pure."""

import hmac
from dataclasses import dataclass

from reconciler.resource import Fingerprint, SecretRef


@dataclass(frozen=True, slots=True)
class Seal:
    """Makes digests at which nobody can guess who does not have the key, be the text as short as a password."""

    key: bytes

    @classmethod
    def of(cls, fingerprint: Fingerprint) -> "Seal":
        """Borrow the key of the fingerprints: one of a reference that reads nothing is the same in every pass."""
        return cls(fingerprint(SecretRef("reconciler/k8s", ())).encode())

    def __call__(self, text: str) -> str:
        """Give 20 hex digits."""
        return hmac.digest(self.key, text.encode(), "sha256").hex()[:20]

    def of_git(self, text: str) -> str:
        """Give what stands in the place of a value that is plain in git."""
        return f"git:{self(text)}"

"""What an answer of the server means. The only place where its refusals become our errors. Pure; knows no client.

No body is ever put into a message, only the server's own ``errors`` list, and not even that where the request carried a value.
"""

import re
from dataclasses import dataclass

from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import JSONObject, SecretValue

CAPABILITY = {"GET": "read", "LIST": "list", "POST": "create and update", "PUT": "create and update", "PATCH": "patch", "DELETE": "delete"}


class Raced(Conflict):
    """Somebody else wrote a version first (check-and-set). Nothing was written."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call came back with; ``body`` is empty when the answer is not a JSON object."""

    status: int
    body: JSONObject
    json: bool = True
    retry_after: float | None = None

    @property
    def errors(self) -> str:
        """The server's words, on one line."""
        listed = self.body.get("errors")
        words = "; ".join(str(item) for item in listed) if isinstance(listed, list) else ""
        return " ".join(words.split())

    def without(self, credential: str) -> str:
        """Give the server's words, or nothing when they quote a credential that was sent, in whatever spelling."""
        return self.errors if SecretValue(credential).out_of(self.errors) == self.errors else ""

    @property
    def sealed(self) -> bool:
        """True for what a sealed server says to everything."""
        return self.status == 503 and "sealed" in self.errors.lower()

    @property
    def refused(self) -> bool:
        """True for an error other than "nothing is there"."""
        return self.status >= 400 and self.status != 404


def data_of(where: str, what: str, reply: Reply) -> JSONObject:
    """Give the answer's ``data``. Raises Transient for an answer that no Vault gives, for example a proxy's page."""
    if not reply.json:
        raise Transient(f"{where}: {what}: the answer is not JSON; is something else answering at this address?")
    data = reply.body.get("data")
    return data if isinstance(data, dict) else {}


def judged(where: str, method: str, path: str, reply: Reply, words: str) -> DriverError:
    """Say what a refusal means. ``words`` are the server's, already emptied where they might quote a value."""
    path = f"{path.rstrip('/')}/" if method == "LIST" else path  # that is how the policies see it
    what, said = f"{where}: {method} {path}", f": {words}" if words else ""
    known = f"{reply.errors} {reply.body.get('message', '')}".lower()
    if (trouble := _of_the_whole_server(where, reply, known, said)) is not None:
        return trouble
    if "check-and-set" in known:
        return Raced(f"{what}: somebody else wrote first (check-and-set); the next pass looks again")
    if reply.status == 400 and "upgrading from non-versioned" in known:
        return Transient(f"{what}: the mount is being upgraded to versions; it is back in a moment")
    if reply.status == 403:
        return Permanent(
            f"{what}: permission denied (403); the token's policies need the capability {CAPABILITY[method]} on path "
            f'"{path}"{" with sudo" if path.startswith("sys/auth/") else ""}'
        )
    if reply.status in (408, 412, 429) or reply.status >= 500:
        return Transient(f"{what}: {reply.status}{said}", retry_after=reply.retry_after)
    return Permanent(f"{what}: {reply.status}{said}")


def _of_the_whole_server(where: str, reply: Reply, known: str, said: str) -> Transient | None:
    """Find what stops every call alike: sealed, no leader, not initialised."""
    ill = reply.status >= 429
    if ill and "sealed" in known:
        return Transient(f"{where}: sealed ({reply.status}{said}); unseal it, then everything goes on by itself")
    if reply.status in (472, 473) or (ill and re.search("standby|not active|no active", known)):
        return Transient(f"{where}: no active node answers ({reply.status}{said})")
    if "not initialized" in known or reply.status == 501:
        return Transient(f"{where}: not initialised ({reply.status}{said}); initialise and unseal it")
    return None

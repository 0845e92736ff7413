"""A mail host and a few resolvers on loopback ports, for tests and the embedded world.

One mailbox store is fed by SMTP and read by IMAP. The doors of the host and the addresses that lead to them are given by the seed.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from reconciler.resource import JSONObject
from reconciler.sandbox.server import Faults
from reconciler_probe.config import split_address
from reconciler_probe.emulator.certificate import make_certificate
from reconciler_probe.emulator.door import Door, Shape
from reconciler_probe.emulator.imap import ImapServer
from reconciler_probe.emulator.names import Record, Resolver, record
from reconciler_probe.emulator.smtp import SmtpServer
from reconciler_probe.emulator.store import Store
from reconciler_probe.emulator.web import WebServer

DOORS: Mapping[str, tuple[str, bool]] = {
    "smtp": ("smtp", False),
    "submission": ("submission", False),
    "submissions": ("submission", True),
    "imap": ("imap", False),
    "imaps": ("imap", True),
    "http": ("web", False),
    "https": ("web", True),
}
"""Door -> the service behind it and whether TLS comes first. Each exists once more, as ``<door>-proxy``, with a PROXY header before all."""


class ProbeEmulator:
    """The host and its resolvers.

    The seed may hold ``accounts``: address -> password. ``aliases``: address or ``@domain`` -> account. ``records``: objects with name,
    type, value and optionally ttl. ``resolvers``: addresses that are answered for (default 1.1.1.1, 8.8.8.8). ``views``: resolver ->
    records that it has in the place of the common ones of their name and type. ``addresses``: "host:port" as written in probes -> door.
    ``closed``: "host:port" where nothing listens. ``names``: further names that the certificate is for.
    ``days``: how long the certificate is valid (default 90). ``refusal``: seconds until a client without PROXY header is turned away
    (default 0.5; Postfix takes 5). ``page``: text of the login page.
    ``pages``: path -> text of further pages; ``pages`` of the emulator may be replaced by any look-up.
    """

    def __init__(self, seed: JSONObject | None = None) -> None:
        """Take the seed; nothing listens yet."""
        seed = seed or {}
        self.faults = Faults()
        self.store = Store(dict(seed.get("accounts", {})), dict(seed.get("aliases", {})))
        self.records: list[Record] = [record(one) for one in seed.get("records", [])]
        self.addresses: dict[str, str] = dict(seed.get("addresses", {}))
        self._closed = list(seed.get("closed", []))
        self._days, self._refusal, self._page = int(seed.get("days", 90)), float(seed.get("refusal", 0.5)), str(seed.get("page", "webmail"))
        self.pages: Callable[[str], str | None] = dict(seed.get("pages", {})).get
        self._hosts = sorted({split_address(one)[0] for one in self.addresses} | set(seed.get("names", [])) | {"localhost", "127.0.0.1"})
        self.ca_file = Path()
        self.views = {name: [record(one) for one in records] for name, records in seed.get("views", {}).items()}
        names = seed.get("resolvers", ["1.1.1.1", "8.8.8.8"])
        self.resolvers = {name: Resolver(partial(self._answers, name), self.faults) for name in names}
        self.doors: dict[str, Door] = {}
        self._servers: list[SmtpServer | ImapServer | WebServer] = []

    def _answers(self, resolver: str) -> Iterable[Record]:
        own = self.views.get(resolver, [])
        hidden = {(one.name, one.type) for one in own}
        return [*own, *(one for one in self.records if (one.name, one.type) not in hidden)]

    def follow(self, records: Callable[[], Iterable[JSONObject]]) -> None:
        """Answer from elsewhere from now on, for instance from the records of an emulated DNS provider."""
        for resolver in self.resolvers.values():
            resolver.records = lambda: [record(one) for one in records()]

    def start(self) -> None:
        """Listen on free loopback ports."""
        self.ca_file = Path(tempfile.mkdtemp(prefix="probe-emulator-")) / "ca.pem"
        context = make_certificate(self.ca_file, self._hosts, self._days)
        smtp = SmtpServer(self.store, context, self.faults, authenticate=False)
        submission = SmtpServer(self.store, context, self.faults, authenticate=True)
        imap, web = ImapServer(self.store, context), WebServer(self._page, lambda path: self.pages(path))
        self._servers = [smtp, submission, imap, web]
        for server in self._servers:
            server.start()
        ports = {"smtp": smtp.port, "submission": submission.port, "imap": imap.port, "web": web.port}
        for name, (service, tls) in DOORS.items():
            for proxy in (False, True):
                shape = Shape(name, service, ports[service], context if tls else None, proxy=proxy, refusal=self._refusal)
                self.doors[name + "-proxy" * proxy] = Door(shape, self.faults)
        for part in self._listeners():
            part.start()

    def stop(self) -> None:
        """Close every socket and remove the certificate."""
        for part in [*self._listeners(), *self._servers]:
            part.stop()
        shutil.rmtree(self.ca_file.parent)

    def _listeners(self) -> list[Door | Resolver]:
        return [*self.doors.values(), *self.resolvers.values()]

    def settings(self) -> JSONObject:
        """Give the target configuration that leads every check here."""
        connect = {address: f"127.0.0.1:{self.doors[door].port}" for address, door in self.addresses.items()}
        return {
            # port 1 of loopback is never listened on, so it refuses at once
            "connect_to": connect | dict.fromkeys(self._closed, "127.0.0.1:1"),
            "resolve_at": {name: f"127.0.0.1:{resolver.port}" for name, resolver in self.resolvers.items()},
            "ca_file": str(self.ca_file),
        }

    def summary(self) -> list[str]:
        """Say what is inside."""
        mails = sum(len(box) for box in self.store.boxes.values())
        return [
            f"{len(self.store.accounts)} mail accounts, {mails} messages; imaps on port {self.doors['imaps'].port}",
            f"smtp on port {self.doors['smtp'].port}, with PROXY header on port {self.doors['smtp-proxy'].port}",
            *(f"resolver {name}: dig @127.0.0.1 -p {one.port}" for name, one in self.resolvers.items()),
        ]

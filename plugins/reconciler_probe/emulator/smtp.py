"""The SMTP side of the mail host, on aiosmtpd: port 25 takes mail for its accounts, submission takes mail from them."""

import asyncio
import logging
import ssl
import threading
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from reconciler.sandbox.server import Faults
from reconciler_probe.emulator.store import Store

NAME = "emulated.mail.invalid"


class Handler:
    """What is said to envelopes."""

    def __init__(self, store: Store, faults: Faults, *, authenticate: bool) -> None:
        """Deliver into ``store``."""
        self.store, self.faults, self.authenticate = store, faults, authenticate

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        """Take a sender."""
        if self.authenticate and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        return "250 2.1.0 Ok"

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        """Take a recipient that has a mailbox."""
        if not self.store.account(address):
            return "550 5.1.1 Recipient address rejected: User unknown"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Deliver."""
        content = envelope.content
        assert isinstance(content, bytes)
        self.faults.requests.append(("DATA", "smtp"))
        for recipient in envelope.rcpt_tos:
            self.store.deliver(recipient, content)
        return "250 2.0.0 Ok: queued"

    def authenticated(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """Check a login."""
        if not isinstance(data, LoginPassword):
            return AuthResult(success=False, handled=False)
        known = self.store.accounts.get(data.login.decode("utf-8", "replace").lower())
        return AuthResult(success=known is not None and known.encode() == data.password, handled=False)


class SmtpServer:
    """One port without PROXY and without implicit TLS; doors lead to it."""

    def __init__(self, store: Store, context: ssl.SSLContext, faults: Faults, *, authenticate: bool) -> None:
        """Take what to serve; ``start`` binds."""
        self._handler = Handler(store, faults, authenticate=authenticate)
        self._context, self._loop, self.port = context, asyncio.new_event_loop(), 0
        self._thread = threading.Thread(target=self._run, daemon=True, name="emulator-smtp")
        self._ready = threading.Event()

    def _protocol(self) -> SMTP:
        # a door has ended TLS where it comes first, so logins are allowed on what looks like plain text here
        return SMTP(
            self._handler,
            hostname=NAME,
            ident="ESMTP",
            tls_context=self._context,
            authenticator=self._handler.authenticated,
            auth_require_tls=False,
            loop=self._loop,
        )

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(self._loop.create_server(self._protocol, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._finish())
        self._loop.close()

    async def _finish(self) -> None:
        """End what clients have left open."""
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def start(self) -> None:
        """Listen on a free loopback port."""
        # aiosmtpd warns of its own use of what it deprecates, once for each login
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        self._thread.start()
        self._ready.wait(10)

    def stop(self) -> None:
        """Close every socket."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

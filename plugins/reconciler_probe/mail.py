"""Dialogues with mail servers: greeting, TLS, certificate, PROXY header. What a dialogue must show is said by the spec."""

import imaplib
import re
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from reconciler_probe.client import CheckFailed, Deadline, Network, certificate_end, judged, readable
from reconciler_probe.spec import Endpoint, Imap, Mail, Smtp, Tls


class SmtpSession(smtplib.SMTP):
    """smtplib on a socket that is already open, so that a PROXY header and TLS may come before the greeting."""

    def __init__(self, sock: socket.socket, where: str, ehlo: str) -> None:
        """Take the socket; nothing is read yet."""
        super().__init__(local_hostname=ehlo)
        self.sock, self.where, self.welcome = sock, where, ""

    def expect(self, reply: tuple[int, bytes], *codes: int) -> str:
        """Give the words of a reply. Raises CheckFailed when its code is none of ``codes``."""
        code, text = reply
        if code not in codes:
            raise CheckFailed(f"{self.where} answered {code} {readable(text)}", "refused" if code == 421 else "wrong")
        return readable(text)

    def encrypt(self, context: ssl.SSLContext, name: str) -> None:
        """Go on in TLS, forgetting all that was said in the open (RFC 3207, section 4.2)."""
        assert self.sock is not None
        if self.file is not None:
            self.file.close()
        self.sock, self.file = context.wrap_socket(self.sock, server_hostname=name), None
        self.helo_resp = self.ehlo_resp = None
        self.esmtp_features, self.does_esmtp = {}, False

    def begin(self, tls: Tls, context: ssl.SSLContext, name: str) -> None:
        """Hear the greeting, say EHLO, and encrypt when asked to."""
        if tls == "implicit":
            self.encrypt(context, name)
        self.welcome = self.expect(self.getreply(), 220)
        self.expect(self.ehlo(), 250)
        if tls == "starttls":
            self.expect(self.docmd("STARTTLS"), 220)
            self.encrypt(context, name)
            self.expect(self.ehlo(), 250)


class ImapSession(imaplib.IMAP4):
    """imaplib on a socket that is already open."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        """Hear the greeting. ``name`` is what STARTTLS expects the certificate to be for."""
        self._ready = sock
        super().__init__(name)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return self._ready


@contextmanager
def smtp_session(network: Network, spec: Smtp, deadline: Deadline, *, source: str, verify: bool) -> Iterator[SmtpSession]:
    """Open an SMTP session for a probe, greeted and encrypted as the spec says."""
    with network.connect(spec.host, spec.port, deadline, source=source) as raw:
        session = SmtpSession(raw, spec.where, spec.ehlo)
        try:
            session.begin(spec.tls, network.tls(verify=verify), spec.server_name or spec.host)
            yield session
        finally:
            session.close()


@contextmanager
def imap_session(network: Network, spec: Imap | Endpoint, deadline: Deadline, *, source: str, verify: bool) -> Iterator[ImapSession]:
    """Open an IMAP session, greeted and encrypted as the spec says."""
    name, context = spec.server_name or spec.host, network.tls(verify=verify)
    with network.connect(spec.host, spec.port, deadline, source=source) as raw:
        session = ImapSession(context.wrap_socket(raw, server_hostname=name) if spec.tls == "implicit" else raw, name)
        try:
            if spec.tls == "starttls":
                session.starttls(context)
            yield session
        finally:
            # after a logout the socket is closed already
            with suppress(OSError):
                session.shutdown()


def greeting(network: Network, spec: Mail, deadline: Deadline, *, source: str, verify: bool) -> tuple[str, datetime | None]:
    """Open a session, give what the server said and when its certificate ends, and take leave."""
    with judged(spec.where, deadline):
        if isinstance(spec, Smtp):
            with smtp_session(network, spec, deadline, source=source, verify=verify) as smtp:
                assert smtp.sock is not None
                end = certificate_end(smtp.sock) if spec.tls != "none" else None
                smtp.docmd("QUIT")
                return f"220 {smtp.welcome}", end
        assert isinstance(spec, Imap)
        with imap_session(network, spec, deadline, source=source, verify=verify) as imap:
            end = certificate_end(imap.sock) if spec.tls != "none" else None
            imap.logout()
            return readable(imap.welcome), end


def check_mail(network: Network, spec: Mail) -> str:
    """Check a mail server. Gives a sentence about what was found; raises CheckFailed."""
    deadline = network.deadline(spec.timeout)
    source = spec.proxy_source if spec.proxy == "v2" else ""
    welcome, end = greeting(network, spec, deadline, source=source, verify=bool(spec.server_name))
    found = [f"{spec.where} answered {welcome}"]
    if not re.search(spec.banner, welcome):
        raise CheckFailed(f"{found[0]}, which does not contain {spec.banner!r}")
    if end is not None:
        found.append(check_certificate(spec, end))
    if spec.expect_refused:
        found.append(check_refusal(network, spec))
    return "; ".join(found)


def check_certificate(spec: Mail, end: datetime) -> str:
    """Check how long a certificate is still valid."""
    days = (end - datetime.now(UTC)).days
    if days < spec.min_days_left:
        ends = f"ended on {end:%Y-%m-%d}" if days < 0 else f"ends on {end:%Y-%m-%d}, in {days} days; {spec.min_days_left} are wanted"
        raise CheckFailed(f"{spec.where}: the certificate {ends}")
    return f"certificate until {end:%Y-%m-%d}"


def check_refusal(network: Network, spec: Mail) -> str:
    """Check that the server turns away who comes without a PROXY header. The connection with it, made before, is the control."""
    try:
        welcome, _ = greeting(network, spec, network.deadline(spec.timeout), source="", verify=False)
    except CheckFailed as error:
        if error.reason in ("refused", "cut"):
            return "refused without the PROXY header"
        if error.reason == "silent":
            raise CheckFailed(f"{error} without the PROXY header, so a refusal is not proven", "unknowable") from None
        raise
    raise CheckFailed(f"{spec.where} serves clients that send no PROXY header: it answered {welcome}")

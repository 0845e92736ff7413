"""The round trip of a mail: in by SMTP, out by IMAP, deleted again. Passwords are revealed in the expression that sends them."""

import imaplib
import re
import secrets
import smtplib
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from reconciler.resource import Text
from reconciler_probe.client import CheckFailed, Deadline, Network, judged, opening
from reconciler_probe.mail import ImapSession, SmtpSession, imap_session
from reconciler_probe.spec import MailRoundtrip, Submission

HEADER = "X-Reconciler-Probe"
PAUSE = 0.5
"""Seconds between two looks into the mailbox."""

LONGEST = 600.0
"""Seconds that a run may take at most; a message that claims to be under way for longer has a wrong clock."""

_UNTIL = re.compile(r".*-(\d+)-[0-9a-f]+")

Plain = Callable[[Text], str]


def check_roundtrip(network: Network, spec: MailRoundtrip, mark: str, plain: Plain) -> str:
    """Send a message that carries ``mark`` and find it. Gives a sentence; raises CheckFailed.

    The mailbox is opened first, so that nothing is sent that could not be found and deleted.
    """
    deadline = network.deadline(spec.timeout)
    token = f"{mark}-{int((time.time() + deadline.seconds) * 1000)}-{secrets.token_hex(8)}"
    with judged(spec.imap.where, deadline), ExitStack() as stack:
        with opening(spec.imap.where, deadline):
            imap = stack.enter_context(imap_session(network, spec.imap, deadline, source="", verify=True))
        enter(imap, spec, plain)
        sweep(imap, mark, token, spec.imap.where)
        try:
            seconds = sent_and_found(network, imap, spec, token, deadline, plain)
        except CheckFailed:
            # a server that hung up may have taken the message all the same; what comes later, the next run deletes
            with suppress(CheckFailed, OSError, imaplib.IMAP4.error):
                sweep(imap, mark, token, spec.imap.where)
            raise
        sweep(imap, mark, token, spec.imap.where)
        imap.logout()
    return f"a message from {spec.smtp.where} was in {spec.imap.mailbox} at {spec.imap.where} after {seconds:.1f} s"


def sent_and_found(network: Network, imap: ImapSession, spec: MailRoundtrip, token: str, deadline: Deadline, plain: Plain) -> float:
    """Give the seconds from before the message is handed in until it is there."""
    started = time.monotonic()
    with judged(spec.smtp.where, deadline):
        submit(network, spec.smtp, token, deadline, plain)
    await_arrival(imap, spec, token, deadline)
    return time.monotonic() - started


def enter(imap: ImapSession, spec: MailRoundtrip, plain: Plain) -> None:
    """Log in and open the mailbox. The server's own words are not repeated: they might repeat ours."""
    if spec.imap.username:
        try:
            imap.login(plain(spec.imap.username), plain(spec.imap.password))
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error:
            raise CheckFailed(f"{spec.imap.where} refused the login; check the user and the password") from None
    name = spec.imap.mailbox.replace("\\", "\\\\").replace('"', '\\"')
    status, _ = imap.select(f'"{name}"')
    if status != "OK":
        raise CheckFailed(f"{spec.imap.where} has no mailbox {spec.imap.mailbox}")


def submit(network: Network, smtp: Submission, token: str, deadline: Deadline, plain: Plain) -> None:
    """Hand in the marked message."""
    with ExitStack() as stack:
        with opening(smtp.where, deadline):
            raw = stack.enter_context(network.connect(smtp.host, smtp.port, deadline))
            session = SmtpSession(raw, smtp.where, "probe.invalid")
            stack.callback(session.close)
            session.begin(smtp.tls, network.tls(verify=True), smtp.server_name or smtp.host)
        if smtp.username:
            login(session, plain(smtp.username), plain(smtp.password))
        session.expect(session.mail(smtp.sender), 250)
        session.expect(session.rcpt(smtp.recipient), 250, 251)
        try:
            session.expect(session.data(message(smtp, token).as_bytes()), 250)
            session.docmd("QUIT")
        except smtplib.SMTPDataError as error:
            session.expect((error.smtp_code, error.smtp_error if isinstance(error.smtp_error, bytes) else b""), 250)


def login(session: SmtpSession, username: str, password: str) -> None:
    """Log in. Only the code of a refusal is repeated: its words might repeat ours."""
    try:
        session.login(username, password)
    except smtplib.SMTPResponseException as error:
        raise CheckFailed(f"{session.where} refused the login with {error.smtp_code}; check the user and the password") from None
    except smtplib.SMTPNotSupportedError:
        raise CheckFailed(f"{session.where} offers no login; check the port and its TLS") from None


def message(smtp: Submission, token: str) -> EmailMessage:
    """Write the marked message."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = smtp.sender, smtp.recipient, "mail round trip"
    mail["Date"], mail["Message-ID"] = format_datetime(datetime.now(UTC)), make_msgid(domain="probe.invalid")
    # RFC 3834: nobody's absence notice should answer this
    mail["Auto-Submitted"], mail[HEADER] = "auto-generated", token
    mail.set_content("This message checks that mail arrives. It is deleted as soon as it has been found.\n")
    return mail


def await_arrival(imap: ImapSession, spec: MailRoundtrip, token: str, deadline: Deadline) -> None:
    """Look into the mailbox until the message is there. This waiting is the check itself, not a retry."""
    while not marked(imap, token):
        if deadline.expired:
            raise CheckFailed(f"{spec.smtp.where} took a message that is not in {spec.imap.mailbox} after {deadline.seconds:g} s", "silent")
        time.sleep(PAUSE)
        imap.noop()


def marked(imap: ImapSession, mark: str) -> list[bytes]:
    """Find messages by our header, as UIDs."""
    status, found = imap.uid("SEARCH", "HEADER", HEADER, f'"{mark}"')
    return found[0].split() if status == "OK" and found and found[0] else []


def sweep(imap: ImapSession, mark: str, token: str, where: str) -> None:
    """Delete our message and those that earlier runs of this probe left. Raises CheckFailed where the account may not.

    What another run, such as a plan beside the daemon, still waits for stays. Only where single messages can be expunged (RFC 4315): a
    plain EXPUNGE would also take what a person marked for deletion.
    """
    ours = set(marked(imap, token))
    uids = b",".join(uid for uid in marked(imap, mark) if uid in ours or is_over(token_of(imap, uid), time.time())).decode()
    if not uids:
        return
    statuses = [imap.uid("STORE", uids, "+FLAGS.SILENT", r"(\Deleted)")[0]]
    if expunges_single_messages(imap):
        statuses.append(imap.uid("EXPUNGE", uids)[0])
    if set(statuses) != {"OK"}:
        raise CheckFailed(f"{where} does not let this account delete the messages of this probe; give it the right to")


def token_of(imap: ImapSession, uid: bytes) -> str:
    """Read what a message is marked with, without marking it as read; nothing when it is gone by now."""
    _, found = imap.uid("FETCH", uid.decode(), f"(BODY.PEEK[HEADER.FIELDS ({HEADER})])")
    heads = [one[1] for one in found or () if isinstance(one, tuple)]
    return str(message_from_bytes(heads[0]).get(HEADER, "")) if heads else ""


def is_over(token: str, now: float) -> bool:
    """Say whether the run that sent a message has ended: its token says until when (in milliseconds) it waits at most."""
    until = _UNTIL.fullmatch(token)
    return bool(token) and (until is None or not 0 < int(until[1]) / 1000 - now <= LONGEST)


def expunges_single_messages(imap: ImapSession) -> bool:
    """Ask anew: imaplib remembers what was said before the login, and Dovecot says less then (RFC 3501, 6.2.3)."""
    _, found = imap.capability()
    return b"UIDPLUS" in b" ".join(one for one in found if isinstance(one, bytes)).upper().split()

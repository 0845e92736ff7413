"""The IMAP side of the mail host: as much of RFC 3501 and RFC 4315 as a client needs to find and delete messages."""

import re
import socket
import ssl
from collections.abc import Iterator

from reconciler_probe.emulator.sockets import Listener
from reconciler_probe.emulator.store import Mail, Store

STRANGERS = "IMAP4rev1 STARTTLS"
CAPABILITIES = "IMAP4rev1 UIDPLUS"
"""What is told before a login and after it, as Dovecot does."""
TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|\(([^)]*)\)|(\S+)')


def words(text: str) -> list[str]:
    """Split a command into its words; quoted texts are unquoted, lists lose their brackets."""
    return [re.sub(r"\\(.)", r"\1", quoted) if quoted else listed or plain for quoted, listed, plain in TOKEN.findall(text)]


def chosen(text: str, largest: int) -> set[int]:
    """Read a set of numbers such as ``1,3:5,7:*``."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition(":")
        ends = [largest if end == "*" else int(end) for end in (first, last or first)]
        found.update(range(min(ends), max(ends) + 1))
    return found


class ImapServer(Listener):
    """One port without PROXY and without implicit TLS; doors lead to it."""

    def __init__(self, store: Store, context: ssl.SSLContext) -> None:
        """Take the mailboxes; nothing is bound yet."""
        self._store, self._context = store, context
        super().__init__(lambda connection: Conversation(self._store, self._context, connection).run())


class Conversation:
    """One connection, command by command."""

    def __init__(self, store: Store, context: ssl.SSLContext, connection: socket.socket) -> None:
        """Begin not logged in."""
        self.store, self.context, self.connection = store, context, connection
        self.account, self.selected, self.tag, self.by_uid = "", False, "*", False

    def run(self) -> None:
        """Talk until the client leaves."""
        self.say(f"* OK [CAPABILITY {STRANGERS}] Emulated ready.")
        reader = self.connection.makefile("rb")
        while line := reader.readline(65536).decode("utf-8", "replace").strip():
            self.tag, name, *arguments = words(line)
            self.by_uid = name.upper() == "UID"
            if self.by_uid:
                name, *arguments = arguments
            if name.upper() == "STARTTLS":
                self.say(f"{self.tag} OK Begin TLS negotiation now.")
                reader.close()
                self.connection = self.context.wrap_socket(self.connection, server_side=True)
                reader = self.connection.makefile("rb")
                continue
            self.say(f"{self.tag} {self.answer(name.upper(), arguments)}")
            if name.upper() == "LOGOUT":
                break
        reader.close()
        self.connection.close()

    def say(self, line: str) -> None:
        """Send one line."""
        self.connection.sendall(line.encode() + b"\r\n")

    def answer(self, name: str, arguments: list[str]) -> str:
        """Carry out one command and give its closing words."""
        method = getattr(self, f"do_{name.lower()}", None)
        if method is None:
            return "BAD Unknown command."
        if name in ("SEARCH", "FETCH", "STORE", "EXPUNGE") and not self.selected:
            return "BAD No mailbox selected."
        with self.store.lock:
            try:
                return str(method(*arguments))
            except (TypeError, ValueError, IndexError):
                return "BAD Error in IMAP command."

    def do_capability(self) -> str:
        """Say what is known here."""
        self.say(f"* CAPABILITY {CAPABILITIES if self.account else STRANGERS}")
        return "OK Capability completed."

    def do_noop(self) -> str:
        """Tell how many messages there are."""
        if self.selected:
            self.say(f"* {len(self.store.boxes[self.account])} EXISTS")
        return "OK NOOP completed."

    def do_logout(self) -> str:
        """Take leave."""
        self.say("* BYE Logging out")
        return "OK Logout completed."

    def do_login(self, user: str, password: str) -> str:
        """Check a login."""
        if self.store.accounts.get(user.lower()) != password:
            return "NO [AUTHENTICATIONFAILED] Authentication failed."
        self.account = user.lower()
        return f"OK [CAPABILITY {CAPABILITIES}] Logged in"

    def do_select(self, mailbox: str) -> str:
        """Open the one mailbox."""
        if not self.account:
            return "BAD Log in first."
        if mailbox.upper() != "INBOX":
            return "NO [NONEXISTENT] Mailbox doesn't exist."
        self.selected = True
        self.say(f"* {len(self.store.boxes[self.account])} EXISTS")
        return "OK [READ-WRITE] Select completed."

    def do_search(self, *criteria: str) -> str:
        """Find messages: ALL, or HEADER with a name and a part of its text."""
        found = [str(self.number(mail)) for mail in self.store.boxes[self.account] if matches(mail, list(criteria))]
        self.say(" ".join(["* SEARCH", *found]))
        return "OK Search completed."

    def do_fetch(self, numbers: str, *items: str) -> str:
        """Give messages whole."""
        for mail in list(self.among(numbers)):
            head = f"* {self.position(mail)} FETCH (UID {mail.uid} FLAGS ({' '.join(sorted(mail.flags))}) BODY[] {{{len(mail.raw)}}}"
            self.connection.sendall(head.encode() + b"\r\n" + mail.raw + b")\r\n")
        return "OK Fetch completed."

    def do_store(self, numbers: str, how: str, flags: str) -> str:
        """Add or remove flags."""
        if self.store.keeping:
            return "NO [NOPERM] Permission denied"
        for mail in list(self.among(numbers)):
            mail.flags = mail.flags - set(flags.split()) if how.startswith("-") else mail.flags | set(flags.split())
            if "SILENT" not in how.upper():
                self.say(f"* {self.position(mail)} FETCH (FLAGS ({' '.join(sorted(mail.flags))}))")
        return "OK Store completed."

    def do_expunge(self, uids: str = "1:*") -> str:
        """Remove deleted messages, all or those named."""
        largest = max((mail.uid for mail in self.store.boxes[self.account]), default=0)
        for position in self.store.expunge(self.account, chosen(uids, largest)):
            self.say(f"* {position} EXPUNGE")
        return "OK Expunge completed."

    def position(self, mail: Mail) -> int:
        """Give the number of a message in its mailbox, from 1."""
        return self.store.boxes[self.account].index(mail) + 1

    def number(self, mail: Mail) -> int:
        """Give the number that this command speaks in."""
        return mail.uid if self.by_uid else self.position(mail)

    def among(self, numbers: str) -> Iterator[Mail]:
        """Yield the messages that are named."""
        box = self.store.boxes[self.account]
        wanted = chosen(numbers, max((self.number(mail) for mail in box), default=0))
        return (mail for mail in box if self.number(mail) in wanted)


def matches(mail: Mail, criteria: list[str]) -> bool:
    """Say whether a message fits. Raises ValueError for a criterion that is not known."""
    if criteria == ["ALL"]:
        return True
    if len(criteria) != 3 or criteria[0].upper() != "HEADER":
        raise ValueError(criteria)
    return criteria[2].lower() in mail.header(criteria[1]).lower() and bool(mail.header(criteria[1]))

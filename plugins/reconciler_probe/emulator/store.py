"""Mailboxes in memory, shared by the servers that fill and read them."""

import threading
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default


@dataclass(slots=True)
class Mail:
    """One message in a mailbox."""

    uid: int
    raw: bytes
    flags: set[str] = field(default_factory=set)

    def header(self, name: str) -> str:
        """Give a header's text, all values of it."""
        return " ".join(str(value) for value in message_from_bytes(self.raw, policy=default).get_all(name, []))


class Store:
    """Accounts and their one mailbox each. ``losing`` loses mail, as a broken path would; ``keeping`` lets nobody delete any."""

    def __init__(self, accounts: dict[str, str], aliases: dict[str, str]) -> None:
        """Begin with empty mailboxes. ``aliases`` maps addresses, or ``@domain`` for the rest of a domain, to accounts."""
        self.accounts, self.aliases, self.lock, self.losing = accounts, aliases, threading.RLock(), False
        self.keeping = False
        self.boxes: dict[str, list[Mail]] = {account: [] for account in accounts}
        self.delivered = 0

    def account(self, recipient: str) -> str:
        """Give the account that a recipient's mail goes to; nothing when there is none."""
        address = recipient.lower()
        found = address if address in self.boxes else self.aliases.get(address, self.aliases.get(address[address.find("@") :], ""))
        return found if found in self.boxes else ""

    def deliver(self, recipient: str, raw: bytes) -> None:
        """Put a message into the mailbox of a recipient that has one."""
        with self.lock:
            self.delivered += 1
            if not self.losing:
                self.boxes[self.account(recipient)].append(Mail(self.delivered, raw))

    def expunge(self, account: str, uids: set[int]) -> list[int]:
        """Remove deleted messages that are among ``uids``; give their positions as IMAP counts them."""
        with self.lock:
            box, gone = self.boxes[account], []
            for mail in [one for one in box if r"\Deleted" in one.flags and one.uid in uids]:
                gone.append(box.index(mail) + 1)
                box.remove(mail)
            return gone

"""Send a letter from outside, find it in the mailbox, delete it, and tell the monitoring how long it took.

Needs nothing but Python. Settings come from the environment; no secret is ever printed.
"""

# ruff: noqa: S310 - the addresses are settings of the owner
import base64
import imaplib
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

LIMIT = 240
"""Seconds that the letter may take; the job is ended after 300."""


class NamedImap(imaplib.IMAP4_SSL):
    """IMAP over TLS to an address inside the cluster, with the certificate verified for the public name."""

    def _create_socket(self, timeout):
        plain = imaplib.IMAP4._create_socket(self, timeout)
        return self.ssl_context.wrap_socket(plain, server_hostname=os.environ["IMAP_NAME"])


def send(marker):
    """Hand the letter to the outside sender. Raises SystemExit with the HTTP status when it is refused."""
    if os.environ["SENDER"] != "mailgun":
        raise SystemExit(f"there is no sender {os.environ['SENDER']!r}; this script knows mailgun")
    api, domain = os.environ["SENDER_API"], os.environ["RECIPIENT"].rpartition("@")[2]
    fields = {"from": f"probe@{domain}", "to": os.environ["RECIPIENT"], "subject": f"round trip {marker}", "text": marker}
    request = urllib.request.Request(api, urllib.parse.urlencode(fields).encode())
    key = base64.b64encode(f"api:{os.environ['SENDER_API_KEY']}".encode()).decode()
    request.add_header("Authorization", f"Basic {key}")
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        hint = "; the daily limit is used up" if error.code == 429 else ""
        raise SystemExit(f"the sender answered {error.code}{hint}") from None


def await_letter(marker, deadline):
    """Look for the letter until it is there, then delete it. Says whether it came."""
    while time.monotonic() < deadline:
        with NamedImap(os.environ["IMAP_HOST"], 993, ssl_context=ssl.create_default_context(), timeout=30) as mailbox:
            mailbox.login(os.environ["IMAP_USER"], os.environ["IMAP_PASSWORD"])
            mailbox.select("INBOX")
            found = mailbox.uid("SEARCH", "SUBJECT", f'"{marker}"')[1]
            if found and found[0]:
                mailbox.uid("STORE", found[0].split()[0].decode(), "+FLAGS", r"(\Deleted)")
                mailbox.expunge()
                return True
        time.sleep(5)
    return False


def report(success, seconds):
    """Push the metrics, and a sign of life when the letter came. A monitoring that is away is said, not hidden."""
    lines = [f"email_roundtrip_success {int(success)}", f"email_roundtrip_duration_seconds {seconds:.1f}"]
    if success:
        lines.append(f"email_roundtrip_last_success_timestamp {time.time():.0f}")
    gateway = f"{os.environ['PUSHGATEWAY']}/metrics/job/email-roundtrip-monitor"
    call(urllib.request.Request(gateway, "".join(f"{line}\n" for line in lines).encode(), method="POST"), "the Pushgateway")
    if success:
        ping = f"{os.environ['UPTIME_KUMA']}/api/push/{os.environ['PUSH_TOKEN']}?status=up&msg=OK&ping={seconds * 1000:.0f}"
        call(urllib.request.Request(ping), "Uptime Kuma")


def call(request, whom):
    """Make one call; its address, which may hold a token, is never printed."""
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except OSError as error:
        print(f"{whom} does not answer: {type(error).__name__}")


def main():
    """Run once. Gives the exit status."""
    marker, started = str(uuid.uuid4()), time.monotonic()
    try:
        send(marker)
        success, reason = await_letter(marker, started + LIMIT), f"the letter did not arrive within {LIMIT} s"
    except (OSError, imaplib.IMAP4.error, SystemExit) as error:
        success, reason = False, str(error)
    seconds = time.monotonic() - started
    report(success, seconds)
    print(f"Round-trip SUCCESS in {seconds:.1f}s" if success else f"Round-trip FAILURE: {reason}")
    return 0 if success else 1


if __name__ == "__main__":
    sys.exit(main())

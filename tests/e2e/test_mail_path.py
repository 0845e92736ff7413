"""A letter's way through real HAProxy, Postfix and Dovecot, set up from nothing but what desired/mail put into the emulated systems."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.report import Verdict
from reconciler_probe.client import Network
from reconciler_probe.config import ProbeConfig
from reconciler_probe.roundtrip import HEADER, check_roundtrip
from reconciler_probe.spec import MailRoundtrip
from tests.e2e.mailpath.clients import LOCAL, Flow, check, forged, letter, mailbox, say, send, subjects, submit
from tests.e2e.mailpath.firewall import check_ports
from tests.e2e.mailpath.hops import POD, WAN, outside
from tests.e2e.mailpath.site import Site

PROGRAMS = ("haproxy", "postfix", "postconf", "dovecot", "ip", "setpriv")
SBIN = "/usr/sbin:/usr/bin:/sbin:/bin"


def why_not() -> str:
    """Say what this machine lacks for a mail server of its own; empty when nothing."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=SBIN) is None]
    missing += [
        path for path in ("/usr/lib/postfix/sbin/postscreen", "/usr/lib/dovecot/imap", "/usr/lib/dovecot/lmtp") if not Path(path).exists()
    ]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: haproxy postfix dovecot-imapd dovecot-lmtpd iproute2)"
    return "" if os.geteuid() == 0 else "Postfix and Dovecot change accounts, which takes root"


pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    # short, because the path of a Unix socket has 107 bytes, and open to the accounts of the daemons, which pytest's own folders are not
    with tempfile.TemporaryDirectory(prefix="mail-path-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        site = Site(Path(folder))
        try:
            site.start()
            yield site
        finally:
            site.stop()


def test_a_letter_from_outside_is_delivered_and_read_through_the_proxy_with_its_sender_s_true_address(site: Site) -> None:
    assert set(site.forwards().values()) >= {(site.gateway, door) for door in (25, 465, 587, 993)}
    send(letter(f"smoke-test@{site.domain}", "from outside"), outside(7))
    assert site.host.wait_for_line(rf"haproxy/postscreen.*CONNECT from \[{outside(7)}\]")
    assert site.host.wait_for_line(rf"smtpd-proxy25/smtpd.*: client=\S*\[{outside(7)}\]")
    with mailbox(outside(8), site.tls, site.name, site.login("spam")) as opened:
        assert "from outside" in subjects(opened, "from outside")
    assert site.host.wait_for_line(rf"Login: user=<spam@\S+ .*rip={outside(8)},", imap=True)


def test_people_submit_over_both_ports_through_the_proxy(site: Site) -> None:
    login = site.login("me")
    submit(letter(f"colleague@{site.domain}", "by 587", login[0]), outside(11), 587, site.tls, site.name, login)
    assert site.host.wait_for_line(rf"submission-proxy/smtpd.*client=\S*\[{outside(11)}\], sasl_method=PLAIN")
    submit(letter(f"colleague@{site.domain}", "by 465", login[0]), outside(12), 465, site.tls, site.name, login)
    assert site.host.wait_for_line(rf"submissions-proxy/smtpd.*client=\S*\[{outside(12)}\], sasl_method=PLAIN")


def test_a_round_trip_ends_in_a_mailbox_that_is_as_it_was_before(site: Site) -> None:
    send(letter(f"smoke-test@{site.domain}", "a person's own"), outside(13))
    send(letter(f"smoke-test@{site.domain}", "thrown away by a person"), outside(13))
    reader, sender = site.login("spam"), site.login("me")
    with mailbox(outside(14), site.tls, site.name, reader) as opened:
        before = subjects(opened, "a person's own", "thrown away by a person")
        _, (number, *_) = opened.search(None, "SUBJECT", '"thrown away"')
        opened.store(number.decode(), "+FLAGS", r"(\Deleted)")
    network = Network(
        ProbeConfig(connect_to={f"{site.name}:{port}": f"{WAN}:{port}" for port in (465, 993)}, ca_file=str(site.root / "dms/tls/tls.crt"))
    )
    smtp = {"username": sender[0], "password": sender[1], "sender": sender[0], "recipient": f"smoke-test@{site.domain}"}
    imap = {"username": reader[0], "password": reader[1]}
    trip = MailRoundtrip.model_validate({"smtp": {"host": site.name, **smtp}, "imap": {"host": site.name, **imap}, "timeout": 30})
    mark = "probe-0123456789abcdef"
    for _ in range(2):
        assert " was in INBOX " in check_roundtrip(network, trip, mark, str)
    with mailbox(outside(14), site.tls, site.name, reader) as opened:
        for seconds in (-100, 100):
            opened.append("INBOX", "", "", f"{HEADER}: {mark}-{int((time.time() + seconds) * 1000)}-0a\r\n\r\n".encode())
    assert " was in INBOX " in check_roundtrip(network, trip, mark, str)
    with mailbox(outside(14), site.tls, site.name, reader) as opened:
        _, (waiting,) = opened.search(None, "UNSEEN", "HEADER", HEADER, '""')
        assert len(waiting.split()) == 1, "what another run still waits for is left to it, unread"
        uid = opened.uid("SEARCH", "HEADER", HEADER, '""')[1][0].decode()
        opened.uid("STORE", uid, "+FLAGS", r"(\Deleted)")
        opened.uid("EXPUNGE", uid)
    with mailbox(outside(14), site.tls, site.name, reader) as opened:
        assert opened.search(None, "HEADER", HEADER, '""') == ("OK", [b""]), "nothing of the probe is left"
        assert opened.search(None, "DELETED") == ("OK", [number]), "what a person threw away is still to be taken back"
        assert subjects(opened, *before) == before


def test_a_proxy_port_refuses_who_brings_no_header_and_a_stock_port_wants_none(site: Site) -> None:
    doors = {name: (site.nodes[0], int(port)) for name, port in site.real["node_ports"].items()}
    with ThreadPoolExecutor() as pool:
        proxied = dict(zip(doors, pool.map(say, doors.values()), strict=True))
        stock = list(pool.map(lambda port: say((POD, port), b"", b"QUIT\r\n"), (25, 587)))
    assert proxied["smtp"].startswith(b"421 4.3.2")
    assert proxied["submission"].startswith(b"421 4.3.0")
    assert proxied["smtps"].startswith(b"421 4.3.0")
    assert proxied["imaps"] in (b"", b"(reset)")
    assert all(b"\r\n221 " in heard for heard in stock)


def test_haproxy_finds_every_server_up_and_its_checks_kill_no_daemon(site: Site) -> None:
    states = site.haproxy.wait_for_checks("mailserver_nodes_", 16)
    assert len(states) == 16
    assert set(states.values()) == {"UP L4OK"}
    for address in sorted(check_ports(site.here(site.firewall.haproxy_cfg()))):
        check(address)
    for node in site.nodes:
        for service in ("postscreen", "submission/smtpd", "submissions/smtpd"):
            site.host.wait_for_line(rf"postfix/{service}\[\d+\]: (CONNECT|connect) from \S*\[{re.escape(node)}\]")
    assert not site.log_lines("fatal|panic|throttling|Servname not supported")


def test_haproxy_is_as_patient_as_mail_may_be_slow(site: Site) -> None:
    sections = re.findall(r"^(?:frontend|backend) mailserver_.*?(?:\n\n|\Z)", site.firewall.haproxy_cfg(), re.MULTILINE | re.DOTALL)
    silences = [int(one) for section in sections for one in re.findall(r"timeout (?:client|server)\s+(\d+)", section)]
    assert len(silences) == 8
    assert min(silences) >= 600_000  # RFC 5321, 4.5.3.2.6
    assert site.host.postconf("-xh", "smtpd_timeout") == "300s\n"  # so it is Postfix that ends a silent session


def test_a_forged_header_relays_nothing_even_when_somebody_widens_mynetworks(site: Site) -> None:
    words = (b"HELO thief.example\r\n", b"MAIL FROM:<me@elsewhere.example>\r\n", b"RCPT TO:<victim@elsewhere.example>\r\n")
    door, header = (site.nodes[0], int(site.real["node_ports"]["smtp"])), forged("127.0.0.1")
    assert b"\r\n554 5.7.1 <victim@elsewhere.example>: Relay access denied" in say(door, header, *words)
    site.host.postconf("-e", "mynetworks = 127.0.0.0/8")
    site.host.reload()
    try:
        assert b"\r\n554 5.7.1 <victim@elsewhere.example>: Relay access denied" in say(door, header, *words)
        # the same words at the stock port do relay then: the widened network is in force
        assert say((POD, 25), b"", *words).endswith(b"250 2.1.5 Ok\r\n")
    finally:
        site.host.postconf("-e", "mynetworks =")
        site.host.reload()


def test_dovecot_believes_a_header_from_a_node_only(site: Site) -> None:
    header = forged("127.0.0.1")
    assert say((POD, 10993), header, client=outside(66), patience=3) in (b"", b"(reset)")
    assert site.host.wait_for_line(rf"haproxy: Client not trusted \(rip={outside(66)}\)", imap=True)


def test_nat_is_cut_over_with_mail_flowing_and_no_letter_is_lost(site: Site) -> None:
    site.point("10.0.20.202")
    flow = Flow(f"cut-over@{site.domain}")
    flow.start()
    try:
        flow.more(25)
        direct = len(flow.sent)
        report = site.converge("cut-over")
        assert report.verdict is Verdict.CONVERGED
        assert {change.id.kind for change in report.plan.changes} == {"PortForward"}
        flow.more(25)
    finally:
        flow.stop()
    assert not flow.given_up
    with mailbox(outside(9), site.tls, site.name, site.login("spam")) as opened:
        arrived = subjects(opened, *flow.sent)
    assert set(flow.sent) <= arrived
    true = "|".join(client.replace(".", r"\.") for client in flow.sent.values())
    before, after = (
        site.log_lines(rf"{service}\[\d+\]: \w+: client=\S*\[({true})\]") for service in ("postfix/smtpd", "smtpd-proxy25/smtpd")
    )
    assert len(before) >= direct
    assert len(after) >= 10
    assert len(before) + len(after) >= len(flow.sent)


def test_the_pod_moves_with_mail_flowing_and_no_letter_is_lost(site: Site) -> None:
    flow = Flow(f"rollout@{site.domain}", series=120)
    flow.start()
    try:
        flow.more(10)
        site.host.stop()
        site.host.patch()  # a container that restarts in place runs it once more
        site.host.start()
        flow.more(10)
    finally:
        flow.stop()
    assert flow.retries
    assert not flow.given_up
    with mailbox(outside(10), site.tls, site.name, site.login("spam")) as opened:
        assert set(flow.sent) <= subjects(opened, *flow.sent)


def test_the_log_would_have_shown_a_check_that_brings_a_header_without_a_client(site: Site) -> None:
    # Postfix dies of it only when the reset is there before it asks for the peer, so many come at once until one is early enough
    deadline = time.monotonic() + 20
    with ThreadPoolExecutor(16) as pool:
        while not site.log_lines("fatal.*Servname not supported") and time.monotonic() < deadline:
            list(pool.map(lambda _: check((POD, 5587), LOCAL), range(48)))
            time.sleep(0.2)
    assert site.log_lines("fatal.*Servname not supported")

"""The mail system in desired/mail: nothing contradicts anything, and each line that once did, or could, is found."""

from datetime import date
from pathlib import Path

from reconciler.checks import Severity
from reconciler.load import load_stack
from reconciler.registry import catalog
from reconciler.source import WorkingTree
from reconciler.stack import Stack

ROOT = Path(__file__).parents[3]
FOLDER = "desired/mail"


NODES = "pfsense/HAProxyBackend/mailserver_nodes"
SETTINGS = "k8s/ConfigMap/mailserver/mailserver.env.config"

FAULTS = (
    ("k8s/config.yaml", '"[${vars.relay.host}]:', '"[smtp.mailgun.org]:', "relay-authorised", SETTINGS),
    ("", "", "", "relay-credentials", "vault/Secret/platform"),
    ("k8s/config.yaml", "PERMIT_DOCKER: none", "PERMIT_DOCKER: network", "open-relay", SETTINGS),
    ("k8s/config.yaml", 'ENABLE_RSPAMD_REDIS: "1"', 'ENABLE_RSPAMD_REDIS: "0"', "rspamd-learn", SETTINGS),
    ("k8s/config.yaml", "for pair in 5587:submission 4465:submissions", "for pair in 5587:submission", "proxy-pair", f"{NODES}_smtps"),
    ("k8s/config.yaml", "        haproxy = yes\n", "", "proxy-pair", f"{NODES}_imaps"),
    ("k8s/services.yaml", "targetPort: smtp-proxy", "targetPort: smtp", "proxy-pair", f"{NODES}_smtp"),
    ("k8s/services.yaml", "10587, targetPort: submission,", "10587, targetPort: sub-proxy,", "proxy-health", f"{NODES}_sub"),
    ("firewall.yaml", "  client_timeout: 1800000\n", "", "imap-timeout", "pfsense/HAProxyFrontend/mailserver_imaps"),
    ("firewall.yaml", '"${vars.firewall}", port: 587}', '"${vars.firewall}", port: 588}', "forward-target",
     "pfsense/PortForward/mailserver-sub"),
    ("dns.yaml", "A\n  content: ${vars.wan}", "AAAA\n  content: 2001:db8::2", "mx-path", "cloudflare/DNSRecord/mail-a"),
    ("dns.yaml", "v=DMARC1; p=quarantine", "p=quarantine", "dmarc-syntax", "cloudflare/DNSRecord/dmarc"),
    ("dns.yaml", "name: mta-sts.${vars.domain}", "name: sts.${vars.domain}", "mta-sts-host", "cloudflare/DNSRecord/mta-sts"),
    ("dns.yaml", "content: ${vars.relay.verification}", "content: v=spf1 -all", "spf-one", "cloudflare/DNSRecord/spf"),
    ("stack.yaml", "period_minutes: 20", "period_minutes: 10", "sender-quota", "k8s/CronJob/mailserver/email-roundtrip-monitor"),
    ("monitors.yaml", "interval: ${vars.probe.period_minutes * 60 * 3 / 2}", "interval: 60", "push-interval",
     "uptime-kuma/Monitor/email-roundtrip"),
    ("vault.yaml", "[k8s/Secret/mailserver/mailserver-dkim]", "[k8s/Secret/mailserver/dkim]", "secret-consumer", "vault/Secret/platform"),
)  # fmt: skip
"""File, what stands there, what is written in its place, the rule that finds it, and where. Without a file: follows from the last."""


def mail(*faults: tuple[str, str, str, str, str]) -> Stack:
    """Load the mail system with faults. A text that does not stand there exactly once is a mistake of the test."""
    tree = dict(WorkingTree().read(ROOT, FOLDER).tree)
    for file, old, new, _, _ in faults:
        if file:
            text = tree[f"{FOLDER}/{file}"].decode()
            assert text.count(old) == 1, old
            tree[f"{FOLDER}/{file}"] = text.replace(old, new).encode()
    return load_stack(tree, FOLDER, catalog(), today=date(2026, 11, 22))


def loud(stack: Stack) -> set[tuple[str, str]]:
    return {(one.rule, str(one.resource)) for one in stack.findings if one.severity is not Severity.INFO}


def test_it_holds_no_error_and_one_weak_key_that_is_somebody_elses() -> None:
    stack = mail()
    assert loud(stack) == {("dkim-key", "cloudflare/DNSRecord/dkim-probe")}
    assert not [one for one in stack.findings if one.severity is Severity.ERROR]


def test_contradictions_are_found_each_at_its_place_and_nothing_else_is() -> None:
    expected = {(rule, place) for _, _, _, rule, place in FAULTS}
    assert loud(mail(*FAULTS)) - {("dkim-key", "cloudflare/DNSRecord/dkim-probe")} == expected


def test_a_number_that_is_one_fact_may_change() -> None:
    assert loud(mail(("stack.yaml", "smtp: 30145,", "smtp: 30149,", "", ""))) == loud(mail())

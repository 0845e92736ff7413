"""What is right although it looks like a fault: a rule that cries for nothing is waived, and then finds nothing when it should."""

import pytest

from tests.unit.checks.stacks import DNS, ED25519, POLICY_ID, RSA_2048, broken, found, load, record, said, whole

PROXY = "port: 30125, check_port: 30145, send_proxy: v2"
SPF = '"v=spf1 include:spf.brevo.com -all"'
DMARC = '"v=DMARC1; p=quarantine; rua=mailto:dmarc@example.com"'
NAMES = "cloudflare/DNSRecord"

OTHER_POLICY = """
apiVersion: v1
kind: ConfigMap
metadata: {name: another, namespace: mail}
data:
  mta-sts.txt: |
    version: STSv1
    mode: enforce
    mx: mail.example.org
    max_age: 604800
"""


def rules(*changes: tuple[str, str], more: str = "") -> set[str]:
    return {one.rule for one in found(broken(*changes, more=more))}


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        pytest.param(
            [(PROXY, "port: 30125, check_port: 30145"), ("targetPort: smtp-proxy", "targetPort: smtp")], "", id="no-header-at-all"
        ),
        pytest.param([], record("e", "TXT", f"v=DKIM1; k=ed25519; p={ED25519}", "e._domainkey.example.com"), id="both-sorts-of-keys"),
        pytest.param([], OTHER_POLICY, id="a-policy-of-another-domain-beside-ours"),
        pytest.param(
            [("consumers: [k8s/Secret/mail/relay]", "consumers: [k8s/Secret/mail/relay, probe/SMTP/elsewhere]")],
            "",
            id="a-consumer-of-a-system-that-is-not-here",
        ),
    ],
)
def test_nothing_is_said_of(changes: list[tuple[str, str]], more: str) -> None:
    assert found(broken(*changes, more=more)) == []


def test_a_domain_with_ed25519_keys_only_may_have_others_that_are_delegated() -> None:
    delegated = record("b", "CNAME", "b1.dkim.brevo.com", "b1._domainkey.example.com")
    assert "dkim-key" not in rules((f"k=rsa; p={RSA_2048}", f"k=ed25519; p={ED25519}"), more=delegated)


def test_a_policy_that_refuses_has_a_key_by_which_our_mail_passes_though_no_spf_record() -> None:
    assert "dmarc-source" not in rules((SPF, '"not about senders"'))


def test_a_missing_policy_is_said_once() -> None:
    assert [one.rule for one in found(broken((DMARC, '"v=DMARC1; rua=mailto:dmarc@example.com"')))] == ["dmarc-syntax"]


def test_an_spf_record_without_any_term_is_one_too() -> None:
    assert ("error", "spf-one", f"{NAMES}/spf") in said(found(broken(more=record("more", "TXT", "v=spf1"))))


def test_another_text_beside_the_record_does_not_hide_an_id_of_another_making() -> None:
    beside = record("more", "TXT", "hello", "_mta-sts.example.com")
    assert ("info", "mta-sts-id", f"{NAMES}/mta-sts") in said(found(broken((f"id={POLICY_ID}", "id=20260412"), more=beside)))


def test_exchanges_alone_make_a_stack_one_about_mail() -> None:
    both = record("none", "MX", ".", priority=0) + record("some", "MX", "mail.example.net", priority=1)
    assert ("error", "null-mx", f"{NAMES}/none") in said(found(load({"dns": both})))


def test_a_service_without_a_selector_leads_to_nothing_that_is_known() -> None:
    assert ("info", "proxy-pair", "pfsense/HAProxyBackend/nodes_smtp") in said(
        found(broken(("  selector: {app: server}\n  ports", "  ports")))
    )


def test_the_system_that_is_varied_here_is_right() -> None:
    assert found(whole()) == []
    assert "v=spf1 include:spf.brevo.com" in DNS

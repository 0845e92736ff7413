"""Names and senders: what the rules of DNS, SPF, DKIM, DMARC, MTA-STS and TLS reports find, each beside a system without the fault."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.checks.dmarc import organisation
from reconciler.checks.dns import covers
from reconciler.checks.mta_sts import matches, parse
from reconciler.checks.spf import Term, terms
from reconciler.checks.tags import addresses, tags
from tests.unit.checks.stacks import ED25519, POLICY_ID, RSA_1024, RSA_2048, answering, broken, found, record, said, whole

DNS = "cloudflare/DNSRecord"
SPF = '"v=spf1 include:spf.brevo.com -all"'
DMARC = '"v=DMARC1; p=quarantine; rua=mailto:dmarc@example.com"'
POLICY = "    mode: testing\n"


def test_nothing_is_wrong_with_the_whole_system() -> None:
    assert found(whole()) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # MX
        (("content: 203.0.113.5}", "content: 203.0.113.5, proxied: true}"), ("error", "mx-target", f"{DNS}/mail-a")),
        (("type: A, content: 203.0.113.5", "type: CNAME, content: host.example.net"), ("error", "mx-target", f"{DNS}/mail-a")),
        (("content: 203.0.113.5", "content: 10.0.20.1"), ("error", "mx-target", f"{DNS}/mail-a")),
        (("name: mail.example.com, type: A", "name: post.example.com, type: A"), ("info", "mx-target", f"{DNS}/mx")),
        (("type: A, content: 203.0.113.5", 'type: AAAA, content: "2001:db8::5"'), ("error", "mx-path", f"{DNS}/mail-a")),
        # SPF
        ((SPF, '"v=spf1 include:spf.brevo.com +all"'), ("error", "spf-end", f"{DNS}/spf")),
        ((SPF, '"v=spf1 include:spf.brevo.com all"'), ("error", "spf-end", f"{DNS}/spf")),
        ((SPF, '"v=spf1 include:spf.brevo.com ?all"'), ("warning", "spf-end", f"{DNS}/spf")),
        ((SPF, '"v=spf1 include:spf.brevo.com"'), ("warning", "spf-end", f"{DNS}/spf")),
        ((SPF, '"v=spf1 -all include:spf.brevo.com"'), ("warning", "spf-end", f"{DNS}/spf")),
        ((SPF, '"v=spf1 ptr include:spf.brevo.com -all"'), ("warning", "spf-ptr", f"{DNS}/spf")),
        ((SPF, '"v=spf1 include=spf.brevo.com include:spf.brevo.com inlude:x.example -all"'), ("error", "spf-syntax", f"{DNS}/spf")),
        ((SPF, '"v=spf1 include:spf.brevo.com include:example.com -all"'), ("error", "spf-include", f"{DNS}/spf")),
        ((SPF, '"v=spf1 include:spf.brevo.com' + "".join(f" exists:{n}.example.net" for n in range(10)) + ' -all"'),
         ("error", "spf-lookups", f"{DNS}/spf")),
        ((SPF, '"v=spf1 include:spf.brevo.com include:elsewhere.example.net -all"'), ("info", "spf-lookups", f"{DNS}/spf")),
        # DKIM
        ((RSA_2048, RSA_1024), ("warning", "dkim-key", f"{DNS}/dkim")),
        ((RSA_2048, RSA_2048[:300]), ("error", "dkim-key", f"{DNS}/dkim")),
        ((RSA_2048, RSA_2048[:301] + "!"), ("error", "dkim-key", f"{DNS}/dkim")),
        ((RSA_2048, ""), ("info", "dkim-key", f"{DNS}/dkim")),
        ((f"k=rsa; p={RSA_2048}", f"k=ed25519; p={ED25519}"), ("warning", "dkim-key", f"{DNS}/dkim")),
        ((f"k=rsa; p={RSA_2048}", "k=rsa"), ("error", "dkim-syntax", f"{DNS}/dkim")),
        (("k=rsa; p=", "k=dsa; p="), ("error", "dkim-syntax", f"{DNS}/dkim")),
        (("v=DKIM1; h=sha256; k", "h=sha256; v=DKIM1; k"), ("error", "dkim-syntax", f"{DNS}/dkim")),
        (("v=DKIM1; h=sha256", "v=DKIM1; h=sha1"), ("error", "dkim-syntax", f"{DNS}/dkim")),
        (("v=DKIM1; h=sha256", "v=DKIM1; t=y"), ("warning", "dkim-syntax", f"{DNS}/dkim")),
        (('selector = "mail"', 'selector = "post"'), ("error", "dkim-selector", "k8s/ConfigMap/mail/files")),
        # DMARC
        ((DMARC, '"p=quarantine; rua=mailto:dmarc@example.com"'), ("error", "dmarc-syntax", f"{DNS}/dmarc")),
        ((DMARC, '"p=quarantine; v=DMARC1; rua=mailto:dmarc@example.com"'), ("error", "dmarc-syntax", f"{DNS}/dmarc")),
        ((DMARC, '"v=DMARC1; p=refuse"'), ("error", "dmarc-syntax", f"{DNS}/dmarc")),
        ((DMARC, '"v=DMARC1; adkim=s"'), ("error", "dmarc-syntax", f"{DNS}/dmarc")),
        ((DMARC, '"v=DMARC1; p=none; aspf=x"'), ("warning", "dmarc-syntax", f"{DNS}/dmarc")),
        ((DMARC, '"v=DMARC1; rua=mailto:dmarc@example.com"'), ("warning", "dmarc-syntax", f"{DNS}/dmarc")),
        ((DMARC, '"v=DMARC1; p=none; rua=dmarc@example.com"'), ("error", "dmarc-syntax", f"{DNS}/dmarc")),
        ((DMARC, '"v=DMARC1; p=none; nonsense"'), ("error", "dmarc-syntax", f"{DNS}/dmarc")),
        ((DMARC, '"v=DMARC1; p=none; pct=100"'), ("warning", "dmarc-removed", f"{DNS}/dmarc")),
        ((DMARC, '"v=DMARC1; p=none; rua=mailto:a@reports.example.net"'), ("info", "dmarc-reports", f"{DNS}/dmarc")),
        (("    @example.com spam@example.com", "    me@example.com spam@example.com"), ("info", "mailbox", f"{DNS}/dmarc")),
        # MTA-STS and TLS reports
        (("name: mta-sts.example.com", "name: sts.example.com"), ("error", "mta-sts-host", f"{DNS}/mta-sts")),
        ((f"v=STSv1; id={POLICY_ID}", "v=STSv1; id=2026-04-12"), ("error", "mta-sts-record", f"{DNS}/mta-sts")),
        ((f"v=STSv1; id={POLICY_ID}", "id=20260412"), ("error", "mta-sts-record", f"{DNS}/mta-sts")),
        ((POLICY, "    mode: on\n"), ("error", "mta-sts-policy", "k8s/ConfigMap/mail/policy")),
        (("max_age: 604800", "max_age: 99999999"), ("error", "mta-sts-policy", "k8s/ConfigMap/mail/policy")),
        (("    mx: mail.example.com\n", ""), ("error", "mta-sts-policy", "k8s/ConfigMap/mail/policy")),
        (("    mx: mail.example.com\n", "    mx: old.example.com\n"), ("error", "mta-sts-policy", "k8s/ConfigMap/mail/policy")),
        (("version: STSv1", "version: 1"), ("info", "mta-sts-policy", f"{DNS}/mta-sts")),
        (("v=TLSRPTv1; rua", "rua"), ("error", "tls-reports", f"{DNS}/tls-reports")),
        (("rua=mailto:postmaster@example.com", "rua=postmaster@example.com"), ("error", "tls-reports", f"{DNS}/tls-reports")),
    ],
)  # fmt: skip
def test_a_fault_is_found_where_it_is(change: tuple[str, str], expected: tuple[str, str, str]) -> None:
    assert expected in said(found(broken(change)))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (record("more", "TXT", "v=spf1 -all"), ("error", "spf-one", f"{DNS}/spf")),
        (record("more", "TXT", f"v=DKIM1; p={RSA_2048}", "mail._domainkey.example.com"), ("error", "dkim-one", f"{DNS}/more")),
        (record("more", "TXT", "v=DMARC1; p=none", "_dmarc.example.com"), ("error", "dmarc-one", f"{DNS}/more")),
        (record("more", "TXT", "v=STSv1; id=2", "_mta-sts.example.com"), ("error", "mta-sts-record", f"{DNS}/mta-sts")),
        (record("more", "TXT", "v=TLSRPTv1; rua=mailto:x@example.com", "_smtp._tls.example.com"),
         ("error", "tls-reports", f"{DNS}/tls-reports")),
        (record("more", "CNAME", "x.example.net", "_dmarc.example.com"), ("error", "cname-alone", f"{DNS}/more")),
        (record("more", "MX", ".", priority=0), ("error", "null-mx", f"{DNS}/more")),
        (record("more", "MX", ".", "nomail.example.com", priority=5), ("warning", "null-mx", f"{DNS}/more")),
        (record("more", "CNAME", "b.example.net", "b1._domainkey.example.com", proxied=True), ("error", "dkim-delegation", f"{DNS}/more")),
        (record("more", "MX", "other.example.com", priority=2) + record("a", "A", "203.0.113.6", "other.example.com"),
         ("error", "mta-sts-policy", "k8s/ConfigMap/mail/policy")),
        ("".join(record(f"more-{n}", "TXT", f"{n}" + "x" * 3000) for n in range(3)), ("error", "record-size", f"{DNS}/spf")),
    ],
)  # fmt: skip
def test_a_record_too_many_is_found(more: str, expected: tuple[str, str, str]) -> None:
    assert expected in said(found(broken(more=more)))


def test_tlsa_records_want_a_signed_zone() -> None:
    tlsa = "{usage: 3, selector: 1, matching_type: 1, certificate: " + "ab" * 32 + "}"
    spec = f"{{zone: example.com, name: _25._tcp.mail.example.com, type: TLSA, data: {tlsa}}}"
    stack = broken(more=f"apiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata: {{name: dane}}\nspec: {spec}\n")
    assert said(found(stack)) == [("warning", "dane-dnssec", f"{DNS}/dane")]
    assert found(stack, answering({"spf.brevo.com": ["v=spf1 -all"]}, ["12345 13 2 AB"])) == []


def test_a_policy_that_refuses_wants_something_by_which_our_mail_passes() -> None:
    changes = ((SPF, '"nothing"'), ("name: mail._domainkey.example.com", "name: mail.key.example.com"))
    assert ("warning", "dmarc-source", f"{DNS}/dmarc") in said(found(broken(*changes)))


class TestWhatIsOutsideTheStack:
    """It is unknown, which is no fault; recorded answers may show that it is one."""

    def test_is_an_info_and_never_an_error(self) -> None:
        assert said(found(whole(), None)) == [("info", "spf-lookups", f"{DNS}/spf")]

    def test_counts_in_the_tree_of_lookups_as_far_as_it_is_known(self) -> None:
        chain = {f"{n}.brevo.com": [f"v=spf1 include:{n + 1}.brevo.com -all"] for n in range(12)}
        (finding,) = found(whole(), answering({"spf.brevo.com": ["v=spf1 include:0.brevo.com -all"], **chain}))
        assert (finding.severity, finding.rule) == ("error", "spf-lookups")
        assert finding.message == "needs 14 of at most 10 lookups; receivers refuse the record"

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            ([], "include leads to spf.brevo.com, which has no SPF records"),
            (["v=spf1 -all", "v=spf1 ~all"], "include leads to spf.brevo.com, which has 2 SPF records"),
            (["v=spf1 include:example.com -all"], "example.com -> spf.brevo.com -> example.com is a circle"),
        ],
    )
    def test_breaks_an_include_when_it_is_known_to_be_broken(self, answer: Sequence[str], message: str) -> None:
        findings = found(whole(), answering({"spf.brevo.com": answer}))
        assert [one.message for one in findings] == [message]

    def test_may_find_nothing_twice_at_most(self) -> None:
        stack = broken((SPF, '"v=spf1 include:spf.brevo.com a:x.example.net a:y.example.net mx:z.example.net -all"'))
        findings = found(stack, answering({"spf.brevo.com": ["v=spf1 -all"]}, []))
        assert "3 of its lookups find nothing, of at most 2" in [one.message for one in findings]

    def test_is_no_host_for_mail_when_it_is_known_to_have_no_address(self) -> None:
        stack = broken(("content: mail.example.com, priority", "content: mx.example.net, priority"))
        assert ("error", "mx-target", f"{DNS}/mx") in said(found(stack, answering({}, [])))

    def test_agrees_to_reports_or_does_not(self) -> None:
        stack = broken((DMARC, '"v=DMARC1; p=none; rua=mailto:a@reports.example.net"'))
        name = "example.com._report._dmarc.reports.example.net"
        no, yes = (found(stack, answering({name: answer, "spf.brevo.com": ["v=spf1 -all"]})) for answer in ([], ["v=DMARC1"]))
        assert (said(no), yes) == ([("warning", "dmarc-reports", f"{DNS}/dmarc")], [])


class TestReading:
    def test_an_spf_record_gives_its_terms(self) -> None:
        text = "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 a/24 mx:Example.NET. ~include:x.example exists:%{i}.x.example redirect=y.example"
        assert terms(text) == [
            Term("ip4", "192.0.2.0"), Term("ip6", "2001:db8::"), Term("a"), Term("mx", "example.net"), Term("include", "x.example", "~"),
            Term("exists", "%{i}.x.example"), Term("redirect", "y.example", ""),
        ]  # fmt: skip

    @pytest.mark.parametrize("word", ["include:", "ip4", "all:x", "-", "a:", "foo"])
    def test_a_word_that_is_no_term_stays_a_word(self, word: str) -> None:
        assert terms(f"v=spf1 {word}") == [word]

    @given(st.text())
    def test_any_text_can_be_read(self, text: str) -> None:
        assert len(terms(text)) <= len(text)
        assert tags(text) is None or isinstance(tags(text), dict)
        assert isinstance(addresses(text), tuple)
        assert isinstance(parse(text), dict)

    def test_the_first_of_two_equal_tags_counts(self) -> None:
        assert tags(" V = DMARC1;p=none; p=reject;") == {"v": "DMARC1", "p": "none"}

    def test_report_addresses_may_have_a_size(self) -> None:
        assert addresses("mailto:A@example.com!10m, https://example.com/x") == (["a@example.com"], [])

    def test_a_wildcard_of_a_policy_is_one_label(self) -> None:
        hosts = ("mail.example.com", "a.mail.example.com", "example.com")
        assert [matches("*.example.com", one) for one in hosts] == [True, False, False]

    def test_an_organisation_is_two_labels_or_three_below_a_country(self) -> None:
        assert [organisation(one) for one in ("a.b.example.com", "x.example.co.uk", "example.com")] == [
            "example.com", "example.co.uk", "example.com",
        ]  # fmt: skip

    def test_a_range_or_an_alias_of_ports_covers_one(self) -> None:
        assert [covers(one, 25) for one in ("25", "20-30", "26", "mail_ports", "")] == [True, True, False, True, True]

"""Another reader of the same standards agrees about what is a record and what is none. Its resolver knows only what is here."""

from typing import Any

import pytest
from checkdmarc import dmarc, spf

from reconciler.checks.findings import Severity
from reconciler.checks.spf import tree
from reconciler.checks.view import MailView
from tests.unit.checks.stacks import DNS, answering, found, load

TEXTS = {
    "spf.brevo.com": ["v=spf1 ip4:192.0.2.0/24 include:more.brevo.com -all"],
    "more.brevo.com": ["v=spf1 ip4:198.51.100.0/24 -all"],
    "example.com._report._dmarc.reports.example.net": ["v=DMARC1"],
}


def recorded() -> Any:
    """Give a resolver of dnspython that answers from the texts above and sends nothing."""
    from dns import message, name, rdataclass, rdatatype, resolver, rrset

    class Recorded(resolver.Resolver):
        def resolve(self, qname: Any, rdtype: Any = "A", *args: Any, **more: Any) -> Any:
            asked = str(qname).rstrip(".")
            if rdatatype.RdataType.make(rdtype) != rdatatype.TXT or asked not in TEXTS:
                raise resolver.NXDOMAIN
            question = message.make_query(asked, "TXT")
            answer: Any = message.make_response(question)
            found = answer.find_rrset(answer.answer, name.from_text(asked), rdataclass.IN, rdatatype.TXT, create=True)
            for one in rrset.from_text(asked, 60, "IN", "TXT", *(f'"{text}"' for text in TEXTS[asked])):
                found.add(one, 60)
            return resolver.Answer(name.from_text(asked), rdatatype.TXT, rdataclass.IN, answer)

    return Recorded(configure=False)


def ours(old: str, new: str, rule: str) -> bool:
    """Say whether our rules accept the record."""
    assert DNS.count(old) == 1
    findings = found(load({"dns": DNS.replace(old, new)}), answering(TEXTS))
    return not any(one.rule.startswith(rule) and one.severity is Severity.ERROR for one in findings)


@pytest.mark.parametrize(
    "text",
    [
        "v=DMARC1; p=none",
        "v=DMARC1; p=quarantine; rua=mailto:dmarc@example.com",
        "v=DMARC1; p=reject; sp=none; adkim=s; aspf=r; rua=mailto:a@reports.example.net!10m",
        "v=DMARC1; p=none; rua=dmarc@example.com",
        "v=DMARC1; p=refuse",
        "v=DMARC1; p=none; adkim=x",
        "p=quarantine; rua=mailto:dmarc@example.com",
    ],
)
def test_of_dmarc_records(text: str) -> None:
    try:
        dmarc.parse_dmarc_record(text, "example.com", resolver=recorded())
        theirs = True
    except dmarc.DMARCError:
        theirs = False
    assert ours("v=DMARC1; p=quarantine; rua=mailto:dmarc@example.com", text, "dmarc") is theirs


@pytest.mark.parametrize(
    "text",
    [
        "v=spf1 -all",
        "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ~all",
        "v=spf1 include:spf.brevo.com -all",
        "v=spf1 include:spf.brevo.com redirect=more.brevo.com",
        "v=spf1 inlude:spf.brevo.com -all",
        "v=spf1 ip4 -all",
        "v=spf1 include: -all",
        "v=spf1 include:example.com -all",
    ],
)
def test_of_spf_records_and_their_lookups(text: str) -> None:
    try:
        result = spf.parse_spf_record(text, "example.com", resolver=recorded())
    except spf.SPFError:
        assert not ours("v=spf1 include:spf.brevo.com -all", text, "spf")
        return
    assert ours("v=spf1 include:spf.brevo.com -all", text, "spf")
    view = MailView.of(load({"dns": DNS.replace("v=spf1 include:spf.brevo.com -all", text)}), answering(TEXTS))
    assert tree(view, "example.com", text).lookups == result["dns_lookups"]

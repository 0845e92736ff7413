"""What is legal DNS and still loses mail."""

from typing import Any

import pytest

from reconciler.resource import JSONObject
from reconciler_cloudflare.advice import findings
from reconciler_cloudflare.spec import DNSRecord

ZONE = "example.com"


def form(**fields: Any) -> JSONObject:
    return DNSRecord.model_validate({"zone": ZONE, "name": ZONE, **fields}).canonical(lambda ref: "")


MX = form(type="MX", content="mail.example.com", priority=1)
HOST = form(name="mail.example.com", type="A", content="192.0.2.1")
SOUND = [
    MX,
    HOST,
    form(type="TXT", content="v=spf1 include:spf.brevo.com ~all"),
    form(type="TXT", content="v=spf10 is something else"),
    form(type="TXT", content="brevo-code:0123"),
    form(name="_dmarc.example.com", type="TXT", content="v=DMARC1; p=quarantine"),
    form(name="brevo1._domainkey.example.com", type="CNAME", content="b1.dkim.brevo.com"),
]


def test_a_sound_mail_domain_gives_no_findings() -> None:
    assert list(findings(SOUND)) == []


@pytest.mark.parametrize(
    ("forms", "place", "text"),
    [
        ([MX, form(name="mail.example.com", type="A", content="192.0.2.1", proxied=True)], ("MX", ZONE), "port 25"),
        ([MX, form(name="mail.example.com", type="CNAME", content="a.example.net")], ("MX", ZONE), "leads to a CNAME"),
        ([MX], ("MX", ZONE), "no address"),
        ([*SOUND, form(type="TXT", content="v=spf1 -all")], ("TXT", ZONE), "2 v=spf1 records"),
        ([*SOUND, form(name="_dmarc.example.com", type="TXT", content="v=dmarc1;p=none")], ("TXT", "_dmarc.example.com"), "2 v=DMARC1"),
        (
            [form(name="s._domainkey.example.com", type="CNAME", content="a.example.net", proxied=True)],
            ("CNAME", "s._domainkey.example.com"),
            "no DKIM key",
        ),
    ],
)
def test_what_loses_mail_is_found(forms: list[JSONObject], place: tuple[str, str], text: str) -> None:
    ((about, said),) = findings(forms)
    assert about == place
    assert text in said


@pytest.mark.parametrize("target", ["mx.example.net", "."])
def test_an_exchange_in_another_zone_is_not_judged(target: str) -> None:
    assert list(findings([form(type="MX", content=target, priority=0)])) == []


def test_a_wildcard_gives_an_exchange_its_address() -> None:
    assert list(findings([MX, form(name="*.example.com", type="A", content="192.0.2.1")])) == []

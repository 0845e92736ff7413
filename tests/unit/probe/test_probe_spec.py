import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.resource import SecretRef
from reconciler_probe import PLUGIN
from reconciler_probe.config import ProbeConfig, split_address
from reconciler_probe.spec import Dns, Http, Imap, MailRoundtrip, Smtp, Tcp
from reconciler_probe.values import dns_value

TRIP: dict[str, Any] = {
    "smtp": {"host": "mail.example.org", "sender": "a@example.org", "recipient": "b@example.org"},
    "imap": {"host": "mail.example.org"},
}


def test_importing_the_plugin_reads_no_vendor_library() -> None:
    code = "import sys, reconciler_probe; print([name for name in ('dns', 'httpx', 'cryptography', 'aiosmtpd') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    assert set(PLUGIN.kinds) == {"TCP", "SMTP", "IMAP", "DNS", "HTTP", "MailRoundtrip"}


class TestNegativeChecksNeedAControl:
    def test_a_closed_port(self) -> None:
        with pytest.raises(ValidationError, match="expect_closed and control go together"):
            Tcp(host="10.0.20.202", port=25, expect_closed=True)
        with pytest.raises(ValidationError, match="expect_closed and control go together"):
            Tcp(host="10.0.20.202", port=25, control="10.0.20.1:25")
        with pytest.raises(ValidationError, match="is not an address"):
            Tcp(host="10.0.20.202", port=25, expect_closed=True, control="10.0.20.1")

    def test_a_record_that_must_not_be(self) -> None:
        with pytest.raises(ValidationError, match="name a control if, and only if, an empty set is expected"):
            Dns(name="old.example.org", type="A", resolvers=("1.1.1.1",), expect=())

    def test_a_refusal_without_header(self) -> None:
        with pytest.raises(ValidationError, match="expect_refused needs proxy v2"):
            Smtp(host="10.0.20.101", port=30125, expect_refused=True)


class TestCanonicalForm:
    def test_dns_values_lose_their_spelling_but_a_txt_does_not(self) -> None:
        spec = Dns(name="Example.ORG.", type="MX", resolvers=("1.1.1.1", "1.1.1.1"), expect=("1   Mail.Example.org.",))
        assert (spec.name, spec.resolvers, spec.expect) == ("example.org", ("1.1.1.1",), ("1 mail.example.org",))
        assert dns_value("AAAA", "2001:DB8:0::1") == "2001:db8::1"
        assert dns_value("TXT", "v=spf1  A.") == "v=spf1  A."
        assert dns_value("SRV", "0 1 587 Mail.example.org.") == "0 1 587 mail.example.org"
        assert dns_value("SSHFP", "4 2 ABCD 1234") == "4 2 abcd1234"
        assert dns_value("DS", "12345 13 2 ABCD 1234") == "12345 13 2 abcd1234"
        assert dns_value("CAA", "0 Issue letsencrypt.org") == dns_value("CAA", '0 issue "letsencrypt.org"')
        assert dns_value("CAA", '0 issue "ca.example; account=1"') == '0 issue "ca.example; account=1"'
        assert dns_value("MX", "1 Büro.example.org.") == "1 xn--bro-hoa.example.org"
        assert Dns(name="büro.example.org", type="A", resolvers=("1.1.1.1",), expect=("192.0.2.1",)).name == "xn--bro-hoa.example.org"

    def test_each_resolver_has_the_set_of_all_or_one_of_its_own(self) -> None:
        fields = {"name": "x.example", "type": "A", "resolvers": ["1.1.1.1", "10.0.20.201"], "expect": ["192.0.2.1"]}
        spec = Dns.model_validate(fields | {"expect_at": {"10.0.20.201": ["10.0.20.2", "10.0.20.1", "10.0.20.2"]}})
        assert [spec.expected(one) for one in spec.resolvers] == [("192.0.2.1",), ("10.0.20.1", "10.0.20.2")]
        assert Dns.model_validate(spec.canonical(lambda ref: "never")) == spec

    @given(st.permutations(["192.0.2.1", "192.0.2.2", "192.0.2.3"]))
    def test_values_are_a_set(self, values: list[str]) -> None:
        spec = Dns(name="x.example.org", type="A", resolvers=("1.1.1.1",), expect=tuple(values + values))
        assert spec.expect == ("192.0.2.1", "192.0.2.2", "192.0.2.3")

    def test_every_default_is_explicit_and_survives_its_own_canonical_form(self) -> None:
        for spec in (
            Tcp(host="x", port=1),
            Smtp(host="x"),
            Imap(host="x"),
            Http(url="https://x.example/", status=(302, 200, 200)),
            Dns(name="x", type="TXT", resolvers=("[2001:db8::1]:53",), expect=("a",)),
            MailRoundtrip.model_validate(TRIP),
        ):
            canonical = spec.canonical(lambda ref: "never")
            assert set(canonical) == set(type(spec).model_fields)
            assert type(spec).model_validate(canonical) == spec

    def test_a_password_is_a_fingerprint(self) -> None:
        ref = SecretRef('${vault("secret/mail", "canary")}', (("secret/mail", "canary"),))
        spec = MailRoundtrip.model_validate(TRIP | {"imap": {"host": "mail.example.org", "username": "b@example.org", "password": ref}})
        assert spec.secrets() == (ref,)
        assert spec.canonical(lambda ref: "f1")["imap"]["password"] == "secret:f1"


A = {"name": "x", "type": "A", "resolvers": ["1.1.1.1", "8.8.8.8"], "expect": ["192.0.2.1"]}


class TestRefusals:
    @pytest.mark.parametrize(
        ("kind", "data", "words"),
        [
            (Smtp, {"host": "x", "banner": "("}, "is not a regular expression"),
            (Smtp, {"host": "x", "server_name": "x"}, "server_name needs tls"),
            (Smtp, {"host": "x", "proxy": "v2", "proxy_source": "x"}, "does not appear to be"),
            (Smtp, {"host": "x", "ehlo": "x\r\nMAIL FROM:<>"}, "should match pattern"),
            (Imap, {"host": "x", "port": 70000}, "less than 65536"),
            (Dns, {"name": "x", "type": "A", "resolvers": ["dns.example"], "expect": ["192.0.2.1"]}, "does not appear to be"),
            (Dns, {"name": "x", "type": "A", "resolvers": ["1.1.1.1"], "expect": ["x"]}, "does not appear to be"),
            (Dns, A | {"expect_at": {"9.9.9.9": ["192.0.2.2"]}}, "9.9.9.9 is not among the resolvers"),
            (Dns, A | {"optional": ["9.9.9.9"]}, "9.9.9.9 is not among the resolvers"),
            (Dns, A | {"optional": ["1.1.1.1", "8.8.8.8"]}, "not every resolver can be optional"),
            (Dns, A | {"expect_at": {"8.8.8.8": []}}, "name a control"),
            (Dns, A | {"expect_at": {"8.8.8.8": ["x"]}}, "does not appear to be"),
            (Http, {"url": "ftp://x"}, "should match pattern"),
            (Http, {"url": "https://me:secret@x/"}, "should match pattern"),
            (Http, {"url": "https://x/", "status": [99]}, "from 100 to 599"),
            (MailRoundtrip, TRIP | {"imap": {"host": "x", "tls": "none", "password": "p"}}, "a password is sent over TLS only"),
            (MailRoundtrip, TRIP | {"smtp": TRIP["smtp"] | {"recipient": "b\r\nRCPT TO:<c>"}}, "should match pattern"),
            (Tcp, {"host": "x", "port": 1, "surprise": 1}, "Extra inputs are not permitted"),
        ],
    )
    def test_a_wish_that_makes_no_sense_is_refused(self, kind: Any, data: dict[str, Any], words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            kind.model_validate(data)


class TestSettings:
    def test_addresses_are_split_with_and_without_brackets(self) -> None:
        assert split_address("10.0.20.1:25") == ("10.0.20.1", 25)
        assert split_address("[2001:db8::1]:53") == ("2001:db8::1", 53)
        assert split_address("2001:db8::1", 53) == ("2001:db8::1", 53)
        assert split_address("[2001:db8::1]", 53) == ("2001:db8::1", 53)
        assert split_address("1.1.1.1", 53) == ("1.1.1.1", 53)

    @pytest.mark.parametrize("text", ["", "x", ":25", "x:", "x:0", "x:70000", "x:y", "x:²"])
    def test_what_is_no_address_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not an address"):
            split_address(text)
        with pytest.raises(ValidationError):
            ProbeConfig(connect_to={"x:25": text})

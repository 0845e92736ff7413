"""The wish for one record: totals, canonical form, refusals, and both directions of the API's shape."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.driver import Mark
from reconciler.invalid import explain
from reconciler.resource import JSONObject, SecretRef
from reconciler_cloudflare.data import MODELS
from reconciler_cloudflare.spec import DNSRecord, body_of, describe, form_of, join_comment, key_of, patch_of, split_comment

DATA: dict[str, JSONObject] = {
    "CAA": {"flags": 0, "tag": "ISSUE", "value": "letsencrypt.org"},
    "CERT": {"type": 1, "key_tag": 2, "algorithm": 8, "certificate": "AAEC AwQ="},
    "DNSKEY": {"flags": 257, "protocol": 3, "algorithm": 13, "public_key": "AAEC AwQ="},
    "DS": {"key_tag": 1, "algorithm": 13, "digest_type": 2, "digest": "AB CD"},
    "HTTPS": {"priority": 1, "target": ".", "value": 'alpn="h3,h2"'},
    "LOC": {"lat_degrees": 52, "lat_direction": "N", "long_degrees": 4, "long_direction": "E"},
    "NAPTR": {"order": 1, "preference": 2, "flags": "U", "service": "SIP+D2U", "regex": "", "replacement": "SIP.Example.com."},
    "SMIMEA": {"usage": 3, "selector": 1, "matching_type": 1, "certificate": "ABCD"},
    "SRV": {"priority": 0, "weight": 1, "port": 993, "target": "Mail.Example.com."},
    "SSHFP": {"algorithm": 4, "type": 2, "fingerprint": "ABCD"},
    "SVCB": {"priority": 1, "target": "a.example.com"},
    "TLSA": {"usage": 3, "selector": 1, "matching_type": 1, "certificate": "ABCD"},
    "URI": {"weight": 1, "target": "https://example.com/"},
}
PLAIN: dict[str, JSONObject] = {
    "A": {"content": "192.0.2.1"},
    "AAAA": {"content": "2001:DB8::1"},
    "CNAME": {"content": "B1.brevo.COM."},
    "MX": {"content": "MX.Example.net.", "priority": 10},
    "NS": {"content": "ns1.example.net."},
    "OPENPGPKEY": {"content": "AAEC AwQ="},
    "PTR": {"content": "host.example.net."},
    "TXT": {"content": "v=spf1 -all"},
}
ALL = {**PLAIN, **{type: {"data": data} for type, data in DATA.items()}}


def spec(**fields: Any) -> DNSRecord:
    return DNSRecord.model_validate({"zone": "example.com", "name": "example.com", **fields})


def form(**fields: Any) -> JSONObject:
    return spec(**fields).canonical(_no_secrets)


def _no_secrets(ref: SecretRef) -> str:
    raise AssertionError("a DNS record has no secrets")


def answer(**fields: Any) -> JSONObject:
    """A record as the API answers it."""
    return {
        "id": "0" * 32,
        "name": "example.com",
        "proxied": False,
        "ttl": 1,
        "settings": {},
        "comment": None,
        "tags": [],
        "meta": {},
        **fields,
    }


def test_all_twenty_one_types_are_known() -> None:
    assert len(ALL) == 21
    assert set(DATA) == set(MODELS)


@pytest.mark.parametrize("type", sorted(ALL))
def test_canonical_form_is_stable(type: str) -> None:
    once = form(type=type, **ALL[type])
    assert DNSRecord.model_validate(once).canonical(_no_secrets) == once


@pytest.mark.parametrize("type", sorted(ALL))
def test_what_is_sent_comes_back_as_the_same_wish(type: str) -> None:
    wanted = form(type=type, ttl=300, comment="why", **ALL[type])
    assert form_of(answer(**body_of(wanted, "why")), "example.com") == wanted


@pytest.mark.parametrize("type", sorted(ALL))
def test_the_live_form_has_the_keys_of_the_wish(type: str) -> None:
    assert form_of(answer(type=type, content="?", data={"strange": 1}), "example.com").keys() == form(type=type, **ALL[type]).keys()


def test_two_spellings_of_one_mx_are_one_record() -> None:
    one = form(name="@", type="MX", content="MX.Example.net.", priority=10)
    other = form_of(answer(type="MX", content="mx.example.net", priority=10.0), "example.com")
    assert one == other
    assert key_of(one) == key_of(other)


def test_the_priority_tells_mx_records_apart_and_no_others() -> None:
    assert key_of(form(type="MX", content="a.example.com", priority=1)) != key_of(form(type="MX", content="a.example.com", priority=2))
    assert key_of(form(type="URI", data=DATA["URI"], priority=1)) == key_of(form(type="URI", data=DATA["URI"], priority=2))


def test_a_cname_is_written_canonically() -> None:
    wanted = form(name="_dmarc.example.com.", type="cname", content="B1.brevo.COM.")
    assert key_of(wanted) == ("CNAME", "_dmarc.example.com", "b1.brevo.com", -1)


def test_a_null_mx_keeps_its_dot() -> None:
    assert form(type="MX", content=".", priority=0)["content"] == "."


def test_auto_is_a_ttl_of_one_and_proxying_forces_it() -> None:
    assert spec(type="A", content="192.0.2.1").ttl == 1
    assert spec(type="A", content="192.0.2.1", ttl="auto").ttl == 1
    assert spec(type="A", content="192.0.2.1", ttl=300).ttl == 300
    assert spec(type="A", content="192.0.2.1", ttl=300, proxied=True).ttl == 1


def test_being_exclusive_is_no_field_of_the_record() -> None:
    assert form(type="TXT", content="x", exclusive=True) == form(type="TXT", content="x")


def test_tags_are_a_set() -> None:
    assert spec(type="A", content="192.0.2.1", tags=("b:1", "a:1", "b:1")).tags == ("a:1", "b:1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "www", "type": "A", "content": "192.0.2.1"}, "not inside the zone"),
        ({"type": "MX", "content": "a.example.com"}, "MX needs a priority"),
        ({"type": "A", "content": "192.0.2.1", "priority": 1}, "takes no priority"),
        ({"type": "TXT", "content": "x", "proxied": True}, "cannot be proxied"),
        ({"type": "TXT", "content": ""}, "needs some text"),
        ({"type": "TXT", "content": "x" * 4090}, "at most 4096"),
        ({"type": "TXT"}, "TXT needs content"),
        ({"type": "TXT", "content": '"open'}, "never closed"),
        ({"type": "CAA", "content": '0 issue "x"'}, "CAA takes data"),
        ({"type": "CAA"}, "needs data with flags, tag, value"),
        ({"type": "A", "content": "192.0.2.1", "data": {}}, "takes no data"),
        ({"type": "TLSA", "data": {**DATA["TLSA"], "certificate": "xyz"}}, "certificate"),
        ({"type": "A", "content": "192.0.2.1", "ttl": 20}, "not a ttl"),
        ({"type": "A", "content": "192.0.2.1", "comment": "a\nb"}, "one line"),
        ({"type": "A", "content": "192.0.2.1", "settings": {"flatten_cname": True}}, "CNAME only"),
        ({"type": "A", "content": "192.0.2.1", "settings": {"ipv4_only": True, "ipv6_only": True}}, "exclude each other"),
        ({"type": "SPF", "content": "x"}, "type"),
    ],
)
def test_what_cloudflare_would_refuse_or_ignore_is_refused_before(fields: JSONObject, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**fields)


def test_a_proxied_records_live_ttl_is_auto_whatever_is_answered() -> None:
    assert form_of(answer(type="A", content="192.0.2.1", proxied=True, ttl=300), "example.com")["ttl"] == 1


def test_a_neighbour_that_cannot_be_read_is_shown_as_it_is() -> None:
    assert form_of(answer(type="TXT", content='"open'), "example.com")["content"] == '"open'


def test_settings_that_are_absent_are_off() -> None:
    assert form_of(answer(type="A", content="192.0.2.1"), "example.com")["settings"] == dict.fromkeys(
        ("ipv4_only", "ipv6_only", "flatten_cname"), False
    )


def test_a_create_mentions_no_paid_feature_that_is_not_used() -> None:
    assert body_of(form(type="TXT", content="x"), "mark") == {
        "name": "example.com",
        "type": "TXT",
        "content": '"x"',
        "ttl": 1,
        "comment": "mark",
    }


def test_equal_forms_need_no_patch() -> None:
    assert patch_of(form(type="TXT", content="x"), form(type="TXT", content='"x"'), ("m", "m")) == {}


def test_a_patch_names_only_what_changes_beside_name_and_type() -> None:
    before, after = form(type="A", content="192.0.2.1"), form(type="A", content="192.0.2.2")
    assert patch_of(before, after, ("m", "m")) == {"name": "example.com", "type": "A", "content": "192.0.2.2"}
    assert patch_of(before, before, ("", "m")) == {"name": "example.com", "type": "A", "comment": "m"}


def test_a_proxy_switched_off_gets_its_ttl_back() -> None:
    before, after = form(type="A", content="192.0.2.1", proxied=True), form(type="A", content="192.0.2.1", ttl=300)
    assert patch_of(before, after, ("", "")) == {"name": "example.com", "type": "A", "ttl": 300, "proxied": False}


def test_a_renamed_record_is_patched() -> None:
    before, after = form(name="a.example.com", type="TXT", content="x"), form(name="b.example.com", type="TXT", content="x")
    assert patch_of(before, after, ("", "")) == {"name": "b.example.com", "type": "TXT"}


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_mark_and_remark_share_a_comment(text: str) -> None:
    mark = Mark("prod/mail", "DNSRecord", "mx")
    assert split_comment(join_comment(mark, text)) == (mark, text)


def test_a_comment_without_a_mark_is_all_remark() -> None:
    assert split_comment("by hand, 2024") == (None, "by hand, 2024")


def test_a_record_is_described_in_one_short_line() -> None:
    assert describe(form(type="MX", content="a.example.com", priority=1)) == 'MX example.com "1 a.example.com"'
    assert len(describe(form(type="TXT", content="x" * 500))) < 90


def test_a_problem_that_begins_with_a_name_keeps_its_capitals() -> None:
    with pytest.raises(ValidationError) as caught:
        DNSRecord.model_validate({"zone": "example.com", "name": "a.example.com", "type": "SRV", "content": "1 2 3 host"})
    assert [text for path, text in explain(caught.value, DNSRecord) if path == ["content"]] == ["SRV takes data, not content"]

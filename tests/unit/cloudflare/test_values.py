"""Canonical values: hosts, addresses and the three spellings of one TXT text."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler_cloudflare.values import address, host, parameters, record_name, txt_join, txt_quote, txt_text

DKIM = "v=DKIM1; k=rsa; p=" + 392 * "A"


def test_a_long_key_is_sent_in_two_strings() -> None:
    assert txt_quote(DKIM.encode()) == f'"{DKIM[:255]}" "{DKIM[255:]}"'


@pytest.mark.parametrize(
    "spelling", [DKIM, f'"{DKIM}"', f'"{DKIM[:255]}" "{DKIM[255:]}"', f'"{DKIM[:100]}""{DKIM[100:300]}" "{DKIM[300:]}"']
)
def test_every_spelling_of_a_long_key_joins_to_the_key(spelling: str) -> None:
    assert txt_join(spelling) == DKIM.encode()
    assert txt_text(spelling) == DKIM


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ('"a" "b"', b"ab"),
        ('"a""b"', b"ab"),
        (r'"a\"b\\c\059"', b'a"b\\c;'),
        ('"v=spf1 -all"', b"v=spf1 -all"),
        ("v=spf1 -all", b"v=spf1 -all"),
        ("  v=spf1 -all\t", b"v=spf1 -all"),
        ('"a" b', b"ab"),
        ("semi;colon \\ raw", b"semi;colon \\ raw"),
        ('""', b""),
    ],
)
def test_content_is_read_as_resolvers_will_see_it(content: str, value: bytes) -> None:
    assert txt_join(content) == value


@pytest.mark.parametrize("content", ['"', '"a', '"a\\', '"a" b\\', '"\\256"'])
def test_content_that_ends_too_early_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="TXT content"):
        txt_join(content)


def test_a_blank_that_matters_is_a_difference() -> None:
    assert txt_join("v=DMARC1; p=none") != txt_join("v=DMARC1;p=none")


@pytest.mark.parametrize("value", [b"", b"x" * 255, b"x" * 256, b'"\\', bytes(range(256))])
def test_quoting_loses_nothing_at_the_edges(value: bytes) -> None:
    assert txt_join(txt_quote(value)) == value


@given(st.binary(max_size=1200))
def test_quoting_loses_nothing(value: bytes) -> None:
    assert txt_join(txt_quote(value)) == value


@given(st.binary(min_size=1, max_size=600))
def test_the_one_spelling_is_stable_and_means_the_same(value: bytes) -> None:
    text = txt_text(txt_quote(value))
    assert txt_text(text) == text
    assert txt_join(text) == value


@given(st.text(min_size=1, max_size=300))
def test_text_as_people_write_it_has_one_spelling(content: str) -> None:
    try:
        text = txt_text(content)
    except ValueError:
        return
    assert txt_text(text) == text
    assert txt_join(text) == txt_join(content)


@given(st.binary(max_size=1200))
def test_no_string_is_longer_than_255_octets(value: bytes) -> None:
    for chunk in txt_quote(value)[1:-1].split('" "'):
        assert len(txt_join(f'"{chunk}"')) <= 255


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        (".", "."),
        ("MX.Example.net.", "mx.example.net"),
        ("BÜRO.example.com", "xn--bro-hoa.example.com"),
        ("_dmarc.example.com", "_dmarc.example.com"),
        ("*.example.com", "*.example.com"),
    ],
)
def test_a_host_has_one_spelling(name: str, canonical: str) -> None:
    assert host(name) == canonical
    assert host(canonical) == canonical


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a..b",
        "http://a.example.com",
        "a.example.com:25",
        "a b.example.com",
        "user@example.com",
        "x" * 64 + ".com",
        ".".join(["abcdefgh"] * 30),
    ],
)
def test_what_is_no_host_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"host name|characters"):
        host(name)


@pytest.mark.parametrize(("name", "full"), [("@", "example.com"), ("Example.com.", "example.com"), ("a.EXAMPLE.com", "a.example.com")])
def test_a_records_name_is_full(name: str, full: str) -> None:
    assert record_name(name, "example.com") == full


@pytest.mark.parametrize("name", ["www", "www.example.org", "notexample.com", "com"])
def test_a_relative_name_or_one_of_another_zone_is_refused_with_advice(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.example.com"):
        record_name(name, "example.com")


def test_an_ipv6_address_is_written_short() -> None:
    assert address("2001:DB8:0:0::1", 6) == "2001:db8::1"


@pytest.mark.parametrize(("content", "version"), [("192.0.2", 4), ("192.0.2.01", 4), ("2001:db8::1", 4), ("192.0.2.1", 6)])
def test_what_is_no_address_is_refused(content: str, version: int) -> None:
    with pytest.raises(ValueError, match=f"not an IPv{version} address"):
        address(content, version)


@given(st.from_regex(r"([a-z0-9_*-]{0,64}\.){0,4}[a-z0-9_*-]{1,64}", fullmatch=True))
def test_a_name_that_looks_canonical_is_read_as_any_other(name: str) -> None:
    try:
        slowly = host(f"{name}.")
    except ValueError:
        with pytest.raises(ValueError, match=r"host name|characters"):
            host(name)
    else:
        assert host(name) == slowly == name


@given(st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,3}){2,4}", fullmatch=True) | st.ip_addresses(v=4).map(str))
def test_an_ipv4_address_is_one_exactly_when_the_standard_library_says_so(text: str) -> None:
    try:
        known = str(ipaddress.IPv4Address(text))
    except ValueError:
        with pytest.raises(ValueError, match="is not an IPv4 address"):
            address(text, 4)
    else:
        assert address(text, 4) == known


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('alpn="h3,h2"', 'alpn="h3,h2"'),
        ("alpn=h3,h2", 'alpn="h3,h2"'),
        ('ipv4hint="192.0.2.1"  alpn=h2 no-default-alpn', 'alpn="h2" ipv4hint="192.0.2.1" no-default-alpn'),
        ('key65400="a \\"b\\" c"', 'key65400="a \\"b\\" c"'),
        ("", ""),
        (' alpn="h2', 'alpn="h2'),
        ("alpn=h2 alpn=h3", "alpn=h2 alpn=h3"),
        ("alpn=h2 ; x", "alpn=h2 ; x"),
    ],
)
def test_the_parameters_of_a_service_have_one_spelling(text: str, canonical: str) -> None:
    assert parameters(text) == canonical == parameters(canonical)

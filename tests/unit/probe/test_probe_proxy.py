import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler_probe.proxy import header

SIGNATURE = "0d0a0d0a000d0a515549540a"


def test_an_ipv4_connection_is_written_as_the_specification_says() -> None:
    expected = SIGNATURE + "21" + "11" + "000c" + "c000020a" + "0a001465" + "b26e" + "75ad"
    assert header("192.0.2.10", 45678, "10.0.20.101", 30125).hex() == expected


def test_an_ipv6_connection_is_written_as_the_specification_says() -> None:
    source, destination = "20010db8" + "0" * 23 + "1", "20010db8" + "0" * 23 + "2"
    expected = SIGNATURE + "21" + "21" + "0024" + source + destination + "ffff" + "0019"
    assert header("2001:db8::1", 65535, "2001:db8::2", 25).hex() == expected


def test_a_client_of_the_other_family_is_mapped() -> None:
    wire = header("192.0.2.10", 1, "2001:db8::2", 25)
    assert wire[13] == 0x21
    assert ipaddress.ip_address(wire[16:32]) == ipaddress.ip_address("::ffff:192.0.2.10")


def test_the_zone_of_a_link_local_peer_is_left_out() -> None:
    assert header("fe80::1", 1, "fe80::2%eth0", 2) == header("fe80::1", 1, "fe80::2", 2)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        header("mail.example.org", 1, "192.0.2.1", 2)


@given(st.ip_addresses(), st.integers(0, 65535), st.ip_addresses(), st.integers(0, 65535))
def test_the_length_says_what_follows(source: object, source_port: int, destination: object, destination_port: int) -> None:
    wire = header(str(source), source_port, str(destination), destination_port)
    (length,) = struct.unpack("!H", wire[14:16])
    assert len(wire) == 16 + length
    assert struct.unpack("!HH", wire[-4:]) == (source_port, destination_port)

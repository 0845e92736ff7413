"""The PROXY protocol, version 2, as bytes (haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.2). Pure."""

import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
VERSION_2_PROXY = 0x21
TCP_OVER_IPV4, TCP_OVER_IPV6 = 0x11, 0x21


def header(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """Build the header that says a connection comes from ``source``. Raises ValueError when an address is not one.

    Where only one side is IPv4, it is written as an IPv4-mapped IPv6 address, since the header knows one family only.
    """
    ends = [ipaddress.ip_address(source), ipaddress.ip_address(destination.partition("%")[0])]
    family = TCP_OVER_IPV4
    if any(end.version == 6 for end in ends):
        family = TCP_OVER_IPV6
        ends = [end if end.version == 6 else ipaddress.ip_address(f"::ffff:{end}") for end in ends]
    body = b"".join(end.packed for end in ends) + struct.pack("!HH", source_port, destination_port)
    return SIGNATURE + struct.pack("!BBH", VERSION_2_PROXY, family, len(body)) + body

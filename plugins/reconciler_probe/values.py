"""Canonical forms of DNS names and values, so that a spelling is never a difference. Pure."""

import ipaddress

HOSTS_LAST = frozenset({"CNAME", "DNAME", "MX", "NS", "PTR", "SRV"})
"""Types whose value ends in a name."""


def host(name: str) -> str:
    """Give a name in lower case and without the dot at its end."""
    return name.strip().lower().removesuffix(".")


def dns_value(type: str, text: str) -> str:
    """Give the canonical text of a value: addresses shortest, names lower case, blanks single; a TXT is kept to the byte."""
    if type == "TXT":
        return text
    words = text.split()
    if type in ("A", "AAAA"):
        return str(ipaddress.ip_address(text.strip()))
    if type in HOSTS_LAST and words:
        return " ".join([*words[:-1], host(words[-1])])
    if type == "TLSA":
        return " ".join([*words[:3], "".join(words[3:]).lower()])
    return " ".join(words)

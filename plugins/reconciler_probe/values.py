"""Canonical forms of DNS names and values, so that a spelling is never a difference. Pure."""

import ipaddress

HOSTS_LAST = frozenset({"CNAME", "DNAME", "MX", "NS", "PTR", "SRV"})
"""Types whose value ends in a name."""


HEX_AFTER = {"DS": 3, "SSHFP": 2, "TLSA": 3}
"""Types whose value ends in hexadecimal digits, which may be cut by blanks, and how many words come before them."""


def host(name: str) -> str:
    """Give a name in lower case, as A-labels, and without the dot at its end. Raises ValueError for a label that no name can have."""
    name = name.strip().lower().removesuffix(".")
    return name if name.isascii() else name.encode("idna").decode()


def dns_value(type: str, text: str) -> str:
    """Give the canonical text of a value: addresses shortest, names lower case, blanks single; a TXT is kept to the byte."""
    if type == "TXT":
        return text
    words = text.split()
    if type in ("A", "AAAA"):
        return str(ipaddress.ip_address(text.strip()))
    if type in HOSTS_LAST and words:
        return " ".join([*words[:-1], host(words[-1])])
    if type in HEX_AFTER:
        first = HEX_AFTER[type]
        return " ".join([*words[:first], "".join(words[first:]).lower()])
    if type == "CAA" and len(words) > 2:
        flags, tag, value = text.split(None, 2)
        return f'{flags} {tag.lower()} "{value.strip().removeprefix(chr(34)).removesuffix(chr(34))}"'
    return " ".join(words)

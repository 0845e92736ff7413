"""Canonical form of the values found in DNS records: hosts, TXT strings, addresses. Pure; knows no API."""

import ipaddress
import re

import idna

_CANONICAL = re.compile(r"[a-z0-9_*-]{1,63}(?:\.[a-z0-9_*-]{1,63})*")
_FORBIDDEN = re.compile(r'[\s@"();,:\\]')
_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
_PARAMETER = re.compile(r'(?:^|(?<=\s))(?P<name>[a-z0-9-]+)(?:=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"\\]*)))?(?=\s|$)')
_OCTET = re.compile(rb"[0-9]{3}")


def host(name: str) -> str:
    """Give a host name lower-cased, as A-labels, without the trailing dot; the root stays ``.``.

    Raises ValueError for an empty label, a label over 63 octets, a name over 253, or a character that no host name holds (RFC 1035).
    """
    if len(name) <= 253 and _CANONICAL.fullmatch(name):
        return name  # as nearly every one in a listing is
    name = name.strip()
    if name == ".":
        return name
    labels = [_label(label, name) for label in name.removesuffix(".").split(".")]
    result = ".".join(labels)
    if len(result) > 253:
        raise ValueError(f"{name!r} is longer than 253 characters")
    return result


def _label(label: str, name: str) -> str:
    if not label or _FORBIDDEN.search(label):
        raise ValueError(f"{name!r} is not a host name; write it as host.example.com")
    if not label.isascii():
        try:
            label = idna.encode(label, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(f"{name!r} is not an international host name: {error}") from None
    if len(label) > 63:
        raise ValueError(f"{name!r} has a label of more than 63 characters")
    return label.lower()


def record_name(name: str, zone: str) -> str:
    """Give the full canonical name of a record; ``@`` is the zone itself.

    Raises ValueError for a name outside ``zone``, and so for every relative one: ``sub`` may mean ``sub.zone`` or a forgotten dot.
    """
    if name.strip() == "@":
        return zone
    full = host(name)
    if full != zone and not full.endswith(f".{zone}"):
        raise ValueError(f"{name!r} is not inside the zone {zone}; write the full name, such as {full}.{zone}")
    return full


def address(content: str, version: int) -> str:
    """Give an IP address in its one short form (RFC 5952 for IPv6). Raises ValueError for anything else."""
    if version == 4 and _IPV4.fullmatch(content):
        return content
    try:
        return str(ipaddress.IPv4Address(content.strip()) if version == 4 else ipaddress.IPv6Address(content.strip()))
    except ValueError:
        raise ValueError(f"{content!r} is not an IPv{version} address") from None


def parameters(text: str) -> str:
    """Give the parameters of a service binding by name and with their values quoted: neither order nor quotes mean anything (RFC 9460 2.1).

    What cannot be read as such is only stripped; the server will say what is wrong with it.
    """
    text = text.strip()
    found = [(match["name"], match["quoted"] if match["quoted"] is not None else match["bare"]) for match in _PARAMETER.finditer(text)]
    if _PARAMETER.sub("", text).strip() or len({name for name, _ in found}) < len(found):
        return text
    return " ".join(name if value is None else f'{name}="{value}"' for name, value in sorted(found))


def txt_join(content: str) -> bytes:
    """Give the octets that a TXT record's content stands for.

    Content that does not begin with a quote is served as it stands; otherwise it is a row of character-strings (RFC 1035 section 5.1),
    which resolvers join. Raises ValueError for a quote that is never closed or a backslash with nothing behind it.
    """
    content = content.strip(" \t")
    if not content.startswith('"'):
        return content.encode()
    data, place, joined = content.encode(), 0, bytearray()
    while place < len(data):
        if data[place] in b" \t":
            place += 1
        elif data[place] == 0x22:
            place = _quoted(data, place + 1, joined)
        else:
            place = _bare(data, place, joined)
    return bytes(joined)


def _quoted(data: bytes, place: int, joined: bytearray) -> int:
    while place < len(data):
        if data[place] == 0x22:
            return place + 1
        place = _octet(data, place, joined)
    raise ValueError("a quoted string of the TXT content is never closed")


def _bare(data: bytes, place: int, joined: bytearray) -> int:
    while place < len(data) and data[place] not in b' \t"':
        place = _octet(data, place, joined)
    return place


def _octet(data: bytes, place: int, joined: bytearray) -> int:
    if data[place] != 0x5C:
        joined.append(data[place])
        return place + 1
    if place + 1 == len(data):
        raise ValueError("the TXT content ends with a backslash")
    code = data[place + 1 : place + 4]
    if _OCTET.fullmatch(code):
        if int(code) > 255:
            raise ValueError(f"\\{code.decode()} in the TXT content is not an octet")
        joined.append(int(code))
        return place + 4
    joined.append(data[place + 1])
    return place + 2


def txt_quote(value: bytes) -> str:
    """Write octets as quoted character-strings of at most 255 octets each, one space between them: the form to send."""
    chunks = [value[start : start + 255] for start in range(0, len(value), 255)] or [b""]
    return " ".join('"' + "".join(map(_escaped, chunk)) + '"' for chunk in chunks)


def _escaped(octet: int) -> str:
    if octet in b'"\\':
        return "\\" + chr(octet)
    return chr(octet) if 32 <= octet <= 126 else f"\\{octet:03d}"


def txt_text(content: str) -> str:
    """Give the one spelling of a TXT value: the plain joined text, or quoted strings where plain text would be read differently.

    Quoted strings are left for values that are not UTF-8, hold control characters, begin with a quote, or begin or end with a blank.
    """
    value = txt_join(content)
    try:
        plain = value.decode()
    except UnicodeDecodeError:
        return txt_quote(value)
    unambiguous = plain.isprintable() and not plain.startswith('"') and plain == plain.strip(" \t")
    return plain if unambiguous else txt_quote(value)

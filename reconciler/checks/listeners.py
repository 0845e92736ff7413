"""Which ports demand a PROXY header, read from the configuration of Postfix and Dovecot and from the scripts that write it. Pure.

Postfix knows it as ``postscreen_upstream_proxy_protocol`` and ``smtpd_upstream_proxy_protocol`` (postconf(5)), in main.cf for every
listener or in master.cf for one; Dovecot 2.3 as ``haproxy = yes`` inside an ``inet_listener``.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SETTING = r"(?P<daemon>postscreen|smtpd)_upstream_proxy_protocol\s*=\s*haproxy\b"
_OF_ONE = re.compile(r"(?P<port>[^\s/'\"]+)/inet/" + _SETTING)
_OPTION = re.compile(r"-o\s*['\"]?" + _SETTING)
_OF_ALL = re.compile(r"(?<![\w/])" + _SETTING)
_HEAD = re.compile(r"(?P<port>\d{1,5})\s+inet\s")
_LOOP = re.compile(r"\bfor\s+\w+\s+in\s+(?P<words>[^;]*)")
_PORT = re.compile(r"(?<![\w.])\d{2,5}(?![\w.])")
_DOVECOT = re.compile(r"\binet_listener\s+\S+\s*\{(?P<body>[^}]*)\}")
STOCK = {"postscreen": frozenset({25}), "smtpd": frozenset({25, 465, 587})}


@dataclass(frozen=True, slots=True)
class Listeners:
    """The ports that demand a header. ``whole`` is false when one was named by something that cannot be read here."""

    ports: frozenset[int] = frozenset()
    whole: bool = True

    def __bool__(self) -> bool:
        """Say whether anything at all was said of PROXY headers."""
        return bool(self.ports) or not self.whole


def listeners_in(texts: Iterable[str]) -> Listeners:
    """Read every text."""
    found = {port for text in texts for port in (*_postfix(text), *_dovecot(text))}
    return Listeners(frozenset(found - {0}), 0 not in found)


def _postfix(text: str) -> Iterator[int]:
    """Give the ports, and 0 for one that is written as a variable which no loop fills."""
    if "_upstream_proxy_protocol" not in text:
        return
    head, loop = 0, frozenset[int]()
    for line in (line for line in text.splitlines() if not line.lstrip().startswith("#")):
        if found := _LOOP.search(line):
            loop = frozenset(map(int, _PORT.findall(found["words"])))
        if found := _HEAD.match(line):
            head = int(found["port"])
        if found := _OF_ONE.search(line):
            yield from [int(found["port"])] if found["port"].isdecimal() else (loop or {0})
        elif _OPTION.search(line):
            yield head
        elif found := _OF_ALL.search(line):
            yield from STOCK[found["daemon"]]


def _dovecot(text: str) -> Iterator[int]:
    for found in _DOVECOT.finditer(text):
        settings = dict(re.findall(r"^\s*(\w+)\s*=\s*(\S+)", found["body"], re.MULTILINE))
        if settings.get("haproxy") == "yes":
            yield int(settings["port"]) if settings.get("port", "").isdecimal() else 0

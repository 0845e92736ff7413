"""Spellings that mean the same: durations, sets, networks, paths, policies. Pure; may import only the standard library."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: Any) -> Any:
    """Read a duration as Vault writes it: a number of seconds, ``90``, ``30m``, ``1h30m`` or ``2d``."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.isdigit():
        return int(text)
    if not re.fullmatch(r"(\d+[dhms])+", text):
        raise ValueError(f"{value!r} is not a duration; write seconds or a text such as 30m, 1h30m, 2d")
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", text))


def as_set(value: Any) -> Any:
    """Sort a list that means a set; accept the comma form and the null that Vault also speaks."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    return tuple(sorted({str(item) for item in value})) if isinstance(value, list | tuple | set) else value


def as_cidrs(value: Any) -> Any:
    """Write networks as Vault reads them back: a single host without its mask."""
    networks = [ipaddress.ip_network(item, strict=False) for item in as_set(value)]
    return as_set([str(net.network_address) if net.num_addresses == 1 else str(net) for net in networks])


def tidy(text: str) -> str:
    """Trim blanks at line ends and blank lines round a policy: spelling, not meaning."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def references(schema: Any) -> Iterator[str]:
    """Yield every ``$ref`` of a JSON Schema."""
    if isinstance(schema, Mapping):
        yield from (ref for ref in (schema.get("$ref"), schema.get("$dynamicRef")) if isinstance(ref, str))
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from references(item)


def plain_path(value: str) -> str:
    """Take the slashes off both ends. Raises ValueError for an empty path or an empty, ``.`` or ``..`` part."""
    path = value.strip().strip("/")
    if not path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{value!r} is not a path; write it as secret/platform")
    return path

"""How Go prints things: what ``fmt`` writes for decoded JSON, structs as JSON documents, and the unified difference of two of them."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

Struct = Mapping[str, tuple[str, Any]]
"""Go's fields in their order: JSON name -> (Go name, zero value). A zero value that is a str names another struct: ``=Name``, or a list
of them: ``[Name``; a trailing ``!`` means the struct is held by value and is printed even when there is nothing in it; ``""`` is an empty
string."""


def plain(value: Any) -> str:
    """Print as ``%v``: ``map[a:1]``, ``[x y]``, ``true``."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{plain(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(plain(item) for item in value) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else _number(value) if isinstance(value, float) else str(value)


def syntax(value: Any) -> str:
    """Print as ``%#v``: ``map[string]interface {}{"a":1}``."""
    if isinstance(value, dict):
        return "map[string]interface {}{" + ", ".join(f"{quoted(key)}:{syntax(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(syntax(item) for item in value) + "}"
    if value is None:
        return "interface {}(nil)"
    return quoted(value) if isinstance(value, str) else plain(value)


def strings(values: list[str]) -> str:
    """Print a ``[]string`` as ``%#v``."""
    return "[]string{" + ", ".join(quoted(value) for value in values) + "}"


def type_name(value: Any) -> str:
    """Print the type of decoded JSON as ``%T``."""
    names = {bool: "bool", int: "int64", float: "float64", str: "string", list: "[]interface {}", dict: "map[string]interface {}"}
    return names.get(type(value), "<nil>")


def quoted(text: str) -> str:
    """Print a string as ``%q``."""
    return json.dumps(text, ensure_ascii=False)


def _number(value: float) -> str:
    """Print a float as ``%v`` does: the shortest form, with an exponent from 21 digits on."""
    exponent = f"{value:e}".partition("e")[2]
    if -5 < int(exponent) < 21:
        return repr(value) if value != int(value) else str(int(value))
    mantissa, _, power = repr(value).partition("e")
    return f"{mantissa}e{power}" if power else repr(value)


def document(value: Any, struct: str, structs: Mapping[str, Struct]) -> Any:
    """Give a manifest's part as the JSON of Go's own struct, all fields in order; a struct that is not in ``structs`` is given as it is."""
    fields = structs.get(struct)
    if fields is None or not isinstance(value, dict):
        return value
    return {name: _field(value.get(key), zero, structs) for key, (name, zero) in fields.items()}


def _field(value: Any, zero: Any, structs: Mapping[str, Struct]) -> Any:
    if not isinstance(zero, str) or zero[:1] not in ("=", "["):
        return zero if value is None else value
    name = zero[1:].removesuffix("!")
    if zero[0] == "[":
        return [document(item, name, structs) for item in value] if value else None
    if value is None and not zero.endswith("!"):
        return None
    return document(value or {}, name, structs)


def compact(value: Any) -> str:
    """Write a document as ``json.Marshal`` does."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def difference(before: Any, after: Any) -> str:
    """Write the unified difference of two documents, indented by one, with three lines round each change and no names of files."""
    old, new = (json.dumps(one, indent=1, ensure_ascii=False).splitlines(keepends=True) for one in (before, after))
    return "".join(list(difflib.unified_diff(old, new, n=3))[2:])

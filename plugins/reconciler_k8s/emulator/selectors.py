"""Label and field selectors of lists and watches."""

import re
from collections.abc import Callable
from typing import TypeAlias

from reconciler.resource import JSONObject

Match: TypeAlias = Callable[[JSONObject], bool]

_SET = re.compile(r"^(?P<key>[\w./-]+)\s+(?P<op>in|notin)\s+\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[\w./-]+)\s*(?P<op>==|!=|=)\s*(?P<value>[\w.-]*)$")
_EXISTS = re.compile(r"^(?P<no>!)?(?P<key>[\w./-]+)$")


class SelectorError(Exception):
    """The selector cannot be read."""


def matcher(labels: str, fields: str) -> Match:
    """Make the filter of both selectors."""
    wanted = [_label(part.strip()) for part in _split(labels) if part.strip()]
    places = [_field(part.strip()) for part in fields.split(",") if part.strip()]
    return lambda whole: all(one(whole["metadata"].get("labels") or {}) for one in wanted) and all(one(whole) for one in places)


def _split(text: str) -> list[str]:
    return re.split(r",(?![^(]*\))", text)


def _label(text: str) -> Callable[[dict[str, str]], bool]:
    if match := _SET.match(text):
        key, values = match["key"], {one.strip() for one in match["values"].split(",")}
        return (lambda labels: labels.get(key) in values) if match["op"] == "in" else (lambda labels: labels.get(key) not in values)
    if match := _EQUAL.match(text):
        key, value = match["key"], match["value"]
        return (lambda labels: labels.get(key) != value) if match["op"] == "!=" else (lambda labels: labels.get(key) == value)
    if match := _EXISTS.match(text):
        key = match["key"]
        return (lambda labels: key not in labels) if match["no"] else (lambda labels: key in labels)
    raise SelectorError(f'unable to parse requirement: found \'{text}\', expected: identifier, "!", "in", "notin", "=", "=="')


def _field(text: str) -> Match:
    key, operator, value = re.split(r"(!=|==|=)", text, maxsplit=1) if "=" in text else (text, "=", "")
    names = {"metadata.name": "name", "metadata.namespace": "namespace"}
    if key not in names:
        raise SelectorError(f'"{key}" is not a known field selector: only "metadata.name", "metadata.namespace"')
    place = names[key]
    if operator == "!=":
        return lambda whole: whole["metadata"].get(place, "") != value
    return lambda whole: bool(whole["metadata"].get(place, "") == value)

"""Label and field selectors of lists and watches, read as the server's own parser reads them."""

import re
from collections.abc import Callable
from typing import TypeAlias

from reconciler.resource import JSONObject

Match: TypeAlias = Callable[[JSONObject], bool]
Labels: TypeAlias = dict[str, str]

_TOKEN = re.compile(r"\s*(==|!=|[=!,()<>]|[^\s=!,()<>]+)")
_SYMBOLS = frozenset({"=", "==", "!=", "!", ",", "(", ")", "<", ">"})
_OPERATORS = ("in", "notin", "=", "==", "!=", "gt", "lt")
END = ""
"""The token after the last."""


class SelectorError(Exception):
    """The selector cannot be read."""


def matcher(labels: str, fields: str) -> Match:
    """Make the filter of both selectors."""
    wanted = _requirements(labels)
    places = [_field(part.strip()) for part in fields.split(",") if part.strip()]
    return lambda whole: all(one(whole["metadata"].get("labels") or {}) for one in wanted) and all(one(whole) for one in places)


def _requirements(text: str) -> list[Callable[[Labels], bool]]:
    tokens, found = _TOKEN.findall(text), list[Callable[[Labels], bool]]()
    tokens.reverse()
    while tokens:
        if tokens[-1] in _SYMBOLS and tokens[-1] != "!":
            raise SelectorError(f"found '{tokens[-1]}', expected: !, identifier, or 'end of string'")
        try:
            found.append(_requirement(tokens))
        except SelectorError as error:
            raise SelectorError(f"unable to parse requirement: {error}") from None
        separator = _take(tokens)
        if separator not in (END, ","):
            raise SelectorError(f"found '{separator}', expected: ',' or 'end of string'")
        if separator == "," and not tokens:
            raise SelectorError("found '', expected: identifier after ','")
    return found


def _take(tokens: list[str]) -> str:
    return tokens.pop() if tokens else END


def _identifier(tokens: list[str]) -> str:
    token = _take(tokens)
    if token in _SYMBOLS or token == END:
        raise SelectorError(f"found '{token}', expected: identifier")
    return token


def _requirement(tokens: list[str]) -> Callable[[Labels], bool]:
    absent = tokens[-1] == "!"
    if absent:
        tokens.pop()
    key = _identifier(tokens)
    if absent:
        return lambda labels: key not in labels
    if not tokens or tokens[-1] == ",":
        return lambda labels: key in labels
    operator = _take(tokens)
    if operator in ("in", "notin"):
        values = _values(tokens)
        return (lambda labels: labels.get(key) in values) if operator == "in" else (lambda labels: labels.get(key) not in values)
    if operator in ("=", "==", "!="):
        value = "" if not tokens or tokens[-1] == "," else _identifier(tokens)
        return (lambda labels: labels.get(key) != value) if operator == "!=" else (lambda labels: labels.get(key) == value)
    if operator in ("<", ">"):
        bound, less = int(_identifier(tokens)), operator == "<"
        return lambda labels: labels.get(key, "").isdigit() and (int(labels[key]) < bound) is less and int(labels[key]) != bound
    raise SelectorError(f"found '{operator}', expected: {', '.join(_OPERATORS)}")


def _values(tokens: list[str]) -> set[str]:
    opening = _take(tokens)
    if opening != "(":
        raise SelectorError(f"found '{opening}' expected: '('")
    values = set[str]()
    while (word := _take(tokens)) != ")":
        if word == END:
            raise SelectorError("found '', expected: ',', ')' or identifier")
        if word != ",":
            values.add(word)
    return values or {""}


def _field(text: str) -> Match:
    key, operator, value = re.split(r"(!=|==|=)", text, maxsplit=1) if "=" in text else (text, "=", "")
    names = {"metadata.name": "name", "metadata.namespace": "namespace"}
    if key not in names:
        raise SelectorError(f'"{key}" is not a known field selector: only "metadata.name", "metadata.namespace"')
    place = names[key]
    if operator == "!=":
        return lambda whole: whole["metadata"].get(place, "") != value
    return lambda whole: bool(whole["metadata"].get(place, "") == value)

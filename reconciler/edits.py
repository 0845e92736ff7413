"""Changes one value inside a YAML file and leaves every other byte as it is: comments, order, quotes, blank lines and line ends.

Works on the text between the marks of the parser, because no writer of YAML gives back what it read. Each change is proved by reading the
result: it must mean the old data with that one change. Pure; knows YAML and nothing of resources.
"""

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from reconciler.documents import read

Path: TypeAlias = tuple[str | int, ...]
GONE = object()
"""Stands for a value that is to be taken out."""
END = -1
"""As the last part of a path: the place behind the last item of a list."""
_NUMBERLIKE = re.compile(r"[-+]?[0-9.][0-9a-fA-FxXoOeE_.:+-]*")
_DOTTED = re.compile(r"\d+(\.\d+){3}(/\d+)?")


class CannotEdit(ValueError):
    """The file is written in a way that a value in it cannot be changed alone. Says why."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A node in its file. ``key`` is the node of its key in a mapping; ``parent`` is None for the root; ``flow``: it stands in brackets."""

    node: yaml.Node
    parent: yaml.CollectionNode | None = None
    key: yaml.Node | None = None
    flow: bool = False


def edit(text: str, index: int, path: Path, value: Any) -> str:
    """Set ``path`` in the document number ``index`` (from 0) to ``value``, or take it out when that is GONE. Raises CannotEdit."""
    before, problems = read("", text.encode())
    if path[-1:] == (END,):
        data = next((one.data for one in before if one.index == index), None)
        path = (*path[:-1], len(_at(data, path[:-1]) or ()))
    changed = _edit(text, index, path, value)
    after, faults = read("", changed.encode())
    if problems or faults:
        raise CannotEdit("the file cannot be read after the change; change it by hand")
    wanted = [deepcopy(one.data) for one in before]
    position = next((number for number, one in enumerate(before) if one.index == index), -1)
    wanted[position] = with_value(wanted[position], path, value)
    if [one.data for one in after] != wanted:
        raise CannotEdit("the change would touch more than this one value; change it by hand")
    return changed


def _at(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def with_value(data: Any, path: Path, value: Any) -> Any:
    """Give nested data in which ``path`` is ``value``, mappings made where there were none; or is not there, when that is GONE."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        items = list(data)
        if not rest and value is GONE:
            return [*items[:first], *items[first + 1 :]]
        if first == len(items):
            return [*items, with_value(None, rest, value)]
        items[first] = with_value(items[first], rest, value)
        return items
    known = dict(data) if isinstance(data, dict) else {}
    if not rest and value is GONE:
        known.pop(first, None)
        return known
    known[first] = with_value(known.get(first), rest, value)
    return known


def _edit(text: str, index: int, path: Path, value: Any) -> str:
    root = _document(text, index)
    shared = _shared(root)
    place, rest = _descend(root, path)
    if any(id(one) in shared for one in _chain(root, path)) or _holds(place.node, shared):
        raise CannotEdit("it is an anchor, or comes from one, that other places share; change it by hand")
    writer = _Writer(text)
    if value is GONE:
        return text if rest else writer.removed(place, _document(text, index), path)
    if not rest:
        return writer.replaced(place, value)
    if isinstance(place.node, yaml.MappingNode) and isinstance(rest[0], str):
        return writer.with_key(place, rest[0], _nested(rest[1:], value))
    if isinstance(place.node, yaml.SequenceNode) and rest == (len(place.node.value),):
        return writer.with_item(place, value)
    return writer.replaced(place, _nested(rest, value))


def _nested(path: Path, value: Any) -> Any:
    for part in reversed(path):
        value = {part: value} if isinstance(part, str) else [value]
    return value


def _document(text: str, index: int) -> yaml.Node:
    for number, node in enumerate(yaml.compose_all(text, Loader=yaml.SafeLoader)):
        if number == index and node is not None:
            return node
    raise CannotEdit(f"there is no document number {index + 1}")


def _step(node: yaml.Node, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode) and key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None


def _descend(root: yaml.Node, path: Path) -> tuple[_Place, Path]:
    """Walk as far as the file goes; give where that is and what is left of the path."""
    place = _Place(root, flow=bool(getattr(root, "flow_style", False)))
    for number, part in enumerate(path):
        found = _step(place.node, part)
        if found is None:
            return place, path[number:]
        key, node = found
        assert isinstance(place.node, yaml.CollectionNode)
        place = _Place(node, place.node, key, place.flow or bool(place.node.flow_style))
    return place, ()


def _chain(root: yaml.Node, path: Path) -> list[yaml.Node]:
    nodes = [root]
    for part in path:
        found = _step(nodes[-1], part)
        if found is None:
            break
        nodes.append(found[1])
    return nodes


def _shared(root: yaml.Node) -> set[int]:
    """Find the nodes that stand in more than one place."""
    counts: dict[int, int] = {}

    def count(node: yaml.Node) -> None:
        counts[id(node)] = counts.get(id(node), 0) + 1
        if counts[id(node)] == 1 and isinstance(node, yaml.CollectionNode):
            for one in _children(node):
                count(one)

    count(root)
    return {node for node, number in counts.items() if number > 1}


def _children(node: yaml.CollectionNode) -> list[yaml.Node]:
    return [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else list(node.value)


def _holds(node: yaml.Node, shared: set[int]) -> bool:
    inner = _children(node) if isinstance(node, yaml.CollectionNode) else []
    return id(node) in shared or any(_holds(one, shared) for one in inner)


class _Writer:
    """Cuts and joins one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.newline = "\r\n" if "\r\n" in text else "\n"

    def replaced(self, place: _Place, value: Any) -> str:
        """Put another value where a node stands."""
        start, end = place.node.start_mark.index, self._end(place.node)
        plain = isinstance(place.node, yaml.ScalarNode) and not isinstance(value, dict | list) and place.node.style not in ("|", ">")
        if isinstance(place.node, yaml.CollectionNode) and place.node.flow_style and place.node.value:
            return self.text[:start] + flow(value) + self.text[end:]
        if place.key is not None and not plain:
            start = self._after_colon(place.key)
            return self.text[:start] + self._as_value(value, place) + self.text[end:]
        style = str(place.node.style or "") if isinstance(place.node, yaml.ScalarNode) else ""
        column = place.node.start_mark.column
        written = flow(value, style) if place.flow or not isinstance(value, dict | list) else self._block(value, column)
        space = " " if start == end and not self.text[start - 1 : start].isspace() else ""
        return self.text[:start] + space + written + self.text[end:]

    def with_key(self, place: _Place, key: str, value: Any) -> str:
        """Add a key at the end of a mapping."""
        node = place.node
        assert isinstance(node, yaml.MappingNode)
        if node.flow_style:
            entry = f"{flow(key)}: {flow(value)}"
            end = self._end(node.value[-1][1]) if node.value else node.start_mark.index + 1
            return self.text[:end] + (", " if node.value else "") + entry + self.text[end:]
        column = node.start_mark.column
        return self._line_after(self._end(node), column, flow(key) + ":" + self._as_value(value, place, column))

    def with_item(self, place: _Place, value: Any) -> str:
        """Add an item at the end of a list."""
        node = place.node
        assert isinstance(node, yaml.SequenceNode)
        if node.flow_style:
            end = self._end(node.value[-1]) if node.value else node.start_mark.index + 1
            return self.text[:end] + (", " if node.value else "") + flow(value) + self.text[end:]
        column = node.start_mark.column
        return self._line_after(self._end(node), column, "- " + self._block(value, column + 2))

    def removed(self, place: _Place, root: yaml.Node, path: Path) -> str:
        """Take out a key or an item; its collection stays, even when it is empty then."""
        above, _ = _descend(root, path[:-1])
        assert isinstance(above.node, yaml.CollectionNode)
        pairs = [(pair[0], pair[1]) if isinstance(above.node, yaml.MappingNode) else (pair, pair) for pair in above.node.value]
        number = next(number for number, (_, node) in enumerate(pairs) if node.start_mark.index == place.node.start_mark.index)
        if len(pairs) == 1:
            return self.replaced(above, {} if isinstance(above.node, yaml.MappingNode) else [])
        start, end = pairs[number][0].start_mark.index, self._end(pairs[number][1])
        if above.node.flow_style:
            cut = (start, pairs[number + 1][0].start_mark.index) if number + 1 < len(pairs) else (self._end(pairs[number - 1][1]), end)
            return self.text[: cut[0]] + self.text[cut[1] :]
        return self._without_lines(start, end, number, pairs, isinstance(above.node, yaml.SequenceNode))

    def _without_lines(self, start: int, end: int, number: int, pairs: Sequence[tuple[yaml.Node, yaml.Node]], item: bool) -> str:
        line = self.text.rfind("\n", 0, start) + 1
        before = self.text[line:start]
        if before.strip() not in (("-",) if item else ("",)):
            if number + 1 < len(pairs) and not item:  # the first key behind a dash: the next one takes its place
                return self.text[:start] + self.text[pairs[number + 1][0].start_mark.index :]
            raise CannotEdit("it stands in a line with something else; change it by hand")
        stop = self.text.find("\n", end)
        return self.text[:line] + (self.text[stop + 1 :] if stop >= 0 else "")

    def _line_after(self, end: int, column: int, written: str) -> str:
        stop = self.text.find("\n", end)
        stop = len(self.text) if stop < 0 else stop - (self.text[stop - 1 : stop] == "\r")
        return self.text[:stop] + self.newline + " " * column + written + self.text[stop:]

    def _as_value(self, value: Any, place: _Place, column: int | None = None) -> str:
        """Write what comes behind the colon of a key that begins at ``column``."""
        if column is None:
            assert place.key is not None
            column = place.key.start_mark.column
        if place.flow or bool(getattr(place.parent, "flow_style", False)):
            return " " + flow(value)
        if isinstance(value, dict | list) and value:
            return self.newline + " " * (column + 2) + self._block(value, column + 2)
        if isinstance(value, str) and _literal(value):
            lines = value.removesuffix("\n").split("\n")
            pad = " " * self._indentation(place, column)
            mark = "|" if value.endswith("\n") else "|-"
            return f" {mark}{self.newline}" + self.newline.join(pad + line if line else "" for line in lines)
        return " " + flow(value)

    def _indentation(self, place: _Place, column: int) -> int:
        """Give how far the lines of a block text are set in: as far as they were."""
        if isinstance(place.node, yaml.ScalarNode) and place.node.style in ("|", ">"):
            body = self.text[place.node.start_mark.index : self._end(place.node)].split("\n")[1:]
            widths = [len(line) - len(line.lstrip(" ")) for line in body if line.strip()]
            return min(widths, default=column + 2)
        return column + 2

    def _block(self, value: Any, column: int) -> str:
        """Write nested data in lines; the first begins where the cursor is, the others at ``column``."""
        if not isinstance(value, dict | list) or not value:
            return flow(value)
        pad = self.newline + " " * column
        if isinstance(value, list):
            return pad.join("- " + self._block(item, column + 2) for item in value)
        node = _Place(yaml.ScalarNode("", ""))
        return pad.join(flow(str(key)) + ":" + self._as_value(item, node, column) for key, item in value.items())

    def _after_colon(self, key: yaml.Node) -> int:
        position = self.text.find(":", key.end_mark.index)
        if position < 0 or self.text[key.end_mark.index : position].strip():
            raise CannotEdit("its key is written in an unusual way; change it by hand")
        return position + 1

    def _end(self, node: yaml.Node) -> int:
        """Give where a node really ends; the parser counts blank lines and comments behind a block as a part of it."""
        if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            return self._end(_children(node)[-1])
        end = int(node.end_mark.index)
        if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
            start = int(node.start_mark.index)
            return start + len(self.text[start:end].rstrip())
        return end


def _literal(value: str) -> bool:
    """Say whether a text of several lines can be written as a block: nothing at its ends or in its lines that a block would lose."""
    lines = value.removesuffix("\n").split("\n")
    return len(lines) > 1 and not value.endswith("\n\n") and lines[0][:1] not in (" ", "") and all(
        line == line.rstrip() and line.replace("\t", "").isprintable() and not line.startswith("\t") for line in lines
    )  # fmt: skip


def flow(value: Any, style: str = "") -> str:
    """Write a value in one line; a text keeps the quotes that stood there."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{flow(str(key))}: {flow(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(flow(item) for item in value) + "]"
    text = str(value)
    if style == "'" and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return text if not style and _plain(text) else json.dumps(text, ensure_ascii=not text.isprintable())


def _plain(text: str) -> bool:
    """Say whether a text may stand without quotes everywhere, also for readers that know other words for numbers and truth."""
    if not re.fullmatch(r"[A-Za-z0-9_./][A-Za-z0-9_./@+=%~ :-]*", text) or text.endswith((" ", ":")) or ": " in text or " #" in text:
        return False
    if _NUMBERLIKE.fullmatch(text) and not _DOTTED.fullmatch(text):
        return False
    return isinstance(yaml.safe_load(text), str) and text.lower() not in ("y", "n", "null", ".inf", ".nan")

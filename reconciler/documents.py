"""Bytes of a file -> YAML documents, each with the line it starts at; strict where YAML is loose, and safe against hostile input.

Pure: bytes in, data out. Knows YAML and nothing of resources.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import yaml

from reconciler.errors import Problem

MAX_BYTES = 1_048_576
MAX_NODES = 200_000
MAX_DEPTH = 60
SAFE_DEPTH = 500


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its data, its file, the line it starts at (from 1) and its number in the file (from 0)."""

    data: dict[str, Any]
    file: str
    line: int
    index: int


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes tools read it: no dates, no base-60 numbers, no duplicate keys."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._checked: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse a key that is written twice, which YAML would silently resolve to the last one; then merge what ``<<`` names."""
        if id(node) not in self._checked:
            self._checked.add(id(node))  # once merged, a mapping rightly holds what it overrides
            _refuse_twins(node)
        super().flatten_mapping(node)


def _refuse_twins(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is written twice", key.start_mark)
            seen.add(key.value)


_UNWANTED = ("tag:yaml.org,2002:timestamp",)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _UNWANTED]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    """Read an integer; ``22:22`` stays a text, because nobody who writes it means 1342."""
    return node.value if ":" in node.value else loader.construct_yaml_int(node)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float | str:
    return node.value if ":" in node.value else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def read(file: str, content: bytes) -> tuple[list[Document], list[Problem]]:
    """Read every document of a file. A file with a problem gives no documents, so that half a file is never taken for the whole."""
    if len(content) > MAX_BYTES:
        return [], [Problem(file, 0, f"is {len(content)} bytes long; the limit is {MAX_BYTES}; split it")]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return [], [Problem(file, content[: error.start].count(b"\n") + 1, "is not UTF-8; save it as UTF-8")]
    try:
        return _read(file, text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return [], [Problem(file, mark.line + 1 if mark else 0, _first_line(error))]
    except (yaml.YAMLError, ValueError) as error:
        return [], [Problem(file, 0, f"is not YAML: {str(error).splitlines()[0]}")]


def _first_line(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part) or "is not YAML"


class _TooDeep(yaml.MarkedYAMLError):
    """Nesting that no person writes."""

    def __init__(self, mark: Any) -> None:
        super().__init__(problem=f"is nested deeper than {MAX_DEPTH} levels", problem_mark=mark)


def _refuse_abyss(text: str) -> None:
    """Refuse nesting that would overflow the stack of the native composer, which kills the process, before it is composed.

    Only where brackets and leading dashes leave room for so much of it are the events walked, which takes as long as reading.
    """
    deepest = max((len(prefix) for prefix in re.findall(r"^[ \t?:-]+", text, re.MULTILINE)), default=0)
    if text.count("[") + text.count("{") + 2 * deepest < SAFE_DEPTH:
        return
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise _TooDeep(event.start_mark)


def _read(file: str, text: str) -> tuple[list[Document], list[Problem]]:
    _refuse_abyss(text)
    documents: list[Document] = []
    problems: list[Problem] = []
    loader = _Loader(text)
    hostile = "*" in text and "&" in text
    try:
        index = 0
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            line = node.start_mark.line + 1
            _limit_depth(node, MAX_DEPTH)
            if hostile and _expanded(node, {}) > MAX_NODES:
                return [], [Problem(file, line, f"its aliases expand to more than {MAX_NODES} values; write them out")]
            data = loader.construct_document(node)
            if isinstance(data, dict):
                documents.append(Document(data, file, line, index))
            elif data is not None:
                problems.append(Problem(file, line, f"a document must be a mapping, this one is a {type(data).__name__}"))
            index += 1
    finally:
        loader.dispose()
    return ([], problems) if problems else (documents, [])


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair if isinstance(one, yaml.CollectionNode)]
    return [one for one in node.value if isinstance(one, yaml.CollectionNode)] if isinstance(node, yaml.SequenceNode) else []


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values that a node stands for when every alias is written out."""
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # an alias inside itself never ends
        here = len(node.value) if isinstance(node, yaml.CollectionNode) else 0
        known[id(node)] = 1 + here + sum(_expanded(child, known) for child in _children(node))
    return known[id(node)]


def _limit_depth(node: yaml.Node, left: int, seen: set[int] | None = None) -> None:
    """Refuse a node that is nested too deep. Each is entered once: what an alias repeats is counted by ``_expanded``."""
    seen = set() if seen is None else seen
    if left == 0:
        raise _TooDeep(node.start_mark)
    if id(node) not in seen:
        seen.add(id(node))
        for child in _children(node):
            _limit_depth(child, left - 1, seen)


def line_of(content: bytes, index: int, path: Sequence[str | int]) -> int:
    """Find the line (from 1) of ``path`` in the document number ``index``, or of its nearest parent. For error messages only."""
    nodes = _nodes(content)
    return _descend(nodes[index], path) if index < len(nodes) else 0


@lru_cache(maxsize=2)
def _nodes(content: bytes) -> list[yaml.Node]:
    """Keep the nodes of the file that is being complained about, because it rarely has one problem only."""
    return list(yaml.compose_all(content.decode("utf-8"), Loader=yaml.CSafeLoader))


def _descend(node: yaml.Node, path: Sequence[str | int]) -> int:
    line = node.start_mark.line + 1
    for part in path:
        child = None
        if isinstance(node, yaml.MappingNode):
            child = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            child = (node.value[part], node.value[part])
        if child is None:
            break
        line, node = child[0].start_mark.line + 1, child[1]
    return line


def nameless(kind: str, data: Mapping[str, Any]) -> tuple[list[str], str]:
    """Say where and what is wrong with a document that has no name, in the words of what its writer may have meant."""
    if kind.endswith("List") and "items" in data:
        return ["kind"], f"a {kind} is no resource; write its items as documents of their own, --- between them"
    metadata = data.get("metadata")
    if isinstance(metadata, dict) and "generateName" in metadata:
        return ["metadata", "generateName"], f"{kind} needs metadata.name; a generated name would be another object at each apply"
    return ["metadata", "name"], f"{kind} needs metadata.name, a text"

"""Bytes of a file -> YAML documents, each with the line it starts at; strict where YAML is loose, and safe against hostile input.

Pure: bytes in, data out. Knows YAML and nothing of resources.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from reconciler.errors import Problem

MAX_BYTES = 1_048_576
MAX_NODES = 200_000
MAX_DEPTH = 60


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its data, its file, the line it starts at (from 1) and its number in the file (from 0)."""

    data: dict[str, Any]
    file: str
    line: int
    index: int


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes tools read it: no dates, no base-60 numbers, no duplicate keys."""


_UNWANTED = ("tag:yaml.org,2002:timestamp",)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _UNWANTED]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Iterator[dict[Any, Any]]:
    """Build a mapping; refuse a key that is written twice, which YAML would silently resolve to the last one."""
    result: dict[Any, Any] = {}
    yield result
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else id(key_node)
        if key in seen and key != "<<":
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is written twice", key_node.start_mark)
        seen.add(key)
    result.update(loader.construct_mapping(node, deep=False))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    """Read an integer; ``22:22`` stays a text, because nobody who writes it means 1342."""
    return node.value if ":" in node.value else loader.construct_yaml_int(node)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float | str:
    return node.value if ":" in node.value else loader.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
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
    except RecursionError:
        return [], [Problem(file, 0, f"is nested deeper than {MAX_DEPTH} levels")]


def _first_line(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part) or "is not YAML"


def _read(file: str, text: str) -> tuple[list[Document], list[Problem]]:
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
            if hostile and _expanded(node, {}, 0) > MAX_NODES:
                return [], [Problem(file, line, f"its aliases expand to more than {MAX_NODES} values; write them out")]
            data = loader.construct_document(node)
            _limit_depth(data, MAX_DEPTH)
            if isinstance(data, dict):
                documents.append(Document(data, file, line, index))
            elif data is not None:
                problems.append(Problem(file, line, f"a document must be a mapping, this one is a {type(data).__name__}"))
            index += 1
    finally:
        loader.dispose()
    return ([], problems) if problems else (documents, [])


def _expanded(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Count the values that a node stands for when every alias is written out."""
    if depth > MAX_DEPTH:
        raise RecursionError
    if id(node) not in known:
        known[id(node)] = MAX_NODES + 1  # an alias inside itself never ends
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_expanded(child, known, depth + 1) for child in children)
    return known[id(node)]


def _limit_depth(value: Any, left: int) -> None:
    if left == 0:
        raise RecursionError
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            if isinstance(child, dict | list):
                _limit_depth(child, left - 1)


def line_of(content: bytes, index: int, path: Sequence[str | int]) -> int:
    """Find the line (from 1) of ``path`` in the document number ``index``, or of its nearest parent. For error messages only."""
    for number, node in enumerate(yaml.compose_all(content.decode("utf-8"), Loader=yaml.CSafeLoader)):
        if number == index and node is not None:
            return _descend(node, path)
    return 0


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

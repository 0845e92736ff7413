"""Server-side apply: field sets, merge, ownership and conflicts, after the rules of sigs.k8s.io/structured-merge-diff.

A field set is a frozenset of paths; a path is a tuple of FieldsV1 names (``f:name``, ``k:{...}``, ``v:...``). A path that stands in the
set beside longer ones is written as ``.`` in FieldsV1.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

from reconciler.resource import JSONObject
from reconciler_k8s.emulator import gotext
from reconciler_k8s.emulator.shapes import ANY, Shape

Path: TypeAlias = tuple[str, ...]
Paths: TypeAlias = frozenset[Path]


class SchemaError(Exception):
    """The body does not fit the type; the message is the server's."""


def element_name(item: Any, shape: Shape) -> str:
    """Give the FieldsV1 name of a list item."""
    if not shape.keys:
        return "v:" + json.dumps(item, separators=(",", ":"), ensure_ascii=False)
    defaults = shape.items.defaults
    keys = {key: item.get(key, defaults.get(key)) for key in sorted(shape.keys) if key in item or key in defaults}
    return "k:" + json.dumps(keys, separators=(",", ":"), ensure_ascii=False)


def is_leaf(shape: Shape, value: Any) -> bool:
    """Say whether a value is owned as a whole."""
    if isinstance(value, dict):
        return shape.atomic or shape.sort == "scalar"
    if isinstance(value, list):
        return shape.keys is None
    return True


def children(value: Any, shape: Shape) -> Iterator[tuple[str, Any, Shape]]:
    """Walk one level: (FieldsV1 name, value, type)."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield "f:" + key, item, shape.child(key) or ANY
    elif isinstance(value, list):
        for item in value:
            yield element_name(item, shape), item, shape.items


def fields_of(value: Any, shape: Shape, path: Path = ()) -> Iterator[Path]:
    """List the fields that an applied configuration owns."""
    if is_leaf(shape, value):
        yield path
        return
    listed = isinstance(value, list) or shape.sort in ("map", "any")
    for name, item, below in children(value, shape):
        here = (*path, name)
        yield from fields_of(item, below, here)
        named = name[2:] in shape.fields
        if item is None or item == {} or (listed and not named) or (shape.open and not named):
            yield here


@dataclass(slots=True)
class Comparison:
    """What differs between two objects."""

    added: set[Path]
    modified: set[Path]
    removed: set[Path]


def compare(old: Any, new: Any, shape: Shape) -> Comparison:
    """Compare two objects field by field; an object that appears or goes is named with everything below it."""
    result = Comparison(set(), set(), set())
    _compare(old, new, shape, (), result)
    return result


_GONE = object()


def _compare(old: Any, new: Any, shape: Shape, path: Path, result: Comparison) -> None:
    if old is None and isinstance(new, dict | list):
        old = type(new)()
    some = new if old is _GONE else old
    empty = all(side is _GONE or side in ({}, []) for side in (old, new))
    nested = all(side is _GONE or isinstance(side, type(some)) for side in (old, new))
    if is_leaf(shape, some) or empty or not nested:
        if old is _GONE:
            result.added.add(path)
        elif new is _GONE:
            result.removed.add(path)
        elif old != new:
            result.modified.add(path)
        return
    before = {} if old is _GONE else {name: (item, below) for name, item, below in children(old, shape)}
    after = {} if new is _GONE else {name: (item, below) for name, item, below in children(new, shape)}
    for name in before.keys() | after.keys():
        below = (after.get(name) or before[name])[1]
        _compare(before[name][0] if name in before else _GONE, after[name][0] if name in after else _GONE, below, (*path, name), result)
    if path and old is _GONE:
        result.added.add(path)
    elif path and new is _GONE:
        result.removed.add(path)


def merge(live: Any, config: Any, shape: Shape) -> Any:
    """Lay an applied configuration over a live value."""
    if is_leaf(shape, config) or not isinstance(live, type(config)) or is_leaf(shape, live):
        return deepcopy(config)
    if isinstance(config, dict):
        result = dict(live)
        for key, item in config.items():
            if item is None and key in live:
                continue  # a null asks for nothing where there is something
            result[key] = merge(live[key], item, shape.child(key) or ANY) if key in live else deepcopy(item)
        return result
    return _merge_list(live, config, shape)


def _merge_list(live: list[Any], config: list[Any], shape: Shape) -> list[Any]:
    old = {element_name(item, shape): item for item in live}
    new = {element_name(item, shape): item for item in config}
    left, right, result = list(old), list(new), list[Any]()
    shared = [name for name in right if name in old]
    while left or right:
        if left and right and left[0] == right[0]:
            name = left.pop(0)
            right.pop(0)
            shared = [one for one in shared if one != name]
            result.append(merge(old[name], new[name], shape.items))
        elif left and left[0] in new and not (right and shared and shared[0] == left[0]):
            left.pop(0)  # it comes, or came, at the place that the configuration gives it
        elif left and left[0] not in new:
            result.append(old[left.pop(0)])
        else:
            name = right.pop(0)
            shared = [one for one in shared if one != name]
            result.append(merge(old[name], new[name], shape.items) if name in old else deepcopy(new[name]))
    return result


def with_parents(paths: Paths) -> set[Path]:
    """Add to a set every path that leads to one of its members."""
    return {path[:length] for path in paths for length in range(1, len(path) + 1)}


def remove(value: Any, shape: Shape, gone: set[Path], path: Path = ()) -> Any:
    """Give a value without what stands at ``gone``."""
    if is_leaf(shape, value):
        return value
    kept = [(name, remove(item, below, gone, (*path, name))) for name, item, below in children(value, shape) if (*path, name) not in gone]
    return {name[2:]: item for name, item in kept} if isinstance(value, dict) else [item for _, item in kept]


def encode(paths: Paths) -> JSONObject:
    """Write a set as FieldsV1."""
    root: JSONObject = {}
    for path in sorted(paths, key=len):
        node = root
        for name in path:
            node = node.setdefault(name, {})
    for path in paths:
        node = root
        for name in path:
            node = node[name]
        if node:
            node["."] = {}
    return _sorted(root)


def _sorted(node: JSONObject) -> JSONObject:
    return {key: _sorted(node[key]) for key in sorted(node)}


def decode(fields: JSONObject, path: Path = ()) -> Iterator[Path]:
    """Read FieldsV1."""
    for name, below in fields.items():
        if name == ".":
            yield path
        elif below:
            yield from decode(below, (*path, name))
        else:
            yield (*path, name)


def shown(path: Path) -> str:
    """Write a path as messages do: ``.spec.ports[port=25,protocol="TCP"].name``."""
    text = ""
    for name in path:
        if name.startswith("f:"):
            text += "." + name[2:]
        elif name.startswith("k:"):
            pairs = json.loads(name[2:])
            text += "[" + ",".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in pairs.items()) + "]"
        else:
            text += f"[={name[2:]}]"
    return text


def check(value: Any, shape: Shape, path: str = "") -> None:
    """Raise SchemaError when a value does not fit its type."""
    if value is None or shape.sort == "any":
        return
    if shape.sort == "scalar":
        _check_scalar(value, shape, path)
    elif shape.sort == "list":
        if not isinstance(value, list):
            raise SchemaError(f"{path}: expected list, got &{{{gotext.plain(value)}}}")
        _check_list(value, shape, path)
    else:
        if not isinstance(value, dict):
            raise SchemaError(f"{path}: expected map, got &{{{gotext.plain(value)}}}")
        for key, item in value.items():
            below = shape.child(key)
            if below is None:
                raise SchemaError(f"{path}.{key}: field not declared in schema")
            check(item, below, f"{path}.{key}")


def _check_scalar(value: Any, shape: Shape, path: str) -> None:
    if shape.scalar == "string" and not isinstance(value, str):
        raise SchemaError(f"{path}: expected string, got &value.valueUnstructured{{Value:{gotext.syntax(value)}}}")
    if shape.scalar == "numeric" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise SchemaError(f"{path}: expected numeric (int or float), got {gotext.type_name(value)}")
    if shape.scalar == "boolean" and not isinstance(value, bool):
        raise SchemaError(f"{path}: expected boolean, got &{{{gotext.plain(value)}}}")
    if shape.scalar == "untyped" and isinstance(value, dict | list):
        raise SchemaError(f"{path}: expected any scalar, got &{{{gotext.plain(value)}}}")


def _check_list(value: list[Any], shape: Shape, path: str) -> None:
    seen = set[str]()
    for index, item in enumerate(value):
        name = f"[{index}]"
        if shape.keys is not None and (isinstance(item, dict) or not shape.keys):
            own = element_name(item, shape)
            if own in seen:
                raise SchemaError(f"{path}: duplicate entries for key {shown((own,))}")
            seen.add(own)
            name = shown((own,))
        check(item, shape.items, path + name)

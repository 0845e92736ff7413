"""The three classic patches: JSON patch (RFC 6902), merge patch (RFC 7386) and Kubernetes' strategic merge."""

from copy import deepcopy
from typing import Any

from reconciler.resource import JSONObject, split_pointer
from reconciler_k8s.emulator.shapes import Shape


class PatchError(Exception):
    """The patch cannot be laid over the object."""


def merge_patch(live: Any, patch: Any) -> Any:
    """Apply a merge patch."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge(live: Any, patch: Any, shape: Shape) -> Any:
    """Apply a strategic merge patch: like a merge patch, but lists with keys are merged item by item."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    if patch.get("$patch") == "replace":
        return {key: deepcopy(value) for key, value in patch.items() if key != "$patch"}
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        below = shape.child(key) or Shape("any")
        if key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, list) and below.keys and isinstance(result.get(key), list):
            result[key] = _by_key(result[key], value, below)
        elif isinstance(value, list) and below.keys == () and isinstance(result.get(key), list):
            result[key] = [*result[key], *(one for one in value if one not in result[key])]
        else:
            result[key] = strategic_merge(result.get(key), value, below)
    return result


def _by_key(live: list[Any], patch: list[Any], shape: Shape) -> list[Any]:
    key = (shape.keys or ("name",))[0]
    result = list(live)
    for item in patch:
        place = next((number for number, one in enumerate(result) if one.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            result = [one for one in result if one.get(key) != item.get(key)]
        elif place is None:
            result.append(deepcopy(item))
        else:
            result[place] = strategic_merge(result[place], item, shape.items)
    return result


def json_patch(live: JSONObject, operations: Any) -> JSONObject:
    """Apply a JSON patch. Raises PatchError when a test fails or a path is not there."""
    result: Any = deepcopy(live)
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    for one in operations:
        path = split_pointer(one["path"])
        if one["op"] in ("move", "copy"):
            value = deepcopy(_at(result, split_pointer(one["from"])))
            if one["op"] == "move":
                _change(result, split_pointer(one["from"]), "remove", None)
            _change(result, path, "add", value)
        elif one["op"] == "test":
            if _at(result, path) != one.get("value"):
                raise PatchError(f"testing value {one['path']} failed: test failed")
        else:
            _change(result, path, one["op"], deepcopy(one.get("value")))
    found: JSONObject = result
    return found


def _at(value: Any, path: list[str]) -> Any:
    for part in path:
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            return None
    return value


def _change(root: Any, path: list[str], operation: str, value: Any) -> None:
    holder, last = _at(root, path[:-1]), path[-1]
    if isinstance(holder, dict):
        if operation != "add" and last not in holder:
            raise PatchError(f"{operation} operation does not apply: doc is missing key: /{'/'.join(path)}: missing value")
        if operation == "remove":
            del holder[last]
        else:
            holder[last] = value
    elif isinstance(holder, list):
        place = len(holder) if last == "-" else int(last)
        if operation == "add":
            holder.insert(place, value)
        elif place >= len(holder):
            raise PatchError(f"{operation} operation does not apply: index out of bounds")
        elif operation == "remove":
            del holder[place]
        else:
            holder[place] = value
    else:
        raise PatchError(f"{operation} operation does not apply: doc is missing path: /{'/'.join(path)}: missing value")

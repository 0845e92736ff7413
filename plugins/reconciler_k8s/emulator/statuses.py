"""Answers that say no, in the server's words."""

import json
from collections.abc import Sequence
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind
from reconciler_k8s.emulator.managers import FieldConflicts
from reconciler_k8s.emulator.merging import shown


class ApiError(Exception):
    """One failed request: its code and its Status body, or a plain text."""

    def __init__(self, code: int, message: str, reason: str = "", details: JSONObject | None = None, *, plain: bool = False) -> None:
        self.code, self.plain, self.text = code, plain, message
        self.body: JSONObject = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        if reason:
            self.body["reason"] = reason
        if details is not None:
            self.body["details"] = details
        self.body["code"] = code
        super().__init__(message)


Cause = tuple[str, str, str]
"""(reason, message, field)"""


def quoted(value: Any) -> str:
    """Print a value as messages do."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def invalid(field: str, value: Any, why: str) -> Cause:
    """Name a value that is not allowed."""
    return "FieldValueInvalid", f"Invalid value: {value}: {why}", field


def required(field: str, why: str = "") -> Cause:
    """Name a value that is missing."""
    return "FieldValueRequired", "Required value" + (f": {why}" if why else ""), field


def forbidden_field(field: str, why: str) -> Cause:
    """Name a value that may not be there, or may not change."""
    return "FieldValueForbidden", f"Forbidden: {why}", field


def unsupported(field: str, value: str, supported: Sequence[str]) -> Cause:
    """Name a value outside an enumeration."""
    return (
        "FieldValueNotSupported",
        f'Unsupported value: "{value}": supported values: ' + ", ".join(f'"{one}"' for one in sorted(supported)),
        field,
    )


def too_long(field: str, why: str) -> Cause:
    """Name a value that is too big."""
    return "FieldValueTooLong", f"Too long: {why}", field


def unprocessable(kind_name: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """Make a 422; a patch that cannot be read has neither kind nor name."""
    lines = list(dict.fromkeys(f"{field}: {message}" for _, message, field in causes))
    said = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    full = f"{kind_name}.{group}" if group else kind_name
    details: JSONObject = {"name": name} if name else {}
    details |= {"group": group} if group else {}
    details |= {"kind": kind_name} if kind_name else {}
    details |= {"causes": [{"reason": reason, "message": message, "field": field} for reason, message, field in causes]}
    return ApiError(422, f'{full} "{name}" is invalid: {said}', "Invalid", details)


def details_of(kind: Kind, name: str) -> JSONObject:
    """Say which resource is meant."""
    return {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.plural}


def not_found(kind: Kind, name: str) -> ApiError:
    """Make a 404 of one object."""
    return ApiError(404, f'{kind.qualified} "{name}" not found', "NotFound", details_of(kind, name))


def forbidden(kind: Kind, name: str, why: str, cause: JSONObject | None = None) -> ApiError:
    """Make a 403 of one object."""
    details = {**details_of(kind, name), **({"causes": [cause]} if cause else {})}
    return ApiError(403, f'{kind.qualified} "{name}" is forbidden: {why}', "Forbidden", details)


def no_page() -> ApiError:
    """Make the bare 404 of an unknown path."""
    return ApiError(404, "404 page not found\n", plain=True)


def no_resource() -> ApiError:
    """Make the 404 of an unknown resource in a known group."""
    return ApiError(404, "the server could not find the requested resource", "NotFound", {})


def no_method() -> ApiError:
    """Make a 405."""
    return ApiError(405, "the server does not allow this method on the requested resource", "MethodNotAllowed", {})


def bad_request(message: str) -> ApiError:
    """Make a 400."""
    return ApiError(400, message, "BadRequest")


def modified(kind: Kind, name: str, why: str) -> ApiError:
    """Make a 409 without causes."""
    return ApiError(409, f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}', "Conflict", details_of(kind, name))


def stale(kind: Kind, name: str, what: str, wanted: str, found: str, perhaps: str) -> ApiError:
    """Make a 409 of a delete whose precondition does not hold."""
    why = f"the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {perhaps}"
    details = {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.name}
    full = f"{kind.name}.{kind.group}" if kind.group else kind.name
    return ApiError(409, f'Operation cannot be fulfilled on {full} "{name}": {why}', "Conflict", details)


def conflicts(found: FieldConflicts) -> ApiError:
    """Make a 409 of an apply."""
    pairs = [(_manager(entry), shown(path)) for entry, path in found.found]
    causes = [{"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path} for manager, path in pairs]
    if len(pairs) == 1:
        message = f"Apply failed with 1 conflict: conflict with {pairs[0][0]}: {pairs[0][1]}"
    else:
        by: dict[str, list[str]] = {}
        for manager, path in pairs:
            by.setdefault(manager, []).append(f"- {path}")
        said = "\n".join(f"conflicts with {manager}:\n" + "\n".join(paths) for manager, paths in sorted(by.items()))
        message = f"Apply failed with {len(pairs)} conflicts: {said}"
    return ApiError(409, message, "Conflict", {"causes": causes})


def _manager(entry: Any) -> str:
    text = f'"{entry.manager}"' + (f' with subresource "{entry.subresource}"' if entry.subresource else "")
    return f"{text} using {entry.version}" if entry.operation == "Update" else text

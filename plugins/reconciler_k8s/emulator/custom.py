"""The validation of custom resources against the OpenAPI schema of their CRD."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.statuses import Cause, invalid, quoted, required, unsupported

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value == int(value))),
    "number": lambda value: not isinstance(value, bool) and isinstance(value, int | float),
}


def schema_problems(value: Any, schema: JSONObject, path: str = "") -> list[Cause]:
    """List what a value lacks or has too much of; ``path`` ends with a dot unless it is empty."""
    here = path.rstrip(".")
    wrong = _wrong_type(value, schema, here)
    if wrong:
        return wrong
    causes: list[Cause] = []
    if isinstance(value, dict):
        causes += _object(value, schema, path)
    elif isinstance(value, list):
        causes += _sizes(len(value), schema, here, "Items", "items")
        for number, item in enumerate(value):
            causes += schema_problems(item, schema.get("items") or {}, f"{here}[{number}].")
    elif value is not None:
        causes += _scalar(value, schema, here)
    return causes + list(_combined(value, schema, path))


def _wrong_type(value: Any, schema: JSONObject, path: str) -> list[Cause]:
    wanted = schema.get("type")
    if value is None or wanted is None or schema.get("x-kubernetes-int-or-string") or _TYPES[wanted](value):
        return []
    got = next(name for name, fits in _TYPES.items() if fits(value))
    message = f"Invalid value: {quoted(got)}: {path} in body must be of type {wanted}: {quoted(got)}"
    return [("FieldValueTypeInvalid", message, path)]


def _object(value: JSONObject, schema: JSONObject, path: str) -> list[Cause]:
    causes = [required(f"{path}{key}") for key in schema.get("required") or () if value.get(key) is None]
    causes += _sizes(len(value), schema, path.rstrip("."), "Properties", "properties")
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    for key, item in value.items():
        below = properties.get(key, extra if isinstance(extra, dict) else None)
        if below is not None and key != "metadata":
            causes += schema_problems(item, below, f"{path}{key}.")
    return causes


def _sizes(size: int, schema: JSONObject, path: str, key: str, what: str) -> list[Cause]:
    most, least = schema.get(f"max{key}"), schema.get(f"min{key}")
    if most is not None and size > most:
        return [("FieldValueTooMany", f"Too many: {size}: must have at most {most} items", path)]
    if least is not None and size < least:
        return [invalid(path, size, f"{path} in body should have at least {least} {what}")]
    return []


def _scalar(value: Any, schema: JSONObject, path: str) -> list[Cause]:
    if schema.get("enum") and value not in schema["enum"]:
        return [unsupported(path, str(value), [str(one) for one in schema["enum"]])]
    return _text(value, schema, path) if isinstance(value, str) else _number(value, schema, path)


def _text(value: str, schema: JSONObject, path: str) -> list[Cause]:
    causes, most, least = list[Cause](), schema.get("maxLength"), schema.get("minLength")
    if most is not None and len(value) > most:
        causes.append(("FieldValueTooLong", f"Too long: may not be more than {most} bytes", path))
    if least is not None and len(value) < least:
        causes.append(invalid(path, quoted(value), f"{path} in body should be at least {least} chars long"))
    pattern = str(schema.get("pattern") or "")
    if pattern and not re.search(pattern.replace("^(?i)", "(?i)^"), value):
        causes.append(invalid(path, quoted(value), f"{path} in body should match '{pattern}'"))
    return causes


def _number(value: Any, schema: JSONObject, path: str) -> list[Cause]:
    least, most, step = schema.get("minimum", value), schema.get("maximum", value), schema.get("multipleOf")
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if value < least or (low and value == least):
        return [invalid(path, value, f"{path} in body should be greater than {'' if low else 'or equal to '}{least}")]
    if value > most or (high and value == most):
        return [invalid(path, value, f"{path} in body should be less than {'' if high else 'or equal to '}{most}")]
    if step and value % step:
        return [invalid(path, value, f"{path} in body should be a multiple of {step}")]
    return []


def _combined(value: Any, schema: JSONObject, path: str) -> Iterator[Cause]:
    here, shown = path.rstrip("."), quoted(value) if not isinstance(value, dict | list) else quoted("")
    for one in schema.get("allOf") or ():
        yield from schema_problems(value, one, path)
    if schema.get("anyOf") and all(schema_problems(value, one, path) for one in schema["anyOf"]):
        yield invalid(here, shown, f'"{here}" must validate at least one schema (anyOf)')
    if schema.get("oneOf"):
        fitting = sum(not schema_problems(value, one, path) for one in schema["oneOf"])
        if fitting != 1:
            found = "Found none valid" if fitting == 0 else f"Found {fitting} valid alternatives"
            yield invalid(here, shown, f'"{here}" must validate one and only one schema (oneOf). {found}')
    if schema.get("not") and not schema_problems(value, schema["not"], path):
        yield invalid(here, shown, f'"{here}" must not validate the schema (not)')

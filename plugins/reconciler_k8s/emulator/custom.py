"""The validation of custom resources against the OpenAPI schema of their CRD."""

import json
import re
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.statuses import Cause, invalid, required, unsupported


def schema_problems(value: Any, schema: JSONObject, path: str = "") -> list[Cause]:
    """List what a value lacks or has too much of."""
    causes: list[Cause] = []
    if isinstance(value, dict):
        causes += [required(f"{path}{key}") for key in schema.get("required") or () if value.get(key) is None]
        properties = schema.get("properties") or {}
        extra = schema.get("additionalProperties")
        for key, item in value.items():
            below = properties.get(key, extra if isinstance(extra, dict) else None)
            if below is not None and key != "metadata":
                causes += schema_problems(item, below, f"{path}{key}.")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            causes += schema_problems(item, schema.get("items") or {}, f"{path.rstrip('.')}[{number}].")
    else:
        causes += _scalar(value, schema, path.rstrip("."))
    return causes


def _scalar(value: Any, schema: JSONObject, path: str) -> list[Cause]:
    if schema.get("enum") and value not in schema["enum"]:
        return [unsupported(path, str(value), [str(one) for one in schema["enum"]])]
    pattern = schema.get("pattern")
    if pattern and isinstance(value, str) and not re.search(pattern, value):
        return [invalid(path, json.dumps(value), f"{path} in body should match '{pattern}'")]
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        return [invalid(path, value, f"{path} in body should be greater than or equal to {schema['minimum']}")]
    if isinstance(value, int | float) and value > schema.get("maximum", value):
        return [invalid(path, value, f"{path} in body should be less than or equal to {schema['maximum']}")]
    return []

"""What a CRD's schema refuses, in the server's words."""

from typing import Any

import pytest

from reconciler_k8s.emulator.custom import schema_problems

INT_OR_STRING = {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "integer"}, "x", 'Invalid value: "string": x in body must be of type integer: "string"'),
        ({"type": "integer"}, True, 'Invalid value: "boolean": x in body must be of type integer: "boolean"'),
        ({"type": "integer"}, 2.0, ""),
        ({"type": "string", "enum": ["a", "b"]}, "c", 'Unsupported value: "c": supported values: "a", "b"'),
        ({"type": "string", "pattern": "^a"}, "b", "Invalid value: \"b\": x in body should match '^a'"),
        ({"type": "string", "pattern": "^(?i)(abort|warn)?$"}, "Warn", ""),
        ({"type": "string", "minLength": 1}, "", 'Invalid value: "": x in body should be at least 1 chars long'),
        ({"type": "string", "maxLength": 1}, "ab", "Too long: may not be more than 1 bytes"),
        ({"type": "array", "maxItems": 1}, [1, 2], "Too many: 2: must have at most 1 items"),
        ({"type": "array", "minItems": 1}, [], "Invalid value: 0: x in body should have at least 1 items"),
        ({"type": "number", "minimum": 1}, 0.5, "Invalid value: 0.5: x in body should be greater than or equal to 1"),
        ({"type": "number", "maximum": 1, "exclusiveMaximum": True}, 1, "Invalid value: 1: x in body should be less than 1"),
        ({"type": "integer", "multipleOf": 5}, 7, "Invalid value: 7: x in body should be a multiple of 5"),
        (INT_OR_STRING, 5, ""),
        (INT_OR_STRING, "5", ""),
        (INT_OR_STRING, 5.5, 'Invalid value: 5.5: "x" must validate at least one schema (anyOf)'),
        (
            {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object"},
            {"a": 1, "b": 2},
            'Invalid value: "": "x" must validate one and only one schema (oneOf). Found 2 valid alternatives',
        ),
        ({"not": {"required": ["a"]}, "type": "object"}, {"a": 1}, 'Invalid value: "": "x" must not validate the schema (not)'),
        ({"allOf": [{"minimum": 3}], "type": "integer"}, 2, "Invalid value: 2: x in body should be greater than or equal to 3"),
    ],
)
def test_a_value_is_held_against_its_schema(schema: dict[str, Any], value: Any, message: str) -> None:
    found = schema_problems(value, schema, "x.")
    assert [one[1] for one in found] == ([message] if message else [])


def test_every_place_is_named() -> None:
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "object", "required": ["name"]}}}}
    assert [one[2] for one in schema_problems({"list": [{}, {"name": "a"}, {}]}, schema)] == ["list[0].name", "list[2].name"]

"""What every kind looks like: fields, types, and how each list and map is merged.

``schema.json`` holds the published API of Kubernetes, type by type: ``fields`` with a scalar name, ``=Type`` for another type,
``{"list": element, "keys": [...]}`` for a list merged by key (no keys: a set), a list without ``keys`` or anything with ``atomic`` as a
whole. Custom resources get their shape from the OpenAPI schema of their CRD.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from reconciler.resource import JSONObject


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One type. ``sort`` is scalar, struct, map, list or any; ``keys`` of a list is None when atomic and empty for a set."""

    sort: str
    scalar: str = ""
    fields: "Mapping[str, Shape | str]" = field(default_factory=dict)
    element: "Shape | str | None" = None
    keys: tuple[str, ...] | None = None
    atomic: bool = False
    open: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def child(self, key: str) -> "Shape | None":
        """Give the type of one field, or None when there is no such field."""
        found = self.fields.get(key)
        if found is None and (self.sort == "map" or self.open):
            found = self.element if self.element is not None else ANY
        return resolve(found) if found is not None else None

    @property
    def items(self) -> "Shape":
        """Give the type of the elements."""
        return resolve(self.element) if self.element is not None else ANY


ANY = Shape("any")


@cache
def _table() -> JSONObject:
    table: JSONObject = json.loads((files("reconciler_k8s.emulator") / "schema.json").read_text())
    return table


def resolve(shape: "Shape | str") -> Shape:
    """Follow a name to its type."""
    return named(shape[1:]) if isinstance(shape, str) else shape


@cache
def named(name: str) -> Shape:
    """Give a published type by its short name, e.g. ``core.v1.Service``; anything goes for a name that is not in the table."""
    raw = _table().get(name)
    return ANY if raw is None else _struct(raw)


def _struct(raw: JSONObject) -> Shape:
    if "fields" not in raw:
        return _of(raw["scalar"]) if "scalar" in raw else ANY
    fields = {key: value if isinstance(value, str) and value[0] == "=" else _of(value) for key, value in raw["fields"].items()}
    return Shape("struct", fields=fields, atomic=bool(raw.get("atomic")), defaults=raw.get("defaults", {}))


def _of(raw: Any) -> Shape:
    if isinstance(raw, str):
        return resolve(raw) if raw[0] == "=" else Shape("scalar", scalar=raw) if raw in ("string", "numeric", "boolean", "untyped") else ANY
    if "t" in raw:
        target = resolve(raw["t"])
        return Shape(target.sort, fields=target.fields, element=target.element, atomic=True, defaults=target.defaults)
    element = raw.get("list", raw.get("map"))
    inner: Shape | str = element if isinstance(element, str) and element[0] == "=" else _of(element)
    if "list" in raw:
        return Shape("list", element=inner, keys=tuple(raw["keys"]) if "keys" in raw else None, atomic="keys" not in raw)
    return Shape("map", element=inner, atomic=bool(raw.get("atomic")))


def custom(schema: JSONObject, *, root: bool = True) -> Shape:
    """Make the shape of a custom resource from its OpenAPI schema."""
    kind = schema.get("type", "")
    if schema.get("x-kubernetes-int-or-string"):
        return Shape("scalar", scalar="untyped")
    if kind == "array":
        sort = schema.get("x-kubernetes-list-type", "atomic")
        keys = tuple(schema.get("x-kubernetes-list-map-keys") or ()) if sort == "map" else () if sort == "set" else None
        return Shape("list", element=custom(schema.get("items") or {}, root=False), keys=keys, atomic=keys is None)
    if kind == "object":
        return _custom_object(schema, root=root)
    scalars = {"string": "string", "integer": "numeric", "number": "numeric", "boolean": "boolean"}
    return Shape("scalar", scalar=scalars[kind]) if kind in scalars else ANY


def _custom_object(schema: JSONObject, *, root: bool) -> Shape:
    fields: dict[str, Shape | str] = {key: custom(value, root=False) for key, value in (schema.get("properties") or {}).items()}
    defaults = {key: value["default"] for key, value in (schema.get("properties") or {}).items() if "default" in value}
    if root:
        fields |= {
            "apiVersion": Shape("scalar", scalar="string"),
            "kind": Shape("scalar", scalar="string"),
            "metadata": "=meta.v1.ObjectMeta",
        }
    extra = schema.get("additionalProperties")
    atomic = schema.get("x-kubernetes-map-type") == "atomic"
    if isinstance(extra, dict) and not fields:
        return Shape("map", element=custom(extra, root=False), atomic=atomic)
    preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields")) or extra is True
    if preserve and not fields:
        return ANY
    return Shape("struct", fields=fields, atomic=atomic, open=preserve, defaults=defaults)

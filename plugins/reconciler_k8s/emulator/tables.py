"""Lists as tables: the columns that the server prints for a client that asks for no objects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.kinds import Kind

NAME_TEXT = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request "
    "the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration "
    "definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
AGE_TEXT = (
    "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in "
    "happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in "
    "UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/"
    "sig-architecture/api-conventions.md#metadata"
)
DATA_TEXT = (
    "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte "
    "sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is "
    "enforced during validation process."
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column between the name and the age."""

    name: str
    text: str
    cell: Callable[[JSONObject], Any]
    sort: str = "string"
    priority: int = 0


COLUMNS: dict[str, tuple[Column, ...]] = {
    "ConfigMap": (Column("Data", DATA_TEXT, lambda one: len(one.get("data") or {}) + len(one.get("binaryData") or {})),),
    "Secret": (
        Column("Type", "Used to facilitate programmatic handling of secret data.", lambda one: one.get("type", "")),
        Column("Data", "Data contains the secret data.", lambda one: len(one.get("data") or {})),
    ),
    "Namespace": (Column("Status", "The status of the namespace", lambda one: one["status"]["phase"]),),
}
"""The kinds with columns of their own; the others show name and age."""


def duration(seconds: int) -> str:
    """Print an age as people read it: ``3s``, ``5m10s``, ``3h``, ``12d``."""
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def table(kind: Kind, metadata: JSONObject, items: list[JSONObject], age: Callable[[JSONObject], int], include: str) -> JSONObject:
    """Write a Table; ``include`` says what each row holds of its object: None, Metadata (the default) or Object."""
    columns = _columns(kind)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [
            _definition("Name", "string", NAME_TEXT, 0, "name"),
            *(_definition(one.name, one.sort, one.text, one.priority) for one in columns),
            _definition("Age", "date" if kind.custom else "string", AGE_TEXT, 0),
        ],
        "rows": [
            {
                "cells": [one["metadata"]["name"], *(column.cell(one) for column in columns), duration(age(one))],
                **_object(one, include),
            }
            for one in items
        ],
    }


def _definition(name: str, sort: str, text: str, priority: int, form: str = "") -> JSONObject:
    return {"name": name, "type": sort, "format": form, "description": text, "priority": priority}


def _object(whole: JSONObject, include: str) -> JSONObject:
    if include == "None":
        return {"object": None}
    if include == "Object":
        return {"object": whole}
    return {"object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": whole["metadata"]}}


def _columns(kind: Kind) -> tuple[Column, ...]:
    if not kind.custom:
        return COLUMNS.get(kind.name, ())
    wanted = [one for one in kind.columns if one["jsonPath"] != ".metadata.creationTimestamp"]
    return tuple(
        Column(one["name"], one.get("description", ""), _at(one["jsonPath"]), one["type"], one.get("priority", 0)) for one in wanted
    )


def _at(path: str) -> Callable[[JSONObject], Any]:
    names = [name for name in path.split(".") if name]

    def cell(whole: JSONObject) -> Any:
        value: Any = whole
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    return cell

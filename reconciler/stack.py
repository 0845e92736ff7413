"""What stands in a stack besides its resources: the Stack itself, drift exceptions, and the annotations that steer a resource.

Pure models. May import the nouns, the graph, the policy and the names of the checks; reads nothing.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from reconciler.checks.findings import RULES, Finding
from reconciler.graph import Graph
from reconciler.invalid import did_you_mean
from reconciler.plan import Exemption
from reconciler.policy import StackPolicy
from reconciler.resource import Drift, Fingerprint, JSONObject, ResourceId, Spec, seal, split_pointer

STACK_FILE = "stack.yaml"


class Monitoring(BaseModel):
    """What becomes of alarms while a pass changes what monitors watch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quiet: bool = Field(
        False,
        description="Raise no alarm about what depends on something that a pass changes, from its first write until all of that is proven "
        "to work again.",
    )
    at_most: float = Field(
        3600, ge=60, le=86400, description="Seconds after which alarms are raised again, whatever has become of the pass."
    )


class StackSpec(BaseModel):
    """The ``spec`` of a Stack: what its resources share and how it may be treated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vars: dict[str, Any] = Field(default_factory=dict, description="Values that expressions read as `vars.<name>`.")
    targets: dict[str, str] = Field(default_factory=dict, description="Driver name to target name, where it is not the driver's name.")
    policy: StackPolicy = Field(StackPolicy(), description="Budgets, protection, approvals and freezes.")
    monitoring: Monitoring = Field(Monitoring(), description="What monitors do while the stack is changed.")
    interval: float = Field(300, ge=5, description="Seconds between passes when nothing else asks for one.")
    health_deadline: float = Field(300, ge=1, description="Seconds that a pass waits for what it wrote to become healthy.")


class ExceptionSpec(BaseModel):
    """The ``spec`` of a DriftException: a difference that is known, with a reason and an end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resource: str = Field(description="The id of the resource, driver/Kind/name.")
    fields: tuple[str, ...] = Field((), description="JSON pointers into the spec; none means the whole resource.")
    values: dict[str, Any] = Field(
        default_factory=dict,
        description="Pointer to the one live value that is accepted there; any other value is drift again. Pointers count as fields, too.",
    )
    reason: str = Field(min_length=3, description="Why the difference is acceptable for now.")
    ticket: str = Field("", description="Where the work on it is tracked.")
    expires: date = Field(description="The last day on which it counts, YYYY-MM-DD.")

    @field_validator("fields", "values")
    @classmethod
    def _pointers(cls, fields: Any) -> Any:
        for one in fields:
            split_pointer(one)
        return fields


class Unresolved(Spec):
    """Stands for a spec that needs ``status(...)`` of a live object; never reaches a driver. ``variables`` are those of the stack."""

    document: JSONObject
    statuses: tuple[ResourceId, ...]
    variables: JSONObject
    immutable: ClassVar[tuple[str, ...]] = ()

    def canonical(self, fingerprint: Fingerprint) -> JSONObject:
        """Give the document as written."""
        return {"document": seal(self.document, fingerprint)}

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Come after what it asks."""
        return self.statuses


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack at one revision, ready to be planned. ``findings`` is what the checks say of it, computed once when it is loaded."""

    name: str
    spec: StackSpec
    graph: Graph
    exemptions: tuple[Exemption, ...] = ()
    targets: Mapping[ResourceId, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def _boolean(value: Any) -> bool:
    if value in ("true", "false", True, False):
        return value in ("true", True)
    raise ValueError(f'{value!r} is neither "true" nor "false"')


def _drift(value: Any) -> Drift:
    if value not in list(Drift):
        raise ValueError(f'{value!r} is neither "enforce" nor "report"')
    return Drift(value)


def _target(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be the name of a target")
    return value


def _list(value: Any) -> list[Any]:
    try:
        items = json.loads(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    except ValueError:
        raise ValueError("must be a list of texts") from None
    items = re.split(r"[,\s]+", items.strip()) if isinstance(items, str) else items
    if not isinstance(items, list) or not all(isinstance(one, str) for one in items):
        raise ValueError("must be a list of texts")
    return [one for one in items if one]


def _pointers(value: Any) -> tuple[str, ...]:
    for one in (pointers := _list(value)):
        split_pointer(one)
    return tuple(pointers)


def _rules(value: Any) -> tuple[str, ...]:
    for one in (rules := _list(value)):
        if one not in RULES:
            raise ValueError(f"{one!r} is no rule of the checks{did_you_mean(one, list(RULES))}")
    return tuple(rules)


READERS: Mapping[str, Callable[[Any], Any]] = {
    "adopt": _boolean,
    "depends-on": lambda value: tuple(ResourceId.parse(one) for one in _list(value)),
    "drift": _drift,
    "ignore": _pointers,
    "protect": _boolean,
    "prune": _boolean,
    "replace": _boolean,
    "target": _target,
    "waive": _rules,
}

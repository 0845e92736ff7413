"""The shapes of the API: what is asked and answered, as models that the OpenAPI document is made from. Pure."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Shape(BaseModel):
    """Base of every shape; a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StackState(Shape):
    """How one stack fares, from its last pass."""

    name: str
    in_force: str | None = Field(description="The revision that is kept true; null when the daemon has none of this stack.")
    verdict: str = Field(description="converged, pending, degraded, failed, rejected or interrupted; empty before the first pass.")
    revision: str
    subject: str
    finished: str = Field(description="When the last pass ended, ISO 8601 in UTC; empty before the first.")
    summary: str
    digest: str = Field(description="The digest of what is still to be done; an approval is pinned to it.")
    drift: int = Field(description="Drifts that are not closed.")
    held: list[str] = Field(description="What the guard holds, one line each.")
    problems: list[str]
    unhealthy: dict[str, str] = Field(description="Resource to what is wrong with it.")
    trace: str = Field(description="The address of the last pass's trace, or its id.")


class Run(Shape):
    """One pass, without its report."""

    id: int
    stack: str
    revision: str
    subject: str
    reason: str
    verdict: str
    started: str
    finished: str
    digest: str
    trace_id: str
    summary: str


class RunReport(Run):
    """One pass with everything that it found and did."""

    report: dict[str, Any] = Field(description="As `reconciler history -o json` prints it.")


class PlanShown(Shape):
    """What the last pass left to be done."""

    stack: str
    digest: str
    approved: bool = Field(description="Whether somebody approved exactly this plan.")
    plan: dict[str, Any] = Field(description="As `reconciler plan -o json` prints it.")


class DriftField(Shape):
    """One field that differs; a secret appears as its fingerprint."""

    path: str
    wanted: Any
    found: Any


class Drift(Shape):
    """A difference that no commit explains."""

    id: int
    stack: str
    resource: str
    action: str
    fields: list[DriftField]
    evidence: str
    state: str
    reason: str
    onset: str
    last_seen: str
    closed: str = Field(description="When it ended; empty while it is open.")


class Taken(Shape):
    """Something was asked for and will be done."""

    stack: str
    message: str


Reason = Annotated[
    str, Field(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$", description="One line, shown wherever the result is.")
]


class Trigger(Shape):
    """Ask for a pass."""

    reason: Reason = "asked for by the API"


class Approve(Shape):
    """Let exactly one held plan pass."""

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{12,64}$", description="At least the first 12 digits of the plan's digest.")]


class Approved(Shape):
    """A plan that may pass now."""

    stack: str
    digest: str
    who: str


class Acknowledge(Shape):
    """Leave one drift as it is until a time has come, at most thirty days ahead; for longer, write a DriftException into git."""

    reason: Reason
    until: AwareDatetime = Field(description="When it ends, ISO 8601 with a time zone.")


class Acknowledged(Shape):
    """An acknowledgement that counts from now on."""

    id: int
    stack: str
    resource: str
    who: str
    reason: str
    until: datetime


class FieldProblem(Shape):
    """One field of a request that is wrong."""

    field: str
    message: str


class ProblemDocument(Shape):
    """Why a request was not done (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []

"""The operations of the API, over the daemon and its store. Nothing is applied here: a word is written down, and the next pass heeds it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from pydantic import Field

from reconciler.acknowledging import of_drift
from reconciler.daemon.http.operations import Asked, Operation
from reconciler.daemon.http.problems import Trouble
from reconciler.daemon.http.shapes import (
    Acknowledge,
    Acknowledged,
    Approve,
    Approved,
    Drift,
    PlanShown,
    Run,
    RunReport,
    Shape,
    StackState,
    Taken,
    Trigger,
)
from reconciler.daemon.loop import Daemon
from reconciler.telemetry import trace_link

PREFIX = "/api/v1"
LONGEST = timedelta(days=30)
MOST = 2**31
"""No number of ours is as large; the database would choke on a larger one."""


class RunsAsked(Shape):
    """Which runs."""

    stack: str = Field("", description="Only those of this stack.")
    most: int = Field(20, ge=1, le=200, description="So many, newest first.")


class DriftAsked(Shape):
    """Which drifts."""

    stack: str = Field("", description="Only those of this stack.")
    closed: bool = Field(False, description="Those that ended, too.")


class Api:
    """The functions behind the operations."""

    def __init__(self, daemon: Daemon) -> None:
        """Speak for ``daemon``."""
        self._daemon, self._store = daemon, daemon.store

    # -- reading -------------------------------------------------------------------------------------------------------------

    def stacks(self, asked: Asked) -> list[StackState]:
        """Give every stack that is in force or ever had a pass."""
        return [self._state(name) for name in self._names()]

    def stack(self, asked: Asked) -> StackState:
        """Give one stack."""
        return self._state(self._known(asked))

    def plan(self, asked: Asked) -> PlanShown:
        """Give what the last pass of a stack left to be done."""
        name = self._known(asked)
        run = self._store.latest(name)
        if run is None:
            raise Trouble(404, f"{name}: had no pass yet")
        remaining = run["report"]["remaining"]
        return PlanShown(stack=name, digest=remaining["digest"], approved=remaining["digest"] in self._store.approved(), plan=remaining)

    def runs(self, asked: Asked) -> list[Run]:
        """Give past passes."""
        return [Run(**row) for row in self._store.runs(asked.query.stack, most=asked.query.most)]

    def run(self, asked: Asked) -> RunReport:
        """Give one pass."""
        number = asked.path["run"]
        row = self._store.run(number) if number < MOST else None
        if row is None:
            raise Trouble(404, f"there is no run {number}")
        return RunReport(**row)

    def drift(self, asked: Asked) -> list[Drift]:
        """Give drifts."""
        return [_drift(row) for row in self._store.drifts(asked.query.stack, closed=asked.query.closed)]

    # -- a person's word -----------------------------------------------------------------------------------------------------

    def trigger(self, asked: Asked) -> Taken:
        """Ask for a pass of a stack, and for a look at the repository before it."""
        name = self._in_force(asked)
        self._daemon.asked(name, f"{asked.person.name}: {asked.body.reason}")
        return Taken(stack=name, message="a pass was asked for")

    def acknowledge(self, asked: Asked) -> Acknowledged:
        """Leave a drift as it is for a while."""
        now, number, until = self._daemon.workshop.clock.now(), asked.path["drift"], asked.body.until
        if not now < until <= now + LONGEST:
            text = "must lie ahead, by thirty days at most; for longer, write a DriftException into git"
            raise Trouble(400, "the body is not what is asked for", [{"field": "until", "message": text}])
        row = self._store.drift(number) if number < MOST else None
        if row is None:
            raise Trouble(404, f"there is no drift {number}")
        if row["closed"] or row["state"] == "acknowledged":
            raise Trouble(409, f"drift {number} {'has ended' if row['closed'] else 'is acknowledged already'}")
        word = of_drift(row, reason=asked.body.reason, who=asked.person.name, at=now, until=until)
        made = self._store.acknowledge(number, word)
        if row["stack"] in self._daemon.force:
            self._daemon.queue.request(row["stack"], f"{asked.person.name} acknowledged {row['resource']}")
        return Acknowledged(
            id=made, stack=row["stack"], resource=row["resource"], who=asked.person.name, reason=asked.body.reason, until=until
        )

    def approve(self, asked: Asked) -> Approved:
        """Let a plan pass that the guard holds now."""
        found = {(name, digest) for name, digest in self._held() if digest.startswith(asked.body.digest)}
        if len(found) != 1:
            raise Trouble(409, f"{asked.body.digest}: no plan with this digest is held now; look at the stack's plan again")
        ((name, digest),) = found
        self._store.approve(digest, asked.person.name, self._daemon.workshop.clock.now().isoformat())
        self._daemon.asked(name, f"{asked.person.name} approved {digest[:12]}")
        return Approved(stack=name, digest=digest, who=asked.person.name)

    # -- finding -------------------------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        return sorted({*self._daemon.force, *self._store.stacks()})

    def _known(self, asked: Asked) -> str:
        name = str(asked.path["stack"])
        if name not in self._names():
            raise Trouble(404, f"{name[:100]}: there is no such stack")
        return name

    def _in_force(self, asked: Asked) -> str:
        name = str(asked.path["stack"])
        if name not in self._daemon.force:
            raise Trouble(404, f"{name[:100]}: there is no such stack in force")
        return name

    def _held(self) -> Iterator[tuple[str, str]]:
        for name in list(self._daemon.force):
            run = self._store.latest(name)
            if run is not None and any(one["guard"] not in ("exception", "keep") for one in run["report"]["remaining"]["held"]):
                yield name, run["report"]["remaining"]["digest"]

    def _state(self, name: str) -> StackState:
        run, force = self._store.latest(name), self._daemon.force.get(name)
        report: dict[str, Any] = run["report"] if run is not None else {}
        row = run or dict.fromkeys(("verdict", "revision", "subject", "finished", "summary", "trace_id"), "")
        remaining = report.get("remaining", {"digest": "", "held": []})
        link = trace_link(self._daemon.workshop.settings.telemetry.trace_url, row["trace_id"])
        return StackState(
            name=name,
            in_force=force.desired.revision.commit if force is not None else None,
            **{key: row[key] for key in ("verdict", "revision", "subject", "finished", "summary")},
            digest=remaining["digest"],
            drift=len(self._store.drifts(name)),
            held=[f"{one['guard']}: {one['id']}: {one['reason']}" for one in remaining["held"]],
            problems=report.get("problems", []),
            unhealthy={id: f"{one['level']}: {one['message']}" for id, one in report.get("health", {}).items()},
            trace=link or row["trace_id"],
        )


NOTHING = {404: "There is no such thing."}
OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/stacks", "read", "How every stack fares.", Api.stacks, list[StackState]),
    Operation("GET", "/stacks/{stack}", "read", "How one stack fares.", Api.stack, StackState, troubles=NOTHING),
    Operation("GET", "/stacks/{stack}/plan", "read", "What is still to be done.", Api.plan, PlanShown, troubles=NOTHING),
    Operation("POST", "/stacks/{stack}/trigger", "operate", "Ask for a pass now.", Api.trigger, Taken, 202, None, Trigger, NOTHING),
    Operation("GET", "/runs", "read", "Past passes, newest first.", Api.runs, list[Run], query=RunsAsked),
    Operation("GET", "/runs/{run:int}", "read", "One pass with its report.", Api.run, RunReport, troubles=NOTHING),
    Operation("GET", "/drift", "read", "What somebody changed behind git's back.", Api.drift, list[Drift], query=DriftAsked),
    Operation(
        "POST",
        "/drift/{drift:int}/acknowledge",
        "operate",
        "Leave one drift as it is until a time has come.",
        Api.acknowledge,
        Acknowledged,
        201,
        None,
        Acknowledge,
        {**NOTHING, 409: "The drift has ended, or is acknowledged already."},
    ),
    Operation(
        "POST",
        "/approvals",
        "approve",
        "Let exactly one held plan pass.",
        Api.approve,
        Approved,
        201,
        None,
        Approve,
        {409: "No plan with this digest is held now."},
    ),
)
"""Every operation."""


def _drift(row: dict[str, Any]) -> Drift:
    return Drift(**row)

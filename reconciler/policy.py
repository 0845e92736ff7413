"""The guard: which part of a plan may be applied now, and what holds the rest.

Pure: time, approvals and findings come in as values. May import only the plan, the nouns and the values of the checks.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, field_validator

from reconciler.checks.findings import Finding, Severity
from reconciler.driver import Action, Cause, Change
from reconciler.plan import Held, Plan

Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Budget(BaseModel):
    """How many changes of one sort a plan may make without a word from a person, per driver and in all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    floor: int = Field(3, ge=0, description="Up to this many changes always pass, so that small stacks stay workable.")
    share: float = Field(0.3, ge=0, le=1, description="Above the floor, at most this share of what the stack owns (0 to 1).")
    most: int = Field(50, ge=0, description="Never more than this many, whatever the share allows.")

    def allows(self, owned: int) -> int:
        """Give the number of changes that pass when ``owned`` resources exist."""
        return min(self.most, max(self.floor, int(self.share * owned + 1e-9)))


class Freeze(BaseModel):
    """A time in which new commits wait. Drift and rotation are still repaired, so that the last revision stays true."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Shown as the reason.")
    days: tuple[Day, ...] = Field(DAYS, description="The days on which it starts.")
    start: time = Field(time(0), description="Local time of its start, HH:MM.")
    hours: float = Field(24, gt=0, le=168, description="How long it lasts, in hours.")
    timezone: str = Field("UTC", description="IANA name of the time zone.")

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is not a time zone; write an IANA name such as Europe/Berlin") from None
        return name

    def covers(self, now: datetime) -> bool:
        """Say whether ``now`` (aware) lies inside."""
        local = now.astimezone(ZoneInfo(self.timezone))
        for back in range(8):
            day = local.date() - timedelta(days=back)
            begin = datetime.combine(day, self.start, local.tzinfo)
            if DAYS[day.weekday()] in self.days and begin <= local < begin + timedelta(hours=self.hours):
                return True
        return False


class StackPolicy(BaseModel):
    """The rules of one stack, from ``spec.policy`` of its ``stack.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deletes: Budget = Field(Budget(), description="Budget for deletes and replaces.")
    updates: Budget = Field(Budget(floor=20, share=0.5, most=500), description="Budget for updates and adoptions.")
    protect: tuple[str, ...] = Field(
        (), description="Patterns of resource ids (`*` matches anything) never deleted or replaced unapproved."
    )
    approval: Literal["never", "commits", "deletes"] = Field(
        "never", description="Which changes wait for a person's approval of the digest."
    )
    freeze: tuple[Freeze, ...] = Field((), description="Times in which new commits wait.")
    drift: Literal["enforce", "report"] = Field(
        "enforce", description="What becomes of drift where the annotation reconciler/drift says nothing: repaired, or reported only."
    )


def guard(
    plan: Plan,
    policy: StackPolicy,
    *,
    now: datetime,
    approved: Collection[str] = (),
    wanted: int = 1,
    findings: Sequence[Finding] = (),
) -> Plan:
    """Hold what the policy does not let pass. An approval of the plan's digest lets exactly this plan pass.

    ``wanted`` is the number of resources that git asks for: none never means "delete everything". ``findings`` are what the checks say of
    the wish itself: an error among them holds whatever a commit changes.
    """
    if plan.digest in approved:
        return _released(plan)
    rules = (
        _hold(lambda change: "git asks for nothing at all, which never means to delete everything" if not wanted else "", "empty"),
        _hold(_by_check(findings), "check"),
        _hold(lambda change: _protected(change, policy), "protect"),
        _hold(_by_budget(plan, policy), "budget"),
        _hold(_by_freeze(policy, now), "freeze"),
        _hold(_by_approval(plan, policy), "approval"),
    )
    for rule in rules:
        plan = rule(plan)
    return plan


def _released(plan: Plan) -> Plan:
    """Let through what the plan itself held, except what somebody decided to leave as it is."""
    freed = [(one.change,) for one in plan.held if not one.quiet]  # held in graph order, so each in a wave of its own
    if not freed:
        return plan
    made = [tuple(change for change in wave if change.action is not Action.DELETE) for wave in (*plan.waves, *freed)]
    gone = [tuple(change for change in wave if change.action is Action.DELETE) for wave in (*plan.waves, *freed)]
    return replace(plan, waves=tuple(wave for wave in (*made, *gone) if wave), held=tuple(one for one in plan.held if one.quiet))


def _hold(reason_for: Callable[[Change], str], name: str) -> Callable[[Plan], Plan]:
    """Make a rule that moves every change with a reason from the waves to the held."""

    def rule(plan: Plan) -> Plan:
        reasons = {change.id: reason for change in plan.changes if (reason := reason_for(change))}
        if not reasons:
            return plan
        held = tuple(Held(change, name, reasons[change.id]) for change in plan.changes if change.id in reasons)
        waves = (tuple(change for change in wave if change.id not in reasons) for wave in plan.waves)
        return replace(plan, waves=tuple(wave for wave in waves if wave), held=(*plan.held, *held))

    return rule


def _by_check(findings: Sequence[Finding]) -> Callable[[Change], str]:
    """Hold the whole class of the commit: half of an intention that contradicts itself is no better than all of it."""
    errors = [one for one in findings if one.severity is Severity.ERROR]
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return lambda change: f"{errors[0]}{more}; correct it, or waive the rule there" if errors and not _repairs(change) else ""


def _protected(change: Change, policy: StackPolicy) -> str:
    if change.action not in (Action.DELETE, Action.REPLACE):
        return ""
    own = change.desired is not None and change.desired.policy.protect
    if own or any(fnmatchcase(str(change.id), pattern) for pattern in policy.protect):
        return f"is protected from {change.action}; approve this plan by its digest if that is meant"
    return ""


def _by_budget(plan: Plan, policy: StackPolicy) -> Callable[[Change], str]:
    """Hold every change of the class (commit, or drift and rotation) that overspends: a half-made intention helps nobody."""
    reasons = {repair: _overspent([one for one in plan.changes if _repairs(one) is repair], plan.size, policy) for repair in (True, False)}
    return lambda change: reasons[_repairs(change)]


def _repairs(change: Change) -> bool:
    return change.cause is not Cause.COMMIT


def _overspent(changes: Sequence[Change], size: Mapping[str, int], policy: StackPolicy) -> str:
    sorts = (("deletes", policy.deletes, (Action.DELETE, Action.REPLACE)), ("updates", policy.updates, (Action.UPDATE, Action.ADOPT)))
    for name, budget, actions in sorts:
        of_sort = [change for change in changes if change.action in actions]
        for driver in (*sorted({change.id.driver for change in of_sort}), ""):
            count = sum(1 for change in of_sort if driver in ("", change.id.driver))
            owned = size.get(driver, 0) if driver else sum(size.values())
            if count > budget.allows(owned):
                where = f"{owned} {driver} resources" if driver else f"{owned} resources"
                return f"{count} {name} of {where} exceed the change budget of {budget.allows(owned)}; approve this plan by its digest"
    return ""


def _by_freeze(policy: StackPolicy, now: datetime) -> Callable[[Change], str]:
    window = next((one for one in policy.freeze if one.covers(now)), None)
    return lambda change: f"new commits wait until the freeze {window.name!r} ends" if window is not None and not _repairs(change) else ""


def _by_approval(plan: Plan, policy: StackPolicy) -> Callable[[Change], str]:
    def reason(change: Change) -> str:
        removes = change.action in (Action.DELETE, Action.REPLACE)
        asked = {"never": False, "commits": not _repairs(change), "deletes": removes}[policy.approval]
        return f"waits for approval of plan {plan.digest[:12]}" if asked else ""

    return reason


def pending(plan: Plan) -> Iterable[Held]:
    """List what is held and not by somebody's decision."""
    return (one for one in plan.held if not one.quiet)

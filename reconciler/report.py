"""What a pass came to, as a value, and its renderings as text, markdown and JSON. Rendered here, decided elsewhere.

Pure. May import the plan and the driver's values.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from reconciler.driver import Action, Change, Evidence, FieldDiff, Health, Outcome, Status
from reconciler.errors import Problem
from reconciler.plan import Held, Plan, Stuck
from reconciler.resource import ResourceId

SYMBOLS = {Action.CREATE: "+", Action.UPDATE: "~", Action.REPLACE: "±", Action.DELETE: "-", Action.ADOPT: "⊕"}
WIDTH = 100


class Verdict(StrEnum):
    """How a pass ended, from best to worst."""

    CONVERGED = "converged"
    PENDING = "pending"
    DEGRADED = "degraded"
    FAILED = "failed"
    REJECTED = "rejected"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Report:
    """One pass: its plan (the one that was applied), what became of it, and how the stack fares now.

    ``remaining`` is the plan made after the writes; ``health`` holds only what is not healthy; ``above`` names for each of those what it
    depends on, directly or not, and is itself not well: not healthy, failed or stuck. ``problems`` are those of a rejected input.
    ``source`` names the repository of the revision, where that may be another one than that of the stack.
    """

    stack: str
    revision: str
    reason: str
    verdict: Verdict
    started: datetime
    finished: datetime
    plan: Plan
    remaining: Plan
    outcomes: tuple[Outcome, ...] = ()
    health: Mapping[ResourceId, Health] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    trace_id: str = ""
    subject: str = ""
    rounds: int = 1
    above: Mapping[ResourceId, tuple[ResourceId, ...]] = field(default_factory=dict)
    source: str = ""

    @property
    def seconds(self) -> float:
        """How long the pass took."""
        return max(0.0, (self.finished - self.started).total_seconds())  # a clock may be set back meanwhile

    @property
    def progress(self) -> bool:
        """True when something was written, so that another pass may get further."""
        return any(one.status is Status.APPLIED for one in self.outcomes)


def summary(plan: Plan) -> str:
    """Give one line: ``3 to create, 1 to update, 2 held``; ``nothing to do`` when there is nothing."""
    counts: dict[str, int] = {}
    for change in plan.changes:
        counts[f"to {change.action}"] = counts.get(f"to {change.action}", 0) + 1
    for held in plan.held:
        name = {"exception": "acknowledged", "keep": "kept", "drift": "drifted (report only)"}.get(held.guard, "held")
        counts[name] = counts.get(name, 0) + 1
    for stuck in plan.stuck:
        name = "unknown" if stuck.unknown else stuck.status.value
        counts[name] = counts.get(name, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing to do"


def beside(plan: Plan) -> str:
    """Give ``; 185 of others left alone in example.com``; empty where nobody counted or nothing is there."""
    counted = ", ".join(f"{count} of others left alone in {place}" for place, count in sorted(plan.unmanaged.items()) if count)
    return f"; {counted}" if counted else ""


def short(value: Any) -> str:
    """Give a value on one line, cut to what a person reads."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(one if one.isprintable() else "⏎" if one == "\n" else "�" for one in text.replace("\r\n", "\n"))
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def by_whom(evidence: Evidence | None) -> str:
    """Give ``by WHO at WHEN (HOW)`` as far as it is known, else an empty text."""
    if evidence is None:
        return ""
    when = f"at {evidence.when:%Y-%m-%d %H:%M:%S} UTC" if evidence.when else ""
    parts = (f"by {evidence.who}" if evidence.who else "", when, f"({evidence.how})" if evidence.how else "")
    return " ".join(part for part in parts if part)


def about(id: ResourceId, text: str) -> str:
    """Give ``driver/Kind/name: text``; an error that names its resource already, as every one does, names it once."""
    text = text.removeprefix(f"{id}: ")
    return f"{id}: {text}" if text else str(id)


def change_line(change: Change) -> str:
    """Give ``~ driver/Kind/name (update, drift, by …)``."""
    details = ", ".join(part for part in (change.action.value, change.cause.value, by_whom(change.evidence)) if part)
    return f"{SYMBOLS[change.action]} {change.id} ({details})"


def diff_lines(diffs: Iterable[FieldDiff], most: int = 12) -> Iterator[str]:
    """Give one line for each field, at most ``most``."""
    listed = list(diffs)
    for one in listed[:most]:
        before = "" if one.before is None else f"{short(one.before)} → "
        yield f"{one.path or '/'}: {before}{'(removed)' if one.after is None else short(one.after)}"
    if len(listed) > most:
        yield f"… and {len(listed) - most} more fields"


def plan_lines(plan: Plan, *, fields: bool = True) -> Iterator[str]:
    """Give a plan as text lines: changes by wave, then what is held, stuck and noted."""
    for number, wave in enumerate(plan.waves, 1):
        yield f"wave {number}"
        for change in wave:
            yield f"  {change_line(change)}"
            if change.risk:
                yield f"      risk: {change.risk}"
            if fields and change.action is not Action.DELETE:
                yield from (f"      {line}" for line in diff_lines(change.diffs))
    for held in plan.held:
        yield f"held by {held.guard}: {change_line(held.change)}: {held.reason}"
        if fields and held.change.action is not Action.DELETE:
            yield from (f"      {line}" for line in diff_lines(held.change.diffs))
    yield from (f"{status}: {who}: {reason}" for status, who, reason in stuck_rows(plan.stuck))
    yield from (f"note: {note}" for note in plan.notes)
    yield f"{plan.stack}: {summary(plan)}; {plan.unchanged} unchanged{beside(plan)}; digest {plan.digest[:12]}"


def stuck_rows(stuck: Iterable[Stuck]) -> Iterator[tuple[str, str, str]]:
    """Give status, resource and reason of each; what could not be seen for one reason is told once, as ``a, b and 10 more``."""
    together: dict[str, list[Stuck]] = {}
    for one in stuck:
        together.setdefault(one.reason if one.unknown else str(one.id), []).append(one)
    for group in together.values():
        first, more = group[0], len(group) - 2
        who = ", ".join(str(one.id) for one in group[:2]) + (f" and {more} more" if more > 0 else "")
        yield "unknown" if first.unknown else first.status.value, who, first.reason.removeprefix(f"{who}: ")


def plan_text(plan: Plan) -> str:
    """Render a plan for a terminal."""
    return "\n".join(plan_lines(plan))


def plan_markdown(plan: Plan) -> str:
    """Render a plan for a pull request."""
    lines = [f"### Plan for `{plan.stack}`: {summary(plan)}", ""]
    if plan.changes or plan.held:
        lines += ["| | resource | why | fields |", "|---|---|---|---|"]
        rows = [*((change, "") for change in plan.changes), *((held.change, f"held by {held.guard}: {held.reason}") for held in plan.held)]
        for change, why in rows:
            fields = "<br>".join(_cell(line) for line in diff_lines(change.diffs, 6)) if change.action is not Action.DELETE else ""
            lines.append(f"| {SYMBOLS[change.action]} {change.action} | `{change.id}` | {_cell(why or change.cause.value)} | {fields} |")
        lines.append("")
    lines += [f"- **{status}** `{who}`: {_cell(reason)}" for status, who, reason in stuck_rows(plan.stuck)]
    lines += [f"- note: {_cell(note)}" for note in plan.notes]
    return "\n".join([*lines, "", f"{plan.unchanged} unchanged{beside(plan)} · digest `{plan.digest[:12]}`"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def plan_data(plan: Plan) -> dict[str, Any]:
    """Give a plan as JSON data, complete and stable."""
    return {
        "stack": plan.stack,
        "revision": plan.revision,
        "digest": plan.digest,
        "in_sync": plan.in_sync,
        "summary": summary(plan),
        "unchanged": plan.unchanged,
        "unmanaged": dict(sorted(plan.unmanaged.items())),
        "waves": [[_change_data(change) for change in wave] for wave in plan.waves],
        "held": [{**_change_data(held.change), "guard": held.guard, "reason": held.reason} for held in plan.held],
        "stuck": [{"id": str(one.id), "status": one.status.value, "reason": one.reason, "unknown": one.unknown} for one in plan.stuck],
        "notes": list(plan.notes),
    }


def _change_data(change: Change) -> dict[str, Any]:
    evidence = change.evidence
    return {
        "id": str(change.id),
        "action": change.action.value,
        "cause": change.cause.value,
        "target": change.target,
        "risk": change.risk,
        "fields": [asdict(diff) for diff in change.diffs],
        "evidence": {"who": evidence.who, "when": evidence.when.isoformat() if evidence.when else "", "how": evidence.how}
        if evidence
        else None,
    }


def report_data(report: Report) -> dict[str, Any]:
    """Give a report as JSON data, complete and stable."""
    return {
        "stack": report.stack,
        "revision": report.revision,
        "subject": report.subject,
        "reason": report.reason,
        "verdict": report.verdict.value,
        "started": report.started.isoformat(),
        "finished": report.finished.isoformat(),
        "trace_id": report.trace_id,
        "rounds": report.rounds,
        "plan": plan_data(report.plan),
        "remaining": plan_data(report.remaining),
        "outcomes": [
            {"id": str(one.id), "status": one.status.value, "message": one.message, "seconds": round(one.duration, 3)}
            for one in report.outcomes
        ],
        "health": {
            str(id): {"level": health.level.name.lower(), "message": health.message} for id, health in sorted(report.health.items())
        },
        "problems": [str(problem) for problem in report.problems],
    }


def report_lines(report: Report) -> Iterator[str]:
    """Give a report as text lines: the verdict, what was done, what was not and why."""
    revision = f" at {report.revision[:12]}" if report.revision else ""
    yield f"{report.stack}{revision}: {report.verdict} in {report.seconds:.1f} s ({report.reason})"
    yield from (f"  {problem}" for problem in report.problems)
    for one in report.outcomes:
        yield f"  {one.status}: {about(one.id, one.message)}"
    for held in report.remaining.held:
        yield f"  held by {held.guard}: {change_line(held.change)}: {held.reason}"
    yield from (f"  {status}: {who}: {reason}" for status, who, reason in stuck_rows(report.remaining.stuck))
    for id, health in sorted(report.health.items()):
        yield f"  {health.level.name.lower()}: {about(id, health.message)}"
    yield from (f"  note: {note}" for note in report.remaining.notes)


def report_text(report: Report) -> str:
    """Render a report for a terminal."""
    return "\n".join(report_lines(report))


def report_markdown(report: Report) -> str:
    """Render a report for a forge or a chat."""
    head, *rest = report_lines(report)
    return "\n".join([f"### {head}", "", *(f"- {line.strip()}" for line in rest)])


def drifted(plan: Plan) -> tuple[Change, ...]:
    """List the differences that nobody's commit explains, repaired or only reported."""
    held: Iterable[Held] = plan.held
    changes = (*plan.changes, *(one.change for one in held if one.guard in ("drift", "exception", "budget")))
    return tuple(change for change in changes if change.cause == "drift")


def repaired(report: Report) -> tuple[ResourceId, ...]:
    """List the drifts that a pass wrote away."""
    written = {one.id for one in report.outcomes if one.status is Status.APPLIED}
    return tuple(change.id for change in report.plan.changes if change.cause == "drift" and change.id in written)

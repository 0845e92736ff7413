"""Which passes are news, and what is said about them. Pure; called inside the transaction that records the pass.

State transitions are news, states are not: a stack that stays broken, or a drift that stays open, is told once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from hashlib import sha256

from reconciler.driver import Status
from reconciler.notify import Notice, NoticeLevel
from reconciler.plan import Held
from reconciler.policy import pending
from reconciler.report import Report, Verdict, change_line, diff_lines, drifted, summary
from reconciler.state import Owed, Recorded
from reconciler.telemetry import trace_link

MOST = 8
ENDED = " has ended ("
"""What the plan's note on a DriftException says when its last day is over."""
BAD = (Verdict.FAILED, Verdict.DEGRADED)


def news(report: Report, recorded: Recorded, *, trace_url: str = "") -> Iterable[Owed]:
    """List the notices that a pass owes. ``trace_url`` is the address of a trace, with ``{trace_id}`` in it."""
    link = trace_link(trace_url, report.trace_id)
    for key, notice in _notices(report, recorded):
        yield Owed(key, asdict(replace(notice, context=(*notice.context, *((link,) if link else ())))))


def _notices(report: Report, recorded: Recorded) -> Iterator[tuple[str, Notice]]:
    stack, run = report.stack, recorded.run
    if report.verdict is Verdict.REJECTED:
        lines = tuple(str(problem) for problem in report.problems)
        title = "the commit was rejected; the last good revision stays in force"
        which = f"{report.revision}:{sha256(chr(10).join(lines).encode()).hexdigest()[:16]}"  # a working tree has no other name
        yield f"rejected:{stack}:{which}", _notice(report, title, "error", lines)
        return
    acknowledged = {str(held.change.id) for held in report.remaining.held if held.guard == "exception"}
    if opened := [id for id in recorded.opened if id not in acknowledged and id not in recorded.flapping]:
        yield f"drift:{stack}:{run}", _drift(report, opened)
    for id in recorded.flapping:
        yield f"flapping:{stack}:{id}:{report.finished:%Y-%m-%d}", _flapping(report, id)
    for note in report.remaining.notes:
        if ENDED in note:
            yield f"ended:{stack}:{note}", _notice(report, "an exception has ended", "warning", (note,))
    if held := [one for one in pending(report.remaining) if one.guard != "drift"]:
        yield f"held:{stack}:{report.remaining.digest}", _held(report, held)
    if report.verdict in BAD and recorded.before != report.verdict:
        yield f"{report.verdict}:{stack}:{run}", _bad(report)
    elif report.verdict is Verdict.CONVERGED and _by_commit(report):
        lines = tuple(change_line(change) for change in report.plan.changes)
        yield f"converged:{stack}:{run}", _notice(report, f"converged: {summary(report.plan)}", "ok", lines)
    elif report.verdict is Verdict.CONVERGED and recorded.before in BAD:
        yield f"recovered:{stack}:{run}", _notice(report, "converged again", "ok", ())


def _by_commit(report: Report) -> bool:
    return report.progress and any(change.cause != "drift" for change in report.plan.changes)


def _drift(report: Report, opened: Sequence[str]) -> Notice:
    fresh = [change for change in (*drifted(report.plan), *drifted(report.remaining)) if str(change.id) in opened]
    unique = {change.id: change for change in fresh}
    repaired = {one.id for one in report.outcomes if one.status is Status.APPLIED}
    lines = []
    for id, change in unique.items():
        word = "repaired" if id in repaired else "reported only"
        lines.append(f"{word}: {change_line(change)}; " + "; ".join(diff_lines(change.diffs, 2)))
    return _notice(report, f"drift in {len(unique)} resource{'s' if len(unique) > 1 else ''}", "warning", tuple(lines))


def _flapping(report: Report, id: str) -> Notice:
    """Tell once a day of a fight with another hand; each single repair is no news any more."""
    (change, *_) = (one for one in (*drifted(report.plan), *drifted(report.remaining)) if str(one.id) == id)
    advice = "stop the other, take the resource out of git, or name the field in reconciler/ignore"
    lines = (change_line(change), *diff_lines(change.diffs, 2), advice)
    return _notice(report, f"{id} is changed again and again", "warning", lines)


def _held(report: Report, held: Sequence[Held]) -> Notice:
    digest = report.remaining.digest[:12]
    title = "1 change is held by the guard" if len(held) == 1 else f"{len(held)} changes are held by the guard"
    lines = (held[0].reason, f"to let it pass: reconciler approve {digest}", *(change_line(one.change) for one in held))
    return _notice(report, title, "warning", lines)


def _bad(report: Report) -> Notice:
    failed = [f"{one.id}: {one.message}" for one in report.outcomes if one.status is Status.FAILED]
    unseen = [f"{one.id}: {one.reason}" for one in report.remaining.stuck if one.unknown]
    sick = [f"{id}: {health.message}" for id, health in report.health.items()]
    return _notice(report, str(report.verdict), "error", (*failed, *unseen, *sick))


def _notice(report: Report, title: str, level: NoticeLevel, lines: Sequence[str]) -> Notice:
    shown = tuple(lines[:MOST]) + ((f"and {len(lines) - MOST} more",) if len(lines) > MOST else ())
    context = (f"revision {report.revision[:12]}", report.subject, f"{report.seconds:.1f} s", f"trace {report.trace_id}")
    return Notice(title, level, report.stack, shown, tuple(part for part in context if part), key=report.stack)

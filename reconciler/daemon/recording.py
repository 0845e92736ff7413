"""What is written beside a pass in its transaction: the incidents, and where there is a forge, the status of the commit."""

from datetime import datetime

import sqlalchemy as sa

from reconciler.daemon import cards
from reconciler.daemon.incidents import Part
from reconciler.daemon.statuses import CommitStatus, of_report, set_status
from reconciler.desired import Desired
from reconciler.git import HEX
from reconciler.report import Report
from reconciler.settings import Settings
from reconciler.state import News, Recorded
from reconciler.telemetry import trace_id, trace_link


def recorder(settings: Settings) -> News:
    """Give what the store calls for each pass."""
    if not settings.forges():
        return cards.record

    def record(connection: sa.Connection, report: Report, recorded: Recorded) -> None:
        cards.record(connection, report, recorded)
        part = Part(run=recorded.run, trace=report.trace_id, revision=report.revision)
        status = of_report(report, page(settings, part, report.stack))
        if status is not None:
            set_status(connection, status, report.finished)

    return record


def begun(settings: Settings, connection: sa.Connection, desired: Desired, stack: str, now: datetime) -> None:
    """Write that a commit was accepted for a stack and its pass is to come."""
    commit = desired.revision.commit
    if settings.forges() and HEX.fullmatch(commit):
        part = Part(trace=trace_id(commit), revision=commit)
        set_status(connection, CommitStatus(commit, stack, "pending", "accepted", page(settings, part, stack), desired.source), now)


def page(settings: Settings, part: Part, stack: str) -> str:
    """Give the page with more to read about a part: that of its run, else that of its trace, else none."""
    template = settings.notify.link
    if template and (part.run or "{run}" not in template):
        return template.format(run=part.run, stack=stack, revision=part.revision, trace=part.trace)
    return trace_link(settings.telemetry.trace_url, part.trace) if part.trace else ""

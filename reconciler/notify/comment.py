"""The plan of a pull request as one comment. Pure.

Whatever comes from the proposal or from a live system stands in a code span, where no forge looks for mentions, links, images or HTML.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reconciler.checks.findings import Finding, Severity
from reconciler.driver import Action, Change
from reconciler.plan import Plan
from reconciler.report import SYMBOLS, diff_lines, stuck_rows, summary

ROWS, FIELDS = 100, 6
SIGNS = {Severity.ERROR: "🚨", Severity.WARNING: "⚠️", Severity.INFO: "ℹ️"}  # noqa: RUF001 - the sign that people know


@dataclass(frozen=True, slots=True)
class Planned:
    """One stack of a proposal: its plan with what the checks say, or the problems that keep it from being loaded."""

    stack: str
    plan: Plan | None = None
    findings: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        """True when the proposal should not be merged as it is."""
        return bool(self.problems) or any(one.severity is Severity.ERROR for one in self.findings)


@dataclass(frozen=True, slots=True)
class NextHead:
    """What is known of the next head of the branch, where that alone must be signed.

    ``forward`` when the newest commit of the proposal can become it as it is. ``doubt`` says why that would be refused; empty where it
    would not.
    """

    forward: bool
    doubt: str = ""


def mark(instance: str) -> str:
    """Give the line by which we find our comment again; no forge shows it."""
    return f"<!-- reconciler:plan:{instance} -->"


def body(
    instance: str,
    head: str,
    base: str,
    stacks: Sequence[Planned],
    most: int,
    trouble: str = "",
    doubts: Sequence[str] = (),
    next_head: NextHead | None = None,
) -> str:
    """Give the whole comment, at most ``most`` characters. ``trouble`` says why there is no plan.

    ``doubts`` say why the commits would not be trusted once they are merged; ``next_head`` whether the newest would be, on its own.
    """
    lines = [mark(instance), f"### {title(stacks, trouble, doubts)}", ""]
    if doubts:
        lines += ["Its commits would be refused once they are merged:", "", *(f"- 🚨 {span(one)}" for one in doubts[:ROWS]), ""]
    if next_head is not None:
        lines += [*_next_head(next_head), ""]
    for one in stacks:
        lines += [*_stack(one), ""]
    end = f"Planned {span(head[:12])} merged into {span(base[:12])}. Nothing was written, no secret was read and no probe was run."
    text = "\n".join(lines)
    room = most - len(end) - 60
    if len(text) > room:
        text = text[: text.rfind("\n", 0, room)] + "\n\n*The rest is too long for a comment; see `reconciler plan`.*\n"
    return f"{text}\n{end}\n"


def title(stacks: Sequence[Planned], trouble: str = "", doubts: Sequence[str] = ()) -> str:
    """Say in one line what the proposal would do, without markup of its own."""
    if trouble:
        return trouble
    if doubts:
        return "Not ready: its commits would be refused"
    if not stacks:
        return "No stack is touched"
    bad = [one.stack for one in stacks if one.bad]
    if bad:
        return f"Not ready: {span(', '.join(bad))}"
    plans = [one.plan for one in stacks if one.plan is not None]
    if all(plan.in_sync for plan in plans):
        return "Nothing would change"
    return "What would change" if len(plans) != 1 else f"What would change: {summary(plans[0])}"


def _next_head(one: NextHead) -> Iterator[str]:
    made = "a commit that a merge, a squash or a rebase makes must itself be signed by a key that counts, as the new head of the branch"
    if not one.forward:
        yield f"- {SIGNS[Severity.INFO]} It cannot be fast-forwarded: {made}."
    elif one.doubt:
        yield f"- {SIGNS[Severity.WARNING]} Fast-forwarded, its newest commit would be refused: {span(one.doubt)}"
        yield f"- {SIGNS[Severity.INFO]} Merged otherwise, that does not matter: {made}."
    else:
        yield f"- {SIGNS[Severity.INFO]} Fast-forwarded, its newest commit would be trusted; {made}."


def _stack(one: Planned) -> Iterator[str]:
    yield f"#### Stack {span(one.stack)}" + (f": {summary(one.plan)}" if one.plan is not None else "")
    yield ""
    yield from (f"- 🚨 {span(problem)}" for problem in one.problems[:ROWS])
    yield from (f"- {SIGNS[found.severity]} {span(str(found))}" for found in sorted(one.findings)[:ROWS])
    if one.plan is not None:
        yield from _plan(one.plan)


def _plan(plan: Plan) -> Iterator[str]:
    rows = [*((change, change.cause.value) for change in plan.changes)]
    rows += [(held.change, f"held by {held.guard}: {held.reason}") for held in plan.held]
    if rows:
        yield from ("", "| | resource | why | fields |", "|---|---|---|---|")
        yield from (_row(change, why) for change, why in rows[:ROWS])
        if len(rows) > ROWS:
            yield f"| | and {len(rows) - ROWS} more | | |"
        yield ""
    yield from (f"- **{status}** {span(who)}: {span(reason)}" for status, who, reason in [*stuck_rows(plan.stuck)][:ROWS])
    yield from (f"- note: {span(note)}" for note in plan.notes[:ROWS])
    yield f"- {plan.unchanged} unchanged; digest {span(plan.digest[:12])}"


def _row(change: Change, why: str) -> str:
    return f"| {SYMBOLS[change.action]} {change.action} | {_cell(str(change.id))} | {_cell(why)} | {_fields(change)} |"


def _fields(change: Change) -> str:
    """Give the fields of a change; of an object that is not ours yet only their names, because a proposal may name any object."""
    if change.action is Action.DELETE:
        return ""
    if change.action is Action.ADOPT:
        return _cell(", ".join(diff.path or "/" for diff in change.diffs[:FIELDS])) if change.diffs else ""
    return "<br>".join(_cell(line) for line in diff_lines(change.diffs, FIELDS))


def _cell(text: str) -> str:
    return span(text).replace("|", "\\|")


def span(text: str) -> str:
    """Give a code span that ends where we say: its fence is longer than any run of backticks inside."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    if not line:
        return ""
    longest = max((len(run) for run in _runs(line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest else f"{fence}{line}{fence}"


def _runs(text: str) -> Iterator[str]:
    run = ""
    for sign in text:
        if sign == "`":
            run += sign
        elif run:
            yield run
            run = ""
    if run:
        yield run

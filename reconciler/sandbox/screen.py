"""What a person sees of a demo: stages, waves and each resource as it happens. Rendering only; it decides nothing."""

import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.status import Status as Spinner

from reconciler.applying import Event
from reconciler.driver import Action, Cause, Status
from reconciler.report import Report, Verdict, change_line, diff_lines, summary

GLYPHS = {Status.APPLIED: "[green]✓[/]", Status.FAILED: "[red]✗[/]", Status.BLOCKED: "[yellow]…[/]"}
VERBS = {Action.CREATE: "create", Action.UPDATE: "update", Action.REPLACE: "replace", Action.DELETE: "delete", Action.ADOPT: "adopt"}
TONES = {Verdict.CONVERGED: "bold green", Verdict.PENDING: "bold yellow", Verdict.DEGRADED: "bold yellow"}


class Screen:
    """Prints to a terminal, or plain lines to a pipe; can keep a picture of all of it."""

    def __init__(self, *, record: bool = False, color: bool | None = None) -> None:
        """``record`` keeps what is printed for ``save``, resources counted and not listed; ``color`` overrides the terminal."""
        # a pipe has no width of its own
        width = None if sys.stdout.isatty() and not record else 118
        self.console = Console(record=record, width=width, highlight=False, force_terminal=color or None, no_color=color is False)
        self._spinner: Spinner | None = None
        self._actions: dict[str, str] = {}
        self.brief = record
        self._done: dict[tuple[str, str], int] = {}

    def title(self, text: str, *lines: str) -> None:
        """Begin a scene."""
        self.quiet()
        self.console.print()
        self.console.print(
            Panel("\n".join(lines) or text, title=f"[bold]{escape(text)}[/]" if lines else None, title_align="left", width=116)
        )

    def say(self, text: str) -> None:
        """Print one line, markup allowed."""
        self.console.print(text)

    def lines(self, texts: Iterable[str], indent: str = "  ") -> None:
        """Print plain lines."""
        for text in texts:
            self.console.print(f"{indent}{escape(text)}", overflow="ellipsis", no_wrap=True)

    def promise(self, text: str, kept: bool) -> None:
        """Print whether a promise was kept."""
        self.quiet()
        self.console.print(f"  {'[bold green]kept[/]  ' if kept else '[bold red]BROKEN[/]'} {escape(text)}")

    def busy(self, text: str) -> None:
        """Show that something is going on."""
        if self.brief:
            return  # a picture does not move
        if self._spinner is None:
            self._spinner = self.console.status(escape(text), spinner="dots")
            self._spinner.start()
        else:
            self._spinner.update(escape(text))

    def quiet(self) -> None:
        """Stop showing that something is going on."""
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def hear(self, event: Event) -> None:
        """Show an event of a pass."""
        if event.stage != "outcome":
            self._tally()
        match event.stage:
            case "observe":
                self.busy(f"observing {event.text}: five systems in parallel")
            case "plan" if event.plan is not None and (event.plan.waves or any(not one.quiet for one in event.plan.held)):
                waves = f" in {len(event.plan.waves)} waves" if event.plan.waves else ""
                self.console.print(f"  [bold]plan[/] {escape(summary(event.plan))}{waves}  [dim]digest {event.plan.digest[:12]}[/]")
            case "wave":
                self._actions.update({str(change.id): VERBS[change.action] for change in event.changes})
                self.busy(f"writing {len(event.changes)} changes")
            case "outcome" if event.outcome is not None:
                self._outcome(event)
            case "wait" | "verify" if event.health:
                id, health = next(iter(event.health.items()))
                self.busy(f"waiting for {len(event.health)}: {id}: {health.message}")
            case "done":
                self.quiet()

    def _outcome(self, event: Event) -> None:
        outcome = event.outcome
        assert outcome is not None
        verb = self._actions.get(str(outcome.id), "")
        if self.brief and outcome.status is Status.APPLIED:
            key = (outcome.id.driver, verb)
            self._done[key] = self._done.get(key, 0) + 1
            return
        detail = outcome.message if outcome.status is not Status.APPLIED else ""
        took = f"[dim]{outcome.duration * 1000:.0f} ms[/]" if outcome.duration else ""
        line = f"    {GLYPHS.get(outcome.status, ' ')} {verb:<7} {escape(str(outcome.id))} {took} {escape(detail)}"
        self.console.print(line.rstrip(), overflow="ellipsis", no_wrap=True)

    def _tally(self) -> None:
        if self._done:
            parts = (f"{verb} {count} in [bold]{driver}[/]" for (driver, verb), count in sorted(self._done.items()))
            self.console.print(f"    [green]✓[/] {', '.join(parts)}")
            self._done.clear()

    def report(self, report: Report) -> None:
        """Show how a pass ended."""
        self.quiet()
        if not report.outcomes and report.verdict is Verdict.CONVERGED:
            return
        tone = TONES.get(report.verdict, "bold red")
        self.console.print(f"  [{tone}]{report.verdict}[/] in {report.seconds:.1f} s  [dim]trace {report.trace_id}[/]")
        for held in report.remaining.held:
            if not held.quiet:
                self.lines([f"held by {held.guard}: {change_line(replace(held.change, evidence=None))}"], "    ")
        for stuck in report.remaining.stuck:
            self.lines([f"{stuck.status}: {stuck.id}: {stuck.reason}"], "    ")
        for id, health in report.health.items():
            self.lines([f"{health.level.name.lower()}: {id}: {health.message}"], "    ")

    def changes(self, report: Report) -> None:
        """Show the fields that a pass changed."""
        for change in report.plan.changes:
            if self.brief and change.cause is not Cause.COMMIT:
                continue
            self.lines([change_line(replace(change, evidence=None))], "    ")
            if change.action is not Action.DELETE:
                self.lines(diff_lines(change.diffs, 3), "        ")

    def save(self, path: Path) -> None:
        """Write what was printed as a picture (SVG)."""
        picture = self.console.export_svg(title="make demo")
        # a picture that loads fonts from elsewhere would tell elsewhere who looks at it
        path.write_text(re.sub(r"@font-face \{[^}]*\}", "", picture), encoding="utf-8")

"""How an incident looks: its title, its lines and what can be done about it. Pure; which sink shows it is not known here."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from reconciler.daemon.incidents import Incident, Part, Sort, Step, spell
from reconciler.notify import Button, Notice, NoticeLevel

MOST = 8
SHOWN, PARTS = 2500, 6
"""Characters of a text to copy that one notice shows, and how many notices there are at most."""
LEVELS: Mapping[Sort, NoticeLevel] = {
    Sort.SOURCE: "error",
    Sort.REJECTED: "error",
    Sort.UNSEEN: "error",
    Sort.FAILED: "error",
    Sort.UNHEALTHY: "error",
    Sort.COMMIT: "ok",
}
PLAN, FIX, ACKNOWLEDGE, ADOPT, APPROVE, LOOK = (
    "reconciler_plan",
    "reconciler_fix",
    "reconciler_acknowledge",
    "reconciler_adopt",
    "reconciler_approve",
    "reconciler_look",
)


def card(one: Incident, address: Callable[[Part, str], str] = lambda part, stack: "") -> Notice:
    """Give the card of an incident as it is now. ``address`` gives the page with more to read about a part and its stack."""
    stacks = ", ".join(one.parts)
    name, part = max(one.parts.items(), key=lambda item: item[1].run)
    over = one.closed is not None and not one.event
    level: NoticeLevel = "ok" if over else LEVELS.get(one.sort, "warning")
    lines = _lines(one)
    return Notice(
        title=_over(one) if over else _title(one),
        level=level,
        stack=stacks,
        lines=(*lines[:MOST], *([f"and {len(lines) - MOST} more"] if len(lines) > MOST else []), *_waits(one), *one.said),
        context=(*part.context, *_since(one)),
        key=one.key,
        link=address(part, name),
        buttons=_buttons(one) if one.open else (),
    )


def note(step: Step, code: str = "") -> Notice:
    """Give what the thread of an incident is told about a step."""
    one = step.incident
    titles = {"opened": "in detail", "changed": "what changed", "again": "it happened again", "over": "over", "refreshed": "what changed"}
    level: NoticeLevel = "ok" if step.what == "over" else "info"
    title = titles.get(step.what, step.what)
    return Notice(title, level, ", ".join(one.parts), step.lines, key=one.key, code=code)


def pieces(notice: Notice, code: str) -> list[Notice]:
    """Give a notice with a text to copy as so many that each shows its part of the text whole."""
    parts = list(_cut(code)) or [""]
    shown = [replace(notice, code=parts[0])]
    for number, part in enumerate(parts[1:PARTS], 2):
        shown.append(replace(notice, lines=(f"part {number} of {len(parts)}",), code=part))
    left = len(parts) - len(shown)
    more = f"and {_many(left, 'part')} more, which reconciler adopt and reconciler drift show"
    return [*shown, replace(notice, lines=(more,))] if left else shown


def _cut(code: str) -> Iterator[str]:
    """Cut a text between its lines, so that each piece is short enough to be shown."""
    piece = ""
    for line in code.splitlines(keepends=True):
        if piece and len(piece) + len(line) > SHOWN:
            yield piece
            piece = ""
        piece += line
    if piece:
        yield piece


def _title(one: Incident) -> str:
    parts = list(one.parts.values())
    items = {id for part in parts for id in part.items}
    match one.sort:
        case Sort.UNSEEN:
            return f"{one.key.partition(':')[2]} cannot be seen"
        case Sort.FAILED:
            return f"{_many(len(items), 'write')} to {parts[0].about} failed"
        case Sort.HELD:
            return f"{_many(len(items), 'change')} {'is' if len(items) == 1 else 'are'} held by the guard"
        case Sort.DRIFT:
            return f"drift in {_many(len(items), 'resource')}"
        case Sort.UNHEALTHY:
            return f"{_many(len(items), 'resource')} not healthy"
        case Sort.STUCK:
            return f"{_many(len(items), 'resource')} cannot be applied"
        case Sort.ENDED:
            return "an exception has ended" if len(items) == 1 else f"{len(items)} exceptions have ended"
        case Sort.COMMIT:
            return f"converged: {parts[0].about}" if len(parts) == 1 else f"{len(parts)} stacks converged"
    return parts[0].about


def _over(one: Incident) -> str:
    match one.sort:
        case Sort.SOURCE:
            return "the repository can be read again"
        case Sort.REJECTED:
            return "the newest revision can be used"
        case Sort.UNSEEN:
            return f"{one.key.partition(':')[2]} can be seen again"
    return f"over: {_title(one)}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _lines(one: Incident) -> list[str]:
    several = len(one.parts) > 1
    lines = []
    if one.sort is Sort.UNSEEN:
        lines += list(dict.fromkeys(part.about for part in one.parts.values()))
        lines += [f"{name}: {_many(len(part.items), 'resource')} unknown" for name, part in one.parts.items() if part.items]
        return [*lines, *_hurt(one)]
    for name, part in one.parts.items():
        if part.about and one.sort in (Sort.HELD,):
            lines.append(part.about)
        if part.digest and one.sort is Sort.HELD and one.open:
            lines.append(f"to let it pass: reconciler approve {part.digest[:12]}")
        if several and one.sort is Sort.COMMIT:
            lines.append(f"{name}: {part.about}")
        else:
            lines += [f"{name}: {line}" if several else line for line in part.items.values()]
    return [*lines, *_hurt(one)]


def _hurt(one: Incident) -> list[str]:
    """Say what is not healthy because of an incident."""
    return [f"{name}: {line}" if len(one.parts) > 1 else line for name, part in one.parts.items() for line in part.hurt.values()]


def _waits(one: Incident) -> list[str]:
    """Count what waits; where each cause says how many wait for it, that is said already."""
    if one.sort is Sort.UNHEALTHY:
        return []
    count = len({id for part in one.parts.values() for id in part.waits})
    return [f"{_many(count, 'resource')} wait{'s' if count == 1 else ''} for it"] if count else []


def _since(one: Incident) -> list[str]:
    if one.event:
        return [f"{one.times} times"] if one.times > 1 else []
    told = [f"since {_clock(one.opened)}"] if one.closed is None else [f"lasted {spell(one.closed - one.opened)}"]
    return [*told, f"{one.times} times"] if one.times > 1 else told


def _clock(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def seen(one: Incident) -> str:
    """Give a short text for exactly what the card's buttons are about, so that a press means what its presser saw."""
    from reconciler.resource import digest

    return digest([[name, part.digest, sorted(part.items)] for name, part in sorted(one.parts.items())])[:16]


def _buttons(one: Incident) -> tuple[Button, ...]:
    value = json.dumps({"card": one.id, "seen": seen(one)}, separators=(",", ":"))
    plan, look = Button(PLAN, "Plan", value), Button(LOOK, "Look again", value)
    match one.sort:
        case Sort.HELD:
            (part,) = one.parts.values()
            ask = f"Let the plan {part.digest[:12]} pass: {_title(one)}?"
            return plan, Button(APPROVE, "Approve", value, "primary", ask)
        case Sort.DRIFT:
            (part,) = one.parts.values()
            fix = (Button(FIX, "Fix now", value, "primary", f"Put back {_many(len(part.items), 'resource')} as git says?"),)
            ask = f"Propose that git says what is live of {_many(len(part.adopt), 'resource')}? Nothing changes until somebody merges it."
            adopt = (Button(ADOPT, "Adopt", value, "", ask),)
            keep = Button(ACKNOWLEDGE, "Acknowledge 24 h", value)
            return plan, *(fix if part.fix else ()), keep, *(adopt if part.adopt else ())
        case Sort.UNSEEN | Sort.FAILED | Sort.UNHEALTHY | Sort.STUCK:
            return plan, look
    return ()

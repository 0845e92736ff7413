"""What people are told about, as values: an incident opens, changes and ends, and has one card from its beginning to its end.

Pure. ``merge`` compares what is known with what one pass found and gives the incidents that changed, with what to say in their threads.
Nothing is decided here about when or how it is said.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

QUIET = timedelta(hours=1)
"""An incident that comes back so soon after its end is the same one: its card is opened again."""
MOST_NOTED = 20


class Sort(StrEnum):
    """The sorts of incident. ``COMMIT``, ``REWRITTEN``, ``FLAPPING`` and a repaired drift are events: told, and over at once."""

    SOURCE = "source"
    REWRITTEN = "rewritten"
    REJECTED = "rejected"
    UNSEEN = "unseen"
    FAILED = "failed"
    HELD = "held"
    DRIFT = "drift"
    FLAPPING = "flapping"
    UNHEALTHY = "unhealthy"
    STUCK = "stuck"
    ENDED = "ended"
    COMMIT = "commit"


NAMED = (Sort.COMMIT, Sort.FLAPPING)
"""Events whose key names the commit or the day, so that they are the same however late they are met again."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one stack has to do with an incident.

    ``about`` is the root cause in words; ``items`` says of each resource that is concerned what is wrong with it; ``waits`` are those that
    are well but wait for them, ``hurt`` says of those that are not healthy because of them what is wrong there. ``digest`` is the plan that
    may be approved, ``fix`` says that approving it repairs this and nothing else; ``adopt`` are resources whose live state git could want.
    """

    about: str = ""
    items: Mapping[str, str] = field(default_factory=dict)
    waits: tuple[str, ...] = ()
    hurt: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    fix: bool = False
    adopt: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    run: int = 0
    trace: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What one pass of one stack found. ``lasting`` until a pass no longer finds it; else an event.

    ``news`` happened in this pass and is always told in the thread; ``details`` are told there when the card is opened.
    """

    key: str
    sort: Sort
    part: Part
    lasting: bool = True
    news: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident. ``parts`` by stack; when it is over, those that it ended with. Times are aware; ``closed`` is None while it is open.

    ``times`` counts how often it opened. ``event`` is true when it never lasted. ``said`` is what people did about it.
    """

    key: str
    sort: Sort
    parts: Mapping[str, Part]
    opened: datetime
    changed: datetime
    closed: datetime | None = None
    times: int = 1
    event: bool = False
    said: tuple[str, ...] = ()
    id: int = 0

    @property
    def open(self) -> bool:
        """True until it is over."""
        return self.closed is None


@dataclass(frozen=True, slots=True)
class Step:
    """One incident that changed, and the lines that its thread gets; none for a change that only its card shows."""

    incident: Incident
    what: str
    lines: tuple[str, ...] = ()


def merge(
    stack: str,
    known: Iterable[Incident],
    found: Sequence[Found],
    now: datetime,
    *,
    sorts: Iterable[Sort] = tuple(Sort),
    unknown: Collection[str] = (),
) -> list[Step]:
    """Give every incident that a pass of ``stack`` opened, changed or ended. Pure: merging the same twice gives nothing the second time.

    ``known`` are the incidents that are open or ended not long ago. ``sorts`` are those that the pass can judge: the others stay as they
    are. What is ``unknown`` now stays as it was: not seeing is not seeing nothing.
    """
    latest = {one.key: one for one in sorted(known, key=lambda one: one.opened)}
    steps: list[Step | None] = []
    for each in found:
        before = latest.pop(each.key, None)
        if before is not None and before.closed is not None and now - before.closed > QUIET and before.sort not in NAMED:
            before = None
        steps.append(_opened(stack, each, now) if before is None else _met(stack, before, each, now, unknown))
    judged = set(sorts)
    left = [one for one in latest.values() if one.open and stack in one.parts and one.sort in judged]
    steps += [_left(stack, one, now, unknown) for one in left]
    return [step for step in steps if step is not None]


def _opened(stack: str, one: Found, now: datetime) -> Step:
    closed = None if one.lasting else now
    incident = Incident(one.key, one.sort, {stack: one.part}, now, now, closed, event=not one.lasting)
    return Step(incident, "opened", (*one.news, *one.details))


def _met(stack: str, before: Incident, one: Found, now: datetime, unknown: Collection[str]) -> Step | None:
    """Handle something that is known already: still there, there for another stack, or there again."""
    if not before.open:
        return _again(stack, before, one, now)
    old = before.parts.get(stack)
    part = one.part if old is None else replace(one.part, items={**one.part.items, **_missed(before, old, one.part, unknown)})
    if not one.lasting:  # an open incident whose last sign was an event of the same sort
        return _over(stack, replace(before, parts={**before.parts, stack: one.part}), now, (*one.news, *one.details))
    lines = (*_differences(stack, old, part), *one.news)
    after = replace(before, parts={**before.parts, stack: part}, changed=now)
    if not lines and _shown(old) == _shown(part):
        return None
    return Step(after, "changed" if lines else "refreshed", lines)


def _again(stack: str, before: Incident, one: Found, now: datetime) -> Step | None:
    """Open a card again, or add to one that tells of an event."""
    if one.lasting:
        after = replace(before, parts={stack: one.part}, changed=now, closed=None, times=before.times + 1, event=False, said=())
        return Step(after, "again", ("it is back", *one.news, *one.details))
    if before.sort is Sort.DRIFT:
        after = replace(before, parts={**before.parts, stack: one.part}, changed=now, closed=now, times=before.times + 1)
        return Step(after, "again", (*one.news, *one.details))
    if before.sort is Sort.FLAPPING or _shown(before.parts.get(stack)) == _shown(one.part):
        return None
    return Step(replace(before, parts={**before.parts, stack: one.part}, changed=now), "changed", (*one.news, *one.details))


def _left(stack: str, before: Incident, now: datetime, unknown: Collection[str]) -> Step | None:
    """Take a stack out of an incident that a pass no longer found, but for what it could not see."""
    old = before.parts[stack]
    kept = _kept(before, old, unknown)
    if kept and len(kept) < len(old.items):
        part = replace(old, items=kept)
        return Step(replace(before, parts={**before.parts, stack: part}, changed=now), "changed", _differences(stack, old, part))
    return None if kept else _over(stack, before, now, ())


def _over(stack: str, before: Incident, now: datetime, news: tuple[str, ...]) -> Step:
    """End an incident for one stack, and as a whole when it was the last one."""
    others = {name: part for name, part in before.parts.items() if name != stack}
    if others:
        return Step(replace(before, parts=others, changed=now), "changed", (f"{stack}: over", *news))
    lines = (*news, f"over after {spell(now - before.opened)}")
    return Step(replace(before, changed=now, closed=now), "over", lines)


def _kept(before: Incident, old: Part, unknown: Collection[str]) -> dict[str, str]:
    """Keep what cannot be judged now. What is unseen is what the incident of that sort is about, and is judged by it alone."""
    return {} if before.sort is Sort.UNSEEN else {id: line for id, line in old.items.items() if id in unknown}


def _missed(before: Incident, old: Part, new: Part, unknown: Collection[str]) -> dict[str, str]:
    """Give what is kept and not found anew, to stand behind what was found: that has the order in which it is told."""
    return {id: line for id, line in _kept(before, old, unknown).items() if id not in new.items}


def _shown(part: Part | None) -> object:
    """Give what a card shows of a part; the run and how long it took change with every pass and are no news."""
    return None if part is None else (part.about, dict(part.items), part.waits, dict(part.hurt), part.digest, part.fix, part.revision)


def _differences(stack: str, old: Part | None, new: Part) -> tuple[str, ...]:
    """Say what came and what went."""
    if old is None:
        return (f"{stack}: also concerned", *_few(list(new.items.values()) or [new.about]))
    lines = _few([line for id, line in new.items.items() if id not in old.items])
    lines += _few([f"no longer: {id}" for id in old.items if id not in new.items])
    if old.digest and new.digest and old.digest != new.digest:
        lines.append(f"the plan is another one now: {new.digest[:12]}")
    return tuple(lines)


def _few(lines: list[str]) -> list[str]:
    return [*lines[:MOST_NOTED], *([f"and {len(lines) - MOST_NOTED} more"] if len(lines) > MOST_NOTED else [])]


def spell(time: timedelta) -> str:
    """Give a duration as people say it: ``45 s``, ``12 min``, ``3 h``, ``2 days``."""
    seconds = int(time.total_seconds())
    for unit, size in (("days", 2 * 86400), ("h", 2 * 3600), ("min", 120)):
        if seconds >= size:
            return f"{seconds // {'days': 86400, 'h': 3600, 'min': 60}[unit]} {unit}"
    return f"{seconds} s"

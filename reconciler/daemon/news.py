"""What one pass found that people should hear of, each under its root cause. Pure; called inside the transaction that records the pass.

One outage is one thing: what waits for a resource that failed, or for a system that cannot be seen, is counted under that and is no news of
its own. A system that cannot be seen is one incident for all stacks, and so is what one commit brought about.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from reconciler.daemon.incidents import Found, Part, Sort
from reconciler.daemon.ranking import because, consequences, ranked
from reconciler.driver import Change, FieldDiff, Status
from reconciler.plan import Held
from reconciler.policy import pending
from reconciler.report import Report, Verdict, change_line, diff_lines, drifted, summary
from reconciler.report import about as named
from reconciler.report import repaired as written_back
from reconciler.resource import ResourceId, is_sealed
from reconciler.telltales import called, tells

ENDED = " has ended ("
"""What the plan's note on a DriftException says when its last day is over."""
UNSEEN = re.compile(r"(?:(?P<target>\S+) )?cannot be seen: (?P<why>.*)", re.DOTALL)
STORE = re.compile(r"the secret store cannot be (?:seen|opened): (?P<why>.*)", re.DOTALL)
WAITS = re.compile(r"waits for (?P<id>\S+): ")
JUDGED = tuple(sort for sort in Sort if sort not in (Sort.REJECTED, Sort.SOURCE, Sort.REWRITTEN, Sort.LEFT, Sort.COMMIT, Sort.FLAPPING))
HIDDEN = "(not shown)"
ADVICE = "stop the other, take the resource out of git, or name the field in reconciler/ignore"


def judged(report: Report) -> tuple[Sort, ...]:
    """Give the sorts of incident that a pass can say something about: one that was interrupted says nothing of what it does not name."""
    if report.verdict is Verdict.INTERRUPTED:
        return ()
    return (Sort.REJECTED,) if report.verdict is Verdict.REJECTED else JUDGED


def found(report: Report, flapping: Collection[str] = ()) -> list[Found]:
    """List what a pass found, the worst first. ``flapping`` are resources that were repaired several times of late."""
    if report.verdict is Verdict.REJECTED:
        return [rejected(report)]
    if report.verdict is Verdict.INTERRUPTED:
        return [*_drift(report, _Roots(report), flapping, over=True)]
    roots = _Roots(report)
    return [
        *_unseen(report, roots),
        *_failed(report, roots),
        *_held(report, roots),
        *_unhealthy(report, roots),
        *_ended(report),
        *_flapping(report, flapping),
        *_drift(report, roots, flapping),
        *_stuck(report, roots),
        *_commit(report),
    ]


def unknown(report: Report) -> frozenset[str]:
    """Give the ids of what this pass could not see."""
    return frozenset(str(one.id) for one in report.remaining.stuck if one.unknown)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A system that cannot be seen: why, and the resources that are unknown for it."""

    why: str
    ids: tuple[ResourceId, ...]


class _Roots:
    """Follows what waits to what it waits for in the end."""

    def __init__(self, report: Report) -> None:
        """Index what a pass left open."""
        self.targets = {one.id: one.target for one in _changes(report)}
        self.failed = {one.id: one.message for one in report.outcomes if one.status is Status.FAILED}
        self.failed |= {one.id: one.reason for one in report.remaining.stuck if one.resting}
        self.held = {one.change.id: one for one in pending(report.remaining)}
        self.sick = report.health
        self.reasons = {one.id: one.message for one in report.outcomes if one.status is Status.BLOCKED}
        self.reasons |= {one.id: one.reason for one in report.remaining.stuck if not (one.unknown or one.resting)}
        self.unseen = _unseen_targets(report)
        self.by_unseen = {id: target for target, one in self.unseen.items() for id in one.ids}
        self.because = dict(consequences(self.sick, report.above, {*self.failed, *self.by_unseen}))
        self.waiting: dict[str, list[str]] = {}
        self.behind: dict[ResourceId, list[ResourceId]] = {}
        for id in sorted(self.reasons):
            root, last = self._root(id)
            if root != _of(Sort.STUCK):
                self.waiting.setdefault(root, []).append(str(id))
                self.behind.setdefault(last, []).append(id)

    def target(self, id: ResourceId) -> str:
        """Name the target of a resource, as far as a plan names it."""
        return self.targets.get(id, id.driver)

    def waits(self, key: str) -> tuple[str, ...]:
        """List what waits for the thing with this key."""
        return tuple(self.waiting.get(key, ()))

    def hurt(self, ids: Collection[ResourceId]) -> dict[str, str]:
        """Say of each resource that is not healthy, and depends on one of these, what is wrong with it."""
        return {str(id): because(id, self.sick[id], cause) for id, cause in self.because.items() if cause in ids}

    def _root(self, id: ResourceId) -> tuple[str, ResourceId]:
        """Give the key of what a resource waits for in the end, and the last resource on the way there."""
        passed: set[ResourceId] = set()
        while id not in passed:
            passed.add(id)
            if (key := self._known(id)) is not None:
                return key, id
            if (awaited := WAITS.match(self.reasons.get(id, ""))) is None:
                break
            id = ResourceId.parse(awaited["id"])
        return _of(Sort.STUCK), id

    def _known(self, id: ResourceId) -> str | None:
        """Give the key of the incident that a resource is itself a part of."""
        if (reason := STORE.match(self.reasons.get(id, ""))) is not None:
            return _of(Sort.UNSEEN, _store(reason["why"], self.unseen))
        if id in self.by_unseen:
            return _of(Sort.UNSEEN, self.by_unseen[id])
        if id in self.failed:
            target = self.target(id)
            return _of(Sort.UNSEEN if target in self.unseen else Sort.FAILED, target)
        if id in self.held:
            return _of(Sort.DRIFT if self.held[id].guard == "drift" else Sort.HELD)
        if id in self.because:
            return self._known(self.because[id])
        return _of(Sort.UNHEALTHY) if id in self.sick and id not in self.reasons else None


def _of(sort: Sort, which: str = "") -> str:
    return f"{sort}:{which}" if which else str(sort)


def _changes(report: Report) -> Iterator[Change]:
    for plan in (report.plan, report.remaining):
        yield from (*plan.changes, *(held.change for held in plan.held))


def _unseen_targets(report: Report) -> dict[str, _Seen]:
    """Group what could not be seen by the system that it is in."""
    unseen: dict[str, _Seen] = {}
    for one in report.remaining.stuck:
        if one.unknown:
            match = UNSEEN.match(one.reason)
            target = (match["target"] if match else None) or one.id.driver
            before = unseen.get(target, _Seen(match["why"] if match else one.reason, ()))
            unseen[target] = _Seen(before.why, (*before.ids, one.id))
    for one in report.remaining.stuck:
        if not one.unknown and (reason := STORE.match(one.reason)):
            unseen.setdefault(_store(reason["why"], unseen), _Seen(reason["why"], ()))
    return unseen


def _store(why: str, unseen: Mapping[str, _Seen]) -> str:
    """Name the store of secrets: an error begins with the target that it is about."""
    target = why.partition(":")[0]
    return target if target in unseen or re.fullmatch(r"[a-z0-9][a-z0-9-]*", target) else "the secret store"


# -- what is found -----------------------------------------------------------------------------------------------------------------


def _part(report: Report, about: str, items: Mapping[str, str], **more: object) -> Part:
    revision = f"revision {report.revision[:12]}" if report.revision else ""
    context = tuple(one for one in (revision, report.subject, f"trace {report.trace_id}" if report.trace_id else "") if one)
    return Part(about, items, context=context, trace=report.trace_id, revision=report.revision, **more)  # type: ignore[arg-type]


def rejected(report: Report) -> Found:
    """Say what is wrong with a commit."""
    lines = {str(problem): str(problem) for problem in report.problems}
    about = "the commit was rejected; the last good revision stays in force"
    return Found(f"rejected:{report.stack}", Sort.REJECTED, _part(report, about, lines), details=tuple(lines)[8:])


def _unseen(report: Report, roots: _Roots) -> Iterator[Found]:
    for target, one in roots.unseen.items():
        items = {str(id): f"{id}: cannot be seen" for id in one.ids}
        items |= {str(id): named(id, message) for id, message in roots.failed.items() if roots.target(id) == target}
        key = _of(Sort.UNSEEN, target)
        ids = {*one.ids, *(id for id in roots.failed if roots.target(id) == target)}
        yield Found(key, Sort.UNSEEN, _part(report, one.why, items, waits=roots.waits(key), hurt=roots.hurt(ids)))


def _failed(report: Report, roots: _Roots) -> Iterator[Found]:
    by_target: dict[str, dict[ResourceId, str]] = {}
    for id, message in sorted(roots.failed.items()):
        if (target := roots.target(id)) not in roots.unseen:
            by_target.setdefault(target, {})[id] = named(id, message)
    for target, failed in by_target.items():
        items, waits = {str(id): line for id, line in failed.items()}, roots.waits(_of(Sort.FAILED, target))
        part = _part(report, target, items, waits=waits, hurt=roots.hurt(failed.keys()))
        yield Found(f"failed:{report.stack}:{target}", Sort.FAILED, part)


def _held(report: Report, roots: _Roots) -> Iterator[Found]:
    held = [one for one in pending(report.remaining) if one.guard != "drift"]
    if not held:
        return
    items = {str(one.change.id): change_line(one.change) for one in held}
    part = _part(report, held[0].reason, items, waits=roots.waits(_of(Sort.HELD)), digest=report.remaining.digest)
    yield Found(f"held:{report.stack}", Sort.HELD, part, details=_details(one.change for one in held))


def _unhealthy(report: Report, roots: _Roots) -> Iterator[Found]:
    """Tell of what is not healthy for a reason of its own, and of what depends on that, in this order."""
    blind = unknown(report)
    sick = {id: health for id, health in report.health.items() if str(id) not in blind and id not in roots.because}
    if items := ranked(sick, report.above, roots.behind):
        yield Found(f"unhealthy:{report.stack}", Sort.UNHEALTHY, _part(report, "", items, waits=roots.waits(_of(Sort.UNHEALTHY))))


def _flapping(report: Report, flapping: Collection[str]) -> Iterator[Found]:
    """Tell once a day of a fight with another hand; each single repair is no news any more."""
    for change in drifted(report.plan):
        if str(change.id) in flapping:
            lines = (change_line(change), *diff_lines(_discreet(change), 2), ADVICE)
            part = _part(report, f"{change.id} is changed again and again", {line: line for line in lines})
            yield Found(f"flapping:{report.stack}:{change.id}:{report.finished:%Y-%m-%d}", Sort.FLAPPING, part, lasting=False)


def _drift(report: Report, roots: _Roots, flapping: Collection[str], *, over: bool = False) -> Iterator[Found]:
    """Tell of drift that is still there, and of what was repaired in this pass."""
    written = set(written_back(report))
    repaired = [change for change in drifted(report.plan) if change.id in written and str(change.id) not in flapping]
    accepted = {held.change.id for held in report.remaining.held if held.quiet}
    left = () if over else drifted(report.remaining)
    still = [one for one in left if not {one.id} & (accepted | roots.failed.keys() | roots.reasons.keys())]
    news = tuple(_drift_line("repaired", change) for change in repaired)
    if still:
        held: list[Held] = list(pending(report.remaining))
        alone = bool(held) and all(one.guard == "drift" for one in held)
        items = {str(one.id): _drift_line("reported only", one) for one in still}
        waits, adopt = roots.waits(_of(Sort.DRIFT)), tuple(str(one.id) for one in still if _adoptable(one))
        part = _part(report, "", items, waits=waits, digest=report.remaining.digest, fix=alone, adopt=adopt)
        yield Found(f"drift:{report.stack}", Sort.DRIFT, part, news=news, details=_details(still))
    elif repaired:
        items = {str(one.id): line for one, line in zip(repaired, news, strict=True)}
        yield Found(f"drift:{report.stack}", Sort.DRIFT, _part(report, "", items), lasting=False, details=_details(repaired))


def _adoptable(change: Change) -> bool:
    """Say whether git could want what is live: something is there, and it is more than another value of a secret."""
    return change.live is not None and any(not is_sealed(one.before) and one.path != "/metadata/mark" for one in change.diffs)


def _drift_line(word: str, change: Change) -> str:
    return f"{word}: {change_line(change)}; " + "; ".join(diff_lines(_discreet(change), 2))


def _details(changes: Iterable[Change]) -> tuple[str, ...]:
    """Give every field of some changes, for the thread."""
    return tuple(f"{change_line(change)}: {line}" for change in changes for line in diff_lines(_discreet(change)))


def _discreet(change: Change) -> list[FieldDiff]:
    """Give the fields of a change, without what a hand put there that is called as secrets are."""
    diffs = [(one, called(change.live, one.path)) for one in change.diffs]
    return [replace(one, before=HIDDEN) if tells(name, one.before) and not is_sealed(one.before) else one for one, name in diffs]


def _stuck(report: Report, roots: _Roots) -> Iterator[Found]:
    """Tell of what cannot be applied for a reason of its own, such as an object that belongs to somebody else."""
    waiting = {id for ids in roots.waiting.values() for id in ids}
    own = {str(one.id) for one in report.remaining.stuck if not (one.unknown or one.resting)} - waiting
    items = {str(one.id): named(one.id, one.reason) for one in report.remaining.stuck if str(one.id) in own}
    if items:
        yield Found(f"stuck:{report.stack}", Sort.STUCK, _part(report, "", items))


def _ended(report: Report) -> Iterator[Found]:
    notes = {note.split(": ", 1)[0]: note for note in report.remaining.notes if ENDED in note}
    if notes:
        yield Found(f"ended:{report.stack}", Sort.ENDED, _part(report, "", notes))


def _commit(report: Report) -> Iterator[Found]:
    """Tell what a commit brought about, when it did, and all is well with it."""
    made = [change for change in report.plan.changes if change.cause != "drift"]
    if report.verdict is Verdict.CONVERGED and report.progress and made:
        items = {f"{report.stack} {change.id}": change_line(change) for change in report.plan.changes}
        which = report.revision or report.finished.isoformat()
        yield Found(f"commit:{which}", Sort.COMMIT, _part(report, summary(report.plan), items), lasting=False, details=_details(made))

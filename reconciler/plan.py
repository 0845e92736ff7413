"""The plan: what must change, why, and what cannot change yet. A frozen, sorted, digested value made by a pure function.

May import only the nouns, the driver's values, the graph and the order of waves. It decides nothing about permission: that is ``policy``.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reconciler.driver import Action, Cause, Change, FieldDiff, Level, Observation, Ownership, Status
from reconciler.graph import Graph
from reconciler.resource import Drift, Fingerprint, Resource, ResourceId, digest, join_pointer
from reconciler.waves import in_waves


@dataclass(frozen=True, slots=True)
class Applied:
    """What we remember of the last write of one resource: the digest of its wish, and what it came after (for deletes in reverse)."""

    digest: str
    before: tuple[ResourceId, ...] = ()
    protect: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A change that is wanted but not made.

    ``guard``: check, budget, protect, replace, empty, freeze, approval, drift, exception or keep.
    """

    change: Change
    guard: str
    reason: str

    @property
    def quiet(self) -> bool:
        """True when somebody decided this deliberately, so that it is neither pending nor announced."""
        return self.guard in ("exception", "keep")


@dataclass(frozen=True, slots=True, order=True)
class Stuck:
    """A resource that this pass cannot change. ``status`` is blocked (waits for another) or refused; ``unknown`` when it was not seen.

    ``resting`` when it failed of late and is not tried again yet.
    """

    id: ResourceId
    status: Status
    reason: str
    unknown: bool = False
    resting: bool = False


@dataclass(frozen=True, slots=True)
class Exemption:
    """A difference that somebody acknowledged, until a date has come.

    ``fields`` empty means the whole resource. ``values`` are pairs of a pointer and the one live value that is accepted there.
    """

    resource: ResourceId
    fields: tuple[str, ...]
    reason: str
    ticket: str
    expires: str
    expired: bool = False
    values: tuple[tuple[str, Any], ...] = ()

    def covers(self, one: FieldDiff) -> bool:
        """Say whether a difference is the one that was acknowledged."""
        if self.expired or (self.fields and not covers(self.fields, one.path)):
            return False
        return all(accepted == one.before for pointer, accepted in self.values if pointer == one.path)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything one pass would do. ``waves`` are applied in order, deletes last.

    ``size`` counts the owned resources by driver; ``unmanaged`` by place what was seen beside them and is left alone.
    """

    stack: str
    revision: str
    waves: tuple[tuple[Change, ...], ...] = ()
    held: tuple[Held, ...] = ()
    stuck: tuple[Stuck, ...] = ()
    notes: tuple[str, ...] = ()
    unchanged: int = 0
    size: Mapping[str, int] = field(default_factory=dict)
    unmanaged: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""

    @property
    def changes(self) -> tuple[Change, ...]:
        """All changes in the order of their waves."""
        return tuple(change for wave in self.waves for change in wave)

    @property
    def in_sync(self) -> bool:
        """True when nothing is pending: no change, nothing stuck, and nothing held except by somebody's decision."""
        return not self.waves and not self.stuck and all(held.quiet for held in self.held)

    def sealed(self) -> "Plan":
        """Give a copy with its digest, which covers every change made or held and nothing volatile."""
        return replace(self, digest=digest([_essence(change) for change in (*self.changes, *(held.change for held in self.held))]))


def essence(change: Change) -> str:
    """Give a digest of one change, the same as long as the same would be done to the same."""
    return digest(_essence(change))


def _essence(change: Change) -> list[Any]:
    return [str(change.id), change.action.value, change.target, [[diff.path, diff.before, diff.after] for diff in change.diffs]]


@dataclass(frozen=True, slots=True)
class Resting:
    """A change that failed and is not tried again yet: its essence, and why."""

    essence: str
    reason: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a plan is made from. ``blocked`` and ``blind`` say why a resource or a whole target could not be considered.

    ``resting`` are changes that failed of late and are left in peace for a while. ``transactional`` names the targets that write whatever
    they are given as one transaction.
    """

    observations: Sequence[Observation]
    fingerprint: Fingerprint
    targets: Mapping[ResourceId, str]
    applied: Mapping[ResourceId, Applied] = field(default_factory=dict)
    exemptions: Sequence[Exemption] = ()
    blocked: Mapping[ResourceId, str] = field(default_factory=dict)
    blind: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    resting: Mapping[ResourceId, Resting] = field(default_factory=dict)
    transactional: Collection[str] = ()
    unmanaged: Mapping[str, int] = field(default_factory=dict)


def make_plan(stack: str, revision: str, graph: Graph, inputs: Inputs) -> Plan:
    """Compare what is wanted with what was seen. Pure: equal inputs give an equal plan with an equal digest."""
    seen = {observation.id: observation for observation in inputs.observations}
    changes: dict[ResourceId, Change] = {}
    held: list[Held] = []
    stuck: dict[ResourceId, Stuck] = {}
    for resource in graph:
        match _judge(resource, seen.get(resource.id), inputs):
            case Stuck() as found:
                stuck[resource.id] = found
            case Held() as found:
                held.append(found)
            case Change() as found if (rest := inputs.resting.get(resource.id)) is not None and rest.essence == essence(found):
                stuck[resource.id] = Stuck(resource.id, Status.BLOCKED, rest.reason, resting=True)
            case Change() as found:
                follows = resource.id in seen and seen[resource.id].follows
                changes[resource.id] = replace(found, cause=_followed(resource.id, graph, changes)) if follows else found
    for id, reason in _waiting(graph, stuck, held, _sick(graph, seen, changes)):
        if changes.pop(id, None) is not None:
            stuck[id] = Stuck(id, Status.BLOCKED, reason)
    unwanted = [seen[id] for id in sorted(seen) if id not in graph.resources and seen[id].ownership is Ownership.OURS]
    deletes, kept = _prune(unwanted, inputs)
    remembered = {id: one.before for id, one in inputs.applied.items()}
    waves = in_waves(graph, changes, deletes, remembered, inputs.targets, inputs.transactional)
    return Plan(
        stack=stack,
        revision=revision,
        waves=waves,
        held=(*held, *kept),
        stuck=tuple(sorted(stuck.values())),
        notes=tuple(sorted({*inputs.notes, *_expired(inputs.exemptions), *_remarks(inputs.observations)})),
        unchanged=len(graph.resources) - len(changes) - len(held) - len(stuck),
        size=_sizes(seen.values()),
        unmanaged=inputs.unmanaged,
    ).sealed()


def _judge(resource: Resource, seen: Observation | None, inputs: Inputs) -> Change | Held | Stuck | None:
    id, target = resource.id, inputs.targets[resource.id]
    if target in inputs.blind:
        return Stuck(id, Status.REFUSED, f"{target} cannot be seen: {inputs.blind[target]}", unknown=True)
    if seen is not None and seen.unknown:
        return Stuck(id, Status.REFUSED, f"cannot be seen: {seen.unknown}", unknown=True)
    if id in inputs.blocked:
        return Stuck(id, Status.BLOCKED, inputs.blocked[id])
    if seen is not None and seen.refused:
        return Stuck(id, Status.REFUSED, seen.refused)
    if seen is None or seen.live is None:
        return _create(resource, target, seen, inputs)
    if seen.ownership is not Ownership.OURS and not resource.policy.adopt:
        whose = f"belongs to {seen.owner}" if seen.ownership is Ownership.FOREIGN else "exists and carries nobody's mark"
        return Stuck(id, Status.REFUSED, f'{whose}; set the annotation reconciler/adopt: "true" to take it over')
    return _compare(resource, target, seen, inputs)


def _create(resource: Resource, target: str, seen: Observation | None, inputs: Inputs) -> Change | Held:
    wanted = seen.predicted if seen is not None and seen.predicted is not None else resource.spec.canonical(inputs.fingerprint)
    before = inputs.applied.get(resource.id)
    cause = Cause.DRIFT if before is not None and before.digest == resource.digest else Cause.COMMIT
    evidence = seen.evidence if seen is not None else None
    handle = seen.handle if seen is not None else {}
    change = Change(Action.CREATE, resource.id, target, resource, tuple(diff({}, wanted)), None, handle, cause, evidence)
    if reason := _exempt(resource.id, FieldDiff("", None, None), inputs.exemptions):
        return Held(change, "exception", reason)
    return _as_policy_says(change)


def _compare(resource: Resource, target: str, seen: Observation, inputs: Inputs) -> Change | Held | Stuck | None:
    assert seen.live is not None
    wanted = seen.predicted if seen.predicted is not None else resource.spec.canonical(inputs.fingerprint)
    diffs = [one for one in diff(seen.live, wanted) if not covers(resource.policy.ignore, one.path)]
    adopting = seen.ownership is not Ownership.OURS
    if not diffs and not adopting and not seen.stale_mark:
        return None
    waived = [one for one in diffs if _exempt(resource.id, one, inputs.exemptions)]
    rest = [one for one in diffs if one not in waived]
    if seen.stale_mark:
        rest.append(FieldDiff("/metadata/mark", seen.stale_mark, resource.id.name))
    change = Change(
        action=Action.ADOPT if adopting else _action(resource, seen, rest),
        id=resource.id,
        target=target,
        desired=resource,
        diffs=tuple(rest or waived),
        live=seen.live,
        handle=seen.handle,
        cause=_cause(resource, seen, rest or waived, inputs),
        evidence=seen.evidence,
        risk=seen.replace,
    )
    if waived and not rest and not adopting:
        return Held(change, "exception", _exempt(resource.id, waived[0], inputs.exemptions))
    spared = (*(one.path for one in waived), *resource.policy.ignore)
    if spared:
        try:
            spec = resource.spec.with_live(spared, seen.live)
        except ValueError:
            return Stuck(resource.id, Status.REFUSED, f"what is live at {', '.join(spared)} cannot be kept: it is no value of this kind")
        change = replace(change, desired=replace(resource, spec=spec, digest=resource.digest))
    return _as_policy_says(change)


def _action(resource: Resource, seen: Observation, diffs: Sequence[FieldDiff]) -> Action:
    fixed = resource.spec.immutable
    return Action.REPLACE if seen.replace or any(covers(fixed, one.path) for one in diffs) else Action.UPDATE


def _as_policy_says(change: Change) -> Change | Held:
    assert change.desired is not None
    policy = change.desired.policy
    if change.cause is Cause.DRIFT and policy.drift is Drift.REPORT:
        return Held(change, "drift", "its drift policy is report; change the live object back, or adopt it into git")
    if change.action is Action.REPLACE and change.desired.spec.identity_bearing and not policy.replace:
        return Held(change, "replace", 'would lose its identity and history; set reconciler/replace: "true" if that is meant')
    return change


def _cause(resource: Resource, seen: Observation, diffs: Sequence[FieldDiff], inputs: Inputs) -> Cause:
    if seen.follows:
        return Cause.COMMIT  # what it follows is known only when all are judged
    before = inputs.applied.get(resource.id)
    known = seen.applied or (before.digest if before is not None else "")
    rotated = diffs and all(_is_secret(one.before) and _is_secret(one.after) for one in diffs)
    if rotated and known in ("", resource.digest):
        return Cause.ROTATION  # otherwise a commit made it read another secret
    if not known and not inputs.applied and resource.policy.drift is Drift.REPORT:
        return Cause.DRIFT  # nothing is remembered: what must only be reported is not overwritten on a guess
    return Cause.DRIFT if known == resource.digest and seen.ownership is Ownership.OURS and not seen.stale_mark else Cause.COMMIT


def _followed(id: ResourceId, graph: Graph, changes: Mapping[ResourceId, Change]) -> Cause:
    """Give the cause of what a change follows: a rotation when everything before it in this plan is one, else the commit."""
    causes = {changes[one].cause for one in graph.before[id] if one in changes}
    return Cause.ROTATION if causes == {Cause.ROTATION} else Cause.COMMIT


def _is_secret(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("secret:")


def _exempt(id: ResourceId, one: FieldDiff, exemptions: Sequence[Exemption]) -> str:
    for exemption in exemptions:
        if exemption.resource == id and exemption.covers(one):
            return f"acknowledged until {exemption.expires}: {exemption.reason}" + (f" ({exemption.ticket})" if exemption.ticket else "")
    return ""


def _expired(exemptions: Sequence[Exemption]) -> Iterator[str]:
    for one in exemptions:
        if one.expired:
            yield f"{one.resource}: the exception of {one.expires} has ended ({one.reason}); repair it or renew the exception"


def _sick(graph: Graph, seen: Mapping[ResourceId, Observation], changes: Mapping[ResourceId, Change]) -> dict[ResourceId, str]:
    """Find what is unhealthy and will not be moved by this plan: whatever needs it cannot be applied."""
    moved = {*changes, *graph.downstream(changes)}
    unhealthy = ((id, seen[id].health) for id in graph.resources if id in seen and id not in moved)
    return {id: f"{health.level.name.lower()}: {health.message}" for id, health in unhealthy if health.level > Level.PROGRESSING}


def _remarks(observations: Iterable[Observation]) -> Iterator[str]:
    return (f"{one.id}: {note}" for one in observations for note in one.notes)


def _waiting(
    graph: Graph, stuck: Mapping[ResourceId, Stuck], held: Sequence[Held], sick: Mapping[ResourceId, str]
) -> Iterator[tuple[ResourceId, str]]:
    """Find the dependents of what cannot be brought about, nearest first, each with the one it waits for and why."""
    absent = {one.change.id: one.reason for one in held if one.guard == "replace" or one.change.action is Action.CREATE}
    reasons = {id: one.reason for id, one in stuck.items()} | absent
    for resource in graph:
        earlier = next((one for one in sorted(graph.before[resource.id]) if one in reasons), None)
        gate = next((one for one in resource.needs if one in sick), None)
        if (earlier or gate) and resource.id not in reasons:
            cause = earlier or gate
            assert cause is not None
            said = (reasons.get(cause) or sick[cause]).removeprefix(f"{cause}: ")
            reasons[resource.id] = f"waits for {cause}: {said}"
            yield resource.id, reasons[resource.id]


def _prune(unwanted: Iterable[Observation], inputs: Inputs) -> tuple[dict[ResourceId, Change], list[Held]]:
    deletes: dict[ResourceId, Change] = {}
    kept: list[Held] = []
    for one in unwanted:
        target = inputs.targets[one.id]
        if one.unknown or one.refused or one.live is None or target in inputs.blind:
            continue
        change = Change(Action.DELETE, one.id, target, None, tuple(diff(one.live, {})), one.live, one.handle, evidence=one.evidence)
        if one.keep:
            kept.append(Held(change, "keep", "is no longer in git, and its mark says that it must stay; delete it by hand if it should go"))
        elif one.protect or ((before := inputs.applied.get(one.id)) is not None and before.protect):
            kept.append(Held(change, "protect", "is protected; put it back into git, or approve this plan by its digest"))
        else:
            deletes[one.id] = change
    return deletes, kept


def _sizes(observations: Iterable[Observation]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for one in observations:
        if one.ownership is Ownership.OURS and one.live is not None:
            sizes[one.id.driver] = sizes.get(one.id.driver, 0) + 1
    return sizes


def covers(pointers: Iterable[str], path: str) -> bool:
    """Say whether ``path`` is one of ``pointers`` or lies below one."""
    return any(path == one or path.startswith(one + "/") for one in pointers)


def diff(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[FieldDiff]:
    """List the differences of two JSON values, objects by key and lists of one length by position; anything else as a whole."""
    if before is after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}, key=str):
            yield from diff(before.get(key), after.get(key), (*path, str(key)))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from diff(old, new, (*path, str(number)))
    elif before != after or isinstance(before, bool) is not isinstance(after, bool):
        yield FieldDiff(join_pointer(path), before, after)

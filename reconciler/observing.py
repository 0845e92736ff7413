"""The observing half of a pass: every target in parallel, secrets by version, and the status that expressions ask for.

Called by the engine only. What cannot be seen is said to be so; it is never taken for absent.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeVar, cast

from reconciler.driver import Health, Observation, Ownership, Scope, SecretStore
from reconciler.errors import DriverError, Permanent, SettingsError
from reconciler.graph import Graph, build
from reconciler.lanes import Call, Lanes
from reconciler.plan import Applied, Inputs, Plan, Resting, make_plan
from reconciler.registry import Catalog, load
from reconciler.resolving import resolve
from reconciler.resource import Resource, ResourceId, SecretRef, SecretValue
from reconciler.retry import Retry
from reconciler.secrets import Secrets
from reconciler.stack import Stack, Unresolved
from reconciler.targets import Targets
from reconciler.telemetry import at, call, span

T = TypeVar("T")
NOTHING: Mapping[ResourceId, Resting] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found: the graph with every status filled in, the observations by target, and what could not be seen.

    ``unmanaged`` says of each place that was seen as a whole how much of it is nobody's business here. ``applied`` is what is remembered as
    having been as git wants it. ``waves`` counts what was written in this pass, and ``at`` says of each target after how many of them it
    was looked at.
    """

    stack: Stack
    graph: Graph
    scope: Scope
    secrets: Secrets
    by_target: Mapping[str, tuple[Observation, ...]] = field(default_factory=dict)
    blind: Mapping[str, str] = field(default_factory=dict)
    blocked: Mapping[ResourceId, str] = field(default_factory=dict)
    transactional: frozenset[str] = frozenset()
    unmanaged: Mapping[str, int] = field(default_factory=dict)
    applied: Mapping[ResourceId, Applied] = field(default_factory=dict)
    waves: int = 0
    at: Mapping[str, int] = field(default_factory=dict)

    def target(self, id: ResourceId) -> str:
        """Give the target that a wanted resource lives in."""
        return self.stack.targets[id]

    def observations(self) -> dict[ResourceId, tuple[str, Observation]]:
        """Give each observation with its target; of what git wants, only the target that it wants it in counts."""
        found: dict[ResourceId, tuple[str, Observation]] = {}
        for target, observations in self.by_target.items():
            for one in observations:
                if self.stack.targets.get(one.id, target) == target:
                    found[one.id] = (target, one)
        return found

    def outdated(self) -> set[str]:
        """Name the targets that were not seen as a whole since the newest write of this pass, to whichever target that went."""
        return {one for one in self.by_target if one in self.blind or self.at.get(one) != self.waves}

    def written(self, now: float) -> "Seen":
        """Note that a wave was written, which ended ``now`` (monotonic, seconds)."""
        return replace(self, scope=replace(self.scope, since=now), waves=self.waves + 1)

    def without(self, targets: Collection[str]) -> "Seen":
        """Take what was seen of some targets for outdated."""
        return replace(self, at={one: at for one, at in self.at.items() if one not in targets})

    def _elsewhere(self) -> list[str]:
        """Say what of ours stands in another target than git now says, and is left alone there."""
        return [
            f"{one.id}: an object of ours is still in target {target}; delete it there, or move the resource back"
            for target, observations in self.by_target.items()
            for one in observations
            if one.ownership is Ownership.OURS and one.live is not None and self.stack.targets.get(one.id, target) != target
        ]

    def health(self) -> dict[ResourceId, Health]:
        """Give the health of every wanted resource that exists."""
        return {id: one.health for id, (_, one) in self.observations().items() if id in self.graph.resources and one.live is not None}

    def plan(self, revision: str, resting: Mapping[ResourceId, Resting] = NOTHING) -> Plan:
        """Compare; pure from here on."""
        found = self.observations()
        targets = {id: target for id, (target, _) in found.items()} | dict(self.stack.targets)
        observations = [one for _, one in found.values()]
        inputs = Inputs(
            observations=observations,
            fingerprint=self.scope.fingerprint,
            targets=targets,
            applied=self.applied,
            exemptions=self.stack.exemptions,
            blocked=self.blocked,
            blind=self.blind,
            notes=[*self._elsewhere(), *self.secrets.remarks()],
            resting=resting,
            transactional=self.transactional,
            unmanaged=dict(self.unmanaged),
        )
        return make_plan(self.stack.name, revision, self.graph, inputs)


@dataclass(frozen=True, slots=True)
class Observer:
    """Looks at the targets on behalf of one installation.

    ``trusting`` is false for what nobody has merged yet: no secret is revealed, and a driver whose looking is an act is not asked, its
    resources taken for well.
    """

    targets: Targets
    catalog: Catalog
    retry: Retry
    instance: str
    key: bytes
    workers: int = 8
    trusting: bool = True
    lanes: Lanes = field(default_factory=lambda: Lanes(900))

    def look(
        self, stack: Stack, revision: str, remembered: Collection[str], applied: Mapping[ResourceId, Applied], *, exact: bool = False
    ) -> Seen:
        """Look at everything the stack wants and owns.

        ``remembered`` are targets that may hold some of it though git asks for nothing; ``applied`` is what was as git wants it once.
        ``exact`` says that this pass may write, and so may learn from values which keys of a secret were rotated.
        """
        unmanaged: dict[str, int] = {}
        owner = f"{self.instance}/{stack.name}"
        bare = Scope(owner=owner, revision=revision, applied=frozenset(applied), count=unmanaged.__setitem__, span=call)
        store, name, trouble = self._store(stack)
        secrets = Secrets(store, bare, self.key, trouble=trouble, lane=lambda work, again: self._lane(name, bare, work, again), target=name)
        scope = replace(
            bare,
            fingerprint=secrets.fingerprint,
            reveal=secrets.reveal if self.trusting else _not_revealed,
            status_of=_statuses(stack.graph),
        )
        graph = self._with_providers(stack.graph, secrets.store)
        scope = replace(scope, wanted=graph.resources)
        with span("secrets"):
            blocked = secrets.prepare(graph.resources.values(), exact=exact)
        used = {stack.targets[id] for id in graph.resources}
        looked_at = sorted(used | set(remembered))
        whole = frozenset(one for one in looked_at if self._transactional(one))
        seen = self._observe(Seen(stack, graph, scope, secrets, {}, {}, blocked, whole, unmanaged, applied), looked_at)
        return self._close_statuses(seen)

    def again(self, seen: Seen, targets: Collection[str]) -> Seen:
        """Look once more at some targets and keep what is known of the others."""
        return self._close_statuses(self._observe(seen, sorted(targets)))

    def onward(self, seen: Seen, stack: Stack) -> Seen | None:
        """Begin another round on what ``seen`` holds, and look only at what was not seen since the last write. See decision 0025.

        Gives None where all must be seen anew: a status that some spec is made from may have moved, or no secret could be had.
        """
        if any(isinstance(one.spec, Unresolved) for one in stack.graph) or seen.secrets.trouble:
            return None
        marks = _marks(seen)
        with span("secrets"):
            seen = self.renewed(replace(seen, stack=stack))
        if marks != _marks(seen):
            seen.secrets.close()
            return None
        return self.again(seen, seen.outdated())

    def renewed(self, seen: Seen) -> Seen:
        """Learn the versions of secrets anew: consumers of what this pass wrote to the store are written with, and judged by, the new."""
        unresolved = {id: reason for id, reason in seen.blocked.items() if isinstance(seen.graph.resources[id].spec, Unresolved)}
        return replace(seen, blocked=unresolved | seen.secrets.renew(seen.graph.resources.values()))

    def keeps_secrets(self, target: str) -> bool:
        """Say whether a target is a store of secrets."""
        return self.catalog.plugin(self.targets.driver_name(target)).keeps_secrets

    def has_face(self, target: str, verb: str) -> bool:
        """Say whether the driver of a target can do what not every driver can."""
        try:
            return hasattr(load(self.catalog.plugin(self.targets.driver_name(target)).driver), verb)
        except SettingsError:  # said where the target is observed
            return False

    def _transactional(self, target: str) -> bool:
        try:
            return self.catalog.plugin(self.targets.driver_name(target)).transactional
        except SettingsError:  # said where the target is observed
            return False

    def ask(self, target: str, scope: Scope, work: Callable[[Any, Scope], T], *, writes: bool = False) -> T:
        """Give what a driver answers, tried again as everywhere, in its lane. Raises DriverError or SettingsError; a bug comes as it is.

        ``work`` is given the driver, opened when it is not yet, and ``scope`` with an ear for signs of life.
        """
        return self._lane(target, scope, lambda ears: work(self.targets.get(target), ears), again=True, writes=writes)

    def _lane(self, target: str, scope: Scope, work: Callable[[Scope], T], again: bool, *, writes: bool = False) -> T:
        def run(call: Call) -> T:
            ears = replace(scope, span=call.heard(scope.span))
            return self.retry.call(lambda: work(ears), call.alive) if again else work(ears)

        return self.lanes.run(target, run, writes=writes)

    def glance(self, seen: Seen, ids: Iterable[ResourceId]) -> dict[ResourceId, Health]:
        """Look at the health of some resources only. What cannot be seen is left out."""
        by_target: dict[str, list[Resource]] = {}
        for id in ids:
            by_target.setdefault(seen.target(id), []).append(seen.graph.resources[id])
        found: dict[ResourceId, Health] = {}
        for target, (observations, trouble) in self._side_by_side(by_target, seen.scope).items():
            if not trouble:
                wanted = {one.id for one in by_target[target]}
                found.update({one.id: one.health for one in observations if one.id in wanted and one.live is not None})
        return found

    def _store(self, stack: Stack) -> tuple[SecretStore | None, str, str]:
        """Open the driver that keeps secrets, when any are needed: the stack's own choice, else the first configured one.

        Gives it with the name of its target, or the trouble with it.
        """
        if not any(one.spec.secrets() for one in stack.graph):
            return None, "", ""
        trouble = ""
        for target in dict.fromkeys([*stack.spec.targets.values(), *self.targets.names()]):
            try:
                if self.catalog.plugin(self.targets.driver_name(target)).keeps_secrets:
                    return cast("SecretStore", self.lanes.run(target, lambda _: self.targets.get(target))), target, ""  # noqa: B023 - at once
            except DriverError as error:  # no other store is asked in the place of this one
                return None, "", f"the secret store cannot be seen: {error}"
            except SettingsError as error:
                trouble = f"the secret store cannot be opened: {error}"
        return None, "", trouble

    def _with_providers(self, graph: Graph, store: SecretStore | None) -> Graph:
        """Add an edge from every consumer of a secret to the resource that declares it."""
        if store is None:
            return graph
        everything = list(graph.resources.values())
        resources = []
        for one in everything:
            paths = {path for ref in one.spec.secrets() for path in ref.paths}
            providers = tuple(id for path in sorted(paths) if (id := store.provider(path, everything)) is not None and id != one.id)
            resources.append(replace(one, needs=tuple(dict.fromkeys((*one.needs, *providers)))) if providers else one)
        return build(resources) if resources != everything else graph

    def _observe(self, seen: Seen, targets: Sequence[str]) -> Seen:
        wanted: dict[str, list[Resource]] = {target: [] for target in targets}
        for one in seen.graph:
            if (target := seen.target(one.id)) in wanted and not isinstance(one.spec, Unresolved):
                wanted[target].append(one)
        if not targets:
            return seen
        by_target, blind = dict(seen.by_target), dict(seen.blind)
        for target, (observations, trouble) in self._side_by_side(wanted, seen.scope).items():
            by_target[target] = observations
            blind.pop(target, None)
            if trouble:
                blind[target] = trouble
        return replace(seen, by_target=by_target, blind=blind, at={**seen.at, **dict.fromkeys(targets, seen.waves)})

    def _side_by_side(self, wanted: Mapping[str, Sequence[Resource]], scope: Scope) -> dict[str, tuple[tuple[Observation, ...], str]]:
        """Observe several targets at the same time."""
        contexts = [copy_context() for _ in wanted]
        with ThreadPoolExecutor(max(1, min(self.workers, len(wanted)))) as pool:
            results = pool.map(lambda context, pair: context.run(self._one, *pair, scope), contexts, wanted.items())
            return dict(zip(wanted, results, strict=True))

    def _one(self, target: str, wanted: Sequence[Resource], scope: Scope) -> tuple[tuple[Observation, ...], str]:
        """Observe one target. Gives the observations, or none and the reason why not."""
        try:
            problem = next((text for one in wanted if (text := self.targets.problem(target, one.id.driver))), "")
            if problem:
                return (), problem
            if not self.trusting and self.catalog.plugin(self.targets.driver_name(target)).acts:
                return tuple(Observation(one.id, one.spec.canonical(scope.fingerprint)) for one in wanted), ""
            with at(target, "observe", wanted=len(wanted)):
                return tuple(self.ask(target, scope, lambda driver, ears: driver.observe(wanted, ears))), ""
        except (DriverError, SettingsError) as error:
            return (), str(error)
        except Exception as error:  # a bug in one driver must not blind the others
            return (), f"bug: {type(error).__name__} in the driver while observing"

    def _close_statuses(self, seen: Seen) -> Seen:
        """Fill in what ``status()`` asks for, and look at the resources that could not be asked for before."""
        waiting = [one for one in seen.graph if isinstance(one.spec, Unresolved)]
        if not waiting:
            return seen
        statuses = {id: one.status for id, (_, one) in seen.observations().items() if one.status is not None}
        resources, blocked = dict(seen.graph.resources), dict(seen.blocked)
        for one in waiting:
            try:
                resources[one.id] = resolve(one, self.catalog, statuses)
                blocked.pop(one.id, None)
            except (KeyError, ValueError) as error:
                blocked[one.id] = str(error.args[0])
        fresh = {seen.target(one.id) for one in waiting if not isinstance(resources[one.id].spec, Unresolved)}
        seen = replace(seen, graph=build(resources.values()), blocked=blocked, scope=replace(seen.scope, wanted=resources))
        return self._observe(seen, sorted(fresh)) if fresh else seen


def _marks(seen: Seen) -> list[str]:
    """Tell the present values of every secret from others: drivers may have compared with them inside their looks."""
    return [seen.scope.fingerprint(ref) for one in seen.graph for ref in one.spec.secrets()]


def _not_revealed(ref: SecretRef) -> SecretValue:
    raise Permanent("no secret is revealed for what is not merged")


def _statuses(graph: Graph) -> frozenset[ResourceId]:
    return frozenset(id for one in graph if isinstance(one.spec, Unresolved) for id in one.spec.statuses)

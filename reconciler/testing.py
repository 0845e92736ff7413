"""The suite that every driver passes, and so the manual for the author of a plugin.

Subclass ``DriverContract`` in ``tests/contract/test_<system>.py`` and give it one fixture, ``world``; for a driver that never writes,
``ObserverContract`` is the part that applies. The world wraps the emulator, or
the real system when the environment names one. ``peek`` reads the system behind the driver's back, so that a driver is never its own
witness. Read the tests below from top to bottom: each is one promise that the engine relies on.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

import pytest

from reconciler.driver import Action, Change, Driver, Observation, Outcome, Ownership, Scope, Status
from reconciler.errors import DriverError, Permanent
from reconciler.graph import build
from reconciler.plan import Inputs, Plan, make_plan
from reconciler.resource import JSONObject, Resource, SecretRef, SecretValue
from reconciler.writing import LATE, failed, gated


@dataclass(frozen=True, slots=True)
class Sample:
    """One kind at work: a resource, the same resource with other values (same id, changeable in place), and what it needs to exist."""

    before: Resource
    after: Resource
    needs: tuple[Resource, ...] = ()


class World(Protocol):
    """One system under test, fresh for each test."""

    owner: str
    """The owner mark to work under, ``test/contract`` unless the system needs another."""

    faults: frozenset[str]
    """The faults that ``fail`` can play, of: rate-limit, server-error, latency, cut-before, cut-after, partial."""

    def open(self) -> Driver:
        """Connect a new driver, as a restarted daemon would."""
        ...

    def samples(self) -> Sequence[Sample]:
        """One or more samples of every kind of the driver."""
        ...

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        """Everything in the system: a natural name -> (the system's own id, the content without volatile fields)."""
        ...

    def locate(self, resource: Resource) -> str:
        """The natural name, as in ``peek``, of the object that ``resource`` stands for."""
        ...

    def plant(self, resource: Resource) -> None:
        """Put the object there as a foreigner would: same content, no mark."""
        ...

    def meddle(self, resource: Resource) -> None:
        """Change one field of the live object behind the driver's back, leaving its mark alone."""
        ...

    def remove(self, resource: Resource) -> None:
        """Delete the live object behind the driver's back."""
        ...

    def writes(self) -> int:
        """How many writing calls the system has received so far."""
        ...

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        """Play one of ``faults`` on the next ``times`` calls inside the block (cut-* on writes only)."""
        ...

    def secret_values(self) -> Sequence[str]:
        """Values planted in the samples' secrets that must never appear in an outcome, an observation or an exception."""
        ...


def scope_for(world: World, *, secrets: Mapping[str, str] | None = None, version: str = "1") -> Scope:
    """Make the scope a pass would give: ``secrets`` maps ``path#key`` to values; ``version`` is that of all secrets."""
    values = dict(secrets or {})

    def reveal(ref: SecretRef) -> SecretValue:
        path, key = ref.inputs[0]
        if f"{path}#{key}" not in values:
            raise Permanent(f"{path}#{key} does not exist in the test's secret store")
        return SecretValue(values[f"{path}#{key}"])

    return Scope(owner=world.owner, revision="0" * 40, fingerprint=lambda ref: f"{ref.template}@{version}", reveal=reveal)


@dataclass(slots=True)
class Bench:
    """Drives one driver as the engine would: plan, apply wave by wave, plan again."""

    world: World
    driver: Driver
    scope: Scope

    def observe(self, resources: Sequence[Resource]) -> list[Observation]:
        """Observe and check the shape of the answer."""
        self.scope = replace(self.scope, wanted={one.id: one for one in resources})
        observations = self.driver.observe(resources, self.scope)
        assert isinstance(observations, list), "observe must return a list: a generator's error escapes the retry"
        assert len({one.id for one in observations}) == len(observations), "observe must report each id once"
        return observations

    def plan(self, resources: Sequence[Resource]) -> Plan:
        """Plan for ``resources`` as if they were the whole stack."""
        observations = self.observe(resources)
        targets = {one.id: "test" for one in observations} | {one.id: "test" for one in resources}
        return make_plan("contract", "", build(resources), Inputs(observations, self.scope.fingerprint, targets))

    def apply(self, plan: Plan) -> list[Outcome]:
        """Apply the waves of ``plan`` in order, each once."""
        return [outcome for wave in plan.waves for outcome in self.write(wave)]

    def write(self, changes: Sequence[Change]) -> list[Outcome]:
        """Apply ``changes`` at once and check that each has one outcome."""
        outcomes = self.driver.apply(changes, self.scope)
        assert sorted(str(one.id) for one in outcomes) == sorted(str(one.id) for one in changes), "one outcome for each change"
        return outcomes

    def converge(self, resources: Sequence[Resource], *, passes: int = 4) -> None:
        """Pass until the plan is empty, as the daemon does; fail when ``passes`` are not enough."""
        for _ in range(passes):
            plan = self.plan(resources)
            if not plan.waves:
                assert not plan.stuck, plan.stuck
                return
            self.apply(plan)
        plan = self.plan(resources)
        assert not plan.changes, f"still different after {passes} passes: {plan.changes[0].id} {plan.changes[0].diffs}"

    def reopened(self) -> "Bench":
        """Give the same bench on a new connection, as after a restart."""
        self.driver.close()
        return replace(self, driver=self.world.open())


def adopting(resource: Resource) -> Resource:
    """Give the resource with ``reconciler/adopt: "true"``."""
    return replace(resource, policy=replace(resource.policy, adopt=True))


class ObserverContract:
    """The promises of whoever only looks, such as a probe. ``secrets`` maps ``path#key`` to the values of the samples' references."""

    secrets: Mapping[str, str] = {}

    @pytest.fixture
    def bench(self, world: World) -> Iterator[Bench]:
        """A driver connected to a fresh world."""
        bench = Bench(world, world.open(), scope_for(world, secrets=self.secrets))
        yield bench
        bench.driver.close()

    def wanted(self, world: World, *, after: bool = False) -> list[Resource]:
        """Every sample, with what it needs, each once."""
        found: dict[str, Resource] = {}
        for sample in world.samples():
            for one in (*sample.needs, sample.after if after else sample.before):
                found.setdefault(str(one.id), one)
        return list(found.values())

    def test_observing_writes_nothing(self, world: World, bench: Bench) -> None:
        """A plan may be asked for at any time, by anybody."""
        bench.converge(self.wanted(world))
        writes, before = world.writes(), world.peek()
        bench.observe(self.wanted(world, after=True))
        assert world.writes() == writes
        assert world.peek() == before

    def test_a_restart_changes_nothing(self, world: World, bench: Bench) -> None:
        """Everything needed to decide lives in git and in the system itself."""
        resources = self.wanted(world)
        bench.converge(resources)
        again = bench.reopened()
        try:
            assert not again.plan(resources).changes
        finally:
            again.driver.close()

    def test_another_stacks_objects_are_not_ours(self, world: World, bench: Bench) -> None:
        """Two stacks may live in one system."""
        bench.converge(self.wanted(world))
        other = replace(bench, scope=replace(bench.scope, owner="test/other"))
        mine = [one for one in other.observe([]) if one.ownership is Ownership.OURS]
        assert not mine, f"{mine[0].id} carries another owner's mark and is reported as ours"

    def test_secrets_never_appear_in_what_a_driver_says(self, world: World, bench: Bench) -> None:
        """Plans, outcomes and errors are stored, sent and shown."""
        said: list[str] = []
        resources = self.wanted(world)
        for fault in (None, *sorted(world.faults & {"server-error", "rate-limit"})):
            plan = bench.plan(resources)
            for wave in plan.waves:
                if fault is None:
                    said += [repr(wave), repr(bench.write(wave))]
                else:
                    with world.fail(fault):
                        said.append(repr(self._write_all(bench, wave)))
            said.append(repr(bench.observe(resources)))
            resources = self.wanted(world, after=True)
        for value in world.secret_values():
            assert not any(value in text for text in said), "a secret value was said aloud"

    def _write_all(self, bench: Bench, wave: Sequence[Change]) -> list[Outcome]:
        try:
            return bench.write(wave)
        except DriverError as error:
            return [failed(change.id, error) for change in wave]


class DriverContract(ObserverContract):
    """The promises of a driver that writes."""

    cannot_delete: frozenset[str] = frozenset()
    """Kinds whose objects the driver never deletes, by documented decision."""
    always_ours: frozenset[str] = frozenset()
    """Kinds that need no adoption, because the system has exactly one of each, by documented decision."""

    def test_what_does_not_exist_is_planned_as_a_create(self, world: World, bench: Bench) -> None:
        """Absence is a fact, too."""
        plan = bench.plan(self.wanted(world))
        fresh = [change for change in plan.changes if change.id.kind not in self.always_ours]
        assert fresh
        assert {change.action for change in fresh} <= {Action.CREATE, Action.ADOPT}

    # -- writing reaches the wish --------------------------------------------------------------------------------------------

    def test_after_a_create_the_object_is_there_and_the_second_plan_is_empty(self, world: World, bench: Bench) -> None:
        """The heart: apply, plan again, expect nothing."""
        resources = self.wanted(world)
        bench.converge(resources, passes=2)
        for resource in resources:
            assert world.locate(resource) in world.peek(), f"{resource.id} was reported as applied but is not in the system"

    def test_a_change_is_made_in_place_and_keeps_the_systems_own_id(self, world: World, bench: Bench) -> None:
        """History, references and caches hang on that id."""
        bench.converge(self.wanted(world))
        ids = {sample.before.id: world.peek()[world.locate(sample.before)][0] for sample in world.samples()}
        bench.converge(self.wanted(world, after=True))
        for sample in world.samples():
            assert world.peek()[world.locate(sample.after)][0] == ids[sample.before.id], sample.before.id

    def test_every_change_that_is_planned_names_its_fields(self, world: World, bench: Bench) -> None:
        """People approve fields, not the word "changed"."""
        bench.converge(self.wanted(world))
        plan = bench.plan(self.wanted(world, after=True))
        assert plan.changes
        assert all(change.diffs for change in plan.changes)

    def test_applying_the_same_change_twice_is_applying_it_once(self, world: World, bench: Bench) -> None:
        """A retry after an unknown outcome must be harmless."""
        resources = self.wanted(world)
        for wave in bench.plan(resources).waves:
            bench.write(wave)
            first = set(world.peek())
            bench.write(wave)
            assert set(world.peek()) == first, "the second time made something new"
        bench.converge(resources)

    def test_nothing_more_is_written_once_the_stack_is_not_ours(self, world: World, bench: Bench) -> None:
        """A process that was frozen in the middle of a change wakes when another has the stack: it asks before each request that writes."""
        for number in (1, 2, 3, 5, 8):
            for resources in (self.wanted(world), self.wanted(world, after=True), []):
                changes = [change for wave in bench.plan(resources).waves for change in wave]
                allowed = world.writes() + number
                with gated(lambda: LATE if world.writes() >= allowed else ""):  # noqa: B023 - called at once
                    outcomes = [one for change in changes for one in bench.write([change])]  # one by one: those of a wave overlap
                assert world.writes() <= allowed, f"{number} writes were allowed, and {world.writes() - allowed} more were sent"
                assert all(one.status is Status.BLOCKED for one in outcomes if LATE in one.message)
                bench.converge(resources)

    def test_a_field_changed_by_somebody_else_is_seen_and_put_back(self, world: World, bench: Bench) -> None:
        """Drift."""
        resources = self.wanted(world)
        bench.converge(resources)
        for sample in world.samples():
            world.meddle(sample.before)
            assert sample.before.id in {change.id for change in bench.plan(resources).changes}, f"drift of {sample.before.id} was not seen"
        bench.converge(resources)

    def test_an_object_deleted_by_somebody_else_is_made_again(self, world: World, bench: Bench) -> None:
        """The other drift."""
        resources = self.wanted(world)
        bench.converge(resources)
        for sample in world.samples():
            if sample.before.id.kind not in self.always_ours:
                world.remove(sample.before)
        bench.converge(resources)
        assert all(world.locate(sample.before) in world.peek() for sample in world.samples())

    # -- own before you delete -----------------------------------------------------------------------------------------------

    def test_a_foreigners_object_is_refused_and_left_alone(self, world: World, bench: Bench) -> None:
        """Nobody loses what they made by hand because git happens to name it."""
        needs: dict[str, Resource] = {}
        for sample in self._adoptable(world):
            needs |= {str(one.id): one for one in sample.needs}
            self._create(bench, list(needs.values()))
            world.plant(sample.before)
            before = world.peek()
            plan = bench.plan([*needs.values(), sample.after])
            assert sample.after.id in {stuck.id for stuck in plan.stuck}, f"{sample.after.id} was not refused"
            bench.apply(plan)
            assert world.peek() == before

    def test_adoption_takes_over_without_replacing(self, world: World, bench: Bench) -> None:
        """The way in for a system that already runs."""
        for sample in self._adoptable(world):
            self._create(bench, sample.needs)
            world.plant(sample.before)
            id = world.peek()[world.locate(sample.before)][0]
            bench.converge([*sample.needs, adopting(sample.before)])
            assert world.peek()[world.locate(sample.before)][0] == id
            assert not bench.plan([*sample.needs, sample.before]).changes, "once adopted, the annotation is no longer needed"

    def test_what_left_git_is_deleted_and_nothing_else_is(self, world: World, bench: Bench) -> None:
        """Prune by mark, never by difference."""
        samples = [sample for sample in world.samples() if sample.before.id.kind not in self.cannot_delete | self.always_ours]
        foreign = samples[-1]
        bench.converge(self.wanted(world))
        ours = {world.locate(sample.before) for sample in samples[:-1]} - {world.locate(one) for one in (foreign.before, *foreign.needs)}
        world.remove(foreign.before)
        world.plant(foreign.before)
        keep = [one for one in self.wanted(world) if world.locate(one) not in ours and one.id != foreign.before.id]
        before = set(world.peek())
        bench.apply(bench.plan(keep))
        assert before - set(world.peek()) >= ours, "something of ours that left git is still there"
        assert world.locate(foreign.before) in world.peek(), "an object that carries no mark was deleted"

    def test_what_is_protected_stays_when_it_leaves_git_though_our_memory_is_lost(self, world: World, bench: Bench) -> None:
        """Its own mark says it: nothing else is left that could."""
        samples = [sample.before for sample in world.samples() if sample.before.id.kind not in self.cannot_delete | self.always_ours]
        held = {one.id for one in samples}
        guarded = [replace(one, policy=replace(one.policy, protect=one.id in held)) for one in self.wanted(world)]
        bench.converge(guarded)
        plan = bench.plan([])
        assert not held & {change.id for change in plan.changes}
        assert {one.guard for one in plan.held if one.change.id in held} <= {"protect", "keep"}
        assert held <= {one.change.id for one in plan.held} | {one.id for one in plan.stuck}
        bench.converge(self.wanted(world))
        assert not [one for one in bench.plan([]).held if one.guard == "protect"], "the mark follows git when the protection ends"

    # -- faults --------------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", ["rate-limit", "server-error", "cut-before"])
    def test_a_failing_server_is_a_transient_error_and_loses_nothing(self, world: World, bench: Bench, fault: str) -> None:
        """Temporary trouble must look temporary, and must not look like emptiness."""
        self._needs(world, fault)
        resources = self.wanted(world)
        plan = bench.plan(resources)
        with world.fail(fault):
            outcomes = self._write_all(bench, plan.waves[0])
        assert all(one.status is Status.FAILED and one.transient for one in outcomes), outcomes
        bench.converge(resources)

    @pytest.mark.parametrize("fault", ["rate-limit", "server-error"])
    def test_what_cannot_be_seen_is_not_reported_as_absent(self, world: World, bench: Bench, fault: str) -> None:
        """Not seeing is not seeing nothing."""
        self._needs(world, fault)
        resources = self.wanted(world)
        bench.converge(resources)
        with world.fail(fault):
            self._assert_blind(bench, resources)

    def test_a_partial_listing_is_refused(self, world: World, bench: Bench) -> None:
        """A page that is missing would look like deletions."""
        self._needs(world, "partial")
        resources = self.wanted(world)
        bench.converge(resources)
        with world.fail("partial"):
            self._assert_blind(bench, resources)

    def test_an_answer_lost_after_the_write_does_not_make_a_second_object(self, world: World, bench: Bench) -> None:
        """The commonest way to get duplicates: every write in turn is executed, but its answer never arrives."""
        self._needs(world, "cut-after")
        resources = self.wanted(world)
        for _ in range(2 + 2 * len(resources)):
            plan = bench.plan(resources)
            if not plan.changes:
                break
            with world.fail("cut-after", times=1):
                self._write_all(bench, plan.waves[0])
            bench = bench.reopened()
        bench.converge(resources)
        reference = set(world.peek())
        assert all(world.locate(one) in reference for one in resources)
        assert not bench.plan(resources).notes, "a duplicate or clone was left behind"
        bench.driver.close()

    def test_a_rotated_secret_is_planned_without_reading_it(self, world: World, bench: Bench) -> None:
        """The plan compares fingerprints."""
        resources = self.wanted(world)
        consumers = {one.id for one in resources if one.spec.secrets()}
        if not consumers:
            pytest.skip("no sample of this driver uses a secret")
        bench.converge(resources)

        def forbidden(ref: SecretRef) -> SecretValue:
            raise AssertionError("observe read a secret")

        rotated = scope_for(world, secrets=self.secrets, version="2")
        plan = replace(bench, scope=replace(rotated, reveal=forbidden)).plan(resources)
        assert consumers <= {change.id for change in plan.changes}
        replace(bench, scope=rotated).converge(resources)

    # -- help ----------------------------------------------------------------------------------------------------------------

    def _adoptable(self, world: World) -> list[Sample]:
        return [sample for sample in world.samples() if sample.before.id.kind not in self.always_ours]

    def _create(self, bench: Bench, needs: Sequence[Resource]) -> None:
        if needs:
            bench.converge(needs)

    def _needs(self, world: World, fault: str) -> None:
        if fault not in world.faults:
            pytest.skip(f"this system cannot play {fault}")

    def _assert_blind(self, bench: Bench, resources: Sequence[Resource]) -> None:
        try:
            plan = bench.plan(resources)
        except DriverError:
            return
        assert not plan.changes, f"{plan.changes[0].action} of {plan.changes[0].id} was planned although it could not be seen"
        assert any(one.unknown for one in plan.stuck)


__all__ = ["Bench", "DriverContract", "ObserverContract", "Sample", "World", "adopting", "scope_for"]

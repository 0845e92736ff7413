"""The contract on a system in memory: a faithful driver keeps every promise, and each kind of bad driver breaks one by name."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from reconciler.driver import Action, Change, Mark, Observation, Outcome, Scope, Status
from reconciler.resource import Resource
from reconciler.testing import Bench, DriverContract, scope_for
from tests.unit.core.memory import Config, MemoryDriver, MemoryWorld, Object, key

SECRETS: Mapping[str, str] = {"app#token": "s3cr3t-token-value"}


class TestMemory(DriverContract):
    """Every promise, kept."""

    secrets = SECRETS

    @pytest.fixture
    def world(self) -> MemoryWorld:
        return MemoryWorld()


# -- drivers that break one promise each ------------------------------------------------------------------------------------------


class WritesWhileObserving(MemoryDriver):
    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        for name, one in self.system.objects.items():
            self.system.write("update", name, one.content, one.mark, one.sealed)
        return super().observe(wanted, scope)


class HidesWhatItOwns(MemoryDriver):
    """Reports only what is asked for, so that nothing is ever pruned."""

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        asked = {one.id for one in wanted}
        return [one for one in super().observe(wanted, scope) if one.id in asked]


class ClaimsToDelete(MemoryDriver):
    """Says that it deleted, and did not; then says that the object is not there."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.lied: set[str] = set()

    def make(self, change: Change, scope: Scope) -> str | None:
        if change.action is Action.DELETE:
            self.lied.add(key(change.id))
            return None
        return super().make(change, scope)

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        return [one for one in super().observe(wanted, scope) if key(one.id) not in self.lied]


class CreatesTwice(MemoryDriver):
    """Makes a new object at every create, whatever is there already."""

    def make(self, change: Change, scope: Scope) -> str | None:
        name = key(change.id)
        if change.action is not Action.CREATE or name not in self.system.objects:
            return super().make(change, scope)
        content, sealed = self.content(change.desired, scope)  # type: ignore[arg-type]
        self.system.write("create", f"{name}-again", content, str(Mark.of(change.desired, scope)), sealed)  # type: ignore[arg-type]
        return None


class LivesWithNormalising(MemoryDriver):
    """Sends what the server spells differently, without making it canonical."""

    def make(self, change: Change, scope: Scope) -> str | None:
        message = super().make(change, scope)
        if change.desired is not None and self.system.objects[key(change.id)].content.get("text") == "Hello":
            self.system.objects[key(change.id)].content["text"] = "hello"
        return message


class ReplacesInsteadOfUpdating(MemoryDriver):
    def make(self, change: Change, scope: Scope) -> str | None:
        if change.action is Action.UPDATE:
            self.system.write("delete", key(change.id))
        return super().make(change, scope)


class SaysSecretsAloud(MemoryDriver):
    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        outcomes = super().apply(changes, scope)
        return [replace(one, message=f"wrote {self.system.objects[key(one.id)].content}") for one in outcomes]


class ShowsSecretsWhenObserving(MemoryDriver):
    def see(self, name: str, live: Object, mark: Mark | None, scope: Scope) -> Observation:
        return replace(super().see(name, live, mark, scope), handle={"content": str(live.content)})


class TakesAPartForTheWhole(MemoryDriver):
    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        listing = self.system.list
        self.system = _Whole(self.system)  # type: ignore[assignment]
        try:
            return super().observe(wanted, scope)
        finally:
            self.system = self.system.inner  # type: ignore[attr-defined]
            assert listing


class _Whole:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def list(self) -> tuple[dict[str, Object], bool]:
        return self.inner.list()[0], True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class SeesNothingWhenItFails(MemoryDriver):
    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        try:
            return super().observe(wanted, scope)
        except Exception:
            return []


class TakesWhatIsForeign(MemoryDriver):
    """Never looks at marks: everything that git names is its own."""

    def see(self, name: str, live: Object, mark: Mark | None, scope: Scope) -> Observation:
        return replace(super().see(name, live, mark, scope), ownership=Mark(scope.owner, "Thing", name).ownership(scope.owner))


class IgnoresOtherOwners(MemoryDriver):
    """Takes any mark of ours for that of its own stack."""

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        whole = [self.see(name, one, Mark.parse(one.mark), scope) for name, one in self.system.list()[0].items()]
        return [replace(one, ownership=Mark(scope.owner, "", "").ownership(scope.owner)) for one in whole if one.owner]


class CallsTroublePermanent(MemoryDriver):
    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        return [replace(one, transient=False) for one in super().apply(changes, scope)]


class ReadsSecretsToPlan(MemoryDriver):
    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        for one in wanted:
            for ref in one.spec.secrets():
                scope.reveal(ref)
        return super().observe(wanted, scope)


class ForgetsOutcomes(MemoryDriver):
    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        return super().apply(changes, scope)[1:]


class ClaimsSuccess(MemoryDriver):
    """Reports as applied what it never sent, and as seen what is not there."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.dreamt: dict[str, Resource] = {}

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        self.dreamt |= {key(one.id): one.desired for one in changes if one.desired is not None}
        return [Outcome(one.id, Status.APPLIED) for one in changes]

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        return [Observation(one.id, one.spec.canonical(scope.fingerprint)) for one in self.dreamt.values()]


BAD: list[tuple[type[MemoryDriver], str]] = [
    (WritesWhileObserving, "test_observing_writes_nothing"),
    (HidesWhatItOwns, "test_what_left_git_is_deleted_and_nothing_else_is"),
    (ClaimsToDelete, "test_what_left_git_is_deleted_and_nothing_else_is"),
    (CreatesTwice, "test_applying_the_same_change_twice_is_applying_it_once"),
    (LivesWithNormalising, "test_after_a_create_the_object_is_there_and_the_second_plan_is_empty"),
    (ReplacesInsteadOfUpdating, "test_a_change_is_made_in_place_and_keeps_the_systems_own_id"),
    (SaysSecretsAloud, "test_secrets_never_appear_in_what_a_driver_says"),
    (ShowsSecretsWhenObserving, "test_secrets_never_appear_in_what_a_driver_says"),
    (TakesAPartForTheWhole, "test_a_partial_listing_is_refused"),
    (SeesNothingWhenItFails, "test_what_cannot_be_seen_is_not_reported_as_absent"),
    (TakesWhatIsForeign, "test_a_foreigners_object_is_refused_and_left_alone"),
    (IgnoresOtherOwners, "test_another_stacks_objects_are_not_ours"),
    (CallsTroublePermanent, "test_a_failing_server_is_a_transient_error_and_loses_nothing"),
    (ReadsSecretsToPlan, "test_a_rotated_secret_is_planned_without_reading_it"),
    (ForgetsOutcomes, "test_after_a_create_the_object_is_there_and_the_second_plan_is_empty"),
    (ClaimsSuccess, "test_after_a_create_the_object_is_there_and_the_second_plan_is_empty"),
]


def broken_promises(driver: Callable[[Config], Any]) -> set[str]:
    """Run the whole contract against a driver and give the names of the tests that fail."""
    return {name for name, arguments in _runs() if _fails(driver, name, arguments)}


def _runs() -> Iterator[tuple[str, dict[str, str]]]:
    for name, test in inspect.getmembers(DriverContract, inspect.isfunction):
        if name.startswith("test_"):
            marks = [one for one in getattr(test, "pytestmark", []) if one.name == "parametrize"]
            yield from ((name, {mark.args[0]: value}) for mark in marks for value in mark.args[1])
            if not marks:
                yield name, {}


def _fails(driver: Callable[[Config], Any], name: str, arguments: Mapping[str, str]) -> bool:
    contract, world = TestMemory(), MemoryWorld(driver)
    bench = Bench(world, world.open(), scope_for(world, secrets=SECRETS))
    try:
        getattr(contract, name)(world=world, bench=bench, **arguments)
    except pytest.skip.Exception:
        return False
    except (AssertionError, Exception):
        return True
    return False


def test_a_faithful_driver_breaks_no_promise() -> None:
    assert broken_promises(MemoryDriver) == set()


@pytest.mark.parametrize(("driver", "promise"), BAD, ids=[driver.__name__ for driver, _ in BAD])
def test_a_driver_that_breaks_a_promise_fails_the_test_that_names_it(driver: type[MemoryDriver], promise: str) -> None:
    assert promise in broken_promises(driver)

"""A strict target: nothing is written over what the plan did not see, however many writes one change takes."""

from collections.abc import Iterator

import pytest
from test_k8s import HOME, SECRETS, KubernetesWorld, config_map, deployment, live, resource

from reconciler.driver import Outcome, Status
from reconciler.resource import Resource
from reconciler.testing import Bench, scope_for
from reconciler_k8s.config import KubernetesConfig
from reconciler_k8s.driver import KubernetesDriver


@pytest.fixture
def world() -> Iterator[KubernetesWorld]:
    found = KubernetesWorld()
    yield found
    found.emulator.stop()


@pytest.fixture
def bench(world: KubernetesWorld) -> Iterator[Bench]:
    driver = KubernetesDriver(KubernetesConfig(**world.emulator.settings(), timeout=5, wait=5, strict=True))
    yield Bench(world, driver, scope_for(world, secrets=SECRETS))
    driver.close()


def refused_and_untouched(world: KubernetesWorld, bench: Bench, new: Resource, old: Resource) -> Outcome:
    """Plan for ``new``, let somebody label ``old`` in between, and apply: nothing may be written."""
    plan = bench.plan([HOME, new])
    world.patch(old, {"metadata": {"labels": {"seen": "by-nobody"}}})
    before = world.peek()
    (outcome,) = bench.apply(plan)
    assert outcome.status is Status.FAILED
    assert not outcome.transient, "the same write would fail again; only the next plan helps"
    assert world.peek() == before
    return outcome


def test_an_update_waits_for_the_next_pass_when_the_object_moved(world: KubernetesWorld, bench: Bench) -> None:
    old, new = resource(config_map(LOG="info")), resource(config_map(LOG="debug"))
    bench.converge([HOME, old])
    assert "modified" in refused_and_untouched(world, bench, new, old).message
    bench.converge([HOME, new])
    assert live(world, new)["data"] == {"LOG": "debug"}
    assert live(world, new)["metadata"]["labels"]["seen"] == "by-nobody"


def test_a_change_that_takes_a_merge_and_an_apply_is_guarded_in_both(world: KubernetesWorld, bench: Bench) -> None:
    old, new = resource(deployment()), resource(deployment("mail:2", strategy={"type": "Recreate"}))
    bench.converge([HOME, old])
    world.settled()
    refused_and_untouched(world, bench, new, old)
    bench.converge([HOME, new])
    assert live(world, new)["spec"]["strategy"] == {"type": "Recreate"}


def test_an_adoption_is_guarded_from_its_first_write(world: KubernetesWorld, bench: Bench) -> None:
    there, wanted = resource(config_map(LOG="info", LEFT="1")), resource(config_map(LOG="debug"), adopt=True)
    bench.converge([HOME])
    world.plant(there)
    assert "since the plan" in refused_and_untouched(world, bench, wanted, there).message
    bench.converge([HOME, wanted])
    assert live(world, wanted)["data"] == {"LOG": "debug"}


def test_without_it_a_change_of_something_else_does_not_stand_in_the_way(world: KubernetesWorld) -> None:
    old, new = resource(config_map(LOG="info")), resource(config_map(LOG="debug"))
    bench = Bench(world, world.open(), scope_for(world, secrets=SECRETS))
    bench.converge([HOME, old])
    plan = bench.plan([HOME, new])
    world.patch(old, {"metadata": {"labels": {"seen": "by-nobody"}}})
    (outcome,) = bench.apply(plan)
    bench.driver.close()
    assert outcome.status is Status.APPLIED

"""Many writers at one firewall: two daemons with ten stacks each want something at the same moment, and nothing that was wanted is lost."""

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from pfsense_world import PfSenseWorld, wish
from test_pfsense_php import PhpWorld

from reconciler.driver import Outcome, Status
from reconciler.resource import Resource
from reconciler.testing import Bench, scope_for
from reconciler_pfsense.config import Config
from reconciler_pfsense.driver import PfSenseDriver
from reconciler_pfsense.emulator.configfile import listed

DAEMONS, STACKS = ("north", "south"), 10

pytestmark = pytest.mark.timeout(240)  # by PHP some 400 executions one after the other


@pytest.fixture(params=["ssh", "xmlrpc", "php"])
def world(request: pytest.FixtureRequest) -> Iterator[PfSenseWorld]:
    if request.param == "php" and shutil.which("php") is None:
        pytest.skip("php is not installed")
    world = PhpWorld() if request.param == "php" else PfSenseWorld()
    world.transport = "xmlrpc" if request.param == "xmlrpc" else "ssh"
    yield world
    world.emulator.stop()


@dataclass
class Stack:
    """One stack of one daemon, with a connection of its own, as its worker has."""

    bench: Bench
    wanted: Resource
    passes: list[list[Outcome]] = field(default_factory=list)

    def converge(self, start: threading.Barrier) -> None:
        """Look together with everybody else, write, and begin anew like a daemon until nothing is left to do."""
        plan = self.bench.plan([self.wanted])
        start.wait(30)
        while plan.changes:
            assert len(self.passes) < 60
            self.passes.append(self.bench.apply(plan))
            plan = self.bench.plan([self.wanted])


def stacks(world: PfSenseWorld) -> list[Stack]:
    settings = world.emulator.settings() if world.transport == "ssh" else world.emulator.xmlrpc_settings()
    found = []
    for daemon in DAEMONS:
        for number in range(STACKS):
            driver = PfSenseDriver(Config.model_validate({**settings, "lock_timeout": 20}))
            bench = Bench(world, driver, scope_for(world))
            bench.scope = type(bench.scope)(owner=f"{daemon}/stack{number}", fingerprint=bench.scope.fingerprint)
            found.append(Stack(bench, wish("Alias", f"{daemon}_{number}", type="host", addresses=[f"10.0.{len(daemon)}.{number}"])))
    return found


def test_of_twenty_converges_at_once_none_is_lost_and_who_loses_says_conflict_and_succeeds_later(world: PfSenseWorld) -> None:
    everybody = stacks(world)
    start = threading.Barrier(len(everybody))
    with ThreadPoolExecutor(len(everybody)) as pool:
        list(pool.map(lambda stack: stack.converge(start), everybody))
    written = {alias["name"]: alias["address"] for alias in listed(world.tree(), "aliases/alias")}
    assert written == {stack.wanted.spec.name: stack.wanted.spec.addresses[0].address for stack in everybody}  # type: ignore[attr-defined]
    outcomes = [outcome for stack in everybody for tried in stack.passes for outcome in tried]
    assert sum(one.status is Status.APPLIED for one in outcomes) == len(everybody), "each was written exactly once"
    lost = [one for one in outcomes if one.status is Status.FAILED]
    assert lost, "all twenty looked before anybody wrote, so all but one must lose the first time"
    assert all("changed since it was looked at" in one.message and "the next pass plans anew" in one.message for one in lost)
    assert not any(one.transient for one in lost), "the same plan is not tried again"
    for stack in everybody:
        stack.bench.driver.close()

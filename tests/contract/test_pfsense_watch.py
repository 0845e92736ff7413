"""Hints from a firewall: somebody else's hand is seen within moments, our own never, and trouble ends nothing."""

import logging
import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import pytest
from pfsense_world import HOST, PfSenseWorld, changed

from reconciler.driver import Scope
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import ResourceId
from reconciler.testing import Bench, scope_for
from reconciler_pfsense.config import Config
from reconciler_pfsense.driver import PfSenseDriver

QUICK = 0.03


class Ear:
    """Somebody who listens to a driver's hints in a thread of his own."""

    def __init__(self, driver: PfSenseDriver) -> None:
        self.driver, self.stop = driver, threading.Event()
        self.heard: SimpleQueue[ResourceId | None] = SimpleQueue()
        self.trouble: DriverError | None = None
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        try:
            for hint in self.driver.watch(Scope("test/contract"), self.stop):
                self.heard.put(hint)
        except DriverError as error:
            self.trouble = error

    def next(self, patience: float = 5) -> ResourceId | None:
        return self.heard.get(timeout=patience)

    def silent(self, seconds: float = 0.3) -> bool:
        try:
            self.heard.get(timeout=seconds)
        except Empty:
            return True
        return False

    def end(self) -> None:
        self.stop.set()
        self.thread.join(timeout=5)
        assert not self.thread.is_alive()


@pytest.fixture
def world() -> Iterator[PfSenseWorld]:
    world = PfSenseWorld()
    yield world
    world.emulator.stop()


@pytest.fixture(params=["ssh", "xmlrpc"])
def driver(world: PfSenseWorld, request: pytest.FixtureRequest) -> Iterator[PfSenseDriver]:
    settings = world.emulator.settings() if request.param == "ssh" else world.emulator.xmlrpc_settings()
    driver = PfSenseDriver(Config.model_validate({**settings, "watch_interval": QUICK}))
    yield driver
    driver.close()


@pytest.fixture
def ear(world: PfSenseWorld, driver: PfSenseDriver) -> Iterator[Ear]:
    ear = Ear(driver)
    glanced(world)
    yield ear
    ear.end()


def glanced(world: PfSenseWorld, times: int = 1) -> None:
    """Return when so many more glances were taken."""
    goal, end = len(world.emulator.programs) + times, time.monotonic() + 5
    while len(world.emulator.programs) < goal:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_change_by_hand_gives_a_hint_and_the_log_says_who_it_was(world: PfSenseWorld, ear: Ear, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "reconciler_pfsense.watch"):
        world.emulator.edit(lambda tree: tree["system"].update(hostname="theirs"))
        assert ear.next() is None
    assert "was changed: admin@10.0.0.5 (Local Database): changed by hand" in caplog.text
    assert ear.silent(), "one change is one hint"


def test_our_own_writes_give_no_hint(world: PfSenseWorld, driver: PfSenseDriver, ear: Ear) -> None:
    bench = Bench(world, driver, scope_for(world))
    bench.converge([HOST])
    bench.converge([changed(HOST, addresses=["10.0.20.2"])])
    assert ear.silent()


def test_a_change_by_hand_right_after_ours_is_seen(world: PfSenseWorld, driver: PfSenseDriver, ear: Ear) -> None:
    Bench(world, driver, scope_for(world)).converge([HOST])
    world.emulator.edit(lambda tree: tree["system"].update(hostname="theirs"))
    assert ear.next() is None


def test_a_glance_at_what_nobody_changed_asks_for_nothing_but_the_hash(world: PfSenseWorld, ear: Ear) -> None:
    glanced(world, 3)
    requests = world.emulator.programs[-2:]
    assert {one["verb"] for one in requests} == {"glance"}
    assert {one["known"] for one in requests} == {world.emulator.firewall.sha}


def test_a_firewall_that_is_away_is_looked_at_again_and_what_changed_meanwhile_is_seen(world: PfSenseWorld, ear: Ear) -> None:
    world.emulator.stop()
    world.emulator.edit(lambda tree: tree["system"].update(hostname="theirs"))
    time.sleep(3 * QUICK)
    world.emulator.start()
    assert ear.next() is None


def test_a_firewall_that_cannot_be_reached_at_the_beginning_is_said_at_once(world: PfSenseWorld, driver: PfSenseDriver) -> None:
    world.emulator.stop()
    with pytest.raises(Transient):
        next(iter(driver.watch(Scope("test/contract"), threading.Event())))


def test_a_login_that_is_refused_ends_it_because_more_tries_would_lock_us_out(world: PfSenseWorld, driver: PfSenseDriver) -> None:
    ear = Ear(driver)
    glanced(world)
    world.emulator.accepts_logins = False
    world.emulator.stop()
    world.emulator.start()
    ear.thread.join(timeout=5)
    assert isinstance(ear.trouble, Permanent)
    assert "login was refused" in str(ear.trouble)


def test_who_stops_listening_leaves_nothing_behind(world: PfSenseWorld, driver: PfSenseDriver) -> None:
    hints = driver.watch(Scope("test/contract"), threading.Event())
    world.emulator.edit(lambda tree: tree["system"].update(hostname="one"))
    threading.Timer(0.2, lambda: world.emulator.edit(lambda tree: tree["system"].update(hostname="two"))).start()
    assert next(hints) is None
    before = threading.active_count()
    hints.close()  # type: ignore[attr-defined]
    assert threading.active_count() <= before
    assert driver.observe([], Scope("test/contract")) == [], "the driver's own connection is another one"

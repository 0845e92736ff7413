"""Hints from the emulated Uptime Kuma: what gives one, what does not, and what a watch survives."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import pytest
from uptime_kuma_world import (
    FOLDER,
    HOOK,
    MX,
    ONCE,
    PAGER,
    SECRETS,
    SMTP,
    TAGGED,
    UptimeKumaWorld,
    bench_on,
    changed,
    resource,
    serving,
)

from reconciler.driver import Scope
from reconciler.errors import Permanent
from reconciler.resource import Resource, ResourceId
from reconciler.testing import Bench
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.emulator import UptimeKumaEmulator
from reconciler_uptime_kuma.login import SocketLogin
from reconciler_uptime_kuma.watch import Watch

WANTED = [PAGER, FOLDER, SMTP, HOOK, MX, TAGGED, ONCE]
QUIET = 0.8
"""Seconds without a hint after which there is none; a hint takes less than half of it."""


class Hints:
    """What a watch says, from a thread of its own."""

    def __init__(self, watch: Watch) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self.watch = watch
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for id in self.watch.run():
                self._queue.put(id)
        except Exception as error:
            self._queue.put(error)

    def next(self, timeout: float = 5.0) -> Any:
        return self._queue.get(timeout=timeout)

    def none(self) -> bool:
        try:
            found = self._queue.get(timeout=QUIET)
        except Empty:
            return True
        raise AssertionError(f"a hint at {found}")

    def end(self) -> None:
        self.watch.stop.set()
        self._thread.join(10)
        assert not self._thread.is_alive()


@contextmanager
def watching(emulator: UptimeKumaEmulator, bench: Bench, wanted: list[Resource], **more: Any) -> Iterator[Hints]:
    config = UptimeKumaConfig.model_validate({**emulator.settings(), "timeout": 5, "login_pause": 0})
    scope = replace(bench.scope, wanted={one.id: one for one in wanted})
    hints = Hints(Watch(config, SocketLogin(config), scope, Event(), **more))
    try:
        yield hints
    finally:
        hints.end()


@pytest.fixture(params=["2.x", "1.23"])
def emulator(request: pytest.FixtureRequest) -> Iterator[UptimeKumaEmulator]:
    with serving(dialect=request.param) as emulator:
        yield emulator


@pytest.fixture
def bench(emulator: UptimeKumaEmulator) -> Iterator[Bench]:
    with bench_on(emulator) as bench:
        bench.converge(WANTED)
        yield bench


@pytest.fixture
def hints(emulator: UptimeKumaEmulator, bench: Bench) -> Iterator[Hints]:
    with watching(emulator, bench, WANTED) as hints:
        assert hints.none(), "all is as git wants it"
        yield hints


@contextmanager
def hand(emulator: UptimeKumaEmulator) -> Iterator[Any]:
    """A person at the web page."""
    client = Client(UptimeKumaConfig.model_validate(emulator.settings()))
    try:
        yield client
    finally:
        client.close()


def test_an_edit_in_the_web_page_gives_one_hint_and_its_undoing_none(emulator: UptimeKumaEmulator, hints: Hints) -> None:
    id = UptimeKumaWorld(emulator).id(SMTP)
    with hand(emulator) as person:
        row = person.monitor(id)
        person.edit_monitor({**row, "interval": 77})
        assert hints.next() == SMTP.id
        assert hints.none()
        person.edit_monitor(row)
        assert hints.none()
        person.set_active(id, active=False)
        assert hints.next() == SMTP.id


def test_a_deletion_a_clone_and_a_lost_mark_give_hints(emulator: UptimeKumaEmulator, hints: Hints) -> None:
    world = UptimeKumaWorld(emulator)
    with hand(emulator) as person:
        person.delete_monitor(world.id(MX))
        assert hints.next() == MX.id
        row = person.monitor(world.id(FOLDER))
        columns = ("name", "type", "description", "accepted_statuscodes", "interval", "retryInterval")
        clone = {**emulator.store.dialect.required, **{key: row[key] for key in columns}}
        person.add_monitor(clone)
        assert hints.next() == FOLDER.id
        person.edit_monitor({**person.monitor(world.id(TAGGED)), "description": ""})
        assert hints.next() == TAGGED.id


def test_changed_notifications_and_maintenances_give_hints(emulator: UptimeKumaEmulator, hints: Hints) -> None:
    world = UptimeKumaWorld(emulator)
    with hand(emulator) as person:
        person.delete_notification(world.id(HOOK))
        assert hints.next() == HOOK.id
        person.call("pauseMaintenance", world.id(ONCE))
        assert hints.next() == ONCE.id


def test_our_own_writes_other_peoples_monitors_and_inherited_pauses_give_none(
    emulator: UptimeKumaEmulator, bench: Bench, hints: Hints
) -> None:
    with hand(emulator) as person:
        person.add_monitor({**emulator.store.dialect.required, "name": "x", "type": "group", "accepted_statuscodes": ["200-299"]})
    emulator.check = lambda row: False
    bench.converge(WANTED)
    assert hints.none()
    wanted = [changed(one, active=False) if one is FOLDER else one for one in WANTED]
    bench.converge(wanted)
    assert hints.next() == FOLDER.id, "this watch wants what was wanted before"
    assert hints.none(), "the pause of what stands below is inherited"


def test_what_differs_at_the_beginning_is_hinted_at_and_what_git_dropped_too(emulator: UptimeKumaEmulator, bench: Bench) -> None:
    new = resource("Monitor", "new", type="group")
    wanted = [one for one in WANTED if one is not MX]
    with watching(emulator, bench, [*wanted, new]) as hints:
        assert {hints.next(), hints.next()} == {MX.id, new.id}
        assert hints.none()


def test_after_a_restart_whatever_was_missed_is_found_within_three_seconds(emulator: UptimeKumaEmulator, hints: Hints) -> None:
    id = UptimeKumaWorld(emulator).id(SMTP)
    emulator.stop()
    emulator.store.monitors[id]["interval"] = 77
    time.sleep(1.0)
    emulator.start()
    begun = time.monotonic()
    assert hints.next() == SMTP.id
    assert time.monotonic() - begun < 3
    logins = [event for _, event in emulator.faults.requests if event == "login"]
    assert len(logins) == 2, "the driver's and the watch's first; afterwards the token is used"


def test_a_lost_push_is_found_by_the_sweep(emulator: UptimeKumaEmulator, bench: Bench) -> None:
    with watching(emulator, bench, WANTED, sweep=0.5) as hints:
        assert hints.none()
        emulator.store.monitors[UptimeKumaWorld(emulator).id(SMTP)]["interval"] = 77  # nobody is told
        assert hints.next() == SMTP.id


def test_pushes_of_a_shape_that_nobody_knows_change_nothing(emulator: UptimeKumaEmulator, hints: Hints) -> None:
    world = hints.watch._world
    before = dict(world.monitors)
    for event in ("monitorList", "updateMonitorIntoList", "deleteMonitorFromList", "notificationList", "maintenanceList", "nonsense"):
        for args in ((), (None,), ("x",), (True,)) if event != "deleteMonitorFromList" else ((), (None,), ("x",)):
            world.take(event, args)
    assert world.monitors == before


def test_a_wrong_password_ends_the_watch_with_a_reason() -> None:
    with serving() as emulator:
        config = UptimeKumaConfig.model_validate({**emulator.settings(), "password": "wrong"})
        watch = Watch(config, SocketLogin(config), Scope("test/nobody"), Event())
        with pytest.raises(Permanent, match="check username and password"):
            list(watch.run())


def test_the_driver_offers_it_and_a_stop_ends_it_at_once(emulator: UptimeKumaEmulator, bench: Bench) -> None:
    stop, driver = Event(), bench.driver
    assert hasattr(driver, "watch")
    found: list[ResourceId | None] = []
    scope = replace(bench.scope, wanted={MX.id: MX})
    thread = Thread(target=lambda: found.extend(driver.watch(scope, stop)))
    thread.start()
    deadline = time.monotonic() + 5
    while len(found) < len(WANTED) - 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    thread.join(2)
    assert not thread.is_alive()
    assert {one for one in found if one} == {one.id for one in WANTED if one is not MX}


def test_secrets_are_not_said(emulator: UptimeKumaEmulator, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with watching(emulator, bench, WANTED) as hints:
        assert hints.none()
        told = repr(hints.watch._told)
    assert not any(value in told or value in caplog.text for value in SECRETS.values())

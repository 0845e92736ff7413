"""Deploy-aware monitoring: whole passes over a system in memory that the emulated Uptime Kuma watches, in both dialects."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uptime_kuma_world import FOLDER, MX, PUBLIC, UptimeKumaWorld, bench_on, changed, resource, serving

from reconciler.driver import Scope
from reconciler.errors import Permanent, Transient
from reconciler.registry import Catalog
from reconciler.report import Verdict
from reconciler.sandbox.server import Fault
from reconciler_uptime_kuma import PLUGIN as KUMA
from reconciler_uptime_kuma.driver import UptimeKumaDriver
from reconciler_uptime_kuma.emulator import UptimeKumaEmulator
from tests.unit.core.memory import PLUGIN, Bench, degraded, stack_file, stack_of, thing

DOWN, UP, MAINTENANCE = 0, 1, 3
OWNER = "unit/test"


class House(Bench):
    """One installation: a system in memory, and the Uptime Kuma that watches it. What is being written is down."""

    def __init__(self, emulator: UptimeKumaEmulator) -> None:
        super().__init__(catalog=Catalog((PLUGIN, KUMA)))
        self.emulator = emulator
        self.system.before_write = self._flicker

    def engine(self) -> Any:
        engine = super().engine()
        engine.observer.targets._configs["uptime-kuma"] = self.emulator.settings()
        return engine

    def converge(self, *, size: int = 1, quiet: bool = True, **spec: Any) -> Any:
        engine = self.engine()
        try:
            return engine.converge(stack_of(files(size=size, quiet=quiet, **spec), self.catalog), "r", reason="test")
        finally:
            engine.observer.targets.close()

    def _flicker(self, name: str) -> None:
        self.emulator.check = lambda row: False
        self.emulator.check = lambda row: True

    def seen(self) -> dict[str, list[int]]:
        """The states of each monitor so far, without repetition."""
        snapshot = self.emulator.snapshot()
        found: dict[str, list[int]] = {}
        for id, row in snapshot["monitors"].items():
            states = found.setdefault(row["name"], [])
            for beat in snapshot["beats"].get(id, ()):
                if not states or states[-1] != beat["status"]:
                    states.append(beat["status"])
        return found

    def windows(self) -> list[Any]:
        return list(self.emulator.snapshot()["maintenances"].values())


def monitor(name: str, *, watches: str = "", **spec: Any) -> str:
    metadata = {"name": name, "annotations": {"reconciler/depends-on": [watches]} if watches else {}}
    document = {"apiVersion": "uptime-kuma/v1", "kind": "Monitor", "metadata": metadata, "spec": spec}
    return f"---\n{json.dumps(document)}\n"


def files(*, size: int, quiet: bool, **spec: Any) -> dict[str, str]:
    port = {"type": "port", "hostname": "10.0.20.1"}
    documents = (
        thing("door", size=size),
        monitor("folder", type="group"),
        monitor("door", watches="mem/Thing/door", **port, port=25, parent="folder"),
        monitor("window", **port, port=80, parent="folder"),
    )
    return {"stack.yaml": stack_file(monitoring={"quiet": quiet, "at_most": 600}, **spec), "all.yaml": "".join(documents)}


@pytest.fixture(params=["2.x", "1.23"])
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with serving(dialect=request.param) as emulator:
        house = House(emulator)
        house.converge()
        emulator.check = lambda row: True  # the group was looked at before anything stood below it
        assert house.converge().verdict is Verdict.CONVERGED
        for beats in emulator.store.beats.values():
            del beats[:-1]
        yield house


def test_without_it_a_deploy_is_an_alarm(house: House) -> None:
    assert house.converge(size=2, quiet=False).verdict is Verdict.CONVERGED
    assert house.seen()["door"] == [UP, DOWN, UP]


def test_with_it_only_what_is_watched_is_under_maintenance_and_all_is_as_before_at_the_end(house: House) -> None:
    report = house.converge(size=2)
    assert (report.verdict, report.remaining.notes) == (Verdict.CONVERGED, ())
    assert house.seen()["door"] == [UP, MAINTENANCE]
    assert house.seen()["window"] == [UP, DOWN, UP], "nobody changed what this one watches, so it may say what it sees"
    assert house.windows() == []
    house.emulator.check = lambda row: True
    assert house.seen()["door"] == [UP, MAINTENANCE, UP]


def test_what_stays_broken_stays_quiet_with_an_end_and_the_report_says_so(house: House) -> None:
    house.system.health["Thing/door"] = [degraded("does not open")]
    report = house.converge(size=2, health_deadline=5)
    (window,) = house.windows()
    end = datetime.fromisoformat(window["dateRange"][1]).replace(tzinfo=UTC)
    assert timedelta(minutes=8) < end - datetime.now(UTC) <= timedelta(minutes=10)
    door = next(id for id, row in house.emulator.snapshot()["monitors"].items() if row["name"] == "door")
    assert (window["status"], window["monitors"]) == ("under-maintenance", [door]), "the group is left out: it would take all below along"
    (note,) = report.remaining.notes
    assert "stays quiet about uptime-kuma/Monitor/door until" in note
    assert note.endswith("because mem/Thing/door is degraded: does not open")
    house.converge(size=3, health_deadline=5)
    assert house.windows()[0]["dateRange"] == window["dateRange"], "no later pass moves the end"
    house.system.health.clear()
    assert house.converge(size=3).verdict is Verdict.CONVERGED
    assert house.windows() == []


def test_a_window_of_a_dead_daemon_is_found_by_its_mark_and_closed(house: House) -> None:
    def die(name: str) -> None:
        raise KeyboardInterrupt

    house.system.before_write = die
    with pytest.raises(KeyboardInterrupt):
        house.converge(size=2)
    assert len(house.windows()) == 1
    house.system.before_write = lambda name: None
    assert house.converge(size=2).verdict is Verdict.CONVERGED
    assert house.windows() == []


def test_a_window_is_neither_drift_nor_a_maintenance_of_ours(house: House) -> None:
    driver = UptimeKumaDriver(KUMA.config.model_validate(house.emulator.settings()))
    scope = Scope(OWNER)
    try:
        driver.quiet([resource("Monitor", "door", type="group").id], scope, "test", 600)
        assert not [one for one in driver.observe([], scope) if one.id.kind == "Maintenance"]
        driver.unquiet(Scope("unit/other"))
        assert len(house.windows()) == 1, "another stack has windows of its own"
        driver.unquiet(scope)
        assert house.windows() == []
    finally:
        driver.close()


class TestTheFace:
    def test_more_monitors_join_the_window_that_is_open(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            port = resource("Monitor", "port", type="port", hostname="a", port=1)
            bench.converge([FOLDER, port, MX])
            driver: Any = bench.driver
            assert driver.quieted(bench.scope) is None
            driver.quiet([port.id], bench.scope, "first", 60)
            driver.quiet([MX.id, FOLDER.id], bench.scope, "second", 6000)
            ids = {UptimeKumaWorld(emulator).id(one) for one in (port, MX)}
            (window,) = emulator.snapshot()["maintenances"].values()
            assert set(window["monitors"]) == ids
            assert driver.quieted(bench.scope).ids == (MX.id, port.id)
            assert driver.quieted(bench.scope).until < datetime.now(UTC) + timedelta(seconds=61)

    def test_a_window_whose_making_was_answered_with_an_error_is_used_and_not_made_twice(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            bench.converge([MX])
            driver: Any = bench.driver
            with emulator.faults.during("error-after", times=1, writes_only=True):
                driver.quiet([MX.id], bench.scope, "test", 60)
            (window,) = emulator.snapshot()["maintenances"].values()
            assert window["monitors"] == [1]

    def test_a_window_that_is_not_in_force_is_said(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            bench.converge([MX])
            driver: Any = bench.driver
            driver.quiet([MX.id], bench.scope, "test", 60)
            emulator.store.windows.rows[1]["start"] = "2999-01-01 00:00:00"
            with pytest.raises(Permanent, match="is scheduled; is the clock of Uptime Kuma right"):
                driver.quiet([MX.id], bench.scope, "test", 60)

    def test_a_monitor_that_is_gone_holds_no_window_open(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            bench.converge([MX])
            driver: Any = bench.driver
            driver.quiet([MX.id], bench.scope, "test", 60)
            emulator.store.delete(1)
            assert driver.quieted(bench.scope).ids == ()
            driver.quiet([MX.id], replace(bench.scope, owner="test/nobody"), "test", 60)
            assert len(emulator.snapshot()["maintenances"]) == 1, "for nothing no window is opened"

    def test_a_wish_with_a_changed_monitor_is_not_blinded_by_a_window(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            bench.converge([MX])
            driver: Any = bench.driver
            driver.quiet([MX.id], bench.scope, "test", 60)
            bench.converge([changed(MX, interval=90)])
            assert emulator.snapshot()["monitors"][1]["interval"] == 90

    def test_it_is_in_force_at_once_where_the_clock_of_the_server_is_slow(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            bench.converge([MX])
            emulator.store.windows.slow = timedelta(minutes=8)
            driver: Any = bench.driver
            driver.quiet([MX.id], bench.scope, "test", 60)
            (window,) = emulator.snapshot()["maintenances"].values()
            assert window["status"] == "under-maintenance"

    def test_two_windows_that_two_daemons_opened_at_once_are_both_closed(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            bench.converge([MX])
            driver: Any = bench.driver
            driver.quiet([MX.id], bench.scope, "test", 60)
            windows = emulator.store.windows
            windows.rows[2], windows.monitors[2] = {**windows.rows[1]}, [1]
            driver.unquiet(bench.scope)
            assert emulator.snapshot()["maintenances"] == {}

    def test_a_window_that_is_there_again_after_its_deletion_was_accepted_is_said(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            bench.converge([MX])
            driver: Any = bench.driver
            driver.quiet([MX.id], bench.scope, "test", 60)
            rows = emulator.store.windows.rows
            kept = {**rows}
            emulator.faults.active.append(Fault("put back", matches=lambda method, event: not rows and bool(rows.update(kept))))
            with pytest.raises(Transient, match="maintenance 1 is still there"):
                driver.unquiet(bench.scope)

    def test_where_people_show_an_open_window_it_stays_shown_when_more_monitors_join(self) -> None:
        with serving() as emulator, bench_on(emulator) as bench:
            bench.converge([MX, FOLDER, PUBLIC])
            driver: Any = bench.driver
            driver.quiet([MX.id], bench.scope, "test", 60)
            emulator.store.windows.pages[1] = [1]
            port = resource("Monitor", "port", type="port", hostname="a", port=1)
            bench.converge([MX, FOLDER, PUBLIC, port])
            driver.quiet([port.id], bench.scope, "test", 60)
            assert emulator.store.windows.pages[1] == [1]
            assert len(emulator.store.windows.monitors[1]) == 2

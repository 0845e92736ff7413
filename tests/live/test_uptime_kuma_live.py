"""The promises of every driver on a real Uptime Kuma, 1.23 or 2.x, named by KUMA_URL, KUMA_USERNAME and KUMA_PASSWORD.

Everything that the suite makes carries the mark of the tests, or is in ``MADE``, and is deleted before and after each test; nothing else
is touched.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, ClassVar

import pytest
from uptime_kuma_hand import Hand

from reconciler.driver import Driver
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.testing import Bench, DriverContract, Sample, scope_for
from reconciler_uptime_kuma import maintenance, page
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.driver import UptimeKumaDriver
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.marks import split
from reconciler_uptime_kuma.native import Links, monitor_payload
from reconciler_uptime_kuma.page import StatusPage
from reconciler_uptime_kuma.spec import Monitor, Notification
from tests.contract.uptime_kuma_world import FOLDER, NOBODY, PAGER, SECRETS, UptimeKumaWorld, changed, resource, reveal, samples

pytestmark = [pytest.mark.live, pytest.mark.skipif("KUMA_URL" not in os.environ, reason="KUMA_URL does not name a real server")]

VOLATILE = {"path", "pathName", "dns_last_result", "timeslotList", "status", "screenshot"}


class RealWorld:
    """A real server, seen through a hand of its own. It plays no faults: those are the emulator's."""

    owner = "test/contract"
    faults: frozenset[str] = frozenset()

    def __init__(self, config: UptimeKumaConfig) -> None:
        self.config = config
        self.hand = Hand(config.url, config.username, config.password.get_secret_value())
        client = Client(config)
        try:
            client.monitors()
            self.dialect = client.dialect
        finally:
            client.close()

    def open(self) -> Driver:
        return UptimeKumaDriver(self.config)

    def samples(self) -> Sequence[Sample]:
        return samples(modern=self.dialect.modern)

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        found: dict[str, tuple[str, JSONObject]] = {}
        hand = self.hand
        tables = {"StatusPage": hand.pages(), "Monitor": hand.monitors(), "Notification": hand.notifications()}
        for kind, rows in (*tables.items(), ("Maintenance", hand.maintenances())):
            for id, row in sorted(rows.items()):
                name = f"{kind}/{row['slug'] if kind == 'StatusPage' else row.get('name') or row.get('title')}"
                stable = {key: value for key, value in row.items() if key not in VOLATILE}
                found[f"{name}#{id}" if name in found else name] = (str(id), stable)
        return found

    def locate(self, resource: Resource) -> str:
        return UptimeKumaWorld.locate(self, resource)  # type: ignore[arg-type]  # it asks the resource only

    def plant(self, resource: Resource) -> None:
        spec, hand = resource.spec, self.hand
        links = Links(self.owner, list(hand.monitors().values()), list(hand.notifications().values()), (), list(hand.pages().values()))
        if isinstance(spec, Notification):
            config = {key: reveal(value) for key, value in spec.config.items()}
            hand.call("addNotification", {**config, "name": spec.title, "type": spec.type, "isDefault": spec.default}, None)
        elif isinstance(spec, Maintenance):
            given = {**maintenance.payload(spec, ""), "description": spec.description}
            id = hand.call("addMaintenance", given)["maintenanceID"]
            hand.call("addMonitorMaintenance", id, [{"id": one} for one in links.monitor_ids(spec.monitors, resource.id)])
            hand.call("addMaintenanceStatusPage", id, [{"id": one} for one in links.page_ids(spec.pages, resource.id)])
        elif isinstance(spec, StatusPage):
            hand.call("addStatusPage", spec.title, spec.slug)
            before = hand.call("getStatusPage", spec.slug)["config"]
            config = page.config(spec, NOBODY, before, (), self.dialect)
            config["customCSS"] = split(config["customCSS"])[0]
            hand.call("saveStatusPage", spec.slug, config, spec.icon, page.groups(spec, {}, links, resource.id))
        else:
            assert isinstance(spec, Monitor)
            columns = monitor_payload(spec, self.dialect, lambda ref: str(reveal(ref)))
            numbers = {
                "notificationIDList": links.notification_ids(spec.notifications, resource.id),
                "parent": links.parent_id(spec.parent, resource.id) if spec.parent else None,
            }
            more = {"description": spec.description, "active": spec.active}
            hand.call("add", {**self.dialect.required, **columns, **numbers, **more})

    def meddle(self, resource: Resource) -> None:
        id, row = (lambda pair: (int(pair[0]), pair[1]))(self.peek()[self.locate(resource)])
        match resource.id.kind:
            case "Monitor":
                self.hand.call("editMonitor", {**self.hand.monitors()[id], "interval": 77})
            case "Maintenance":
                self.hand.call("pauseMaintenance", id)
            case "StatusPage":
                config = {key: value for key, value in row.items() if key != "groups"} | {"footerText": "meddled"}
                groups = [{"id": one["id"], "name": one["name"], "monitorList": one["monitorList"]} for one in row["groups"]]
                self.hand.call("saveStatusPage", row["slug"], config, row["icon"], groups)
            case _:
                self.hand.call("addNotification", {**json.loads(row["config"]), "isDefault": not row["isDefault"]}, id)

    def remove(self, resource: Resource) -> None:
        id, row = self.peek()[self.locate(resource)]
        self._delete(resource.id.kind, int(id), row)

    def _delete(self, kind: str, id: int, row: JSONObject) -> None:
        key = row["slug"] if kind == "StatusPage" else id
        self.hand.call(f"delete{kind}", key)

    def writes(self) -> int:
        return 0  # a real server does not count them; that nothing changed is seen by ``peek``

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        raise AssertionError(f"a real server cannot play {fault}")

    def secret_values(self) -> Sequence[str]:
        return list(SECRETS.values())

    def clear(self) -> None:
        """Delete what tests made: by name, since what they plant carries no mark."""
        made = {self.locate(one) for sample in self.samples() for one in (sample.before, sample.after, *sample.needs)}
        for name, (id, row) in reversed(self.peek().items()):
            if name.partition("#")[0] in made:
                self._delete(name.partition("/")[0], int(id), row)


@pytest.fixture(scope="module")
def server() -> Iterator[RealWorld]:
    names = {"url": "KUMA_URL", "username": "KUMA_USERNAME", "password": "KUMA_PASSWORD"}
    world = RealWorld(UptimeKumaConfig.model_validate({field: os.environ[name] for field, name in names.items() if name in os.environ}))
    yield world
    world.hand.close()


@pytest.fixture
def world(server: RealWorld) -> Iterator[RealWorld]:
    server.clear()
    yield server
    server.clear()


class TestRealUptimeKuma(DriverContract):
    secrets: ClassVar[Mapping[str, str]] = SECRETS


def test_a_change_of_type_keeps_the_number_and_the_heartbeats(world: RealWorld) -> None:
    before = resource("Monitor", "folder", type="port", hostname="127.0.0.1", port=9, notifications=["pager"])
    bench = Bench(world, world.open(), scope_for(world, secrets=SECRETS))
    try:
        bench.converge([PAGER, before])
        id = int(world.peek()["Monitor/folder"][0])
        beats = world.hand.call("getMonitorBeats", id, 24)["data"]
        bench.converge([PAGER, changed(FOLDER, description="moved")])
        assert int(world.peek()["Monitor/folder"][0]) == id
        assert world.hand.call("getMonitorBeats", id, 24)["data"][: len(beats)] == beats
    finally:
        bench.driver.close()


def test_a_window_is_in_force_at_once_and_leaves_the_others_alone(world: RealWorld) -> None:
    port = {"type": "port", "hostname": "127.0.0.1", "port": 9}
    inside, outside = resource("Monitor", "smtp", **port), resource("Monitor", "mx", **port)
    bench = Bench(world, world.open(), scope_for(world, secrets=SECRETS))
    driver: Any = bench.driver
    try:
        bench.converge([inside, outside])
        driver.quiet([inside.id], bench.scope, "live test", 60)
        peek = world.peek()
        assert [peek[f"Monitor/{name}"][1]["maintenance"] for name in ("smtp", "mx")] == [True, False]
        assert driver.quieted(bench.scope).ids == (inside.id,)
        driver.unquiet(bench.scope)
        assert world.peek()["Monitor/smtp"][1]["maintenance"] is False
        assert driver.quieted(bench.scope) is None
    finally:
        driver.unquiet(bench.scope)
        driver.close()


def test_a_hand_at_the_web_page_gives_a_hint(world: RealWorld) -> None:
    bench, stop = Bench(world, world.open(), scope_for(world, secrets=SECRETS)), Event()
    driver: Any = bench.driver
    hints: SimpleQueue[ResourceId | None] = SimpleQueue()
    try:
        bench.converge([PAGER, FOLDER])
        scope = replace(bench.scope, wanted={one.id: one for one in (PAGER, FOLDER)})
        thread = Thread(target=lambda: [hints.put(one) for one in driver.watch(scope, stop)], daemon=True)
        thread.start()
        time.sleep(3)
        assert hints.empty(), "nobody changed anything"
        world.meddle(FOLDER)
        assert hints.get(timeout=10) == FOLDER.id
        bench.converge([PAGER, FOLDER])
        world.remove(PAGER)
        assert hints.get(timeout=10) == PAGER.id
    finally:
        stop.set()
        driver.close()

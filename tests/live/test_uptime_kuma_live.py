"""The driver against a real Uptime Kuma, 1.23 or 2.x, named by UPTIME_KUMA_URL, UPTIME_KUMA_USERNAME and UPTIME_KUMA_PASSWORD.

Everything it makes carries the mark test/live and is deleted at the end; nothing else is touched.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.driver import Scope
from reconciler.graph import build
from reconciler.plan import Inputs, make_plan
from reconciler.resource import Resource, ResourceId, SecretRef, SecretValue
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.driver import UptimeKumaDriver
from reconciler_uptime_kuma.spec import Monitor, Notification

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif("UPTIME_KUMA_URL" not in os.environ, reason="UPTIME_KUMA_URL does not name a real server"),
]

TOKEN = SecretRef('${vault("secret/live", "token")}', (("secret/live", "token"),))
SCOPE = Scope("test/live", fingerprint=lambda ref: "v1", reveal=lambda ref: SecretValue("live-test-token"))


def resource(name: str, **fields: Any) -> Resource:
    kind = Notification if "config" in fields else Monitor
    spec = kind.from_document({"metadata": {"name": name}, "spec": fields})[1]
    return Resource(ResourceId("uptime-kuma", kind.__name__, name), spec)


@pytest.fixture
def config() -> UptimeKumaConfig:
    names = {"url": "UPTIME_KUMA_URL", "username": "UPTIME_KUMA_USERNAME", "password": "UPTIME_KUMA_PASSWORD"}
    return UptimeKumaConfig(**{field: os.environ[name] for field, name in names.items() if name in os.environ})


@pytest.fixture
def driver(config: UptimeKumaConfig) -> Iterator[UptimeKumaDriver]:
    driver = UptimeKumaDriver(config)
    try:
        yield driver
    finally:
        converge(driver, [])
        driver.close()


def converge(driver: UptimeKumaDriver, wanted: list[Resource]) -> None:
    for _ in range(3):
        observations = driver.observe(wanted, SCOPE)
        targets = {one.id: "live" for one in [*observations, *wanted]}
        plan = make_plan("live", "", build(wanted), Inputs(observations, SCOPE.fingerprint, targets))
        assert not plan.stuck, plan.stuck
        if not plan.waves:
            return
        for wave in plan.waves:
            failed = [one for one in driver.apply(wave, SCOPE) if one.status != "applied"]
            assert not failed
    raise AssertionError(f"still different: {plan.changes}")


def test_a_group_with_monitors_is_made_changed_in_place_and_taken_away(driver: UptimeKumaDriver, config: UptimeKumaConfig) -> None:
    hook = resource("hook", type="webhook", config={"webhookURL": "http://127.0.0.1:9/", "webhookContentType": "json"})
    group = resource("folder", type="group", title="reconciler live test")
    push = resource("push", type="push", push_token=TOKEN, parent="folder")
    before = resource("port", type="port", hostname="127.0.0.1", port=9, parent="folder", notifications=["hook"])
    after = resource("port", type="http", url="http://127.0.0.1:9/", description="moved", active=False, extra={"ignoreTls": True})
    converge(driver, [hook, group, push, before])
    ids = numbers(driver, [group, push, before])
    converge(driver, [hook, group, push, after])
    assert numbers(driver, [group, push, after]) == ids
    converge(driver, [])
    client = Client(config)
    try:
        assert all(client.monitor(id) is None for id in ids.values())
    finally:
        client.close()


def numbers(driver: UptimeKumaDriver, wanted: list[Resource]) -> dict[ResourceId, int]:
    return {one.id: one.handle["id"] for one in driver.observe(wanted, SCOPE) if one.id.kind == "Monitor"}

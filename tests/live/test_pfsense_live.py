"""The driver against a real pfSense, named by PFSENSE_SETTINGS: a YAML file with the target's settings, as below ``targets.pfsense``.

Everything it makes carries the mark test/live and is deleted at the end; nothing is reachable by it from outside: the forward leads to an
address that nobody has, on a port that nobody uses, and the frontend listens on loopback. Give a machine that may be reloaded.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.driver import Scope, Status
from reconciler.graph import build
from reconciler.plan import Inputs, Plan, make_plan
from reconciler.resource import Resource, ResourceId
from reconciler_pfsense import PLUGIN
from reconciler_pfsense.agent import Program
from reconciler_pfsense.config import Config
from reconciler_pfsense.driver import PfSenseDriver

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif("PFSENSE_SETTINGS" not in os.environ, reason="PFSENSE_SETTINGS does not name the settings of a real firewall"),
]
SCOPE = Scope("test/live")


def wish(kind: str, name: str, **spec: Any) -> Resource:
    name, made = PLUGIN.kinds[kind].from_document({"metadata": {"name": name}, "spec": spec})
    return Resource(ResourceId("pfsense", kind, name), made)


def wishes(words: str, timeout: int) -> list[Resource]:
    server = {"name": "node-1", "address": "192.0.2.7", "port": 30125, "send_proxy": "v2", "check_port": 30145}
    binds = [{"address": "127.0.0.1", "port": 62525}]
    return [
        wish("Alias", "live_test_host", type="host", addresses=["192.0.2.7"], description=words),
        wish("HAProxyBackend", "live_test", servers=[server], server_timeout=timeout, check_interval=60000),
        wish("HAProxyFrontend", "live_test", binds=binds, default_backend="live_test", description=words),
        wish("FirewallRule", "live-test", action="block", interface="lan", source="live_test_host", description=words),
        wish("PortForward", "live-test", port=62525, target="live_test_host", description=f"{words} äöü", disabled=True),
    ]


@pytest.fixture
def config() -> Config:
    return Config.model_validate(yaml.safe_load(Path(os.environ["PFSENSE_SETTINGS"]).read_text(encoding="utf-8")))


@pytest.fixture
def driver(config: Config) -> Iterator[PfSenseDriver]:
    driver = PfSenseDriver(config)
    try:
        yield driver
    finally:
        converge(driver, [])
        driver.close()


def planned(driver: PfSenseDriver, wanted: list[Resource]) -> Plan:
    seen = driver.observe(wanted, SCOPE)
    targets = {one.id: "live" for one in [*seen, *wanted]}
    return make_plan("live", "", build(wanted), Inputs(seen, SCOPE.fingerprint, targets, transactional=("live",)))


def converge(driver: PfSenseDriver, wanted: list[Resource]) -> int:
    """Converge, and give the number of transactions. What HAProxy refuses or pf skips fails here with their own words."""
    plan = planned(driver, wanted)
    assert not plan.stuck, plan.stuck
    for wave in plan.waves:
        outcomes = driver.apply(wave, SCOPE)
        assert {one.status for one in outcomes} == {Status.APPLIED}, outcomes
    assert not planned(driver, wanted).changes
    return len(plan.waves)


def test_everything_is_made_changed_and_taken_away_in_one_transaction_each(driver: PfSenseDriver) -> None:
    foreign = {path: [one for one in items if "live_test" not in repr(one)] for path, items in driver._look(SCOPE).lists.items()}
    assert converge(driver, wishes("first", 31000)) == 1
    assert converge(driver, wishes("second", 32000)) == 1
    assert converge(driver, wishes("second", 32000)) == 0
    assert converge(driver, []) == 1
    after = driver._look(SCOPE)
    assert {path: [one for one in items if "live_test" not in repr(one)] for path, items in after.lists.items()} == foreign
    assert not after.pending
    assert after.version


def test_a_glance_knows_an_unchanged_file_and_our_own_write(driver: PfSenseDriver) -> None:
    sha = driver._look(SCOPE).sha
    assert driver.client.run(Program.of("glance", known=sha)) == {"sha": sha}
    converge(driver, wishes("seen", 31000)[:1])
    seen = driver.client.run(Program.of("glance", known=sha))
    assert "reconciler test/live" in seen["revision"]["description"]


def test_a_watch_is_silent_while_only_we_write(driver: PfSenseDriver, config: Config) -> None:
    watching, stop, heard = PfSenseDriver(config.model_copy(update={"watch_interval": 0.5})), threading.Event(), list[object]()
    thread = threading.Thread(target=lambda: heard.extend(watching.watch(SCOPE, stop)), daemon=True)
    thread.start()
    converge(driver, wishes("watched", 31000)[:1])
    stop.wait(3)
    stop.set()
    thread.join(timeout=30)
    watching.close()
    assert heard == []

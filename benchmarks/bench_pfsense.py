"""What a large firewall costs: executions of a whole converge, and our own processor time for a plan of it."""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import figure
from reconciler.driver import Change, Scope, Status
from reconciler.graph import build
from reconciler.plan import Inputs, Plan, make_plan
from reconciler.resource import Resource, ResourceId
from reconciler_pfsense import PLUGIN
from reconciler_pfsense.config import Config
from reconciler_pfsense.driver import PfSenseDriver
from reconciler_pfsense.emulator import PfSenseEmulator

FORWARDS, BACKENDS = 200, 50
SCOPE = Scope(owner="benchmark/firewall")


def measure() -> list[dict[str, object]]:
    """Converge an empty firewall, plan it again, and change everything; the emulator has threads of its own."""
    emulator = PfSenseEmulator()
    emulator.start()
    driver = PfSenseDriver(Config.model_validate(emulator.settings()))
    try:
        created, executions = _counted(emulator, lambda: _converge(driver, _wanted("first")))
        again, planned = _fastest(lambda: _plan(driver, _wanted_once))
        assert again.in_sync
        changed, later = _counted(emulator, lambda: _converge(driver, _wanted("second")))
        what = f"{FORWARDS} forwards and {BACKENDS} backends"
        return [
            figure(f"executions of a converge that creates {created} resources", executions, "", 3),
            figure(f"executions of a converge that changes {changed} resources", later, "", 3),
            figure(f"our processor time for a plan of {what}, nothing changed", planned, "s", 0.3),
            figure(f"our processor time for a plan of {what}, all of them changed", _all_changed(driver), "s", 0.3),
        ]
    finally:
        driver.close()
        emulator.stop()


def _wanted(words: str) -> list[Resource]:
    """One alias and HAProxy's settings, backends with a frontend each, and forwards that use the alias."""
    found = [_one("HAProxySettings", "haproxy", {}), _one("Alias", "mail_host", {"type": "host", "addresses": ["10.0.20.1"]})]
    timeout = 30000 + len(words)
    for number in range(BACKENDS):
        servers = [
            {"name": f"node{one}", "address": f"10.0.20.{one}", "port": 30000 + number, "send_proxy": "v2"} for one in range(101, 105)
        ]
        found.append(_one("HAProxyBackend", f"pool{number}", {"servers": servers, "server_timeout": timeout, "retries": len(words)}))
        binds = [{"address": "10.0.20.1", "port": 20000 + number}]
        found.append(_one("HAProxyFrontend", f"pool{number}", {"binds": binds, "default_backend": f"pool{number}", "description": words}))
    forward = {"target": "mail_host", "description": words}
    found.extend(_one("PortForward", f"f{number}", {"port": 10000 + number, **forward}) for number in range(FORWARDS))
    return found


def _one(kind: str, name: str, spec: dict[str, Any]) -> Resource:
    name, made = PLUGIN.kinds[kind].from_document({"metadata": {"name": name}, "spec": spec})
    return Resource(ResourceId("pfsense", kind, name), made)


_wanted_once = _wanted("first")


def _plan(driver: PfSenseDriver, wanted: list[Resource]) -> Plan:
    seen = driver.observe(wanted, SCOPE)
    targets = {one.id: "pfsense" for one in wanted}
    inputs = Inputs(seen, SCOPE.fingerprint, targets, transactional=("pfsense",) if PLUGIN.transactional else ())
    return make_plan("firewall", "", build(wanted), inputs)


def _converge(driver: PfSenseDriver, wanted: list[Resource]) -> int:
    changes: list[Change] = []
    for wave in _plan(driver, wanted).waves:
        changes += wave
        assert {one.status for one in driver.apply(wave, SCOPE)} == {Status.APPLIED}
    return len(changes)


def _counted(emulator: PfSenseEmulator, work: Callable[[], int]) -> tuple[int, int]:
    before = len(emulator.programs)
    return work(), len(emulator.programs) - before


def _fastest(work: Callable[[], Plan], times: int = 5) -> tuple[Plan, float]:
    """Give the least processor time of this thread; the answer is decoded in it, the connection has a thread of its own."""
    found = []
    for _ in range(times):
        started = time.thread_time()
        plan = work()
        found.append(time.thread_time() - started)
    return plan, min(found)


def _all_changed(driver: PfSenseDriver) -> float:
    plan, seconds = _fastest(lambda: _plan(driver, _wanted_once))
    assert len(plan.changes) > FORWARDS + BACKENDS
    return seconds

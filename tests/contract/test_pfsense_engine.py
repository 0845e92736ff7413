"""A firewall under the whole engine: what is written together, and what a pass costs, whatever its size."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
import yaml

from reconciler.compose import Workshop
from reconciler.driver import Status
from reconciler.load import load_stack
from reconciler.registry import catalog
from reconciler.report import Report, Verdict
from reconciler.settings import Settings
from reconciler.stack import Stack
from reconciler_pfsense.emulator import PfSenseEmulator

HEAD = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: fw}\nspec: {policy: {deletes: {floor: 99}, updates: {floor: 999}}}\n"


@pytest.fixture(params=["ssh", "xmlrpc"])
def emulator(request: pytest.FixtureRequest) -> Iterator[PfSenseEmulator]:
    emulator = PfSenseEmulator()
    emulator.start()
    emulator.way = emulator.settings if request.param == "ssh" else emulator.xmlrpc_settings  # type: ignore[attr-defined]
    yield emulator
    emulator.stop()


def stack(*documents: dict[str, Any]) -> Stack:
    files = {"desired/fw/stack.yaml": HEAD.encode(), "desired/fw/all.yaml": yaml.safe_dump_all(documents).encode()}
    return load_stack(files, "desired/fw", catalog(), today=date(2026, 4, 1))


def one(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "pfsense/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def proxied(count: int, port: int = 20000) -> list[dict[str, Any]]:
    """An alias, HAProxy, and so many backends, frontends and forwards, each of which needs one of the others."""
    found = [one("Alias", "hosts", type="host", addresses=["10.0.20.1"]), one("HAProxySettings", "haproxy", maxconn=500)]
    for number in range(count):
        name = f"pool{number}"
        found.append(one("HAProxyBackend", name, servers=[{"name": "n1", "address": "10.0.20.101", "port": 30000 + number}]))
        found.append(one("HAProxyFrontend", name, binds=[{"address": "hosts", "port": port + number}], default_backend=name))
        found.append(one("PortForward", f"in{number}", port=10000 + number, target="hosts", target_port=port + number))
    return found


def converge(emulator: PfSenseEmulator, wanted: Stack) -> tuple[Report, list[str]]:
    settings = Settings(targets={"pfsense": emulator.way()}, engine={"poll": 0.01, "attempts": 1})  # type: ignore[attr-defined]
    before = len(emulator.programs)
    with Workshop(settings).engine() as engine:
        report = engine.converge(wanted, "0" * 40, reason="test")
    return report, [program["verb"] for program in emulator.programs[before:]]


@pytest.mark.parametrize("count", [1, 30])
def test_a_converge_is_one_look_and_one_write_whatever_its_size_and_a_look_that_proves_it(emulator: PfSenseEmulator, count: int) -> None:
    report, verbs = converge(emulator, stack(*proxied(count)))
    assert report.verdict is Verdict.CONVERGED
    assert verbs == ["observe", "apply", "observe"]
    assert len(emulator.firewall.history) == 1
    assert len([one for one in report.outcomes if one.status is Status.APPLIED]) == 3 * count + 2


def test_what_comes_what_changes_and_what_goes_is_one_transaction(emulator: PfSenseEmulator) -> None:
    converge(emulator, stack(*proxied(3)))
    for renamed in (two := proxied(2)):
        renamed["metadata"]["name"] = renamed["metadata"]["name"].replace("pool", "new")
        renamed["spec"] |= {"default_backend": renamed["metadata"]["name"]} if renamed["kind"] == "HAProxyFrontend" else {}
    report, verbs = converge(emulator, stack(*two))
    assert report.verdict is Verdict.CONVERGED
    assert verbs == ["observe", "apply", "observe"]
    assert "frontend new1" in emulator.haproxy_cfg()
    assert "pool" not in emulator.haproxy_cfg()


def test_nothing_to_do_is_one_look(emulator: PfSenseEmulator) -> None:
    converge(emulator, stack(*proxied(2)))
    report, verbs = converge(emulator, stack(*proxied(2)))
    assert report.verdict is Verdict.CONVERGED
    assert verbs == ["observe"]

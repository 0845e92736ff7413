"""A system that accepts connections and never answers, or answers a byte at a time, delays nobody but itself, whichever call it is in."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from reconciler.engine import Engine
from reconciler.lanes import Lanes
from reconciler.registry import Catalog
from reconciler.report import Report, Verdict
from reconciler.resource import JSONObject
from reconciler_cloudflare import PLUGIN as CLOUDFLARE
from reconciler_cloudflare.emulator import CloudflareEmulator
from reconciler_k8s import PLUGIN as K8S
from reconciler_k8s.emulator import KubernetesEmulator
from reconciler_pfsense import PLUGIN as PFSENSE
from reconciler_pfsense.emulator import PfSenseEmulator
from reconciler_uptime_kuma import PLUGIN as KUMA
from reconciler_uptime_kuma.emulator import UptimeKumaEmulator
from reconciler_vault import PLUGIN as VAULT
from reconciler_vault.emulator import VaultEmulator
from tests.swamp import Swamp, swamp
from tests.unit.core.memory import OTHER, Bench, System, stack_file, stack_of, thing

PATIENCE = 0.4
LONG = 6.0
"""Seconds that a pass may take though something in it hangs: many times its patience, and far below the clients' own timeouts."""


def document(version: str, kind: str, name: str, /, **spec: Any) -> str:
    return f"---\n{json.dumps({'apiVersion': version, 'kind': kind, 'metadata': {'name': name}, 'spec': spec})}\n"


SECRET = document(
    "vault/v1", "Secret", "made", path="secret/made", keys={"password": {"generate": {"type": "password"}, "consumers": ["a test"]}}
)
USERS = thing("user", group="pool/v1", text="${vault('secret/made', 'password')}") + thing(
    "old-user", group="pool/v1", text="${vault('secret/old', 'password')}"
)
RECORDS = "".join(
    document("cloudflare/v1", "DNSRecord", name, zone="example.com", name=f"{name}.example.com", type="A", content="192.0.2.1")
    for name in ("one", "two")
)
OBJECTS = (
    "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: mail}\n"
    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, namespace: mail}\ndata: {a: b}\n"
)
ALIAS = document("pfsense/v1", "Alias", "hosts", type="host", addresses=["192.0.2.7"])
MONITOR = document("uptime-kuma/v1", "Monitor", "door", type="port", hostname="192.0.2.1", port=25)
FREE = thing("free", group="pool/v1")


@dataclass(slots=True)
class House(Bench):
    """One installation over a system in memory and one that is reached through the swamp."""

    settings_of: dict[str, JSONObject] = field(default_factory=dict)
    patience: float = 30.0
    engines: list[Engine] = field(default_factory=list)

    def engine(self) -> Engine:
        engine = Bench.engine(self)
        engine.observer.targets._configs = {"pool": {"system": self.pool}, **self.settings_of}
        return replace(engine, observer=replace(engine.observer, lanes=Lanes(60, self.patience)))

    def converge(self, text: str) -> tuple[Report, float]:
        engine, began = self.engine(), time.monotonic()
        self.engines.append(engine)
        stack = stack_of({"stack.yaml": stack_file(health_deadline=5), "all.yaml": FREE + text}, self.catalog)
        report = engine.converge(stack, "r", reason="test")
        return report, time.monotonic() - began

    def close(self) -> None:
        """Close what hangs no more."""
        for engine in self.engines:
            engine.observer.targets.close()


@dataclass(frozen=True, slots=True)
class Case:
    """One system: how it is started and led to through a port, and what is wished of it."""

    plugin: Any
    text: str
    start: Callable[[], Any]
    port: Callable[[Any], int]
    lead: Callable[[Any, int], JSONObject]

    @contextmanager
    def house(self, **how: object) -> Iterator[tuple[House, Swamp]]:
        system = self.start()
        system.start()
        try:
            with swamp(self.port(system), **how) as made:
                catalog = Catalog((self.plugin, OTHER))
                house = House(pool=System(), catalog=catalog, settings_of={self.plugin.name: self.lead(system, made.port)})
                try:
                    yield house, made
                finally:
                    made.heal()
                    house.close()
        finally:
            system.stop()


def _through(key: str) -> tuple[Callable[[Any], int], Callable[[Any, int], JSONObject]]:
    def port(system: Any) -> int:
        return int(system.settings()[key].split(":")[2].split("/")[0])

    def lead(system: Any, swamp_port: int) -> JSONObject:
        settings = dict(system.settings())
        return {**settings, key: settings[key].replace(str(port(system)), str(swamp_port))}

    return port, lead


def _through_ssh(system: Any, port: int) -> JSONObject:
    settings = dict(system.settings())
    return {**settings, "port": port, "known_hosts": settings["known_hosts"].replace(f":{settings['port']} ", f":{port} ")}


CASES = {
    "vault": Case(VAULT, SECRET + USERS, lambda: VaultEmulator({"secrets": {"secret/old": {"password": "x"}}}), *_through("url")),
    "cloudflare": Case(CLOUDFLARE, RECORDS, lambda: CloudflareEmulator({"zones": {"example.com": {}}}), *_through("base_url")),
    "k8s": Case(K8S, OBJECTS, KubernetesEmulator, *_through("url")),
    "pfsense": Case(PFSENSE, ALIAS, PfSenseEmulator, lambda system: int(system.settings()["port"]), _through_ssh),
    "uptime-kuma": Case(KUMA, MONITOR, UptimeKumaEmulator, *_through("url")),
}


def whole(case: Case) -> Swamp:
    """Converge with nothing in the way; gives what went through."""
    with case.house() as (house, way):
        report, _ = house.converge(case.text)
        assert report.verdict is Verdict.CONVERGED, report.remaining
        return way


def hung(case: Case, where: object, **how: object) -> bool:
    """Hold the promise for one place in which the system hangs, and see it converge once it answers again; False when none did.

    On a busy machine a healthy call may be given up before that place is reached; there is more time for it then.
    """
    for patience in (PATIENCE, PATIENCE * 3, PATIENCE * 9):
        with case.house(**how) as (house, way):
            assert house.pool is not None
            patient, house.patience = house.patience, patience
            report, took = house.converge(case.text)
            assert "Thing/free" in house.pool.objects, f"{where}: {report.remaining.stuck}"
            assert took < LONG + 2 * patience, f"{where}: {took:.1f} s"
            house.patience = patient
            way.heal()
            report, _ = house.converge(case.text)
            assert report.verdict is Verdict.CONVERGED, (where, report.outcomes, report.remaining)
            assert house.pool.written().count("create Thing/free") == 1
            if way.swallowed.is_set():
                return True
            if "after" in how:  # it was over before
                return False
    return False


@pytest.mark.parametrize("name", ["vault", "cloudflare", "k8s"])
def test_whichever_request_is_not_answered_the_other_target_is_written_and_the_pass_ends(name: str) -> None:
    endpoints = list(whole(CASES[name]).endpoints)
    assert len(endpoints) > 3
    for endpoint in endpoints:
        assert hung(CASES[name], endpoint, swallow=endpoint), endpoint


@pytest.mark.parametrize("name", ["vault", "cloudflare", "k8s"])
def test_an_answer_that_drips_in_for_ever_is_given_up_as_well(name: str) -> None:
    endpoints = list(whole(CASES[name]).endpoints)
    for endpoint in (endpoints[0], endpoints[-1]):
        assert hung(CASES[name], endpoint, swallow=endpoint, drip=True), endpoint


@pytest.mark.parametrize("name", ["pfsense", "uptime-kuma"])
def test_wherever_a_conversation_stops_the_other_target_is_written_and_the_pass_ends(name: str) -> None:
    places = (0, 1, 2, 4, 7, 12)
    stopped = [hung(CASES[name], f"answer {after}", after=after) for after in places]
    assert sum(stopped) > 3, "how an answer is cut into pieces is the network's business, so the last may lie behind the end"

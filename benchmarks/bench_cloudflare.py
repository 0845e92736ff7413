"""What a large DNS zone costs, in requests and seconds, and what octoDNS needs for the same against the same emulator in the same run."""

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from benchmarks.common import figure
from reconciler.driver import Mark, Scope, Status
from reconciler.graph import build
from reconciler.plan import Inputs, Plan, make_plan
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_cloudflare.config import Config
from reconciler_cloudflare.driver import CloudflareDriver
from reconciler_cloudflare.emulator import CloudflareEmulator
from reconciler_cloudflare.spec import DNSRecord

ZONE, COUNT, CHANGED = "example.com", 5000, 150
SCOPE = Scope(owner="benchmark/dns")
IMPORT = "import time; t = time.perf_counter(); import reconciler_cloudflare.driver; print(time.perf_counter() - t)"
UNASKED = "import sys; from reconciler.registry import catalog; catalog(); print(int('cloudflare' in sys.modules))"


TIMES = 5
"""A plan is made so often, each time from a fresh connection, and the least of each figure counts: the machine has other work."""


class Cost(NamedTuple):
    """Requests, seconds of this thread's processor time, and seconds of the clock; the emulator has a thread of its own."""

    requests: int
    processor: float
    clock: float


def measure() -> list[dict[str, object]]:
    """Measure both programs on one zone, each from a fresh connection."""
    emulator = CloudflareEmulator(_seed(marked=True))
    emulator.start()
    try:
        planned, applied, batches = _ours(emulator)
        emulator.load(_seed(marked=False))
        return [
            figure(f"requests of a first plan of {COUNT} DNS records", planned.requests, "requests", 3),
            figure("processor time of that", planned.processor, "s", 1.5),
            figure(f"batch calls of {CHANGED} changes", batches, "calls", 2),
            figure("import of the Cloudflare driver", min(_child(IMPORT) for _ in range(3)), "s", 1.3),
            figure("its vendor library loaded while no zone is configured", _child(UNASKED), "times", 1),
            *_beside(emulator, planned, applied),
        ]
    finally:
        emulator.stop()


def _seed(*, marked: bool) -> JSONObject:
    """Fill the zone; for octoDNS without our marks, which it would take for comments to be removed."""
    marks = [{"comment": str(Mark(SCOPE.owner, "DNSRecord", f"r{number}"))} if marked else {} for number in range(COUNT)]
    records = [{**_record(number), **mark} for number, mark in enumerate(marks)]
    return {"rate_limit": [10**6, 300], "zones": {ZONE: {"id": "c" * 32, "quota": None, "records": records}}}


def _record(number: int, ttl: int = 300) -> JSONObject:
    return {"name": f"r{number}.{ZONE}", "type": "A", "content": "192.0.2.1", "ttl": ttl}


def _ttl(number: int, changed: int) -> int:
    return 600 if number < changed else 300


def _cost(emulator: CloudflareEmulator, work: Callable[[], Any]) -> tuple[Any, Cost]:
    emulator.faults.requests.clear()
    processor, clock = time.thread_time(), time.perf_counter()
    done = work()
    return done, Cost(len(emulator.faults.requests), time.thread_time() - processor, time.perf_counter() - clock)


def _least(emulator: CloudflareEmulator, work: Callable[[], Any]) -> Cost:
    costs = [_cost(emulator, work)[1] for _ in range(TIMES)]
    return Cost(*(min(one) for one in zip(*costs, strict=True)))


def _child(program: str) -> float:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout)


# -- ours ----------------------------------------------------------------------------------------------------------------------


def _ours(emulator: CloudflareEmulator) -> tuple[Cost, Cost, int]:
    """Plan a zone that has not changed, then change some of it, and count the calls that wrote."""
    same, other = _wanted(0), _wanted(CHANGED)

    def plan_all() -> None:
        fresh = CloudflareDriver(Config.model_validate(emulator.settings()))
        assert _plan(fresh, same).in_sync
        fresh.close()

    planned = _least(emulator, plan_all)
    driver = CloudflareDriver(Config.model_validate(emulator.settings()))
    changes = [change for wave in _plan(driver, other).waves for change in wave]
    assert len(changes) == CHANGED
    outcomes, applied = _cost(emulator, lambda: driver.apply(changes, SCOPE))
    assert {one.status for one in outcomes} == {Status.APPLIED}
    driver.close()
    return planned, applied, sum(path.endswith("/batch") for _, path in emulator.faults.requests)


def _wanted(changed: int) -> list[Resource]:
    specs = [DNSRecord.model_validate({"zone": ZONE, **_record(number, _ttl(number, changed))}) for number in range(COUNT)]
    return [Resource(ResourceId("cloudflare", "DNSRecord", f"r{number}"), spec) for number, spec in enumerate(specs)]


def _plan(driver: CloudflareDriver, wanted: list[Resource]) -> Plan:
    seen = driver.observe(wanted, SCOPE)
    return make_plan("dns", "", build(wanted), Inputs(seen, SCOPE.fingerprint, {one.id: "cloudflare" for one in wanted}))


# -- octoDNS -------------------------------------------------------------------------------------------------------------------


def _beside(emulator: CloudflareEmulator, planned: Cost, applied: Cost) -> list[dict[str, object]]:
    if find_spec("octodns") is None or find_spec("octodns_cloudflare") is None:
        return [figure("octodns is not installed; install octodns and octodns-cloudflare to see it beside ours", None, "", None)]
    theirs_planned, theirs_applied = _octodns(emulator)
    return [
        *_pair(f"plan of {COUNT} records", planned, theirs_planned),
        *_pair(f"{CHANGED} changes", applied, theirs_applied),
        figure(f"seconds of a plan of {COUNT} records, ours to one of octoDNS", planned.clock / theirs_planned.clock, "", 1.25),
        figure(f"requests of {CHANGED} changes, ours to one of octoDNS", applied.requests / theirs_applied.requests, "", 1),
        figure(f"seconds of {CHANGED} changes, ours to one of octoDNS", applied.clock / theirs_applied.clock, "", 1),
    ]


def _pair(what: str, ours: Cost, theirs: Cost) -> list[dict[str, object]]:
    found = []
    for name, cost in (("ours", ours), ("octoDNS", theirs)):
        found.append(figure(f"{what}, {name}", cost.requests, "requests", None))
        found.append(figure(f"{what}, {name}", cost.clock, "s", None))
        found.append(figure(f"{what}, {name}", cost.processor, "s of the processor", None))
    found.append(figure(f"{what}, octoDNS to one of ours", theirs.requests / ours.requests, "times the requests", None))
    found.append(figure(f"{what}, octoDNS to one of ours", theirs.clock / ours.clock, "times the seconds", None))
    return found


def _octodns(emulator: CloudflareEmulator) -> tuple[Cost, Cost]:
    """Do the same with octoDNS, with the largest pages that it can be told to ask for; by itself it asks for 100 records a page."""
    logging.disable(logging.CRITICAL)
    provider_of, settings = import_module("octodns_cloudflare").CloudflareProvider, emulator.settings()

    def provider() -> Any:
        return provider_of("cf", token=settings["token"], api_url=settings["base_url"], pagerules=False, records_per_page=5000)

    same, other = _zone(0), _zone(CHANGED)

    def plan_all() -> None:
        assert provider().plan(same) is None

    planned, second = _least(emulator, plan_all), provider()
    plan = second.plan(other)
    assert len(plan.changes) == CHANGED
    _, applied = _cost(emulator, lambda: second.apply(plan))
    return planned, applied


def _zone(changed: int) -> Any:
    record_of = import_module("octodns.record").Record
    zone = import_module("octodns.zone").Zone(f"{ZONE}.", [])
    for number in range(COUNT):
        one = {"type": "A", "ttl": _ttl(number, changed), "values": ["192.0.2.1"]}
        zone.add_record(record_of.new(zone, f"r{number}", one), lenient=True)
    return zone

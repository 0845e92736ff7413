"""How soon a webhook leads to the first call of a system, and what a thousand of them cost."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.common import figure
from benchmarks.daemons import Running
from reconciler.sandbox.remote import Remote
from reconciler_cloudflare.emulator import CloudflareEmulator

ZONE, BURST = "example.com", 1000
STACK = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: dns}\nspec: {interval: 3600}\n"
RECORD = "apiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata: {name: www}\n"


def measure() -> list[dict[str, object]]:
    """Measure the daemon's process beside an emulated Cloudflare in this one; it polls once an hour."""
    emulator = CloudflareEmulator({"retry_after": 0, "zones": {ZONE: {}}})
    emulator.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            remote = Remote(Path(folder))
            _push(remote, 1)
            target = {**emulator.settings(), "requests_per_second": 1000}
            settings = {
                "repository": {"url": remote.url, "poll": 3600},
                "targets": {"cloudflare": target},
                "state": {"path": f"{folder}/state.db"},
                "engine": {"poll": 0.05},
            }
            daemon = Running(Path(folder), settings)
            try:
                return _measured(daemon, remote, emulator)
            finally:
                daemon.stop()
    finally:
        emulator.stop()


def _push(remote: Remote, number: int) -> str:
    folder = remote.work / "desired" / "dns"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stack.yaml").write_text(STACK, encoding="utf-8")
    spec = f"spec: {{zone: {ZONE}, name: www.{ZONE}, type: A, content: 192.0.2.{number}}}\n"
    (folder / "www.yaml").write_text(RECORD + spec, encoding="utf-8")
    return remote.push(f"change {number}")


def _measured(daemon: Running, remote: Remote, emulator: CloudflareEmulator) -> list[dict[str, object]]:
    daemon.until(lambda: daemon.converged("dns", remote.head()), "the first commit")
    first = max(_first_call(daemon, remote, emulator, number) for number in range(2, 7))
    _burst(daemon, 20_000)  # what a server allocates once is not what a burst costs
    time.sleep(3)
    before, runs = daemon.resident(), len(daemon.runs("dns"))
    _push(remote, 8)
    codes, seconds = _burst(daemon, 0)
    last = _push(remote, 9)
    daemon.webhook(10 * BURST)  # not one of the burst over again: that would be taken for a replay
    daemon.until(lambda: daemon.converged("dns", last), "the last commit")
    time.sleep(3)
    return [
        figure("from a webhook to the first call of a system, the slowest of five", first, "s", 0.5),
        figure(f"passes after {BURST} webhooks and two commits", len(daemon.runs("dns")) - runs, "passes", 3),
        figure(f"of {BURST} webhooks not taken at once", sum(code != 202 for code in codes), "webhooks", 1),
        figure(f"memory that {BURST} webhooks left behind", daemon.resident() - before, "MB", 3),
        figure("webhooks a second", BURST / seconds, "webhooks/s", None),
    ]


def _first_call(daemon: Running, remote: Remote, emulator: CloudflareEmulator, number: int) -> float:
    commit = _push(remote, number)
    time.sleep(1.2)  # a webhook sooner than a second after the last one waits for that second to end
    emulator.faults.requests.clear()
    began = time.monotonic()
    daemon.webhook(number)
    took = daemon.until(lambda: bool(emulator.faults.requests), "the first call", pause=0.001) - began
    daemon.until(lambda: daemon.converged("dns", commit), "the commit")
    return took


def _burst(daemon: Running, first: int) -> tuple[list[int], float]:
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda number: daemon.webhook(first + 100 + number), range(BURST)))
    return codes, time.monotonic() - began

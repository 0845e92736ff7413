"""What 500 monitors cost: a plan without changes, adding them beside a bare socket loop, and coming back after a restart of the server.

The emulated server, of the 2.x dialect, runs in a process of its own, so that the processor time is ours alone. A write takes as long there
as was measured on a real 2.5.3 with SQLite (median 14 ms).
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import socketio

from benchmarks.common import figure
from reconciler.driver import Scope, Status
from reconciler.errors import Transient
from reconciler.graph import build
from reconciler.plan import Inputs, Plan, make_plan
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.driver import UptimeKumaDriver
from reconciler_uptime_kuma.spec import Monitor

COUNT, WRITE = 500, 0.014
SCOPE = Scope(owner="benchmark/kuma")
SERVER = """
import json, sys, time
from reconciler_uptime_kuma.emulator import UptimeKumaEmulator
emulator = UptimeKumaEmulator({"password": "benchmark-1"})
emulator.knobs.write = float(sys.argv[1])
emulator.start()
for line in sys.stdin:
    if line == "restart\\n":
        emulator.stop(); time.sleep(1); emulator.start()
        print(json.dumps(time.time()), flush=True)
    elif line == "count\\n":
        print(json.dumps([event for _, event in emulator.faults.requests].count("getMonitorList")), flush=True)
    else:
        print(json.dumps(emulator.settings()), flush=True)
emulator.stop()
"""


@dataclass(slots=True)
class Server:
    """The emulator in its process; one word in, one line of JSON out."""

    words: IO[str]
    answers: IO[str]

    def ask(self, word: str) -> Any:
        """Say a word and give the answer."""
        self.words.write(f"{word}\n")
        self.words.flush()
        return json.loads(self.answers.readline())


@contextmanager
def serving(write: float) -> Iterator[tuple[Server, UptimeKumaConfig]]:
    """Run a server whose writes take so many seconds."""
    child = subprocess.Popen([sys.executable, "-c", SERVER, str(write)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    server = Server(child.stdin, child.stdout)
    try:
        yield server, UptimeKumaConfig.model_validate(server.ask("settings"))
    finally:
        child.stdin.close()
        child.wait(30)


def measure() -> list[dict[str, object]]:
    """Measure each on a server of its own, but for the plan and the restart, which need what was added."""
    with serving(WRITE) as (_, config):
        bare = asyncio.run(_bare(config))
    with serving(WRITE) as (server, config):
        driver = UptimeKumaDriver(config)
        try:
            wanted = _wanted()
            changes = [change for wave in _plan(driver, wanted).waves for change in wave]
            started = time.perf_counter()
            outcomes = driver.apply(changes, SCOPE)
            ours = time.perf_counter() - started
            assert {one.status for one in outcomes} == {Status.APPLIED}
            _plan(driver, wanted)  # the heartbeats of the new monitors are read once
            return [
                *_unchanged(server, driver, wanted),
                figure(f"{COUNT} adds, a bare socket loop", bare, "s", None),
                figure(f"{COUNT} adds, ours, each read back", ours, "s", None),
                figure(f"{COUNT} adds, ours to a bare socket loop", ours / bare, "", 1.3),
                figure("from the answer of a server that was started anew to a whole plan", _back(server, driver, wanted), "s", 3),
            ]
        finally:
            driver.close()


def _unchanged(server: Server, driver: UptimeKumaDriver, wanted: list[Resource]) -> list[dict[str, object]]:
    lists, processor = server.ask("count"), time.process_time()
    plan = _plan(driver, wanted)
    processor = time.process_time() - processor
    assert plan.in_sync
    return [
        figure(f"lists of {COUNT} monitors in a plan", server.ask("count") - lists, "lists", 2),
        figure(f"processor time of a plan of {COUNT} monitors without changes", processor, "s", 0.4),
    ]


def _back(server: Server, driver: UptimeKumaDriver, wanted: list[Resource]) -> float:
    """Restart the server and look at it as a pass does, again and again, until it answers."""
    answering = server.ask("restart")
    while True:
        try:
            assert _plan(driver, wanted).in_sync
        except Transient:
            time.sleep(0.1)
            continue
        return time.time() - float(answering)


def _wanted() -> list[Resource]:
    return [Resource(ResourceId("uptime-kuma", "Monitor", f"m{number}"), _spec(number)) for number in range(COUNT)]


def _spec(number: int) -> Monitor:
    return Monitor.from_document({"metadata": {"name": f"m{number}"}, "spec": {"type": "port", "hostname": "h", "port": number + 1}})[1]


def _plan(driver: UptimeKumaDriver, wanted: list[Resource]) -> Plan:
    seen = driver.observe(wanted, SCOPE)
    return make_plan("kuma", "", build(wanted), Inputs(seen, SCOPE.fingerprint, {one.id: "uptime-kuma" for one in wanted}))


# -- the bare loop -------------------------------------------------------------------------------------------------------------


async def _bare(config: UptimeKumaConfig) -> float:
    """Add as many monitors with nothing but the socket: one call after another, no mark, nothing read back."""
    client, ready = socketio.AsyncClient(reconnection=False, handle_sigint=False), asyncio.Event()
    client.on("info", lambda *_: ready.set())
    await client.connect(config.url, transports=["websocket"])
    await ready.wait()
    login = {"username": config.username, "password": config.password.get_secret_value(), "token": ""}
    await _call(client, "login", login)
    started = time.perf_counter()
    for number in range(COUNT):
        await _call(client, "add", _row(number))
    seconds = time.perf_counter() - started
    await client.disconnect()
    return seconds


async def _call(client: socketio.AsyncClient, event: str, argument: JSONObject) -> None:
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    await client.emit(event, (argument,), callback=answered.set_result)
    assert (await answered)["ok"]


def _row(number: int) -> JSONObject:
    row: JSONObject = {"type": "port", "name": f"m{number}", "hostname": "h", "port": number + 1, "interval": 60, "retryInterval": 60}
    return {**row, "accepted_statuscodes": ["200-299"], "notificationIDList": {}, "conditions": []}

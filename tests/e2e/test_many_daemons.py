"""Several daemons as processes on one PostgreSQL: who is killed is replaced, who is frozen writes nothing more, nobody is told twice."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.remote import Remote
from reconciler.sandbox.server import READS, Fault
from reconciler.settings import State
from reconciler.state import Store
from reconciler_cloudflare.emulator import CloudflareEmulator
from tests.postgres import PASSWORD, PostgresServer

ZONE = "example.com"


def record(name: str, content: str = "192.0.2.1", after: str = "") -> str:
    annotations = f"\n  annotations: {{reconciler/depends-on: cloudflare/DNSRecord/{after}}}" if after else ""
    return (
        f"---\napiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata:\n  name: {name}{annotations}\n"
        f"spec: {{zone: {ZONE}, name: {name}.{ZONE}, type: A, content: {content}}}\n"
    )


CHAIN = record("a") + "".join(record(name, after=before) for before, name in zip("abcd", "bcde", strict=True))


class Fleet:
    """A team's repository, a Cloudflare, a PostgreSQL, and daemons that share them."""

    def __init__(self, root: Path, server: PostgresServer) -> None:
        self.root, self.url = root, server.database()
        self.remote = Remote(root)
        self.cloudflare = CloudflareEmulator({"retry_after": 0, "zones": {ZONE: {}}})
        self.cloudflare.start()
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def push(self, **stacks: str) -> str:
        for name, text in stacks.items():
            folder = self.remote.work / "desired" / name
            folder.mkdir(parents=True, exist_ok=True)
            stack = f"apiVersion: reconciler/v1\nkind: Stack\nmetadata: {{name: {name}}}\nspec: {{interval: 5}}\n"
            (folder / "stack.yaml").write_text(stack)
            (folder / "dns.yaml").write_text(text)
        return self.remote.push("a change")

    def start(self, name: str) -> None:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        secret = folder / "database-url"
        secret.write_text(self.url + "\n")
        settings = {
            "repository": {"url": self.remote.url, "poll": 1},
            "targets": {"cloudflare": {**self.cloudflare.settings(), "requests_per_second": 1000}},
            "state": {"url": f"file:{secret}"},
            "engine": {"poll": 0.05, "stacks": 2},
        }
        (folder / "reconciler.yaml").write_text(json.dumps(settings))
        environment = {one: os.environ[one] for one in ("PATH", "HOME") if one in os.environ}
        command = [sys.executable, "-c", "from reconciler.cli import main; main()", "run"]
        with (folder / "log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)

    def log(self, *names: str) -> str:
        return "\n".join((self.root / name / "log").read_text() for name in names or self.daemons)

    def records(self) -> dict[str, str]:
        found = [(one["name"], one["content"]) for one in self.cloudflare.zones[ZONE].records.values()]
        assert len({name for name, _ in found}) == len(found), f"duplicates: {found}"
        return {name.removesuffix(f".{ZONE}"): content for name, content in found}

    def runs(self, stack: str = "mail") -> list[tuple[str, str]]:
        store = Store(State(url=self.url), read_only=True)  # type: ignore[arg-type]  # pydantic makes a secret of it
        try:
            return [(one["verdict"], one["revision"]) for one in store.runs(stack, most=200)]
        finally:
            store.close()

    def creations(self) -> int:
        return sum(1 for method, _ in self.cloudflare.faults.requests if method == "POST")

    def slowly(self, seconds: float) -> None:
        self.cloudflare.faults.active.append(Fault("latency", 1000, seconds, lambda method, path: method not in READS))

    def until(self, true: Callable[[], object], what: str, seconds: float = 30) -> float:
        began = time.monotonic()
        while not true():
            assert time.monotonic() - began < seconds, f"not in time: {what}\n{self.log()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def close(self) -> None:
        for one in self.daemons.values():
            one.send_signal(signal.SIGCONT)
            one.kill()
            one.wait(10)
        self.cloudflare.stop()


@pytest.fixture
def fleet(tmp_path: Path, postgres: PostgresServer) -> Iterator[Fleet]:
    made = Fleet(tmp_path, postgres)
    yield made
    made.close()


@pytest.mark.timeout(150)
def test_stacks_are_shared_by_daemons_and_each_commit_is_converged_recorded_and_told_once(fleet: Fleet) -> None:
    names = [f"s{number}" for number in range(8)]
    first = fleet.push(**{name: record(name) for name in names})
    for daemon in ("one", "two", "three"):
        fleet.start(daemon)
    fleet.until(lambda: len(fleet.records()) == len(names), "the first commit", 60)
    fleet.until(lambda: all(fleet.runs(name)[:1] == [("converged", first)] for name in names), "the record of it")
    second = fleet.push(**{name: record(name, "192.0.2.2") for name in names})
    fleet.until(lambda: set(fleet.records().values()) == {"192.0.2.2"}, "the second commit")
    fleet.until(lambda: all(fleet.runs(name)[:1] == [("converged", second)] for name in names), "the record of it")
    time.sleep(6)  # a resync of everything: nobody puts the older commit back
    assert set(fleet.records().values()) == {"192.0.2.2"}
    for name in names:
        revisions = [revision for _, revision in reversed(fleet.runs(name))]
        assert revisions == sorted(revisions, key=[first, second].index), "nobody went back to the older commit"
    bad = fleet.push(s0=record("s0").replace("type: A", "type: B"))
    fleet.until(lambda: [run for run in fleet.runs("s0") if run == ("rejected", bad)], "the rejection")
    fleet.until(lambda: "the commit was rejected" in fleet.log(), "people are told in the log", 40)  # one notice a second
    time.sleep(3)
    told = Counter(re.findall(r"reconciler\.notify: (.*)", fleet.log()))
    assert [text for text, times in told.items() if times > 1] == []
    assert sum("the commit was rejected" in text for text in told) == 1
    workers = [name for name in fleet.daemons if re.search(r"s\d: converged", fleet.log(name))]
    assert len(workers) >= 2, "more than one of them works"
    for one in fleet.daemons.values():
        one.send_signal(signal.SIGTERM)
    assert [one.wait(20) for one in fleet.daemons.values()] == [0, 0, 0]
    assert PASSWORD not in fleet.log()
    assert "Traceback" not in fleet.log()


@pytest.mark.timeout(150)
def test_a_daemon_that_is_killed_in_mid_pass_is_replaced_within_30_seconds_and_nothing_is_made_twice(fleet: Fleet) -> None:
    fleet.push(mail=CHAIN)
    fleet.slowly(1.0)
    fleet.start("one")
    fleet.until(lambda: fleet.cloudflare.faults.writes >= 2, "the second write")
    fleet.start("two")
    fleet.daemons["one"].kill()
    took = fleet.until(lambda: len(fleet.records()) == 5, "the other daemon converges", 30)
    fleet.until(lambda: fleet.runs()[:1] and fleet.runs()[0][0] == "converged", "and records it")
    assert took < 30
    print(f"replaced and converged {took:.1f} s after the kill")
    assert fleet.creations() <= 6, "the write that was cut off may have been made again; records() finds what is there twice"
    assert fleet.daemons["two"].poll() is None


@pytest.mark.timeout(150)
def test_a_daemon_that_is_frozen_in_mid_pass_is_replaced_and_writes_nothing_when_it_wakes(fleet: Fleet) -> None:
    fleet.push(mail=CHAIN)
    fleet.slowly(0.5)
    fleet.start("one")
    fleet.until(lambda: fleet.cloudflare.faults.writes >= 2, "the second write")
    fleet.start("two")
    fleet.daemons["one"].send_signal(signal.SIGSTOP)
    took = fleet.until(lambda: len(fleet.records()) == 5, "the other daemon converges", 40)
    fleet.until(lambda: fleet.runs()[:1] and fleet.runs()[0][0] == "converged", "and records it")
    print(f"replaced and converged {took:.1f} s after the freeze")
    before = fleet.creations()
    fleet.daemons["one"].send_signal(signal.SIGCONT)
    fleet.until(lambda: "another worker has the stack now" in fleet.log("one"), "the first one sees that it is late")
    time.sleep(2)
    assert (fleet.creations(), before) == (5, 5)
    assert fleet.daemons["one"].poll() is None, "and lives on"
    third = fleet.push(mail=CHAIN + record("f"))
    fleet.until(lambda: fleet.runs()[0] == ("converged", third), "work goes on")


@pytest.mark.timeout(150)
def test_a_restart_of_the_database_in_mid_run_is_survived(fleet: Fleet) -> None:
    own = PostgresServer()
    try:
        own.start()
        fleet.url = own.database()
        fleet.push(mail=record("a"))
        for daemon in ("one", "two"):
            fleet.start(daemon)
        fleet.until(lambda: fleet.records() == {"a": "192.0.2.1"}, "the first commit")
        own.stop(signal.SIGQUIT)
        time.sleep(2)
        last = fleet.push(mail=record("a", "192.0.2.2"))
        time.sleep(3)
        assert all(one.poll() is None for one in fleet.daemons.values()), fleet.log()
        own.start()
        took = fleet.until(lambda: fleet.records() == {"a": "192.0.2.2"}, "the commit that came in meanwhile", 45)
        print(f"converged {took:.1f} s after the database came back")
        fleet.until(lambda: fleet.runs()[:1] == [("converged", last)], "and its record")
        assert PASSWORD not in fleet.log()
    finally:
        fleet.close()
        own.remove()

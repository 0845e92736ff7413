"""What every work queue promises, in memory or shared: coalescing, exclusion, nothing lost. And what only a shared one can break."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from reconciler.daemon.queue import Claim, KeyedQueue, WorkQueue
from tests.postgres import PostgresServer

FAST = {"poll": 0.05, "heartbeat": 0.2, "stalled": 1.5, "sweep": 0.2, "grace": 2.0}


def until(true: Callable[[], Any], what: str = "", seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.005)


class Crew:
    """Threads that take from a queue, as the daemon's do; a claim is worked on until it is let go."""

    def __init__(self, work: WorkQueue, size: int = 3) -> None:
        self.queue, self.open = work, True
        self.running: dict[str, tuple[Claim, threading.Event]] = {}
        self.taken: list[Claim] = []
        self.threads = [threading.Thread(target=self._work) for _ in range(size)]
        for thread in self.threads:
            thread.start()

    def _work(self) -> None:
        while self.open:
            claim = self.queue.take(0.1)
            if claim is None:
                continue
            assert claim.key not in self.running, "two at once"
            go = threading.Event()
            self.running[claim.key] = (claim, go)
            self.taken.append(claim)
            go.wait()
            del self.running[claim.key]
            self.queue.done(claim)

    def finish(self, key: str) -> None:
        self.running[key][1].set()
        until(lambda: key not in self.running or not self.running[key][1].is_set())

    def end(self) -> None:
        self.open = False
        self.queue.close()
        for _, go in list(self.running.values()):
            go.set()
        for thread in self.threads:
            thread.join(10)
        self.queue.join(10)


class Kind:
    """One implementation: how it is made, and how long to watch for what must not happen."""

    def __init__(self, make: Callable[[], WorkQueue], watch: float) -> None:
        self.make, self.watch = make, watch


@pytest.fixture(params=["memory", "postgresql"])
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    if request.param == "memory":
        yield Kind(KeyedQueue, 0.02)
        return
    from reconciler.daemon.pgqueue import Pace, PostgresQueue
    from reconciler.database import PostgresDatabase

    server: PostgresServer = request.getfixturevalue("postgres")
    made: list[PostgresDatabase] = []

    def make() -> WorkQueue:
        url = server.database()  # a new one each time: what an earlier daemon left running would be taken up again
        database = PostgresDatabase(url)
        made.append(database)
        return PostgresQueue(database, workers=3, pace=Pace(**{**FAST, "stalled": 6.0}))  # type: ignore[arg-type]  # all are floats

    yield Kind(make, 0.2)
    for one in made:
        one.close()


@pytest.fixture
def crew(kind: Kind) -> Iterator[Crew]:
    made = Crew(kind.make())
    yield made
    made.end()


KEYS = st.sampled_from(["mail", "web", "dns"])


class Machine(RuleBasedStateMachine):
    """The model: of each key whether it runs, and whether a look is asked for now or later."""

    kind: Kind

    def __init__(self) -> None:
        super().__init__()
        self.crew = Crew(self.kind.make())
        self.running: dict[str, set[str]] = {}
        self.now: dict[str, set[str]] = {}
        self.later: dict[str, set[str]] = {}
        self.runs = 0

    def start(self) -> None:
        for key in [key for key in self.now if key not in self.running]:
            self.running[key] = self.now.pop(key)
            self.later.pop(key, None)
            self.runs += 1

    @rule(key=KEYS, reason=st.sampled_from(["commit", "webhook", "hand"]), times=st.integers(1, 3))
    def ask(self, key: str, reason: str, times: int) -> None:
        if key in self.running:  # a burst during a run is one more
            for _ in range(times):
                self.crew.queue.request(key, reason)
        else:
            self.crew.queue.request(key, reason)
        self.now.setdefault(key, set()).add(reason)
        self.start()

    @rule(key=KEYS)
    def ask_later(self, key: str) -> None:
        self.crew.queue.request(key, "resync", after=3600)
        self.later.setdefault(key, set()).add("resync")

    @rule(key=KEYS)
    def finish(self, key: str) -> None:
        if key in self.running:
            self.crew.finish(key)
            del self.running[key]
            self.start()

    @invariant()
    def exactly_what_is_due_runs_and_the_rest_waits(self) -> None:
        crew = self.crew
        until(lambda: set(crew.running) == set(self.running) and len(crew.taken) == self.runs, f"{self.running} {crew.running}")
        time.sleep(self.kind.watch if self.kind.watch < 0.1 else 0.06)
        assert len(crew.taken) == self.runs, "a look that nobody asked for"
        for key, reasons in self.running.items():
            claim = crew.running[key][0]
            assert set(claim.reasons) == reasons
            assert crew.queue.still_mine(claim)
        states = {(one.key, one.state) for one in crew.queue.snapshot()}
        wanted = {(key, "running") for key in self.running} | {(key, "waiting") for key in self.now}
        assert states == wanted | {(key, "delayed") for key in self.later if key not in self.now}
        assert len(crew.queue) == len(self.now.keys() | self.later.keys())

    def teardown(self) -> None:
        self.crew.end()


@pytest.mark.timeout(180)
def test_a_queue_gives_out_what_is_due_once_and_loses_nothing(kind: Kind) -> None:
    fast = isinstance(kind.watch, float) and kind.watch < 0.1
    machine = type("KindMachine", (Machine,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40 if fast else 8,
            stateful_step_count=20 if fast else 12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_burst_is_one_pass_and_a_push_during_it_exactly_one_more(crew: Crew, kind: Kind) -> None:
    crew.queue.request("mail", "webhook")
    until(lambda: "mail" in crew.running)
    for number in range(200):
        crew.queue.request("mail", f"push {number}")
    time.sleep(kind.watch)
    assert len(crew.taken) == 1
    crew.finish("mail")
    until(lambda: "mail" in crew.running)
    crew.finish("mail")
    time.sleep(kind.watch)
    assert (len(crew.taken), len(crew.queue)) == (2, 0)
    assert len(crew.taken[-1].reasons) == 20, "the reasons of a burst are told, and not without end"


def test_a_back_off_is_brought_forward_by_a_request_for_now_and_never_put_off(crew: Crew, kind: Kind) -> None:
    crew.queue.request("mail", "another try", after=300)
    crew.queue.request("mail", "another try", after=3000)
    time.sleep(kind.watch)
    assert not crew.taken
    (state,) = crew.queue.snapshot()
    assert (state.state, 290 < state.seconds <= 300) == ("delayed", True)
    crew.queue.request("mail", "commit c2")
    until(lambda: crew.taken, seconds=2)
    assert crew.taken[0].reasons == ("commit c2",), "what lay in the future did not cause this look"


def test_a_delayed_request_comes_by_itself(crew: Crew) -> None:
    crew.queue.request("mail", "resync", after=0.3)
    until(lambda: crew.taken, seconds=3)
    assert crew.taken[0].reasons == ("resync",)


def test_keys_take_turns_by_age_and_none_is_starved(kind: Kind) -> None:
    work = kind.make()
    crew = Crew(work, size=1)
    try:
        work.request("busy", "first")
        until(lambda: "busy" in crew.running)
        for key in ("a", "b", "c"):
            work.request(key, "waits")
            work.request("busy", "again")
        for _ in range(6):
            until(lambda: crew.running)
            (key,) = crew.running
            if key == "busy":
                work.request("busy", "again")
            crew.finish(key)
        order = [claim.key for claim in crew.taken[:5]]
        assert order[0] == "busy"
        assert [key for key in order if key != "busy"][:3] == ["a", "b", "c"], "whoever asks again and again waits behind them"
        assert order.count("busy") == 2
    finally:
        crew.end()


def test_after_close_nothing_is_given_out_and_what_is_under_way_may_finish(kind: Kind) -> None:
    work = kind.make()
    work.request("mail", "one")
    claim = work.take(5)
    assert claim is not None
    work.close()
    assert work.take(0.1) is None
    work.request("mail", "another try")
    work.done(claim)
    work.join(10)


# -- what only processes can show ----------------------------------------------------------------------------------------------------


class Worker:
    """A process that takes from the shared queue and writes a line a step into a file, asking before each whether it still may."""

    def __init__(self, url: str, log: Path, steps: int) -> None:
        command = [sys.executable, "-m", "tests.contract.queue_worker", url, str(log), str(steps), json.dumps(FAST)]
        self.process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": "."})

    def send(self, how: signal.Signals) -> None:
        self.process.send_signal(how)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Shared:
    """A database with workers, and what they wrote."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        from reconciler.daemon.pgqueue import Pace, PostgresQueue
        from reconciler.database import PostgresDatabase

        self.url, self.log = server.database(), folder / "log"
        self.log.touch()
        self.database = PostgresDatabase(self.url)
        self.queue = PostgresQueue(self.database, workers=0, pace=Pace(**FAST))  # type: ignore[arg-type]  # as above; it only asks
        self.workers: list[Worker] = []

    def hire(self, steps: int = 20) -> Worker:
        worker = Worker(self.url, self.log, steps)
        self.workers.append(worker)
        return worker

    def lines(self) -> list[tuple[str, str, int, float]]:
        """(what, key, pid, time) in the order of time."""
        found = [line.split() for line in self.log.read_text().splitlines()]
        return [(what, key, int(pid), float(when)) for what, key, pid, when in found]

    def writers(self) -> list[int]:
        """Who wrote, each turn once."""
        found: list[int] = []
        for what, _, pid, _ in self.lines():
            if what == "write" and (not found or found[-1] != pid):
                found.append(pid)
        return found

    def end(self) -> None:
        for worker in self.workers:
            worker.end()
        self.queue.close()
        self.queue.join(5)
        self.database.close()


@pytest.fixture
def shared(postgres: PostgresServer, tmp_path: Path) -> Iterator[Shared]:
    made = Shared(postgres, tmp_path)
    yield made
    made.end()


def test_the_key_of_a_killed_worker_goes_to_another_by_itself(shared: Shared) -> None:
    first = shared.hire(steps=1000)
    shared.queue.request("mail", "commit c1")
    until(lambda: shared.writers(), "the first worker", 20)
    second = shared.hire(steps=5)
    shared.queue.request("mail", "commit c2")  # comes in while the dead one has it, and must not wedge the key
    first.end()
    killed = time.monotonic()
    until(lambda: any(what == "end" for what, *_ in shared.lines()), "the second worker", 20)
    assert time.monotonic() - killed < 10, "a worker is taken for dead after 1.5 s here, after 15 s otherwise"
    assert shared.writers() == [first.process.pid, second.process.pid]


def test_a_frozen_worker_that_wakes_up_writes_nothing_more(shared: Shared) -> None:
    first = shared.hire(steps=1000)
    shared.queue.request("mail", "commit c1")
    until(lambda: shared.writers(), "the first worker", 20)
    second = shared.hire(steps=20)
    time.sleep(1.0)
    first.send(signal.SIGSTOP)
    until(lambda: any(what == "end" for what, *_ in shared.lines()), "the second worker", 20)
    first.send(signal.SIGCONT)
    until(lambda: any(what == "lost" for what, *_ in shared.lines()), "the first wakes and sees that it is late", 10)
    assert shared.writers()[:2] == [first.process.pid, second.process.pid]
    after = [pid for what, _, pid, _ in shared.lines() if what in ("write", "lost")]
    assert after.count(first.process.pid) == after.index(second.process.pid) + 1, "its only word after the takeover is that it lost"


@pytest.mark.timeout(120)
def test_killing_and_freezing_at_random_loses_no_request_and_lets_no_two_write_at_once(shared: Shared) -> None:
    random = Random(7)
    keys = [f"stack-{number}" for number in range(6)]
    for _ in range(3):
        shared.hire(steps=6)
    end, asked = time.monotonic() + 15, dict[str, float]()
    while time.monotonic() < end:
        for _ in range(4):
            key = random.choice(keys)
            shared.queue.request(key, "push")
            asked[key] = time.monotonic()
        victim = random.randrange(3)
        worker = shared.workers[victim]
        if random.random() < 0.15:
            if random.random() < 0.5:
                worker.end()
                shared.workers[victim] = Worker(shared.url, shared.log, 6)
            else:
                worker.send(signal.SIGSTOP)
                threading.Timer(random.uniform(0.5, 4), worker.send, [signal.SIGCONT]).start()
        time.sleep(0.2)
    until(lambda: not shared.queue.snapshot(), "everything is worked off", 40)
    starts = {key: max(when for what, one, _, when in shared.lines() if what == "start" and one == key) for key in asked}
    assert all(starts[key] >= when - 0.05 for key, when in asked.items()), "the last request of each key was followed by a look"
    for key in keys:
        writes = [pid for what, one, pid, _ in shared.lines() if one == key and what == "write"]
        turns = [pid for index, pid in enumerate(writes) if index == 0 or writes[index - 1] != pid]
        begun = [pid for what, one, pid, _ in shared.lines() if one == key and what == "start"]
        assert len(turns) <= len(begun), "writers of one key never alternate without a new start"


def test_requests_made_while_the_server_is_away_are_kept_and_made_when_it_is_back(tmp_path: Path, postgres: PostgresServer) -> None:
    own = PostgresServer()
    own.start()
    from reconciler.daemon.pgqueue import Pace, PostgresQueue
    from reconciler.database import PostgresDatabase

    database = PostgresDatabase(own.database())
    crew = Crew(PostgresQueue(database, workers=3, pace=Pace(**FAST)))  # type: ignore[arg-type]  # as above
    try:
        crew.queue.request("mail", "commit c1")
        until(lambda: "mail" in crew.running)
        (claim, _) = crew.running["mail"]
        own.stop()
        assert not crew.queue.still_mine(claim), "without the server nobody knows whose it is"
        crew.queue.request("web", "commit c2")
        assert crew.queue.snapshot() == []
        crew.finish("mail")
        own.start()
        until(lambda: "web" in crew.running, "the request that was kept", 20)
        crew.finish("web")
        crew.queue.request("mail", "commit c3")
        until(lambda: "mail" in crew.running, "mail is not wedged, whether or not the end of its run could be written", 20)
        crew.finish("mail")
    finally:
        crew.end()
        database.close()
        own.remove()

"""Several daemons on one PostgreSQL and one forge: one of them speaks with it, another takes over when it dies or freezes, and nothing is
said twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from reconciler.clock import Clock
from reconciler.compose import Workshop
from reconciler.daemon import statuses
from reconciler.daemon.pulls import PULLS, Desk
from reconciler.daemon.statuses import CommitStatus
from reconciler.database import PostgresDatabase
from reconciler.notify.forge import GitHub, Pull
from reconciler.proposals import ProposalSource
from reconciler.resource import SecretValue
from reconciler.sandbox.forge import ME, ForgeEmulator, Proposal
from reconciler.sandbox.remote import Remote
from reconciler.settings import Settings, State
from reconciler.state import Store
from reconciler.turns import AdvisoryTurns
from tests.postgres import PostgresServer
from tests.unit.core.memory import CATALOG, NOW, STACK, System, thing

SHA = "a" * 40
SILENCE = 2.0


def until(true: Callable[[], object], what: str, seconds: float = 30) -> float:
    """Wait for something; give the seconds that it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds, f"not in time: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


class Site:
    """A database, a repository and a forge, and daemons' desks at them: in this process, or in processes of their own."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.url = server.database()
        self.store = Store(State(url=SecretStr(self.url)))
        self.remote = Remote(folder)
        self.forge = ForgeEmulator("github")
        self.forge.start()
        self.stop = Event()
        self.stores: list[Store] = []
        self.threads: list[threading.Thread] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        self.write(thing("a"))
        self.remote.push("a change")

    def write(self, text: str) -> None:
        folder = self.remote.work / "desired" / "mail"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stack.yaml").write_text(STACK.replace("name: test", "name: mail"))
        (folder / "all.yaml").write_text(text)

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=owner", "-c", "user.email=owner@example.org"]
        return subprocess.run(["git", *who, *arguments], cwd=self.remote.work, capture_output=True, text=True, check=True).stdout.strip()

    def propose(self, number: int, text: str) -> str:
        """Open a pull request, or push to it again."""
        self.git("checkout", "--quiet", "-B", f"topic-{number}", "origin/main")
        self.write(text)
        self.git("commit", "--quiet", "--all", "--message", "a proposal")
        head = self.git("rev-parse", "HEAD")
        before = self.forge.proposals.get(number)
        self.forge.proposals[number] = replace(before, head=head) if before else Proposal(number, head, "ada")
        self.git("push", "--quiet", "--force", "origin", f"HEAD:refs/pull/{number}/head")
        self.git("checkout", "--quiet", "-B", "main", "origin/main")
        return head

    def comments(self, number: int) -> list[str]:
        return [one.body for one in self.forge.proposals[number].notes if one.author == ME]

    def settings(self) -> Settings:
        made = Settings(repository={"url": self.remote.url, "pull_requests": True, "poll": 1}, forge=self.forge.settings())  # type: ignore[arg-type]  # as the file gives them
        return made.model_copy(update={"targets": {"mem": {"system": System()}}})

    def desk(self, name: str) -> Desk:
        """The desk of another daemon, with a store and a mirror of its own."""
        store = Store(State(url=SecretStr(self.url)))
        self.stores.append(store)
        given = self.forge.settings()
        forge = GitHub(str(given["url"]), SecretValue(str(given["token"])), str(given["repository"]))
        source = ProposalSource(self.remote.url, "main", self.folder / name, allow_file=True)
        return Desk(Workshop(self.settings(), Clock(), kinds=CATALOG), store, forge, source)

    def run(self, *desks: Desk) -> None:
        for desk in desks:
            thread = threading.Thread(target=desk.run, args=(self.stop,))
            self.threads.append(thread)
            thread.start()

    def hire(self, name: str, freeze: str = "", silence: float = SILENCE) -> subprocess.Popen[bytes]:
        """Start a daemon's desk as a process."""
        job = {"url": self.url, "remote": self.remote.url, "forge": self.forge.settings(), "freeze": freeze, "silence": silence}
        file = self.folder / f"{name}.json"
        file.write_text(json.dumps({**job, "cache": str(self.folder / name), "said": str(self.folder / f"{name}.said")}))
        worker = subprocess.Popen([sys.executable, "-m", "tests.contract.desk_worker", str(file)], env={**os.environ, "PYTHONPATH": "."})
        self.workers.append(worker)
        return worker

    def works(self, name: str) -> bool:
        return (self.folder / f"{name}.said").exists()

    def owe(self, commit: str, state: Any) -> None:
        with self.store.transaction() as connection:
            statuses.set_status(connection, CommitStatus(commit, "mail", state, "accepted"), NOW)

    def row(self, number: int) -> Any:
        with self.store.transaction() as connection:
            return connection.execute(sa.select(PULLS).where(PULLS.c.number == number)).first()

    def end(self) -> None:
        self.stop.set()
        for worker in self.workers:
            worker.kill()
            worker.wait(10)
        for thread in self.threads:
            thread.join(30)
        for store in [*self.stores, self.store]:
            store.close()
        self.forge.stop()


@pytest.fixture
def site(postgres: PostgresServer, tmp_path: Path) -> Iterator[Site]:
    made = Site(postgres, tmp_path)
    yield made
    made.end()


def frozen(worker: subprocess.Popen[bytes]) -> bool:
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_of_two_daemons_one_speaks_with_the_forge_and_each_pull_request_has_one_comment_that_is_edited(site: Site) -> None:
    for number in (1, 2, 3):
        site.propose(number, thing("a") + thing("b"))
    site.owe(SHA, "pending")
    site.run(site.desk("one"), site.desk("two"))
    until(lambda: all(site.comments(number) for number in (1, 2, 3)), "the plans")
    site.propose(2, thing("a") + thing("b") + thing("c"))
    until(lambda: "3 to create" in site.comments(2)[0], "the new plan, in the same place")
    time.sleep(1.5)
    assert [len(site.comments(number)) for number in (1, 2, 3)] == [1, 1, 1]
    assert [one["state"] for one in site.forge.statuses if one["sha"] == SHA] == ["pending"], "told once"
    posts = [path for method, path in site.forge.faults.requests if method == "POST" and path.endswith("/comments")]
    assert len(posts) == 3
    assert (site.folder / "one").exists() != (site.folder / "two").exists(), "the other has not even looked"


def test_a_daemon_that_stops_lets_the_other_go_on(site: Site) -> None:
    first, second, ended = site.desk("one"), site.desk("two"), Event()
    thread = threading.Thread(target=first.run, args=(ended,))
    thread.start()
    site.propose(1, thing("a") + thing("b"))
    until(lambda: site.comments(1), "the plan of the first")
    site.run(second)
    ended.set()
    thread.join(20)
    site.propose(1, thing("a") + thing("b") + thing("c"))
    until(lambda: "3 to create" in site.comments(1)[0], "the plan of the second")
    assert len(site.comments(1)) == 1


def test_a_daemon_that_the_forge_refuses_lets_another_try(site: Site) -> None:
    given = site.forge.settings()
    refused = site.desk("one")
    refused.forge = GitHub(str(given["url"]), SecretValue("wrong"), str(given["repository"]))
    site.propose(1, thing("a") + thing("b"))
    assert refused.serve(site.stop) == 900
    site.run(site.desk("two"))
    until(lambda: site.comments(1), "the plan of who has the right")


def test_when_the_one_is_killed_the_other_takes_over_at_once(site: Site) -> None:
    site.propose(1, thing("a") + thing("b"))
    first = site.hire("one")
    until(lambda: site.comments(1), "the plan of the first")
    site.hire("two")
    until(lambda: second_asks(site), "the second is there")
    assert not site.works("two")
    first.kill()
    assert until(lambda: site.works("two"), "the second") < 10
    site.propose(1, thing("a") + thing("b") + thing("c"))
    until(lambda: "3 to create" in site.comments(1)[0], "its plan")
    assert len(site.comments(1)) == 1


def second_asks(site: Site) -> bool:
    """Say whether somebody has asked for the turn in vain: then a session without a lock is known by the name of those that have one."""
    name = site.url.rpartition("/")[2]
    found = site.server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND application_name = 'reconciler'")
    return int(str(found[0][0])) >= 2


@pytest.mark.parametrize("place", ["before comment", "after comment"])
def test_one_that_was_frozen_at_a_comment_leaves_no_second_one_when_it_wakes(site: Site, place: str) -> None:
    site.propose(1, thing("a") + thing("b"))
    first = site.hire("one", place)
    until(lambda: frozen(first), "the first is frozen")
    site.hire("two")
    took = until(lambda: site.works("two"), "the second takes over")
    assert took < 15, f"2 s of silence are enough here, 15 s otherwise; it took {took:.1f} s"
    until(lambda: site.row(1) and site.row(1).shown == site.row(1).body != "", "the plan of the second")
    first.send_signal(signal.SIGCONT)
    until(lambda: len(site.comments(1)) == 1 and not frozen(first), "it wakes")
    time.sleep(2)
    assert len(site.comments(1)) == 1
    site.propose(1, thing("a") + thing("b") + thing("c"))
    until(lambda: "3 to create" in site.comments(1)[0], "the next plan")
    assert len(site.comments(1)) == 1
    assert site.row(1).comment == str(next(one.id for one in site.forge.proposals[1].notes if one.author == ME))


def test_what_one_that_was_frozen_shows_when_it_wakes_is_put_right_by_the_other(site: Site) -> None:
    site.propose(1, thing("a") + thing("b"))
    first = site.hire("one", "before edit")
    until(lambda: site.row(1) and site.row(1).shown == site.row(1).body != "", "the plan of the first")
    site.propose(1, thing("a") + thing("b") + thing("c"))
    until(lambda: frozen(first), "the first is frozen before it shows its next plan")
    site.hire("two")
    site.propose(1, thing("a") + thing("b") + thing("c") + thing("d"))
    until(lambda: "4 to create" in site.comments(1)[0], "the plan of the second")
    first.send_signal(signal.SIGCONT)
    until(
        lambda: [method for method, _ in site.forge.faults.requests].count("PATCH") >= 3, "the first shows its plan, and the second again"
    )
    until(lambda: "4 to create" in site.comments(1)[0], "what counts")
    assert len(site.comments(1)) == 1


class Cutting(GitHub):
    """A client in whose use the database lets every session go, right after a status was set."""

    server: PostgresServer
    database: str

    def status(self, *given: Any) -> None:
        super().status(*given)
        self.server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.database}'")


def test_what_is_planned_under_a_turn_that_was_lost_meanwhile_is_neither_written_down_nor_shown(site: Site) -> None:
    site.propose(1, thing("a") + thing("b"))
    given, desk = site.forge.settings(), site.desk("one")
    cutting = Cutting(str(given["url"]), SecretValue(str(given["token"])), str(given["repository"]))
    cutting.server, cutting.database = site.server, site.url.rpartition("/")[2]
    desk.forge = cutting
    assert desk.serve(site.stop) > 1
    assert site.row(1) is None
    assert site.comments(1) == []
    site.run(site.desk("two"))
    until(lambda: site.comments(1), "the plan of the other")


class CuttingAtTheList(Cutting):
    """A client that loses the turn as it lists what is open."""

    def pulls(self) -> list[Pull]:
        found = super().pulls()
        self.server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.database}'")
        return found


def test_nothing_is_said_of_a_pull_request_by_who_lost_the_turn_before_it_was_planned(site: Site) -> None:
    site.propose(1, thing("a") + thing("b"))
    given, desk = site.forge.settings(), site.desk("one")
    cutting = CuttingAtTheList(str(given["url"]), SecretValue(str(given["token"])), str(given["repository"]))
    cutting.server, cutting.database = site.server, site.url.rpartition("/")[2]
    desk.forge = cutting
    assert desk.serve(site.stop) > 1
    assert (site.forge.statuses, site.comments(1)) == ([], [])


def test_statuses_are_sent_by_nobody_who_lost_the_turn(site: Site) -> None:
    given, desk = site.forge.settings(), site.desk("one")
    cutting = Cutting(str(given["url"]), SecretValue(str(given["token"])), str(given["repository"]))
    cutting.server, cutting.database = site.server, site.url.rpartition("/")[2]
    desk.forge = cutting
    for sign in "abc":
        site.owe(sign * 40, "pending")
    assert desk.serve(site.stop) > 1
    assert len(site.forge.statuses) == 1
    with site.store.transaction() as connection:
        assert len(list(statuses.unshown(connection))) == 3, "of the one that was sent nobody knows what else was sent meanwhile"


def test_a_turn_that_beats_is_kept_by_who_is_busy_and_lost_by_who_is_silent(site: Site) -> None:
    database = site.store.database
    assert isinstance(database, PostgresDatabase)
    busy = AdvisoryTurns(database.locks.connect, silence=0.6, pause=0.1).take("busy", wait=False, beats=True)
    silent = AdvisoryTurns(database.locks.connect, silence=0.6, pause=60).take("silent", wait=False, beats=True)
    patient = AdvisoryTurns(database.locks.connect, silence=0.6, pause=60).take("patient", wait=False)
    assert busy is not None
    assert silent is not None
    assert patient is not None
    time.sleep(1.5)
    assert [one.held() for one in (busy, silent, patient)] == [True, False, True]
    for one in (busy, silent, patient):
        one.leave()
    time.sleep(1.0)
    with database.locks.connect() as connection:
        assert connection.execute(sa.text("SHOW idle_session_timeout")).scalar_one() == "0", "who comes next has all its time"

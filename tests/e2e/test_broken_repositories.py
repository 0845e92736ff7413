"""Repositories in trouble under a daemon: rewritten, vanished, silent, on a full disk, and shared by two processes. Nothing is deleted."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from select import select
from typing import IO

import pytest

from reconciler.daemon.heads import GitHead, Heads
from reconciler.proposals import ProposalSource
from reconciler.source import GitSource
from tests.unit.core.memory import STACK, thing
from tests.unit.daemon.house import House
from tests.unit.test_source import Upstream


def stack(name: str, *things: str) -> dict[str, bytes]:
    """The files of a stack with these things."""
    listed = "".join(thing(f"{name}-{one}") for one in things)
    return {
        f"desired/{name}/stack.yaml": STACK.replace("name: test", f"name: {name}").encode(),
        f"desired/{name}/all.yaml": listed.encode(),
    }


class Site(House):
    """A house that follows a real repository with two stacks, both converged."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.upstream = Upstream(folder / "upstream")
        self.upstream.git("rm", "-rq", "desired")
        self.first = self.upstream.commit("mail", stack("mail", "a", "b"))
        self.upstream.commit("web", stack("web", "c"))
        self.follow(folder / "cache")
        self.look()
        assert self.things() == {"mail-a", "mail-b", "web-c"}

    def follow(self, cache: Path) -> None:
        source = GitSource(self.upstream.url, "main", cache, allow_file=True)
        self.daemon.head = GitHead(source, "desired", 60)

    def look(self, times: int = 1) -> list[str]:
        """Look at the repository, run what is due, and give what people are told."""
        for _ in range(times):
            self.daemon.look()
        self.passes()
        return self.told()

    def things(self) -> set[str]:
        return {name.removeprefix("Thing/") for name in self.system.objects}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.store.close()


class TestARewrittenBranch:
    def test_that_lacks_a_stack_deletes_nothing_and_says_so(self, site: Site) -> None:
        site.upstream.git("reset", "--hard", "--quiet", site.first)
        told = site.look()
        assert any(one.startswith("web: ") for one in told), told
        assert any(one.startswith("repository: ") for one in told), told
        for _ in range(3):
            site.time.seconds += 4000
            site.look()
        assert site.things() == {"mail-a", "mail-b", "web-c"}
        said = [run["verdict"] for run in site.store.runs("web")]
        assert said.count("rejected") == 1, "once"

    def test_that_lacks_a_resource_holds_its_deletion_until_somebody_agrees(self, site: Site) -> None:
        site.upstream.git("reset", "--hard", "--quiet", site.first)
        site.upstream.commit("less", stack("mail", "a"))
        site.upstream.commit("web", stack("web", "c"))
        site.look()
        assert "mail-b" in site.things()
        assert site.reports[-1].remaining.held or site.reports[-2].remaining.held

    def test_that_lacks_a_stack_deletes_nothing_after_a_restart_either(self, site: Site, tmp_path: Path) -> None:
        site.upstream.git("reset", "--hard", "--quiet", site.first)
        site.restart()
        site.follow(tmp_path / "cache")
        site.look()
        assert site.things() == {"mail-a", "mail-b", "web-c"}


class TestAVanishedBranch:
    def test_is_told_once_and_its_end_when_it_is_back(self, site: Site) -> None:
        site.upstream.git("branch", "--quiet", "-m", "main", "away")
        told = site.look(5) + site.look(5)
        assert len([one for one in told if one.startswith("repository")]) == 1, told
        assert site.things() == {"mail-a", "mail-b", "web-c"}
        site.upstream.git("branch", "--quiet", "-m", "away", "main")
        assert any(one.startswith("repository") for one in site.look()), "its end is told"
        assert not site.look(3)

    def test_that_is_back_after_a_restart_ends_being_told_too(self, site: Site, tmp_path: Path) -> None:
        site.upstream.git("branch", "--quiet", "-m", "main", "away")
        assert site.look(3)
        site.restart()
        site.upstream.git("branch", "--quiet", "-m", "away", "main")
        site.follow(tmp_path / "cache")
        assert any(one.startswith("repository") for one in site.look())


def test_a_disk_that_is_full_while_fetching_is_told_and_passes(site: Site, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be made by root only")
    try:
        site.follow(disk)
        site.look()
        site.upstream.commit("large", {"desired/mail/large.bin": os.urandom(1_000_000), **stack("mail", "a", "b", "d")})
        told = site.look(3)
        assert any(one.startswith("repository") for one in told), told
        assert site.things() == {"mail-a", "mail-b", "web-c"}
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        site.upstream.git("rm", "-q", "desired/mail/large.bin")
        site.upstream.commit("small again", {})
        told = site.look()
        assert any(one.startswith("repository") for one in told), told
        assert site.things() == {"mail-a", "mail-b", "web-c", "mail-d"}
    finally:
        subprocess.run(["umount", str(disk)], check=False)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}/house/desired.git"


def test_a_server_that_takes_the_connection_and_never_answers_delays_no_other_repository(site: Site, silent: str, tmp_path: Path) -> None:
    good = site.daemon.head
    assert isinstance(good, GitHead)
    mute = GitHead(GitSource(silent, "main", tmp_path / "cache", timeout=4), "desired", 0.1)
    site.daemon.owners.follow(frozenset({"good", "silent"}))
    site.daemon.head = Heads({"good": (good, 0.1), "silent": (mute, 0.1)})
    site.upstream.commit("news", stack("mail", "a", "b", "d"))
    began = time.monotonic()
    while "mail-d" not in site.things():
        assert time.monotonic() - began < 3, "before the silent one is given up"
        site.daemon.look()
        site.passes()
        site.daemon.head.wait(site.stop)
    while not (told := [one for one in site.told() if "silent" in one]):
        assert time.monotonic() - began < 30
        site.daemon.look()
        site.daemon.head.wait(site.stop)
    assert len(told) == 1


CHILD = """
import sys
from pathlib import Path
from reconciler.proposals import ProposalSource
source = ProposalSource(sys.argv[1], "main", Path(sys.argv[2]), allow_file=True)
print("begin", flush=True)
for _ in range(int(sys.argv[3])):
    head = source.bring("refs/pull/1/head")
    assert source.merged(source.fetch(), head)
print("done", flush=True)
"""


class TestTwoProcesses:
    @pytest.fixture
    def proposed(self, site: Site) -> Upstream:
        upstream = site.upstream
        upstream.git("checkout", "--quiet", "-b", "topic")
        upstream.commit("a proposal", stack("mail", "a", "b", "e"))
        upstream.git("update-ref", "refs/pull/1/head", "HEAD")
        upstream.git("checkout", "--quiet", "main")
        upstream.commit("meanwhile", {"README.md": b"x\n"})
        return upstream

    def child(self, upstream: Upstream, place: Path, rounds: int) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", CHILD, upstream.url, str(place), str(rounds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self, child: "subprocess.Popen[str]", seconds: float) -> str:
        stream: IO[str] | None = child.stdout
        assert stream is not None
        return stream.readline().strip() if select([stream], [], [], seconds)[0] else ""

    def test_what_is_proposed_is_fetched_and_merged_by_one_at_a_time(self, proposed: Upstream, tmp_path: Path) -> None:
        place = tmp_path / "proposals"
        source = ProposalSource(proposed.url, "main", place, allow_file=True)
        source.fetch()
        with source._mirror.opened():
            child = self.child(proposed, place, 1)
            assert self.line(child, 30) == "begin"
            assert self.line(child, 1.0) == "", "it waits for whoever has the mirror"
        assert self.line(child, 30) == "done"
        assert child.communicate(timeout=30)[1] == ""

    def test_many_rounds_of_two_side_by_side_disturb_neither(self, proposed: Upstream, tmp_path: Path) -> None:
        place = tmp_path / "proposals"
        ProposalSource(proposed.url, "main", place, allow_file=True).fetch()
        pair = [self.child(proposed, place, 12) for _ in range(2)]
        for child in pair:
            out, err = child.communicate(timeout=120)
            assert (child.returncode, out.split(), err) == (0, ["begin", "done"], "")

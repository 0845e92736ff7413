"""The daemon as a process of its own, on a real git repository, with an emulated Cloudflare as its only target."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.remote import Remote
from reconciler.sandbox.server import READS, Fault
from reconciler.state import Store
from reconciler_cloudflare.emulator import CloudflareEmulator

ZONE = "example.com"
STACK = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: mail}\nspec: {interval: 5}\n"


def record(name: str, content: str = "192.0.2.1", after: str = "") -> str:
    annotations = f"\n  annotations: {{reconciler/depends-on: cloudflare/DNSRecord/{after}}}" if after else ""
    return (
        f"---\napiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata:\n  name: {name}{annotations}\n"
        f"spec: {{zone: {ZONE}, name: {name}.{ZONE}, type: A, content: {content}}}\n"
    )


class Site:
    """A team's repository, a Cloudflare, and the daemon between them."""

    def __init__(self, root: Path, *, poll: float = 1) -> None:
        self.root = root
        self.remote = Remote(root)
        self.cloudflare = CloudflareEmulator({"retry_after": 0, "zones": {ZONE: {}}})
        self.cloudflare.start()
        self.process: subprocess.Popen[bytes] | None = None
        target = {**self.cloudflare.settings(), "requests_per_second": 1000, "token": f"file:{root / 'token'}"}
        self.rotate(self.cloudflare.token)
        self.settings = {
            "repository": {"url": self.remote.url, "poll": poll},
            "targets": {"cloudflare": target},
            "state": {"path": str(root / "state.db")},
            "engine": {"poll": 0.05},
        }
        self.configure()

    def configure(self, **sections: Any) -> None:
        """Write the settings, some of them changed."""
        self.settings |= sections
        (self.root / "reconciler.yaml").write_text(json.dumps(self.settings))

    def rotate(self, token: str) -> None:
        """Let Cloudflare take this token only, and put it where the settings say, as a secret mount does: by exchanging a link."""
        self.cloudflare.token = token
        target = self.root / f"token-{len(list(self.root.glob('token-*')))}"
        target.write_text(token)
        (self.root / "token.new").symlink_to(target)
        (self.root / "token.new").rename(self.root / "token")

    def push(self, text: str) -> str:
        folder = self.remote.work / "desired" / "mail"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stack.yaml").write_text(STACK)
        (folder / "dns.yaml").write_text(text)
        return self.remote.push("a change")

    def start(self, *more: str) -> None:
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        log = (self.root / "daemon.log").open("ab")
        command = [sys.executable, "-c", "from reconciler.cli import main; main()", "run", *more]
        self.process = subprocess.Popen(command, cwd=self.root, env=environment, stdout=log, stderr=log)
        log.close()

    def end(self, how: signal.Signals) -> tuple[int, float]:
        """Send a signal; give the exit code and how many seconds the end took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(how)
        code = self.process.wait(timeout=20)
        self.process = None
        return code, time.monotonic() - began

    def log(self) -> str:
        return (self.root / "daemon.log").read_text()

    def records(self) -> dict[str, str]:
        """Name -> content; a record that is there twice would make the test fail."""
        found = [(one["name"], one["content"]) for one in self.cloudflare.zones[ZONE].records.values()]
        assert len({name for name, _ in found}) == len(found), f"duplicates: {found}"
        return {name.removesuffix(f".{ZONE}"): content for name, content in found}

    def runs(self) -> list[tuple[str, str]]:
        """(verdict, revision), newest first."""
        if not (self.root / "state.db").exists():
            return []
        store = Store(self.root / "state.db", read_only=True)
        try:
            return [(one["verdict"], one["revision"]) for one in store.runs("mail")]
        finally:
            store.close()

    def until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 20
        while not true():
            assert self.process is None or self.process.poll() is None, f"the daemon ended:\n{self.log()}"
            assert time.monotonic() < deadline, f"not in time: {what}\n{self.log()}"
            time.sleep(0.05)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=10)
        self.cloudflare.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def slow_second_write() -> Fault:
    writes = 0

    def matches(method: str, path: str) -> bool:
        nonlocal writes
        writes += method not in READS
        return writes == 2

    return Fault("latency", seconds=1.0, matches=matches)


def test_a_push_is_converged_and_a_bad_one_leaves_the_last_good_in_force(site: Site) -> None:
    site.push(record("mail"))
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
    bad = site.push(record("mail", "192.0.2.9") + record("www").replace("type: A", "type: B"))
    site.until(lambda: site.runs()[:1] == [("rejected", bad)], "the rejection")
    assert "desired/mail/dns.yaml" in site.log()
    (live,) = site.cloudflare.zones[ZONE].records.values()
    live["content"] = "203.0.113.66"
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the repair by the last good commit")
    good = site.push(record("mail", "192.0.2.2"))
    site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "the commit after it")
    site.until(lambda: site.runs()[0] == ("converged", good), "the record of it")
    assert len(site.cloudflare.zones[ZONE].records) == 1
    code, seconds = site.end(signal.SIGTERM)
    assert code == 0
    assert seconds < 5


def test_sigterm_in_the_middle_of_a_pass_lets_the_write_finish_and_starts_no_other(site: Site) -> None:
    site.cloudflare.faults.active.append(slow_second_write())
    site.push(record("a") + record("b", after="a") + record("c", after="b"))
    site.start()
    site.until(lambda: site.cloudflare.faults.writes == 2, "the second write")
    code, seconds = site.end(signal.SIGTERM)
    assert code == 0
    assert seconds < 5
    assert sorted(site.records()) == ["a", "b"]
    assert [verdict for verdict, _ in site.runs()] == ["interrupted"]


def test_kill_in_the_middle_of_a_pass_and_a_restart_converges_with_nothing_twice(site: Site) -> None:
    site.cloudflare.faults.active.append(slow_second_write())
    site.push(record("a") + record("b", after="a") + record("c", after="b"))
    site.start()
    site.until(lambda: site.cloudflare.faults.writes == 2, "the second write")
    site.end(signal.SIGKILL)
    assert site.runs() == [], "the pass was not recorded"
    site.start()
    site.until(lambda: bool(site.runs()) and site.runs()[0][0] == "converged", "the pass after the restart")
    assert site.records() == dict.fromkeys("abc", "192.0.2.1")
    assert site.end(signal.SIGTERM)[0] == 0


def test_sighup_makes_it_look_at_once(tmp_path: Path) -> None:
    site = Site(tmp_path, poll=3600)
    try:
        site.push(record("mail"))
        site.start()
        site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
        site.push(record("mail", "192.0.2.2"))
        assert site.process is not None
        site.process.send_signal(signal.SIGHUP)
        site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "the second commit")
    finally:
        site.close()


def test_a_working_tree_is_converged_while_it_is_edited(site: Site) -> None:
    site.push(record("mail"))
    site.start("--path", str(site.remote.work / "desired"))
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the tree at the start")
    file = site.remote.work / "desired/mail/dns.yaml"
    file.write_text(record("mail", "192.0.2.2"))
    site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "the saved file")
    assert site.end(signal.SIGINT)[0] == 0


def test_a_credential_that_is_rotated_is_taken_without_a_restart_and_never_shown(site: Site) -> None:
    site.push(record("mail"))
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
    site.rotate("rotated-c4n4ry")
    site.until(lambda: "the settings were read anew: targets.cloudflare.token" in site.log(), "the rotated token")
    site.push(record("mail", "192.0.2.2"))
    site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "a commit with the new token")
    assert site.end(signal.SIGTERM)[0] == 0
    assert "c4n4ry" not in site.log()
    assert b"c4n4ry" not in (site.root / "state.db").read_bytes()


def test_settings_that_cannot_be_used_leave_the_old_in_force_and_a_signal_reads_good_ones_at_once(site: Site) -> None:
    site.push(record("mail"))
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
    (site.root / "reconciler.yaml").write_text("targets: {cloudflare: {tokn: x}}")
    site.until(lambda: "the settings stay as they were" in site.log(), "the complaint")
    assert "token: field required" in site.log()
    site.push(record("mail", "192.0.2.2"))
    site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "a commit under the old settings")
    site.configure(engine={"poll": 0.06}, instance="office")
    assert site.process is not None
    site.process.send_signal(signal.SIGHUP)
    site.until(lambda: "the settings were read anew: engine.poll, instance" in site.log(), "the good settings")
    assert "after a restart only: instance" in site.log()
    assert site.end(signal.SIGTERM)[0] == 0


def test_a_second_repository_is_followed_from_the_next_reading_and_may_not_have_a_stack_of_the_first(site: Site, tmp_path: Path) -> None:
    site.push(record("mail"))
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
    (tmp_path / "other").mkdir()
    other = Remote(tmp_path / "other")
    for stack in ("mail", "web"):
        folder = other.work / "desired" / stack
        folder.mkdir(parents=True)
        (folder / "stack.yaml").write_text(STACK.replace("name: mail", f"name: {stack}"))
        (folder / "dns.yaml").write_text(record(stack, "192.0.2.9"))
    other.push("another team")
    site.configure(repositories={"other": {"url": other.url, "poll": 1}})
    site.until(lambda: site.records() == {"mail": "192.0.2.1", "web": "192.0.2.9"}, "the stack of the second repository")
    said = "desired/mail: the repositories repository and other both have a stack of this name, and repository had it first"
    site.until(lambda: said in site.log(), "the clash")
    site.push(record("mail", "192.0.2.2"))
    site.until(lambda: site.records() == {"mail": "192.0.2.2", "web": "192.0.2.9"}, "the first goes on")
    assert site.end(signal.SIGTERM)[0] == 0


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")
def test_a_commit_that_nobody_signed_changes_nothing_until_its_key_counts(site: Site, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=site.remote.work, check=True)

    def key(name: str) -> str:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
        return (tmp_path / f"{name}.pub").read_text()

    signers = tmp_path / "allowed_signers"
    signers.write_text(f"ann@example.org {key('ann')}")
    git("config", "gpg.format", "ssh")
    git("config", "user.signingKey", str(tmp_path / "ann"))
    git("config", "commit.gpgSign", "true")
    site.push(record("mail"))
    site.configure(repository={**site.settings["repository"], "signatures": {"policy": "head", "allowed_signers": str(signers)}})
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the signed commit")
    git("config", "commit.gpgSign", "false")
    site.push(record("mail", "192.0.2.66"))
    site.until(lambda: "is not signed" in site.log(), "the refusal")
    assert site.end(signal.SIGTERM)[0] == 0
    site.start()  # the last trusted commit is in force after a restart, too
    zone = site.cloudflare.zones[ZONE]
    next(iter(zone.records.values()))["content"] = "192.0.2.99"
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the repair of what a hand changed")
    ben = key("ben")
    git("config", "user.signingKey", str(tmp_path / "ben"))
    git("config", "commit.gpgSign", "true")
    site.push(record("mail", "192.0.2.2"))
    site.until(lambda: "is signed with a key that nobody vouches for" in site.log(), "the refusal of the unknown key")
    signers.write_text(f"{signers.read_text()}ben@example.org {ben}")
    site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "the commit of the new colleague")
    assert site.end(signal.SIGTERM)[0] == 0

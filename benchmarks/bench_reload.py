"""A push that changes 5 files of 10,000: fetch, read, verify the signature, load and plan, beside the same from nothing."""

import shutil
import subprocess
import tempfile
import time
from datetime import date
from pathlib import Path

from benchmarks.common import figure, megabytes
from reconciler.desired import desired_from
from reconciler.driver import Observation
from reconciler.plan import Inputs, make_plan
from reconciler.registry import catalog
from reconciler.signatures import SignaturePolicy
from reconciler.source import GitSource

COUNT, CHANGED = 9_999, 5  # with stack.yaml as many files as are read


def measure() -> list[dict[str, object]]:
    """Measure against a repository on this machine; the network is not in the figures."""
    with tempfile.TemporaryDirectory() as folder:
        return list(_measured(Path(folder)))


def _measured(root: Path) -> list[dict[str, object]]:
    upstream, signers = root / "upstream", root / "signers"
    signed = _repository(upstream, root, signers)
    policy = SignaturePolicy("head", signers) if signed else SignaturePolicy()
    source = GitSource(upstream.as_uri(), directory=root / "cache", signatures=policy, allow_file=True)
    first = _look(source)
    for number in range(CHANGED):
        (upstream / f"desired/big/{number}.yaml").write_text(_record(number, "192.0.2.2"))
    _git(upstream, "commit", "--quiet", "--all", "-m", "five")
    again = _look(source)
    return [
        figure("the same from git, signed, file by file, for the first time", first, "s", None),
        figure(f"and after a push that changes {CHANGED} of 10,000 files", again, "s", 4.0),
        figure("memory of that", megabytes(), "MB", 300),
    ]


def _look(source: GitSource) -> float:
    started = time.perf_counter()
    desired = desired_from(source.read(source.fetch()), "desired")
    stack = desired.load("big", catalog(), date(2026, 1, 1))
    took = time.perf_counter() - started
    seen = [Observation(one.id, one.spec.canonical(lambda ref: "")) for one in stack.graph]
    started = time.perf_counter()
    plan = make_plan("big", "", stack.graph, Inputs(seen, lambda ref: "", stack.targets))
    assert plan.unchanged == COUNT
    return took + time.perf_counter() - started


def _repository(upstream: Path, root: Path, signers: Path) -> bool:
    """Make a repository with one file for each record; says whether its commits are signed."""
    folder = upstream / "desired/big"
    folder.mkdir(parents=True)
    (folder / "stack.yaml").write_text(
        "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: big}\nspec: {vars: {domain: example.org}}\n"
    )
    for number in range(COUNT):
        (folder / f"{number}.yaml").write_text(_record(number, "192.0.2.1"))
    _git(upstream, "init", "--quiet", "--initial-branch=main")
    for name, value in {"user.name": "bench", "user.email": "bench@example.org", "gpg.format": "ssh"}.items():
        _git(upstream, "config", name, value)
    signed = shutil.which("ssh-keygen") is not None
    if signed:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "key")], check=True)
        signers.write_text(f"bench@example.org {(root / 'key.pub').read_text()}")
        _git(upstream, "config", "user.signingKey", str(root / "key"))
        _git(upstream, "config", "commit.gpgSign", "true")
    _git(upstream, "add", "--all")
    _git(upstream, "commit", "--quiet", "-m", "first")
    return signed


def _record(number: int, content: str) -> str:
    head = f"apiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata:\n  name: r{number}\n"
    return head + f"spec:\n  zone: ${{vars.domain}}\n  name: r{number}.${{vars.domain}}\n  type: A\n  content: {content}\n"


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)

"""The emulated cluster against recordings of a real API server, which are read where they lie: every file, every message, one server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reconciler_k8s.emulator import KubernetesEmulator

ROOT = Path(__file__).parents[2]
SHARED = (ROOT / os.environ.get("RECONCILER_SHARED", "../shared")).resolve() / "transcripts"
FILES = sorted(path.stem for path in (SHARED / "k8s").glob("*.jsonl"))
PATIENT = ("21_watch_full", "22_watch_metadata")
"""They watch for half a minute in all: each has a cluster of its own, whose clock runs faster."""
FORGETFUL = "26_history_forgotten"


def replay(stack: ExitStack, names: list[str], seed: dict[str, Any], *options: str) -> str:
    emulator = KubernetesEmulator({"controllers": False, "rbac": True, **seed})
    emulator.start()
    stack.callback(emulator.stop)
    settings = emulator.settings()
    paths = [str(SHARED / "k8s" / f"{name}.jsonl") for name in names]
    command = [sys.executable, str(SHARED / "replay_k8s.py"), settings["url"], *paths, "--token", settings["token"], *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100).stdout


@pytest.fixture(scope="module")
def reports() -> Iterator[dict[str, "Future[str]"]]:
    """All replays at once, in processes of their own: by the name of the file, what the replay that it is part of has printed."""
    together = [name for name in FILES if name not in (*PATIENT, FORGETFUL)]
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        found = {name: pool.submit(replay, stack, [name], {"pace": 2.5}) for name in PATIENT}
        forgotten = {"history": {"forgotten": True, "compaction": 5}, "pace": 5}
        found[FORGETFUL] = pool.submit(replay, stack, [FORGETFUL], forgotten, "--have", "history-forgotten")
        yield found | dict.fromkeys(together, pool.submit(replay, stack, together, {}))


@pytest.mark.skipif(not FILES, reason=f"no recordings at {SHARED}")
@pytest.mark.parametrize("name", FILES)
def test_every_recorded_answer_is_given(reports: dict[str, "Future[str]"], name: str) -> None:
    report = reports[name].result()
    summary = [line for line in report.splitlines() if f" {name}.jsonl: " in line]
    assert len(summary) == 1, report
    assert summary[0].startswith("ok "), report
    assert "skipped" not in summary[0]

"""The daemon as a process of its own beside a system that answers a byte at a time for ever: other stacks go on, and it ends when told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.state import Store
from reconciler_cloudflare.emulator import CloudflareEmulator
from reconciler_vault.emulator import VaultEmulator
from tests.swamp import swamp

RECORD = (
    "apiVersion: cloudflare/v1\nkind: DNSRecord\nmetadata: {name: www}\n"
    "spec: {zone: example.com, name: www.example.com, type: A, content: 192.0.2.1}\n"
)
SECRET = (
    "apiVersion: vault/v1\nkind: Secret\nmetadata: {{name: {name}}}\n"
    "spec: {{path: secret/{name}, keys: {{password: {{generate: {{type: password}}, consumers: [a test]}}}}}}\n"
)


def stack(root: Path, name: str, *documents: str) -> None:
    folder = root / "desired" / name
    folder.mkdir(parents=True)
    (folder / "stack.yaml").write_text(f"apiVersion: reconciler/v1\nkind: Stack\nmetadata: {{name: {name}}}\nspec: {{interval: 5}}\n")
    (folder / "all.yaml").write_text("---\n".join(documents))


def runs(root: Path, name: str) -> list[str]:
    if not (root / "state.db").exists():
        return []
    store = Store(root / "state.db", read_only=True)
    try:
        return [str(one["verdict"]) for one in store.runs(name)]
    finally:
        store.close()


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_a_hanging_system_holds_up_no_other_target_and_no_other_stack_and_not_the_end_of_the_program(tmp_path: Path, drip: bool) -> None:
    cloudflare, vault = CloudflareEmulator({"zones": {"example.com": {}}}), VaultEmulator()
    cloudflare.start()
    vault.start()
    port = int(cloudflare.settings()["base_url"].split(":")[2].split("/")[0])
    with swamp(port, swallow=("GET", "/client/v4/zones/*/dns_records"), drip=drip) as way:
        dns = {**cloudflare.settings(), "base_url": cloudflare.settings()["base_url"].replace(str(port), str(way.port))}
        settings = {
            "targets": {"cloudflare": dns, "vault": vault.settings()},
            "state": {"path": str(tmp_path / "state.db")},
            "engine": {"patience": 3, "poll": 0.05},
        }
        (tmp_path / "reconciler.yaml").write_text(json.dumps(settings))
        stack(tmp_path, "mixed", RECORD, SECRET.format(name="mixed"))
        stack(tmp_path, "other", SECRET.format(name="other"))
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        command = [sys.executable, "-c", "from reconciler.cli import main; main()", "run", "--path", str(tmp_path)]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            began, times = time.monotonic(), dict[str, float]()
            while len(times) < 2:
                assert time.monotonic() - began < 40, (tmp_path / "log").read_text()
                for name in ("mixed", "other"):
                    if f"secret/{name}" in str(vault.summary()) and name not in times:
                        times[name] = time.monotonic() - began
                time.sleep(0.02)
            while len(runs(tmp_path, "other")) < 2 or len(runs(tmp_path, "mixed")) < 2:
                assert time.monotonic() - began < 40, (tmp_path / "log").read_text()
                time.sleep(0.05)
            assert set(runs(tmp_path, "other")) == {"converged"}
            assert set(runs(tmp_path, "mixed")) == {"failed"}
            assert times["other"] < 8
            assert times["mixed"] < 10, "the rest of its own stack waits for its patience and no longer"
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            took = time.monotonic() - began
            assert took < 8, (tmp_path / "log").read_text()
        finally:
            process.kill()
            process.wait(10)
            cloudflare.stop()
            vault.stop()

"""A daemon in a process of its own that listens, and what a benchmark asks of it."""

import hashlib
import hmac
import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.common import PROGRAM

SECRET, TOKEN = "a-secret-of-the-benchmark", "a-token-of-the-benchmark"
BEARER = {"authorization": f"Bearer {TOKEN}"}
PATIENCE = 120.0


class Running:
    """The program as a user runs it, on settings with doors."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Write the settings and start."""
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = int(one.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        http = {
            "listen": f"127.0.0.1:{port}",
            "tokens": {"bench": {"token": TOKEN, "role": "operate"}},
            "webhooks": {"forge": {"scheme": "github", "secrets": [SECRET]}},
        }
        file = folder / "reconciler.yaml"
        file.write_text(yaml.safe_dump({**settings, "http": http}), encoding="utf-8")
        self.process = subprocess.Popen([PROGRAM, "--settings", str(file), "run"])
        self.client = httpx.Client(timeout=30, limits=httpx.Limits(max_connections=50))

    def stop(self) -> None:
        """End it."""
        self.client.close()
        self.process.terminate()
        self.process.wait(timeout=30)

    def until(self, true: Callable[[], bool], what: str, pause: float = 0.01) -> float:
        """Wait until something holds; give the time when it did (monotonic)."""
        end = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f"not within {PATIENCE:.0f} s: {what}")
            time.sleep(pause)
        return time.monotonic()

    def webhook(self, number: int = 0) -> int:
        """Send a push as GitHub does; ``number`` makes it another one. Gives the status."""
        body = json.dumps({"ref": "refs/heads/main", "number": number, "padding": "x" * 4000}).encode()
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"x-github-event": "push", "x-hub-signature-256": f"sha256={signature}"}
        return self.client.post(f"{self.url}/webhooks/forge", content=body, headers=headers).status_code

    def trigger(self, stack: str) -> None:
        """Ask for a pass."""
        self.client.post(f"{self.url}/api/v1/stacks/{stack}/trigger", headers=BEARER).raise_for_status()

    def runs(self, stack: str) -> list[dict[str, Any]]:
        """Give the runs of a stack, newest first."""
        try:
            answer = self.client.get(f"{self.url}/api/v1/runs", params={"stack": stack, "most": 200}, headers=BEARER)
        except httpx.TransportError:  # it does not listen yet
            return []
        return list(answer.raise_for_status().json())

    def converged(self, stack: str, commit: str) -> bool:
        """Say whether the newest run of a stack converged at a commit."""
        return [(one["verdict"], one["revision"]) for one in self.runs(stack)[:1]] == [("converged", commit)]

    def resident(self) -> float:
        """Give what it holds in memory, in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024

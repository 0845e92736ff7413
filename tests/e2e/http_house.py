"""A daemon over a system in memory with its doors really open, and clients that can misbehave."""

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from reconciler import telemetry
from reconciler.daemon.http.app import doors
from reconciler.daemon.http.config import Http
from reconciler.daemon.http.metrics import Meters
from tests.unit.daemon.house import House

READ, OPERATE, APPROVE = "r" * 24, "o" * 24, "a" * 24
TOKENS = {name: {"token": token, "role": name} for name, token in (("read", READ), ("operate", OPERATE), ("approve", APPROVE))}


class Served:
    """A house with open doors. Passes are run by hand; ``pokes`` counts what the webhooks asked for."""

    def __init__(self, folder: Path, **http: Any) -> None:
        self.house = House(folder)
        self.pokes: list[float] = []
        self.house.head.poke = lambda: self.pokes.append(time.monotonic())
        workshop = self.house.daemon.workshop
        settings = Http.model_validate({"listen": "127.0.0.1:0", "tokens": TOKENS, **http})
        workshop.settings = workshop.settings.model_copy(update={"http": settings})
        self.meters = Meters(self.house.daemon)
        self.house.daemon.meter = self.meters.passed
        self.doors = doors(self.house.daemon, self.meters)
        self.house.daemon.doors = self.doors

    def __enter__(self) -> Self:
        telemetry.ears[:] = [self.meters]
        for door in self.doors:
            door.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        telemetry.ears.clear()
        for door in self.doors:
            door.close()
        self.house.store.close()

    @property
    def url(self) -> str:
        """The door for the inside."""
        return self.doors[-1].url

    def get(self, path: str, token: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.get(self.url + path, headers=headers, timeout=10)

    def post(self, path: str, token: str = "", json: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.post(self.url + path, headers=headers, json=json, timeout=10)

    def hook(self, name: str, body: bytes, headers: Mapping[str, str] | list[tuple[str, str]], door: int = 0) -> httpx.Response:
        return httpx.post(f"{self.doors[door].url}/webhooks/{name}", content=body, headers=headers, timeout=10)

    def raw(self, data: bytes, *, drip: bytes = b"", every: float = 0.05, door: int = 0) -> tuple[bytes, float]:
        """Send bytes as they are, then ``drip`` one by one; give what came back until the other side closed, and the seconds."""
        host, _, port = self.doors[door].url.removeprefix("http://").rpartition(":")
        began = time.monotonic()
        with socket.create_connection((host, int(port)), timeout=10) as line:
            line.sendall(data)
            answer = b""
            try:
                for one in drip:
                    line.settimeout(every)
                    line.sendall(bytes([one]))
                    try:
                        if not (got := line.recv(65536)):
                            return answer, time.monotonic() - began
                        answer += got
                    except TimeoutError:
                        continue
                line.settimeout(10)
                while got := line.recv(65536):
                    answer += got
            except (ConnectionResetError, BrokenPipeError):
                pass
        return answer, time.monotonic() - began

    def metric(self, name: str) -> dict[str, float]:
        """Every sample of one name: its labels as text -> its value."""
        lines = self.meters.text().decode().splitlines()
        found = [line.rpartition(" ") for line in lines if line.partition("{")[0].partition(" ")[0] == name]
        return {labels.removeprefix(name): float(value) for labels, _, value in found}

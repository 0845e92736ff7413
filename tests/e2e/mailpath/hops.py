"""The wires of the site on loopback: the firewall's NAT, the old load balancer and kube-proxy, as one small TCP forwarder.

Every address of the site has a stand-in in a network of 127/8 that is this process's own, so that declared ports can be used as they are
and nothing leaves the machine. On loopback a socket may be bound to any of them, which is how a hop keeps the client's address, or puts
a node's in its place.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

Address: TypeAlias = tuple[str, int]
NETWORK = f"127.{64 + os.getpid() % 128}"
POD = f"{NETWORK}.30.1"
WAN = f"{NETWORK}.76.1"


def here(text: str, wan: str) -> str:
    """Put the stand-ins in the place of the site's addresses; ``wan`` is the real address on WAN."""
    return text.replace("10.0.20.", f"{NETWORK}.20.").replace(wan, WAN)


class PodAddress:
    """Gives the machine's loopback interface the pod's address, because Postfix listens on an address of an interface only."""

    def start(self) -> None:
        """Add it; skips the test where that is not allowed."""
        done = self._ip("replace")
        if done.returncode:
            pytest.skip(f"an address on loopback takes the right to administer the network: {done.stderr.strip()}")

    def stop(self) -> None:
        """Take it away."""
        self._ip("del")

    def _ip(self, verb: str) -> "subprocess.CompletedProcess[str]":
        program = shutil.which("ip", path="/usr/sbin:/usr/bin:/sbin:/bin")
        assert program is not None
        command = [program, "address", verb, f"{POD}/32", "dev", "lo"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)


def outside(number: int) -> str:
    """Give the address of a client on the Internet."""
    return f"{NETWORK}.9.{number}"


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a connection goes on, and the address it seems to come from; without one, its client's."""

    target: Address
    source: str = ""


class Forwarder:
    """Takes connections to addresses and asks for each where it goes on; one that leads nowhere is closed."""

    def __init__(self, addresses: Iterable[Address], route: Callable[[Address], Hop | None]) -> None:
        """``route`` is called for every connection, with the address it was made to."""
        self._addresses, self._route = sorted(set(addresses)), route
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hops", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._servers: list[asyncio.Server] = []

    def start(self) -> None:
        """Listen on every address."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        """Close every listener and every connection."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    async def _listen(self) -> None:
        for host, port in self._addresses:
            self._servers.append(await asyncio.start_server(self._serve, host, port, backlog=200))

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)  # the loop itself holds its tasks only weakly
        both = [writer]
        try:
            hop = self._route(writer.get_extra_info("sockname"))
            if hop is not None:
                source = (hop.source or writer.get_extra_info("peername")[0], 0)
                beyond, onward = await asyncio.open_connection(*hop.target, local_addr=source)
                both.append(onward)
                await asyncio.gather(_pump(reader, onward), _pump(beyond, writer))
        except (OSError, asyncio.CancelledError):
            pass  # the other side hears of it by the close
        finally:
            for one in both:
                one.close()
            for one in both:
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    await one.wait_closed()
            self._tasks.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()  # who has said all may still listen

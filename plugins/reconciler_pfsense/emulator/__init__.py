"""A small pfSense for the sandbox and the tests: a real SSH server and XML-RPC over TLS, which do what the program sent to them asks for.

It never runs PHP. It reads the request out of the program and makes the same edits to its own configuration, with the quirks of the
real file format, and renders haproxy.cfg and the rules as the real code does.
"""

import asyncio
import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import asyncssh

from reconciler.resource import JSONObject
from reconciler.sandbox.server import Faults
from reconciler_pfsense.agent import embedded_request
from reconciler_pfsense.emulator.base import base_config
from reconciler_pfsense.emulator.configfile import Config
from reconciler_pfsense.emulator.firewall import Cut, Firewall, Refusal
from reconciler_pfsense.emulator.web import WebDoor

PASSWORD = "pfsense"  # noqa: S105 - the account of the emulator, the factory default of the real system
INSIDE = frozenset({"no-haproxy", "locked", "other-admin", "late-admin", "pf-refuses", "port-taken", "cut-during-reload", "disk-full"})
"""Faults that the firewall plays itself."""

_HTML = '<pre style="white-space: pre-wrap;">PHP ERROR: Type: 1, File: -, Line: 42, Message: {}\nStack trace:\n#0 {{main}}</pre>'
_WORDS = {"html": "Uncaught Error: Call to undefined function", "memory": "Allowed memory size of 536870912 bytes exhausted"}


class PfSenseEmulator:
    """One firewall on a loopback port.

    The seed may give ``config_xml`` (a whole file), ``wan`` and ``lan`` (addresses of the built-in configuration).
    Faults beside the common ones latency, cut-before and cut-after: html and memory (a PHP fatal), partial (half an answer), dots
    (what a booting firewall prints), and those of ``INSIDE``. They hit both ways in.
    """

    def __init__(self, seed: JSONObject | None = None) -> None:
        """Prepare the firewall; nothing listens yet."""
        seed = seed or {}
        text = seed.get("config_xml") or base_config(wan=seed.get("wan", "203.0.113.10"), lan=seed.get("lan", "10.0.20.1"))
        self.firewall = Firewall(text)
        self.faults = Faults()
        self.port = 0
        self.programs: list[JSONObject] = []
        self.accepts_logins = True
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncssh.SSHAcceptor | None = None
        self.web = WebDoor(self)

    # -- life --------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen on a loopback port, which stays the same over stop and start."""
        self._ending.clear()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="emulator-pfsense")
        self._thread.start()
        self._server = self._wait(self._listen())
        self.port = self._server.get_port()
        self.web.start()

    async def _listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=lambda: _Door(self),
            server_host_keys=[self._host_key],
            process_factory=self._process,
            encoding=None,
            reuse_address=True,
        )

    def _wait(self, work: Any) -> Any:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop(self) -> None:
        """Close every socket."""
        if self._loop is None or self._thread is None or self._server is None:
            return
        self._ending.set()
        self.web.stop()
        self._wait(self._close(self._server))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()
        self._loop = self._thread = self._server = None

    async def _close(self, server: asyncssh.SSHAcceptor) -> None:
        server.close()
        await server.wait_closed()
        for connection in list(self.connections):
            connection.abort()
            await connection.wait_closed()
        left = asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def change_host_key(self) -> None:
        """Come back with another host key, as a reinstalled or an impersonated firewall would."""
        self.stop()
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.start()

    # -- for people and tests ----------------------------------------------------------------------------------------------------

    def settings(self) -> JSONObject:
        """Give the target's settings, with the key that opens this firewall."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "username": "admin",
            "private_key": self.client_key.export_private_key().decode(),
            "known_hosts": f"[127.0.0.1]:{self.port} {self._host_key.export_public_key().decode().strip()}",
            "timeout": 30.0,
            "lock_timeout": 1,
        }

    def xmlrpc_settings(self) -> JSONObject:
        """Give the target's settings for the other way in."""
        return {
            "transport": "xmlrpc",
            "host": "127.0.0.1",
            "port": self.web.port,
            "password": PASSWORD,
            "certificate": self.web.certificate,
            "timeout": 30.0,
            "lock_timeout": 1,
        }

    def summary(self) -> list[str]:
        """Say what is inside and how to look at it."""
        forwards = [line for line in self.rules().splitlines() if line.startswith("rdr on")]
        frontends = [line.split()[1] for line in self.haproxy_cfg().splitlines() if line.startswith("frontend ")]
        return [
            f"pfSense 2.8 with HAProxy on 127.0.0.1:{self.port} (ssh admin, password {PASSWORD}; cat config.xml, haproxy.cfg or rules)",
            f"{len(forwards)} port forwards; frontends: {', '.join(frontends) or 'none'}",
            f"its XML-RPC: https://127.0.0.1:{self.web.port}/xmlrpc.php",
        ]

    def config_xml(self) -> str:
        """Give the configuration file."""
        return self.firewall.text

    def haproxy_cfg(self) -> str:
        """Give the HAProxy configuration in force."""
        return self.firewall.haproxy_cfg

    def rules(self) -> str:
        """Give the lines of the rules file that come from users."""
        return self.firewall.rules

    def edit(self, function: Callable[[Config], object], *, username: str = "admin@10.0.0.5 (Local Database)") -> None:
        """Change the configuration as somebody at the GUI would."""
        with self._lock:
            self.firewall.change(function, username=username)

    @property
    def on_reload(self) -> Callable[[str], None] | None:
        """Who is told of each haproxy.cfg that is put in force; empty when HAProxy is switched off."""
        return self.firewall.on_reload

    @on_reload.setter
    def on_reload(self, listener: Callable[[str], None] | None) -> None:
        self.firewall.on_reload = listener

    # -- ssh ---------------------------------------------------------------------------------------------------------------------

    async def _process(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        """Serve one command: ``php`` with a program, or ``cat`` of one of three files."""
        words = (process.command or "").split()
        if words[:1] == ["cat"]:
            files = {"config.xml": self.config_xml, "haproxy.cfg": self.haproxy_cfg, "rules": self.rules}
            found = [files[name]() for name in words[1:] if name in files]
            process.stdout.write("".join(found).encode())
            process.exit(0 if found else 1)
        elif words and words[0].endswith("php"):
            try:
                await self._php(process, (await process.stdin.read()).decode())
            except Cut:
                process.channel.get_connection().abort()
        else:
            process.stderr.write(b"command not found\n")
            process.exit(127)

    async def _php(self, process: "asyncssh.SSHServerProcess[bytes]", program: str) -> None:
        output, status = await asyncio.to_thread(self.run, program)
        process.stdout.write(output.encode())
        process.exit(status)

    # -- both ways in ------------------------------------------------------------------------------------------------------------

    def run(self, program: str) -> tuple[str, int]:
        """Run a program under the fault that is due: what it prints or gives back, and its exit code. Raises Cut."""
        request = embedded_request(program)
        self.programs.append(request)
        method = "POST" if request["verb"] == "apply" else "GET"
        self.faults.requests.append((method, request["verb"]))
        fault = self.faults.take(method, request["verb"])
        kind = fault.kind if fault else ""
        if fault and kind == "latency":
            self._ending.wait(fault.seconds)
        if kind == "cut-before":
            raise Cut
        if kind in _WORDS:
            return _HTML.format(_WORDS[kind]), 255
        answer = self.execute(program, request, kind)
        if kind == "cut-after":
            raise Cut
        output = ("...." if kind == "dots" else "") + answer
        return (output[: len(output) // 2] if kind == "partial" else output), 0

    def execute(self, program: str, request: JSONObject, kind: str) -> str:
        """Do what ``request`` asks for, under the fault ``kind``, and give what the program would print."""
        with self._lock:
            self.firewall.trouble = {kind} & INSIDE
            try:
                answer: JSONObject = {"ok": True, "body": self._body(request)}
            except Refusal as refusal:
                answer = {"ok": False, "kind": refusal.kind, "message": str(refusal)}
            finally:
                self.firewall.trouble = set()
        text = base64.b64encode(json.dumps(answer).encode()).decode()
        return f"\nRECONCILER-RESULT {request['nonce']} {text} END\n"

    def _body(self, request: JSONObject) -> JSONObject:
        match request["verb"]:
            case "apply":
                return self.firewall.apply(request)
            case "glance":
                return self.firewall.glance(request["known"])
        return self.firewall.observe()


class _Door(asyncssh.SSHServer):
    """Lets in the one account, by its key or its password."""

    def __init__(self, emulator: PfSenseEmulator) -> None:
        self.emulator = emulator

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn
        self.emulator.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self.emulator.connections.discard(self.connection)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return self.emulator.accepts_logins and (username, password) == ("admin", PASSWORD)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = self.emulator.client_key.convert_to_public()
        return self.emulator.accepts_logins and username == "admin" and key == known


__all__ = ["PASSWORD", "PfSenseEmulator"]

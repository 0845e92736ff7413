"""The same contract with the real program in a real PHP behind the SSH server, on stand-ins for pfSense's own functions."""

import base64
import copy
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pfsense_world import PfSenseWorld

from reconciler.resource import JSONObject
from reconciler.testing import DriverContract
from reconciler_pfsense.emulator import PfSenseEmulator

PHP = shutil.which("php")
SERVER = """<?php
require_once("config.inc");
class Server {
	public function exec_php($code) {
		$toreturn = '';
		eval($code);
		return $toreturn ?: true;
	}
}
$server = new Server();
$result = $server->exec_php(base64_decode('%s'));
echo is_array($result) ? $result['answer'] : '';
"""
"""What ``/xmlrpc.php`` does with a program: it is evaluated inside a method, after the configuration was read."""
needs_php = pytest.mark.skipif(PHP is None, reason="php is not installed")
STAND_INS = Path(__file__).parents[1] / "unit" / "pfsense" / "php"

pytestmark = pytest.mark.timeout(240)  # hundreds of times PHP begins anew, which takes a minute on a machine that does other things, too


class PhpFirewall(PfSenseEmulator):
    """Runs what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        for name in ("conf", "tmp", "run"):
            Path(self.folder.name, name).mkdir()
        self.file = Path(self.folder.name, "conf", "config.xml")
        self.file.write_text(json.dumps(self.firewall.config))

    def execute(self, program: str, request: JSONObject, kind: str) -> str:
        return subprocess.run(
            [str(PHP), "-n", "-d", f"include_path={STAND_INS}", "-d", "error_reporting=-1", "-d", "display_errors=1"],
            input=program if program.startswith("<?php") else SERVER % base64.b64encode(program.encode()).decode(),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env={"SHIM_ROOT": self.folder.name, "PATH": ""},
        ).stdout

    def edit(self, function: Callable[[Any], object], *, username: str = "admin@10.0.0.5 (Local Database)") -> None:
        tree = json.loads(self.file.read_text())
        function(tree)
        tree["revision"] = {"time": "1800000000", "description": f"{username}: by hand", "username": username}
        self.file.write_text(json.dumps(tree))

    def stop(self) -> None:
        super().stop()
        self.folder.cleanup()


class PhpWorld(PfSenseWorld):
    """Reads the file that PHP wrote."""

    emulator: PhpFirewall

    def __init__(self) -> None:
        self.emulator = PhpFirewall()
        self.emulator.start()

    def tree(self) -> Any:
        return copy.deepcopy(json.loads(self.emulator.file.read_text()))


@needs_php
class TestProgram(DriverContract):
    """The promises, kept by ``agent.php`` itself."""

    always_ours = frozenset({"HAProxySettings"})
    cannot_delete = frozenset({"HAProxySettings"})

    @pytest.fixture
    def world(self) -> Iterator[PhpWorld]:
        world = PhpWorld()
        yield world
        world.emulator.stop()


class PhpWebWorld(PhpWorld):
    """Lets the program in by XML-RPC."""

    transport = "xmlrpc"


@needs_php
class TestEvaluatedProgram(DriverContract):
    """The promises, kept by ``agent.php`` where it is evaluated inside a function."""

    always_ours = frozenset({"HAProxySettings"})
    cannot_delete = frozenset({"HAProxySettings"})

    @pytest.fixture
    def world(self) -> Iterator[PhpWebWorld]:
        world = PhpWebWorld()
        yield world
        world.emulator.stop()

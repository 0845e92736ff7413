"""The image, as far as it can be judged without building it, and the program that says whether the daemon in it is well.

It is built and run by tests/live/test_image_live.py.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STAGES = DOCKERFILE.split("\nFROM ")[1:]
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / lock).read_text(encoding="utf-8")))


# -- the Dockerfile ----------------------------------------------------------------------------------------------------------------


def test_the_image_runs_as_nobody_special_who_is_the_one_of_the_other_ways_to_run_it() -> None:
    assert re.search(r"^USER 10001:10001$", STAGES[-1], re.MULTILINE)
    assert "groupadd --gid 10001" in STAGES[-1]
    [service] = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text(encoding="utf-8"))["services"].values()
    assert service["user"] == "10001:10001"
    assert "runAsUser: 10001" in (ROOT / "deploy/kubernetes/daemon.yaml").read_text(encoding="utf-8")


def test_pip_takes_nothing_that_the_locks_do_not_pin() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if "pip" in line and " install " in line and "apt-get" not in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)
    assert "--no-index" in next(line for line in DOCKERFILE.splitlines() if "pip wheel" in line)


def test_the_locks_of_the_image_say_what_the_lock_of_the_tests_says() -> None:
    tested, shipped, building = pins("requirements.lock"), pins("deploy/requirements.lock"), pins("deploy/build.lock")
    assert "procrastinate" in shipped
    assert not {"pytest", "hatchling", "mypy"} & shipped.keys()
    assert "hatchling" in building
    assert {name: tested.get(name) for name in shipped | building} == shipped | building


def test_only_what_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    first, *rest = [line for line in lines if not line.startswith("#")]
    assert first == "*"
    sent = [line.removeprefix("!") for line in rest if line.startswith("!")]
    copied = [word for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]]
    assert len(copied) > 5
    assert all((ROOT / one).exists() for one in copied)
    assert [one for one in copied if not any(one == top or one.startswith(f"{top}/") for top in sent)] == []
    assert [top for top in sent if not any(one == top or one.startswith(f"{top}/") for one in copied)] == []


# -- the health check --------------------------------------------------------------------------------------------------------------


def health_command(settings: Path) -> list[str]:
    """The command of the image, for this machine's Python and these settings."""
    found = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    program, script, file = json.loads(found[1])
    assert (program, file) == ("python", "/etc/reconciler/reconciler.yaml")
    assert f"COPY deploy/image/healthcheck.py /opt/program{script}\n" in DOCKERFILE
    return [sys.executable, str(ROOT / "deploy/image/healthcheck.py"), str(settings)]


class Answering:
    """Something that answers as a daemon does, with the status that it is told."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        outer = self
        self.status, self.asked = 200, list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(b'{"ok": "as told"}')

            def log_message(self, format: str, *arguments: object) -> None:
                return

        class Server(HTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self.server = Server((host, 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def answering() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.close()


def judged(tmp_path: Path, text: str, **environment: str) -> tuple[int, str]:
    settings = tmp_path / "reconciler.yaml"
    settings.write_text(text)
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(health_command(settings), env={**clean, **environment}, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_daemon_that_says_it_is_well_is_well(tmp_path: Path, answering: Answering, host: str) -> None:
    assert judged(tmp_path, f"http: {{listen: '{host}:{answering.port}'}}") == (0, '{"ok": "as told"}\n')
    assert answering.asked == ["/healthz"]


def test_a_daemon_that_listens_by_ipv6_is_asked_by_it(tmp_path: Path) -> None:
    try:
        answering = Answering("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    for host in ("::", "::1"):
        assert judged(tmp_path, f"http: {{listen: '[{host}]:{answering.port}'}}")[0] == 0
    answering.close()


def test_a_daemon_that_says_it_is_sick_is_sick_and_its_words_are_kept(tmp_path: Path, answering: Answering) -> None:
    answering.status = 503
    assert judged(tmp_path, f"http: {{listen: '127.0.0.1:{answering.port}'}}") == (1, '{"ok": "as told"}\n')


def test_a_daemon_that_does_not_answer_is_sick(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        code, said = judged(tmp_path, f"http: {{listen: '127.0.0.1:{silent.getsockname()[1]}'}}")
    assert code == 1
    assert "http.listen" in said


def test_the_environment_wins_as_it_does_for_the_daemon(tmp_path: Path, answering: Answering) -> None:
    there = f"127.0.0.1:{answering.port}"
    assert judged(tmp_path, "http: {listen: '127.0.0.1:1'}", RECONCILER_HTTP__LISTEN=there)[0] == 0


@pytest.mark.parametrize("text", ["", "instance: home", "http: {}", "http: null", "http: {webhook_listen: '127.0.0.1:1'}"])
def test_where_nothing_listens_nothing_can_be_asked(tmp_path: Path, text: str) -> None:
    code, said = judged(tmp_path, text)
    assert code == 0
    assert "http.listen is not set" in said


def test_new_settings_that_the_daemon_refuses_make_nobody_call_it_sick(tmp_path: Path, answering: Answering) -> None:
    text = f"nonsense: true\nrepository: {{token: 'file:/no/such/file'}}\nhttp: {{listen: '127.0.0.1:{answering.port}'}}"
    assert judged(tmp_path, text)[0] == 0


@pytest.mark.parametrize("text", ["http: [", "just a text", "http: {listen: nowhere}", "http: [127.0.0.1:80]"])
def test_settings_that_make_no_sense_are_said_and_no_traceback_is(tmp_path: Path, text: str) -> None:
    code, said = judged(tmp_path, text)
    assert code == 1
    assert said.startswith(f"{tmp_path}/reconciler.yaml: ")

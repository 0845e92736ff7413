"""The daemon's doors on the whole program: a webhook becomes a converged commit in one trace, and what stands in the way is said."""

import hashlib
import hmac
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import httpx
import pytest

from reconciler.telemetry import trace_id
from tests.e2e.test_daemon_process import Site, record

SECRET, TOKEN = "a-secret-of-the-forge", "a-token-for-the-operator"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


class Open(Site):
    """A site whose daemon listens, and whose forge sends webhooks; it polls once an hour."""

    def __init__(self, root: Path, **more: Any) -> None:
        super().__init__(root, poll=3600)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = json.loads((root / "reconciler.yaml").read_text())
        settings["http"] = {
            "listen": f"127.0.0.1:{self.port}",
            "tokens": {"operator": {"token": TOKEN, "role": "operate"}},
            "webhooks": {"forge": {"scheme": "github", "secrets": [SECRET], "branch": "main"}},
        }
        settings["telemetry"] = {"exporter": "file", "file": str(root / "traces.jsonl"), "log_format": "json", **more}
        (root / "reconciler.yaml").write_text(json.dumps(settings))

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def tell(self, commit: str, secret: str = SECRET) -> httpx.Response:
        """Send what the forge sends after a push."""
        body = json.dumps({"ref": "refs/heads/main", "after": commit}).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"x-github-event": "push", "x-hub-signature-256": f"sha256={signature}"}
        return httpx.post(f"{self.url}/webhooks/forge", content=body, headers=headers, timeout=5)

    def cli(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", "from reconciler.cli import main; main()", *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False, timeout=30)

    def spans(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / "traces.jsonl").read_text().splitlines()]

    def take(self, says: str, **sections: Any) -> None:
        """Write the settings, some of them changed, send SIGHUP, and wait until the log says so once more."""
        before = self.log().count(says)
        self.configure(**sections)
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        self.until(lambda: self.log().count(says) > before, says)

    def may(self, token: str, client: httpx.Client) -> int:
        """Ask the API with a token; give the status."""
        return client.get(f"{self.url}/api/v1/stacks", headers={"authorization": f"Bearer {token}"}).status_code


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Open]:
    made = Open(tmp_path)
    yield made
    made.close()


def test_a_webhook_is_converged_at_once_and_everything_about_it_is_one_trace(site: Open) -> None:
    site.push(record("mail"))
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
    site.until(site.ready, "the daemon to be ready")
    commit = site.push(record("mail", "192.0.2.2"))
    began = time.monotonic()
    assert site.tell(commit).status_code == 202
    site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "the commit that the webhook spoke of")
    assert time.monotonic() - began < 5
    site.until(lambda: site.runs()[0] == ("converged", commit), "the record of it")
    metrics = httpx.get(f"{site.url}/metrics", headers={"authorization": f"Bearer {TOKEN}"}, timeout=5).text
    assert 'reconciler_webhooks_total{result="accepted",sender="forge"} 1.0' in metrics
    assert 'reconciler_commit_to_converged_seconds_count{stack="mail"} 2.0' in metrics
    assert 'reconciler_api_call_duration_seconds_count{outcome="ok",target="cloudflare"}' in metrics
    assert site.end(signal.SIGTERM)[0] == 0
    ours = [one for one in site.spans() if one["context"]["trace_id"] == f"0x{trace_id(commit)}"]
    names = {one["name"] for one in ours}
    stages = {"commit", "webhook", "fetch", "load", "pass", "observe", "plan", "wave 1", "apply cloudflare", "verify", "record"}
    assert stages | {"GET dns_records", "POST dns_records/batch", "resource cloudflare/DNSRecord/mail"} <= names
    by_id = {one["context"]["span_id"]: one for one in ours}
    (top,) = [one for one in ours if one["parent_id"] is None]
    assert top["name"] == "commit"
    assert all(one["parent_id"] in by_id for one in ours if one is not top), "every span hangs on the commit"
    lines = [json.loads(line) for line in site.log().splitlines()]
    passes = [line for line in lines if line["logger"] == "reconciler.daemon" and line["message"].startswith("mail: converged")]
    assert {line["trace_id"] for line in passes} == {trace_id(one) for _, one in site.runs()}


class Knocking:
    """Somebody who connects anew again and again, and notes every time that nobody was there or that the answer was wrong."""

    def __init__(self, site: Open) -> None:
        self.site, self.stop, self.times, self.troubles = site, Event(), 0, [""]
        self.thread = Thread(target=self._knock)

    def _knock(self) -> None:
        while not self.stop.wait(0.05):
            try:
                status = httpx.get(f"{self.site.url}/healthz", timeout=5).status_code
                self.troubles += [] if status == 200 else [f"status {status}"]
            except httpx.HTTPError as error:
                self.troubles.append(repr(error))
            self.times += 1

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.set()
        self.thread.join(timeout=10)
        assert self.troubles == [""]


def test_a_token_and_a_webhook_secret_are_rotated_while_the_doors_stay_open(site: Open) -> None:
    """By SIGHUP; both are in files, and a secret that the forge does not have yet goes beside the old one first."""
    token, secrets = site.root / "operator", [site.root / "secret-1", site.root / "secret-2"]
    for file, text in ((token, TOKEN), (secrets[0], SECRET), (secrets[1], f"{SECRET}-c4n4ry")):
        file.write_text(text)
    settings = json.loads((site.root / "reconciler.yaml").read_text())
    http = settings["http"]
    http["tokens"]["operator"]["token"], http["webhooks"]["forge"]["secrets"] = f"file:{token}", [f"file:{secrets[0]}"]
    site.settings = settings
    site.configure()
    site.push(record("mail"))
    site.start()
    site.until(site.ready, "the daemon to be ready")
    with Knocking(site) as others, httpx.Client(timeout=5) as client:  # which keeps its connection
        assert site.may(TOKEN, client) == 200
        assert [site.tell("c1").json(), site.tell("c1").json()] == [{"result": "accepted"}, {"result": "repeated"}]
        token.write_text(f"{TOKEN}-c4n4ry")
        http["webhooks"]["forge"]["secrets"] = [f"file:{one}" for one in secrets]
        site.take("http.webhooks.forge.secrets", http=http)
        assert [site.may(TOKEN, client), site.may(f"{TOKEN}-c4n4ry", client)] == [401, 200]
        assert [site.tell("c2").status_code, site.tell("c3", f"{SECRET}-c4n4ry").status_code] == [202, 202]
        assert site.tell("c1").json() == {"result": "repeated"}
        http["webhooks"]["forge"]["secrets"] = [f"file:{secrets[1]}"]
        site.take("http.webhooks.forge.secrets", http=http)
        assert [site.tell("c4").status_code, site.tell("c5", f"{SECRET}-c4n4ry").status_code] == [401, 202]
        secrets[1].write_text("")
        site.take("the settings stay as they were")
        assert "secrets.0 is empty: whoever sends nothing would be believed" in site.log()
        assert site.tell("c6", f"{SECRET}-c4n4ry").status_code == 202, "the last good one stays in force"
        seen = others.times
        site.until(lambda: others.times > seen + 10, "ten more who connect")
    commit = site.push(record("mail", "192.0.2.2"))
    assert site.tell(commit, f"{SECRET}-c4n4ry").status_code == 202
    site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "the commit that the webhook spoke of")
    assert site.end(signal.SIGTERM)[0] == 0
    assert site.log().count("listens on") == 1
    assert "c4n4ry" not in site.log() + (site.root / "traces.jsonl").read_text()


def test_trigger_asks_the_daemon_for_a_pass(site: Open) -> None:
    site.push(record("mail"))
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
    site.until(lambda: len(site.runs()) == 1, "its record")
    site.push(record("mail", "192.0.2.2"))
    done = site.cli("trigger", "mail", "--reason", "now please")
    assert (done.returncode, done.stdout) == (0, "mail: a pass was asked for\n"), done.stderr
    site.until(lambda: site.records() == {"mail": "192.0.2.2"}, "the commit that nobody told it of")
    (site.root / "token").write_text(f"{TOKEN}\n")
    done = site.cli("trigger", "nothing", "--url", site.url, "--token", f"file:{site.root}/token")
    assert (done.returncode, done.stderr) == (1, "nothing: nothing: there is no such stack in force\n")
    done = site.cli("trigger", "mail", "--token", "wrong")
    assert done.returncode == 1
    assert "show a token" in done.stderr
    done = site.cli("trigger", "mail", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "the daemon does not answer" in done.stderr
    done = site.cli("trigger", "mail", "--token", "file:/nowhere")
    assert (done.returncode, done.stderr) == (1, "/nowhere: cannot be read as a token\n")


def test_trigger_says_what_to_set_when_it_knows_no_daemon(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        done = Open.cli(site, "trigger", "mail")  # type: ignore[arg-type]
    finally:
        site.close()
    assert done.returncode == 1
    assert "set http.listen and http.tokens in reconciler.yaml, or give --url and --token" in done.stderr


def test_a_port_that_is_taken_is_said_and_nothing_is_converged(site: Open) -> None:
    site.push(record("mail"))
    with socket.create_server(("127.0.0.1", site.port)):
        site.start()
        assert site.process is not None
        assert site.process.wait(timeout=20) == 1
    site.process = None
    assert f"http: cannot listen on 127.0.0.1:{site.port}: address already in use; set another address in http" in site.log()
    assert site.records() == {}


def test_a_collector_that_is_gone_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        site = Open(tmp_path, exporter="otlp", endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces")
        try:
            site.push(record("mail"))
            site.start()
            site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
            code, seconds = site.end(signal.SIGTERM)
        finally:
            site.close()
    assert code == 0
    assert seconds < 4, "half a second to notice, and one and a half for the collector"


def test_a_stream_of_half_a_request_does_not_hold_up_the_end(site: Open) -> None:
    site.push(record("mail"))
    site.start()
    site.until(site.ready, "the daemon to be ready")
    with socket.create_connection(("127.0.0.1", site.port)) as line:
        line.sendall(b"POST /webhooks/forge HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        code, seconds = site.end(signal.SIGTERM)
    assert code == 0
    assert seconds < 5

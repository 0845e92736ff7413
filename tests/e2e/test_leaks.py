"""No secret is ever written down: the whole program at work with every log on, while each call of each driver fails and is quoted back."""

import base64
import io
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from click.testing import CliRunner
from leaks import VOICES, Canaries, Trouble, haunt, spellings, texts_of

from reconciler import telemetry
from reconciler.cli import group
from reconciler.clock import Clock
from reconciler.daemon import loop
from reconciler.daemon.recording import recorder
from reconciler.daemon.service import daemon
from reconciler.desired import desired_below
from reconciler.engine import Engine
from reconciler.errors import ReconcilerError
from reconciler.registry import catalog
from reconciler.report import Report, Verdict
from reconciler.sandbox.world import World
from reconciler.settings import Settings
from reconciler.state import Store
from reconciler_k8s.driver import KubernetesDriver
from reconciler_vault.driver import VaultDriver

DESIRED = Path(__file__).parents[2] / "desired"
API_TOKEN = "canary-of-the-api-0123456789"
CREDENTIALS = re.compile(r"token|password|secret|key|webhook|url", re.I)
SENSITIVE = {
    "k8s": re.compile(r"/secrets(/|$)"),
    "vault": re.compile(r"."),
    "uptime-kuma": re.compile(r"login|otification|Monitor$|^add$|setup"),
}
"""Calls that may carry a value: those that write it to where it belongs, and to who keeps it."""


def hurried(text: str) -> str:
    """Give a ``stack.yaml`` that is looked at often, and waits for nothing long."""
    text = re.sub(r"\n  health_deadline: \d+", "\n  health_deadline: 3", text, count=1)
    return re.sub(r"\n  interval: \d+", "\n  interval: 5", text, count=1)


@dataclass
class House:
    """The embedded world with the daemon in it, and everything that comes out of both."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    trouble: Trouble = field(default_factory=lambda: Trouble(voice=voice))
    canaries: Canaries = field(default_factory=Canaries)
    logs: dict[str, io.StringIO] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)
    closed: bool = False
    settings_given: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = catalog()
        self.world = World(self.root, kinds, desired_below(DESIRED / "mail").load("mail", kinds, Clock().now().date()))
        haunt(self.world, self.trouble, self.monkeypatch)
        self.world.start()
        self.listen_to_logs()
        given = self.world._settings()
        given["targets"]["uptime-kuma"]["login_pause"] = 0
        given["engine"] = {"attempts": 20, "backoff": 0.01, "backoff_max": 0.05, "poll": 0.05}
        given["http"] = {"tokens": {"me": {"token": API_TOKEN, "role": "approve"}}, "listen": "127.0.0.1:0"}
        self.settings_given = given
        self.settings = settings_with(given)
        self.plant_credentials(given)
        telemetry.configure("file", file=self.settings.telemetry.file)
        self.store = Store(self.settings.state, news=recorder(self.settings))
        self.service = daemon(self.settings, self.store)
        self.service.outbox.pace = 0.02
        self.service.done = self.reports.append
        self.monkeypatch.setattr(loop, "RETRY_FIRST", 0.1)
        self.monkeypatch.setattr(loop, "RETRY_MOST", 0.3)
        self.thread = threading.Thread(target=self.service.run, daemon=True)

    def listen_to_logs(self) -> None:
        """Log everything of ours, in both forms."""
        for form in ("text", "json"):
            telemetry.configure_logging("debug", form)
            self.logs[form] = io.StringIO()
            (handler,) = logging.getLogger().handlers
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(self.logs[form])
            self.logs[form + " handler"] = handler  # type: ignore[assignment]
        logging.getLogger().addHandler(self.logs.pop("text handler"))  # type: ignore[arg-type]
        self.logs.pop("json handler")
        for name in list(logging.root.manager.loggerDict):
            if name.startswith("reconciler"):
                logging.getLogger(name).setLevel(logging.DEBUG)

    # -- what must not be found ----------------------------------------------------------------------------------------------

    def plant_credentials(self, given: dict[str, Any]) -> None:
        """Look for what the settings hold, too: tokens and keys are secrets as well."""
        self.canaries.public |= {str(value) for value in texts_of([self.world.stack.spec.vars])}
        for name, target in given["targets"].items():
            for field_name, value in target.items():
                if CREDENTIALS.search(field_name) and field_name not in ("url", "base_url"):
                    for text in texts_of([value]):
                        self.canaries.plant(f"credential {name}.{field_name}", text)
            for text in texts_of([(target.get("auth") or {}).get("token", "")]):
                self.canaries.plant(f"credential {name}.auth", text)
        self.canaries.plant("the fingerprint key", given["fingerprint_key"])
        self.canaries.plant("the API token", API_TOKEN)
        self.canaries.plant("the Slack webhook", urlsplit(given["notify"]["slack_webhook"]).path)

    def plant_secrets(self) -> None:
        """Look for every value that Vault holds by now."""
        for mount, engine in self.world.systems["vault"].system.kv.items():
            for path, entry in engine.entries.items():
                for version in entry.versions.values():
                    for key, value in (version.data or {}).items():
                        public = value if key == "mailserver_aliases" else ""
                        self.canaries.public |= set(public.split()) | {public} | PUBLIC
                        self.canaries.plant(f"{mount}/{path}#{key}", str(value))
        for system, _, path, body in self.trouble.sent:  # a value whose write was refused was never in force, and is none to tell either
            if system == "vault" and "/data/" in path and body:
                for key, value in json.loads(body)["data"].items():
                    self.canaries.plant(f"{path}#{key} as it was sent", str(value))

    # -- the story -----------------------------------------------------------------------------------------------------------

    def push(self) -> None:
        self.world.remote.copy(DESIRED, "desired")
        self.world.remote.edit("desired/mail/stack.yaml", lambda text: hurried(self.world.with_own_key(text)))
        self.world.remote.push("Run our own mail")

    def until(self, good: Callable[[Report], bool], what: str, seconds: float = 90) -> None:
        end, begun = time.monotonic() + seconds, len(self.reports)
        while time.monotonic() < end:
            if any(good(one) for one in self.reports[begun:]):
                return
            time.sleep(0.05)
        last = self.reports[-1] if self.reports else None
        stuck = [f"{one.id}: {one.reason}"[:300] for one in last.remaining.stuck][:5] if last else []
        raise AssertionError(f"not in time: {what}; last of {len(self.reports)} {last.verdict if last else None} {stuck}")

    def rotate(self) -> None:
        """Write new values for everything that is read."""
        vault = self.world.systems["vault"]
        for path in ("platform", "viktor", "mailserver"):
            old = (vault.ask("GET", f"secret/data/{path}") or {})["data"]["data"]
            new = {key: value + f"-{os.urandom(8).hex()}" for key, value in old.items() if key in ROTATED}
            vault.ask("PATCH", f"secret/data/{path}", {"data": new | dict.fromkeys(GENERATED & old.keys())})

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.service.workshop.stop.set()
        self.thread.join(timeout=20)
        self.store.close()
        self.world.stop()
        telemetry.shutdown()

    # -- where it is looked for ----------------------------------------------------------------------------------------------

    def said(self) -> Iterator[tuple[str, bytes]]:
        """Give everything that the program wrote or sent to where no secret belongs."""
        for form, text in self.logs.items():
            yield f"the {form} log", text.getvalue().encode()
        for path in sorted(self.root.rglob("*")):
            if path.is_file():
                yield f"the file {path.relative_to(self.root)}", path.read_bytes()
        yield "the reports", repr(self.reports).encode()
        for system, method, path, body in self.trouble.sent:
            if not (system in SENSITIVE and SENSITIVE[system].search(path)):
                yield f"a call to {system}: {method} {path}", body

    def systems(self) -> Iterator[tuple[str, bytes]]:
        """Give what stands in the systems where no secret belongs."""
        yield "what Slack was told", repr(self.world.slack.messages).encode()
        yield "the DNS zone", json.dumps(self.world.records()).encode()
        yield "the firewall", self.world.systems["pfsense"].config_xml().encode()
        store = self.world.systems["k8s"].machine.store
        with store.lock:
            for (_, plural), objects in store.objects.items():
                for name, whole in objects.items() if plural != "secrets" else ():
                    yield f"the object {plural} {name}", json.dumps(whole, default=str).encode()

    def commands(self) -> Iterator[tuple[str, bytes]]:
        """Give what the command line says, with every call failing once more."""
        given = {**self.settings_given, "state": {"path": str(self.settings.state.path)}}
        file = self.root.parent / f"{self.root.name}-settings.yaml"
        file.write_text(yaml.safe_dump(given))
        tree = str(self.world.remote.work)
        for arguments in (["plan", "--path", tree, "--output", "json"], ["status"]):
            self.trouble.begin(statuses)
            done = CliRunner().invoke(group, ["--settings", str(file), *arguments])
            assert done.exit_code in (0, 1, 2), done.output
            assert not done.exception or isinstance(done.exception, SystemExit | ReconcilerError), arguments
            yield f"the command {' '.join(arguments)}", (done.output + repr(done.exception)).encode()
        self.trouble.active = False

    def pages(self) -> Iterator[tuple[str, bytes]]:
        """Give what the daemon's own pages show."""
        base = next(door.url for door in self.service.doors if door.url)
        for path in (
            "/metrics",
            "/healthz",
            "/api/v1/openapi.json",
            "/api/v1/stacks",
            "/api/v1/stacks/mail",
            "/api/v1/runs",
            "/api/v1/drift",
        ):
            answer = httpx.get(base + path, headers={"Authorization": f"Bearer {API_TOKEN}"}, timeout=10)
            assert answer.status_code == 200, path
            yield f"the page {path}", answer.content


ROTATED = {"mailserver_roundcubemail_db_password", "mailgun_api_key", "alertmanager_slack_api_url", "mailserver_sasl_passwd"}
GENERATED = {"roundcube_des_key"}
PUBLIC = {"smtp-relay.brevo.com", "[smtp-relay.brevo.com]", "hooks.slack.invalid", "owner@smtp-brevo.invalid"}


def settings_with(given: dict[str, Any]) -> Settings:
    return Settings(**given)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    house = House(tmp_path, monkeypatch)
    yield house
    house.close()


def settled(report: Report) -> bool:
    """Say whether nothing is left to be done; a monitor may still wait for its next beat."""
    return report.verdict in (Verdict.CONVERGED, Verdict.DEGRADED) and not report.plan.waves


def carries(key: str) -> bool:
    """Say whether a call carries values to where they belong, or from there."""
    system, _, path = key.partition(" ")
    return bool(re.search(r"/data/" if system == "vault" else SENSITIVE[system], path)) if system in SENSITIVE else False


def voice(key: str) -> str:
    """Choose what is quoted where a call fails once only: the values, if it carries any."""
    return VOICES[0 if carries(key) else sum(key.encode()) % len(VOICES)]


def statuses(key: str) -> int:
    """Refuse for good, in all the ways there are; what carries values in the one that every driver gives the reason of."""
    return 422 if carries(key) else (400, 403, 409, 422)[sum(key.encode()) % 4]


@pytest.mark.timeout(170)
def test_nothing_secret_is_found_in_anything_that_the_program_wrote_or_sent(house: House, capfd: pytest.CaptureFixture[str]) -> None:
    house.push()
    house.trouble.begin(lambda key: 500, thorough=True)
    house.thread.start()
    house.until(settled, "the first commit, each call failing once")
    first = len(house.trouble.failed)
    house.plant_secrets()
    house.trouble.begin(statuses)
    house.rotate()
    house.until(lambda one: any(change.cause == "rotation" for change in one.plan.changes), "the rotation")
    house.until(settled, "its end, each call refused once")
    house.trouble.active = False
    assert first > 60, "the calls were made to fail"
    systems = {key.split()[0] for key in house.trouble.failed}
    assert {"vault", "k8s", "cloudflare", "pfsense", "uptime-kuma", "slack"} <= systems
    _bugs(house)
    house.plant_secrets()
    commands = list(house.commands())
    shown = [*house.pages(), *house.systems()]
    house.close()
    out, err = capfd.readouterr()
    leaks: dict[str, str] = {}
    for place, text in (*house.said(), *shown, *commands, ("standard output", out.encode()), ("standard error", err.encode())):
        for name, near in house.canaries.found_in(text).items():
            leaks.setdefault(f"{name} in {place}", near.decode("utf-8", "replace"))
    assert len(house.canaries.known) > 300
    assert not leaks, "\n".join(f"{place}: ...{near}..." for place, near in leaks.items())


def _bugs(house: House) -> None:
    """Let two drivers, and the core itself, stumble with a value in their hands: a traceback must not show what they held."""
    vault = house.world.systems["vault"]
    value = (vault.ask("GET", "secret/data/platform") or {})["data"]["data"]["mailserver_sasl_passwd"]

    def stumbles(*args: Any, **more: Any) -> Any:
        raise RuntimeError(f"cannot parse {value}")

    for where, name in ((KubernetesDriver, "observe"), (VaultDriver, "versions"), (Engine, "converge")):
        with house.monkeypatch.context() as patch:
            patch.setattr(where, name, stumbles)
            before = len(house.logs["text"].getvalue())
            house.service.queue.request("mail", "a bug")
            if where is Engine:
                end = time.monotonic() + 10
                while "bug: the pass of mail raised" not in house.logs["text"].getvalue()[before:]:
                    assert time.monotonic() < end, "the bug was not logged"
                    time.sleep(0.05)
            else:
                house.until(lambda one: "bug: RuntimeError" in repr(one.remaining.stuck), "a pass with a bug", 15)
    house.service.queue.request("mail", "after the bugs")
    house.until(settled, "the pass after the bugs")


def test_the_search_finds_what_is_there_in_every_spelling() -> None:
    canaries, value = Canaries(), 'made-up/"canary"+0123456789 ä'
    canaries.plant("it", value)
    hidden = [base64.b64encode(b"ab"[:cut] + value.encode() + b"cd"[:rest]) for cut in range(3) for rest in range(3)]
    hidden += [json.dumps({"k": value}).encode(), json.dumps([json.dumps([value])]).encode(), value.encode(), value.encode().hex().encode()]
    hidden += [str(httpx.URL("https://x", params={"q": value})).encode()]
    assert all(canaries.found_in(b"before " + one + b" after") for one in hidden), [one for one in hidden if not canaries.found_in(one)]
    assert not canaries.found_in(b"nothing of it")
    assert spellings("short") == set()
    assert sys.getsizeof(canaries.known) > 0

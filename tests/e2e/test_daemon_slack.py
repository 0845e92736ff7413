"""The daemon as a process, and an emulated Slack that it tells: killed in the middle of a post, one incident stays one message."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from reconciler.sandbox.server import Fault
from reconciler.sandbox.slack import SlackEmulator
from tests.e2e.test_daemon_process import ZONE, Site, record

ADA = "U0000ADA"


@pytest.fixture
def slack() -> Iterator[SlackEmulator]:
    emulator = SlackEmulator()
    emulator.start()
    yield emulator
    emulator.stop()


@pytest.fixture
def site(tmp_path: Path, slack: SlackEmulator) -> Iterator[Site]:
    made = Site(tmp_path)
    settings = json.loads((tmp_path / "reconciler.yaml").read_text())
    settings["http"] = {"listen": "127.0.0.1:0"}
    settings["notify"] = {"slack": {**slack.bot(), "signing_secret": slack.signing_secret, "users": {ADA: "ada"}}, "debounce": 0}
    (tmp_path / "reconciler.yaml").write_text(json.dumps(settings))
    yield made
    made.close()


def texts(slack: SlackEmulator) -> list[str]:
    """The cards, as the channel shows them now."""
    return [one["text"].partition(";")[0] for one in slack.messages if "thread_ts" not in one]


def test_a_daemon_that_is_killed_while_it_posts_tells_of_it_once(site: Site, slack: SlackEmulator) -> None:
    slack.faults.active.append(Fault("cut-after", seconds=0, matches=lambda method, path: path.endswith("chat.postMessage")))
    slack.faults.active.append(Fault("latency", seconds=20, matches=lambda method, path: path.endswith("conversations.history")))
    site.push(record("mail"))
    site.start()
    site.until(lambda: any(path.endswith("conversations.history") for _, path in slack.faults.requests), "the search for what was posted")
    site.end(signal.SIGKILL)
    assert texts(slack) == ["mail: converged: 1 to create"]
    site.start()
    site.until(lambda: any("thread_ts" in one for one in slack.messages), "the note below the card")
    assert texts(slack) == ["mail: converged: 1 to create"]
    assert site.end(signal.SIGTERM)[0] == 0
    assert len([one for one in slack.messages if "thread_ts" in one]) == 1


def test_a_held_plan_is_approved_by_a_button_and_converges(site: Site, slack: SlackEmulator) -> None:
    site.push(record("mail"))
    stack = site.remote.work / "desired/mail/stack.yaml"
    stack.write_text(stack.read_text().replace("interval: 5", "interval: 5, policy: {approval: commits}"))
    site.remote.push("be careful")
    site.start()
    site.until(lambda: texts(slack) == ["mail: 1 change is held by the guard"], "the card")
    url = next(line.rpartition(" ")[2] for line in site.log().splitlines() if "listens on" in line)
    assert site.records() == {}
    assert slack.press(f"{url}/slack/interactivity", slack.messages[0]["ts"], "reconciler_approve", ADA) == 200
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the record")
    site.until(lambda: texts(slack) == ["mail: over: 1 change is held by the guard", "mail: converged: 1 to create"], "the end of the card")
    assert httpx.post(f"{url}/slack/interactivity", content=b"payload={}").status_code == 401
    assert site.end(signal.SIGTERM)[0] == 0


def test_buttons_that_come_with_new_settings_are_heard_and_done(site: Site, slack: SlackEmulator) -> None:
    """From the press to the branch, on a daemon that was started without a signing secret; and gone again, they are heard no more."""
    site.settings = settings = json.loads((site.root / "reconciler.yaml").read_text())
    notify = settings["notify"]
    without = {**notify, "slack": {name: value for name, value in notify["slack"].items() if name != "signing_secret"}}
    site.configure(repository={**settings["repository"], "propose": True}, notify=without)
    site.push(record("mail").replace("  name: mail", "  name: mail\n  annotations: {reconciler/drift: report}", 1))
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
    url = next(line.rpartition(" ")[2] for line in site.log().splitlines() if "listens on" in line) + "/slack/interactivity"
    assert httpx.post(url, content=b"payload={}").status_code == 404
    site.configure(notify=notify)
    site.until(lambda: "the settings were read anew: notify.slack.signing_secret" in site.log(), "the secret")
    (live,) = site.cloudflare.zones[ZONE].records.values()
    live["content"] = "203.0.113.66"
    site.until(lambda: "mail: drift in 1 resource" in texts(slack), "the card")
    card = next(one for one in slack.messages if one["text"].startswith("mail: drift in 1 resource"))
    assert slack.press(url, card["ts"], "reconciler_adopt", ADA) == 200
    site.until(lambda: "reconciler/adopt-" in git(site, "branch", "--list"), "the branch")
    site.configure(notify=without)
    site.until(lambda: site.log().count("the settings were read anew: notify.slack.signing_secret") == 2, "no secret any more")
    assert slack.press(url, card["ts"], "reconciler_adopt", ADA) == 404
    assert site.end(signal.SIGTERM)[0] == 0


def git(site: Site, *words: str) -> str:
    return subprocess.run(["git", "-C", str(site.remote.bare), *words], check=True, capture_output=True, text=True).stdout


def test_drift_is_adopted_by_a_button_as_a_branch_and_is_over_when_somebody_merges_it(site: Site, slack: SlackEmulator) -> None:
    site.settings = json.loads((site.root / "reconciler.yaml").read_text())
    site.configure(repository={**site.settings["repository"], "propose": True})
    site.push(record("mail").replace("  name: mail", "  name: mail\n  annotations: {reconciler/drift: report}", 1))
    site.start()
    site.until(lambda: site.records() == {"mail": "192.0.2.1"}, "the first commit")
    (live,) = site.cloudflare.zones[ZONE].records.values()
    live["content"] = "203.0.113.66"
    site.until(lambda: "mail: drift in 1 resource" in texts(slack), "the card")
    url = next(line.rpartition(" ")[2] for line in site.log().splitlines() if "listens on" in line)
    card = next(one for one in slack.messages if one["text"].startswith("mail: drift in 1 resource"))
    assert slack.press(f"{url}/slack/interactivity", card["ts"], "reconciler_adopt", ADA) == 200
    assert slack.press(f"{url}/slack/interactivity", card["ts"], "reconciler_adopt", ADA) == 200
    site.until(lambda: any("pushed as branch" in str(one["blocks"]) for one in slack.messages), "the note")
    (branch,) = git(site, "for-each-ref", "--format=%(refname)", "refs/heads/reconciler").split()
    assert "content: 203.0.113.66" in git(site, "show", f"{branch}:desired/mail/dns.yaml")
    git(site, "update-ref", "refs/heads/main", branch)
    site.until(lambda: "mail: over: drift in 1 resource" in texts(slack), "the end of the card")
    assert site.records() == {"mail": "203.0.113.66"}
    assert len([one for one in slack.messages if "pushed as branch" in str(one["blocks"])]) == 1
    assert site.end(signal.SIGTERM)[0] == 0

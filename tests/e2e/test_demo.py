"""The first thing a new user does, as a test: every promise of the demo, and nothing secret in what it left behind."""

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reconciler.daemon.loop import Daemon
from reconciler.sandbox.demo import Demo
from reconciler.sandbox.screen import Screen
from reconciler.sandbox.world import World

DESIRED = Path(__file__).parents[2] / "desired"


@pytest.fixture
def screen() -> Screen:
    screen = Screen(record=True)
    screen.console = Console(file=io.StringIO(), width=118)
    return screen


@pytest.mark.timeout(170)
def test_one_commit_converges_the_mail_system_and_three_scenes_keep_their_promises(tmp_path: Path, screen: Screen) -> None:
    left: dict[str, Any] = {}

    def look(world: World, service: Daemon) -> None:
        vault = world.systems["vault"]
        paths = ("platform", "viktor", "mailserver")
        answers = [vault.ask("GET", f"secret/data/{path}") for path in paths]
        left["secrets"] = [value for answer in answers for value in answer["data"]["data"].values()]
        left["messages"] = repr(world.slack.messages)

    broken = Demo(DESIRED, tmp_path, screen).play(look)
    assert not broken
    assert len(left["secrets"]) >= 8
    said = [left["messages"].encode(), screen.console.file.getvalue().encode()]  # type: ignore[attr-defined]
    said += [path.read_bytes() for path in tmp_path.glob("reconciler.db*")] + [(tmp_path / "traces.jsonl").read_bytes()]
    for value in left["secrets"]:
        for form in (value.encode(), base64.b64encode(value.encode()).rstrip(b"=")):
            assert not any(form in text for text in said), "a secret was written down"

"""A daemon that is killed again and again, at any moment: what it left is taken up, nothing is there twice, nobody is told twice."""

import itertools
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from reconciler.sandbox.slack import SlackEmulator
from tests.e2e.test_daemon_process import Site, record

NAMES = "abcdefgh"
KILLS = 12
LIFE = 2.5
"""Seconds within which a daemon has started, converged eight records one after the other, and told of it."""


def chain(content: str) -> str:
    return record("a", content) + "".join(record(name, content, after=before) for before, name in itertools.pairwise(NAMES))


@pytest.mark.timeout(150)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_daemon_that_is_killed_at_any_moment_converges_when_it_is_let(tmp_path: Path, seed: int) -> None:
    site, slack, moments = Site(tmp_path), SlackEmulator(), random.Random(seed)
    slack.start()
    try:
        site.configure(notify={"slack": slack.bot(), "debounce": 0})
        pushed = []
        for number in range(KILLS):
            if number % 3 == 0:
                pushed.append(site.push(chain(f"192.0.2.{number + 1}")))
            site.start()
            time.sleep(moments.uniform(0.3, LIFE))
            site.end(signal.SIGKILL)
        before = site.log().count("mail: converged")
        site.start()
        site.until(lambda: site.log().count("mail: converged") > before, "a pass of the last daemon")
        assert site.runs()[:1] == [("converged", pushed[-1])]
        assert site.records() == dict.fromkeys(NAMES, f"192.0.2.{KILLS - 2}")
        site.until(lambda: bool(cards(slack)) and cards(slack)[-1].startswith("mail: converged"), "the word of it")
        assert site.end(signal.SIGTERM)[0] == 0
        revisions = [revision for _, revision in reversed(site.runs())]
        assert revisions == sorted(revisions, key=pushed.index), "nobody went back to an older commit"
        said = Counter(one["metadata"]["event_payload"]["id"] for one in slack.messages)
        assert [mark for mark, times in said.items() if times > 1] == []
        mirrors = [path.parent for path in tmp_path.rglob("HEAD") if (path.parent / "objects").is_dir() and "work" not in path.parts]
        assert mirrors
        for mirror in mirrors:
            subprocess.run(["git", "--git-dir", mirror, "fsck", "--connectivity-only"], check=True, capture_output=True)
        assert "Traceback" not in site.log()
    finally:
        site.close()
        slack.stop()


def cards(slack: SlackEmulator) -> list[str]:
    return [one["text"] for one in slack.messages if "thread_ts" not in one]

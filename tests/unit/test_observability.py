"""The dashboard and the alert rules speak only of metrics and labels that the program gives."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from reconciler.daemon.http.metrics import Meters
from tests.unit.core.memory import thing
from tests.unit.daemon.house import Hand, House, commit

FOLDER = Path(__file__).parents[2] / "deploy/observability"
RULES = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
TRIED = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
NAME = re.compile(r"\b(?:reconciler|process)_[a-z_]+\b")
USE = re.compile(r"\b(?P<name>(?:reconciler|process)_[a-z_]+)\{(?P<labels>[^}]*)\}")
BY = re.compile(r"by \((?P<labels>[^)]*)\)")
OF_PROMETHEUS = {"job", "instance", "le"}
WITH_PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    asked = [variable["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    return [rule["expr"] for rule in rules()] + [one["expr"] for panel in DASHBOARD["panels"] for one in panel["targets"]] + asked


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """Each sample's name and its labels, of a daemon to which everything has happened."""
    house = House(tmp_path_factory.mktemp("house"))
    meters = Meters(house.daemon)
    house.daemon.meter = meters.passed
    house.daemon.head = Hand(commit("c1", mail=thing("a")))
    house.daemon.look()
    house.passes()
    meters.called("dns", 0.1, "ok")
    meters.retried("dns", throttled=True)
    meters.received("github", "accepted")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(meters.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    yield found
    house.store.close()


def test_every_metric_that_is_asked_for_is_given(samples: dict[str, set[str]]) -> None:
    asked = {name for text in expressions() for name in NAME.findall(text)}
    assert len(asked) > 12
    assert asked <= samples.keys()


def test_every_metric_of_ours_is_shown_somewhere(samples: dict[str, set[str]]) -> None:
    asked = {name for text in expressions() for name in NAME.findall(text)}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked}
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name in samples if name.startswith("reconciler_")}
    assert ours - families == set()


def test_every_label_that_is_asked_for_is_given(samples: dict[str, set[str]]) -> None:
    for text in expressions():
        for match in USE.finditer(text):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", match["labels"]))
            assert asked <= samples[match["name"]] | OF_PROMETHEUS, text
        given = {label for name in NAME.findall(text) for label in samples[name]}
        for match in BY.finditer(text):
            assert {one.strip() for one in match["labels"].split(",")} <= given | OF_PROMETHEUS, text


def test_installations_whose_stacks_are_called_the_same_are_kept_apart() -> None:
    shown = [one["expr"] for panel in DASHBOARD["panels"] for one in panel["targets"]]
    assert [text for text in shown if len(NAME.findall(text)) != text.count('job=~"$job"')] == []
    grouped = [match["labels"] for rule in rules() for match in BY.finditer(rule["expr"])]
    assert [labels for labels in grouped if "job" not in labels.split(", ")] == []


@pytest.mark.parametrize("rule", rules(), ids=lambda one: one["alert"])
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert all(rule["annotations"][name] for name in ("summary", "description"))
    used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
    assert used <= {label.strip() for match in BY.finditer(rule["expr"]) for label in match["labels"].split(",")}


def test_the_panels_of_the_dashboard_do_not_overlap_and_have_numbers_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_of_every_alert_it_is_tried_when_it_fires_and_when_it_keeps_quiet() -> None:
    tried = [one for test in TRIED["tests"] for one in test.get("alert_rule_test", ())]
    for name in (rule["alert"] for rule in rules()):
        assert any(one["exp_alerts"] for one in tried if one["alertname"] == name), f"{name} is never seen to fire"
        assert any(not one["exp_alerts"] for one in tried if one["alertname"] == name), f"{name} is never seen to keep quiet"


def test_the_series_of_the_trials_are_those_of_the_program(samples: dict[str, set[str]]) -> None:
    for series in (one["series"] for test in TRIED["tests"] for one in test["input_series"]):
        name, labels = series.removesuffix("}").split("{")
        asked = set(re.findall(r"(\w+)=", labels))
        assert name == "up" or asked <= samples[name] | OF_PROMETHEUS, series


@WITH_PROMTOOL
@pytest.mark.parametrize("command", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")], ids=" ".join)
def test_prometheus_itself_takes_the_rules_and_finds_that_they_do_what_is_said_of_them(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


@WITH_PROMTOOL
def test_prometheus_itself_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    asked = [one["expr"].replace("$stack", ".*") for panel in DASHBOARD["panels"] for one in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(asked)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", "panels.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr

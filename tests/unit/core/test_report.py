"""A report is rendered, never decided: text for a terminal, markdown for a forge, JSON for programs."""

import json
from datetime import UTC, datetime

from reconciler.driver import Action, Evidence, FieldDiff, Status
from reconciler.plan import Plan, Stuck
from reconciler.report import (
    about,
    by_whom,
    diff_lines,
    drifted,
    plan_data,
    plan_markdown,
    plan_text,
    report_data,
    report_markdown,
    report_text,
    short,
    stuck_rows,
    summary,
)
from reconciler.resource import ResourceId
from tests.unit.core.memory import Bench, Object, degraded, mem, stack_file, thing


def mixed() -> tuple[Bench, dict[str, str]]:
    """A stack with something of everything."""
    bench = Bench()
    bench.run(thing("same") + thing("changed", text="old") + thing("gone") + thing("sick"))
    bench.system.objects["Thing/foreign"] = Object(9, {}, "reconciler:other/stack:Thing/foreign")
    bench.system.health["Thing/sick"] = [degraded("crash | loop")]
    text = (
        thing("same") + thing("changed", text="new") + thing("fresh") + thing("foreign") + thing("after", needs=["foreign"]) + thing("sick")
    )
    return bench, {"stack.yaml": stack_file(policy={"protect": ["*/gone"]}, health_deadline=1), "all.yaml": text}


def test_a_plan_as_text_names_every_change_its_fields_and_what_is_not_done() -> None:
    bench, files = mixed()
    plan = bench.plan(files)
    text = plan_text(plan)
    for line in (
        "wave 1",
        "  ~ mem/Thing/changed (update, commit)",
        "      /text: old → new",
        "  + mem/Thing/fresh (create, commit)",
        "      /size: 1",
        "held by protect: - mem/Thing/gone (delete, commit): is protected from delete; approve this plan by its digest if that is meant",
        "blocked: mem/Thing/after: waits for mem/Thing/foreign: belongs to other/stack",
        "refused: mem/Thing/foreign: belongs to other/stack",
        f"test: 1 to update, 1 to create, 1 held, 1 blocked, 1 refused; 2 unchanged; digest {plan.digest[:12]}",
    ):
        assert any(one.startswith(line) for one in text.splitlines()), line


def test_an_empty_plan_says_that_there_is_nothing_to_do() -> None:
    bench = Bench()
    bench.run(thing("a"))
    assert summary(bench.plan(thing("a"))) == "nothing to do"


def test_a_plan_as_markdown_is_a_table_that_its_values_cannot_break() -> None:
    bench = Bench()
    text = plan_markdown(bench.plan(thing("a", text="x | y <script>\n| z")))
    row = next(line for line in text.splitlines() if line.startswith("| + create"))
    assert row.replace("\\|", "").count("|") == 5
    assert "<script>" not in text


def test_a_plan_and_a_report_are_complete_json() -> None:
    bench, files = mixed()
    report = bench.run(files)
    data = json.loads(json.dumps(report_data(report)))
    assert data["plan"] == json.loads(json.dumps(plan_data(report.plan)))
    assert data["verdict"] == "pending"
    assert {one["id"]: one["status"] for one in data["outcomes"]} == {"mem/Thing/changed": "applied", "mem/Thing/fresh": "applied"}
    assert data["health"] == {"mem/Thing/sick": {"level": "degraded", "message": "crash | loop"}}
    assert [one["guard"] for one in data["remaining"]["held"]] == ["protect"]


def test_a_report_tells_what_was_done_what_was_not_and_why() -> None:
    bench, files = mixed()
    report = bench.run(files, "abcdef0123456789")
    text = report_text(report)
    assert text.splitlines()[0].startswith("test at abcdef012345: pending in ")
    for line in (
        "applied: mem/Thing/changed",
        "held by protect: - mem/Thing/gone",
        "refused: mem/Thing/foreign",
        "degraded: mem/Thing/sick: crash | loop",
    ):
        assert line in text
    markdown = report_markdown(report)
    assert markdown.startswith("### test at abcdef012345: pending")
    assert markdown.count("\n- ") == len(text.splitlines()) - 1


def test_a_value_is_one_short_line_that_commands_no_terminal() -> None:
    assert short("a\nb") == "a⏎b"
    assert short("\x1b[2Jx\x07") == "�[2Jx�"
    assert short({"a": [1]}) == '{"a": [1]}'
    assert len(short("x" * 1000)) == 100


def test_many_fields_are_cut_with_their_number() -> None:
    lines = list(diff_lines([FieldDiff(f"/{number}", None, number) for number in range(20)], 3))
    assert lines == ["/0: 0", "/1: 1", "/2: 2", "… and 17 more fields"]
    assert list(diff_lines([FieldDiff("", 1, None)])) == ["/: 1 → (removed)"]


def test_whoever_changed_it_is_named_as_far_as_it_is_known() -> None:
    when = datetime(2026, 4, 1, 12, tzinfo=UTC)
    assert by_whom(Evidence("alice", when, "web")) == "by alice at 2026-04-01 12:00:00 UTC (web)"
    assert by_whom(Evidence(how="api")) == "(api)"
    assert by_whom(None) == ""


def test_drift_is_listed_whether_it_is_repaired_or_only_reported() -> None:
    bench = Bench()
    wish = thing("a", annotations={"drift": "report"})
    bench.run(wish)
    bench.system.objects["Thing/a"].content["size"] = 9
    assert [(one.id.name, one.action) for one in drifted(bench.plan(wish))] == [("a", Action.UPDATE)]


def test_what_cannot_be_seen_for_one_reason_is_told_once() -> None:
    stuck = [Stuck(mem(str(number)), Status.REFUSED, "mem cannot be seen: no token", unknown=True) for number in range(12)]
    stuck += [Stuck(mem(f"w{number}"), Status.BLOCKED, "waits for mem/Thing/1: mem cannot be seen: no token") for number in range(2)]
    assert list(stuck_rows(stuck)) == [
        ("unknown", "mem/Thing/0, mem/Thing/1 and 10 more", "mem cannot be seen: no token"),
        ("blocked", "mem/Thing/w0", "waits for mem/Thing/1: mem cannot be seen: no token"),
        ("blocked", "mem/Thing/w1", "waits for mem/Thing/1: mem cannot be seen: no token"),
    ]
    assert plan_text(Plan("test", "", stuck=tuple(stuck))).count("no token") == 3


def test_a_resource_that_is_stuck_is_named_once_though_the_reason_names_it_too() -> None:
    refused = Stuck(mem("a"), Status.REFUSED, "mem/Thing/a: belongs to somebody else")
    blocked = Stuck(mem("b"), Status.BLOCKED, "mem/Thing/a: not there")
    assert list(stuck_rows([refused, blocked])) == [
        ("refused", "mem/Thing/a", "belongs to somebody else"),
        ("blocked", "mem/Thing/b", "mem/Thing/a: not there"),
    ]


def test_a_resource_is_named_once_though_its_error_names_it_too() -> None:
    assert about(ResourceId.parse("k8s/Service/a/b"), "k8s/Service/a/b: was refused") == "k8s/Service/a/b: was refused"
    assert about(ResourceId.parse("k8s/Service/a/b"), "") == "k8s/Service/a/b"

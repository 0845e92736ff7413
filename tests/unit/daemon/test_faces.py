"""Whatever a pass comes to, what people are told of it keeps the limits of Slack, and nothing in it becomes a mention or a link."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from reconciler.daemon import news
from reconciler.daemon.faces import PARTS, SHOWN, card, note, pieces
from reconciler.daemon.incidents import Incident, Step, merge
from reconciler.driver import Action, Cause, Change, Evidence, FieldDiff, Health, Level, Outcome, Status
from reconciler.errors import Problem
from reconciler.notify import Notice
from reconciler.notify.slack import CODE, blocks, fallback
from reconciler.plan import Held, Plan, Stuck
from reconciler.report import Report, Verdict
from reconciler.resource import ResourceId
from reconciler.sandbox.slack_rules import message_fault
from tests.unit.core.memory import NOW

EVIL = st.one_of(
    st.sampled_from(["<!channel>", "<https://evil.example|click>", "<@U1>", "&lt;", "```\n<!here>", "\u202e\x00", "x" * 4000, "<" * 400]),
    st.text(max_size=60),
)
IDS = st.builds(ResourceId, st.sampled_from(["k8s", "vault"]), st.just("Thing"), EVIL.filter(bool))
DIFFS = st.lists(st.builds(FieldDiff, st.sampled_from(["", "/a", "/b/c"]), EVIL | st.none(), EVIL | st.none()), max_size=4).map(tuple)
EVIDENCE = st.none() | st.builds(Evidence, who=EVIL, when=st.just(NOW), how=EVIL)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    return Change(
        draw(st.sampled_from(list(Action))),
        draw(IDS),
        draw(st.sampled_from(["k8s", "vault"])),
        diffs=draw(DIFFS),
        live=draw(st.none() | st.just({"a": 1})),
        cause=draw(st.sampled_from(list(Cause))),
        evidence=draw(EVIDENCE),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    guards = st.sampled_from(["check", "budget", "protect", "approval", "drift", "exception", "keep"])
    reasons = EVIL | st.builds("waits for {}: {}".format, IDS, EVIL) | st.builds("vault cannot be seen: {}".format, EVIL)
    return Plan(
        "mail",
        draw(EVIL),
        waves=(tuple(draw(st.lists(changes(), max_size=12))),),
        held=tuple(draw(st.lists(st.builds(Held, changes(), guards, EVIL), max_size=12))),
        stuck=tuple(draw(st.lists(st.builds(Stuck, IDS, st.just(Status.BLOCKED), reasons, st.booleans(), st.booleans()), max_size=12))),
        notes=tuple(draw(st.lists(EVIL, max_size=3))),
    ).sealed()


@st.composite
def reports(draw: st.DrawFn) -> Report:
    health = draw(st.dictionaries(IDS, st.builds(Health, st.sampled_from([Level.DEGRADED, Level.PROGRESSING]), EVIL), max_size=12))
    ids = sorted(health)
    return Report(
        "mail",
        draw(EVIL),
        draw(EVIL),
        draw(st.sampled_from(list(Verdict))),
        NOW,
        NOW,
        draw(plans()),
        draw(plans()),
        outcomes=tuple(draw(st.lists(st.builds(Outcome, IDS, st.sampled_from(list(Status)), EVIL), max_size=12))),
        health=health,
        problems=tuple(draw(st.lists(st.builds(Problem, EVIL, st.integers(0, 9), EVIL, EVIL), min_size=1, max_size=12))),
        trace_id=draw(EVIL),
        subject=draw(EVIL),
        above={id: tuple(ids[:place]) for place, id in enumerate(ids) if place and draw(st.booleans())},
    )


def parsed(value: Any) -> Iterator[str]:
    """Every text that Slack parses: all but plain text and what is preformatted."""
    if isinstance(value, dict):
        if value.get("type") == "mrkdwn":
            yield value["text"]
        elif value.get("type") != "plain_text":
            for one in value.values():
                yield from parsed(one)
    elif isinstance(value, list):
        for one in value:
            yield from parsed(one)


def harmless(notice: Notice) -> None:
    for shown in (notice, replace(notice, bare=True)):
        message = {"text": fallback(shown), "blocks": blocks(shown)}
        assert message_fault(json.loads(json.dumps(message))) == ""
        for block in Block.parse_all(message["blocks"]):
            block.validate_json()
        assert len(message["blocks"]) <= 50
        for text in [*parsed(message["blocks"]), message["text"]]:
            bare = text.replace("<https://r.example/runs/1|details>", "")
            assert not {"<", ">"} & set(bare), text
            assert len(text) <= 4000


def told(steps: list[Step]) -> Iterator[Notice]:
    for step in steps:
        incident: Incident = replace(step.incident, id=2**31, said=("to be taken into git, said <!channel>", "x" * 999))
        yield card(incident, lambda part, stack: "https://r.example/runs/1")
        yield note(replace(step, incident=incident), "code <!here> " * 400)
        yield card(replace(incident, closed=None, event=False), lambda part, stack: "")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(reports(), reports())
def test_whatever_a_pass_comes_to_is_told_within_the_limits_and_is_harmless(first: Report, second: Report) -> None:
    opened = merge("mail", [], news.found(first), NOW)
    later = NOW + timedelta(minutes=5)
    changed = merge("mail", [step.incident for step in opened], news.found(second), later, unknown=news.unknown(second))
    for notice in (*told(opened), *told(changed)):
        harmless(notice)


@given(st.text(alphabet="ab\n", max_size=20_000) | st.integers(0, 60).map(lambda number: ("line <!channel>" + "x" * 300 + "\n") * number))
def test_a_long_text_to_copy_is_given_in_parts_that_join_to_the_whole(code: str) -> None:
    found = pieces(Notice("to be committed", "info", "mail", ("apply this:",)), code)
    assert all(len(one.code) <= max(SHOWN, max(map(len, code.splitlines(keepends=True)), default=0)) for one in found)
    assert len(found) <= PARTS + 1
    assert code.startswith("".join(one.code for one in found))
    assert found[-1].code == "" or code == "".join(one.code for one in found), "what is left out is said"
    assert found[0].lines == ("apply this:",)
    for one in found:
        harmless(one)


def test_each_part_is_shown_whole() -> None:
    assert SHOWN <= CODE

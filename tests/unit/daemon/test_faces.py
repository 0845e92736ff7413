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
from reconciler.daemon.faces import ACKNOWLEDGE, ADOPT, APPROVE, FIX, LOOK, MOST, PARTS, PLAN, SHOWN, card, note, pieces, seen
from reconciler.daemon.incidents import Incident, Part, Sort, Step, merge
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


def incident(sort: Sort, *, key: str = "key", closed: bool = False, **parts: Part) -> Incident:
    return Incident(key, sort, parts, NOW, NOW, NOW + timedelta(hours=3) if closed else None, id=7)


def actions(one: Incident) -> list[str]:
    return [button.action for button in card(one).buttons]


class TestACard:
    def test_offers_what_can_be_done_while_it_is_open_and_nothing_when_it_is_over(self) -> None:
        drift = Part("", {"dns/Record/a": "~ a"}, digest="d" * 64)
        for part, offered in (
            (drift, [PLAN, ACKNOWLEDGE]),
            (replace(drift, fix=True), [PLAN, FIX, ACKNOWLEDGE]),
            (replace(drift, adopt=("dns/Record/a",)), [PLAN, ACKNOWLEDGE, ADOPT]),
        ):
            assert actions(incident(Sort.DRIFT, mail=part)) == offered
            assert actions(incident(Sort.DRIFT, mail=part, closed=True)) == []
        held = Part("1 deletion", {"a": "- a"}, digest="d" * 64)
        assert actions(incident(Sort.HELD, mail=held)) == [PLAN, APPROVE]
        for sort in (Sort.UNSEEN, Sort.FAILED, Sort.UNHEALTHY, Sort.STUCK):
            assert actions(incident(sort, mail=drift)) == [PLAN, LOOK]
        for sort in (Sort.SOURCE, Sort.REJECTED, Sort.COMMIT, Sort.ENDED, Sort.FLAPPING, Sort.REWRITTEN, Sort.LEFT):
            assert actions(incident(sort, mail=drift)) == []

    def test_whose_buttons_are_pressed_is_known_by_its_plan_and_its_resources(self) -> None:
        part = Part("", {"a": "~ a"}, digest="d" * 64)
        others = (replace(part, digest="e" * 64), replace(part, items={"b": "~ b"}), replace(part, items={"a": "~ a", "b": "~ b"}))
        assert len({seen(incident(Sort.DRIFT, mail=one)) for one in (part, *others)}) == 4
        assert seen(incident(Sort.DRIFT, mail=replace(part, run=9, waits=("c",)))) == seen(incident(Sort.DRIFT, mail=part))

    def test_says_what_waits_each_once_and_what_people_did_about_it(self) -> None:
        one = incident(
            Sort.UNSEEN, key="unseen:vault", mail=Part("refused", {"a": "a"}, waits=("x", "y")), web=Part("refused", waits=("y",))
        )
        assert card(replace(one, said=("acknowledged by ada",))).lines == (
            "refused",
            "mail: 1 resource unknown",
            "2 resources wait for it",
            "acknowledged by ada",
        )
        assert card(one).title == "vault cannot be seen"

    def test_of_what_is_not_healthy_counts_nobody_twice_that_each_cause_counts_already(self) -> None:
        part = Part("", {"a": "a (1 other waits for it): down"}, waits=("x",))
        assert card(incident(Sort.UNHEALTHY, mail=part)).lines == ("a (1 other waits for it): down",)

    def test_says_how_to_let_a_plan_pass_as_long_as_it_may(self) -> None:
        held = Part("1 deletion is more than the budget", {"a": "- a"}, digest="d" * 64)
        assert card(incident(Sort.HELD, mail=held)).lines == (held.about, f"to let it pass: reconciler approve {'d' * 12}", "- a")
        assert card(incident(Sort.HELD, mail=held, closed=True)).lines == (held.about, "- a")

    def test_says_how_much_of_a_long_list_it_leaves_out(self) -> None:
        part = Part("vault", {f"{number}": f"line {number}" for number in range(MOST + 3)})
        assert card(incident(Sort.FAILED, mail=part)).lines[-2:] == (f"line {MOST - 1}", "and 3 more")

    def test_that_is_over_is_green_and_says_how_long_it_lasted(self) -> None:
        part = Part("vault", {"a": "a: 403"})
        over = card(incident(Sort.FAILED, mail=part, closed=True))
        assert (over.title, over.level, over.context) == ("over: 1 write to vault failed", "ok", ("lasted 3 h",))
        now = card(incident(Sort.FAILED, mail=part))
        assert (now.title, now.level, now.context) == ("1 write to vault failed", "error", ("since 2026-04-01 12:00 UTC",))

    def test_of_an_event_is_never_over_because_it_never_lasted(self) -> None:
        event = replace(incident(Sort.DRIFT, mail=Part("", {"a": "~ a"}), closed=True), event=True, times=3)
        assert (card(event).title, card(event).level, card(event).context) == ("drift in 1 resource", "warning", ("3 times",))

    def test_leads_to_its_newest_part(self) -> None:
        one = incident(Sort.COMMIT, mail=Part("x", run=3), web=Part("x", run=9), blog=Part("x", run=5))
        assert card(one, lambda part, stack: f"https://r.example/{stack}/{part.run}").link == "https://r.example/web/9"

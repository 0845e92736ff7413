"""What is news: each change of state is told once, a state that stays is not, and what is told fits on a phone."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from reconciler.daemon import cards
from reconciler.daemon.faces import MOST
from reconciler.driver import Evidence
from reconciler.errors import Permanent
from reconciler.notify import Notice
from reconciler.report import report_text
from tests.unit.core.memory import MemoryDriver, degraded, stack_file, thing
from tests.unit.daemon.house import BAD, BETTER, GOOD, House, commit


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.store.close()


def step(house: House, seconds: float = 300) -> list[Notice]:
    """Let time pass, run one pass, and give what is told of it."""
    house.time.seconds += seconds
    house.passes(1)
    house.told()
    return house.mailbox.got


def begin(house: House, text: str = GOOD, name: str = "c1", **more: str) -> list[Notice]:
    house.daemon.accept(commit(name, mail={"all.yaml": text, **more}))
    return step(house, 0)


def test_a_commit_that_converged_is_told_with_what_it_changed(house: House) -> None:
    (notice,) = begin(house)
    assert (notice.title, notice.level, notice.stack) == ("converged: 1 to create", "ok", "mail")
    assert notice.lines == ("+ mem/Thing/a (create, commit)",)
    assert notice.context[:2] == ("revision c1", "subject of c1")
    assert notice.context[2].startswith("trace ")


def test_a_card_leads_to_the_page_of_the_newest_pass_that_it_is_about(house: House) -> None:
    house.daemon.outbox.address = lambda part, stack: f"https://r.example/{stack}/{part.run}"
    house.daemon.accept(commit("c1", mail=GOOD, web=thing("w")))
    house.passes(2)
    house.told()
    (notice,) = house.mailbox.got
    runs = {row["stack"]: row["id"] for row in house.store.runs()}
    newest = max(runs, key=lambda stack: runs[stack])
    assert (notice.title, notice.link) == ("2 stacks converged", f"https://r.example/{newest}/{runs[newest]}")


def test_a_look_that_finds_everything_well_is_no_news(house: House) -> None:
    begin(house)
    assert [step(house) for _ in range(3)] == [[], [], []]


def test_a_commit_that_changes_nothing_is_no_news(house: House) -> None:
    begin(house)
    assert begin(house, name="c2") == []


def test_what_is_changed_again_and_again_is_told_once_a_day_and_not_at_each_repair(house: House) -> None:
    begin(house)
    told = []
    for number in range(6):
        house.system.objects["Thing/a"].content["text"] = f"meddled {number}"
        told += [one.title for one in step(house)]
    assert told == ["drift in 1 resource"] * 2 + ["mem/Thing/a is changed again and again"]
    house.time.now += timedelta(days=1)
    house.system.objects["Thing/a"].content["text"] = "meddled"
    assert [one.title for one in step(house)] == ["drift in 1 resource"], "a day later it is no fight any more"


def test_drift_that_was_repaired_is_told_with_its_fields(house: House) -> None:
    begin(house)
    house.system.objects["Thing/a"].content["text"] = "meddled"
    (notice,) = step(house)
    assert (notice.title, notice.level) == ("drift in 1 resource", "warning")
    assert notice.lines == ("repaired: ~ mem/Thing/a (update, drift); /text: meddled → Hello",)
    assert step(house) == []


def test_drift_names_who_did_it_when_the_system_tells(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    begin(house)
    real = MemoryDriver.see
    told = Evidence("ada@example.org", house.time.now, "dashboard")
    monkeypatch.setattr(MemoryDriver, "see", lambda self, *given: replace(real(self, *given), evidence=told))
    house.system.objects["Thing/a"].content["text"] = "meddled"
    (notice,) = step(house)
    assert "by ada@example.org at 2026-04-01 12:00:00 UTC (dashboard)" in notice.lines[0]


def test_drift_that_is_only_reported_is_told_once_and_again_when_it_comes_back(house: House) -> None:
    begin(house, thing("a", text="Hello", annotations={"drift": "report"}))
    house.system.objects["Thing/a"].content["text"] = "meddled"
    (notice,) = step(house)
    assert notice.lines[0].startswith("reported only: ~ mem/Thing/a")
    assert step(house) == []
    house.system.objects["Thing/a"].content["text"] = "Hello"
    assert [one.title for one in step(house)] == ["over: drift in 1 resource"]
    assert step(house) == []
    house.system.objects["Thing/a"].content["text"] = "meddled"
    (notice,) = step(house)
    assert notice.title == "drift in 1 resource"
    assert notice.context[-1] == "2 times"


EXCEPTION = (
    "---\napiVersion: reconciler/v1\nkind: DriftException\nmetadata: {name: x}\n"
    "spec: {resource: mem/Thing/a, fields: [/text], reason: until the cut-over, expires: 2026-04-01}\n"
)


def test_drift_that_somebody_acknowledged_is_no_news_until_the_exception_ends(house: House) -> None:
    begin(house, GOOD + EXCEPTION)
    house.system.objects["Thing/a"].content["text"] = "meddled"
    assert [step(house) for _ in range(2)] == [[], []]
    house.time.now += timedelta(days=1)
    told = step(house)
    assert told[0].title == "an exception has ended"
    assert told[0].lines[0].startswith("mem/Thing/a: the exception of 2026-04-01 has ended (until the cut-over)")
    assert house.system.objects["Thing/a"].content["text"] == "Hello"
    assert step(house) == [], "and that only once"


def test_drift_beside_an_acknowledged_one_is_news_of_its_own(house: House) -> None:
    begin(house, BETTER + EXCEPTION)
    for name in "ab":
        house.system.objects[f"Thing/{name}"].content["text"] = "meddled"
    (notice,) = step(house)
    assert notice.title == "drift in 1 resource"
    assert notice.lines[0].startswith("repaired: ~ mem/Thing/b")


def test_drift_in_many_resources_is_one_notice_that_is_cut(house: House) -> None:
    names = [f"t{number:02}" for number in range(20)]
    begin(house, "".join(thing(name, text="x") for name in names))
    for name in names:
        house.system.objects[f"Thing/{name}"].content["text"] = "meddled"
    (notice,) = step(house)
    assert notice.title == "drift in 20 resources"
    assert len(notice.lines) == MOST + 1
    assert notice.lines[-1] == f"and {20 - MOST} more"


def test_a_failure_is_told_once_with_its_reason_and_its_end_too(house: House) -> None:
    house.system.on_write = [Permanent("Thing/a: 403 the token may not write")] * 3
    (notice,) = begin(house)
    assert (notice.title, notice.level) == ("1 write to mem failed", "error")
    assert notice.lines == ("mem/Thing/a: Thing/a: 403 the token may not write",)
    assert step(house) == []
    assert step(house) == []
    assert [one.title for one in step(house)] == ["over: 1 write to mem failed", "converged: 1 to create"]


def test_an_error_that_names_its_resource_is_told_with_the_name_once(house: House) -> None:
    house.system.on_write = [Permanent("mem/Thing/a: 403 the token may not write")] * 9
    (notice,) = begin(house, GOOD + thing("b", needs=["a"]))
    assert notice.lines == ("mem/Thing/a: 403 the token may not write", "1 resource waits for it")
    step(house, 20)
    house.daemon.queue.request("mail", "a push")
    step(house, 1)
    with house.store.transaction() as connection:
        (card,) = cards.known(connection, house.time.clock().now())
    (line,) = card.parts["mail"].items.values()
    assert line.startswith("mem/Thing/a: failed 2 times and rests for ")
    assert line.endswith(" another change: 403 the token may not write")
    for report in house.reports:
        text = report_text(report)
        assert "waits for mem/Thing/a: " in text
        assert [line for line in text.splitlines() if line.count("mem/Thing/a: ") > 1] == []


def test_a_system_that_cannot_be_seen_is_told_once_and_its_return_too(house: House) -> None:
    begin(house)
    house.system.on_read = [Permanent("mem: 401 the token has expired")] * 2
    (notice,) = step(house)
    assert notice.title == "mem cannot be seen"
    assert notice.lines == ("mem: 401 the token has expired", "mail: 1 resource unknown")
    assert step(house) == []
    assert [(one.title, one.level) for one in step(house)] == [("mem can be seen again", "ok")]


def test_what_fares_badly_is_told_once_and_when_it_is_well_again(house: House) -> None:
    begin(house)
    house.system.health["Thing/a"] = [degraded("2 of 3 answer")]
    (notice,) = step(house)
    assert (notice.title, notice.level) == ("1 resource not healthy", "error")
    assert notice.lines == ("mem/Thing/a: 2 of 3 answer",)
    assert step(house) == []
    house.system.health["Thing/a"] = []
    assert [one.title for one in step(house)] == ["over: 1 resource not healthy"]


def test_what_the_guard_holds_is_told_once_with_the_command_that_lets_it_pass(house: House) -> None:
    careful = stack_file(policy={"approval": "commits"}).replace("name: test", "name: mail")
    (notice,) = begin(house, BETTER, **{"stack.yaml": careful})
    digest = house.reports[-1].remaining.digest[:12]
    assert notice.title == "2 changes are held by the guard"
    assert notice.lines[0] == f"waits for approval of plan {digest}"
    assert notice.lines[1] == f"to let it pass: reconciler approve {digest}"
    assert step(house) == []


def test_one_held_change_is_one(house: House) -> None:
    careful = stack_file(policy={"approval": "commits"}).replace("name: test", "name: mail")
    (notice,) = begin(house, GOOD, **{"stack.yaml": careful})
    assert notice.title == "1 change is held by the guard"


def test_many_held_changes_do_not_hide_the_command(house: House) -> None:
    careful = stack_file(policy={"approval": "commits"}).replace("name: test", "name: mail")
    (notice,) = begin(house, "".join(thing(f"t{number}") for number in range(30)), **{"stack.yaml": careful})
    assert len(notice.lines) <= MOST + 2
    assert any("reconciler approve" in line for line in notice.lines)


def test_another_plan_that_is_held_is_news(house: House) -> None:
    careful = stack_file(policy={"approval": "commits"}).replace("name: test", "name: mail")
    begin(house, GOOD, **{"stack.yaml": careful})
    assert [one.title for one in begin(house, BETTER, "c2", **{"stack.yaml": careful})] == ["2 changes are held by the guard"]


def test_a_rejected_commit_is_told_with_the_places_of_its_problems(house: House) -> None:
    house.daemon.accept(commit("c1", mail=BAD))
    house.told()
    (notice,) = house.mailbox.got
    assert (notice.title, notice.level) == ("the commit was rejected; the last good revision stays in force", "error")
    assert notice.lines[0].startswith("desired/mail/all.yaml:")


def test_each_incident_has_a_key_of_its_own_so_that_a_board_can_keep_its_news_together(house: House) -> None:
    begin(house)
    house.system.objects["Thing/a"].content["text"] = "meddled"
    house.time.seconds += 300
    house.daemon.accept(commit("c2", mail=BAD))
    house.passes(1)
    house.told()
    assert [one.key for one in house.mailbox.got] == ["rejected:mail", "drift:mail"]


def test_what_a_hand_put_into_a_system_in_clear_is_not_told_when_its_name_says_that_it_is_a_secret(house: House) -> None:
    begin(house, thing("a", annotations={"drift": "report"}, tags={"api_token": "x", "colour": "blue"}))
    house.system.objects["Thing/a"].content["tags"] = {"api_token": "c4n4ry", "colour": "red"}
    (notice,) = step(house)
    assert notice.lines[0].endswith("/tags/api_token: (not shown) → x; /tags/colour: red → blue")
    with house.store.transaction() as connection:
        assert not any("c4n4ry" in str(one.parts) for one in cards.known(connection, house.time.now))

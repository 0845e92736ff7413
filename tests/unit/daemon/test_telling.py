"""Telling people: whatever is cut, killed or refused in between, one incident is one message, and each note stands below it once."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.daemon import cards
from reconciler.daemon.incidents import Found, Part, Sort, Step
from reconciler.daemon.outbox import Outbox
from reconciler.daemon.telling import outbox as made_of
from reconciler.errors import Permanent, Transient
from reconciler.notify import Blind, Closed, Gone, Notice, Place
from reconciler.settings import Settings
from reconciler.state import Store
from reconciler.tables import OUTBOX
from tests.unit.core.memory import FakeTime


class Killed(BaseException):
    """The process ended here."""


@dataclass
class Wall:
    """A board in memory. ``faults`` are what happens at the next calls: a word or nothing, one for each."""

    time: FakeTime
    faults: list[str] = field(default_factory=list)
    searchable: bool = True
    messages: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0

    def _call(self, work: Callable[[], Any]) -> Any:
        self.calls += 1
        fault = self.faults.pop(0) if self.faults else ""
        match fault:
            case "lost":
                raise Transient("wall: no answer")
            case "busy":
                raise Transient("wall: 429", retry_after=30)
            case "killed-before":
                raise Killed
            case "bad":
                raise Permanent("wall: invalid_blocks")
            case "shut":
                raise Closed("wall: invalid_auth; set it anew")
        done = work()
        if fault == "cut":
            raise Transient("wall: the answer was cut")
        if fault == "killed":
            raise Killed
        return done

    def send(self, notice: Notice) -> None:
        self.post(notice, "")

    def post(self, notice: Notice, mark: str, thread: str = "") -> Place:
        def work() -> Place:
            ts = f"{self.time.now.timestamp():.0f}.{len(self.messages):06}"
            self.messages.append({"ts": ts, "mark": mark, "thread": thread, "notice": notice})
            return Place("C1", ts)

        found: Place = self._call(work)
        return found

    def edit(self, place: Place, notice: Notice, mark: str) -> None:
        def work() -> None:
            one = next((one for one in self.messages if one["ts"] == place.ts), None)
            if one is None:
                raise Gone("wall: message_not_found")
            one["notice"] = notice

        self._call(work)

    def find(self, mark: str, since: float, thread: str = "") -> Place | None:
        if not self.searchable:
            raise Blind("wall: missing_scope")
        found = [one for one in self.messages if one["mark"] == mark and one["thread"] == thread and float(one["ts"]) > since]
        if self.faults[:1] == ["bad"]:
            del self.faults[0]  # is about the content of a message, and a search has none
        place: Place | None = self._call(lambda: Place("C1", found[0]["ts"]) if found else None)
        return place

    def top(self) -> list[str]:
        return [one["notice"].title for one in self.messages if not one["thread"]]

    def notes(self) -> list[str]:
        return ["; ".join(one["notice"].lines) for one in self.messages if one["thread"]]


@dataclass
class Site:
    """A store, a wall, and the outbox between them."""

    folder: Path
    debounce: float = 0.0
    time: FakeTime = field(default_factory=FakeTime)

    def __post_init__(self) -> None:
        self.wall = Wall(self.time)
        self.store = Store(self.folder / "state.db")
        self.restart()

    def restart(self) -> None:
        self.outbox = Outbox(self.store, self.wall, self.time.clock(), 1.0, self.debounce, "slack")

    def find(self, stack: str, *found: Found) -> None:
        """What a pass of a stack finds."""
        with self.store.transaction() as connection:
            cards.tell(connection, stack, found, tuple(Sort), self.time.now)

    def flush(self) -> float:
        try:
            return self.outbox.flush(Event())
        except Killed:
            self.restart()
            return 0.0

    def settle(self) -> None:
        """Let the way be open and everything be told."""
        self.wall.faults.clear()
        for _ in range(3):
            self.time.now += timedelta(seconds=self.debounce + 1)
            self.flush()

    def conditions(self) -> list[dict[str, str]]:
        with self.store.transaction() as connection:
            return cards.conditions(connection)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.store.close()


def failed(*ids: str, stack: str = "mail") -> Found:
    return Found(
        f"failed:{stack}:vault", Sort.FAILED, Part("vault", {id: f"{id}: 403" for id in ids}), details=tuple(f"{id}: more" for id in ids)
    )


class TestACard:
    def test_is_posted_once_edited_in_place_and_says_when_it_is_over(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.flush()
        assert site.wall.top() == ["1 write to vault failed"]
        site.find("mail", failed("a", "b"))
        site.flush()
        assert site.wall.top() == ["2 writes to vault failed"]
        site.find("mail")
        site.flush()
        assert site.wall.top() == ["over: 2 writes to vault failed"]
        assert site.wall.notes() == ["a: more", "b: 403", "over after 4 s"]

    def test_is_not_touched_while_nothing_changes(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.flush()
        before = site.wall.calls
        for _ in range(5):
            site.find("mail", failed("a"))
            site.flush()
        assert site.wall.calls == before

    def test_that_somebody_deleted_is_posted_again_while_it_matters_and_not_when_it_is_over(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.flush()
        site.wall.messages.clear()
        site.find("mail", failed("b"))
        site.flush()
        assert site.wall.top() == ["1 write to vault failed"]
        site.wall.messages.clear()
        site.find("mail")
        site.flush()
        assert site.wall.top() == []

    def test_that_can_never_be_delivered_costs_no_other(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        site.find("mail", failed("a"))
        site.find("web", failed("w", stack="web"))
        site.wall.faults = ["bad", "bad"]
        site.flush()
        site.flush()
        assert len(site.wall.top()) == 1
        assert "cannot be delivered and is dropped: wall: invalid_blocks" in caplog.text

    def test_whose_content_is_refused_is_given_as_its_essentials_once_and_says_why_in_the_log(
        self, site: Site, caplog: pytest.LogCaptureFixture
    ) -> None:
        site.find("mail", failed("a"))
        site.wall.faults = ["bad"]
        site.flush()
        site.flush()
        (message,) = [one for one in site.wall.messages if not one["thread"]]
        assert (message["notice"].title, message["notice"].bare) == ("1 write to vault failed", True)
        assert "the content was refused and is given as plain text: wall: invalid_blocks" in caplog.text
        site.find("mail", failed("a", "b"))
        site.flush()
        assert [(one["notice"].title, one["notice"].bare) for one in site.wall.messages if not one["thread"]] == [
            ("2 writes to vault failed", False)
        ]

    def test_whose_content_is_refused_and_whose_essentials_meet_an_outage_is_still_one(self, site: Site) -> None:
        for fault in ("lost", "cut", "busy", "shut", "killed"):
            site.find(fault, failed("a", stack=fault))
            site.wall.faults = ["bad", fault, "", "bad"]
            for _ in range(3):
                site.flush()
            site.settle()
        assert site.wall.top() == ["1 write to vault failed"] * 5


def test_is_worth_a_message_when_the_plan_is_another_or_somebody_did_something_about_it(site: Site) -> None:
    plain = Plain()
    site.outbox.sink = plain
    held = Found("held:mail", Sort.HELD, Part("1 deletion", {"a": "- a"}, digest="d" * 64))
    site.find("mail", held)
    site.flush()
    site.find("mail", replace(held, part=replace(held.part, digest="e" * 64)))
    site.flush()
    assert plain.got == ["1 change is held by the guard"] * 2, "who approves the first plan would be refused"
    with site.store.transaction() as connection:
        (incident,) = cards.known(connection, site.time.now)
        cards.save(connection, Step(replace(incident, said=("approved by ada",)), "changed"))
    site.flush()
    assert plain.got == ["1 change is held by the guard"] * 3


def test_what_a_newer_version_wrote_of_an_incident_is_read_by_an_older_one(site: Site) -> None:
    site.find("mail", failed("a"))
    with site.store.transaction() as connection:
        payload = json.loads(connection.execute(sa.select(cards.CARDS.c.payload)).scalar_one())
        payload["parts"]["mail"]["more"] = "of another version"
        connection.execute(sa.update(cards.CARDS).values(payload=json.dumps(payload)))
    site.flush()
    assert site.wall.top() == ["1 write to vault failed"]


def test_an_event_that_names_its_commit_is_the_same_however_late_it_is_met_again(site: Site) -> None:
    for _ in range(2):
        site.find("mail", Found("commit:c1", Sort.COMMIT, Part("1 to create", {"x": "+ x"}), lasting=False))
        site.settle()
        site.time.now += timedelta(days=2)
    assert site.wall.top() == ["converged: 1 to create"]


def test_two_programs_in_one_channel_never_take_each_others_cards_for_their_own(site: Site) -> None:
    marks = set()
    for instance in ("home", "office"):
        site.outbox.instance = instance
        marks.add(site.outbox._mark("failed:mail:vault"))
    assert len(marks) == 2


class Plain:
    """A way out where nothing can be edited, such as an incoming webhook."""

    def __init__(self) -> None:
        self.got: list[str] = []

    def send(self, notice: Notice) -> None:
        self.got.append(notice.title)


def test_where_nothing_can_be_edited_only_what_is_worth_a_message_is_one(site: Site) -> None:
    plain = Plain()
    site.outbox.sink = plain
    one = failed("a")
    site.find("mail", one)
    site.flush()
    for number in range(3):
        site.find("mail", replace(one, part=replace(one.part, waits=("b",) * number, revision=f"r{number}")))
        site.flush()
    assert plain.got == ["1 write to vault failed"], "who waits for it is on no phone's screen"
    site.find("mail", replace(one, part=replace(one.part, items={**one.part.items, "vault/KVSecret/z": "z: 403"})))
    site.flush()
    site.find("mail")
    site.flush()
    assert plain.got == ["1 write to vault failed", "2 writes to vault failed", "over: 2 writes to vault failed"]


class TestTheDebounce:
    def test_keeps_a_blip_from_everybody(self, tmp_path: Path) -> None:
        site = Site(tmp_path, debounce=30)
        site.find("mail", failed("a"))
        site.time.now += timedelta(seconds=20)
        site.flush()
        site.find("mail")
        site.settle()
        site.store.close()
        assert site.wall.messages == []

    def test_lets_through_what_lasts(self, tmp_path: Path) -> None:
        site = Site(tmp_path, debounce=30)
        site.find("mail", failed("a"))
        site.flush()
        assert site.wall.messages == []
        site.time.now += timedelta(seconds=31)
        site.flush()
        site.store.close()
        assert site.wall.top() == ["1 write to vault failed"]
        assert site.wall.notes() == ["a: more"], "the note waited for its card"

    def test_keeps_nobody_waiting_for_a_clock_that_was_set_back(self, tmp_path: Path) -> None:
        site = Site(tmp_path, debounce=30)
        site.find("mail", failed("a"))
        site.time.now -= timedelta(hours=2)
        site.flush()
        site.store.close()
        assert site.wall.top() == ["1 write to vault failed"]

    def test_forgets_nothing_that_lasted_while_nobody_could_be_told(self, tmp_path: Path) -> None:
        site = Site(tmp_path, debounce=30)
        site.find("mail", failed("a"))
        site.time.now += timedelta(minutes=10)
        site.wall.faults = ["lost"] * 3
        site.flush()
        site.find("mail")
        site.settle()
        site.store.close()
        assert site.wall.top() == ["over: 1 write to vault failed"]

    def test_gathers_what_one_commit_does_in_many_stacks_into_one_card(self, tmp_path: Path) -> None:
        site = Site(tmp_path, debounce=30)
        for number in range(20):
            part = Part("1 to create", {f"s{number} x": "+ x"})
            site.find(f"s{number}", Found("commit:c1", Sort.COMMIT, part, lasting=False))
            site.flush()
        site.settle()
        site.store.close()
        assert site.wall.top() == ["20 stacks converged"]


class TestALostAnswer:
    def test_is_looked_for_before_anything_is_posted_again(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.wall.faults = ["cut"]
        site.flush()
        site.settle()
        assert site.wall.top() == ["1 write to vault failed"]
        assert site.wall.notes() == ["a: more"]

    def test_of_a_note_is_looked_for_in_its_thread(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.wall.faults = ["", "cut"]
        site.flush()
        site.settle()
        assert site.wall.notes() == ["a: more"]

    def test_of_a_card_that_somebody_had_deleted_is_looked_for_too(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.flush()
        site.wall.messages.clear()
        site.find("mail", failed("a", "b"))
        site.wall.faults = ["", "cut"]
        site.flush()
        site.find("mail")
        site.settle()
        assert site.wall.top() == ["over: 2 writes to vault failed"]

    def test_is_not_taken_for_that_of_an_earlier_incident_of_the_same_name(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.find("mail")
        site.time.now += timedelta(hours=2)
        site.find("mail", failed("b"))
        site.wall.faults = ["", "lost"]
        site.flush()
        site.settle()
        assert site.wall.top() == ["over: 1 write to vault failed", "1 write to vault failed"]

    def test_may_be_told_twice_where_the_board_may_not_be_searched(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        site.wall.searchable = False
        site.find("mail", failed("a"))
        site.wall.faults = ["cut"]
        site.flush()
        site.settle()
        assert site.wall.top() == ["1 write to vault failed"] * 2
        assert "it may appear twice" in caplog.text

    def test_that_may_not_be_looked_for_loses_nothing(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refused(mark: str, since: float, thread: str = "") -> Place | None:
            raise Permanent("wall: invalid_arguments")

        site.find("mail", failed("a"))
        site.wall.faults = ["lost"]
        site.flush()
        monkeypatch.setattr(site.wall, "find", refused)
        site.settle()
        assert site.wall.top() == ["1 write to vault failed"]
        assert "the board cannot be searched; it may appear twice: wall: invalid_arguments" in caplog.text


class TestAWayThatIsShut:
    def test_is_a_condition_until_it_opens_and_nothing_is_lost(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.wall.faults = ["shut"]
        assert site.flush() == 900
        (one,) = site.conditions()
        assert (one["name"], one["message"]) == ("slack", "wall: invalid_auth; set it anew")
        site.settle()
        assert site.conditions() == []
        assert site.wall.top() == ["1 write to vault failed"]

    def test_that_is_only_busy_is_left_alone_as_long_as_it_says(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.wall.faults = ["busy"]
        assert site.flush() == 30
        assert site.conditions() == []

    def test_for_days_fills_no_disk(self, site: Site) -> None:
        for number in range(60):
            site.time.now += timedelta(minutes=10)
            site.find("mail", failed(f"x{number}"))
        site.settle()
        assert len(site.wall.top()) == 1
        assert len(site.wall.notes()) == cards.WAITING

    def test_loses_no_note_of_one_card_for_those_of_others(self, site: Site) -> None:
        stacks = [f"s{number}" for number in range(cards.WAITING + 5)]
        for stack in stacks:
            site.find(stack, failed(stack, stack=stack))
        site.settle()
        assert site.wall.notes() == [f"{stack}: more" for stack in stacks]

    def test_says_since_when(self, site: Site) -> None:
        site.find("mail", failed("a"))
        site.wall.faults = ["shut", "shut"]
        site.flush()
        (first,) = site.conditions()
        site.time.now += timedelta(minutes=15)
        site.flush()
        assert site.conditions() == [first]


def test_what_is_over_and_was_told_is_forgotten_after_a_month_and_what_was_not_is_not(site: Site) -> None:
    site.find("mail", failed("a"))
    site.settle()
    site.find("mail")
    site.settle()
    site.find("web", failed("w", stack="web"))
    site.find("web")
    site.time.now += timedelta(days=31)
    site.find("blog", failed("b", stack="blog"))
    with site.store.transaction() as connection:
        kept = [card.incident.key for number in range(1, 4) if (card := cards.find(connection, number)) is not None]
        notes = [(row.key.split(":")[1], bool(row.sent)) for row in connection.execute(sa.select(OUTBOX).order_by(OUTBOX.c.id))]
    assert notes == [("2", False), ("2", False), ("3", False)], "what was sent goes with it, and what was not stays"
    assert kept == ["failed:web:vault", "failed:blog:vault"]


def test_what_goes_on_for_months_is_not_forgotten(site: Site) -> None:
    site.find("mail", failed("a"))
    site.settle()
    site.time.now += timedelta(days=90)
    site.find("web", failed("w", stack="web"))
    site.settle()
    site.find("mail")
    site.settle()
    assert site.wall.top() == ["over: 1 write to vault failed", "1 write to vault failed"]


FAULTS = st.sampled_from(["", "", "", "lost", "busy", "cut", "killed", "killed-before", "shut", "bad"])
WISH = st.fixed_dictionaries({"mail": st.sets(st.sampled_from("ab")), "web": st.sets(st.sampled_from("c"))})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(WISH, st.lists(FAULTS, max_size=4)), max_size=6))
def test_whatever_happens_on_the_way_each_incident_is_one_message_and_each_note_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[dict[str, set[str]], list[str]]]
) -> None:
    site = Site(tmp_path_factory.mktemp("story"))
    try:
        for wish, faults in story:
            # what is refused twice in a row can never be delivered, and is dropped
            site.wall.faults = [one for one, before in zip(faults, ["", *faults], strict=False) if (one, before) != ("bad", "bad")]
            for stack, ids in wish.items():
                site.find(stack, *([failed(*sorted(ids), stack=stack)] if ids else []))
            for _ in range(3):
                site.time.now += timedelta(seconds=7)
                site.flush()
        for stack in ("mail", "web"):
            site.find(stack)
        site.settle()
        marks = [one["mark"] for one in site.wall.messages]
        assert len(set(marks)) == len(marks), "nothing was told twice"
        assert len(site.wall.top()) == len({stack for wish, _ in story for stack, ids in wish.items() if ids})
        assert all(title.startswith("over: ") for title in site.wall.top())
        with site.store.transaction() as connection:
            assert cards.owed(connection) == []
            assert cards.unshown(connection) == []
    finally:
        site.store.close()


def test_what_is_due_by_the_calendar_ends_nothing_when_it_has_a_bug(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def broken(now: datetime) -> None:
        raise ZeroDivisionError

    site.outbox.before = broken
    site.find("mail", failed("a"))
    site.flush()
    assert site.wall.top() == ["1 write to vault failed"]
    assert "bug: what is due today is not told" in caplog.text


class TestTheWayOutOfTheSettings:
    def made(self, site: Site, **notify: Any) -> Outbox:
        return made_of(Settings.model_validate({"instance": "home", "notify": notify}), site.store, site.time.clock())

    def test_that_speaks_keeps_the_pace_of_slack_and_waits_for_what_may_be_over(self, site: Site) -> None:
        for way in (
            {"slack": {"bot_token": "xoxb-x", "channel": "C00000001"}},
            {"slack_webhook": "https://hooks.slack.example/services/T/B/x"},
        ):
            one = self.made(site, debounce=45, **way)
            assert (one.debounce, one.name, one.instance) == (45, "slack", "home")
            assert one.pace >= 60 / 50, "fifty edits a minute"

    def test_that_is_the_log_holds_nothing_back(self, site: Site) -> None:
        one = self.made(site, debounce=45)
        assert (one.pace, one.debounce, one.name) == (0.0, 0.0, "log")

    def test_counts_the_hour_of_the_digest_in_utc(self, site: Site) -> None:
        asked = []
        site.store.drifts = lambda *_: asked.append(True) or []  # type: ignore[method-assign]  # only whether it is asked counts
        one = self.made(site, digest_hour=7)
        for hour in (6, 7):
            one.before(datetime(2026, 4, 1, hour, 30, tzinfo=UTC).astimezone(timezone(timedelta(hours=5))))
            assert bool(asked) is (hour == 7)

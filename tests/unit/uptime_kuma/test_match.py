from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.driver import Mark
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_uptime_kuma import match
from reconciler_uptime_kuma.marks import Tag
from reconciler_uptime_kuma.match import Match, monitor_key, spec_key
from reconciler_uptime_kuma.spec import Monitor

OWNER = "lab/mail"


def wish(name: str, **fields: Any) -> Resource:
    spec = Monitor(**{"title": name, "type": "port", "hostname": "a", "port": 25, **fields})
    return Resource(ResourceId("uptime-kuma", "Monitor", name), spec)


def row(id: int, mark: str = "", *, owner: str = OWNER, **fields: Any) -> JSONObject:
    description = Tag(Mark(owner, "Monitor", mark)).line() if mark else None
    return {"id": id, "name": "x", "type": "port", "hostname": "a", "port": 25, "description": description, **fields}


def matched(wanted: list[Resource], rows: list[JSONObject]) -> dict[str, Match]:
    return {one.id.name: one for one in match.of_monitors(OWNER, rows).all(wanted)}


def number(one: Match) -> int | None:
    return one.live.id if one.live is not None else None


def test_the_mark_counts_more_than_what_is_watched() -> None:
    found = matched([wish("smtp")], [row(1), row(2, "smtp", hostname="elsewhere")])
    assert number(found["smtp"]) == 2


def test_the_pin_counts_more_than_the_mark() -> None:
    found = matched([wish("smtp", id=1)], [row(1), row(2, "smtp")])
    assert (number(found["smtp"]), found["smtp"].copies) == (1, (2,))
    assert len(found) == 1, "the one with the mark is a copy, and not for deletion"


def test_one_monitor_stands_for_one_wish() -> None:
    found = matched([wish("a", id=1), wish("b", id=1)], [row(1)])
    assert "wanted twice" in found["b"].refused
    found = matched([wish("a"), wish("b")], [row(1)])
    assert (number(found["a"]), "b" in found) == (1, False)


def test_a_title_tells_look_alikes_apart() -> None:
    found = matched([wish("smtp")], [row(1), row(2, name="smtp")])
    assert number(found["smtp"]) == 2


def test_what_git_called_otherwise_is_found_before_what_was_made_by_hand() -> None:
    found = matched([wish("new")], [row(1), row(2, "old")])
    assert (number(found["new"]), found["new"].stale) == (2, "old")
    assert "old" not in found


def test_a_name_that_git_still_uses_is_not_taken_for_an_old_one() -> None:
    found = matched([wish("old"), wish("new")], [row(2, "old")])
    assert (number(found["old"]), "new" in found) == (2, False)


def test_objects_of_other_stacks_are_neither_matched_nor_reported() -> None:
    assert matched([wish("smtp")], [row(1, "smtp", owner="lab/web")]) == {}


def test_a_notification_with_a_monitors_mark_is_nobodys() -> None:
    strange = {**row(1), "description": Tag(Mark(OWNER, "Notification", "smtp")).line()}
    assert matched([], [strange]) == {}


def test_dns_monitors_of_one_host_differ_by_record_type() -> None:
    mx, a = wish("mx", type="dns", dns_resolve_type="MX"), wish("a", type="dns", dns_resolve_type="A")
    rows = [row(1, type="dns", dns_resolve_type="A"), row(2, type="dns", dns_resolve_type="MX")]
    found = matched([mx, a], rows)
    assert (number(found["mx"]), number(found["a"])) == (2, 1)


def test_a_row_with_null_and_odd_values_has_a_key() -> None:
    assert monitor_key({"id": 1, "name": None, "type": "quantum"}) == ("quantum", "", "")
    assert monitor_key({"id": 1, "name": None, "type": None, "port": "abc"})


def test_a_wish_and_its_row_have_one_key() -> None:
    for fields in ({}, {"type": "group"}, {"type": "http", "url": "https://a/"}, {"type": "push", "push_token": "t"}):
        base = {"hostname": "", "port": None} if fields else {}
        spec = wish("x", **base, **fields).spec
        assert isinstance(spec, Monitor)
        assert spec_key(spec) == monitor_key({**row(1), "url": None, **base, **fields})


MARKS = st.sampled_from(["", "a", "b", "c"])


@given(rows=st.lists(st.tuples(MARKS, st.sampled_from(["a", "z"])), max_size=6), names=st.sets(st.sampled_from(["a", "b", "d"])))
def test_nothing_is_reported_twice_and_nothing_of_ours_is_forgotten(rows: list[tuple[str, str]], names: set[str]) -> None:
    live = [row(id, mark, hostname=host) for id, (mark, host) in enumerate(rows, 1)]
    found = match.of_monitors(OWNER, live).all([wish(name) for name in sorted(names)])
    assert len({one.id for one in found}) == len(found)
    numbers = [one.live.id for one in found if one.live is not None]
    assert len(set(numbers)) == len(numbers)
    ours = {one["id"] for one in live if one["description"]}
    accounted = set(numbers) | {id for one in found for id in one.copies}
    refused = any(one.live is None for one in found)
    assert refused or ours <= accounted

"""From changes to transactions: what belongs together, what fits, and in which order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.driver import Action, Change, Mark, Scope
from reconciler.errors import Conflict
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_cloudflare.batch import Snapshot, Unit, body, bundles, chunks, paired, unit_of
from reconciler_cloudflare.match import Live, Matching
from reconciler_cloudflare.spec import DNSRecord

ZONE = "example.com"
SCOPE = Scope(owner="test/unit")


def wish(id: str, **fields: Any) -> Resource:
    fields = {"zone": ZONE, "name": "x.example.com", "type": "TXT", "content": "text", **fields}
    return Resource(ResourceId("cloudflare", "DNSRecord", id), DNSRecord.model_validate(fields))


def live(id: str, owner: str = "test/unit", mark: str = "", **fields: Any) -> Live:
    comment = str(Mark(owner, "DNSRecord", mark)) if mark else None
    raw: JSONObject = {"id": id, "name": "x.example.com", "type": "TXT", "content": "text", "ttl": 1, "comment": comment, **fields}
    return Live.read(ZONE, raw)


def create(resource: Resource) -> Change:
    return Change(Action.CREATE, resource.id, "test", resource)


def update(resource: Resource, of: Live, action: Action = Action.UPDATE) -> Change:
    return Change(action, resource.id, "test", resource, live=of.form, handle={"zone": ZONE, "id": of.id})


def delete(of: Live) -> Change:
    id = of.marked_id()
    assert id is not None
    return Change(Action.DELETE, id, "test", live=of.form, handle={"zone": ZONE, "id": of.id})


def units(changes: list[Change], *lives: Live) -> list[Unit]:
    found = [unit_of(change, Snapshot(lives), SCOPE) for change in changes]
    return [unit for unit in found if unit is not None]


# -- one change --------------------------------------------------------------------------------------------------------------


def test_a_create_that_is_there_already_asks_for_nothing() -> None:
    assert units([create(wish("a"))], live("1", mark="a")) == []


def test_a_create_beside_a_record_with_its_mark_but_other_values_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="has appeared meanwhile"):
        units([create(wish("a"))], live("1", mark="a", content="other"))


def test_an_update_that_was_made_already_asks_for_nothing_even_when_it_differs_from_the_plan() -> None:
    old, now = live("1", mark="a", content="old"), live("1", mark="a")
    assert units([update(wish("a"), old)], now) == []


def test_an_update_of_a_record_that_is_gone_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="is gone"):
        units([update(wish("a"), live("1", mark="a"))])


def test_an_update_of_a_record_that_lost_our_mark_is_a_conflict() -> None:
    with pytest.raises(Conflict, match="no longer carries our mark"):
        units([update(wish("a", ttl=60), live("1", mark="a"))], live("1"))


def test_an_adoption_writes_the_mark() -> None:
    unmarked = live("1", comment=None)
    (unit,) = units([update(wish("a"), unmarked, Action.ADOPT)], unmarked)
    assert unit.patch == {"id": "1", "name": "x.example.com", "type": "TXT", "comment": "reconciler:test/unit:DNSRecord/a"}


def test_a_replace_whose_delete_was_done_is_a_create() -> None:
    (unit,) = units([update(wish("a"), live("1", mark="a", type="A", content="192.0.2.1"), Action.REPLACE)])
    assert (unit.delete, bool(unit.post)) == ("", True)


# -- several changes ---------------------------------------------------------------------------------------------------------


def test_a_delete_and_a_create_of_different_types_stay_apart_but_in_one_bundle() -> None:
    old = live("1", mark="old", type="CNAME", content="a.example.net")
    found = units([create(wish("new", type="A", content="192.0.2.1")), delete(old)], old)
    assert paired(found, Snapshot([old]), SCOPE) == [found[1], found[0]]
    (bundle,) = bundles(found)
    assert body([bundle]) == {"deletes": [{"id": "1"}], "posts": [found[0].post]}


def test_what_takes_the_identity_that_another_frees_goes_with_it() -> None:
    a, b = live("1", mark="a", content="1"), live("2", mark="b", content="2")
    found = units([update(wish("a", content="2"), a), update(wish("b", content="3"), b)], a, b)
    (bundle,) = bundles(found)
    assert [patch["id"] for patch in body([bundle])["patches"]] == ["2", "1"]


def test_a_ring_of_identities_is_sent_as_it_is() -> None:
    a, b = live("1", mark="a", content="1"), live("2", mark="b", content="2")
    found = units([update(wish("a", content="2"), a), update(wish("b", content="1"), b)], a, b)
    assert len(body(bundles(found))["patches"]) == 2


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 99)), unique=True, max_size=60),
    st.integers(1, 20),
)
def test_packing_loses_nothing_keeps_the_limit_and_splits_a_name_only_when_it_must(pairs: list[tuple[str, int]], limit: int) -> None:
    wishes = [wish(f"{name}{number}", name=f"{name}.example.com", content=str(number)) for name, number in pairs]
    found = bundles(units([create(one) for one in wishes]))
    packed = chunks(found, limit)
    assert sorted(str(bundle[0].changes[0].id) for chunk in packed for bundle in chunk) == sorted(str(one.id) for one in wishes)
    assert all(0 < len(chunk) <= limit for chunk in packed)
    for name in {name for name, _ in pairs}:
        holding = [chunk for chunk in packed if any(f"{name}.example.com" in bundle[0].names for bundle in chunk)]
        count = sum(one == name for one, _ in pairs)
        assert len(holding) == 1 or count > limit


# -- matching ----------------------------------------------------------------------------------------------------------------


def pairs(wishes: list[Resource], *lives: Live) -> dict[str, str]:
    return {id.name: one.id for id, one in Matching(wishes, lives, "test/unit").pairs.items()}


def test_the_mark_is_better_evidence_than_equality() -> None:
    assert pairs([wish("a")], live("1"), live("2", mark="a", content="other")) == {"a": "2"}


def test_of_two_records_with_one_mark_the_equal_one_is_meant_and_the_other_is_a_copy() -> None:
    matching = Matching([wish("a")], [live("1", mark="a", content="other"), live("2", mark="a")], "test/unit")
    assert [one.id for one in matching.pairs.values()] == ["2"]
    assert [one.id for copies in matching.orphans.values() for one in copies] == ["1"]


CNAME = {"type": "CNAME", "content": "a.example.net"}


def test_a_wish_takes_over_what_left_git_where_the_two_cannot_stand_side_by_side() -> None:
    left = live("1", mark="left", **CNAME)
    assert pairs([wish("new", type="CNAME", content="b.example.net")], left) == {"new": "1"}
    assert pairs([wish("new", type="A", content="192.0.2.1")], left) == {"new": "1"}
    assert pairs([wish("new", exclusive=True)], live("1", mark="left", content="other")) == {"new": "1"}
    assert pairs([wish("new")], live("1", mark="left", content="other")) == {}


def test_a_wish_takes_over_nothing_of_another_owner() -> None:
    assert pairs([wish("new", type="A", content="192.0.2.1")], live("1", owner="test/other", mark="left", **CNAME)) == {}


def test_a_wish_takes_nothing_from_another_wish() -> None:
    assert pairs([wish("new", type="A", content="192.0.2.1"), wish("kept", **CNAME)], live("1", mark="kept", **CNAME)) == {"kept": "1"}


def test_a_wish_does_not_take_over_what_must_stay() -> None:
    raw = {**live("1", mark="old", **CNAME).raw, "comment": "reconciler:test/unit:DNSRecord/old:keep"}
    assert pairs([wish("new", type="A", content="192.0.2.1")], Live.read(ZONE, raw)) == {}


def test_a_foreign_text_beside_ours_is_nobodys_business() -> None:
    assert pairs([wish("a")], live("1", content="other")) == {}


def test_a_foreign_cname_stands_for_the_wish_because_a_name_has_only_one() -> None:
    assert pairs([wish("a", type="CNAME", content="b.example.net")], live("1", type="CNAME", content="c.example.net")) == {"a": "1"}


def test_wishes_that_exchange_their_contents_exchange_their_marks() -> None:
    lives = [live(str(number), mark=name, content=name) for number, name in enumerate("abcd")]
    exchanged = [wish("a", content="b"), wish("b", content="c"), wish("c", content="a"), wish("d", content="d")]
    assert pairs(exchanged, *lives) == {"a": "1", "b": "2", "c": "0", "d": "3"}

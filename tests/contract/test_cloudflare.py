"""Cloudflare DNS against its emulator: the promises of every driver, and those that only a zone of records needs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from cloudflare_world import DKIM, ZONE, CloudflareWorld, mark, only, opened, record, txt

from reconciler.driver import Action, Change, Outcome, Status
from reconciler.resource import JSONObject, ResourcePolicy
from reconciler.testing import Bench, DriverContract, adopting
from reconciler_cloudflare.emulator import CloudflareEmulator

EMULATOR, WORLD = CloudflareEmulator, CloudflareWorld


class TestCloudflare(DriverContract):
    """Every promise, with eight kinds of records."""


def batches(world: CloudflareWorld) -> list[JSONObject]:
    return [body for method, path, body in world.emulator.bodies if path.endswith("/batch")]


def failed(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {one.id.name: one.message for one in outcomes if one.status is Status.FAILED}


# -- spelling is no drift ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling", [DKIM, f'"{DKIM}"', f'"{DKIM[:255]}" "{DKIM[255:]}"', f'"{DKIM[:100]}" "{DKIM[100:200]}" "{DKIM[200:]}"'], ids=[0, 1, 2, 3]
)
def test_one_key_in_any_number_of_strings_is_no_change(world: CloudflareWorld, bench: Bench, spelling: str) -> None:
    world.zone.post({"name": "mail._domainkey", "type": "TXT", "content": spelling, "comment": mark("dkim")})
    assert not bench.plan([txt("dkim", DKIM, name="mail._domainkey.example.com")]).changes


def test_a_long_text_is_sent_in_strings_of_255_octets(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("dkim", DKIM)])
    assert only(world)["content"] == f'"{DKIM[:255]}" "{DKIM[255:]}"'


def test_an_odd_neighbour_does_not_hide_the_zone(world: CloudflareWorld, bench: Bench) -> None:
    world.zone.post({"name": "odd", "type": "TXT", "content": "raw \\ text; with ; semicolons"})
    bench.converge([txt("spf", "v=spf1 -all")])


MAIL = {"priority": 0, "weight": 1, "port": 993, "target": "mail.example.com"}
DANE = {"usage": 3, "selector": 1, "matching_type": 1}
SPELLINGS: list[tuple[dict[str, Any], JSONObject]] = [
    ({"name": "b\u00fcro.example.com", "type": "A", "content": "192.0.2.1"}, {"name": "B\u00dcRO", "type": "A", "content": "192.0.2.1"}),
    (
        {"name": "x.example.com", "type": "CNAME", "content": "b\u00fcro.example.net"},
        {"name": "x.example.com.", "type": "CNAME", "content": "xn--bro-hoa.Example.NET."},
    ),
    ({"name": "*.example.com", "type": "A", "content": "192.0.2.1"}, {"name": "*", "type": "A", "content": "192.0.2.1"}),
    (
        {"type": "CAA", "data": {"tag": "Issue", "value": "letsencrypt.org"}},
        {"name": "@", "type": "CAA", "data": {"flags": 0.0, "tag": "issue", "value": "letsencrypt.org"}},
    ),
    (
        {"name": "_imaps._tcp.example.com", "type": "SRV", "data": {**MAIL, "target": "Mail.example.com."}},
        {
            "name": "_imaps._tcp",
            "type": "SRV",
            "data": {**MAIL, "service": "_imaps", "proto": "_tcp", "name": ZONE},
        },
    ),
    (
        {"name": "_25._tcp.example.com", "type": "TLSA", "data": {**DANE, "certificate": "AB cd" * 4}},
        {"name": "_25._tcp", "type": "TLSA", "data": {**DANE, "certificate": "ABCD" * 4}},
    ),
    (
        {"name": "www.example.com", "type": "HTTPS", "data": {"priority": 1, "target": ".", "value": 'ipv4hint=192.0.2.1 alpn="h3,h2"'}},
        {"name": "www", "type": "HTTPS", "data": {"priority": 1, "target": ".", "value": 'alpn="h3,h2" ipv4hint="192.0.2.1"'}},
    ),
    (
        {"name": "host.example.com", "type": "SSHFP", "data": {"algorithm": 4, "type": 2, "fingerprint": "AB" * 32}},
        {"name": "host", "type": "SSHFP", "data": {"algorithm": 4, "type": 2, "fingerprint": "ab" * 32}},
    ),
    (
        {"name": "d.example.com", "type": "DS", "data": {"key_tag": 1, "algorithm": 13, "digest_type": 2, "digest": "ab" * 32}},
        {"name": "d", "type": "DS", "data": {"key_tag": 1.0, "algorithm": 13, "digest_type": 2, "digest": "AB" * 32}},
    ),
    (
        {"name": "v6.example.com", "type": "AAAA", "content": "2001:DB8:0:0::1", "ttl": "auto"},
        {"name": "v6", "type": "AAAA", "content": "2001:db8::1", "ttl": 1},
    ),
    ({"type": "MX", "content": ".", "priority": 0}, {"name": "@", "type": "MX", "content": ".", "priority": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("wish", "live"), SPELLINGS, ids=[f"{wish['type']}-{number}" for number, (wish, _) in enumerate(SPELLINGS)])
def test_another_spelling_of_a_record_is_no_change_and_comes_back_as_it_was_sent(
    world: CloudflareWorld, bench: Bench, wish: dict[str, Any], live: JSONObject
) -> None:
    world.zone.post({**live, "comment": mark("x")})
    assert not bench.plan([record("x", **wish)]).changes
    world.zone.delete(only(world)["id"])
    bench.converge([record("x", **wish)])


# -- identity ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after",
    [
        {"content": "new text"},
        {"name": "other.example.com"},
        {"ttl": 600},
        {"comment": "said by a person"},
        {"content": "new text", "name": "other.example.com", "ttl": 60, "comment": "all at once"},
    ],
)
def test_a_change_is_a_patch_on_the_same_record(world: CloudflareWorld, bench: Bench, after: dict[str, Any]) -> None:
    bench.converge([txt("x", "old text")])
    id = only(world)["id"]
    bench.converge([record("x", **{"name": "x.example.com", "type": "TXT", "content": "old text", **after})], passes=1)
    assert only(world)["id"] == id
    assert list(batches(world)[-1]) == ["patches"]


def test_a_wish_renamed_in_git_keeps_its_record(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("old", "text", name="x.example.com")])
    id = only(world)["id"]
    plan = bench.plan([txt("new", "text", name="x.example.com")])
    assert [(change.action, change.diffs[0].path, change.diffs[0].before) for change in plan.changes] == [
        (Action.UPDATE, "/metadata/mark", "old")
    ]
    bench.converge([txt("new", "text", name="x.example.com")], passes=1)
    assert (only(world)["id"], only(world)["comment"]) == (id, mark("new"))


def test_a_wish_renamed_and_changed_at_once_takes_over_what_it_left_behind(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([record("old", name="x.example.com", type="CNAME", content="a.example.net")])
    id = only(world)["id"]
    bench.converge([record("new", name="x.example.com", type="CNAME", content="b.example.net")], passes=1)
    assert (only(world)["id"], only(world)["content"]) == (id, "b.example.net")


def test_a_delete_and_a_create_of_one_name_and_type_become_one_patch(world: CloudflareWorld, bench: Bench) -> None:
    old, new = txt("old", "one", name="x.example.com"), txt("new", "two", name="x.example.com")
    bench.converge([old])
    id = only(world)["id"]
    delete = Change(Action.DELETE, old.id, "test", handle={"zone": ZONE, "id": id})
    outcomes = bench.write([Change(Action.CREATE, new.id, "test", new), delete])
    assert {one.status for one in outcomes} == {Status.APPLIED}
    assert (only(world)["id"], only(world)["content"], only(world)["comment"]) == (id, '"two"', mark("new"))


def test_another_type_is_a_delete_and_a_post_in_one_transaction(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([record("x", name="x.example.com", type="CNAME", content="a.example.net")])
    bench.converge([record("x", name="x.example.com", type="A", content="192.0.2.1")], passes=1)
    assert only(world)["type"] == "A"
    assert list(batches(world)[-1]) == ["deletes", "posts"]


def test_records_that_follow_each_other_are_patched_in_the_order_that_works(world: CloudflareWorld, bench: Bench) -> None:
    names = {"name": "x.example.com"}
    bench.converge([txt("a", "1", **names), txt("b", "2", **names), txt("c", "3", **names)])
    before = {one["comment"]: one["id"] for one in world.zone.records.values()}
    bench.converge([txt("a", "2", **names), txt("b", "3", **names), txt("c", "4", **names)], passes=1)
    assert {one["comment"]: one["id"] for one in world.zone.records.values()} == before


def test_two_wishes_for_one_record_are_both_refused(world: CloudflareWorld, bench: Bench) -> None:
    plan = bench.plan([txt("a", "v=spf1 -all", name=ZONE), txt("b", '"v=spf1 " "-all"', name=ZONE)])
    assert len(plan.stuck) == 2
    assert not plan.changes


def test_a_record_moves_to_another_zone(world: CloudflareWorld) -> None:
    world.reload(zones={ZONE: {}, "example.org": {}})
    with opened(world) as bench:
        bench.converge([txt("x", "text")])
        bench.converge([txt("x", "text", zone="example.org", name="x.example.org")], passes=1)
    assert not world.zone.records
    assert len(world.emulator.zones["example.org"].records) == 1


# -- ownership ---------------------------------------------------------------------------------------------------------------


def test_what_people_wrote_in_the_comment_is_compared_without_our_mark(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("x", "text", comment="ask the mail team")])
    assert only(world)["comment"] == f"{mark('x')} ask the mail team"
    world.zone.patch(only(world)["id"], {"comment": f"{mark('x')} somebody else's words"})
    (change,) = bench.plan([txt("x", "text", comment="ask the mail team")]).changes
    assert [(diff.path, diff.before) for diff in change.diffs] == [("/comment", "somebody else's words")]


def test_a_mark_that_does_not_fit_is_refused_before_anything_is_written(world: CloudflareWorld, bench: Bench) -> None:
    plan = bench.plan([txt("x", "text", comment="c" * 70), txt("y" * 70, "text", name="y.example.com")])
    assert [one.reason.rpartition("; ")[2] for one in plan.stuck] == ["shorten its comment", "shorten its metadata.name"]
    assert not plan.changes


def test_a_record_that_must_stay_says_so_in_its_mark(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([record("x", ResourcePolicy(prune=False), name="x.example.com", type="TXT", content="text")])
    assert only(world)["comment"] == f"{mark('x')}:keep"
    plan = bench.plan([])
    assert not plan.changes
    assert [held.guard for held in plan.held] == ["keep"]


def test_a_foreign_record_in_an_exclusive_set_is_reported_and_left_alone(world: CloudflareWorld, bench: Bench) -> None:
    mine = record("mx", type="MX", content="mail.example.net", priority=1, exclusive=True)
    bench.converge([mine])
    world.zone.post({"name": "@", "type": "MX", "content": "mx.evil.example", "priority": 0})
    plan = bench.plan([mine])
    assert not plan.changes
    assert len(plan.notes) == 1
    assert 'MX example.com "0 mx.evil.example"' in plan.notes[0]


def test_a_foreign_record_beside_a_wish_that_claims_no_set_is_not_spoken_of(world: CloudflareWorld, bench: Bench) -> None:
    mine = txt("spf", "v=spf1 -all", name=ZONE)
    bench.converge([mine])
    world.zone.post({"name": "@", "type": "TXT", "content": "verification=1"})
    plan = bench.plan([mine])
    assert not plan.changes
    assert not plan.notes


def test_email_routing_beside_our_own_exchange_is_reported(world: CloudflareWorld) -> None:
    locked = {"name": "@", "type": "MX", "content": "route1.mx.cloudflare.net", "priority": 5, "meta": {"read_only": True}}
    world.reload(zones={ZONE: {"records": [locked]}})
    with opened(world) as bench:
        plan = bench.plan([record("mx", type="MX", content="mail.example.net", priority=1)])
    assert len(plan.changes) == 1
    assert "Email Routing is switched on" in plan.notes[0]


def test_an_exclusive_wish_that_may_adopt_takes_over_the_record_in_its_place(world: CloudflareWorld, bench: Bench) -> None:
    id = world.zone.post({"name": "@", "type": "MX", "content": "old.example.net", "priority": 5})["id"]
    bench.converge([adopting(record("mx", type="MX", content="mail.example.com", priority=1, exclusive=True))], passes=1)
    assert (only(world)["id"], only(world)["content"]) == (id, "mail.example.com")


@pytest.mark.parametrize("foreign", [{"type": "CNAME", "content": "a.example.net"}, {"type": "A", "content": "192.0.2.9"}])
def test_a_foreign_record_in_the_way_of_a_cname_is_refused_at_planning(world: CloudflareWorld, bench: Bench, foreign: JSONObject) -> None:
    world.zone.post({"name": "x", **foreign})
    plan = bench.plan([record("x", name="x.example.com", type="CNAME", content="b.example.net")])
    assert len(plan.stuck) == 1
    assert not plan.changes


def test_records_of_email_routing_are_never_touched(world: CloudflareWorld) -> None:
    locked = {"name": "@", "type": "MX", "content": "route1.mx.cloudflare.net", "priority": 5, "meta": {"read_only": True}}
    world.reload(zones={ZONE: {"records": [locked]}})
    with opened(world) as bench:
        wish = adopting(record("mx", type="MX", content="route1.mx.cloudflare.net", priority=5))
        (stuck,) = bench.plan([wish]).stuck
        assert "Email Routing" in stuck.reason
        (outcome,) = bench.write([Change(Action.ADOPT, wish.id, "test", wish, handle={"zone": ZONE, "id": only(world)["id"]})])
    assert (outcome.status, outcome.transient) == (Status.FAILED, False)
    assert world.writes() == 0


def test_every_copy_of_a_mark_that_left_git_is_pruned_at_once(world: CloudflareWorld, bench: Bench) -> None:
    for number in range(3):
        world.zone.post({"name": f"x{number}", "type": "TXT", "content": "text", "comment": mark("gone")})
    bench.apply(bench.plan([]))
    assert not world.zone.records


def test_a_copy_of_a_mark_in_use_is_reported_and_left_alone(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("x", "text")])
    world.zone.post({"name": "y", "type": "TXT", "content": "text", "comment": mark("x")})
    plan = bench.plan([txt("x", "text")])
    assert not plan.changes
    assert "carries a copy of its mark" in plan.notes[0]


def test_a_wish_whose_new_value_is_a_strangers_record_is_refused_at_planning(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("x", "text")])
    world.zone.post({"name": "x", "type": "TXT", "content": "new"})
    plan = bench.plan([txt("x", "new")])
    assert not plan.changes
    assert "stands in its way" in plan.stuck[0].reason


def test_a_zone_that_is_only_configured_is_still_pruned(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("last", "text")])
    bench.apply(bench.plan([]))
    assert not world.zone.records


def test_a_record_changed_after_the_plan_is_left_to_the_next_pass(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("x", "text")])
    plan = bench.plan([txt("x", "new")])
    world.zone.patch(only(world)["id"], {"ttl": 7200})
    (outcome,) = bench.apply(plan)
    assert "changed after the plan" in outcome.message
    assert only(world)["content"] == '"text"'


def test_a_mark_that_was_taken_off_protects_from_deletion(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("x", "text")])
    plan = bench.plan([])
    world.zone.patch(only(world)["id"], {"comment": None})
    (outcome,) = bench.apply(plan)
    assert outcome.status is Status.FAILED
    assert only(world)["comment"] is None


def test_evidence_says_when_it_was_changed(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("x", "text")])
    (seen,) = bench.observe([txt("x", "text")])
    assert seen.evidence is not None
    assert seen.evidence.when is not None
    assert seen.evidence.when.tzinfo is not None


def test_a_remark_of_somebody_else_stays_with_the_record_that_git_gives_the_same(world: CloudflareWorld, bench: Bench) -> None:
    world.zone.post({"name": "x", "type": "TXT", "content": "text", "comment": "ask the mail team"})
    (change,) = bench.plan([adopting(txt("x", "text"))]).changes
    assert [(diff.path, diff.before) for diff in change.diffs] == [("/comment", "ask the mail team")]
    bench.converge([adopting(txt("x", "text", comment="ask the mail team"))])
    assert only(world)["comment"] == f"{mark('x')} ask the mail team"


def test_a_proxy_is_switched_on_and_off_on_the_same_record_with_its_ttl(world: CloudflareWorld, bench: Bench) -> None:
    seen = []
    for proxied in (False, True, False):
        bench.converge([record("x", name="x.example.com", type="A", content="192.0.2.1", ttl=300, proxied=proxied)])
        seen.append((only(world)["proxied"], only(world)["ttl"]))
    assert seen == [(False, 300), (True, 1), (False, 300)]


def test_a_proxied_record_is_made_as_one(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([record("x", name="x.example.com", type="A", content="192.0.2.1", proxied=True)], passes=1)
    assert only(world)["proxied"] is True
    assert len(world.zone.records) == 1


def test_two_stacks_that_ask_for_one_record_do_not_take_it_from_each_other(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("x", "text")])
    other = Bench(world, world.open(), replace(bench.scope, owner="test/other"))
    plan = other.plan([txt("mine", "text", name="x.example.com")])
    assert not plan.changes
    assert plan.stuck[0].reason == 'belongs to test/contract; set the annotation reconciler/adopt: "true" to take it over'
    assert not other.plan([]).changes
    assert not bench.plan([txt("x", "text")]).changes
    other.driver.close()


def test_what_is_not_ours_is_counted_and_left_alone(world: CloudflareWorld) -> None:
    world.reload(zones={ZONE: {}, "example.org": {}})
    with opened(world) as bench:
        counted: dict[str, int] = {}
        bench.scope = replace(bench.scope, count=counted.__setitem__)
        bench.converge([txt("x", "text")])
        for number in range(3):
            world.zone.post({"name": f"n{number}", "type": "TXT", "content": "foreign"})
        world.zone.post({"name": "o", "type": "TXT", "content": "other", "comment": mark("o", "test/other")})
        before = dict(world.zone.records)
        bench.plan([txt("x", "text")])
        assert counted == {"the zone example.com": 4, "the zone example.org": 0}
        bench.apply(bench.plan([]))
        assert {id for id in before if id not in world.zone.records} == {id for id, one in before.items() if one["comment"] == mark("x")}


# -- transactions ------------------------------------------------------------------------------------------------------------


def test_a_hundred_and_fifty_changes_are_one_call(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt(f"gone-{number}", "x") for number in range(50)] + [txt(f"kept-{number}", "x") for number in range(50)])
    wanted = [txt(f"kept-{number}", "y") for number in range(50)] + [txt(f"new-{number}", "x") for number in range(50)]
    plan = bench.plan(wanted)
    before = len(batches(world))
    outcomes = bench.write(plan.changes)
    assert len(outcomes) == 150
    assert {one.status for one in outcomes} == {Status.APPLIED}
    (body,) = batches(world)[before:]
    assert {name: len(part) for name, part in body.items()} == {"deletes": 50, "patches": 50, "posts": 50}
    assert not bench.plan(wanted).changes


def test_the_limit_of_the_plan_is_kept_and_one_name_stays_in_one_call(world: CloudflareWorld) -> None:
    wanted = [txt(f"{name}{number}", f"{number}", name=f"{name}.example.com") for name in "abcd" for number in range(3)]
    with opened(world, batch_limit=5) as bench:
        bench.converge(wanted, passes=1)
    assert [len(body["posts"]) for body in batches(world)] == [3, 3, 3, 3]
    assert all(len({post["name"] for post in body["posts"]}) == 1 for body in batches(world))


def test_one_bad_record_is_named_and_the_others_are_applied(world: CloudflareWorld, bench: Bench) -> None:
    wanted = [txt(f"good-{number}", "x") for number in range(20)]
    wanted.insert(7, txt("bad", "x", tags=("team:mail",)))
    outcomes = bench.write(bench.plan(wanted).changes)
    assert list(failed(outcomes)) == ["bad"]
    assert "9300 DNS record has 1 tags, exceeding the quota of 0." in failed(outcomes)["bad"]
    assert failed(outcomes)["bad"].startswith("cloudflare/DNSRecord/bad: ")
    assert len(world.zone.records) == 20
    assert len(batches(world)) < 12


def test_the_specific_code_inside_an_error_chain_is_shown(world: CloudflareWorld, bench: Bench) -> None:
    wish = record("x", name="x.example.com", type="CNAME", content="a.example.net", settings={"flatten_cname": True})
    (outcome,) = bench.apply(bench.plan([wish]))
    assert "1004 DNS Validation Error; 9999 CNAME flattening" in outcome.message


FULL = {ZONE: {"quota": 3, "records": [{"name": "f", "type": "TXT", "content": "foreign"}]}}


def test_additions_to_a_full_zone_are_refused_at_planning(world: CloudflareWorld) -> None:
    world.reload(zones=FULL)
    with opened(world) as bench:
        bench.converge([txt("a", "1")])
        plan = bench.plan([txt("a", "2"), txt("b", "1"), txt("c", "1")])
    assert [one.id.name for one in plan.stuck] == ["b", "c"]
    assert "holds 2 of at most 3 records, so 2 more do not fit" in plan.stuck[0].reason
    assert [change.id.name for change in plan.changes] == ["a"]


def test_a_zone_that_was_filled_since_the_plan_takes_changes_and_no_additions(world: CloudflareWorld) -> None:
    world.reload(zones=FULL)
    with opened(world) as bench:
        bench.converge([txt("a", "1")])
        plan = bench.plan([txt("a", "2"), txt("b", "1")])
        world.zone.post({"name": "late", "type": "TXT", "content": "foreign"})
        outcomes = bench.apply(plan)
    assert list(failed(outcomes)) == ["b"]
    assert "holds 3 of at most 3 records" in failed(outcomes)["b"]
    assert '"2"' in {one["content"] for one in world.zone.records.values()}

"""Who changed a drifted record: asked of the audit log when there is something to ask, and never in the way of the plan."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cloudflare_world import CloudflareWorld, mark, only, opened, record, txt

from reconciler.driver import Action, Evidence
from reconciler.resource import JSONObject, Resource, ResourcePolicy
from reconciler.testing import Bench
from reconciler_cloudflare.emulator import CloudflareEmulator

X = txt("x", "text", ttl=300)


EMULATOR, WORLD = CloudflareEmulator, CloudflareWorld


def asked(world: CloudflareWorld) -> int:
    return sum(path.endswith("/audit_logs") for _, path in world.emulator.faults.requests)


def drift(world: CloudflareWorld, bench: Bench, *wanted: Resource) -> None:
    """Let somebody in the dashboard change every record an hour after it was written."""
    bench.converge(wanted)
    for one in list(world.zone.records.values()):
        written = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        world.zone.records[one["id"]] = {**one, "created_on": written, "comment_modified_on": written}
        world.zone.patch(one["id"], {"ttl": 7200})


def evidence(bench: Bench, *wanted: Resource) -> Evidence:
    change = bench.plan(wanted).changes[0]
    assert change.evidence is not None
    return change.evidence


def test_the_change_of_a_drifted_record_says_who_and_when(world: CloudflareWorld, bench: Bench) -> None:
    drift(world, bench, X)
    found = evidence(bench, X)
    assert (found.who, found.how) == ("somebody@example.com", "rec_set via UI")
    assert found.when == datetime.fromisoformat(only(world)["modified_on"])


def test_a_plan_without_a_change_does_not_ask(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([X])
    before = len(world.emulator.faults.requests)
    assert not bench.plan([X]).changes
    assert len(world.emulator.faults.requests) == before + 1
    assert not asked(world)


def test_a_change_that_only_git_made_does_not_ask(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([X])
    assert bench.plan([txt("x", "text", ttl=600), txt("y", "new")]).changes
    assert not asked(world)


def test_a_difference_that_git_ignores_does_not_ask(world: CloudflareWorld, bench: Bench) -> None:
    drift(world, bench, X)
    assert not bench.plan([replace(X, policy=ResourcePolicy(ignore=("/ttl",)))]).changes
    assert not asked(world)


def test_somebody_who_rewrote_only_the_comment_is_named_too(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([X])
    world.zone.patch(only(world)["id"], {"comment": f"{mark('x')} mine now"})
    assert evidence(bench, X).who == "somebody@example.com"


def test_many_drifted_records_cost_one_request_and_it_is_not_repeated(world: CloudflareWorld, bench: Bench) -> None:
    wanted = [txt(f"n{number}", "text", ttl=300) for number in range(20)]
    drift(world, bench, *wanted)
    for _ in range(3):
        assert {change.evidence.who for change in bench.plan(wanted).changes if change.evidence} == {"somebody@example.com"}
    assert asked(world) == 1


def test_the_next_change_of_a_record_is_asked_about_anew(world: CloudflareWorld, bench: Bench) -> None:
    drift(world, bench, X)
    evidence(bench, X)
    world.zone.patch(only(world)["id"], {"ttl": 3600})
    assert evidence(bench, X).who == "somebody@example.com"
    assert asked(world) == 2


def test_without_the_right_only_the_time_is_known_and_it_is_asked_once(world: CloudflareWorld, bench: Bench) -> None:
    drift(world, bench, X)
    world.emulator.audit = False
    for _ in range(3):
        found = evidence(bench, X)
        assert (found.who, found.when) == ("", datetime.fromisoformat(only(world)["modified_on"]))
    assert asked(world) == 1


def test_a_slow_log_is_given_up_and_the_plan_is_made_without_it(world: CloudflareWorld) -> None:
    with opened(world, timeout=0.5, account="e" * 32) as bench:
        drift(world, bench, X)
        world.emulator.slow_audit = 5
        started = time.monotonic()
        assert [evidence(bench, X).who for _ in range(3)] == ["", "", ""]
        assert time.monotonic() - started < 2
        assert asked(world) == 1


def test_an_entry_about_an_earlier_change_is_not_taken_for_this_one(world: CloudflareWorld, bench: Bench) -> None:
    drift(world, bench, X)
    late = datetime.now(UTC) + timedelta(minutes=10)
    world.zone.records[only(world)["id"]] = {**only(world), "modified_on": late.isoformat()}
    assert evidence(bench, X) == Evidence("", late, f"comment written {only(world)['comment_modified_on']}")


def test_a_configured_account_is_not_looked_up(world: CloudflareWorld) -> None:
    with opened(world, account="e" * 32) as bench:
        drift(world, bench, X)
        before = len(world.emulator.faults.requests)
        assert evidence(bench, X).who
        assert len(world.emulator.faults.requests) == before + 2


def test_a_program_that_has_no_address_is_named_by_its_id(world: CloudflareWorld, bench: Bench) -> None:
    drift(world, bench, X)
    with world.zone.transaction():
        world.zone.patch(only(world)["id"], {"ttl": 600})
    found = evidence(bench, X)
    assert (found.who, found.how) == (f"user {'b' * 32}", "rec_set via API")


# -- what was taken away -----------------------------------------------------------------------------------------------------


def remember(bench: Bench, *wanted: Resource) -> None:
    """Bring the wishes about, and let the next passes know that they were."""
    bench.converge(wanted)
    bench.scope = replace(bench.scope, applied=frozenset(one.id for one in wanted))


def takers(bench: Bench, *wanted: Resource) -> dict[str, tuple[str, str]]:
    changes = bench.plan(wanted).changes
    assert {change.action for change in changes} <= {Action.CREATE}
    return {change.id.name: (change.evidence.who, change.evidence.how) for change in changes if change.evidence is not None}


DELETED = ("somebody@example.com", "rec_del via UI")


@pytest.mark.parametrize(
    "wish",
    [
        X,
        record("mx", type="MX", content="mail.example.com", priority=1),
        record("caa", type="CAA", data={"tag": "issue", "value": "letsencrypt.org"}),
        record("key", name="k._domainkey.example.com", type="TXT", content="v=DKIM1; p=" + "A" * 392),
    ],
    ids=lambda wish: wish.id.name,
)
def test_who_deleted_a_record_is_said_beside_its_creation(world: CloudflareWorld, bench: Bench, wish: Resource) -> None:
    remember(bench, wish)
    world.zone.delete(only(world)["id"])
    (change,) = bench.plan([wish]).changes
    assert change.evidence is not None
    assert (change.evidence.who, change.evidence.how) == DELETED
    assert change.evidence.when == datetime.fromisoformat(world.zone.log[-1]["when"])


def test_many_deleted_records_cost_one_request_and_it_is_not_repeated(world: CloudflareWorld, bench: Bench) -> None:
    wanted = [txt(f"n{number}", "text") for number in range(20)]
    remember(bench, *wanted)
    for one in list(world.zone.records):
        world.zone.delete(one)
    for _ in range(3):
        assert takers(bench, *wanted) == {one.id.name: DELETED for one in wanted}
    assert asked(world) == 1


def test_a_record_that_never_was_is_not_asked_about(world: CloudflareWorld, bench: Bench) -> None:
    remember(bench, X)
    assert takers(bench, X, txt("new", "text")) == {}
    assert not asked(world)


def test_a_record_that_somebody_made_into_another_was_taken_by_that_hand(world: CloudflareWorld, bench: Bench) -> None:
    remember(bench, X)
    with world.zone.transaction():
        world.zone.patch(only(world)["id"], {"ttl": 600})
    world.zone.patch(only(world)["id"], {"name": "elsewhere", "comment": None})
    assert takers(bench, X) == {"x": ("somebody@example.com", "rec_set via UI")}


def test_a_second_deletion_is_told_apart_from_the_first(world: CloudflareWorld, bench: Bench) -> None:
    remember(bench, X)
    world.zone.delete(only(world)["id"])
    assert takers(bench, X) == {"x": DELETED}
    bench.converge([X])
    with world.zone.transaction():
        world.zone.delete(only(world)["id"])
    assert takers(bench, X) == {"x": (f"user {'b' * 32}", "rec_del via API")}


def test_a_deletion_that_the_log_does_not_know_yet_is_nobodys(world: CloudflareWorld, bench: Bench) -> None:
    remember(bench, X)
    world.zone.delete(only(world)["id"])
    bench.converge([X])
    world.zone.delete(only(world)["id"])
    world.zone.log.pop()
    assert takers(bench, X) == {}


def test_an_attempt_that_failed_is_nobodys_deed(world: CloudflareWorld, bench: Bench) -> None:
    remember(bench, X)
    world.zone.delete(only(world)["id"])
    failed: JSONObject = {**world.zone.log[-1], "actor": {"email": "other@example.com"}, "action": {"type": "rec_del", "result": False}}
    failed["when"] = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    world.zone.log.append(failed)
    assert takers(bench, X) == {"x": DELETED}


def test_without_the_right_a_deleted_record_is_still_made_again(world: CloudflareWorld, bench: Bench) -> None:
    remember(bench, X)
    world.zone.delete(only(world)["id"])
    world.emulator.audit = False
    for _ in range(3):
        assert takers(bench, X) == {}
    assert asked(world) == 1
    bench.converge([X])

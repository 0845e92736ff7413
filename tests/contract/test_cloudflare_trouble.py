"""Cloudflare DNS in trouble: lost answers, stale listings, limits, pages, credentials and an environment that meddles."""

import subprocess
import sys

import pytest
from cloudflare_world import ZONE, CloudflareWorld, mark, only, opened, txt

from reconciler.driver import Ownership, Status
from reconciler.errors import Permanent, Transient
from reconciler.testing import Bench
from reconciler.writing import LATE, gated
from reconciler_cloudflare import client
from reconciler_cloudflare.emulator import CloudflareEmulator

EMULATOR, WORLD = CloudflareEmulator, CloudflareWorld


def test_a_create_that_was_done_although_its_answer_was_lost_counts_as_done(world: CloudflareWorld, bench: Bench) -> None:
    changes = bench.plan([txt("x", "text")]).changes
    with world.fail("cut-after", times=1):
        (outcome,) = bench.write(changes)
    assert outcome.transient
    (outcome,) = bench.write(changes)
    assert outcome.status is Status.APPLIED
    assert len(world.zone.records) == 1


def test_a_create_that_the_listing_does_not_show_yet_is_tried_again_and_never_doubled(world: CloudflareWorld, bench: Bench) -> None:
    changes = bench.plan([txt("x", "text")]).changes
    world.zone.stale = 60
    with world.fail("cut-after", times=1):
        bench.write(changes)
    (outcome,) = bench.write(changes)
    assert outcome.transient
    assert "81058" in outcome.message
    world.zone.stale = 0
    (outcome,) = bench.write(changes)
    assert outcome.status is Status.APPLIED
    assert len(world.zone.records) == 1


def test_an_identical_record_of_somebody_else_is_a_conflict(world: CloudflareWorld, bench: Bench) -> None:
    changes = bench.plan([txt("x", "text")]).changes
    world.zone.post({"name": "x", "type": "TXT", "content": "text"})
    (outcome,) = bench.write(changes)
    assert (outcome.status, outcome.transient) == (Status.FAILED, False)


def test_a_record_that_is_gone_already_counts_as_deleted(world: CloudflareWorld, bench: Bench) -> None:
    bench.converge([txt("x", "text")])
    plan = bench.plan([])
    world.zone.delete(only(world)["id"])
    (outcome,) = bench.apply(plan)
    assert outcome.status is Status.APPLIED


def test_after_too_many_requests_no_call_is_sent_until_the_server_allows_it(world: CloudflareWorld, bench: Bench) -> None:
    world.emulator.retry_after = 77
    with world.fail("rate-limit", times=1), pytest.raises(Transient) as first:
        bench.observe([])
    sent = len(world.emulator.faults.requests)
    with pytest.raises(Transient) as second:
        bench.observe([])
    assert first.value.retry_after == 77
    assert second.value.retry_after == pytest.approx(77, abs=5)
    assert len(world.emulator.faults.requests) == sent


def test_a_second_target_with_the_same_token_is_stopped_with_the_first(world: CloudflareWorld, bench: Bench) -> None:
    with opened(world) as other:
        other.observe([])
        world.emulator.retry_after = 77
        with world.fail("rate-limit", times=1), pytest.raises(Transient):
            bench.observe([])
        sent = len(world.emulator.faults.requests)
        with pytest.raises(Transient) as error:
            other.observe([])
    assert error.value.retry_after == pytest.approx(77, abs=5)
    assert len(world.emulator.faults.requests) == sent


def test_the_servers_own_count_stops_us_before_it_has_to(world: CloudflareWorld) -> None:
    world.reload(rate_limit=[2, 300])
    with opened(world) as bench:
        bench.observe([])
        bench.observe([])
        with pytest.raises(Transient) as error:
            bench.observe([])
    assert error.value.retry_after == pytest.approx(300, abs=5)
    assert len(world.emulator.faults.requests) == 2


@pytest.mark.parametrize("fault", ["html", "server-error"])
def test_an_answer_of_the_edge_is_transient(world: CloudflareWorld, bench: Bench, fault: str) -> None:
    with world.emulator.faults.during(fault), pytest.raises(Transient, match="HTTP 50"):
        bench.observe([])


def test_an_answer_that_says_it_failed_is_a_failure_whatever_its_status(world: CloudflareWorld, bench: Bench) -> None:
    with world.emulator.faults.during("unsuccessful"), pytest.raises(Permanent, match="10013"):
        bench.observe([])


def test_a_slow_answer_is_transient(world: CloudflareWorld) -> None:
    slow = world.emulator.faults.during("latency", seconds=0.6)
    with opened(world, timeout=0.2) as bench, slow, pytest.raises(Transient, match="no answer in time"):
        bench.observe([])


def test_a_listing_of_several_pages_is_put_together(world: CloudflareWorld, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [txt(f"r{number}", "x") for number in range(7)]
    bench.converge(wanted)
    monkeypatch.setattr(client, "PAGE", 3)
    assert not bench.plan(wanted).changes
    with world.fail("partial", times=1), pytest.raises(Transient, match="has 7 records, but the listing holds 6"):
        bench.observe(wanted)


def test_a_wrong_token_is_permanent_and_is_not_shown(world: CloudflareWorld) -> None:
    with opened(world, token="not-the-token") as bench, pytest.raises(Permanent, match="HTTP 403: 10000 Authentication error") as error:
        bench.observe([])
    assert "not-the-token" not in str(error.value)


def test_the_environment_does_not_replace_the_token(world: CloudflareWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFLARE_EMAIL", "someone@example.com")
    monkeypatch.setenv("CLOUDFLARE_API_KEY", "k")
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "t")
    monkeypatch.setenv("CLOUDFLARE_API_USER_SERVICE_KEY", "s")
    monkeypatch.setenv("CLOUDFLARE_CUSTOM_HEADERS", "Authorization: Bearer stolen\nX-Extra: 1")
    monkeypatch.setenv("CLOUDFLARE_BASE_URL", "http://127.0.0.1:1")
    with opened(world) as bench:
        bench.observe([])
    headers = world.emulator.headers[-1]
    assert headers["authorization"] == f"Bearer {world.emulator.token}"
    assert headers["api-version"] == client.API_VERSION
    assert not {"x-auth-email", "x-auth-key", "x-auth-user-service-key", "x-extra"} & headers.keys()


def test_no_log_shows_the_token(world: CloudflareWorld, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with opened(world) as bench:
        bench.converge([txt("x", "text")])
        with world.fail("server-error"), pytest.raises(Transient):
            bench.observe([])
    assert "dns_records" in caplog.text
    assert world.emulator.token not in caplog.text


def test_a_zone_without_an_id_is_looked_up_once(world: CloudflareWorld) -> None:
    with opened(world, zones={ZONE: ""}) as bench:
        bench.observe([])
        bench.observe([])
    assert sum(path.endswith("/zones") for _, path in world.emulator.faults.requests) == 1


def test_a_zone_that_the_token_cannot_see_hides_only_its_own_records(world: CloudflareWorld, bench: Bench) -> None:
    lost = txt("lost", "x", zone="example.net", name="x.example.net")
    plan = bench.plan([txt("x", "text"), lost])
    assert [(one.id.name, one.unknown) for one in plan.stuck] == [("lost", True)]
    assert [change.id.name for change in plan.changes] == ["x"]
    with pytest.raises(Permanent, match="Zone Read"):
        bench.driver.observe([lost], bench.scope)


def test_a_configured_zone_that_the_token_cannot_see_is_said_though_nothing_of_it_is_wanted(world: CloudflareWorld) -> None:
    zones = {**world.emulator.settings()["zones"], "example.net": ""}
    with opened(world, zones=zones) as bench, pytest.raises(Permanent, match=r"example\.net"):
        bench.driver.observe([txt("x", "text")], bench.scope)


def test_other_stacks_records_are_foreign(world: CloudflareWorld, bench: Bench) -> None:
    world.zone.post({"name": "x", "type": "TXT", "content": "text", "comment": mark("x", "test/other")})
    (seen,) = bench.observe([txt("x", "text")])
    assert (seen.ownership, seen.owner) == (Ownership.FOREIGN, "test/other")


def test_importing_the_plugin_does_not_import_the_vendors_library() -> None:
    program = "import sys, reconciler_cloudflare; sys.exit('cloudflare' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# -- rights and the state of a zone ------------------------------------------------------------------------------------------


def test_a_token_that_may_only_read_says_which_permission_is_missing(world: CloudflareWorld) -> None:
    world.reload(rights=["DNS Read"])
    with opened(world) as bench:
        (outcome,) = bench.apply(bench.plan([txt("x", "text")]))
    assert (outcome.status, outcome.transient) == (Status.FAILED, False)
    assert outcome.message.endswith("check that the token has the permission DNS Write here, and that it has not ended")
    assert not world.zone.records


def test_a_token_that_may_not_even_read_says_so(world: CloudflareWorld) -> None:
    world.reload(rights=["DNS Write"])
    with opened(world) as bench, pytest.raises(Permanent, match="check that the token has the permission DNS Read here"):
        bench.plan([txt("x", "text")])


def test_a_wrong_id_of_a_zone_says_where_it_is_written(world: CloudflareWorld) -> None:
    with opened(world, zones={ZONE: "f" * 32}) as bench, pytest.raises(Permanent, match="check the zone's id in `zones`"):
        bench.plan([txt("x", "text")])


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"status": "moved"}, "the zone example.com is moved, so its records are not asked for; point its name servers to Cloudflare"),
        ({"status": "pending"}, "the zone example.com is pending, so its records"),
        ({"paused": True}, "the zone example.com is paused, so nothing of it is proxied; unpause it"),
    ],
)
def test_a_zone_that_is_not_served_is_told_once_and_still_kept(world: CloudflareWorld, state: dict[str, object], said: str) -> None:
    world.reload(zones={ZONE: state})
    with opened(world) as bench:
        plan = bench.plan([txt("a", "text"), txt("b", "text")])
        assert len(plan.changes) == 2
        (note,) = plan.notes
        assert note.startswith(f"cloudflare/DNSRecord/a: {said}")
        bench.converge([txt("a", "text"), txt("b", "text")])
        bench.plan([txt("a", "text"), txt("b", "text")])
    assert sum(path.endswith(f"/zones/{world.zone.id}") for _, path in world.emulator.faults.requests) == 1


def test_without_the_right_to_read_the_zone_its_state_stays_unsaid(world: CloudflareWorld) -> None:
    world.reload(zones={ZONE: {"status": "moved"}}, rights=["DNS Read", "DNS Write"])
    with opened(world) as bench:
        for _ in range(3):
            assert not bench.plan([txt("a", "text")]).notes
    assert sum(path.endswith(f"/zones/{world.zone.id}") for _, path in world.emulator.faults.requests) == 1


# -- a write that goes wrong -------------------------------------------------------------------------------------------------


def test_a_write_that_the_edge_answers_for_is_tried_again_and_not_doubled(world: CloudflareWorld, bench: Bench) -> None:
    changes = bench.plan([txt("x", "text")]).changes
    with world.emulator.faults.during("html", times=1, writes_only=True):
        (outcome,) = bench.write(changes)
    assert (outcome.status, outcome.transient) == (Status.FAILED, True)
    assert "HTTP 502" in outcome.message
    (outcome,) = bench.write(changes)
    assert outcome.status is Status.APPLIED
    assert len(world.zone.records) == 1


def test_a_write_whose_answer_says_that_it_failed_was_not_done(world: CloudflareWorld, bench: Bench) -> None:
    changes = bench.plan([txt("x", "text")]).changes
    with world.emulator.faults.during("unsuccessful", writes_only=True):
        (outcome,) = bench.write(changes)
    assert (outcome.status, outcome.transient) == (Status.FAILED, False)
    assert "10013 An unknown error has occurred." in outcome.message


def test_a_batch_larger_than_the_plan_takes_is_cut_until_it_fits(world: CloudflareWorld) -> None:
    world.reload(zones={ZONE: {"batch": 20, "quota": None}})
    wanted = [txt(f"r{number}", "x") for number in range(50)]
    with opened(world, batch_limit=3500) as bench:
        outcomes = bench.apply(bench.plan(wanted))
        assert {one.status for one in outcomes} == {Status.APPLIED}
        assert not bench.plan(wanted).changes


def test_a_daemon_that_froze_between_two_batches_of_one_wave_sends_no_other_when_it_wakes(world: CloudflareWorld) -> None:
    with opened(world, batch_limit=2) as bench:
        changes = bench.plan([txt(f"t{number}", f"text {number}") for number in range(5)]).changes
        before = world.writes()
        with gated(lambda: LATE if world.writes() > before else ""):
            outcomes = bench.write(changes)
        assert world.writes() == before + 1
        assert sorted(one.status.value for one in outcomes) == ["applied"] * 2 + ["blocked"] * 3
        assert {one.message for one in outcomes} == {"", LATE}
        bench.converge([txt(f"t{number}", f"text {number}") for number in range(5)])


def test_the_search_for_a_culprit_ends_when_the_stack_is_no_longer_ours(world: CloudflareWorld) -> None:
    with opened(world) as bench:
        changes = bench.plan([txt("bad", "x", tags=("team:mail",)), *(txt(f"t{number}", "x") for number in range(4))]).changes
        before = world.writes()
        with gated(lambda: LATE if world.writes() > before else ""):
            outcomes = bench.write(changes)
        assert world.writes() == before + 1, "the refused one; no half of it was tried"
        assert {one.status.value for one in outcomes} == {"blocked"}

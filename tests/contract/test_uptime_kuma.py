"""The Uptime Kuma driver against the emulated server, in both dialects."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from uptime_kuma_world import (
    FOLDER,
    MX,
    PAGER,
    PUBLIC,
    PUSH,
    SECRETS,
    SMTP,
    WEB,
    UptimeKumaWorld,
    behind_tls,
    bench_on,
    changed,
    resource,
    serving,
)

from reconciler.driver import Action, Health, Level, Observation, Ownership, Scope, Status
from reconciler.errors import Permanent, Transient
from reconciler.resource import Resource
from reconciler.sandbox.server import AppServer, Fault
from reconciler.testing import Bench, DriverContract, adopting
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.driver import UptimeKumaDriver
from reconciler_uptime_kuma.emulator import UptimeKumaEmulator


@pytest.fixture(params=["2.x", "1.23"])
def world(request: pytest.FixtureRequest) -> Iterator[UptimeKumaWorld]:
    with serving(dialect=request.param) as emulator:
        yield UptimeKumaWorld(emulator)


class TestUptimeKuma(DriverContract):
    secrets = SECRETS


# -- what is particular to Uptime Kuma ---------------------------------------------------------------------------------------------

OLD = {
    "id": 282,
    "name": "SMTP by hand",
    "type": "port",
    "hostname": "10.0.20.202",
    "port": 25,
    "beats": [{"status": 1}, {"status": 0}, {"status": 1}],
}
PINNED = resource("Monitor", "front", type="port", hostname="10.0.20.1", port=25, id=282)


@pytest.fixture
def emulator() -> Iterator[UptimeKumaEmulator]:
    with serving() as emulator:
        yield emulator


@pytest.fixture
def bench(emulator: UptimeKumaEmulator) -> Iterator[Bench]:
    with bench_on(emulator) as bench:
        yield bench


def live(bench: Bench, one: Resource) -> Observation:
    return next(seen for seen in bench.observe([one]) if seen.id == one.id)


def events(emulator: UptimeKumaEmulator, name: str) -> int:
    return sum(event == name for _, event in emulator.faults.requests)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class TestHistory:
    @pytest.mark.parametrize("dialect", ["2.x", "1.23"])
    def test_a_pinned_monitor_is_edited_and_keeps_its_number_and_heartbeats(self, dialect: str) -> None:
        with serving(dialect=dialect, monitors=[OLD]) as emulator, bench_on(emulator) as bench:
            before = emulator.snapshot()["beats"][282]
            plan = bench.plan([adopting(PINNED)])
            assert [change.action for change in plan.changes] == [Action.ADOPT]
            bench.converge([adopting(PINNED)])
            after = emulator.snapshot()
            assert list(after["monitors"]) == [282]
            assert after["monitors"][282]["hostname"] == "10.0.20.1"
            assert after["beats"][282][: len(before)] == before

    def test_a_change_of_type_is_an_edit(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        beats = emulator.snapshot()["beats"][1]
        web = changed(FOLDER, type="http", url="http://10.0.20.1/")
        bench.converge([web])
        assert list(emulator.snapshot()["monitors"]) == [1]
        assert emulator.snapshot()["beats"][1][: len(beats)] == beats
        bench.converge([FOLDER])
        assert emulator.snapshot()["monitors"][1]["url"] is None

    def test_a_pin_alone_does_not_take_over_a_monitor(self) -> None:
        with serving(monitors=[OLD]) as emulator, bench_on(emulator) as bench:
            assert [stuck.id for stuck in bench.plan([PINNED]).stuck] == [PINNED.id]

    def test_a_pinned_monitor_that_does_not_exist_is_never_made(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        plan = bench.plan([adopting(PINNED)])
        assert not plan.changes
        assert "there is no monitor 282" in plan.stuck[0].reason
        assert emulator.faults.writes == 0

    def test_a_name_changed_in_git_keeps_the_monitor(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([PAGER, FOLDER, SMTP])
        id = UptimeKumaWorld(emulator).id(SMTP)
        renamed = replace(SMTP, id=replace(SMTP.id, name="smtp-front"))
        plan = bench.plan([PAGER, FOLDER, renamed])
        assert [(change.action, change.diffs[0].path) for change in plan.changes] == [(Action.UPDATE, "/metadata/mark")]
        bench.converge([PAGER, FOLDER, renamed])
        assert UptimeKumaWorld(emulator).id(renamed) == id

    def test_whether_a_monitor_outlives_its_removal_from_git_is_rewritten(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        kept = replace(FOLDER, policy=replace(FOLDER.policy, prune=False))
        bench.converge([kept])
        assert [held.guard for held in bench.plan([]).held] == ["keep"]


class TestMarks:
    def test_of_several_with_one_mark_the_lowest_number_is_used_and_none_is_deleted(
        self, bench: Bench, emulator: UptimeKumaEmulator
    ) -> None:
        bench.converge([FOLDER])
        store = emulator.store
        store.add(
            {**store.dialect.required, **{key: store.monitors[1][key] for key in ("name", "type", "description", "accepted_statuscodes")}}
        )
        assert live(bench, FOLDER).handle["id"] == 1
        assert any("copies 2 carry the same mark" in note for note in bench.plan([FOLDER]).notes)
        assert not bench.plan([FOLDER]).changes
        assert not bench.plan([]).changes, "which of the two is the copy is for a person to say"
        assert list(emulator.snapshot()["monitors"]) == [1, 2]

    def test_text_around_the_mark_belongs_to_people(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        emulator.store.monitors[1]["description"] += "\nseen by the night shift"
        plan = bench.plan([FOLDER])
        assert [(diff.path, diff.before) for diff in plan.changes[0].diffs] == [("/description", "seen by the night shift")]
        bench.converge([FOLDER])

    def test_a_mark_taken_away_between_plan_and_write_stops_the_write(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        update, delete = bench.plan([changed(FOLDER, interval=90)]), bench.plan([])
        emulator.store.monitors[1]["description"] = None
        outcomes = [*bench.apply(update), *bench.apply(delete)]
        assert [outcome.status for outcome in outcomes] == [Status.FAILED] * 2
        assert all("by nobody" in outcome.message and not outcome.transient for outcome in outcomes)
        assert emulator.snapshot()["monitors"][1]["interval"] == 60

    def test_a_pinned_monitor_of_another_stack_is_foreign(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        other = replace(bench, scope=replace(bench.scope, owner="test/other"))
        seen = live(other, resource("Monitor", "mine", type="group", id=1))
        assert (seen.ownership, seen.owner) == (Ownership.FOREIGN, "test/contract")

    def test_two_stacks_may_watch_the_same_thing(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        replace(bench, scope=replace(bench.scope, owner="test/other")).converge([FOLDER])
        assert list(emulator.snapshot()["monitors"]) == [1, 2]

    def test_several_made_by_hand_that_look_alike_need_a_pin(self) -> None:
        twins = [{**OLD, "id": 5}, {**OLD, "id": 7}]
        with serving(monitors=twins) as emulator, bench_on(emulator) as bench:
            plan = bench.plan([adopting(resource("Monitor", "smtp", type="port", hostname="10.0.20.202", port=25))])
            assert "(5, 7)" in plan.stuck[0].reason
            titled = resource("Monitor", "smtp", type="port", hostname="10.0.20.202", port=25, title="SMTP by hand")
            assert "(5, 7)" in bench.plan([adopting(titled)]).stuck[0].reason, "they have one title, too"

    def test_one_deleted_by_hand_between_plan_and_write_is_not_made_by_an_edit(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        plan = bench.plan([changed(FOLDER, interval=90)])
        emulator.store.delete(1)
        outcome = bench.apply(plan)[0]
        assert outcome.status is Status.FAILED
        assert "number 1 is gone; the next pass plans anew" in outcome.message
        assert not emulator.snapshot()["monitors"]

    def test_one_deleted_and_made_again_by_hand_is_theirs_until_git_adopts_it(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        port = resource("Monitor", "smtp", type="port", hostname="10.0.20.202", port=25)
        bench.converge([port])
        store = emulator.store
        store.delete(1)
        store.add({**store.dialect.required, **{key: OLD[key] for key in ("name", "type", "hostname", "port")}, "accepted_statuscodes": []})
        plan = bench.plan([port])
        assert not plan.changes
        assert len(plan.stuck) == 1
        bench.converge([adopting(port)])
        assert list(emulator.snapshot()["monitors"]) == [2], "it is adopted with its number, and none is made beside it"


class TestLostAnswers:
    def test_a_write_that_goes_on_after_its_connection_died_is_found(self, emulator: UptimeKumaEmulator) -> None:
        emulator.knobs.write = 0.4
        with bench_on(emulator, settle=3) as bench:
            plan = bench.plan([FOLDER])
            cutting = threading.Thread(target=lambda: (until(lambda: events(emulator, "add") == 1), emulator.kick()))
            cutting.start()
            outcomes = bench.apply(plan)
            cutting.join()
            assert [outcome.status for outcome in outcomes] == [Status.APPLIED]
            assert len(emulator.snapshot()["monitors"]) == 1

    def test_a_call_that_is_never_answered_ends_at_its_deadline(self, emulator: UptimeKumaEmulator) -> None:
        with bench_on(emulator, timeout=1) as bench:
            plan = bench.plan([FOLDER])
            with emulator.faults.during("no-answer", times=1, writes_only=True):
                outcomes = bench.apply(plan)
            assert "no answer to add within 1 s" in outcomes[0].message
            assert events(emulator, "loginByToken") == 1, "what was never answered may block the connection, so another is made"
            assert outcomes[0].status is Status.APPLIED
            assert len(emulator.snapshot()["monitors"]) == 1

    def test_an_error_answer_to_an_add_that_was_stored_makes_no_second_one(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        plan = bench.plan([FOLDER])
        with emulator.faults.during("error-after", times=1, writes_only=True):
            assert bench.apply(plan)[0].status is Status.APPLIED
        assert len(emulator.snapshot()["monitors"]) == 1

    def test_an_error_answer_to_an_edit_that_was_stored_asks_for_another_try(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        plan = bench.plan([changed(FOLDER, interval=90)])
        with emulator.faults.during("error-after", times=1, writes_only=True):
            outcome = bench.apply(plan)[0]
        assert outcome.transient
        assert bench.apply(plan)[0].status is Status.APPLIED

    def test_where_it_cannot_be_seen_whether_an_add_was_stored_it_is_tried_again(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        plan = bench.plan([FOLDER])
        blind = Fault("server-error", 99, matches=lambda _, event: event == "getMonitorList" and events(emulator, "add") > 0)
        emulator.faults.active.append(blind)
        with emulator.faults.during("error-after", times=1, writes_only=True):
            outcome = bench.apply(plan)[0]
        assert outcome.transient
        assert "whether it was written cannot be seen" in outcome.message
        emulator.faults.active.clear()
        assert bench.apply(plan)[0].status is Status.APPLIED
        assert len(emulator.snapshot()["monitors"]) == 1

    @pytest.mark.parametrize("deleted", [False, True])
    def test_a_mark_that_is_taken_away_before_the_reading_back_is_said(
        self, bench: Bench, emulator: UptimeKumaEmulator, deleted: bool
    ) -> None:
        bench.converge([FOLDER])

        def strip(method: str, event: str) -> bool:
            if event == "getMonitor" and events(emulator, "editMonitor") == 1:
                emulator.store.monitors[1]["description"] = ""
                if deleted:
                    emulator.store.delete(1)
            return False

        emulator.faults.active.append(Fault("meddler", matches=strip))
        outcome = bench.apply(bench.plan([changed(FOLDER, interval=90)]))[0]
        assert outcome.status is Status.FAILED
        assert "does not carry our mark now; somebody else writes it, too" in outcome.message

    def test_a_monitor_that_is_to_be_paused_is_made_paused_and_never_checks(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.apply(bench.plan([MX]))
        assert emulator.snapshot()["monitors"][1]["active"] is False
        assert events(emulator, "pauseMonitor") == 0

    def test_two_daemons_with_one_plan_make_one_monitor(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        with bench_on(emulator) as second:
            plans = bench.plan([FOLDER, MX]), second.plan([FOLDER, MX])
            bench.apply(plans[0])
            second.apply(plans[1])
            assert len(emulator.snapshot()["monitors"]) == 2
            assert not bench.plan([FOLDER, MX]).changes

    def test_two_daemons_at_the_same_instant_leave_a_copy_that_is_reported_and_not_fought_over(self, emulator: UptimeKumaEmulator) -> None:
        emulator.knobs.write = 0.5
        with bench_on(emulator) as first, bench_on(emulator) as second:
            plans = first.plan([FOLDER]), second.plan([FOLDER])
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda pair: pair[0].apply(pair[1]), zip((first, second), plans, strict=True)))
            assert len(emulator.snapshot()["monitors"]) == 2, "Uptime Kuma has nothing that could be unique"
            for bench in (first, second):
                plan = bench.plan([FOLDER])
                assert not plan.changes
                assert len(plan.notes) == 1

    def test_a_name_that_stands_for_nothing_is_refused_before_anything_is_written(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        plan = bench.plan([SMTP])
        outcome = bench.apply(plan)[0]
        assert (outcome.status, outcome.transient) == (Status.FAILED, False)
        assert "there is no Monitor 'folder'" in outcome.message
        assert emulator.faults.writes == 0

    def test_pushes_of_others_between_a_call_and_its_answer_do_no_harm(self, emulator: UptimeKumaEmulator) -> None:
        emulator.knobs.chatter = True
        with bench_on(emulator) as bench:
            bench.converge([PAGER, FOLDER, SMTP], passes=2)


class TestLogin:
    def test_a_wrong_password_is_permanent_and_tried_once(self, emulator: UptimeKumaEmulator) -> None:
        with bench_on(emulator, password="canary-wrong", login_pause=60) as bench:
            for _ in range(3):
                with pytest.raises(Permanent, match=r"check username and password.*in [56][0-9] s at the earliest") as caught:
                    bench.observe([])
                assert "canary-wrong" not in str(caught.value)
            assert events(emulator, "login") == 1, "each try would lock out people, too"

    def test_too_many_logins_of_others_ask_for_a_minute_and_make_it_no_worse(self, emulator: UptimeKumaEmulator) -> None:
        with bench_on(emulator, login_pause=60) as bench:
            plan = bench.plan([FOLDER, MX, WEB])
            with emulator.limited():
                bench.apply(plan)  # may only notice that the connection is gone
                outcomes = bench.apply(plan)
                assert events(emulator, "login") == 2, "the first, and one attempt for all three changes"
                with pytest.raises(Transient) as caught:
                    bench.observe([])
                assert events(emulator, "login") == 2, "a pass that comes too early is answered from memory"
            asked = [caught.value.retry_after, *(outcome.retry_after for outcome in outcomes)]
            assert all(seconds is not None and 55 < seconds <= 60 for seconds in asked)

    def test_after_a_restart_the_token_is_used_which_is_not_limited(self, emulator: UptimeKumaEmulator) -> None:
        with bench_on(emulator) as bench:
            bench.converge([FOLDER])
            emulator.stop()
            emulator.start()
            emulator.auth.exhaust()
            assert not bench.plan([FOLDER]).changes
            assert (events(emulator, "login"), events(emulator, "loginByToken")) == (1, 1)

    def test_a_second_factor_is_said_plainly(self) -> None:
        with serving(two_factor=True) as emulator, bench_on(emulator) as bench, pytest.raises(Permanent, match="second factor"):
            bench.observe([])

    @pytest.mark.parametrize("dialect", ["2.x", "1.23"])
    def test_a_server_without_login_needs_no_user(self, dialect: str) -> None:
        with serving(auth=False, dialect=dialect) as emulator, bench_on(emulator) as bench:
            bench.converge([FOLDER])

    def test_nothing_is_sent_before_the_server_listens(self, emulator: UptimeKumaEmulator) -> None:
        emulator.knobs.deaf = 0.2
        with bench_on(emulator, timeout=2) as bench:
            bench.converge([FOLDER])

    def test_a_server_that_is_not_there_is_transient(self, emulator: UptimeKumaEmulator) -> None:
        emulator.stop()
        with bench_on(emulator) as bench, pytest.raises(Transient, match="cannot connect"):
            bench.observe([])

    def test_a_certificate_is_trusted_only_where_its_authority_is_known(self, emulator: UptimeKumaEmulator, tmp_path: Path) -> None:
        with behind_tls(emulator.settings()["url"], tmp_path) as (url, authority):
            with bench_on(emulator, url=url) as bench, pytest.raises(Permanent, match=r"certificate is not trusted.*name its authority"):
                bench.observe([])
            with bench_on(emulator, url=url, ca_file=authority) as bench:
                bench.converge([FOLDER, PUBLIC])

    def test_a_list_of_many_megabytes_is_read(self) -> None:
        rows = [{"id": number, "name": "big", "type": "group", "description": "x" * 1_000_000} for number in range(1, 7)]
        with serving(monitors=rows) as emulator, bench_on(emulator) as bench:
            bench.converge([FOLDER])

    def test_a_connection_that_came_to_nothing_is_closed_though_the_driver_lives_on(self) -> None:
        gone = threading.Event()

        async def mute(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                while (await receive())["type"] != "websocket.disconnect":
                    pass
                gone.set()

        server = AppServer(mute)
        server.start()
        driver = UptimeKumaDriver(UptimeKumaConfig(url=server.url, username="a", timeout=0.5))
        try:
            with pytest.raises(Transient):
                driver.observe([], Scope("test/x"))
            assert gone.wait(5), "nobody may wait for the collector to find it"
        finally:
            driver.close()
            server.stop()

    def test_a_server_that_closes_every_connection_at_once_is_transient(self) -> None:
        async def slam(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.close", "code": 1001})

        server = AppServer(slam)
        server.start()
        driver = UptimeKumaDriver(UptimeKumaConfig(url=server.url, username="a", timeout=5))
        try:
            with pytest.raises(Transient, match="closed the connection at once"):
                driver.observe([], Scope("test/x"))
        finally:
            driver.close()
            server.stop()


class TestMeaning:
    def test_monitors_of_types_nobody_here_knows_pass_through_untouched(self) -> None:
        strange = {"id": 3, "name": "odd", "type": "quantum", "hostname": None, "port": "abc", "description": "x"}
        with serving(monitors=[strange]) as emulator, bench_on(emulator) as bench:
            before = emulator.snapshot()["monitors"][3]
            bench.converge([FOLDER])
            bench.converge([])
            assert emulator.snapshot()["monitors"] == {3: before}

    def test_health_is_the_last_heartbeat(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([PAGER, FOLDER, SMTP, PUSH, MX])
        assert live(bench, SMTP).health == Health(Level.HEALTHY, "up")
        assert live(bench, PUSH).health == Health(message="waits for its first call")
        assert live(bench, MX).health == Health(Level.HEALTHY, "paused")
        emulator.check = lambda row: False
        assert live(bench, SMTP).health == Health(Level.DEGRADED, "down: Connection failed")
        with bench_on(emulator, report_status=False) as relaxed:
            assert live(relaxed, SMTP).health == Health()

    def test_a_heartbeat_from_before_an_edit_proves_nothing(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([PAGER, FOLDER, SMTP])
        assert live(bench, SMTP).health.ok
        emulator.knobs.beat = 0.2
        moved = changed(SMTP, hostname="10.0.20.2")
        bench.converge([PAGER, FOLDER, moved])
        assert live(bench, moved).health == Health(Level.PROGRESSING, "not checked yet")
        until(lambda: live(bench, moved).health.ok)

    @pytest.mark.parametrize("dialect", ["2.x", "1.23"])
    def test_a_pause_inherited_from_the_group_is_no_drift(self, dialect: str) -> None:
        with serving(dialect=dialect) as emulator, bench_on(emulator) as bench:
            resources = [PAGER, changed(FOLDER, active=False), SMTP]
            bench.converge(resources)
            assert emulator.snapshot()["monitors"][2]["forceInactive"]
            assert not bench.plan(resources).changes
            bench.converge([*resources[:2], changed(SMTP, interval=90)])
            assert emulator.snapshot()["monitors"][2]["interval"] == 90
            assert events(emulator, "resumeMonitor") == 0, "an edit does not touch what is paused by its group"
            bench.converge([PAGER, FOLDER, SMTP])

    def test_an_extra_column_taken_out_of_git_goes_back_to_its_default(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([WEB])
        assert emulator.snapshot()["monitors"][1]["basic_auth_pass"] == SECRETS["secret/kuma#pass"]
        bench.converge([changed(WEB, extra={})])
        row = emulator.snapshot()["monitors"][1]
        assert (row["basic_auth_pass"], row["headers"], row["authMethod"]) == (None, None, None)

    def test_a_setting_taken_out_of_git_leaves_the_notification(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([PAGER])
        bench.converge([changed(PAGER, config={"ntfytopic": "post"})])
        config = json.loads(emulator.snapshot()["notifications"][1]["config"])
        assert (config["ntfytopic"], "ntfyPriority" in config) == ("post", False)

    def test_a_column_of_2x_is_refused_by_1_23_before_it_is_sent(self) -> None:
        with serving(dialect="1.23") as emulator, bench_on(emulator) as bench:
            outcome = bench.apply(bench.plan([changed(WEB, extra={"cacheBust": True})]))[0]
            assert "extra.cacheBust needs Uptime Kuma 2.x" in outcome.message
            assert emulator.faults.writes == 0

    def test_a_monitor_is_never_made_its_own_parent(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        outcome = bench.apply(bench.plan([changed(FOLDER, parent="folder")]))[0]
        assert "would make Uptime Kuma hang" in outcome.message
        assert not emulator.store.wedged

    def test_what_is_there_again_after_its_deletion_was_accepted_is_not_called_deleted(
        self, bench: Bench, emulator: UptimeKumaEmulator
    ) -> None:
        bench.converge([FOLDER])
        plan, monitors = bench.plan([]), emulator.store.monitors
        row = dict(monitors[1])
        emulator.faults.active.append(Fault("put back", matches=lambda method, event: not monitors and bool(monitors.update({1: row}))))
        outcome = bench.apply(plan)[0]
        assert outcome.transient
        assert "number 1 is still there" in outcome.message

    def test_a_deletion_whose_answer_was_lost_is_seen_to_be_done(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        plan = bench.plan([])
        with emulator.faults.during("cut-after", times=1, writes_only=True):
            assert bench.apply(plan)[0].status is Status.APPLIED
        assert not emulator.snapshot()["monitors"]

    def test_deleting_what_is_gone_is_no_failure(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        plan = bench.plan([])
        emulator.store.delete(1)
        assert bench.apply(plan)[0].message == "was already gone"

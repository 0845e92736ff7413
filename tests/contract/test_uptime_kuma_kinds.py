"""Maintenances, status pages, tags, copies and Docker hosts of Uptime Kuma, against the emulated server in both dialects."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from uptime_kuma_world import FOLDER, MX, NIGHT, ONCE, PUBLIC, STATUS, TAGGED, UptimeKumaWorld, bench_on, changed, resource, serving

from reconciler.driver import Action, Change, Scope, Status
from reconciler.errors import Transient
from reconciler.resource import Resource
from reconciler.testing import Bench, adopting
from reconciler_uptime_kuma.emulator import UptimeKumaEmulator

KEYS = {"weight", "screenshot", "includeSensitiveData"}


@pytest.fixture(params=["2.x", "1.23"])
def emulator(request: pytest.FixtureRequest) -> Iterator[UptimeKumaEmulator]:
    with serving(dialect=request.param, docker_hosts=["nas", "twin", "twin"]) as emulator:
        yield emulator


@pytest.fixture
def bench(emulator: UptimeKumaEmulator) -> Iterator[Bench]:
    with bench_on(emulator) as bench:
        yield bench


def only(emulator: UptimeKumaEmulator, table: str) -> Any:
    (found,) = emulator.snapshot()[table].values()
    return found


def events(emulator: UptimeKumaEmulator, name: str) -> int:
    return sum(event == name for _, event in emulator.faults.requests)


class TestMaintenances:
    def test_is_made_with_its_mark_and_then_told_what_it_is_for(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER, PUBLIC, NIGHT])
        row = only(emulator, "maintenances")
        assert row["description"].startswith("Operating system updates\n\n<!-- reconciler:test/contract:Maintenance/updates | digest=")
        assert (row["weekdays"], row["cron"], row["durationMinutes"]) == ([1, 0], "0 2 * * 0,1", 90)
        assert (row["monitors"], row["pages"], row["timezone"]) == ([1], [1], "Europe/Sofia")

    def test_a_pass_that_died_between_the_two_calls_is_repaired_and_makes_no_second(
        self, bench: Bench, emulator: UptimeKumaEmulator
    ) -> None:
        bench.converge([FOLDER, PUBLIC])
        plan = bench.plan([FOLDER, PUBLIC, NIGHT])
        fault = emulator.faults
        with fault.during("cut-before", times=1):
            fault.active[0].matches = lambda method, event: event == "addMonitorMaintenance"
            assert bench.apply(plan)[0].transient
        diffs = bench.plan([FOLDER, PUBLIC, NIGHT]).changes[0].diffs
        assert [diff.path for diff in diffs] == ["/monitors", "/pages"]
        bench.converge([FOLDER, PUBLIC, NIGHT])
        assert only(emulator, "maintenances")["monitors"] == [1]

    def test_a_name_that_stands_for_nothing_is_refused_before_anything_is_written(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        outcome = bench.apply(bench.plan([ONCE]))[0]
        assert "there is no Monitor 'folder'" in outcome.message
        assert emulator.faults.writes == 0

    def test_a_change_of_strategy_leaves_nothing_behind_that_counts_as_drift(self, bench: Bench) -> None:
        daily = {"window_start": "01:00", "window_end": "00:30"}
        for one in (
            ONCE,
            changed(ONCE, strategy="cron", start="", end="", cron="30  3 * * 1", duration_minutes=45),
            changed(ONCE, strategy="recurring-day-of-month", start="", end="", days_of_month=[15, 1, "last"], **daily),
            changed(ONCE, strategy="manual", start="", end="", active=False),
            changed(ONCE, strategy="recurring-interval", start="", interval_days=2, **daily),
        ):
            bench.converge([FOLDER, one], passes=1)

    def test_one_broken_maintenance_hides_the_maintenances_and_nothing_else(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER, ONCE])
        emulator.store.windows.rows[9] = {**emulator.store.windows.rows[1], "zone": "No/Where"}
        plan = bench.plan([FOLDER, ONCE])
        assert [(stuck.id, stuck.unknown) for stuck in plan.stuck] == [(ONCE.id, True)]
        assert "one maintenance is broken" in plan.stuck[0].reason
        with bench_on(emulator) as fresh:  # the list is not even pushed at the login
            fresh.converge([FOLDER])


class TestStatusPages:
    def test_is_filled_and_keeps_its_number_groups_and_what_people_wrote(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER, STATUS])
        before = only(emulator, "pages")
        assert before["customCSS"].startswith("body { color: navy }\n\n/* reconciler:test/contract:StatusPage/mail-status | digest=")
        assert before["groups"][0]["monitorList"] == [{"id": 1, "sendUrl": 1}]
        moved = changed(STATUS, slug="post", groups=[{"name": "New"}, {"name": "Ways in"}])
        bench.converge([FOLDER, moved])
        after = only(emulator, "pages")
        assert (after["id"], after["slug"]) == (before["id"], "post")
        assert [group["id"] for group in after["groups"]] == [3, before["groups"][0]["id"]]

    @pytest.mark.parametrize("lost", ["getStatusPage", "saveStatusPage"])
    def test_a_half_made_page_is_known_for_ours_and_filled(self, bench: Bench, emulator: UptimeKumaEmulator, lost: str) -> None:
        bench.converge([FOLDER])
        plan = bench.plan([FOLDER, STATUS])
        fault = emulator.faults

        def after_the_add(method: str, event: str) -> bool:
            return event == lost and events(emulator, "addStatusPage") == 1

        with fault.during("cut-before", times=3):
            fault.active[0].matches = after_the_add
            bench.apply(plan)
        half = only(emulator, "pages")
        if half["customCSS"] is None:
            assert half["title"] == "reconciler:test/contract:StatusPage/mail-status"
        bench.converge([FOLDER, STATUS])
        assert only(emulator, "pages")["title"] == "Mail"

    def test_a_page_that_was_made_although_the_answer_was_an_error_is_filled_at_once(
        self, bench: Bench, emulator: UptimeKumaEmulator
    ) -> None:
        bench.converge([FOLDER])
        plan = bench.plan([FOLDER, STATUS])
        with emulator.faults.during("error-after", times=1, writes_only=True):
            (outcome,) = bench.apply(plan)
        assert outcome.status is Status.APPLIED, outcome.message
        assert only(emulator, "pages")["title"] == "Mail"

    def test_an_address_that_somebody_changed_by_hand_is_changed_back(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER, STATUS])
        emulator.store.pages.rows[1]["slug"] = "elsewhere"
        assert [(diff.path, diff.before) for diff in bench.plan([FOLDER, STATUS]).changes[0].diffs] == [("/slug", "elsewhere")]
        bench.converge([FOLDER, STATUS])
        assert only(emulator, "pages")["slug"] == "mail-status"

    def test_a_page_of_another_stack_at_this_address_is_refused(self, bench: Bench) -> None:
        bench.converge([FOLDER, STATUS])
        other = replace(bench, scope=replace(bench.scope, owner="test/other"))
        assert "belongs to test/contract" in {stuck.id: stuck.reason for stuck in other.plan([STATUS]).stuck}[STATUS.id]

    def test_a_page_whose_content_cannot_be_seen_is_neither_written_nor_deleted(self, emulator: UptimeKumaEmulator) -> None:
        with bench_on(emulator) as bench:
            bench.converge([FOLDER, STATUS])
            client = bench.driver._client  # type: ignore[attr-defined]  # what is asked of it has no other switch

            def blind(path: str) -> None:
                raise Transient("the proxy in front wants a login")

            client.fetch = blind
            plan = bench.plan([FOLDER, changed(STATUS, title="x")])
            assert [stuck.id for stuck in plan.stuck] == [STATUS.id]
            assert not bench.plan([FOLDER]).changes

    def test_a_setting_of_the_other_dialect_is_refused_before_anything_is_written(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        key = "googleAnalyticsId" if emulator.store.dialect.modern else "rssTitle"
        bench.converge([FOLDER, STATUS])
        outcome = bench.apply(bench.plan([FOLDER, changed(STATUS, extra={key: "x"})]))[0]
        assert f"extra.{key} needs Uptime Kuma" in outcome.message
        assert events(emulator, "saveStatusPage") == 1

    def test_a_setting_taken_out_of_git_goes_back_to_its_default(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        key, value = ("autoRefreshInterval", 60) if emulator.store.dialect.modern else ("googleAnalyticsId", "G-1")
        bench.converge([FOLDER, changed(STATUS, extra={key: value})])
        assert only(emulator, "pages")[key] == value
        bench.converge([FOLDER, STATUS])
        assert only(emulator, "pages")[key] == emulator.store.dialect.page[key]


class TestTags:
    def tags(self, emulator: UptimeKumaEmulator) -> list[tuple[str, str]]:
        return sorted((tag["name"], tag["value"] or "") for tag in only(emulator, "monitors")["tags"])

    def test_are_put_once_and_only_ours_are_taken_away(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        store = emulator.store
        store.tags[7] = {"id": 7, "name": "team", "color": "#ff0000"}
        store.tags[9] = {"id": 9, "name": "by hand", "color": "#00ff00"}
        bench.converge([TAGGED])
        store.monitor_tags.append({"id": 99, "tag_id": 9, "monitor_id": 1, "value": ""})
        assert self.tags(emulator) == [("by hand", ""), ("critical", ""), ("team", "mail")]
        assert {row["tag_id"] for row in store.monitor_tags} == {1, 7, 9}, "a tag that exists is used"
        assert not bench.plan([TAGGED]).changes, "what people put is theirs"
        bench.converge([changed(TAGGED, tags={"team": "post"})])
        assert self.tags(emulator) == [("by hand", ""), ("team", "post")]
        bench.converge([changed(TAGGED, tags={})])
        assert self.tags(emulator) == [("by hand", "")]

    def test_a_tag_put_twice_is_put_right(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([TAGGED])
        emulator.store.monitor_tags += [{**row, "id": row["id"] + 50} for row in emulator.store.monitor_tags]
        assert [diff.path for diff in bench.plan([TAGGED]).changes[0].diffs] == ["/tags/critical", "/tags/team"]
        bench.converge([TAGGED])
        assert self.tags(emulator) == [("critical", ""), ("team", "mail")]

    def test_a_new_tag_comes_with_a_warning_where_it_breaks_the_metrics(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        message = bench.apply(bench.plan([TAGGED]))[0].message
        assert ("critical, team is new" in message) is emulator.store.dialect.modern
        assert bench.apply(bench.plan([TAGGED, replace(TAGGED, id=replace(TAGGED.id, name="b"), spec=TAGGED.spec)]))[0].message == ""

    def test_do_not_say_whose_a_monitor_is(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([TAGGED])
        emulator.store.monitors[1]["description"] = ""
        assert [stuck.id for stuck in bench.plan([TAGGED]).stuck] == [TAGGED.id]
        assert not bench.plan([]).changes


class TestCopies:
    def clone(self, emulator: UptimeKumaEmulator) -> int:
        store = emulator.store
        keys = ("name", "type", "description", "accepted_statuscodes")
        return store.add({**store.dialect.required, **{key: store.monitors[1][key] for key in keys}})

    def test_are_deleted_only_when_git_says_so_and_the_plan_shows_which(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        clones = [self.clone(emulator), self.clone(emulator)]
        assert not bench.plan([FOLDER]).changes
        (change,) = bench.plan([changed(FOLDER, copies="delete")]).changes
        assert [(diff.path, diff.before, diff.after) for diff in change.diffs if diff.path == "/copies"] == [("/copies", "2, 3", "delete")]
        outcome = bench.apply(bench.plan([changed(FOLDER, copies="delete")]))[0]
        assert outcome.message == f"deleted the copies {clones[0]}, {clones[1]}"
        assert list(emulator.snapshot()["monitors"]) == [1]
        assert not bench.plan([changed(FOLDER, copies="delete")]).changes

    def test_one_whose_mark_was_taken_away_meanwhile_stays(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        first, second = self.clone(emulator), self.clone(emulator)
        plan = bench.plan([changed(FOLDER, copies="delete")])
        emulator.store.monitors[second]["description"] = "mine now"
        bench.apply(plan)
        assert list(emulator.snapshot()["monitors"]) == [1, second]
        assert first not in emulator.snapshot()["monitors"]


class TestMonitors:
    def test_a_replace_is_an_error_and_touches_nothing(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        bench.converge([FOLDER])
        writes = emulator.faults.writes
        change = Change(Action.REPLACE, FOLDER.id, "test", FOLDER, handle={"id": 1, "mark": ""})
        outcome = bench.write([change])[0]
        assert (outcome.status, outcome.transient) == (Status.FAILED, False)
        assert "is never replaced" in outcome.message
        assert emulator.faults.writes == writes

    def test_a_docker_host_is_called_by_its_name(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        box = resource("Monitor", "box", type="docker", docker_container="mail", docker_host="nas")
        bench.converge([box])
        row = only(emulator, "monitors")
        assert (row["docker_host"], row["docker_container"]) == (1, "mail")
        for name, said in (("attic", "there is no Docker host 'attic'"), ("twin", "2 objects of kind Docker host are called 'twin'")):
            assert said in bench.apply(bench.plan([changed(box, docker_host=name)]))[0].message

    def test_a_shared_push_token_is_noted(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        push = resource("Monitor", "push", type="push")
        bench.converge([push])
        assert bench.plan([push]).notes == ()
        emulator.store.monitors[1] |= {"pushToken": push.spec.push_token}  # type: ignore[attr-defined]
        store = emulator.store
        store.add(
            {
                **store.dialect.required,
                "name": "by hand",
                "type": "push",
                "pushToken": store.monitors[1]["pushToken"],
                "accepted_statuscodes": [],
            }
        )
        assert "its push token is also that of another monitor" in bench.plan([push]).notes[0]

    def test_keys_and_types_that_nobody_here_knows_go_through_an_edit_untouched(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        strange = {"id": 3, "name": "odd", "type": "quantum", "hostname": "x", "entanglement": {"pairs": [1, None]}, "spin": 0.5}
        emulator.store.monitors[3] = {
            **emulator.store.defaults(),
            "accepted_statuscodes": ["200-299"],
            "interval": 60,
            "retryInterval": 60,
            **strange,
        }
        emulator.store.running[3] = emulator.store.monitors[3]
        pinned = adopting(resource("Monitor", "odd", type="port", hostname="h", port=1, id=3))
        bench.converge([pinned])
        row = only(emulator, "monitors")
        assert (row["type"], row["entanglement"], row["spin"]) == ("port", {"pairs": [1, None]}, 0.5)

    def test_what_an_edit_without_it_would_reset_stays_as_people_put_it(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        port = resource("Monitor", "port", type="port", hostname="a", port=1)
        bench.converge([port])
        by_hand = {"proxyId": 3} | ({"retryOnlyOnStatusCodeFailure": True} if emulator.store.dialect.modern else {})
        emulator.store.monitors[1] |= by_hand
        bench.converge([changed(port, interval=90)])
        row = only(emulator, "monitors")
        assert {key: row[key] for key in by_hand} == by_hand
        assert row["interval"] == 90


class TestTrouble:
    def test_a_restart_in_the_middle_of_an_apply_loses_nothing_and_makes_nothing_twice(self, emulator: UptimeKumaEmulator) -> None:
        wanted = [resource("Monitor", f"m{number}", type="port", hostname="h", port=number + 1) for number in range(12)]
        emulator.knobs.write = 0.05
        with bench_on(emulator, settle=3) as bench:
            plan = bench.plan(wanted)
            restarted = threading.Event()

            def restart() -> None:
                while events(emulator, "add") < 5:
                    threading.Event().wait(0.005)
                emulator.stop()
                emulator.start()
                restarted.set()

            thread = threading.Thread(target=restart)
            thread.start()
            outcomes = bench.apply(plan)
            thread.join()
            assert restarted.is_set()
            assert all(one.status is Status.APPLIED or one.transient for one in outcomes)
            bench.converge(wanted)
            assert len(emulator.snapshot()["monitors"]) == 12
            assert events(emulator, "login") == 1, "the token is used after a restart"

    def test_hundreds_of_writes_to_1_23_tell_how_far_they_are_and_2x_needs_no_word(
        self, emulator: UptimeKumaEmulator, caplog: pytest.LogCaptureFixture
    ) -> None:
        wanted = [resource("Monitor", f"m{number}", type="group") for number in range(110)]
        with caplog.at_level(logging.INFO, "reconciler_uptime_kuma"), bench_on(emulator) as bench:
            bench.converge(wanted)
        slow = not emulator.store.dialect.modern
        assert ("50 of 110 changes made, about" in caplog.text) is slow
        assert ("110 monitors in Uptime Kuma 1.23, whose writes take ever longer" in caplog.text) is slow

    def test_two_daemons_that_make_one_page_and_one_maintenance_agree(self, bench: Bench, emulator: UptimeKumaEmulator) -> None:
        wanted: list[Resource] = [FOLDER, STATUS, ONCE, MX]
        with bench_on(emulator) as second:
            plans = bench.plan(wanted), second.plan(wanted)
            bench.apply(plans[0])
            second.apply(plans[1])
            assert not bench.plan(wanted).changes
            assert not second.plan(wanted).changes
            assert [len(emulator.snapshot()[table]) for table in ("monitors", "pages", "maintenances")] == [2, 1, 1]

    def test_a_server_that_nobody_wants_anything_of_is_only_read(self, emulator: UptimeKumaEmulator) -> None:
        with bench_on(emulator) as bench:
            assert bench.driver.observe([], Scope("test/nobody")) == []
            assert emulator.faults.writes == 0
            assert UptimeKumaWorld(emulator).peek() == {}

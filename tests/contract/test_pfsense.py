"""pfSense under the common contract, and the traps that are its own."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from pfsense_world import (
    BACKEND,
    BACKENDS,
    BY_NAME,
    FORWARD,
    FRONTEND,
    FRONTENDS,
    HOST,
    NODES,
    RULE,
    SETTINGS,
    WEB_A,
    WEB_B,
    PfSenseWorld,
    append,
    changed,
    locate,
)

from reconciler.driver import Action, Level, Observation, Outcome, Scope, Status
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import Resource
from reconciler.testing import Bench, DriverContract, scope_for
from reconciler.writing import LATE, gated
from reconciler_pfsense.config import Config
from reconciler_pfsense.driver import PfSenseDriver
from reconciler_pfsense.emulator import PASSWORD, PfSenseEmulator
from reconciler_pfsense.emulator.configfile import Config as Tree
from reconciler_pfsense.emulator.configfile import at, listed, put


class TestPfSense(DriverContract):
    """The promises, kept over SSH."""

    always_ours = frozenset({"HAProxySettings"})
    cannot_delete = frozenset({"HAProxySettings"})

    @pytest.fixture
    def world(self) -> Iterator[PfSenseWorld]:
        world = PfSenseWorld()
        yield world
        world.emulator.stop()


@pytest.fixture
def world() -> Iterator[PfSenseWorld]:
    world = PfSenseWorld()
    yield world
    world.emulator.stop()


@pytest.fixture
def bench(world: PfSenseWorld) -> Iterator[Bench]:
    bench = Bench(world, world.open(), scope_for(world))
    yield bench
    bench.driver.close()


MAIL = [SETTINGS, HOST, BACKEND, FRONTEND, FORWARD]
WORDS_OF_DOUBT = {
    "the connection failed: ConnectionLost; whether anything was done is not known",
    "the answer did not arrive whole",
    "php stopped: PHP ERROR: Type: 1, File: -, Line: 42, Message: Allowed memory size of 536870912 bytes exhausted",
}
NAMES_IN_CFG = """\
\ttimeout client\t\t30000
\ttcp-request inspect-delay\t5s
\tacl\t\t\tsni_web_a\treq.ssl_sni -i mail.example.org
\tacl\t\t\tsni_web_a\treq.ssl_sni -i webmail.example.org
\tacl\t\t\tsni_web_b\treq.ssl_sni -m end -i .example.org
\ttcp-request content accept if { req.ssl_hello_type 1 }
\tuse_backend web_a_ipvANY  if  sni_web_a@
\tuse_backend web_b_ipvANY  if  sni_web_b@

""".replace("@", " ")
"""A program whose answer is missing may have run or not, and the message says so."""


def only(bench: Bench, resources: Sequence[Resource], kind: str = "PortForward") -> Observation:
    """What was seen of the one resource of a kind."""
    return next(one for one in bench.observe(resources) if one.id.kind == kind)


def failure(bench: Bench, resources: Sequence[Resource]) -> Outcome:
    """Plan, apply at once, and give the one outcome that all changes share."""
    outcomes = bench.write(bench.plan(resources).changes)
    assert {one.status for one in outcomes} == {Status.FAILED}
    assert len({one.message for one in outcomes}) == 1
    return outcomes[0]


class TestTransactions:
    def test_a_whole_converge_is_two_executions(self, world: PfSenseWorld, bench: Bench) -> None:
        outcomes = bench.write(bench.plan(MAIL).changes)
        assert {one.status for one in outcomes} == {Status.APPLIED}
        assert [program["verb"] for program in world.emulator.programs] == ["observe", "apply"]
        assert len(world.emulator.firewall.history) == 1
        assert not bench.plan(MAIL).changes

    def test_what_we_wrote_ourselves_does_not_make_the_later_waves_of_a_plan_stale(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        pool, host = changed(BACKEND, check_interval=7000), changed(HOST, description="other")
        wanted = [SETTINGS, host, pool, changed(FRONTEND, description="other"), changed(FORWARD, description="other")]
        plan = bench.plan(wanted)
        assert len(plan.waves) > 1
        assert {one.status for one in bench.apply(plan)} == {Status.APPLIED}
        assert not bench.plan(wanted).changes

    def test_what_is_put_in_force_is_what_pfsense_renders(self, world: PfSenseWorld, bench: Bench) -> None:
        heard: list[str] = []
        world.emulator.on_reload = heard.append
        checked = [{**node, "check_port": 30145, "advanced": "on-marked-down shutdown-sessions"} for node in NODES]
        bench.converge([*MAIL[:2], changed(BACKEND, servers=checked), *MAIL[3:]])
        cfg = world.emulator.haproxy_cfg()
        assert "\tbind\t\t\t10.0.20.1:25 name 10.0.20.1:25   \n" in cfg
        assert "10.0.20.101:30125 check inter 5000  weight 1 send-proxy-v2 port 30145 on-marked-down shutdown-sessions\n" in cfg
        assert "\t# reconciler:test/contract:HAProxyBackend/mail_smtp\noption redispatch\n" in cfg
        assert heard[-1] == cfg
        assert "rdr on em0 inet proto tcp from any to 203.0.113.10 port 25 -> $mail_host\n" in world.emulator.rules()
        assert "pass  in  quick  on $WAN inet proto tcp  from any to $mail_host port 25 ridentifier" in world.emulator.rules()

    def test_a_change_of_another_admin_between_plan_and_apply_is_a_conflict_that_survives(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        plan = bench.plan([*MAIL[:-1], changed(FORWARD, target="10.0.20.9")])
        world.emulator.edit(lambda tree: tree["system"].update(hostname="theirs"))
        (outcome,) = bench.apply(plan)
        assert outcome.status is Status.FAILED
        assert not outcome.transient
        assert "admin@10.0.0.5" in outcome.message
        assert at(world.tree(), "system/hostname") == "theirs"
        assert bench.write(plan.changes)[0].status is Status.FAILED, "the same stale plan must not pass the second time either"
        bench.converge([*MAIL[:-1], changed(FORWARD, target="10.0.20.9")])

    def test_a_stale_plan_for_the_settings_is_a_conflict_as_well(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        plan = bench.plan([changed(SETTINGS, maxconn=5), *MAIL[1:]])
        world.emulator.edit(lambda tree: tree["system"].update(hostname="theirs"))
        assert [bench.apply(plan)[0].status for _ in range(2)] == [Status.FAILED, Status.FAILED]
        assert at(world.tree(), "installedpackages/haproxy/maxconn") == "1000"

    def test_a_write_of_another_admin_during_the_preparation_is_a_conflict(self, world: PfSenseWorld, bench: Bench) -> None:
        with world.emulator.faults.during("other-admin", writes_only=True):
            assert "being prepared" in failure(bench, MAIL).message
        assert at(world.tree(), "system/hostname") == "fw2"
        bench.converge(MAIL)

    def test_an_answer_cut_off_during_the_reload_is_brought_to_its_end_by_the_retry(self, world: PfSenseWorld, bench: Bench) -> None:
        changes = bench.plan(MAIL).changes
        with world.emulator.faults.during("cut-during-reload", times=1, writes_only=True):
            assert all(one.transient for one in bench.write(changes))
        assert "mail_smtp" not in world.emulator.haproxy_cfg()
        assert {one.status for one in bench.write(changes)} == {Status.APPLIED}
        assert "frontend mail_smtp" in world.emulator.haproxy_cfg()
        assert len(world.emulator.firewall.history) == 1

    def test_what_was_saved_but_not_loaded_is_planned_and_loaded_by_the_next_pass(self, world: PfSenseWorld, bench: Bench) -> None:
        with world.emulator.faults.during("cut-during-reload", times=1, writes_only=True):
            bench.write(bench.plan(MAIL).changes)
        again = bench.reopened()
        plan = again.plan(MAIL)
        assert {diff.before for change in plan.changes for diff in change.diffs} == {"saved but not loaded"}
        again.apply(plan)
        assert "frontend mail_smtp" in world.emulator.haproxy_cfg()
        assert not again.plan(MAIL).changes
        again.driver.close()

    def test_what_was_saved_but_not_loaded_is_loaded_by_a_stack_without_the_settings_too(self, world: PfSenseWorld, bench: Bench) -> None:
        with world.emulator.faults.during("cut-during-reload", times=1, writes_only=True):
            bench.write(bench.plan([HOST, FORWARD]).changes)
        again = bench.reopened()
        plan = again.plan([HOST, FORWARD])
        assert {diff.before for change in plan.changes for diff in change.diffs} == {"saved but not loaded"}
        again.apply(plan)
        assert not again.plan([HOST, FORWARD]).changes
        again.driver.close()

    @pytest.mark.parametrize(("fault", "reason"), [("port-taken", "Address already in use"), ("pf-refuses", "pf refused the rules")])
    def test_what_cannot_be_loaded_is_taken_back(self, world: PfSenseWorld, bench: Bench, fault: str, reason: str) -> None:
        before = world.peek()
        with world.emulator.faults.during(fault, writes_only=True):
            outcome = failure(bench, MAIL)
        assert reason in outcome.message
        assert "was restored and loaded" in outcome.message
        assert world.peek() == before
        bench.converge(MAIL)

    def test_what_a_dead_run_left_unloaded_is_loaded_whole_by_a_change_of_something_else(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        with world.emulator.faults.during("cut-during-reload", times=1, writes_only=True):
            bench.write(bench.plan([changed(SETTINGS, maxconn=77), *MAIL[1:]]).changes)
        again = bench.reopened()
        again.apply(again.plan([changed(SETTINGS, maxconn=77), changed(HOST, addresses=["10.0.20.7"]), *MAIL[2:]]))
        assert "maxconn\t\t\t77" in world.emulator.haproxy_cfg()
        again.driver.close()

    def test_what_another_admin_saved_during_the_reload_survives_when_ours_is_taken_back(self, world: PfSenseWorld, bench: Bench) -> None:
        before = world.peek()
        with world.emulator.faults.during("late-admin", writes_only=True):
            message = failure(bench, MAIL).message
        assert "only what this change wrote was taken back, and loaded, because admin@10.0.0.5 saved meanwhile" in message
        assert at(world.tree(), "system/hostname") == "fw2"
        rendered = {"email_mailers": "", "dns_resolvers": ""}  # what the package adds by rendering
        assert world.peek() == {**before, "HAProxySettings": ("haproxy", before["HAProxySettings"][1] | rendered)}
        assert not world.emulator.firewall.pending
        bench.converge(MAIL)

    def test_what_haproxy_refuses_is_never_written_and_its_words_are_told(self, world: PfSenseWorld, bench: Bench) -> None:
        text = world.emulator.config_xml()
        bad = changed(BACKEND, servers=[{**NODES[0], "advanced": "send-proxy-v3"}])
        outcome = failure(bench, [SETTINGS, HOST, bad, FRONTEND])
        assert "unknown keyword 'send-proxy-v3'" in outcome.message
        assert world.emulator.config_xml() == text

    def test_a_full_disk_stops_before_anything_is_written(self, world: PfSenseWorld, bench: Bench) -> None:
        text = world.emulator.config_xml()
        with world.emulator.faults.during("disk-full", writes_only=True):
            message = failure(bench, MAIL).message
        assert "nothing was written; is the disk full?" in message
        assert world.emulator.config_xml() == text
        bench.converge(MAIL)

    @pytest.mark.parametrize(
        ("fault", "verbs"), [("cut-before", 2), ("cut-after", 2), ("cut-during-reload", 2), ("partial", 2), ("memory", 2)]
    )
    def test_wherever_the_way_breaks_the_firewall_is_old_or_new_and_the_retry_ends_it(
        self, world: PfSenseWorld, bench: Bench, fault: str, verbs: int
    ) -> None:
        before = world.tree()
        changes = bench.plan(MAIL).changes
        with world.emulator.faults.during(fault, times=1, writes_only=True):
            outcomes = bench.write(changes)
        assert all(one.transient for one in outcomes)
        assert len({one.message for one in outcomes}) == 1
        assert {one.message.partition(": ")[2].partition(" (")[0] for one in outcomes} <= WORDS_OF_DOUBT
        written = {kind: bool(listed(world.tree(), path)) for kind, path in (("Alias", "aliases/alias"), ("PortForward", "nat/rule"))}
        assert len(set(written.values())) == 1, "never a mix"
        assert written["Alias"] or world.tree() == before
        assert {one.status for one in bench.write(changes)} == {Status.APPLIED}
        assert len(world.emulator.firewall.history) == 1, "written once"
        assert [one["verb"] for one in world.emulator.programs].count("apply") == verbs
        assert not bench.plan(MAIL).changes

    def test_haproxy_is_not_reloaded_for_a_change_of_rules_alone(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        before = world.emulator.firewall.reloads
        bench.converge([*MAIL[:-1], changed(FORWARD, description="other")])
        assert world.emulator.firewall.reloads == before

    def test_haproxy_can_be_switched_off(self, world: PfSenseWorld, bench: Bench) -> None:
        heard: list[str] = []
        world.emulator.on_reload = heard.append
        bench.converge([changed(SETTINGS, enabled=False), *MAIL[1:]])
        assert heard[-1] == ""
        assert only(bench, MAIL, "HAProxyFrontend").health.ok, "what is switched off on purpose is not ill"

    def test_a_lock_held_by_another_run_is_worth_another_try(self, world: PfSenseWorld, bench: Bench) -> None:
        changes = bench.plan(MAIL).changes
        with world.emulator.faults.during("locked", times=1, writes_only=True):
            assert all(one.transient for one in bench.write(changes))
        assert {one.status for one in bench.write(changes)} == {Status.APPLIED}


class TestOwnership:
    def test_what_others_made_stays_as_it_is(self, world: PfSenseWorld, bench: Bench) -> None:
        def by_hand(tree: Tree) -> None:
            alias = {"name": "office", "type": "network", "address": "192.168.10.0/24", "descr": "Dörte's <nets> & co", "detail": "a||b"}
            append(tree, "aliases/alias", alias)
            rule = {"type": "block", "interface": "wan", "ipprotocol": "inet46", "log": "", "tag": "", "tracker": "1600000002"}
            append(tree, "filter/rule", {**rule, "source": {"address": "office"}, "destination": {"any": ""}, "descr": "by hand"})
            append(tree, BACKENDS, {"name": "db", "id": "104", "check_type": "none", "ha_servers": "", "stats_password": "hidden"})

        world.emulator.edit(by_hand)
        before = world.peek()
        bench.converge(MAIL)
        bench.converge([])
        foreign = {key: value for key, value in world.peek().items() if key != "HAProxySettings"}
        assert foreign == {key: value for key, value in before.items() if key != "HAProxySettings"}
        assert "hidden" not in repr(bench.observe([]))

    def test_fields_of_our_objects_that_no_spec_owns_stay(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)

        def tuned(tree: Tree) -> None:
            pool = locate(tree, "HAProxyBackend", "HAProxyBackend:mail_smtp")
            pool["id"] = "100"
            pool["ha_servers"]["item"][1]["maxconn"] = "50"
            listed(tree, "nat/rule")[0]["natreflection"] = "disable"
            listener = locate(tree, "HAProxyFrontend", "HAProxyFrontend:mail_smtp")
            listener["max_connections"] = "40"
            listener["a_extaddr"]["item"][0]["extaddr_ssl"] = "yes"

        world.emulator.edit(tuned)
        assert not bench.plan(MAIL).changes
        listening = changed(FRONTEND, description="new")
        bench.converge([SETTINGS, HOST, changed(BACKEND, check_interval=7000), listening, changed(FORWARD, description="new")])
        listener = locate(world.tree(), "HAProxyFrontend", "HAProxyFrontend:mail_smtp")
        assert listener["descr"].endswith("new")
        assert listener["max_connections"] == "40"
        assert listener["a_extaddr"]["item"][0]["extaddr_ssl"] == "yes"
        pool = locate(world.tree(), "HAProxyBackend", "HAProxyBackend:mail_smtp")
        assert pool["id"] == "100"
        assert pool["ha_servers"]["item"][1]["maxconn"] == "50"
        assert listed(world.tree(), "nat/rule")[0]["natreflection"] == "disable"

    def test_an_alias_in_use_is_not_deleted_and_its_user_is_named(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge([HOST])
        rule = {"type": "pass", "interface": "lan", "source": {"any": ""}, "destination": {"address": "mail_host"}, "descr": "by hand"}
        world.emulator.edit(lambda tree: append(tree, "filter/rule", rule))
        assert "Alias mail_host is still used by: filter rule 2 destination (by hand)" in failure(bench, []).message
        assert listed(world.tree(), "aliases/alias")

    def test_an_alias_in_use_is_not_renamed_from_under_its_user_either(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge([HOST])
        rule = {"type": "pass", "interface": "lan", "source": {"any": ""}, "destination": {"address": "mail_host"}, "descr": "by hand"}
        world.emulator.edit(lambda tree: append(tree, "filter/rule", rule))
        message = failure(bench, [changed(HOST, name="other_name")]).message
        assert "Alias mail_host is still used by: filter rule 2 destination (by hand)" in message
        assert [one["name"] for one in listed(world.tree(), "aliases/alias")] == ["mail_host"]

    def test_a_delete_that_is_refused_holds_up_nothing_else(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge([HOST, BACKEND])
        rule = {"type": "pass", "interface": "lan", "source": {"any": ""}, "destination": {"address": "mail_host"}, "descr": "by hand"}
        world.emulator.edit(lambda tree: append(tree, "filter/rule", rule))
        outcomes = bench.write(bench.plan([changed(BACKEND, check_interval=7000), SETTINGS]).changes)
        assert {one.id.kind: one.status for one in outcomes} == {
            "Alias": Status.FAILED,
            "HAProxyBackend": Status.APPLIED,
        }
        assert "still used by: filter rule 2 destination (by hand)" in next(one.message for one in outcomes if one.message)
        assert [one["checkinter"] for one in listed(world.tree(), BACKENDS)] == ["7000"]
        world.emulator.edit(lambda tree: put(tree, "filter/rule", listed(tree, "filter/rule")[:1]))
        bench.converge([changed(BACKEND, check_interval=7000), SETTINGS])
        assert not listed(world.tree(), "aliases/alias")

    def test_the_second_transaction_of_one_wave_is_not_sent_once_the_stack_is_not_ours(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge([HOST, BACKEND])
        rule = {"type": "pass", "interface": "lan", "source": {"any": ""}, "destination": {"address": "mail_host"}, "descr": "by hand"}
        world.emulator.edit(lambda tree: append(tree, "filter/rule", rule))
        changes = bench.plan([changed(BACKEND, check_interval=7000), SETTINGS]).changes
        before = world.writes()
        with gated(lambda: LATE if world.writes() > before else ""):
            outcomes = bench.write(changes)
        assert {one.id.kind: one.status for one in outcomes} == {"Alias": Status.FAILED, "HAProxyBackend": Status.BLOCKED}
        assert world.writes() == before + 1

    def test_a_backend_that_a_route_by_name_uses_is_not_deleted(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge([SETTINGS, WEB_A, WEB_B, BY_NAME])
        world.emulator.edit(lambda tree: listed(tree, FRONTENDS)[0].update(descr="taken over by hand"))
        message = failure(bench, [SETTINGS, WEB_A]).message
        assert "HAProxyBackend web_b is still used by: frontend (by_name)" in message

    def test_a_resource_renamed_in_git_keeps_its_object(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        link = listed(world.tree(), "nat/rule")[0]["associated-rule-id"]
        renamed = replace(FORWARD, id=replace(FORWARD.id, name="mail-in"))
        wanted = [*MAIL[:-1], renamed]
        assert [change.action for change in bench.plan(wanted).changes] == [Action.UPDATE]
        bench.converge(wanted)
        (forward,) = listed(world.tree(), "nat/rule")
        assert forward["associated-rule-id"] == link
        assert forward["descr"] == "[reconciler:test/contract:PortForward/mail-in] mail für alle"

    def test_an_alias_renamed_in_pfsense_is_replaced_but_never_over_somebody_elses(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge([HOST])
        other = changed(HOST, name="other_name")
        world.emulator.edit(lambda tree: append(tree, "aliases/alias", {"name": "other_name", "type": "host", "address": "10.9.9.9"}))
        assert "cannot be renamed from mail_host" in bench.plan([other]).stuck[0].reason
        world.emulator.edit(lambda tree: put(tree, "aliases/alias", listed(tree, "aliases/alias")[:1]))
        assert [change.action for change in bench.plan([other]).changes] == [Action.REPLACE]
        bench.converge([other])
        assert [alias["name"] for alias in listed(world.tree(), "aliases/alias")] == ["other_name"]

    def test_a_copy_that_carries_the_same_mark_is_refused(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        world.emulator.edit(lambda tree: append(tree, "nat/rule", {**listed(tree, "nat/rule")[0], "local-port": "26"}))
        assert "2 objects carry the mark" in bench.plan(MAIL).stuck[0].reason

    def test_a_second_forward_of_the_same_port_is_refused(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        rival = {"descr": "by hand", "interface": "wan", "protocol": "tcp", "destination": {"network": "wanip", "port": "25"}}
        world.emulator.edit(lambda tree: append(tree, "nat/rule", {**rival, "target": "10.0.20.77", "local-port": "25"}))
        assert "another object for the same is there" in bench.plan(MAIL).stuck[0].reason

    def test_two_resources_that_mean_one_object_are_refused(self, world: PfSenseWorld, bench: Bench) -> None:
        twin = replace(FORWARD, id=replace(FORWARD.id, name="other"))
        assert {stuck.reason for stuck in bench.plan([HOST, FORWARD, twin]).stuck} == {
            f"{twin.id} means the same object; take one of the two out of git",
            f"{FORWARD.id} means the same object; take one of the two out of git",
        }
        again = replace(RULE, id=replace(RULE.id, name="other"))
        bench.converge([HOST, RULE, again])
        assert len(listed(world.tree(), "filter/rule")) == 3, "equal rules may stand side by side"

    def test_a_port_may_change_hands_between_two_forwards(self, world: PfSenseWorld, bench: Bench) -> None:
        second = changed(replace(FORWARD, id=replace(FORWARD.id, name="second")), port="26", target_port="26")
        bench.converge([HOST, FORWARD, second])
        bench.converge([HOST, changed(FORWARD, port="26", target_port="26"), changed(second, port="25", target_port="25")])
        descr = [(rule["descr"].partition("]")[0], rule["destination"]["port"]) for rule in listed(world.tree(), "nat/rule")]
        assert sorted(port for _, port in descr) == ["25", "26"]
        assert ("[reconciler:test/contract:PortForward/second", "25") in descr

    def test_what_a_stranger_made_between_plan_and_apply_is_not_taken_over(self, world: PfSenseWorld, bench: Bench) -> None:
        plan = bench.plan([HOST])
        world.emulator.edit(lambda tree: append(tree, "aliases/alias", {"name": "mail_host", "type": "host", "address": "10.9.9.9"}))
        for _ in range(2):
            (outcome,) = bench.apply(plan)
            assert outcome.status is Status.FAILED
            assert not outcome.transient
        assert listed(world.tree(), "aliases/alias")[0]["address"] == "10.9.9.9"

    def test_what_another_stack_made_between_plan_and_apply_is_not_taken_over_either(self, world: PfSenseWorld, bench: Bench) -> None:
        plan = bench.plan([HOST])
        theirs = {"name": "mail_host", "type": "host", "address": "10.9.9.9", "descr": "[reconciler:test/other:Alias/mail_host]"}
        world.emulator.edit(lambda tree: append(tree, "aliases/alias", theirs))
        for _ in range(2):
            (outcome,) = bench.apply(plan)
            assert outcome.status is Status.FAILED
        assert listed(world.tree(), "aliases/alias") == [theirs]

    def test_the_mark_says_whether_the_object_must_outlive_git(self, world: PfSenseWorld, bench: Bench) -> None:
        kept = replace(HOST, policy=replace(HOST.policy, prune=False))
        bench.converge([HOST])
        bench.converge([kept])
        assert listed(world.tree(), "aliases/alias")[0]["descr"] == "[reconciler:test/contract:Alias/mail_host:keep]"
        assert [one.keep for one in bench.observe([])] == [True]
        assert not bench.plan([]).changes


class TestLinkedRules:
    def linked(self, world: PfSenseWorld) -> Tree:
        return next(rule for rule in listed(world.tree(), "filter/rule") if "associated-rule-id" in rule)

    def test_a_forward_brings_its_rule_and_takes_it_along(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        assert self.linked(world)["destination"] == {"address": "mail_host", "port": "25"}
        bench.converge([*MAIL[:-1], changed(FORWARD, target="10.0.20.9", target_port="2525")])
        assert self.linked(world)["destination"] == {"address": "10.0.20.9", "port": "2525"}
        bench.converge(MAIL[:-1])
        assert len(listed(world.tree(), "filter/rule")) == 1

    def test_a_rule_that_somebody_disabled_is_drift_and_its_field_is_named(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        world.emulator.edit(lambda tree: listed(tree, "filter/rule")[1].update(disabled=""))
        (change,) = bench.plan(MAIL).changes
        assert [(diff.path, diff.before, diff.after) for diff in change.diffs] == [("/pass_rule", "edited", True)]
        assert only(bench, MAIL).notes == ("its linked pass rule was edited: disabled",)
        bench.converge(MAIL)
        assert "disabled" not in self.linked(world)

    def test_a_rule_that_somebody_edited_may_be_left_so(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        lenient = [*MAIL[:-1], changed(FORWARD, pass_rule="edited")]
        world.emulator.edit(lambda tree: listed(tree, "filter/rule")[1].update(source={"address": "198.51.100.0/24"}))
        assert not bench.plan(lenient).changes
        bench.converge([*MAIL[:-1], changed(FORWARD, pass_rule="edited", description="x")])
        assert self.linked(world)["source"] == {"address": "198.51.100.0/24"}

    def test_a_forward_without_a_rule_loses_the_one_it_had(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        bench.converge([*MAIL[:-1], changed(FORWARD, pass_rule=False)])
        assert len(listed(world.tree(), "filter/rule")) == 1
        assert listed(world.tree(), "nat/rule")[0]["associated-rule-id"] == ""

    def test_a_rule_whose_forward_is_gone_is_pruned(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        world.emulator.edit(lambda tree: put(tree, "nat/rule", []))
        assert [(one.action, one.id) for one in bench.plan(MAIL[:-1]).changes] == [(Action.DELETE, FORWARD.id)]
        bench.converge(MAIL[:-1])
        assert len(listed(world.tree(), "filter/rule")) == 1

    def test_a_rule_whose_forward_is_gone_is_used_again(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        world.emulator.edit(lambda tree: put(tree, "nat/rule", []))
        bench.converge(MAIL)
        assert len(listed(world.tree(), "filter/rule")) == 2


class TestSeeing:
    def test_drift_tells_who_changed_the_firewall_and_when(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        assert only(bench, MAIL).evidence is None, "our own write is no evidence of drift"
        world.meddle(FORWARD)
        evidence = only(bench, MAIL).evidence
        assert evidence is not None
        assert evidence.who == "admin@10.0.0.5 (Local Database)"
        assert evidence.when is not None

    def test_drift_tells_of_everybody_who_changed_the_firewall_since_our_last_write(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        revision = at(world.tree(), "revision")
        world.emulator.edit(lambda tree: tree["system"].update(hostname="one"), username="anna@10.0.0.6 (Local Database)")
        at(world.emulator.firewall.config, "revision")["time"] = str(int(revision["time"]) + 5)
        world.meddle(FORWARD)
        evidence = only(bench, MAIL).evidence
        assert evidence is not None
        assert evidence.who == "admin@10.0.0.5 (Local Database) or anna@10.0.0.6 (Local Database)"
        assert "reconciler" not in evidence.how

    def test_a_name_that_a_tls_client_asks_for_decides_where_it_goes(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge([SETTINGS, WEB_A, WEB_B, BY_NAME])
        assert NAMES_IN_CFG in world.emulator.haproxy_cfg()
        by_hand = {"action": "http-request_deny", "acl": "theirs"}

        def meddled(tree: Tree) -> None:
            frontend = listed(tree, FRONTENDS)[0]
            frontend["ha_acls"]["item"].insert(0, {"name": "theirs", "expression": "source_ip", "value": "198.51.100.0/24"})
            frontend["a_actionitems"]["item"].insert(0, by_hand)
            frontend["a_actionitems"]["item"].pop()

        world.emulator.edit(meddled)
        assert [diff.path for diff in bench.plan([SETTINGS, WEB_A, WEB_B, BY_NAME]).changes[0].diffs] == ["/routes"]
        bench.converge([SETTINGS, WEB_A, WEB_B, BY_NAME])
        frontend = listed(world.tree(), FRONTENDS)[0]
        assert [one["name"] for one in frontend["ha_acls"]["item"]] == ["theirs", "sni_web_a", "sni_web_a", "sni_web_b"]
        assert frontend["a_actionitems"]["item"][0] == by_hand, "what is not ours stays, and stays first"
        bench.converge([SETTINGS, WEB_A, changed(BY_NAME, routes=[], default_backend="web_a")])
        assert listed(world.tree(), FRONTENDS)[0]["a_actionitems"]["item"] == [by_hand]

    def test_a_literal_address_in_the_wrong_field_listens_everywhere_and_is_drift(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        bind = {"extaddr": "10.0.20.1", "extaddr_port": "25"}
        world.emulator.edit(lambda tree: listed(tree, FRONTENDS)[0].update(a_extaddr={"item": [bind]}))
        assert "bind\t\t\t*:25" in world.emulator.haproxy_cfg()
        assert [diff.path for diff in bench.plan(MAIL).changes[0].diffs] == ["/binds/0/address"]
        bench.converge(MAIL)
        assert "bind\t\t\t10.0.20.1:25" in world.emulator.haproxy_cfg()

    def test_health_is_what_haproxy_says_of_its_servers(self, world: PfSenseWorld, bench: Bench) -> None:
        bench.converge(MAIL)
        world.emulator.firewall.down = {"mail_smtp/node-101"}
        health = only(bench, MAIL, "HAProxyBackend").health
        assert (health.level, health.message) == (Level.HEALTHY, "1 of 2 servers are up; down: node-101")
        world.emulator.firewall.down.add("mail_smtp/node-102")
        assert only(bench, MAIL, "HAProxyBackend").health.level is Level.DEGRADED

    def test_without_the_haproxy_package_only_its_kinds_cannot_be_seen(self, world: PfSenseWorld, bench: Bench) -> None:
        with world.emulator.faults.during("no-haproxy"):
            plan = bench.plan(MAIL)
            assert {stuck.id.kind for stuck in plan.stuck if stuck.unknown} == {"HAProxyBackend", "HAProxyFrontend", "HAProxySettings"}
            assert {outcome.status for outcome in bench.apply(plan)} == {Status.APPLIED}
        assert [alias["name"] for alias in listed(world.tree(), "aliases/alias")] == ["mail_host"]

    def test_a_firewall_that_prints_dots_while_it_boots_is_understood(self, world: PfSenseWorld, bench: Bench) -> None:
        with world.emulator.faults.during("dots"):
            bench.converge(MAIL)

    def test_an_error_of_php_is_told_without_its_stack(self, world: PfSenseWorld, bench: Bench) -> None:
        with world.emulator.faults.during("html"), pytest.raises(Permanent, match=r"php stopped: PHP ERROR.*undefined function") as caught:
            bench.observe(MAIL)
        assert "Stack" not in str(caught.value)
        assert "<pre" not in str(caught.value)


class TestConnecting:
    def open(self, world: PfSenseWorld, **settings: Any) -> PfSenseDriver:
        given = {**world.emulator.settings(), **settings}
        return PfSenseDriver(Config.model_validate({key: value for key, value in given.items() if value is not None}))

    def refusal(self, driver: PfSenseDriver) -> DriverError:
        with pytest.raises(DriverError) as caught:
            driver.observe([], Scope("test/contract"))
        driver.close()
        return caught.value

    def test_a_password_opens_it_as_well(self, world: PfSenseWorld) -> None:
        driver = self.open(world, private_key=None, password=PASSWORD)
        assert driver.observe([], Scope("test/contract")) == []
        driver.close()

    def test_a_wrong_password_stops_and_is_not_repeated(self, world: PfSenseWorld) -> None:
        error = self.refusal(self.open(world, private_key=None, password="canary-hunter2"))
        assert isinstance(error, Permanent)
        assert "login was refused" in str(error)
        assert "canary" not in str(error)

    def test_a_refused_key_stops(self, world: PfSenseWorld) -> None:
        world.emulator.accepts_logins = False
        assert isinstance(self.refusal(self.open(world)), Permanent)

    def test_a_changed_host_key_stops_before_anything_is_sent(self, world: PfSenseWorld) -> None:
        driver = self.open(world)
        world.emulator.change_host_key()
        error = self.refusal(driver)
        assert isinstance(error, Permanent)
        assert "host key is not the one in known_hosts" in str(error)
        assert not world.emulator.programs

    def test_a_key_that_cannot_be_read_is_said(self, world: PfSenseWorld) -> None:
        assert "private key cannot be read" in str(self.refusal(self.open(world, private_key="canary")))

    def test_known_hosts_may_be_a_file(self, world: PfSenseWorld, tmp_path: Path) -> None:
        path = tmp_path / "known_hosts"
        assert isinstance(self.refusal(self.open(world, known_hosts=str(path))), Permanent)
        path.write_text(world.emulator.settings()["known_hosts"])
        driver = self.open(world, known_hosts=str(path))
        assert driver.observe([], Scope("test/contract")) == []
        driver.close()

    def test_a_firewall_that_is_off_is_worth_another_try(self, world: PfSenseWorld) -> None:
        driver = self.open(world)
        world.emulator.stop()
        assert isinstance(self.refusal(driver), Transient)

    def test_a_slow_firewall_meets_the_deadline(self, world: PfSenseWorld) -> None:
        with world.emulator.faults.during("latency", seconds=5):
            assert "no answer in time" in str(self.refusal(self.open(world, timeout=0.5)))

    def test_a_connection_is_kept_and_opened_again_when_it_is_gone(self, world: PfSenseWorld) -> None:
        driver = self.open(world)
        driver.observe([], Scope("test/contract"))
        first = driver.client._connection
        driver.observe([], Scope("test/contract"))
        assert driver.client._connection is first
        world.emulator.stop()
        assert isinstance(self.refusal(driver), Transient)
        world.emulator.start()
        assert driver.observe([], Scope("test/contract")) == []
        driver.close()


def test_a_person_can_look_into_the_emulator(world: PfSenseWorld) -> None:
    async def look(command: str) -> tuple[str, int | None]:
        hosts = asyncssh.import_known_hosts(world.emulator.settings()["known_hosts"])
        async with asyncssh.connect("127.0.0.1", world.emulator.port, username="admin", password=PASSWORD, known_hosts=hosts) as shell:
            done = await shell.run(command)
            return str(done.stdout), done.exit_status

    assert asyncio.run(look("cat haproxy.cfg")) == (world.emulator.haproxy_cfg(), 0)
    assert asyncio.run(look("cat config.xml rules")) == (world.emulator.config_xml() + world.emulator.rules(), 0)
    assert asyncio.run(look("cat /etc/passwd")) == ("", 1)
    assert asyncio.run(look("rm -rf /"))[1] == 127


def test_the_emulator_starts_from_any_configuration_and_says_how_to_look(world: PfSenseWorld) -> None:
    emulator = PfSenseEmulator({"config_xml": world.emulator.config_xml(), "wan": "192.0.2.1"})
    assert "203.0.113.10" in emulator.config_xml()
    assert "192.0.2.1" in PfSenseEmulator({"wan": "192.0.2.1"}).config_xml()
    assert "0 port forwards" in world.emulator.summary()[1]

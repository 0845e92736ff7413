"""The Vault driver against its emulator: the promises of every driver, and the traps of this system."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from vault_world import BY_HAND, PASSWORD, PLANTED, SHARED, TOKEN, EmulatedVault, data, resource, secret

from reconciler.driver import Action, Change, Level, Ownership, SecretVersion, Status
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, ResourceId
from reconciler.sandbox.server import READS, Fault
from reconciler.testing import Bench, DriverContract, adopting, scope_for
from reconciler_vault.client import Vault
from reconciler_vault.config import VaultConfig
from reconciler_vault.driver import VaultDriver
from reconciler_vault.emulator import VaultEmulator
from reconciler_vault.emulator.wire import Call
from reconciler_vault.group import IdentityGroup
from reconciler_vault.kv import KV
from reconciler_vault.spec import AppRole, Mount, Policy

EMULATOR, WORLD = VaultEmulator, EmulatedVault


class TestContract(DriverContract):
    cannot_delete = frozenset({"Mount", "AuthMount"})


def opened(world: EmulatedVault, **settings: object) -> Bench:
    return Bench(world, world.open(**settings), scope_for(world))


def versions(world: EmulatedVault, path: str = "secret/mail/made") -> dict[str, JSONObject]:
    return world.peek()[f"Secret {path}"][1]["versions"]


def custom(world: EmulatedVault, path: str = "secret/mail/made") -> dict[str, str]:
    return world.peek()[f"Secret {path}"][1]["custom"]


def interlope(world: EmulatedVault, method: str, part: str, meddle: Callable[[], object]) -> None:
    """Have somebody else act just before the next request of ``method`` whose path holds ``part``."""

    def matches(sent: str, path: str) -> bool:
        if (sent, part in path) == (method, True):
            world.emulator.faults.active.remove(fault)
            meddle()
        return False

    fault = Fault("interloper", matches=matches)
    world.emulator.faults.active.append(fault)


class TestSeeingWithoutReading:
    def test_no_value_is_read_to_observe_or_to_write(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [secret(password=PASSWORD), adopting(secret(SHARED, theirs=BY_HAND, ours=TOKEN))]
        bench.converge(wanted)
        bench.observe(wanted)
        reads = [path for method, path in world.emulator.faults.requests if method == "GET" and "/data/" in path]
        assert not reads

    def test_versions_are_known_without_reading_and_a_deleted_secret_has_none(self, world: EmulatedVault, bench: Bench) -> None:
        assert isinstance(bench.driver, VaultDriver)
        world.emulator.ask("POST", "secret/data/gone", {"data": {"a": "b"}})
        world.emulator.ask("DELETE", "secret/data/gone")
        assert bench.driver.versions([SHARED, "secret/gone", "secret/never"], bench.scope) == {
            SHARED: SecretVersion("1", frozenset({"theirs"}))
        }
        assert not [path for method, path in world.emulator.faults.requests if "/data/" in path]

    def test_a_value_is_read_for_a_write_and_its_shape_is_checked_without_quoting_it(self, world: EmulatedVault, bench: Bench) -> None:
        driver = bench.driver
        assert isinstance(driver, VaultDriver)
        wanted = secret(SHARED, theirs={"pattern": "^smtp:", "consumers": ["a test"]})
        assert driver.provider(SHARED, [wanted]) == wanted.id
        assert driver.read(SHARED, bench.scope).facts == {"theirs": {"fault": "does not match the pattern ^smtp:"}}
        driver.provider(SHARED, [secret(SHARED, theirs={"pattern": "^planted"})])
        reading = driver.read(SHARED, bench.scope)
        assert (reading.version, reading.values["theirs"].reveal(), reading.facts) == ("1", PLANTED, {})

    def test_a_secret_that_is_not_there_cannot_be_read_and_the_error_says_how_to_put_it(self, world: EmulatedVault, bench: Bench) -> None:
        assert isinstance(bench.driver, VaultDriver)
        with pytest.raises(Permanent, match="vault kv put secret/never"):
            bench.driver.read("secret/never", bench.scope)

    def test_a_missing_key_degrades_and_is_not_a_change(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [adopting(secret(SHARED, theirs=BY_HAND, relay=BY_HAND))]
        bench.converge(wanted)
        (seen,) = bench.observe(wanted)
        assert seen.health.level is Level.DEGRADED
        assert seen.health.message == f"missing {SHARED}#relay; put it with: vault kv patch {SHARED} relay=..."
        world.emulator.ask("PATCH", "secret/data/platform", {"data": {"relay": "x"}})
        (seen,) = bench.observe(wanted)
        assert seen.health.ok
        assert not bench.plan(wanted).changes

    def test_a_key_that_need_not_be_there_degrades_nothing(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [adopting(secret(SHARED, theirs=BY_HAND, relay={**BY_HAND, "required": False}))]
        bench.converge(wanted)
        (seen,) = bench.observe(wanted)
        assert seen.health.ok

    def test_a_key_without_a_consumer_and_a_version_of_somebody_else_are_noted(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [secret(password={"generate": {"type": "hex"}})]
        bench.converge(wanted)
        world.emulator.ask("PATCH", "secret/data/mail/made", {"data": {"more": "x"}})
        (seen,) = bench.observe(wanted)
        assert seen.notes == (
            "secret/mail/made#password has no consumer; name one, or take the key out",
            "secret/mail/made: version 2 was written by somebody else; ours was 1",
        )
        assert seen.evidence is not None
        assert seen.evidence.how == "version 2"


class TestWritingSecrets:
    def test_on_a_shared_path_other_keys_and_other_notes_stay(self, world: EmulatedVault, bench: Bench) -> None:
        world.emulator.ask("PATCH", "secret/metadata/platform", {"custom_metadata": {"team": "platform"}})
        bench.converge([adopting(secret(SHARED, ours=TOKEN))])
        newest = versions(world, SHARED)["2"]
        assert newest["theirs"] == PLANTED
        assert len(newest["ours"]) == 32
        assert custom(world, SHARED)["team"] == "platform"
        assert ("POST", "/v1/secret/data/platform") not in world.emulator.faults.requests

    def test_a_value_that_is_there_is_recorded_and_never_made_anew(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = adopting(secret(SHARED, theirs=PASSWORD))
        (seen,) = bench.observe([wanted])
        assert seen.live is not None
        assert seen.live["keys"] == {"theirs": "present, not recorded"}
        bench.converge([wanted])
        assert versions(world, SHARED) == {"1": {"theirs": PLANTED}}
        assert custom(world, SHARED)["reconciler-key-theirs"].startswith("generated password ")

    def test_a_hand_made_key_that_becomes_a_generated_one_keeps_its_value(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([adopting(secret(SHARED, theirs=BY_HAND))])
        bench.converge([secret(SHARED, theirs=PASSWORD)])
        assert versions(world, SHARED) == {"1": {"theirs": PLANTED}}

    def test_a_new_epoch_makes_one_new_version_and_leaves_the_other_keys(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([secret(password=PASSWORD, token=TOKEN)])
        bench.converge([secret(password={**PASSWORD, "generate": {**PASSWORD["generate"], "epoch": 2}}, token=TOKEN)])
        first, second = versions(world)["1"], versions(world)["2"]
        assert len(versions(world)) == 2
        assert first["password"] != second["password"]
        assert first["token"] == second["token"]
        assert "reconciler-making" not in custom(world)

    @pytest.mark.parametrize("story", ["first", "added", "rotated"])
    @pytest.mark.parametrize("survivors", range(6))
    def test_cut_off_after_any_write_it_converges_with_exactly_one_new_version(
        self, world: EmulatedVault, story: str, survivors: int
    ) -> None:
        """The process dies after the n-th write: the answer is lost and nothing more is sent; another process goes on."""
        bench = opened(world)
        path, wanted, expected = "secret/mail/made", secret(password=PASSWORD), 1
        if story == "added":
            path, wanted, expected = SHARED, adopting(secret(SHARED, theirs=BY_HAND, password=PASSWORD)), 2
        if story == "rotated":
            bench.converge([wanted])
            wanted, expected = secret(password={**PASSWORD, "generate": {"type": "hex"}}), 2
        plan = bench.plan([wanted])
        done = world.writes()
        faults = world.emulator.faults
        faults.active.append(Fault("cut-after", matches=lambda method, _: method not in READS and faults.writes == done + survivors + 1))
        faults.active.append(Fault("cut-before", 99, matches=lambda method, _: faults.writes > done + survivors + 1))
        outcomes = bench.apply(plan)
        faults.active.clear()
        assert all(one.transient or one.status is Status.APPLIED for one in outcomes)
        bench = bench.reopened()
        bench.converge([wanted])
        assert len(versions(world, path)) == expected
        assert "reconciler-making" not in custom(world, path)
        bench.driver.close()

    def test_a_write_that_is_answered_too_late_is_transient_and_not_made_twice(
        self, world: EmulatedVault, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = opened(world, timeout=0.2)
        wanted = [secret(password=PASSWORD)]
        plan = bench.plan(wanted)
        system = world.emulator.system
        handle = system.handle

        def slowly(call: Call) -> JSONObject | None:
            answer = handle(call)
            if call.verb == "POST" and "/data/" in call.path:
                time.sleep(0.4)
            return answer

        monkeypatch.setattr(system, "handle", slowly)
        (outcome,) = bench.apply(plan)
        assert outcome.transient
        assert "no answer within 0.2 seconds" in outcome.message
        monkeypatch.undo()
        patient = opened(world)
        (again,) = patient.apply(plan)
        assert again.status is Status.APPLIED
        assert len(versions(world)) == 1
        assert not patient.plan(wanted).changes
        patient.driver.close()
        bench.driver.close()

    def test_somebody_who_writes_in_between_wins_and_ours_comes_after_it(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [adopting(secret(SHARED, ours=TOKEN))]
        plan = bench.plan(wanted)
        interlope(world, "PATCH", "/data/", lambda: world.emulator.ask("PATCH", "secret/data/platform", {"data": {"theirs": "new"}}))
        (outcome,) = bench.apply(plan)
        assert outcome.status is Status.APPLIED, outcome
        assert not bench.plan(wanted).changes
        assert versions(world, SHARED)["3"]["theirs"] == "new"
        assert "ours" not in versions(world, SHARED)["2"]

    def test_who_loses_every_race_is_asked_again_later(self, world: EmulatedVault, bench: Bench) -> None:
        plan = bench.plan([adopting(secret(SHARED, ours=TOKEN))])

        def always_first(method: str, path: str) -> bool:
            if method == "PATCH" and "/data/" in path:
                world.emulator.ask("PATCH", "secret/data/platform", {"data": {"theirs": "busy"}})
            return False

        world.emulator.faults.active.append(Fault("busy", matches=always_first))
        (outcome,) = bench.apply(plan)
        world.emulator.faults.active.clear()
        assert outcome.transient
        assert "check-and-set" in outcome.message

    def test_a_rotation_that_is_ignored_for_now_is_made_when_that_ends(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([secret(password=PASSWORD)])
        rotated = {**PASSWORD, "generate": {"type": "hex"}}
        wanted = secret(delete="soft", password=rotated)
        ignoring = replace(wanted, policy=replace(wanted.policy, ignore=("/keys/password",)))
        bench.converge([ignoring])
        assert custom(world)["reconciler-delete"] == "soft"
        assert list(versions(world)) == ["1"]
        bench.converge([wanted])
        assert list(versions(world)) == ["1", "2"]

    def test_a_rotation_that_loses_the_race_is_made_afterwards(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([secret(password=PASSWORD)])
        wanted = [secret(password={**PASSWORD, "generate": {"type": "hex"}})]
        interlope(world, "PATCH", "/data/", lambda: world.emulator.ask("PATCH", "secret/data/mail/made", {"data": {"other": "x"}}))
        bench.converge(wanted)
        assert versions(world)["3"]["password"] != versions(world)["2"]["password"] == versions(world)["1"]["password"]

    def test_a_first_write_never_overwrites_what_came_in_between(self, world: EmulatedVault, bench: Bench) -> None:
        plan = bench.plan([secret(password=PASSWORD)])
        world.emulator.ask("POST", "secret/data/mail/made", {"data": {"password": PLANTED}})
        (outcome,) = bench.apply(plan)
        assert outcome.status is Status.FAILED
        assert "does not carry our mark by now" in outcome.message
        assert versions(world) == {"1": {"password": PLANTED}}

    def test_a_deleted_version_is_a_tombstone_until_git_says_otherwise(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = secret(password=PASSWORD)
        bench.converge([wanted])
        world.emulator.ask("DELETE", "secret/data/mail/made")
        assert not bench.plan([wanted]).changes
        (seen,) = bench.observe([wanted])
        assert "version 1 was deleted; bring it back with: vault kv undelete -mount=secret -versions=1 mail/made" in seen.health.message
        spec = wanted.spec.model_copy(update={"recreate_deleted": True})
        bench.converge([replace(wanted, spec=spec, digest="")])
        assert list(versions(world)) == ["1", "2"]
        assert bench.observe([wanted])[0].health.ok

    def test_a_write_for_another_reason_does_not_wake_a_tombstone(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([secret(password=PASSWORD)])
        world.emulator.ask("DELETE", "secret/data/mail/made")
        bench.converge([secret(delete="soft", password=PASSWORD, token=TOKEN)])
        assert list(versions(world)) == ["1"]

    def test_notes_replaced_by_another_tool_lose_the_ownership_and_nothing_else(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = secret(password=PASSWORD)
        bench.converge([wanted])
        world.emulator.ask("POST", "secret/metadata/mail/made", {"custom_metadata": {"managed-by": "external-secrets"}})
        (stuck,) = bench.plan([wanted]).stuck
        assert "belongs to external-secrets" in stuck.reason
        bench.converge([])
        assert list(versions(world)) == ["1"], "what lost its mark is not deleted"
        bench.converge([adopting(wanted)])
        assert list(versions(world)) == ["1"], "taking it over must not make the value anew"
        assert custom(world)["managed-by"] == "external-secrets"

    def test_an_unmarked_path_is_taken_over_by_annotation_only(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = secret(SHARED, theirs=BY_HAND)
        assert bench.plan([wanted]).stuck
        bench.converge([adopting(wanted)])
        assert custom(world, SHARED)["reconciler"] == "reconciler:test/contract:Secret/platform"
        assert list(versions(world, SHARED)) == ["1"]

    def test_a_value_that_its_own_pattern_refuses_is_not_written(self, world: EmulatedVault, bench: Bench) -> None:
        (outcome,) = bench.apply(bench.plan([secret(password={**PASSWORD, "pattern": "^never$"})]))
        assert outcome.message.startswith("secret/mail/made#password does not match the pattern ^never$")
        assert not versions(world)

    def test_a_value_that_does_not_fit_a_new_shape_is_named_when_the_shape_moves(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([adopting(secret(SHARED, theirs={"pattern": "^planted"}))])
        (outcome,) = bench.apply(bench.plan([secret(SHARED, theirs={"pattern": "^smtp:"})]))
        assert outcome.status is Status.FAILED
        assert outcome.message.startswith(f"{SHARED}#theirs does not match the pattern ^smtp:")
        assert PLANTED not in outcome.message

    def test_a_mount_of_version_1_is_refused_before_anything_is_written(self, world: EmulatedVault, bench: Bench) -> None:
        world.emulator.ask("POST", "sys/mounts/old", {"type": "kv"})
        (stuck,) = bench.plan([secret("old/one", password=PASSWORD)]).stuck
        assert "old/ is not kv version 2" in stuck.reason

    def test_where_no_engine_is_mounted_nothing_is_written_and_that_is_said(self, world: EmulatedVault, bench: Bench) -> None:
        (outcome,) = bench.apply(bench.plan([secret("nowhere/one", password=PASSWORD)]))
        assert outcome.status is Status.FAILED
        assert outcome.message.startswith("nowhere/one: there is no secrets engine here")

    def test_mounts_become_known_while_other_threads_look_among_them(self, world: EmulatedVault, bench: Bench) -> None:
        world.emulator.ask("POST", "sys/mounts/apps", {"type": "kv", "options": {"version": "2"}})
        kv = KV(Vault(VaultConfig.model_validate(world.settings())))
        kv.metadata(SHARED, bench.scope)

        class Interrupted(str):
            """A path at which another thread has its turn while its mount is looked for."""

            def startswith(self, *wanted: Any) -> bool:
                kv.metadata("apps/one", bench.scope)
                return super().startswith(*wanted)

        assert kv.metadata(Interrupted(SHARED), bench.scope) is not None


class TestLettingGo:
    def test_what_left_git_stays_unless_its_spec_said_otherwise(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([secret(delete="retain", password=PASSWORD)])
        plan = bench.plan([])
        assert not plan.changes
        assert [held.guard for held in plan.held] == ["keep"]

    def test_a_soft_deletion_can_be_undone_and_leaves_no_mark(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([secret(delete="soft", password=PASSWORD)])
        bench.apply(bench.plan([]))
        assert not bench.observe([])
        assert not custom(world)
        world.emulator.ask("POST", "secret/undelete/mail/made", {"versions": [1]})
        assert world.emulator.ask("GET", "secret/data/mail/made") is not None

    @pytest.mark.parametrize("delete", ["soft", "purge"])
    def test_a_version_written_after_the_plan_is_not_deleted_by_it(self, world: EmulatedVault, bench: Bench, delete: str) -> None:
        bench.converge([secret(delete=delete, password=PASSWORD)])
        plan = bench.plan([])
        world.emulator.ask("PATCH", "secret/data/mail/made", {"data": {"password": PLANTED}})
        (outcome,) = bench.apply(plan)
        assert (outcome.status, outcome.transient) == (Status.FAILED, False)
        assert "was at version 1 in the plan and is at 2 now; nothing was deleted" in outcome.message
        assert versions(world)["2"] == {"password": PLANTED}
        assert custom(world)["reconciler-delete"] == delete
        bench.converge([])  # the next pass knows of it
        assert not bench.observe([])

    def test_a_version_written_in_the_very_moment_of_a_soft_deletion_stays_the_current_one(
        self, world: EmulatedVault, bench: Bench
    ) -> None:
        bench.converge([secret(delete="soft", password=PASSWORD)])
        plan, said = bench.plan([]), {"data": {"password": PLANTED}}
        interlope(world, "POST", "/delete/", lambda: world.emulator.ask("PATCH", "secret/data/mail/made", said))
        (outcome,) = bench.apply(plan)
        assert outcome.status is Status.FAILED
        assert "version 2 was written while version 1 was to be deleted; it stays" in outcome.message
        live = world.emulator.ask("GET", "secret/data/mail/made")
        assert live is not None
        assert live["data"]["data"] == {"password": PLANTED}
        assert world.emulator.ask("GET", "secret/data/mail/made?version=1") is None
        assert custom(world)["reconciler-delete"] == "soft"
        assert "DELETE" not in {method for method, path in world.emulator.faults.requests if "/data/" in path}

    @pytest.mark.parametrize("delete", ["soft", "purge"])
    def test_keys_of_strangers_hold_a_deletion_up(self, world: EmulatedVault, bench: Bench, delete: str) -> None:
        bench.converge([adopting(secret(SHARED, delete=delete, ours=TOKEN))])
        (outcome,) = bench.apply(bench.plan([]))
        assert outcome.status is Status.FAILED
        assert "never declared here (theirs)" in outcome.message
        assert versions(world, SHARED)["2"]["theirs"] == PLANTED

    @pytest.mark.parametrize("delete", ["soft", "purge"])
    @pytest.mark.parametrize("survivors", range(3))
    def test_cut_off_in_a_deletion_it_is_finished_by_the_next_pass(
        self, world: EmulatedVault, bench: Bench, delete: str, survivors: int
    ) -> None:
        bench.converge([secret(delete=delete, password=PASSWORD)])
        faults, done = world.emulator.faults, world.writes()
        faults.active.append(Fault("cut-after", 99, matches=lambda method, _: method not in READS and faults.writes > done + survivors))
        bench.apply(bench.plan([]))
        faults.active.clear()
        bench.converge([])
        assert not bench.observe([])
        assert not [name for name in world.peek() if name.startswith("Secret secret/reconciler/")]

    def test_a_mount_is_never_disabled(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = world.samples()[0].before
        bench.converge([wanted])
        assert not bench.plan([]).changes
        (seen,) = bench.observe([wanted])
        (outcome,) = bench.write([Change(Action.DELETE, wanted.id, "test", handle=seen.handle)])
        moved = resource(Mount(path="moved", type="kv", options={"version": "2"}), "apps")
        (other,) = bench.write([Change(Action.REPLACE, wanted.id, "test", moved, handle=seen.handle)])
        assert "never disabled" in outcome.message
        assert "never disabled" in other.message
        assert {"Mount apps", "Mount moved"} & world.peek().keys() == {"Mount apps"}

    def test_a_mount_that_left_git_is_kept_and_said_to_be(self, world: EmulatedVault, bench: Bench) -> None:
        both = [resource(Mount(path=path, type="kv", options={"version": "2"}), path) for path in ("one", "two")]
        bench.converge(both)
        plan = bench.plan(both[:1])
        assert not plan.changes
        assert [(str(held.change.id), held.guard) for held in plan.held] == [("vault/Mount/two", "keep")]

    def test_a_claim_that_lost_its_mark_holds_nobody_up(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([secret(password=PASSWORD)])
        claim = "reconciler/Secret:secret~1mail~1made"
        world.emulator.ask("POST", f"secret/metadata/{claim}", {"custom_metadata": {"team": "other"}})
        bench.converge([secret(password=PASSWORD, token=TOKEN)])
        assert custom(world, f"secret/{claim}")["reconciler"].startswith("reconciler:test/contract:Secret/made")

    def test_a_claim_without_its_object_is_taken_away(self, world: EmulatedVault, bench: Bench) -> None:
        role = world.samples()[3].before
        bench.converge([role])
        world.remove(role)
        bench.converge([])
        world.plant(role)
        assert not bench.observe([]), "a role made by hand later must not be taken for ours"


class TestNamesAndOwners:
    def test_a_resource_renamed_in_git_keeps_its_object(self, world: EmulatedVault, bench: Bench) -> None:
        for sample in world.samples():
            bench.converge([sample.before])
            renamed = replace(sample.before, id=replace(sample.before.id, name="renamed"))
            (change,) = bench.plan([renamed]).changes
            assert change.action is Action.UPDATE
            assert change.diffs[0].before.startswith(sample.before.id.name)
            bench.converge([renamed])
            assert not [one for one in bench.observe([]) if one.id == sample.before.id]

    def test_what_was_applied_last_is_known_from_the_system_itself(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [sample.before for sample in world.samples() if sample.before.id.kind not in ("Mount", "AuthMount")]
        bench.converge(wanted)
        assert {one.id: one.applied for one in bench.reopened().observe(wanted)} == {one.id: one.digest for one in wanted}

    def test_a_role_moved_to_another_name_is_replaced(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([resource(AppRole(role="old"), "relay")])
        wanted = [resource(AppRole(role="new"), "relay")]
        (change,) = bench.plan(wanted).changes
        assert change.action is Action.REPLACE
        bench.apply(bench.plan(wanted))
        assert [name for name in world.peek() if name.startswith("AppRole")] == ["AppRole approle/new"]
        assert not bench.plan(wanted).changes

    def test_what_another_stack_took_over_between_plan_and_deletion_stays(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([resource(Policy(name="mail", policy='path "a" { capabilities = ["read"] }'), "mail")])
        plan = bench.plan([])
        theirs = '# reconciler:test/other:Policy/mail\npath "b" { capabilities = ["read"] }'
        world.emulator.ask("POST", "sys/policies/acl/mail", {"policy": theirs})
        (outcome,) = bench.apply(plan)
        assert "belongs to test/other by now" in outcome.message
        assert world.peek()["Policy mail"][1]["policy"] == theirs

    def test_a_move_cut_off_half_way_is_finished(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([resource(AppRole(role="old"), "relay")])
        wanted = [resource(AppRole(role="new"), "relay")]
        plan = bench.plan(wanted)
        refuse = Fault("cut-before", 99, matches=lambda method, _: method == "DELETE")
        world.emulator.faults.active.append(refuse)
        bench.apply(plan)
        world.emulator.faults.active.remove(refuse)
        bench.converge(wanted)
        assert [name for name in world.peek() if name.startswith("AppRole")] == ["AppRole approle/new"]

    def test_what_another_stack_owns_is_refused_and_can_be_taken_over(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [sample.before for sample in world.samples()]
        other = replace(bench, scope=replace(bench.scope, owner="test/other"))
        other.converge(wanted)
        stuck = bench.plan(wanted).stuck
        assert {one.id for one in stuck} == {one.id for one in wanted}
        assert {one.reason.split(";")[0] for one in stuck} == {"belongs to test/other"}
        bench.converge([adopting(one) for one in wanted])
        assert not [one for one in other.observe([]) if one.ownership is Ownership.OURS]

    def test_of_two_stacks_that_claim_at_once_one_stands_back(self, world: EmulatedVault, bench: Bench) -> None:
        claim, theirs = "secret/metadata/reconciler/AppRole:approle~1relay", {"reconciler": "reconciler:test/other:AppRole/relay"}
        plan = bench.plan([resource(AppRole(role="relay"), "relay")])

        def overtake(method: str, path: str) -> bool:
            if path.endswith(claim) and world.emulator.ask("GET", claim) is not None:
                world.emulator.faults.active.clear()
                world.emulator.ask("POST", claim, {"custom_metadata": theirs})
            return False

        world.emulator.faults.active.append(Fault("overtake", matches=overtake))
        (outcome,) = bench.apply(plan)
        assert "claimed by another owner" in outcome.message
        assert "AppRole approle/relay" not in world.peek()

    def test_what_another_stack_has_claimed_and_not_made_yet_is_left_to_it(self, world: EmulatedVault, bench: Bench) -> None:
        claim, theirs = "secret/metadata/reconciler/AppRole:approle~1relay", {"reconciler": "reconciler:test/other:AppRole/relay"}
        world.emulator.ask("POST", claim, {"custom_metadata": theirs})
        (outcome,) = bench.apply(bench.plan([resource(AppRole(role="relay"), "relay")]))
        assert "claimed by another owner" in outcome.message
        assert "AppRole approle/relay" not in world.peek()
        assert data(world.emulator.ask("GET", claim))["custom_metadata"] == theirs

    def test_names_that_look_alike_in_a_claim_are_kept_apart(self, world: EmulatedVault, bench: Bench) -> None:
        alike = [secret("secret/mail/a~1b", password=PASSWORD), secret("secret/mail/a/b", password=PASSWORD)]
        bench.converge(alike)
        bench.converge(alike[1:])
        bench.apply(bench.plan(alike[1:]))
        assert [name for name in world.peek() if name.startswith("Secret secret/mail/")] == ["Secret secret/mail/a/b"]

    def test_two_resources_for_one_object_are_refused(self, world: EmulatedVault, bench: Bench) -> None:
        twice = [secret(password=PASSWORD), replace(secret(token=TOKEN), id=ResourceId("vault", "Secret", "again"))]
        (stuck,) = bench.plan(twice).stuck
        assert "already declared by vault/Secret/made" in stuck.reason

    def test_a_lost_claim_is_written_again(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [secret(password=PASSWORD)]
        bench.converge(wanted)
        world.emulator.ask("DELETE", "secret/metadata/reconciler/Secret:secret~1mail~1made")
        (change,) = bench.plan(wanted).changes
        assert change.diffs[0].before == "without a claim"
        bench.converge(wanted)
        assert list(versions(world)) == ["1"]

    def test_a_mount_of_another_type_or_a_newer_version_is_refused(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [resource(Mount(path="secret", type="transit"), "a"), resource(Mount(path="cubby", type="kv"), "b")]
        world.emulator.ask("POST", "sys/mounts/cubby", {"type": "kv", "options": {"version": "2"}})
        reasons = [stuck.reason for stuck in bench.plan(wanted).stuck]
        assert "secret is mounted as kv, not transit" in reasons[0]
        assert "kv version 2 cannot go back to 1" in reasons[1]

    def test_the_id_of_an_approle_is_told_to_expressions_that_ask(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = resource(AppRole(role="relay"), "relay")
        bench.converge([wanted])
        (seen,) = replace(bench, scope=replace(bench.scope, status_of=frozenset({wanted.id}))).observe([wanted])
        assert seen.status == {"role_id": world.peek()["AppRole approle/relay"][0]}


class TestGroups:
    GROUP = resource(IdentityGroup(name="Operators", policies=("dns", "mail"), metadata={"team": "mail"}), "operators")

    def test_who_is_in_a_group_stays_when_what_it_gives_is_changed(self, world: EmulatedVault, bench: Bench) -> None:
        world.ask("POST", "identity/group/name/OPERATORS", {"policies": ["dns"], "member_entity_ids": ["ada"]})
        bench.converge([adopting(self.GROUP)])
        group = data(world.ask("GET", "identity/group/name/operators"))
        assert (group["policies"], group["member_entity_ids"]) == (["dns", "mail"], ["ada"])
        assert {key for key in group["metadata"] if not key.startswith("reconciler")} == {"team"}
        assert bench.observe([self.GROUP])[0].ownership is Ownership.OURS

    def test_a_group_cannot_change_its_type_and_is_not_made_anew_for_it(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([self.GROUP])
        (seen,) = bench.observe([resource(IdentityGroup(name="operators", type="external"), "operators")])
        assert seen.refused == ("operators is an internal group, which cannot become external; choose another name, or delete it by hand")

    def test_what_cannot_stand_in_its_metadata_is_refused_by_name(self) -> None:
        for metadata, words in (
            ({"reconciler-x": "y"}, "reconciler-x is kept for our mark"),
            ({"team": "x" * 513}, "team: a key holds 1 to 128"),
            ({f"k{number}": "v" for number in range(63)}, "at most 62 entries"),
        ):
            with pytest.raises(ValidationError, match=words):
                IdentityGroup(name="a", metadata=metadata)


def test_tuning_a_mount_does_not_state_its_version_again(world: EmulatedVault, bench: Bench) -> None:
    """Stated again, a version starts an upgrade on some servers, during which nothing can be read."""
    before, after = world.samples()[0].before, world.samples()[0].after
    bench.converge([before])
    heard, handle = list[Call](), world.emulator.system.handle
    world.emulator.system.handle = lambda call: (heard.append(call), handle(call))[1]  # type: ignore[method-assign]
    bench.converge([after])
    assert [sorted(call.body) for call in heard if call.path.endswith("/tune")] == [["default_lease_ttl", "description", "max_lease_ttl"]]

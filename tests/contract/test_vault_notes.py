"""What the Vault driver notes beside a secret, what it tells of a value, and how it hints at rotations."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from vault_world import BY_HAND, PLANTED, SHARED, EmulatedVault, secret

from reconciler.driver import SecretNote, SecretVersion
from reconciler.errors import Permanent, Transient
from reconciler.resource import Resource, ResourceId, SecretRef, SecretValue, Spec
from reconciler.secrets import Secrets
from reconciler.testing import Bench, adopting, scope_for
from reconciler_vault import notebook, told
from reconciler_vault.driver import VaultDriver
from reconciler_vault.emulator import VaultEmulator
from reconciler_vault.spec import KeySpec
from reconciler_vault.watch import rotations, watched


class Reader(Spec):
    """A resource of another driver that reads a secret."""

    text: SecretRef


NOTE = SecretNote("1", {"theirs": "0123456789abcdef"}, {"theirs": {"hosts": "[mx.example.org]:587"}}, "f" * 32)


EMULATOR, WORLD = VaultEmulator, EmulatedVault


def driver_of(bench: Bench) -> VaultDriver:
    assert isinstance(bench.driver, VaultDriver)
    return bench.driver


def seen(bench: Bench, path: str = SHARED) -> SecretVersion:
    return driver_of(bench).versions([path], bench.scope)[path]


def custom(world: EmulatedVault, path: str = SHARED) -> dict[str, str]:
    found: dict[str, str] = world.peek()[f"Secret {path}"][1]["custom"]
    return found


class TestNotes:
    def test_a_note_comes_back_as_it_was_kept_and_makes_no_version(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([adopting(secret(SHARED, theirs=BY_HAND))])
        world.ask("PATCH", "secret/metadata/platform", {"custom_metadata": {"team": "platform"}})
        assert seen(bench) == SecretVersion("1", frozenset({"theirs"}))
        driver_of(bench).note(SHARED, NOTE, bench.scope)
        assert seen(bench) == SecretVersion("1", frozenset({"theirs"}), NOTE)
        assert custom(world)["team"] == "platform"
        assert not bench.plan([secret(SHARED, theirs=BY_HAND)]).changes, "a note is no drift"

    def test_a_path_that_carries_no_mark_of_ours_is_not_noted_on(self, world: EmulatedVault, bench: Bench) -> None:
        for mark in (None, "reconciler:other/stack:Secret/platform"):
            if mark:
                world.ask("PATCH", "secret/metadata/platform", {"custom_metadata": {"reconciler": mark}})
            seen(bench)
            before = custom(world)
            with pytest.raises(Permanent, match="carries no mark of ours; declare it"):
                driver_of(bench).note(SHARED, NOTE, bench.scope)
            assert custom(world) == before

    def test_another_stack_of_the_installation_may_note_on_it(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([adopting(secret(SHARED, theirs=BY_HAND))])
        bench.scope = scope_for(world)
        world.ask("PATCH", "secret/metadata/platform", {"custom_metadata": {"reconciler": "reconciler:test/web:Secret/platform"}})
        seen(bench)
        driver_of(bench).note(SHARED, NOTE, bench.scope)
        assert seen(bench).note == NOTE

    def test_custom_metadata_that_is_full_is_left_as_it_is(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([adopting(secret(SHARED, theirs=BY_HAND))])
        full = {f"other-{number}": "x" for number in range(64 - len(custom(world)))}
        world.ask("PATCH", "secret/metadata/platform", {"custom_metadata": full})
        seen(bench)
        with pytest.raises(Permanent, match="no room for a note"):
            driver_of(bench).note(SHARED, NOTE, bench.scope)
        assert len(custom(world)) == 64

    def test_a_note_that_another_tool_replaced_is_gone_and_not_half_read(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([adopting(secret(SHARED, theirs=BY_HAND))])
        seen(bench)
        driver_of(bench).note(SHARED, NOTE, bench.scope)
        world.ask("POST", "secret/metadata/platform", {"custom_metadata": {"managed-by": "external-secrets"}})
        assert seen(bench).note is None

    def test_with_a_missing_right_path_and_capability_are_named(self, world: EmulatedVault, bench: Bench) -> None:
        bench.converge([adopting(secret(SHARED, theirs=BY_HAND))])
        rules = 'path "secret/subkeys/*" { capabilities = ["read"] }'
        world.ask("POST", "sys/policies/acl/readers", {"policy": rules})
        token = world.emulator.system.tokens.make(["readers", "default"], ttl=600).value
        poor = world.open(auth={"method": "token", "token": token})
        poor.versions([SHARED], bench.scope)
        with pytest.raises(Permanent, match='capability patch on path "secret/metadata/platform"'):
            poor.note(SHARED, NOTE, bench.scope)
        poor.close()

    def test_a_shape_that_git_has_changed_since_makes_the_note_one_to_be_made_anew(self, bench: Bench) -> None:
        driver = driver_of(bench)
        asking: list[Resource] = [secret(SHARED, theirs={"pattern": "^x", "consumers": ["a test"]})]
        bench.converge([adopting(asking[0])])
        seen(bench)
        driver.note(SHARED, NOTE, bench.scope)
        assert seen(bench).note == NOTE
        driver.provider(SHARED, [secret(SHARED, theirs={"pattern": "^y"})])
        assert seen(bench).note is None

    @pytest.mark.parametrize("now", [[secret(SHARED, theirs=BY_HAND)], []], ids=["rule", "document"])
    def test_a_rule_that_was_taken_out_of_git_lets_nobody_wait_any_more(self, bench: Bench, now: list[Resource]) -> None:
        driver, reader = driver_of(bench), Resource(ResourceId("x", "Reader", "r"), Reader(text=SecretRef("x", ((SHARED, "theirs"),))))
        asking = adopting(secret(SHARED, theirs={"pattern": "^smtp:", "consumers": ["a test"]}))
        bench.converge([asking])
        for wanted, said in ([asking], "theirs does not match the pattern ^smtp:"), (now, ""):
            driver.provider(SHARED, wanted)
            waiting = Secrets(driver, bench.scope, b"a long random text of this installation").prepare([reader], exact=True)
            assert said in waiting[reader.id] if said else not waiting

    def test_a_value_is_read_once_until_it_is_dropped_or_another_version_is_there(self, world: EmulatedVault, bench: Bench) -> None:
        ref = SecretRef('${vault("secret/platform", "theirs")}', ((SHARED, "theirs"),))
        reader = Resource(ResourceId("x", "Reader", "r"), Reader(text=ref))
        secrets = Secrets(driver_of(bench), bench.scope, b"a long random text of this installation")

        def reads() -> int:
            return sum("/data/" in path and method == "GET" for method, path in world.emulator.faults.requests)

        secrets.prepare([reader])
        assert [secrets.reveal(ref).reveal() for _ in range(2)] == [PLANTED, PLANTED]
        assert reads() == 1
        world.ask("PATCH", "secret/data/platform", {"data": {"theirs": "new"}})
        secrets.renew([reader])
        assert (secrets.reveal(ref).reveal(), reads()) == ("new", 2)
        secrets.close()
        assert (secrets.reveal(ref).reveal(), reads()) == ("new", 3), "what was dropped is not kept anywhere"

    def test_what_another_stack_declares_still_holds_for_who_only_reads_it(self, world: EmulatedVault, bench: Bench) -> None:
        driver, asking = driver_of(bench), adopting(secret(SHARED, theirs={"pattern": "^smtp:", "consumers": ["a test"]}))
        bench.converge([asking])
        seen(bench)
        driver.note(SHARED, NOTE, bench.scope)
        assert driver.provider(SHARED, []) is None
        assert driver.versions([SHARED], replace(bench.scope, owner="test/other"))[SHARED].note == NOTE


class TestNotebook:
    @given(
        st.dictionaries(st.text('abc-_ü"\\', min_size=1, max_size=30), st.text("0123456789abcdef", min_size=16, max_size=16), max_size=40),
        st.dictionaries(st.text("abc", min_size=1), st.dictionaries(st.text("xyz", min_size=1), st.text(max_size=900)), max_size=3),
        st.integers(0, 9),
    )
    def test_every_note_comes_back_whole_and_within_the_limits(self, tags: Any, facts: Any, before: int) -> None:
        note = SecretNote("7", tags, facts, "s")
        custom = {"other": "stays", **{f"reconciler-seen.test.{number}": "y" * 500 for number in range(before)}}
        patch = notebook.parts("test/mail", note, "r", custom)
        if patch is None:
            return
        after = {key: value for key, value in {**custom, **patch}.items() if value is not None}
        assert notebook.note_in("test/web", after) == (note, "r")
        assert notebook.note_in("other/web", after) is None
        assert after["other"] == "stays"
        assert len(after) <= 64
        assert all(0 < len(value.encode()) <= 512 and value.isascii() and value.isprintable() for value in after.values())

    @pytest.mark.parametrize(
        "broken", [{}, {"0": "{"}, {"0": "[]"}, {"0": '{"v":"1"}'}, {"1": "x"}, {"0": '{"v":1,"t":[],"f":[],"s":"","r":""}'}]
    )
    def test_what_is_no_note_is_none(self, broken: dict[str, str]) -> None:
        assert notebook.note_in("test/mail", {f"reconciler-seen.test.{number}": text for number, text in broken.items()}) is None

    def test_a_shorter_note_leaves_nothing_of_a_longer_one(self) -> None:
        custom = {f"reconciler-seen.test.{number}": "y" * 500 for number in range(3)}
        patch = notebook.parts("test/mail", SecretNote("7", {}, {}, "s"), "r", custom)
        assert patch is not None
        assert {key for key, text in patch.items() if text is None} == {"reconciler-seen.test.1", "reconciler-seen.test.2"}

    def test_two_installations_keep_two_notes(self) -> None:
        custom: dict[str, str] = {}
        for owner, version in (("home/mail", "1"), ("work/mail", "2")):
            patch = notebook.parts(owner, SecretNote(version, {}), "", custom)
            custom |= {key: value for key, value in (patch or {}).items() if value is not None}
        assert [found[0].version for owner in ("home/x", "work/y") if (found := notebook.note_in(owner, custom))] == ["1", "2"]


def told_of(value: str, **wish: Any) -> dict[str, str]:
    return told.facts_of({"k": SecretValue(value)}, {"k": KeySpec.model_validate(wish)}).get("k", {})


def pem(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


class TestWhatIsTold:
    def test_of_a_password_map_the_hosts_and_nothing_else(self) -> None:
        text = "# relays\n[smtp-relay.brevo.com]:587 me@example.org:xsmtpsib-secret\nbackup.example.org user:pass word\n"
        assert told_of(text, form="password-map") == {"hosts": "[smtp-relay.brevo.com]:587 backup.example.org"}

    @pytest.mark.parametrize("text", ["", "hush", "hush-canary me:pass", "[mx.example.org]:587 no-password", "hush:canary hush:canary"])
    def test_what_is_no_password_map_is_said_to_be_none_and_not_quoted(self, text: str) -> None:
        assert told_of(text, form="password-map") == {"fault": "is no password map: a line is a host and user:password"}

    def test_of_a_private_key_its_public_half_as_dkim_publishes_it(self) -> None:
        big, small = rsa.generate_private_key(public_exponent=65537, key_size=2048), ed25519.Ed25519PrivateKey.generate()
        der = big.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert told_of(pem(big), form="private-key") == {"type": "rsa", "public": base64.b64encode(der).decode()}
        bare = small.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        assert told_of(pem(small), form="private-key") == {"type": "ed25519", "public": base64.b64encode(bare).decode()}

    def test_of_no_key_or_one_of_another_kind_what_is_wrong(self) -> None:
        assert told_of("-----BEGIN PRIVATE KEY-----\nhush", form="private-key")["fault"].startswith("is no private key in PEM")
        assert told_of(pem(ec.generate_private_key(ec.SECP256R1())), form="private-key")["fault"].startswith("is a key of a kind")

    def test_every_broken_rule_is_told_and_a_value_that_keeps_them_tells_nothing(self) -> None:
        assert told_of("{", form="json", pattern="^x") == {"fault": "does not match the pattern ^x and is not JSON"}
        assert told_of("{}", form="json") == {}
        assert told.facts_of({"k": SecretValue("x"), "other": SecretValue("y")}, {"k": KeySpec()}) == {}

    @given(st.text(min_size=8), st.sampled_from(sorted(told.FORMS)))
    def test_no_value_that_has_not_the_form_is_ever_quoted(self, value: str, form: str) -> None:
        facts = told_of(value, form=form, pattern="^$(?!)")
        assert value not in json.dumps(facts, ensure_ascii=False)


class TestHints:
    def hints(self, bench: Bench, stop: Event, poll: float = 0.05) -> Iterator[ResourceId | None]:
        return rotations(driver_of(bench), bench.scope, stop, poll)

    def test_a_write_by_another_hand_is_hinted_at_and_our_own_first_look_is_not(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [adopting(secret(SHARED, theirs=BY_HAND))]
        bench.converge(wanted)
        bench.observe(wanted)
        stop, found, before = Event(), list[ResourceId | None](), looks(world)
        thread = Thread(target=lambda: found.extend(self.hints(bench, stop)), daemon=True)
        thread.start()
        until(lambda: looks(world) >= before + 2)
        assert not found
        world.ask("PATCH", "secret/data/platform", {"data": {"theirs": "new"}})
        until(lambda: bool(found))
        told = looks(world)
        until(lambda: looks(world) >= told + 2)
        stop.set()
        thread.join(5)
        assert found == [wanted[0].id], "it is told once"

    def test_what_was_rotated_before_the_watch_began_is_hinted_at_at_once(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [adopting(secret(SHARED, theirs=BY_HAND))]
        bench.converge(wanted)
        bench.observe(wanted)
        seen(bench)
        driver_of(bench).note(SHARED, NOTE, bench.scope)
        world.ask("PATCH", "secret/data/platform", {"data": {"theirs": "new"}})
        assert next(self.hints(bench, Event())) == wanted[0].id

    def test_trouble_after_the_first_look_is_waited_out(self, world: EmulatedVault, bench: Bench) -> None:
        wanted = [adopting(secret(SHARED, theirs=BY_HAND))]
        bench.converge(wanted)
        bench.observe(wanted)
        stop, found, before = Event(), list[ResourceId | None](), looks(world)
        thread = Thread(target=lambda: found.extend(self.hints(bench, stop)), daemon=True)
        thread.start()
        until(lambda: looks(world) >= before + 2)
        with world.fail("server-error", times=2):
            world.ask("PATCH", "secret/data/platform", {"data": {"theirs": "new"}})
            until(lambda: bool(found))
        stop.set()
        thread.join(5)
        assert found == [wanted[0].id]

    def test_trouble_at_the_first_look_ends_the_watch(self, world: EmulatedVault, bench: Bench) -> None:
        bench.observe([secret(SHARED, theirs=BY_HAND)])
        with world.fail("server-error"), pytest.raises(Transient):
            next(self.hints(bench, Event()))

    def test_what_is_read_is_watched_though_nobody_declares_it(self) -> None:
        reader = Resource(ResourceId("x", "Reader", "r"), Reader(text=SecretRef("x", (("secret/other", "k"),))))
        scope = scope_for(EmulatedVault(VaultEmulator()))
        wanted = {one.id: one for one in (secret(SHARED, theirs=BY_HAND), reader)}
        assert watched(replace(scope, wanted=wanted)) == {"secret/other": None, SHARED: ResourceId("vault", "Secret", "platform")}

    def test_no_value_is_read_for_a_hint(self, world: EmulatedVault, bench: Bench) -> None:
        bench.observe([secret(SHARED, theirs=BY_HAND)])
        stop = Event()
        stop.set()
        assert not list(self.hints(bench, stop))
        assert not [path for _, path in world.emulator.faults.requests if "/data/" in path]
        assert PLANTED not in repr(seen(bench))


def looks(world: EmulatedVault) -> int:
    return sum(path.endswith("subkeys/platform") for _, path in list(world.emulator.faults.requests))


def until(true: Any, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)

"""How the Vault driver gets in, stays in, and says what keeps it out."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError
from uptime_kuma_world import behind_tls

from reconciler.desired import desired_below
from reconciler.driver import Scope, SecretNote, Status
from reconciler.errors import Permanent, Transient
from reconciler.registry import catalog
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler.sandbox.server import Fault
from reconciler.testing import Bench
from reconciler_vault.client import Vault
from reconciler_vault.config import VaultConfig
from reconciler_vault.driver import VaultDriver
from reconciler_vault.emulator import VaultEmulator, service_account_token
from reconciler_vault.emulator.wire import Call
from reconciler_vault.spec import AuthMount, Secret

PLATFORM = "secret/platform"
REPOSITORY = Path(__file__).parents[2]


class Clock:
    """Seconds that pass when a test says so, for the driver and for the server."""

    def __init__(self, emulator: VaultEmulator) -> None:
        self._emulator, self._now = emulator, 1000.0

    def __call__(self) -> float:
        return self._now

    def forward(self, seconds: float) -> None:
        self._now += seconds
        self._emulator.system.clock.ahead += seconds


SEED: JSONObject = {
    "secrets": {PLATFORM: {"theirs": "planted-0815"}},
    "policies": {"all": 'path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }'},
    "auth": ["kubernetes", "approle"],
}


@pytest.fixture(scope="module")
def server() -> Iterator[VaultEmulator]:
    server = VaultEmulator()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def emulator(server: VaultEmulator) -> VaultEmulator:
    """The listening server with new contents."""
    server.system = VaultEmulator(SEED).system
    server.faults.active.clear()
    server.faults.requests.clear()
    return server


@pytest.fixture
def clock(emulator: VaultEmulator) -> Clock:
    return Clock(emulator)


Opener = Callable[..., Bench]


@pytest.fixture
def connect(emulator: VaultEmulator, clock: Clock) -> Iterator[Opener]:
    """Open a driver with other settings than the emulator's own."""
    benches: list[Bench] = []

    def open_one(**settings: object) -> Bench:
        driver = VaultDriver(VaultConfig.model_validate(emulator.settings() | settings), clock=clock)
        benches.append(Bench(None, driver, Scope(owner="test/access")))  # type: ignore[arg-type]
        return benches[-1]

    yield open_one
    for bench in benches:
        bench.driver.close()


@pytest.fixture
def pod(emulator: VaultEmulator, tmp_path: Path) -> JSONObject:
    """A service account that may log in, with a token of one minute that can be renewed up to 150 seconds."""
    role = {"bound_service_account_names": ["reconciler"], "bound_service_account_namespaces": ["reconciler"]}
    life = {"token_policies": ["all"], "token_ttl": 60, "token_max_ttl": 150}
    emulator.ask("POST", "auth/kubernetes/role/reconciler", role | life)
    jwt = tmp_path / "token"
    jwt.write_text(service_account_token("reconciler", "reconciler"))
    return {"method": "kubernetes", "role": "reconciler", "jwt_file": str(jwt)}


def wanted(path: str = "secret/mine") -> Resource:
    spec = Secret.model_validate({"path": path, "keys": {"made": {"generate": {"type": "hex"}, "consumers": ["a test"]}}})
    return Resource(ResourceId("vault", "Secret", path.rpartition("/")[2]), spec)


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)


def count(emulator: VaultEmulator, ending: str) -> int:
    return sum(path.endswith(ending) for _, path in emulator.faults.requests)


class TestLogins:
    def test_one_login_serves_many_passes(self, emulator: VaultEmulator, connect: Opener, pod: JSONObject) -> None:
        bench = connect(auth=pod)
        bench.converge([wanted()])
        bench.observe([wanted()])
        assert count(emulator, "auth/kubernetes/login") == 1
        assert count(emulator, "lookup-self") == 0

    def test_a_token_is_renewed_after_two_thirds_of_its_life_and_not_before(
        self, emulator: VaultEmulator, connect: Opener, pod: JSONObject, clock: Clock
    ) -> None:
        bench = connect(auth=pod)
        bench.observe([])
        clock.forward(39)
        bench.observe([])
        assert count(emulator, "renew-self") == 0
        clock.forward(2)
        bench.observe([])
        assert count(emulator, "renew-self") == 1
        assert count(emulator, "auth/kubernetes/login") == 1

    def test_at_the_end_of_all_renewals_there_is_one_new_login(
        self, emulator: VaultEmulator, connect: Opener, pod: JSONObject, clock: Clock
    ) -> None:
        bench = connect(auth=pod)
        for _ in range(4):
            bench.observe([])
            clock.forward(41)
        bench.observe([])
        assert count(emulator, "auth/kubernetes/login") == 2

    def test_a_token_revoked_in_the_middle_of_a_pass_is_replaced_once(
        self, emulator: VaultEmulator, connect: Opener, pod: JSONObject
    ) -> None:
        bench = connect(auth=pod)
        bench.observe([])

        def revoke(method: str, path: str) -> bool:
            if "/data/" in path:
                emulator.system.tokens.all = {emulator.token: emulator.system.tokens.all[emulator.token]}
                emulator.faults.active.clear()
            return False

        emulator.faults.active.append(Fault("revoke", matches=revoke))
        (outcome,) = bench.apply(bench.plan([wanted()]))
        assert outcome.status is Status.APPLIED
        assert count(emulator, "auth/kubernetes/login") == 2
        assert count(emulator, "lookup-self") == 1
        assert len(emulator.system.kv["secret"].entries["mine"].versions) == 1

    def test_who_comes_late_with_the_dead_token_takes_the_new_one_and_makes_no_other(
        self, emulator: VaultEmulator, pod: JSONObject
    ) -> None:
        """Two threads were refused with the same token; the second one's turn comes when the first has logged in."""
        vault = Vault(VaultConfig.model_validate(emulator.settings() | {"auth": pod}))
        used = vault.tokens.good()
        emulator.system.tokens.all.clear()
        assert vault.tokens.replace_dead(used)
        assert vault.tokens.replace_dead(used)
        assert count(emulator, "auth/kubernetes/login") == 2
        vault.close()

    def test_the_service_account_token_is_read_anew_for_each_login(self, emulator: VaultEmulator, connect: Opener, pod: JSONObject) -> None:
        Path(str(pod["jwt_file"])).write_text(service_account_token("elsewhere", "reconciler"))
        bench = connect(auth=pod)
        with pytest.raises(Permanent, match="as role reconciler: login refused \\(403: namespace not authorized\\)"):
            bench.observe([])
        Path(str(pod["jwt_file"])).write_text(service_account_token("reconciler", "reconciler"))
        bench.observe([])

    def test_a_token_that_a_login_made_is_revoked_at_the_end_and_a_given_one_is_not(
        self, emulator: VaultEmulator, connect: Opener, pod: JSONObject
    ) -> None:
        before = set(emulator.system.tokens.all)
        for auth in (pod, {"method": "token", "token": emulator.token}):
            bench = connect(auth=auth)
            bench.observe([])
            bench.driver.close()
        assert set(emulator.system.tokens.all) == before

    def test_a_missing_token_file_is_named(self, connect: Opener) -> None:
        with pytest.raises(Permanent, match="token file /nowhere/token cannot be read: No such file"):
            connect(auth={"method": "token_file", "token_file": "/nowhere/token"}).observe([])

    def test_a_token_file_is_read_again_when_its_token_has_ended(self, emulator: VaultEmulator, connect: Opener, tmp_path: Path) -> None:
        tokens, file = emulator.system.tokens, tmp_path / "token"
        first = tokens.make(["all"], ttl=600)
        file.write_text(first.value + "\n")
        bench = connect(auth={"method": "token_file", "token_file": str(file)})
        bench.observe([])
        del tokens.all[first.value]
        with pytest.raises(Permanent, match="token file still holds a token that has ended") as caught:
            bench.observe([])
        assert first.value not in str(caught.value)
        file.write_text(tokens.make(["all"], ttl=600).value)
        bench.observe([])

    def test_a_fixed_token_that_has_ended_is_not_mistaken_for_missing_rights(self, connect: Opener) -> None:
        bench = connect(auth={"method": "token", "token": "hvs.never-was"})
        with pytest.raises(Permanent, match="the token has ended, was revoked") as caught:
            bench.observe([])
        assert "hvs.never-was" not in str(caught.value)

    def test_an_approle_logs_in_and_a_wrong_secret_id_is_not_quoted(self, emulator: VaultEmulator, connect: Opener) -> None:
        emulator.ask("POST", "auth/approle/role/reconciler", {"token_policies": ["all"]})
        role_id = (emulator.ask("GET", "auth/approle/role/reconciler/role-id") or {})["data"]["role_id"]
        secret_id = (emulator.ask("POST", "auth/approle/role/reconciler/secret-id") or {})["data"]["secret_id"]
        auth = {"method": "approle", "role_id": role_id}
        connect(auth=auth | {"secret_id": secret_id}).converge([wanted()])
        with pytest.raises(Permanent, match="login refused") as caught:
            connect(auth=auth | {"secret_id": "wrong-1234"}).observe([])
        assert "wrong-1234" not in str(caught.value)

    def test_the_environment_is_not_asked(
        self, emulator: VaultEmulator, connect: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / ".vault-token").write_text("a-token-found-by-chance")
        for name, value in {"HOME": str(tmp_path), "VAULT_TOKEN": "x", "VAULT_ADDR": "http://127.0.0.1:1", "VAULT_NAMESPACE": "y"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        emulator.ask("POST", "sys/namespaces/team", {})
        heard: list[Call] = []
        handle = emulator.system.handle
        monkeypatch.setattr(emulator.system, "handle", lambda call: heard.append(call) or handle(call))  # type: ignore[func-returns-value]
        connect().observe([])
        connect(namespace="team").observe([])
        assert {call.token for call in heard} == {emulator.token}
        assert {call.headers.get("x-vault-namespace") for call in heard} == {None, "team"}

    def test_a_token_is_renewed_in_the_background_while_nobody_asks_for_anything(self, emulator: VaultEmulator, pod: JSONObject) -> None:
        emulator.ask("POST", "auth/kubernetes/role/reconciler", {"token_ttl": 1, "token_max_ttl": 60})
        vault = Vault(VaultConfig.model_validate(emulator.settings() | {"auth": pod}))
        vault.get("secret/metadata/platform", Scope(owner="test/access"))
        until(lambda: count(emulator, "renew-self") >= 2)
        vault.get("secret/metadata/platform", Scope(owner="test/access"))
        assert count(emulator, "auth/kubernetes/login") == 1
        vault.close()
        renewed = count(emulator, "renew-self")
        time.sleep(1)
        assert count(emulator, "renew-self") == renewed, "nothing goes on after the end"

    def test_of_eight_threads_that_are_refused_with_a_dead_token_one_logs_in(self, emulator: VaultEmulator, pod: JSONObject) -> None:
        vault, scope = Vault(VaultConfig.model_validate(emulator.settings() | {"auth": pod})), Scope(owner="test/access")
        vault.get("secret/metadata/platform", scope)
        emulator.system.tokens.all = {emulator.token: emulator.system.tokens.all[emulator.token]}
        with emulator.faults.during("latency", seconds=0.05), ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: vault.get("secret/metadata/platform", scope), range(8)))
        assert all(found)
        assert (count(emulator, "auth/kubernetes/login"), count(emulator, "lookup-self")) == (2, 1)
        vault.close()

    def test_a_secret_id_in_a_file_is_read_anew_at_each_login(self, emulator: VaultEmulator, connect: Opener, tmp_path: Path) -> None:
        emulator.ask("POST", "auth/approle/role/reconciler", {"token_policies": ["all"]})
        role_id = (emulator.ask("GET", "auth/approle/role/reconciler/role-id") or {})["data"]["role_id"]
        file = tmp_path / "secret-id"
        file.write_text("wrong-1234")
        bench = connect(auth={"method": "approle", "role_id": role_id, "secret_id_file": str(file)})
        with pytest.raises(Permanent, match="login refused"):
            bench.observe([])
        file.write_text((emulator.ask("POST", "auth/approle/role/reconciler/secret-id") or {})["data"]["secret_id"] + "\n")
        bench.observe([])
        for both in ({}, {"secret_id": "x", "secret_id_file": str(file)}):
            with pytest.raises(ValidationError, match="either secret_id or secret_id_file"):
                connect(auth={"method": "approle", "role_id": role_id, **both})

    def test_a_namespace_is_a_world_of_its_own_and_one_that_is_not_there_is_not_taken_for_emptiness(
        self, emulator: VaultEmulator, connect: Opener
    ) -> None:
        with pytest.raises(Permanent, match="there is no namespace team; make it"):
            connect(namespace="team").observe([wanted()])
        emulator.ask("POST", "sys/namespaces/team", {})
        emulator.system.namespaces["team"].handle(
            Call("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}, token=emulator.token)
        )
        inside = connect(namespace="team")
        inside.converge([wanted()])
        assert set(emulator.system.namespaces["team"].kv["secret"].entries) == {"mine", "reconciler/Secret:secret~1mine"}
        assert not connect().observe([])


class TestTrouble:
    def test_a_sealed_server_pauses_the_whole_target(self, emulator: VaultEmulator, connect: Opener) -> None:
        bench = connect()
        emulator.system.sealed = True
        with pytest.raises(Transient, match="sealed \\(503: Vault is sealed\\); unseal it"):
            bench.observe([wanted()])

    def test_a_server_that_was_never_initialised_says_so(self, emulator: VaultEmulator, connect: Opener) -> None:
        bench = connect()
        emulator.system.initialised = False
        with pytest.raises(Transient, match="not initialised; initialise and unseal it"):
            bench.observe([wanted()])

    def test_a_server_that_was_never_initialised_says_so_to_who_works_in_a_namespace_too(
        self, emulator: VaultEmulator, connect: Opener
    ) -> None:
        bench = connect(namespace="team")
        emulator.system.initialised = False
        with pytest.raises(Transient, match="not initialised; initialise and unseal it"):
            bench.observe([wanted()])

    def test_a_standby_without_a_leader_pauses_the_whole_target(self, emulator: VaultEmulator, connect: Opener) -> None:
        bench = connect()
        emulator.system.standby = True
        with pytest.raises(Transient, match="no active node answers"):
            bench.observe([wanted()])

    def test_a_server_sealed_between_plan_and_write_makes_each_outcome_transient(self, emulator: VaultEmulator, connect: Opener) -> None:
        bench = connect()
        plan = bench.plan([wanted(), wanted("secret/more")])
        emulator.system.sealed = True
        assert all(outcome.transient and "sealed" in outcome.message for outcome in bench.apply(plan))

    def test_a_quota_passes_on_the_delay_that_the_server_asks_for(self, emulator: VaultEmulator, connect: Opener) -> None:
        bench = connect()
        bench.observe([])
        with emulator.faults.during("rate-limit"), pytest.raises(Transient) as caught:
            bench.observe([])
        assert caught.value.retry_after == 3

    def test_a_proxys_page_is_transient_trouble(self, emulator: VaultEmulator, connect: Opener) -> None:
        with emulator.faults.during("html"), pytest.raises(Transient, match="502"):
            connect().observe([])

    def test_an_address_where_nobody_listens_is_transient_and_no_address_at_all_is_not(self, connect: Opener) -> None:
        with pytest.raises(Transient, match="the connection failed"):
            connect(url="http://127.0.0.1:1").observe([])
        with pytest.raises(Permanent, match="this is not an address"):
            connect(url="vault.example.org").observe([])

    def test_a_certificate_is_trusted_only_where_its_authority_is_known(
        self, emulator: VaultEmulator, connect: Opener, tmp_path: Path
    ) -> None:
        with behind_tls(emulator.settings()["url"], tmp_path) as (url, authority):
            with pytest.raises(Permanent, match=r"the certificate is not trusted .*set ca_file"):
                connect(url=url).observe([])
            bench = connect(url=url, ca_file=str(authority))
            bench.observe([])
            bench.driver.close()  # what it keeps open goes through the door


class TestRights:
    def narrow(self, emulator: VaultEmulator, rules: str) -> JSONObject:
        claims = 'path "secret/metadata/reconciler/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }\n'
        emulator.ask("POST", "sys/policies/acl/narrow", {"policy": claims + rules})
        return {"method": "token", "token": emulator.system.tokens.make(["narrow", "default"], ttl=600).value}

    def test_a_missing_right_hides_one_object_and_names_path_and_capability(self, emulator: VaultEmulator, connect: Opener) -> None:
        rules = """path "secret/metadata/mine" { capabilities = ["create", "update", "patch", "read"] }
                   path "secret/subkeys/mine" { capabilities = ["read"] }
                   path "secret/data/mine" { capabilities = ["create", "update", "patch"] }"""
        bench = connect(auth=self.narrow(emulator, rules))
        plan = bench.plan([wanted(), wanted(PLATFORM)])
        (stuck,) = plan.stuck
        assert stuck.unknown
        assert 'need the capability read on path "secret/subkeys/platform"' in stuck.reason
        assert [outcome.status for outcome in bench.apply(plan)] == [Status.APPLIED]
        assert not bench.plan([wanted()]).changes

    def test_a_missing_right_to_write_fails_the_one_change(self, emulator: VaultEmulator, connect: Opener) -> None:
        rules = """path "secret/metadata/mine" { capabilities = ["create", "update", "patch", "read"] }
                   path "secret/subkeys/mine" { capabilities = ["read"] }"""
        bench = connect(auth=self.narrow(emulator, rules))
        (outcome,) = bench.apply(bench.plan([wanted()]))
        assert not outcome.transient
        assert 'capability create and update on path "secret/data/mine"' in outcome.message

    def test_where_a_write_takes_sudo_the_message_says_so(self, emulator: VaultEmulator, connect: Opener) -> None:
        rules = 'path "sys/auth" { capabilities = ["read"] }\npath "sys/auth/*" { capabilities = ["create", "update"] }'
        method = Resource(ResourceId("vault", "AuthMount", "machines"), AuthMount(path="machines", type="approle"))
        bench = connect(auth=self.narrow(emulator, rules))
        (outcome,) = bench.apply(bench.plan([method]))
        assert 'the capability create and update on path "sys/auth/machines" with sudo' in outcome.message
        assert not outcome.transient

    def test_claims_that_cannot_be_listed_blind_the_whole_target(self, emulator: VaultEmulator, connect: Opener) -> None:
        token = emulator.system.tokens.make(["default"], ttl=600)
        with pytest.raises(Permanent, match='capability list on path "secret/metadata/reconciler/'):
            connect(auth={"method": "token", "token": token.value}).observe([])

    def test_a_claim_whose_object_cannot_be_seen_is_unknown_and_not_pruned(self, emulator: VaultEmulator, connect: Opener) -> None:
        connect().converge([wanted()])
        (seen,) = connect(auth=self.narrow(emulator, "")).observe([])
        assert seen.unknown
        assert seen.live is None

    def test_a_soft_deletion_needs_the_right_that_the_shipped_policy_names_and_no_more(
        self, emulator: VaultEmulator, connect: Opener
    ) -> None:
        rules = """path "secret/metadata/mine" { capabilities = ["create", "update", "patch", "read"] }
                   path "secret/subkeys/mine" { capabilities = ["read"] }\n"""
        made = wanted()
        connect().converge([replace(made, spec=made.spec.model_copy(update={"delete": "soft"}))])
        poor = connect(auth=self.narrow(emulator, rules))
        (outcome,) = poor.apply(poor.plan([]))
        assert 'on path "secret/delete/mine"' in outcome.message
        assert emulator.ask("GET", "secret/data/mine") is not None
        bench = connect(auth=self.narrow(emulator, rules + 'path "secret/delete/mine" { capabilities = ["update"] }'))
        bench.converge([])
        assert not bench.observe([])
        assert emulator.ask("GET", "secret/data/mine") is None

    def test_the_shipped_policy_is_enough_for_the_mail_stack_and_for_nothing_else(
        self, emulator: VaultEmulator, connect: Opener, pod: JSONObject
    ) -> None:
        emulator.ask("POST", "sys/policies/acl/reconciler", {"policy": (REPOSITORY / "deploy/vault/reconciler.hcl").read_text()})
        emulator.ask("POST", "auth/kubernetes/role/reconciler", {"token_policies": ["reconciler"]})
        emulator.ask("POST", "secret/data/other", {"data": {"a": "b"}})
        bench = connect(auth=pod)
        graph = desired_below(REPOSITORY / "desired", about=False).load("mail", catalog(), date(2026, 1, 1)).graph
        stack = [one for one in graph if one.id.driver == "vault"]
        bench.converge([replace(one, needs=(), refs=()) for one in stack])
        assert isinstance(bench.driver, VaultDriver)
        for one in stack:
            if isinstance(one.spec, Secret) and bench.driver.versions([one.spec.path], bench.scope):
                reading = bench.driver.read(one.spec.path, bench.scope)
                note = SecretNote(reading.version, dict.fromkeys(reading.values, "0" * 16), reading.facts, "f" * 32)
                bench.driver.note(one.spec.path, note, bench.scope)
        bench.apply(bench.plan([]))
        assert {one.keep for one in bench.observe([])} == {True}
        token = list(emulator.system.tokens.all.values())[-1]
        for path in ("secret/data/other", "secret/metadata/other", "secret/metadata/", "sys/policies/acl/root", "sys/mounts/secret"):
            assert not emulator.system.capabilities(token, path), path
        assert "delete" not in emulator.system.capabilities(token, "secret/data/mailserver")
        assert not emulator.system.capabilities(token, "secret/delete/mailserver")
        with pytest.raises(Permanent, match="permission denied"):
            bench.driver.read("secret/other", bench.scope)

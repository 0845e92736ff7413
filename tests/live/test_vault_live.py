"""The promises of the Vault driver on a real Vault or OpenBao, and the emulator held against it, answer by answer.

The server is the one of VAULT_ADDR and VAULT_TOKEN, or of BAO_ADDR and BAO_TOKEN, a root token on a server that may be spoilt; one that
holds secrets of somebody is left alone. Without either, a ``bao`` beside Python or on the PATH is started in its development mode.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.driver import SecretNote
from reconciler.errors import DriverError, Permanent
from reconciler.resource import JSONObject
from reconciler.testing import Bench, DriverContract, adopting, scope_for
from reconciler_vault.driver import VaultDriver
from reconciler_vault.emulator import VaultEmulator
from reconciler_vault.kv import KV
from tests.contract.vault_world import BY_HAND, PASSWORD, SHARED, LiveVault, secret

PROGRAM = shutil.which("bao", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
GIVEN = next(
    (
        (os.environ[f"{name}_ADDR"], os.environ[f"{name}_TOKEN"])
        for name in ("VAULT", "BAO")
        if os.environ.get(f"{name}_ADDR") and os.environ.get(f"{name}_TOKEN")
    ),
    None,
)
ROOT = "root-of-a-server-to-be-spoilt"
REPOSITORY = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        GIVEN is None and PROGRAM is None,
        reason="neither VAULT_ADDR with VAULT_TOKEN nor BAO_ADDR with BAO_TOKEN is set, and there is no bao to start",
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    if GIVEN is not None:
        _may_be_spoilt(*GIVEN)
        yield GIVEN
        return
    assert PROGRAM is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [PROGRAM, "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT}", f"-dev-listen-address=127.0.0.1:{port}"]
    environment = {"HOME": str(tmp_path_factory.mktemp("home")), "PATH": os.environ.get("PATH", "")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _await(url)
            yield url, ROOT
        finally:
            process.terminate()


def _await(url: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/v1/sys/internal/ui/mounts", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError("bao does not answer within 30 s")


def _may_be_spoilt(url: str, token: str) -> None:
    """Skip when the server holds what these tests did not make."""
    ours = {"platform", "mail/", "reconciler/", "bench/"}
    answer = httpx.get(f"{url}/v1/secret/metadata/?list=true", headers={"X-Vault-Token": token}, trust_env=False)
    found = set(answer.json()["data"]["keys"]) if answer.status_code == 200 else set[str]()
    if found - ours:
        pytest.skip(f"{url} holds secrets of somebody ({', '.join(sorted(found - ours)[:3])}); name a server that may be spoilt")


@pytest.fixture
def world(server: tuple[str, str]) -> Iterator[LiveVault]:
    world = LiveVault(*server)
    yield world
    world.close()


class TestContract(DriverContract):
    cannot_delete = frozenset({"Mount", "AuthMount"})


@pytest.fixture
def bench(world: LiveVault) -> Iterator[Bench]:
    bench = Bench(world, world.open(), scope_for(world))
    world.ask("DELETE", "secret/metadata/platform")
    world.ask("POST", "secret/data/platform", {"data": {"theirs": "one", "other": "two"}})
    yield bench
    bench.driver.close()


def test_a_note_is_kept_beside_a_secret_without_a_new_version_and_read_with_its_keys(world: LiveVault, bench: Bench) -> None:
    driver = bench.driver
    assert isinstance(driver, VaultDriver)
    bench.converge([adopting(secret(SHARED, theirs={**BY_HAND, "pattern": "^o", "form": "json"}))])
    driver.versions([SHARED], bench.scope)
    reading = driver.read(SHARED, bench.scope)
    assert reading.facts == {"theirs": {"fault": "is not JSON"}}
    note = SecretNote(reading.version, {f"key-{number}": "0" * 16 for number in range(40)}, reading.facts, "f" * 32)
    driver.note(SHARED, note, bench.scope)
    seen = driver.versions([SHARED], bench.scope)[SHARED]
    assert (seen.text, seen.keys, seen.note) == ("1", {"theirs", "other"}, note)
    world.ask("PATCH", "secret/data/platform", {"data": {"other": "three"}})
    seen = driver.versions([SHARED], bench.scope)[SHARED]
    assert (seen.text, seen.note) == ("2", note)


def test_a_deleted_version_and_a_path_without_one_are_told_apart(world: LiveVault, bench: Bench) -> None:
    driver = bench.driver
    assert isinstance(driver, VaultDriver)
    wanted = [adopting(secret(SHARED, theirs=BY_HAND))]
    bench.converge(wanted)
    world.ask("DELETE", "secret/data/platform")
    (seen,) = bench.observe(wanted)
    assert "version 1 was deleted" in seen.health.message
    assert driver.versions([SHARED], bench.scope) == {}


def test_a_soft_deletion_takes_the_planned_version_and_never_a_newer_one(world: LiveVault, bench: Bench) -> None:
    wanted = [secret("secret/mail/soft", delete="soft", made=PASSWORD)]
    bench.converge(wanted)
    plan = bench.plan([])
    world.ask("PATCH", "secret/data/mail/soft", {"data": {"made": "by another hand"}})
    (outcome,) = bench.apply(plan)
    assert "nothing was deleted" in outcome.message
    KV(bench.driver._vault).delete("secret/mail/soft", 1, bench.scope)  # type: ignore[attr-defined]
    live = world.ask("GET", "secret/data/mail/soft")
    assert live is not None
    assert live["data"]["data"] == {"made": "by another hand"}
    bench.converge([])
    assert world.ask("GET", "secret/data/mail/soft") is None
    world.ask("POST", "secret/undelete/mail/soft", {"versions": [1, 2]})
    assert world.ask("GET", "secret/data/mail/soft") is not None
    world.ask("DELETE", "secret/metadata/mail/soft")


def test_a_token_that_has_ended_and_a_right_that_is_missing_are_told_apart(world: LiveVault, bench: Bench) -> None:
    dead = world.open(auth={"method": "token", "token": "s.never-was-4711"})
    with pytest.raises(Permanent, match="the token has ended, was revoked") as caught:
        dead.observe([], bench.scope)
    assert "never-was" not in str(caught.value)
    made = world.ask("POST", "auth/token/create", {"policies": ["default"], "ttl": "60s"})
    assert made is not None
    poor = world.open(auth={"method": "token", "token": made["auth"]["client_token"]})
    with pytest.raises(Permanent, match='need the capability list on path "secret/metadata/reconciler/"'):
        poor.observe([], bench.scope)
    for driver in (dead, poor):
        driver.close()


def test_the_shipped_policy_lets_the_driver_note_and_read_and_nothing_else(world: LiveVault, bench: Bench) -> None:
    world.ask("POST", "sys/policies/acl/reconciler-live", {"policy": (REPOSITORY / "deploy/vault/reconciler.hcl").read_text()})
    made = world.ask("POST", "auth/token/create", {"policies": ["reconciler-live"], "ttl": "300s"})
    assert made is not None
    driver = world.open(auth={"method": "token", "token": made["auth"]["client_token"]})
    narrow = Bench(world, driver, bench.scope)
    narrow.converge([adopting(secret(SHARED, theirs=BY_HAND))])
    driver.versions([SHARED], bench.scope)
    driver.note(SHARED, SecretNote("1", {"theirs": "0" * 16}), bench.scope)
    assert driver.read(SHARED, bench.scope).values["theirs"].reveal() == "one"
    world.ask("POST", "secret/data/mail/other", {"data": {"a": "b"}})
    for refused in (lambda: driver.read("secret/mail/other", bench.scope), lambda: driver.versions(["secret/mail/other"], bench.scope)):
        with pytest.raises(Permanent, match="permission denied"):
            refused()
    driver.close()
    world.ask("DELETE", "sys/policies/acl/reconciler-live")


def test_a_token_is_renewed_by_itself_and_an_approle_logs_in_by_a_file(world: LiveVault, bench: Bench, tmp_path: Path) -> None:
    world.ask("POST", "sys/policies/acl/all-live", {"policy": 'path "*" { capabilities = ["read", "list", "update", "create", "patch"] }'})
    world.ask("POST", "auth/approle/role/live", {"token_policies": ["all-live"], "token_ttl": "2s", "token_max_ttl": "60s"})
    role_id = (world.ask("GET", "auth/approle/role/live/role-id") or {})["data"]["role_id"]
    secret_id = (world.ask("POST", "auth/approle/role/live/secret-id", {}) or {})["data"]["secret_id"]
    (tmp_path / "secret-id").write_text(secret_id + "\n")
    driver = world.open(auth={"method": "approle", "role_id": role_id, "secret_id_file": str(tmp_path / "secret-id")})
    driver.observe([], bench.scope)
    first = driver._vault.tokens.good().value
    time.sleep(3)  # longer than the token would live unless something renewed it meanwhile
    driver.observe([], bench.scope)
    assert driver._vault.tokens.good().value == first
    driver.close()
    world.ask("DELETE", "auth/approle/role/live")
    world.ask("DELETE", "sys/policies/acl/all-live")


def test_a_namespace_is_a_world_of_its_own_and_one_that_is_not_there_is_said_to_be_missing(world: LiveVault, bench: Bench) -> None:
    lost = world.open(namespace="never-was")
    with pytest.raises(Permanent, match="there is no namespace never-was"):
        lost.observe([], bench.scope)
    lost.close()
    if world.ask("POST", "sys/namespaces/live", {}) is None:
        pytest.skip("this server has no namespaces")
    inside = world.open(namespace="live")
    (seen,) = inside.observe([secret(SHARED, theirs=BY_HAND)], bench.scope) or [None]
    assert seen is None
    inside.close()
    world.ask("DELETE", "sys/namespaces/live")


# -- the emulator beside the real server ---------------------------------------------------------------------------------------

MERGE = {"Content-Type": "application/merge-patch+json"}
STEPS: tuple[tuple[str, str, JSONObject | None], ...] = (
    ("GET", "kv/data/a", None),
    ("GET", "kv/metadata/a", None),
    ("GET", "kv/subkeys/a", None),
    ("POST", "kv/data/a", {"nothing": {}}),
    ("POST", "kv/data/a", {"data": {"k": "v"}, "options": {"cas": 1}}),
    ("POST", "kv/data/a", {"data": {"k": "v", "deep": {"x": "y"}}, "options": {"cas": 0}}),
    ("POST", "kv/data/a", {"data": {}, "options": {"cas": 0}}),
    ("GET", "kv/data/a", None),
    ("GET", "kv/subkeys/a?depth=1", None),
    ("GET", "kv/subkeys/a", None),
    ("PATCH", "kv/data/a", {"data": {"k": None, "new": "n"}, "options": {"cas": 7}}),
    ("PATCH", "kv/data/a", {"data": {"k": None, "new": "n"}, "options": {"cas": 1}}),
    ("GET", "kv/data/a", None),
    ("GET", "kv/data/a?version=1", None),
    ("GET", "kv/data/a?version=9", None),
    ("PATCH", "kv/data/never", {"data": {"k": "v"}}),
    ("PATCH", "kv/metadata/never", {"custom_metadata": {"a": "b"}}),
    ("PATCH", "kv/metadata/a", {"custom_metadata": {"a": "1", "b": "2"}}),
    ("PATCH", "kv/metadata/a", {"custom_metadata": {"a": None, "c": "3"}}),
    ("GET", "kv/metadata/a", None),
    ("POST", "kv/metadata/a", {"custom_metadata": {"d": "4"}}),
    ("GET", "kv/metadata/a", None),
    ("POST", "kv/metadata/a", {"custom_metadata": {"k" * 129: "v"}}),
    ("POST", "kv/metadata/a", {"custom_metadata": {"k": "v" * 513}}),
    ("POST", "kv/metadata/a", {"custom_metadata": {f"k{number}": "v" for number in range(65)}}),
    ("POST", "kv/delete/a", {"versions": [1]}),
    ("GET", "kv/data/a", None),
    ("GET", "kv/data/a?version=1", None),
    ("POST", "kv/delete/a", {"versions": [1, 9]}),
    ("POST", "kv/delete/never", {"versions": [1]}),
    ("GET", "kv/metadata/a", None),
    ("DELETE", "kv/data/a", None),
    ("GET", "kv/data/a", None),
    ("GET", "kv/subkeys/a", None),
    ("PATCH", "kv/data/a", {"data": {"k": "v"}}),
    ("POST", "kv/data/a", {"data": {}, "options": {"cas": 0}}),
    ("POST", "kv/undelete/a", {"versions": [2]}),
    ("GET", "kv/data/a", None),
    ("POST", "kv/delete/a", {"versions": []}),
    ("POST", "kv/destroy/a", {"versions": [2]}),
    ("GET", "kv/data/a", None),
    ("POST", "kv/metadata/dir/b", {"custom_metadata": {"only": "metadata"}}),
    ("GET", "kv/subkeys/dir/b", None),
    ("POST", "kv/data/dir/b", {"data": {"k": "v"}, "options": {"cas": 0}}),
    ("GET", "kv/metadata/?list=true", None),
    ("GET", "kv/metadata/none?list=true", None),
    ("DELETE", "kv/metadata/a", None),
    ("GET", "kv/metadata/a", None),
    ("POST", "sys/mounts/kv", {"type": "kv"}),
    ("GET", "sys/policies/acl/never-was", None),
    ("POST", "sys/policies/acl/live-a", {"policy": 'path "kv/*" { capabilities = ["fly"] }'}),
    ("POST", "sys/policies/acl/Live-A", {"policy": 'path "kv/*" { capabilities = ["read"] }'}),
    ("GET", "sys/policies/acl/live-a", None),
    ("DELETE", "sys/policies/acl/live-a", None),
    ("DELETE", "sys/policies/acl/default", None),
    ("GET", "nowhere/data/a", None),
    ("GET", "sys/internal/ui/mounts/kv/a/b", None),
    ("DELETE", "identity/group/name/live-g", None),
    ("GET", "identity/group/name/live-g", None),
    ("POST", "identity/group/name/live-g", {"type": "internal", "policies": ["b", "a", "a"], "metadata": {"reconciler": "x", "t": "1"}}),
    ("GET", "identity/group/name/Live-G", None),
    ("POST", "identity/group/name/live-g", {"metadata": {"reconciler": "y"}}),
    ("POST", "identity/group/name/Live-g", {"policies": []}),
    ("GET", "identity/group/name/live-g", None),
    ("POST", "identity/group/name/live-g", {"type": "external"}),
    ("POST", "identity/group/name/live-g", {"metadata": {"k": "v" * 600}}),
    ("DELETE", "identity/group/name/live-g", None),
    ("DELETE", "identity/group/name/live-g", None),
    ("POST", "auth/approle/login", {"role_id": "x", "secret_id": "y"}),
    ("POST", "auth/kubernetes/login", {"jwt": "x"}),
    ("POST", "auth/kubernetes/login", {"jwt": "x", "role": "never"}),
)


def test_the_emulator_answers_as_the_real_server_does(world: LiveVault, server: tuple[str, str]) -> None:
    emulator = VaultEmulator({"auth": ["kubernetes", "approle"]})
    emulator.start()
    sides = ((server[0], server[1]), (emulator.url, emulator.token))
    clients = [httpx.Client(base_url=f"{url}/v1/", headers={"X-Vault-Token": token}, trust_env=False) for url, token in sides]
    for client in clients:
        client.delete("sys/mounts/kv")
        client.post("sys/mounts/kv", json={"type": "kv", "options": {"version": "2"}})
    time.sleep(0.5)
    different = {}
    for number, (method, path, body) in enumerate(STEPS):
        real, ours = (_essence(client, method, path, body) for client in clients)
        if real != ours:
            different[f"{number} {method} {path}"] = (real, ours)
    for client in clients:
        client.delete("sys/mounts/kv")
        client.close()
    emulator.stop()
    assert not different, "\n".join(f"{step}\n  real {real}\n  ours {ours}" for step, (real, ours) in different.items())


VOLATILE = re.compile(r"(_time|accessor|uuid|deprecation|running_|plugin_version|external_entropy)")
ONLY_OPENBAO = {"current_metadata_version", "metadata_cas_required", "expiration", "modified", "version_", "cas_required"}


def _essence(client: httpx.Client, method: str, path: str, body: JSONObject | None) -> tuple[int, Any]:
    answer = client.request(method, path, json=body, headers=MERGE if method == "PATCH" else {})
    if not answer.content:
        return answer.status_code, None
    whole = answer.json()
    if "errors" in whole:
        return answer.status_code, [_words(text) for text in whole["errors"]]
    return answer.status_code, _steady(whole.get("data"), path)


def _words(text: str) -> str:
    """Compare the beginning of what is said: what follows names places and values."""
    return re.split(r"[:\"'(]", " ".join(text.split()).removeprefix("1 error occurred: * "))[0].strip().lower()[:40]


def _steady(value: Any, path: str) -> Any:
    if path.startswith("sys/internal"):
        return {key: value[key] for key in ("path", "type", "options")}
    if path.startswith("sys/policies"):
        return {key: value[key] for key in ("name", "policy")}
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in ONLY_OPENBAO}
        return {key: bool(item) if key == "id" or VOLATILE.search(key) else _steady(item, "") for key, item in kept.items()}
    return value


def test_a_sealed_server_says_so(world: LiveVault, bench: Bench) -> None:
    """Last, because only a new start unseals a server in development mode."""
    if GIVEN is not None:
        pytest.skip("a server that was given is not sealed by a test")
    world.ask("POST", "sys/seal")
    with pytest.raises(DriverError, match=r"sealed \(503.*unseal it"):
        bench.observe([secret(SHARED, theirs=BY_HAND)])

"""The emulator honours what the real server's source and documentation say, so that the contract tests mean something."""

from typing import Any

import pytest

from reconciler.resource import JSONObject
from reconciler_vault.emulator import VaultEmulator
from reconciler_vault.emulator.acl import allowed, parse
from reconciler_vault.emulator.wire import Call, Refused


@pytest.fixture
def vault() -> VaultEmulator:
    return VaultEmulator({"secrets": {"secret/a": {"k": "v", "deep": {"x": "y"}}}, "auth": ["kubernetes", "approle"]})


def data(answer: JSONObject | None) -> JSONObject:
    assert answer is not None
    found = answer["data"]
    assert isinstance(found, dict)
    return found


def refusal(vault: VaultEmulator, method: str, path: str, body: JSONObject | None = None, **headers: str) -> Refused:
    with pytest.raises(Refused) as caught:
        vault.system.handle(Call(method, path, body or {}, {}, headers, vault.token))
    return caught.value


class TestVersions:
    def test_a_wrong_check_and_set_is_400_with_the_servers_words(self, vault: VaultEmulator) -> None:
        found = refusal(vault, "POST", "secret/data/a", {"data": {}, "options": {"cas": 0}})
        assert (found.status, found.errors) == (400, ("check-and-set parameter did not match the current version",))

    def test_check_and_set_0_means_never_written_even_when_there_is_metadata(self, vault: VaultEmulator) -> None:
        vault.ask("POST", "secret/metadata/b", {"custom_metadata": {"x": "y"}})
        assert data(vault.ask("POST", "secret/data/b", {"data": {}, "options": {"cas": 0}}))["version"] == 1

    def test_a_deleted_version_keeps_its_number_and_its_tombstone_has_a_body(self, vault: VaultEmulator) -> None:
        vault.ask("DELETE", "secret/data/a")
        found = refusal(vault, "GET", "secret/data/a")
        assert found.status == 404
        assert found.data is not None
        assert found.data["data"] is None
        assert found.data["metadata"]["deletion_time"]
        assert refusal(vault, "POST", "secret/data/a", {"data": {}, "options": {"cas": 0}}).status == 400
        assert refusal(vault, "PATCH", "secret/data/a", {"data": {}}, **{"content-type": "application/merge-patch+json"}).status == 404

    def test_an_unknown_key_is_404_without_words(self, vault: VaultEmulator) -> None:
        assert refusal(vault, "GET", "secret/data/never").body == {"errors": []}

    def test_a_required_check_and_set_must_be_there(self, vault: VaultEmulator) -> None:
        vault.ask("POST", "secret/config", {"cas_required": True})
        assert refusal(vault, "POST", "secret/data/a", {"data": {}}).errors == ("check-and-set parameter required for this call",)

    def test_patch_merges_takes_nulls_away_and_wants_its_content_type(self, vault: VaultEmulator) -> None:
        vault.ask("PATCH", "secret/data/a", {"data": {"k": None, "deep": {"z": "1"}}})
        assert data(vault.ask("GET", "secret/data/a"))["data"] == {"deep": {"x": "y", "z": "1"}}
        assert refusal(vault, "PATCH", "secret/data/a", {"data": {}}, **{"content-type": "application/json"}).status == 415

    def test_old_versions_are_dropped_and_the_oldest_moves(self, vault: VaultEmulator) -> None:
        for _ in range(11):
            vault.ask("POST", "secret/data/a", {"data": {"k": "v"}})
        facts = data(vault.ask("GET", "secret/metadata/a"))
        assert (facts["current_version"], facts["oldest_version"], len(facts["versions"])) == (12, 3, 10)

    def test_versions_are_destroyed_for_good_and_undeleted_otherwise(self, vault: VaultEmulator) -> None:
        vault.ask("DELETE", "secret/data/a")
        vault.ask("POST", "secret/undelete/a", {"versions": [1]})
        assert data(vault.ask("GET", "secret/data/a"))["data"]["k"] == "v"
        vault.ask("POST", "secret/destroy/a", {"versions": [1]})
        assert vault.ask("GET", "secret/data/a") is None
        assert refusal(vault, "POST", "secret/delete/a").errors == ("No version number provided",)

    def test_subkeys_show_names_and_no_values(self, vault: VaultEmulator) -> None:
        assert data(vault.ask("GET", "secret/subkeys/a"))["subkeys"] == {"k": None, "deep": {"x": None}}


class TestMetadata:
    def test_post_replaces_and_patch_merges(self, vault: VaultEmulator) -> None:
        vault.ask("POST", "secret/metadata/a", {"custom_metadata": {"a": "1", "b": "2"}})
        vault.ask("PATCH", "secret/metadata/a", {"custom_metadata": {"a": None, "c": "3"}})
        assert data(vault.ask("GET", "secret/metadata/a"))["custom_metadata"] == {"b": "2", "c": "3"}
        vault.ask("POST", "secret/metadata/a", {"custom_metadata": {"d": "4"}})
        assert data(vault.ask("GET", "secret/metadata/a"))["custom_metadata"] == {"d": "4"}
        assert data(vault.ask("GET", "secret/metadata/a"))["current_version"] == 1

    @pytest.mark.parametrize("custom", [{f"k{n}": "v" for n in range(65)}, {"k" * 129: "v"}, {"k": "v" * 513}, {"k": ""}, {"k": "a\nb"}])
    def test_the_limits_are_held(self, vault: VaultEmulator, custom: dict[str, str]) -> None:
        found = refusal(vault, "POST", "secret/metadata/a", {"custom_metadata": custom})
        assert found.status == 400
        assert found.errors[0].startswith("custom_metadata validation failed: ")

    def test_a_listing_shows_folders_with_a_slash_and_nothing_is_404(self, vault: VaultEmulator) -> None:
        vault.ask("POST", "secret/data/dir/b", {"data": {}})
        vault.ask("DELETE", "secret/data/a")
        assert data(vault.ask("LIST", "secret/metadata"))["keys"] == ["a", "dir/"]
        assert vault.ask("LIST", "secret/metadata/none") is None


class TestAccess:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("secret/data/mail/a", {"update"}),
            ("secret/data/mail/b", {"create"}),
            ("secret/data/x/deep", {"read"}),
            ("secret/data/x/y/deep", {"list"}),
            ("secret/other", {"patch"}),
            ("elsewhere", set()),
            ("secret/data/no", set()),
        ],
    )
    def test_the_best_pattern_decides(self, path: str, expected: set[str]) -> None:
        rules = parse("""
            # a comment with "quotes" and a } brace
            path "secret/*" { capabilities = ["patch"] }
            path "secret/data/*" { capabilities = ["list"] }
            path "secret/data/+/deep" { capabilities = ["read"] }
            path "secret/data/mail/*" { capabilities = ["create"] }  // better
            path "secret/data/mail/a" { capabilities = ["update"] }  /* best */
            path "secret/data/no" { capabilities = ["deny", "read"] }
        """)
        assert allowed([rules], path) == expected

    def test_policies_add_up_and_a_denial_beats_them(self) -> None:
        one, two, three = (parse(f'path "a" {{ capabilities = ["{word}"] }}') for word in ("read", "list", "deny"))
        assert allowed([one, two], "a") == {"read", "list"}
        assert allowed([one, two, three], "a") == frozenset()

    @pytest.mark.parametrize("text", ["path x {}", 'path "a" { capabilities = ["fly"] }', "{]", '{"path": 1}', 'path "a" {'])
    def test_what_is_no_policy_is_refused(self, vault: VaultEmulator, text: str) -> None:
        assert refusal(vault, "POST", "sys/policies/acl/x", {"policy": text}).status == 400

    def test_a_write_is_a_create_only_where_there_is_nothing(self, vault: VaultEmulator) -> None:
        vault.ask("POST", "sys/policies/acl/maker", {"policy": 'path "secret/data/*" { capabilities = ["create"] }'})
        token = vault.system.tokens.make(["maker"], ttl=60).value
        vault.ask("POST", "secret/data/new", {"data": {}}, token=token)
        with pytest.raises(Refused) as caught:
            vault.ask("POST", "secret/data/new", {"data": {}}, token=token)
        assert caught.value.status == 403

    def test_auth_methods_are_changed_with_sudo_only(self, vault: VaultEmulator) -> None:
        vault.ask("POST", "sys/policies/acl/a", {"policy": 'path "sys/auth/*" { capabilities = ["update"] }'})
        token = vault.system.tokens.make(["a"], ttl=60).value
        with pytest.raises(Refused):
            vault.ask("POST", "sys/auth/x", {"type": "approle"}, token=token)

    def test_a_token_ends(self, vault: VaultEmulator) -> None:
        token = vault.system.tokens.make(["root"], ttl=60).value
        vault.ask("GET", "secret/data/a", token=token)
        vault.system.clock.ahead += 61
        with pytest.raises(Refused, match="invalid token"):
            vault.ask("GET", "secret/data/a", token=token)


class TestSystem:
    @pytest.mark.parametrize(
        ("state", "params", "status"), [("sealed", {}, 503), ("standby", {}, 429), ("sealed", {"sealedcode": "299"}, 299)]
    )
    def test_health_says_how_it_is_by_its_status(self, vault: VaultEmulator, state: str, params: dict[str, str], status: int) -> None:
        setattr(vault.system, state, True)
        with pytest.raises(Refused) as caught:
            vault.system.handle(Call("GET", "sys/health", params=params))
        assert caught.value.status == status
        assert caught.value.body[state] is True

    def test_a_mount_cannot_be_made_twice_and_not_inside_another(self, vault: VaultEmulator) -> None:
        for path in ("secret", "secret/inside"):
            assert refusal(vault, "POST", f"sys/mounts/{path}", {"type": "kv"}).errors == ("path is already in use at secret/",)

    def test_the_servers_own_policies_stay(self, vault: VaultEmulator) -> None:
        assert refusal(vault, "DELETE", "sys/policies/acl/default").status == 400

    def test_a_role_is_read_back_in_the_servers_own_spelling(self, vault: VaultEmulator) -> None:
        body: dict[str, Any] = {"bound_service_account_names": "b,a", "bound_service_account_namespaces": "*", "token_ttl": "1h30m"}
        vault.ask("POST", "auth/kubernetes/role/x", body)
        found = data(vault.ask("GET", "auth/kubernetes/role/x"))
        assert (found["bound_service_account_names"], found["token_ttl"]) == (["b", "a"], 5400)

    def test_a_summary_names_keys_and_shows_no_values(self) -> None:
        lines = VaultEmulator({"secrets": {"secret/a": {"key": "canary-value"}}}).summary()
        assert any("secret/a version 1: key" in line for line in lines)
        assert not any("canary-value" in line for line in lines)

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.resource import ResourceId, SecretRef
from reconciler_vault import PLUGIN
from reconciler_vault.config import VaultConfig
from reconciler_vault.forms import seconds
from reconciler_vault.kinds import KINDS
from reconciler_vault.spec import AppRole, AuthMount, Generate, KubernetesRole, Mount, Policy, Secret


def no_secrets(ref: SecretRef) -> str:
    raise AssertionError(ref)


def secret(**more: Any) -> Secret:
    return Secret.model_validate({"path": "secret/mail", "keys": {"a": {}}} | more)


def role(**more: Any) -> KubernetesRole:
    return KubernetesRole.model_validate({"role": "mail", "bound_service_account_names": ["mail"]} | more)


class TestImporting:
    def test_the_package_reads_no_vendor_library(self) -> None:
        code = "import sys, reconciler_vault; print([m for m in ('hvac', 'requests', 'jsonschema', 'cryptography') if m in sys.modules])"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"

    def test_the_plugin_names_all_kinds_and_says_that_it_keeps_secrets(self) -> None:
        assert set(PLUGIN.kinds) == {"Secret", "Policy", "IdentityGroup", "KubernetesRole", "AppRole", "Mount", "AuthMount"}
        assert PLUGIN.keeps_secrets

    @pytest.mark.parametrize("model", [*KINDS.values(), VaultConfig])
    def test_every_field_is_described(self, model: Any) -> None:
        assert all(field.description for field in model.model_fields.values())

    def test_an_editor_learns_the_spellings_that_are_understood(self) -> None:
        fields = KubernetesRole.model_json_schema()["properties"]
        assert {one["type"] for one in fields["token_ttl"]["anyOf"]} == {"integer", "string"}
        assert {one["type"] for one in fields["token_policies"]["anyOf"]} == {"array", "string"}
        assert all(kind.model_json_schema() for kind in KINDS.values())


class TestCanonicalForm:
    @given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
    def test_a_duration_is_seconds_however_it_is_spelled(self, d: int, h: int, m: int, s: int) -> None:
        total = ((d * 24 + h) * 60 + m) * 60 + s
        assert seconds(f"{d}d{h}h{m}m{s}s") == seconds(str(total)) == seconds(total) == total

    @pytest.mark.parametrize("text", ["", "1 h", "h", "1w", "-5s", "1.5h"])
    def test_what_is_no_duration_is_refused(self, text: str) -> None:
        with pytest.raises(ValidationError, match="duration"):
            role(token_ttl=text)

    @given(st.lists(st.sampled_from(["mail", "dns", "web"]), min_size=1, max_size=6))
    def test_the_order_and_repetition_of_a_set_mean_nothing(self, names: list[str]) -> None:
        assert role(token_policies=names) == role(token_policies=sorted(set(names))) == role(token_policies=", ".join(names))

    def test_a_single_host_is_written_as_vault_reads_it_back(self) -> None:
        assert role(token_bound_cidrs=["10.0.0.1/32", "10.1.2.3/8", "::1/128"]).token_bound_cidrs == ("10.0.0.0/8", "10.0.0.1", "::1")

    @given(st.text("ab {}\n\t ", max_size=40))
    def test_blanks_round_the_lines_of_a_policy_mean_nothing(self, text: str) -> None:
        spelled = "\n\n" + "\n".join(line + "  \t" for line in text.splitlines()) + "\n\n"
        assert Policy(name="a", policy=spelled) == Policy(name="A ", policy=text)

    @pytest.mark.parametrize("name", ["root", "Default", "default-ceiling"])
    def test_the_servers_own_policies_are_not_declared(self, name: str) -> None:
        with pytest.raises(ValidationError, match="belongs to the server"):
            Policy(name=name, policy="")

    @pytest.mark.parametrize("path", ["secret", "/", "secret//a", "secret/../a", ""])
    def test_a_path_needs_a_mount_and_plain_parts(self, path: str) -> None:
        with pytest.raises(ValidationError):
            secret(path=path)

    def test_a_secret_is_compared_without_anything_of_its_values(self) -> None:
        form = secret(path="/secret/mail/", keys={"a": {}, "b": {"generate": {"type": "hex"}}}).canonical(no_secrets)
        assert form == {"path": "secret/mail", "keys": {"a": "declared", "b": Generate(type="hex").record}, "delete": "retain"}

    def test_a_new_shape_is_a_change_and_a_new_description_is_none(self) -> None:
        wishes = [{"pattern": "^x"}, {"pattern": "^y"}, {"pattern": "^x", "schema": {"type": "object"}}]
        wishes.append({"pattern": "^x", "required": False})
        records = {str(secret(keys={"a": wish}).canonical(no_secrets)["keys"]) for wish in wishes}
        assert len(records) == len(wishes)
        described = secret(keys={"a": {"pattern": "^x", "description": "other words", "consumers": ["somebody"]}})
        assert described.canonical(no_secrets) == secret(keys={"a": {"pattern": "^x"}}).canonical(no_secrets)

    def test_the_record_of_a_generator_changes_with_what_it_makes_and_not_otherwise(self) -> None:
        wish = Generate(type="password")
        others = [Generate(type="hex"), Generate(type="password", length=33), Generate(type="password", epoch=2)]
        assert len({one.record for one in (wish, *others)}) == 4
        assert Generate(type="rsa-2048", length=64).record == Generate(type="rsa-2048").record

    def test_a_difference_that_is_accepted_is_not_made(self) -> None:
        spec = secret(keys={"a": {"generate": {"type": "hex"}}, "b": {"generate": {"type": "hex"}}})
        accepted = spec.with_live(("/keys/a", "/delete"), {"path": "secret/mail", "keys": {}, "delete": "soft"})
        assert (accepted.keys["a"].generate, accepted.keys["a"].left_alone) == (None, True)
        assert (accepted.keys["b"].generate, accepted.keys["b"].left_alone) == (Generate(type="hex"), False)
        assert all(wish.left_alone for wish in spec.with_live(("/keys",), {"keys": {}}).keys.values())
        assert accepted.delete == "soft"

    def test_kv_without_options_is_version_1(self) -> None:
        assert Mount(path="a", type="kv").options == {"version": "1"}
        assert Mount.model_validate({"path": "a", "type": "kv", "options": {"version": 2}}).options == {"version": "2"}
        assert Mount(path="a", type="transit").options == {}


class TestNativeForm:
    @given(
        st.builds(
            AppRole,
            role=st.just("relay"),
            token_ttl=st.integers(0, 10**6),
            token_policies=st.lists(st.sampled_from(["b", "a"])).map(tuple),
            bind_secret_id=st.booleans(),
            token_type=st.sampled_from(["default", "batch"]),
        )
    )
    def test_a_role_comes_back_as_it_was_written(self, spec: AppRole) -> None:
        noise = {"policies": ["old"], "ttl": 5, "alias_metadata": {}, "local_secret_ids": False}
        assert AppRole.from_native("approle", "relay", spec.native() | noise) == spec

    def test_nulls_and_empty_texts_of_an_older_server_are_the_defaults(self) -> None:
        data = {"bound_service_account_names": ["mail"], "token_bound_cidrs": None, "alias_name_source": "", "audience": None}
        assert KubernetesRole.from_native("kubernetes", "mail", data) == role()

    def test_a_mount_comes_back_as_it_was_written(self) -> None:
        entry = {"type": "kv", "config": {"default_lease_ttl": 0, "max_lease_ttl": 60}, "options": {"version": "2"}, "uuid": "x"}
        assert Mount.from_native("a", entry, "text") == Mount(
            path="a", type="kv", options={"version": "2"}, max_lease_ttl=60, description="text"
        )
        assert AuthMount.from_native("b", {"type": "approle", "options": None}, "") == AuthMount(path="b", type="approle")


class TestDocuments:
    def test_the_natural_name_defaults_to_the_name_of_the_resource(self) -> None:
        document = {"metadata": {"name": "mail"}, "spec": {"bound_service_account_names": ["mail"]}}
        assert KubernetesRole.from_document(document) == ("mail", role())
        assert Policy.from_document({"metadata": {"name": "mail"}, "spec": {"policy": "x", "name": "other"}})[1].name == "other"

    def test_a_role_comes_after_its_method_and_its_policies(self) -> None:
        expected = (ResourceId("vault", "AuthMount", "kubernetes"), ResourceId("vault", "Policy", "mail"))
        assert role(token_policies=["mail"]).requires("mail") == expected

    def test_a_secret_comes_after_its_mount(self) -> None:
        assert secret().requires("mail") == (ResourceId("vault", "Mount", "secret"),)

    @pytest.mark.parametrize(
        ("key", "problem"),
        [
            ({"pattern": "("}, "not a regular expression"),
            ({"schema": {"type": "nonsense"}}, "not a JSON Schema"),
            ({"schema": {"items": {"$ref": "https://example.org/schema"}}}, "nothing is fetched"),
            ({"generate": {"type": "rsa-1024"}}, "rsa-2048"),
            ({"value": "x"}, "Extra inputs"),
        ],
    )
    def test_a_wrong_key_is_refused_in_words_that_help(self, key: dict[str, Any], problem: str) -> None:
        with pytest.raises(ValidationError, match=problem):
            secret(keys={"a": key})

    @pytest.mark.parametrize("keys", [{}, {"with blank": {}}, {"ü": {}}, {f"k{n}": {} for n in range(49)}])
    def test_keys_must_fit_into_custom_metadata(self, keys: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match="keys"):
            secret(keys=keys)

    def test_settings_hide_credentials_and_name_a_mount_for_claims(self) -> None:
        config = VaultConfig.model_validate({"url": "https://v/", "auth": {"method": "token", "token": "hvs.canary"}})
        assert config.url == "https://v"
        assert "hvs.canary" not in repr(config)
        with pytest.raises(ValidationError, match="no user name or password") as caught:
            VaultConfig.model_validate({"url": "https://me:pw-canary@v", "auth": {"method": "token", "token": "x"}})
        assert "pw-canary" not in str(caught.value.errors(include_input=False))
        with pytest.raises(ValidationError, match="a mount and a folder"):
            VaultConfig.model_validate({"url": "https://v", "registry": "secret", "auth": {"method": "token", "token": "x"}})

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import Permanent
from reconciler.resource import SecretValue
from reconciler_vault import told
from reconciler_vault.generate import make
from reconciler_vault.kv import Metadata
from reconciler_vault.shape import check, faults
from reconciler_vault.spec import Generate, KeySpec

ACCOUNTS = {
    "type": "object",
    "required": ["spam@example.org"],
    "additionalProperties": {"type": "string", "minLength": 3},
    "propertyNames": {"pattern": "@"},
}


def wish(**fields: Any) -> KeySpec:
    return KeySpec.model_validate(fields)


class TestShape:
    def test_a_broken_schema_rule_is_named_by_its_place_and_not_by_what_breaks_it(self) -> None:
        said = faults(SecretValue('{"hush-hush": 4711}'), wish(schema=ACCOUNTS))
        assert said == ["breaks its schema at " + place for place in ("/additionalProperties/type", "/propertyNames/pattern", "/required")]

    def test_what_is_no_json_is_said_to_be_none(self) -> None:
        assert faults(SecretValue("hush"), wish(schema=ACCOUNTS)) == ["is not JSON, which its schema asks for"]

    def test_a_pattern_is_searched_for(self) -> None:
        relay = wish(pattern=r"^\[smtp-relay\.example\.org\]:587 \S+:xsmtpsib-")
        assert not faults(SecretValue("[smtp-relay.example.org]:587 me:xsmtpsib-1"), relay)
        assert faults(SecretValue("[smtp.example.org]:587 me:xsmtpsib-1"), relay)

    @given(st.text(min_size=12))
    def test_no_value_is_ever_quoted(self, value: str) -> None:
        rules = {"a": wish(pattern="^$(?!)"), "b": wish(schema={"const": 1})}
        with pytest.raises(Permanent) as caught:
            check("secret/mail", {"a": SecretValue(value), "b": SecretValue(value)}, rules)
        assert value not in str(caught.value)
        assert str(caught.value).startswith("secret/mail#a does not match")

    def test_a_key_that_is_missing_is_not_judged(self) -> None:
        check("secret/mail", {}, {"a": wish(pattern="x")})


class TestTold:
    def test_a_private_key_is_proven_once_and_only_its_public_half_is_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded: list[bytes] = []

        def load(data: bytes, password: None) -> Any:
            loaded.append(data)
            return load_pem_private_key(data, password)

        monkeypatch.setattr("cryptography.hazmat.primitives.serialization.load_pem_private_key", load)
        monkeypatch.setattr(told, "_proven", {})
        rules = {"key": wish(form="private-key")}
        one, other = (make(Generate(type="rsa-2048")) for _ in range(2))
        first = told.facts_of({"key": one}, rules)
        first["key"]["public"] = "scribbled on"
        again, another = told.facts_of({"key": one}, rules), told.facts_of({"key": other}, rules)
        assert again["key"]["public"] not in ("scribbled on", another["key"]["public"])
        assert len(loaded) == 2
        lines = {line for value in (one, other) for line in value.reveal().splitlines()}
        assert not [line for line in lines if line in repr(told._proven)]

    def test_what_is_no_key_is_forgotten_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(told, "_proven", {})
        assert "fault" in told.facts_of({"key": SecretValue("hush-hush")}, {"key": wish(form="private-key")})["key"]
        assert told._proven == {}

    def test_not_more_keys_are_remembered_than_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(told, "_proven", {})
        monkeypatch.setattr(told, "MOST_PROVEN", 2)
        for _ in range(5):
            told.facts_of({"key": make(Generate(type="ed25519"))}, {"key": wish(form="private-key")})
            assert len(told._proven) <= 2


class TestGenerate:
    @given(st.integers(8, 200), st.booleans())
    def test_a_password_has_the_length_and_the_alphabet_asked_for(self, length: int, symbols: bool) -> None:
        value = make(Generate(type="password", length=length, symbols=symbols)).reveal()
        assert re.fullmatch(rf"[A-Za-z0-9{'!#%*+./:=?@_~-' if symbols else ''}]{{{length}}}", value)

    def test_each_value_is_another(self) -> None:
        assert len({make(Generate(type="uuid")).reveal() for _ in range(50)}) == 50

    @pytest.mark.parametrize(("kind", "expected"), [("rsa-2048", RSAPrivateKey), ("ed25519", Ed25519PrivateKey)])
    def test_a_private_key_can_be_loaded(self, kind: Any, expected: type) -> None:
        assert isinstance(load_pem_private_key(make(Generate(type=kind)).reveal().encode(), None), expected)

    @pytest.mark.parametrize(("kind", "pattern"), [("hex", "[0-9a-f]{64}"), ("base64", "[A-Za-z0-9+/]{43}=")])
    def test_bytes_are_counted_before_they_are_written(self, kind: Any, pattern: str) -> None:
        assert re.fullmatch(pattern, make(Generate(type=kind)).reveal())


class TestMetadata:
    NOW = datetime(2026, 1, 1, tzinfo=UTC)

    def read(self, **newest: Any) -> Metadata:
        version = {"created_time": "2025-12-01T00:00:00.123456789Z", "deletion_time": "", "destroyed": False} | newest
        return Metadata.from_native({"current_version": 3, "versions": {"3": version}, "custom_metadata": None}, self.NOW)

    def test_a_live_version_is_alive(self) -> None:
        assert self.read().alive
        assert self.read().written == datetime(2025, 12, 1, 0, 0, 0, 123456, UTC)

    def test_a_deletion_that_is_yet_to_come_has_not_happened(self) -> None:
        assert self.read(deletion_time="2026-01-01T00:00:01Z").alive

    @pytest.mark.parametrize("newest", [{"deletion_time": "2025-12-31T23:59:59.9Z"}, {"destroyed": True}])
    def test_a_deleted_or_destroyed_version_is_a_tombstone(self, newest: dict[str, Any]) -> None:
        assert self.read(**newest).tombstone

    def test_metadata_without_data_is_neither_alive_nor_a_tombstone(self) -> None:
        empty = Metadata.from_native({"current_version": 0, "versions": {}}, self.NOW)
        assert not empty.alive
        assert not empty.tombstone

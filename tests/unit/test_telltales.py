"""What a hand put into a system in clear is told by its name, and not written into git or a chat."""

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from reconciler.acknowledging import Acknowledgement
from reconciler.daemon.acks import document
from reconciler.telltales import called, may_tell, tells

ENV = "/spec/template/spec/containers/0/env"


@pytest.mark.parametrize(
    ("pointer", "value", "told"),
    [
        ("/spec/password", "hunter2", True),
        ("/data/API_KEY", "hunter2", True),
        ("/spec/aws-access-key", "hunter2", True),
        (ENV, [{"name": "SMTP_PASSWORD", "value": "hunter2"}], True),
        (ENV, [{"name": "LOG", "value": "debug"}], False),
        (f"{ENV}/1", {"name": "TOKEN", "value": "hunter2"}, True),
        (f"{ENV}/1/value", "hunter2", True),
        (f"{ENV}/1/name", "hunter2", False),
        ("/spec/value", "x", False),
        ("/spec/tokens", 5, False),
        ("/spec/token", "", False),
        ("", {"password": "hunter2"}, True),
        ("/spec/url", "https://me:hunter2@example.org/x", True),
        ("/spec/url", "amqp://:hunter2@example.org", True),
        ("/spec/url", "https://me:hunt/er2@example.org/x", True),
        ("/spec/url", "ssh://git@example.org:22/x", False),
        ("/spec/url", "https://example.org:8080/@scope", False),
        ("", "x", False),
    ],
)
def test_a_value_may_be_a_secret_by_what_it_is_called(pointer: str, value: Any, told: bool) -> None:
    assert may_tell(pointer, value) is told


def test_what_stands_beside_a_value_names_it() -> None:
    assert tells("env", [{"name": "X", "value": "y"}, {"name": "DB_PASSPHRASE", "value": "hunter2"}])
    assert not tells("env", [{"name": "DB_PASSPHRASE", "valueFrom": {"secretKeyRef": {"name": "db", "key": "phrase"}}}])


def test_a_document_to_commit_names_such_a_field_and_accepts_whatever_stands_there() -> None:
    at = datetime(2026, 4, 1, tzinfo=UTC)
    fields = {"/replicas": 5, f"{ENV}/0/value": "hunter2", "/spec/token": "secret:0123", "/list": ["secret:4567"]}
    text = document(Acknowledgement("mail", "k8s/Deployment/mail/relay", fields, "known", "ada", at, at))
    spec = yaml.safe_load(text)["spec"]
    assert spec["values"] == {"/replicas": 5}
    assert spec["fields"] == [f"{ENV}/0/value", "/spec/token", "/list"]
    assert "hunter2" not in text


def test_a_value_is_called_by_its_key_or_by_the_name_beside_it() -> None:
    data = {"env": [{"name": "DB_PASSWORD", "value": "x"}, {"value": "y"}], "value": "z"}
    names = [called(data, pointer) for pointer in ("/env/0/value", "/env/0/name", "/env/1/value", "/env/7/value", "/value", "", "/a/b")]
    assert names == ["DB_PASSWORD", "name", "value", "value", "value", "", "b"]
    assert called(None, "/env/0/value") == "value"

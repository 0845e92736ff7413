import subprocess
import sys
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.load import load_stack
from reconciler.registry import catalog
from reconciler.resource import ResourceId, SecretRef, Text
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.shapes import REQUIRED_EXTRAS, SHAPES
from reconciler_uptime_kuma.spec import Monitor, Notification, derived_token

TOKEN = SecretRef('${vault("a", "b")}', (("a", "b"),))


def monitor(name: str = "smtp", **spec: Any) -> Monitor:
    return Monitor.from_document({"metadata": {"name": name}, "spec": spec})[1]


def test_importing_the_plugin_imports_no_network_library() -> None:
    code = "import sys, reconciler_uptime_kuma; sys.exit(any(name in sys.modules for name in ('socketio', 'aiohttp', 'starlette')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_title_is_the_name_unless_it_says_otherwise() -> None:
    assert monitor(type="group").title == "smtp"
    assert monitor(type="group", title=" SMTP ").title == "SMTP"


def test_a_push_monitor_without_a_token_gets_one_that_never_changes() -> None:
    first, second = monitor(type="push"), monitor(type="push")
    assert first.push_token == second.push_token == derived_token("smtp")
    assert monitor("other", type="push").push_token != first.push_token
    assert monitor(type="push", push_token=TOKEN).push_token == TOKEN


def test_the_address_of_a_push_monitor_can_be_referred_to_where_its_token_is_no_secret() -> None:
    spec = monitor(type="push", push_base="https://status.example.org/")
    assert spec.exports("smtp") == {"pushUrl": f"https://status.example.org/api/push/{derived_token('smtp')}"}
    assert monitor(type="push", push_base="https://a", push_token=TOKEN).exports("smtp") == {}
    assert monitor(type="push").exports("smtp") == {}
    assert monitor(type="group").exports("smtp") == {}


def test_a_stack_hands_the_address_of_a_push_monitor_to_whoever_calls_it() -> None:
    documents = """
apiVersion: reconciler/v1
kind: Stack
metadata: {name: s}
---
apiVersion: uptime-kuma/v1
kind: Monitor
metadata: {name: backup}
spec: {type: push, push_base: "https://status.example.org"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: backup, namespace: web}
data: {url: '${ref("uptime-kuma/Monitor/backup").pushUrl}?status=up'}
"""
    stack = load_stack({"desired/s/stack.yaml": documents.encode()}, "desired/s", catalog(), today=date(2026, 1, 1))
    user = stack.graph.resources[ResourceId.parse("k8s/ConfigMap/web/backup")]
    assert user.spec.manifest["data"]["url"] == f"https://status.example.org/api/push/{derived_token('backup')}?status=up"  # type: ignore[attr-defined]
    assert ResourceId("uptime-kuma", "Monitor", "backup") in stack.graph.before[user.id]


def test_two_spellings_of_one_wish_are_equal() -> None:
    one = monitor(type="http", url=" https://a/ ", method="post", accepted_statuscodes=["301", "200-299", "301"], notifications=["b", "a"])
    other = monitor(type="http", url="https://a/", method="POST", accepted_statuscodes=["200-299", "301"], notifications=["a", "b", "b"])
    assert one == other


def test_json_in_a_text_column_has_one_spelling() -> None:
    texts: list[Any] = ['{"b": 1,\n    "a": "x"}', '{"a":"x","b":1}', {"b": 1, "a": "x"}]
    assert len({str(monitor(type="http", url="https://a/", extra={"headers": text}).extra) for text in texts}) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"type": "prot"}, "did you mean port"),
        ({"type": "port", "hostname": "a"}, "needs port"),
        ({"type": "port", "port": 25}, "needs hostname"),
        ({"type": "port", "hostname": "a", "port": 70000}, "less than or equal to 65535"),
        ({"type": "http", "url": "mail.example.org"}, "has no scheme"),
        ({"type": "keyword", "url": "https://a/"}, "needs keyword"),
        ({"type": "group", "url": "https://a/"}, "has no url"),
        ({"type": "docker"}, "needs docker_container"),
        ({"type": "group", "retry_interval": 0}, "greater than or equal to 1"),
        ({"type": "group", "parent": "smtp"}, "names the monitor itself"),
        ({"type": "group", "extra": {"ignoreTLS": True}}, "did you mean ignoreTls"),
        ({"type": "group", "extra": {"hostname": "a"}}, "use the field of its own"),
        ({"type": "group", "extra": {"headers": {"Authorization": TOKEN}}}, "write the whole value as one text"),
        ({"type": "group", "description": "reconciler:lab/mail:Monitor/smtp"}, "must not contain a mark"),
        ({"type": "docker", "docker_container": "mail"}, "needs docker_host"),
        ({"type": "mqtt", "hostname": "a"}, "needs extra.mqttTopic"),
        ({"type": "group", "push_base": "https://a"}, "has no push_base"),
        ({"type": "push", "push_base": "status.example.org"}, "has no scheme"),
        ({"type": "group", "copies": "ignore"}, "Input should be 'report' or 'delete'"),
        ({"type": "group", "extra": {"docker_host": 1}}, "use the field of its own"),
        ({"type": "group", "title": "   "}, "title"),
        ({"type": "group", "intervall": 60}, "Extra inputs"),
    ],
)
def test_a_wish_that_cannot_be_meant_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        monitor(**spec)


def test_all_that_is_wrong_with_a_wish_is_said_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        Monitor.model_validate({"type": "http", "title": "w", "port": 25, "extra": {"ignoreTsl": True}})
    for words in ("needs url", "has no port", "did you mean ignoreTls"):
        assert words in str(caught.value)
    with pytest.raises(ValidationError) as caught:
        Maintenance.model_validate({"strategy": "single", "title": "m", "cron": "0 3 * * 1"})
    for words in ("needs start", "needs end", "has no cron"):
        assert words in str(caught.value)


def test_a_notification_keeps_its_own_keys_out_of_config() -> None:
    with pytest.raises(ValidationError, match=r"config\.name is not for config"):
        Notification.from_document({"metadata": {"name": "a"}, "spec": {"type": "slack", "config": {"name": "x"}}})


def test_a_monitor_comes_after_its_group_and_its_notifications() -> None:
    needed = monitor(type="port", hostname="a", port=1, parent="mail", notifications=["hook"]).requires("smtp")
    assert needed == (ResourceId("uptime-kuma", "Monitor", "mail"), ResourceId("uptime-kuma", "Notification", "hook"))


def test_secrets_appear_as_fingerprints_only() -> None:
    spec = monitor(type="push", push_token=TOKEN, extra={"basic_auth_pass": TOKEN})
    assert len(spec.secrets()) == 2
    canonical = spec.canonical(lambda ref: "f1")
    assert (canonical["push_token"], canonical["extra"]) == ("secret:f1", {"basic_auth_pass": "secret:f1"})


TARGETS = {
    "hostname": "a",
    "port": 1,
    "url": "https://a/",
    "keyword": "k",
    "json_path": "$",
    "expected_value": "v",
    "docker_container": "c",
    "docker_host": "h",
}


@given(
    type=st.sampled_from(sorted(SHAPES)),
    interval=st.integers(1, 10_000),
    names=st.lists(st.sampled_from(["a", "b", "c"])),
    token=st.one_of(st.just(TOKEN), st.just("")),
)
def test_canonical_form_is_its_own_canonical_form(type: str, interval: int, names: list[str], token: Text) -> None:
    spec: dict[str, Any] = {field: TARGETS[field] for field in SHAPES[type][0]}
    extra = dict.fromkeys(REQUIRED_EXTRAS.get(type, ()), "x")
    token = token if type == "push" else ""
    one = monitor(type=type, interval=interval, notifications=names, push_token=token, extra=extra, **spec)
    again = Monitor.model_validate(one.model_dump())
    assert again == one
    assert again.canonical(lambda ref: "f") == one.canonical(lambda ref: "f")


def test_an_address_holds_no_credentials_because_every_message_names_it() -> None:
    with pytest.raises(ValidationError, match="give them in settings of their own") as caught:
        UptimeKumaConfig(url="https://me:pw-canary@status.example.org")
    assert "pw-canary" not in str(caught.value.errors(include_input=False))

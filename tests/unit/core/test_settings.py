"""Settings: the environment over the file, secrets from files, every problem by its field, and no secret ever shown."""

import functools
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import SettingsError
from reconciler.registry import catalog
from reconciler.settings import Settings, load_settings
from reconciler.wiring import target_problems

SECRET = "s3cr3t-c4n4ry"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [one for one in os.environ if one.startswith("RECONCILER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    return file


def complaints(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, text))
    assert SECRET not in str(caught.value)
    return [one.removeprefix(f"{tmp_path}/settings.yaml") for one in str(caught.value).splitlines()]


def test_without_a_file_and_an_environment_the_defaults_hold() -> None:
    assert load_settings() == Settings()
    assert load_settings().engine.attempts == 4


def test_a_file_named_reconciler_yaml_is_read_without_being_asked(tmp_path: Path) -> None:
    (tmp_path / "reconciler.yaml").write_text("instance: home\n")
    assert load_settings().instance == "home"


def test_the_environment_wins_over_the_file_field_by_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_ENGINE__ATTEMPTS", "2")
    monkeypatch.setenv("RECONCILER_INSTANCE", "lab")
    settings = load_settings(written(tmp_path, "instance: home\nengine: {attempts: 9, workers: 3}\n"))
    assert (settings.instance, settings.engine.attempts, settings.engine.workers) == ("lab", 2, 3)


def test_one_value_of_a_target_can_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_TARGETS__CLOUDFLARE__TOKEN", SECRET)
    settings = load_settings(written(tmp_path, "targets: {cloudflare: {zone: a, token: old}}\n"))
    assert settings.targets == {"cloudflare": {"zone": "a", "token": SECRET}}


def test_a_target_whose_name_has_a_dash_is_written_with_an_underscore_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILER_TARGETS__UPTIME_KUMA__PASSWORD", SECRET)
    assert load_settings(written(tmp_path, "targets: {uptime-kuma: {url: x}}\n")).targets["uptime-kuma"] == {"url": "x", "password": SECRET}
    assert load_settings(written(tmp_path, "")).targets == {"uptime-kuma": {"password": SECRET}}
    assert set(load_settings(written(tmp_path, "targets: {uptime_kuma: {}}\n")).targets) == {"uptime_kuma"}


def test_a_value_is_read_from_a_file_whether_it_is_named_in_the_file_or_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    monkeypatch.setenv("RECONCILER_TARGETS__VAULT__TOKEN", f"file:{tmp_path}/token")
    monkeypatch.setenv("RECONCILER_REPOSITORY__TOKEN", f"file:{tmp_path}/token")
    settings = load_settings(written(tmp_path, f"notify: {{slack_webhook: 'file:{tmp_path}/token'}}\n"))
    assert settings.targets["vault"]["token"] == SECRET
    assert settings.repository.token.get_secret_value() == SECRET
    assert settings.notify.slack_webhook.get_secret_value() == SECRET


def test_a_git_url_of_a_local_folder_is_no_file_to_read(tmp_path: Path) -> None:
    assert load_settings(written(tmp_path, "repository: {url: 'file:///srv/git'}\n")).repository.url == "file:///srv/git"


def test_every_problem_is_named_by_its_field_at_once(tmp_path: Path) -> None:
    text = "instance: BAD\nstate: {pth: 1}\nengine: {attempts: 99}\nrepository: {token: file:/nowhere/token}\n"
    assert complaints(tmp_path, text) == [
        ": repository.token: /nowhere/token cannot be read: No such file or directory",
        ": instance: string should match pattern '^[a-z0-9][a-z0-9-]{0,19}$'",
        ": state.pth: is not a setting",
        ": engine.attempts: input should be less than or equal to 20",
    ]


def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    assert complaints(tmp_path, f"targets: {SECRET}\n") == [": targets: input should be a valid dictionary"]
    assert complaints(tmp_path, f"targets: {{vault: {SECRET}}}\n") == [": targets.vault: input should be a valid dictionary"]
    assert complaints(tmp_path, f"notify: {{slack_webhook: [{SECRET}]}}\n") == [": notify.slack_webhook: input should be a valid string"]


def test_bad_yaml_is_named_by_its_line(tmp_path: Path) -> None:
    assert complaints(tmp_path, f"a: 1\ntoken: [{SECRET}\n")[0].startswith(":3: ")
    assert complaints(tmp_path, "- a\n") == [": must be a mapping of settings"]


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: does not exist"):
        load_settings(tmp_path / "none.yaml")


def test_a_bad_environment_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_TARGETS", "{" + SECRET)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith("environment: ")
    assert SECRET not in str(caught.value)


def test_no_secret_is_shown_by_the_settings(tmp_path: Path) -> None:
    text = f"fingerprint_key: {SECRET}\nrepository: {{token: {SECRET}}}\nnotify: {{slack_webhook: {SECRET}}}\n"
    text += f"targets: {{vault: {{token: {SECRET}}}}}\n"
    settings = load_settings(written(tmp_path, text))
    assert SECRET not in repr(settings) + str(settings)


def test_a_driver_that_refuses_its_configuration_names_the_fields_and_no_value() -> None:
    from reconciler.registry import open_target
    from tests.unit.core.memory import PLUGIN

    with pytest.raises(SettingsError) as caught:
        open_target(PLUGIN, {"tokn": SECRET})
    assert str(caught.value) == "target of driver mem: system: field required; tokn: extra inputs are not permitted"


@pytest.mark.parametrize(
    ("driver", "config", "said"),
    [
        (
            "vault",
            {"url": "https://v", "auth": {"method": "token", "token": "t"}, "ca_file": "{missing}"},
            "ca_file: {missing} cannot be read: No such file",
        ),
        (
            "vault",
            {"url": "https://v", "auth": {"method": "token", "token": "t"}, "ca_file": "{garbage}"},
            "ca_file: {garbage} holds no certificate",
        ),
        (
            "vault",
            {"url": "https://v", "auth": {"method": "token_file", "token_file": "{missing}"}},
            "auth.token_file: {missing} cannot",
        ),
        ("k8s", {"kubeconfig": "{missing}"}, "kubeconfig: {missing} cannot be read"),
        ("k8s", {"url": "https://k", "ca_file": "{folder}"}, "ca_file: {folder} cannot be read: Is a directory"),
        ("uptime-kuma", {"url": "https://u", "ca_file": "{garbage}"}, "ca_file: {garbage} holds no certificate"),
        ("probe", {"ca_file": "{missing}"}, "ca_file: {missing} cannot be read"),
        ("pfsense", {"host": "fw", "private_key_file": "{missing}", "known_hosts": "{missing}"}, "known_hosts: {missing} cannot be read"),
        ("cloudflare", {}, "token: field required"),
        ("vault", {"auth": {"method": "token", "token": "t"}}, "url: field required"),
        ("k8s", {}, "give exactly one of kubeconfig, in_cluster and url, not none"),
    ],
)
def test_what_is_wrong_with_a_target_is_known_without_asking_its_system(tmp_path: Path, driver: str, config: Any, said: str) -> None:
    (tmp_path / "garbage").write_text("no certificate")
    places = {"{missing}": str(tmp_path / "missing"), "{garbage}": str(tmp_path / "garbage"), "{folder}": str(tmp_path)}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return functools.reduce(lambda text, pair: text.replace(*pair), places.items(), value)

    (problem,) = target_problems({"mine": {"driver": driver, **filled(config)}}, catalog())
    assert problem.startswith(f"targets.mine: target of driver {driver}: ")
    assert filled(said) in problem


IN_ADDRESS = f"https://me:{SECRET}@example.org/x/"


@pytest.mark.parametrize(
    ("driver", "config"),
    [
        ("vault", {"url": IN_ADDRESS, "auth": {"method": "token", "token": "t"}}),
        ("k8s", {"url": IN_ADDRESS, "token": "t"}),
        ("cloudflare", {"base_url": IN_ADDRESS, "token": "t"}),
        ("uptime-kuma", {"url": IN_ADDRESS.removesuffix("/x/")}),
        ("pfsense", {"host": f"me:{SECRET}@fw", "password": "p", "known_hosts": "fw ssh-ed25519 AAAA"}),
        ("pfsense", {"host": IN_ADDRESS, "password": "p", "transport": "xmlrpc"}),
        ("probe", {"connect_to": {"a:25": f"me:{SECRET}@example.org"}}),
    ],
)
def test_a_credential_in_the_address_of_a_target_is_refused_without_showing_it(driver: str, config: Any) -> None:
    (problem,) = target_problems({"mine": {"driver": driver, **config}}, catalog())
    assert SECRET not in problem


@pytest.mark.parametrize(
    "setting",
    [
        f"telemetry: {{exporter: otlp, endpoint: '{IN_ADDRESS}'}}",
        f"telemetry: {{trace_url: '{IN_ADDRESS}{{trace_id}}'}}",
        f"notify: {{link: '{IN_ADDRESS}{{run}}'}}",
        f"notify: {{slack: {{api_url: '{IN_ADDRESS}'}}}}",
        f"forge: {{kind: gitea, token: t, repository: me/x, url: '{IN_ADDRESS}'}}",
        f"repositories: {{a: {{url: 'https://example.org/x', forge: {{kind: gitea, token: t, repository: me/x, url: '{IN_ADDRESS}'}}}}}}",
    ],
)
def test_a_credential_in_an_address_of_the_settings_is_refused_without_showing_it(tmp_path: Path, setting: str) -> None:
    (said,) = complaints(tmp_path, setting + "\n")
    assert "must hold no user name or password" in said


def test_the_addresses_that_are_secrets_are_never_shown(tmp_path: Path) -> None:
    text = f"notify: {{slack_webhook: 'https://hooks.slack.invalid/services/{SECRET}'}}\nstate: {{url: 'postgresql://me:{SECRET}@db/x'}}\n"
    settings = load_settings(written(tmp_path, text + f"targets: {{vault: {{auth: {{token: {SECRET}}}}}}}\n"))
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.model_dump(exclude={"targets"}))


def test_a_default_file_that_is_not_there_is_no_mistake_of_the_settings() -> None:
    config = {"url": "https://v", "auth": {"method": "kubernetes", "role": "reconciler"}}
    assert [*target_problems({"vault": config}, catalog())] == []

"""What the documentation says is so: pages equal what the code tells, examples load, links lead somewhere."""

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from docs import generate
from docs.example_driver import PLUGIN as EXAMPLE
from reconciler import cli
from reconciler.driver import Plugin
from reconciler.errors import SettingsError
from reconciler.load import load_stack
from reconciler.registry import catalog, load, open_target
from reconciler.settings import Settings, load_settings
from reconciler.stack import ExceptionSpec, StackSpec
from reconciler.targets import Targets

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = (DOCS / "guide.md").read_text(encoding="utf-8")
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[a-z ]+) -->\n)?```yaml\n(?P<text>.*?)```", re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<link>[^)\s]+)\)")
BARE = "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: page}\n---\n"
SECRET = re.compile(r"file:/\S+")
FROM_A_FILE = "from-a-file-of-this-test"


def blocks(*marks: str) -> list[str]:
    return [match["text"] for match in BLOCK.finditer(GUIDE) if (match["mark"] or "") in marks]


def models() -> Iterator[type[BaseModel]]:
    """Every model that a person writes values of."""
    tops = [Settings, StackSpec, ExceptionSpec, EXAMPLE.config, *EXAMPLE.kinds.values()]
    for plugin in catalog().plugins:
        tops += [plugin.config, *(spec for kind, spec in plugin.kinds.items() if kind != "*")]
    for top in tops:
        yield from (top, *generate.parts_of(top))


# -- the reference -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted(generate.PAGES))
def test_a_generated_page_is_what_the_code_tells(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == generate.PAGES[page](), "run python -m docs.generate"


def test_a_check_names_what_is_out_of_date_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "HERE", tmp_path)
    monkeypatch.setattr(generate, "PAGES", {"page.md": lambda: "new\n"})
    (tmp_path / "page.md").write_text("old\n")
    assert generate.main(["--check"]) == 1
    assert (tmp_path / "page.md").read_text() == "old\n"
    assert "page.md: is out of date" in capsys.readouterr().out
    assert generate.main([]) == 0
    assert (tmp_path / "page.md").read_text() == "new\n"
    assert generate.main(["--check"]) == 0


def test_every_field_that_a_person_may_write_has_a_description() -> None:
    missing = [
        f"{model.__name__}.{name}" for model in models() for name, field in model.model_fields.items() if not generate.described(field)
    ]
    assert not missing


def test_every_credential_in_the_settings_is_marked_as_secret() -> None:
    page = generate.settings_page()
    for name in (
        "repository.token",
        "notify.slack_webhook",
        "notify.slack.bot_token",
        "notify.slack.signing_secret",
        "forge.token",
        "secret_id",
    ):
        assert f"| `{name}` | **secret** text |" in page


def test_every_verb_kind_and_annotation_is_in_the_reference() -> None:
    verbs, kinds = (DOCS / "reference/cli.md").read_text(), (DOCS / "reference/kinds.md").read_text()
    assert [name for name in cli.VERBS if f"\n## {name}\n" not in verbs] == []
    names = [kind for plugin in catalog().plugins for kind in plugin.kinds if kind != "*"]
    assert [kind for kind in [*names, "Stack", "DriftException"] if f"\n### {kind}\n" not in kinds] == []
    assert [name for name in catalog().annotations() if f"| `reconciler/{name}` |" not in kinds] == []


def test_every_annotation_that_is_explained_exists() -> None:
    assert tuple(sorted(generate.ANNOTATIONS)) == catalog().annotations()


def test_the_guide_speaks_of_every_annotation_and_of_every_guard() -> None:
    assert [name for name in catalog().annotations() if f"reconciler/{name}" not in GUIDE] == []
    guards = ("check", "budget", "protect", "replace", "empty", "freeze", "approval", "drift", "exception", "keep")
    assert [name for name in guards if f"`{name}`" not in GUIDE] == []


def test_a_default_that_is_a_secret_or_a_section_is_shown_in_words() -> None:
    assert generate.default_text("") == "empty"
    assert generate.default_text(None) == "none"
    assert generate.default_text(False) == "`false`"
    assert generate.default_text(StackSpec()) == "see there"


def test_a_bar_and_a_bracket_do_not_break_a_table() -> None:
    assert generate.cell("a | b <c>\nd `<e>`") == "a \\| b &lt;c> d `<e>`"


# -- examples ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", blocks("complete stack", ""))
def test_a_stack_in_the_guide_loads(text: str) -> None:
    whole = text if "kind: Stack\n" in text else BARE + text
    stack = load_stack({"desired/page/stack.yaml": whole.encode()}, "desired/page", catalog(), today=date(2026, 1, 1))
    assert stack.graph.resources


def test_a_complete_stack_in_the_guide_says_that_it_is_one() -> None:
    assert len(blocks("complete stack")) == 4
    assert all(text.startswith("apiVersion: reconciler/v1\nkind: Stack\n") for text in blocks("complete stack"))


def test_the_complete_stacks_are_accepted_by_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, text in enumerate(blocks("complete stack")):
        (tmp_path / f"stack{number}").mkdir()
        (tmp_path / f"stack{number}" / "stack.yaml").write_text(text)
    with pytest.raises(SystemExit) as end:
        cli.main(["validate", str(tmp_path)])
    assert end.value.code == 0
    assert capsys.readouterr().out.count("no problems") == 4


def settings_in(text: str, folder: Path) -> Settings:
    """Load settings whose secret files are replaced by one that exists."""
    (folder / "secret").write_text(f"{FROM_A_FILE}\n")
    (folder / "reconciler.yaml").write_text(SECRET.sub(f"file:{folder}/secret", text))
    return load_settings(folder / "reconciler.yaml")


def without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in os.environ if one.startswith("RECONCILER_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("text", [*blocks("settings"), (ROOT / "deploy/settings.example.yaml").read_text(encoding="utf-8")])
def test_settings_that_are_shown_can_be_used_for_every_system(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_environment(monkeypatch)
    settings = settings_in(text, tmp_path)
    assert settings.repository.token.get_secret_value() == FROM_A_FILE
    targets = Targets(settings.targets, catalog())
    names = {targets.driver_name(name) for name in targets}
    assert names | {"probe"} == {plugin.name for plugin in catalog().plugins}
    for name in targets:
        plugin = catalog().plugin(targets.driver_name(name))
        plugin.config.model_validate({key: value for key, value in settings.targets[name].items() if key != "driver"})


@pytest.mark.parametrize("text", blocks("part of the settings"))
def test_a_part_of_the_settings_that_is_shown_can_be_used(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_environment(monkeypatch)
    assert settings_in(text, tmp_path) != Settings()


@pytest.mark.parametrize("text", blocks("target"))
def test_a_target_that_is_shown_alone_is_one(text: str) -> None:
    for name, config in yaml.safe_load(text)["targets"].items():
        catalog().plugin(config.pop("driver", name)).config.model_validate(config)


def test_the_example_of_the_settings_names_every_section_and_holds_no_secret() -> None:
    text = (ROOT / "deploy/settings.example.yaml").read_text(encoding="utf-8")
    assert [name for name in Settings.model_fields if f"\n{name}:" not in text] == []
    for key, value in secrets_in(yaml.safe_load(text)):
        assert str(value).startswith(("file:/", "/")), f"{key} must come from a file"


def secrets_in(data: object) -> Iterator[tuple[str, object]]:
    names = (
        "token",
        "password",
        "private_key",
        "passphrase",
        "secret_id",
        "slack_webhook",
        "bot_token",
        "signing_secret",
        "fingerprint_key",
    )
    if isinstance(data, dict):
        for key, value in data.items():
            if key in names:
                yield key, value
            yield from secrets_in(value)


def test_a_secret_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "reconciler.yaml").write_text(blocks("settings")[0].replace("/run/secrets", "/run/secrets-that-are-not-there"))
    with pytest.raises(SettingsError, match=r"repository\.token: /run/secrets-that-are-not-there/git-token cannot be read"):
        load_settings(tmp_path / "reconciler.yaml")


def test_the_example_driver_is_a_plugin_that_can_be_opened() -> None:
    assert isinstance(EXAMPLE, Plugin)
    emulator = load(EXAMPLE.emulator)()
    driver = open_target(EXAMPLE, emulator.settings())
    assert emulator.summary()[0].startswith("0 notes")
    driver.close()


def test_the_page_on_drivers_holds_every_file_of_the_example() -> None:
    page = (DOCS / "drivers.md").read_text(encoding="utf-8")
    for path in sorted((DOCS / "example_driver").glob("*.py")):
        assert f"<!-- file: example_driver/{path.name} -->\n```python\n{path.read_text(encoding='utf-8')}```\n" in page


# -- links ---------------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {generate.slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=[path.relative_to(ROOT).as_posix() for path in PAGES])
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for match in LINK.finditer(text):
        path, _, anchor = match["link"].partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{match['link']} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{match['link']}: there is no such heading"


def test_every_decision_is_numbered_without_a_gap_and_in_the_index() -> None:
    index = (DOCS / "decisions/README.md").read_text(encoding="utf-8")
    files = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")
    assert [path.name[:5] for path in files] == [f"{number:04}-" for number in range(1, len(files) + 1)]
    for path in files:
        number, title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").split(" ", 1)
        assert number == path.name[:4]
        assert f"| {number} | [{title}]({path.name}) |" in index


def test_the_daemon_listens_on_no_port_unless_asked_as_the_security_page_says() -> None:
    page = " ".join((ROOT / "SECURITY.md").read_text(encoding="utf-8").split())
    assert "The daemon listens on no port unless `http` says so, and on none that other machines reach without tokens." in page
    http = Settings().http
    assert not any((http.listen, http.webhook_listen, http.tokens, http.webhooks))
    for path in (ROOT / "reconciler/daemon").rglob("*.py"):
        if path.parent.name != "http":
            assert not re.search(r"\b(uvicorn|starlette|http\.server|\.listen\(|\.bind\()", path.read_text(encoding="utf-8")), path

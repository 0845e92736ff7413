"""``reconciler adopt``, and choosing one of several repositories: what a person sees, and what becomes of the files."""

from pathlib import Path

import pytest

from tests.unit.cli.bench import Shell
from tests.unit.core.memory import STACK
from tests.unit.test_source import Upstream

TEXT = """\
# ours
apiVersion: mem/v1
kind: Thing
metadata: {name: a}
spec:
  text: Hello   # to all
  size: 1
"""


@pytest.fixture
def drifted(shell: Shell) -> Shell:
    shell.write(test=TEXT)
    assert shell.run("apply", "--path", "desired", "--yes").code == 0
    shell.system.objects["Thing/a"].content["text"] = "Goodbye"
    return shell


@pytest.fixture
def upstream(tmp_path: Path, shell: Shell) -> Upstream:
    """A repository that the settings follow, with drift in its only stack."""
    made = Upstream(tmp_path / "upstream")
    made.git("rm", "-rq", "desired")
    made.commit("stacks", {"desired/test/stack.yaml": STACK.encode(), "desired/test/all.yaml": TEXT.encode()})
    settings = (shell.folder / "reconciler.yaml").read_text()
    (shell.folder / "reconciler.yaml").write_text(
        f"{settings}repository: {{url: '{made.url}'}}\nstate: {{path: {tmp_path / 'state.db'}}}\n"
    )
    assert shell.run("apply", "--yes").code == 0
    shell.system.objects["Thing/a"].content["text"] = "Goodbye"
    return made


class TestAdopt:
    def test_shows_a_diff_and_writes_nothing_by_itself(self, drifted: Shell) -> None:
        result = drifted.run("adopt", "mem/Thing/a", "--path", "desired")
        assert result.code == 0
        assert "-  text: Hello   # to all\n+  text: Goodbye   # to all\n" in result.out
        assert (drifted.folder / "desired/test/all.yaml").read_text() == TEXT

    def test_saves_the_file_when_told_and_then_there_is_nothing_left(self, drifted: Shell) -> None:
        result = drifted.run("adopt", "mem/Thing/a", "--path", "desired", "--write")
        assert (result.code, result.err.strip()) == (0, "written: desired/test/all.yaml")
        assert (drifted.folder / "desired/test/all.yaml").read_text() == TEXT.replace("Hello", "Goodbye")
        assert drifted.run("plan", "--path", "desired").code == 0
        again = drifted.run("adopt", "mem/Thing/a", "--path", "desired")
        assert (again.code, again.err.strip()) == (1, "mem/Thing/a: git already says what is live; there is nothing to take over")

    def test_ends_with_two_when_something_is_left(self, shell: Shell) -> None:
        stack = STACK.replace("spec: {}", "spec: {vars: {greeting: Hello}}")
        shell.write(test={"stack.yaml": stack, "all.yaml": TEXT.replace("Hello", "${vars.greeting}")})
        shell.run("apply", "--path", "desired", "--yes")
        shell.system.objects["Thing/a"].content["text"] = "Goodbye"
        result = shell.run("adopt", "mem/Thing/a", "--path", "desired", "--write")
        assert result.code == 2
        assert "not taken over: /spec/text: is written as ${vars.greeting}; change vars.greeting in stack.yaml" in result.err
        assert shell.run("adopt", "mem/Thing/a", "--path", "desired", "--write", "--replace").code == 0
        assert "text: Goodbye" in (shell.folder / "desired/test/all.yaml").read_text()

    def test_tells_programs_in_json_and_reviewers_in_markdown(self, drifted: Shell) -> None:
        data = drifted.run("adopt", "mem/Thing/a", "--path", "desired", "-o", "json").data
        assert (data["resource"], data["file"], data["taken"], data["refused"]) == (
            "mem/Thing/a",
            "desired/test/all.yaml",
            ["/spec/text"],
            [],
        )
        assert "+  text: Goodbye" in data["diff"]
        assert drifted.run("adopt", "mem/Thing/a", "--path", "desired", "-o", "markdown").out.startswith("```diff\n--- a/desired")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("a",), "is not a resource id"),
            (("mem/Thing/z", "--path", "desired"), "no stack declares it"),
            (("mem/Thing/a", "--write"), "--write saves a file of the working tree that --path names"),
            (("mem/Thing/a", "--path", "desired", "--branch", "../x"), "is not a branch name"),
            (("mem/Thing/a", "--path", "desired", "--branch", "x"), "git rev-parse failed"),
        ],
    )
    def test_says_what_is_wrong(self, drifted: Shell, arguments: tuple[str, ...], said: str) -> None:
        result = drifted.run("adopt", *arguments)
        assert result.code == 1
        assert said in result.err


class TestABranch:
    def test_is_pushed_to_the_repository_of_the_settings_and_main_stays(self, shell: Shell, upstream: Upstream) -> None:
        head = upstream.git("rev-parse", "main")
        result = shell.run("adopt", "mem/Thing/a", "--branch", "adopt/a")
        assert result.code == 0
        assert "as adopt/a" in result.err
        assert upstream.git("show", "adopt/a:desired/test/all.yaml") == TEXT.replace("Hello", "Goodbye").strip()
        assert upstream.git("rev-parse", "adopt/a^") == upstream.git("rev-parse", "main") == head
        assert upstream.git("log", "-1", "--format=%s %an", "adopt/a") == "Adopt what is live of mem/Thing/a Reconciler"
        shell.system.objects["Thing/a"].content["text"] = "Farewell"
        again = shell.run("adopt", "mem/Thing/a", "--branch", "adopt/a")
        assert again.code == 1
        assert "a branch of this name is there already; choose another one" in again.err

    def test_of_a_working_copy_is_made_beside_what_is_checked_out(self, shell: Shell, upstream: Upstream) -> None:
        path = f"{upstream.path}/desired"
        result = shell.run("adopt", "mem/Thing/a", "--path", path, "--branch", "adopt/a")
        assert (result.code, "push it when it is right" in result.err) == (0, True)
        assert upstream.git("status", "--porcelain") == ""
        assert upstream.git("branch", "--show-current") == "main"
        assert "Goodbye" in upstream.git("show", "adopt/a:desired/test/all.yaml")
        assert "is there already" in shell.run("adopt", "mem/Thing/a", "--path", path, "--branch", "adopt/a").err
        (upstream.path / "desired/test/all.yaml").write_text(TEXT + "# not committed\n")
        assert "differs from its last commit" in shell.run("adopt", "mem/Thing/a", "--path", path, "--branch", "adopt/b").err


class TestSeveralRepositories:
    def test_one_must_be_chosen_by_its_name(self, shell: Shell, upstream: Upstream) -> None:
        with (shell.folder / "reconciler.yaml").open("a") as file:
            file.write(f"repositories: {{other: {{url: '{upstream.url}', folder: other}}}}\n")
        assert "choose one, as in reconciler --repository repository" in shell.run("plan").err
        assert shell.run("--repository", "repository", "plan").code == 2
        assert "there is no folder other" in shell.run("--repository", "other", "plan").err
        assert "no repository 'third'; they have repository, other" in shell.run("--repository", "third", "plan").err

"""What all verbs share: help, completion, colours, settings, exit codes of mistakes, and what they do not import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli import VERBS
from tests.unit.cli.bench import Shell
from tests.unit.core.memory import thing

HEAVY = {
    "aiohttp",
    "alembic",
    "asyncssh",
    "cloudflare",
    "git",
    "hvac",
    "httpx",
    "kubernetes",
    "opentelemetry.sdk",
    "pydantic",
    "rich",
    "slack_sdk",
    "socketio",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "watchfiles",
}


def program(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a process of its own, with nothing of ours in its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-c", "from reconciler.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, timeout=30, check=False)


class TestHelp:
    def test_lists_every_verb_and_the_exit_codes(self, shell: Shell) -> None:
        done = shell.run("--help")
        assert done.code == 0
        assert all(f"\n  {verb} " in done.out for verb in VERBS)
        assert "Exit codes: 0 in sync, 2 changes pending, 1 error" in " ".join(done.out.split())

    @pytest.mark.parametrize("verb", VERBS)
    def test_of_a_verb_says_what_the_list_says(self, shell: Shell, verb: str) -> None:
        done = shell.run(verb, "--help")
        assert done.code == 0
        assert f"Usage: reconciler {verb}" in done.out

    def test_imports_nothing_that_takes_long(self, tmp_path: Path) -> None:
        code = "import sys; from reconciler.cli import group; group.main(['--help'], standalone_mode=False); print('|', *sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
        assert "Usage:" in done.stdout
        assert not HEAVY & set(done.stdout.rpartition("|")[2].split())

    def test_of_no_verb_at_all_is_help_too(self, shell: Shell) -> None:
        done = shell.run()
        assert "Commands:" in done.out + done.err

    def test_gives_the_version(self, shell: Shell) -> None:
        done = shell.run("--version")
        assert done.code == 0
        assert done.out.startswith("reconciler, version ")


class TestMistakes:
    def test_in_a_verb_are_answered_with_the_one_that_was_meant(self, shell: Shell) -> None:
        done = shell.run("valdate")
        assert done.code == 1
        assert "there is no command 'valdate'; did you mean validate?" in done.err

    def test_in_a_verb_that_is_like_none_are_answered_plainly(self, shell: Shell) -> None:
        done = shell.run("xyzzy")
        assert done.code == 1
        assert "there is no command 'xyzzy'" in done.err
        assert "did you mean" not in done.err

    def test_in_an_option_are_1_and_not_2_which_means_pending(self, shell: Shell) -> None:
        done = shell.run("plan", "--nonsense")
        assert done.code == 1
        assert "--nonsense" in done.err

    def test_in_a_form_name_those_there_are(self, shell: Shell) -> None:
        done = shell.run("plan", "-o", "yaml")
        assert done.code == 1
        assert "'text', 'json', 'markdown'" in done.err


class TestSettings:
    def test_that_were_named_and_are_not_there_are_an_error(self, shell: Shell) -> None:
        done = shell.run("--settings", "nowhere.yaml", "status")
        assert (done.code, done.err) == (1, "nowhere.yaml: does not exist\n")

    def test_that_are_wrong_are_named_by_field(self, shell: Shell) -> None:
        (shell.folder / "reconciler.yaml").write_text("engine: {attempts: 0}\ncolour: red\n")
        done = shell.run("status")
        assert done.code == 1
        assert "reconciler.yaml: engine.attempts:" in done.err
        assert "reconciler.yaml: colour: is not a setting" in done.err

    def test_may_lie_anywhere(self, shell: Shell) -> None:
        (shell.folder / "reconciler.yaml").rename(shell.folder / "other.yaml")
        shell.write(mail=thing("a"))
        assert shell.run("--settings", "other.yaml", "plan", "--path", "desired").code == 2

    def test_without_a_repository_leave_the_daemon_nothing_to_watch(self, shell: Shell) -> None:
        done = shell.run("run")
        assert done.code == 1
        assert "there is nothing to watch: set repository.url in reconciler.yaml, or give --path DIR" in done.err

    def test_with_a_database_that_is_none_say_what_to_do(self, shell: Shell) -> None:
        (shell.folder / "reconciler.db").write_text("this is no database, however long it may be\n" * 40)
        done = shell.run("status")
        assert done.code == 1
        assert "cannot be used as the database" in done.err
        assert "only history is lost" in done.err


class TestColours:
    def test_are_left_out_when_nobody_looks(self, shell: Shell) -> None:
        shell.write(mail=thing("a"))
        for verb in ("plan", "graph", "apply", "status"):
            done = shell.run(verb, *([] if verb == "status" else ["--path", "desired"]))
            assert "\x1b[" not in done.out + done.err

    def test_are_there_when_they_are_asked_for(self, shell: Shell) -> None:
        shell.write(mail=thing("a"))
        assert "\x1b[32m" in shell.run("--color", "plan", "--path", "desired").out


class TestCompletion:
    @pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
    def test_is_printed_for_each_shell(self, tmp_path: Path, kind: str) -> None:
        done = program(cwd=tmp_path, _RECONCILER_COMPLETE=f"{kind}_source")
        assert done.returncode == 0, done.stderr
        assert "_RECONCILER_COMPLETE" in done.stdout

    def test_knows_the_verbs(self, tmp_path: Path) -> None:
        done = program(cwd=tmp_path, _RECONCILER_COMPLETE="bash_complete", COMP_WORDS="reconciler va", COMP_CWORD="1")
        assert "validate" in done.stdout

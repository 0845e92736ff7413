"""Each verb as a person types it: what it prints in each form, and its exit code."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.driver import Evidence
from reconciler.errors import Permanent, Problem
from reconciler.plan import Plan
from reconciler.report import Report, Verdict
from reconciler.state import Store
from tests.unit.cli.bench import Shell
from tests.unit.core.memory import NOW, MemoryDriver, degraded, stack_file, thing

GOOD = thing("a", text="Hello") + thing("b", annotations={"depends-on": "mem/Thing/a"})
BAD = thing("a", sise=2)
CAREFUL = stack_file(policy={"approval": "commits"}).replace("name: test", "name: mail")


def meddle(shell: Shell, text: str = "meddled") -> None:
    shell.system.objects["Thing/a"].content["text"] = text


class TestValidate:
    def test_says_for_each_stack_that_it_is_well(self, shell: Shell) -> None:
        shell.write(mail=GOOD, web=thing("w"))
        done = shell.run("validate")
        assert (done.code, done.err) == (0, "")
        assert done.out.splitlines() == ["mail: 2 resources in 2 waves, no problems", "web: 1 resources in 1 waves, no problems"]

    def test_lists_every_problem_of_every_stack_and_fails(self, shell: Shell) -> None:
        shell.write(mail=BAD, web=BAD, fine=thing("x"))
        done = shell.run("validate")
        assert done.code == 1
        assert done.out.splitlines() == ["fine: 1 resources in 1 waves, no problems"]
        assert [line.partition(" ")[0] for line in done.err.splitlines()] == ["desired/mail/all.yaml:5:", "desired/web/all.yaml:5:"]

    def test_asks_no_system_and_needs_no_settings(self, shell: Shell) -> None:
        (shell.folder / "reconciler.yaml").unlink()
        shell.write(mail=GOOD)
        assert shell.run("validate").code == 0
        assert not shell.system.calls
        assert not (shell.folder / "reconciler.db").exists()

    def test_gives_json(self, shell: Shell) -> None:
        shell.write(mail=BAD, web=thing("w"))
        done = shell.run("validate", "-o", "json")
        assert done.code == 1
        assert done.data["ok"] is False
        assert done.data["stacks"] == ["web: 1 resources in 1 waves, no problems"]
        assert len(done.data["problems"]) == 1

    def test_gives_markdown(self, shell: Shell) -> None:
        shell.write(mail=BAD, web=thing("w"))
        done = shell.run("validate", "-o", "markdown")
        assert all(line.startswith("- ") for line in done.out.splitlines())
        assert len(done.out.splitlines()) == 2

    def test_finds_wrong_settings_of_targets_each_once_and_names_no_value(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        targets = {"mem": {"system": "live"}, "two": {"driver": "mem", "sistem": "s3cret"}, "three": {"driver": "nothing"}}
        (shell.folder / "reconciler.yaml").write_text(json.dumps({"targets": targets}))
        done = shell.run("validate")
        assert done.code == 1
        assert done.err.splitlines() == [
            "reconciler.yaml: targets.three: there is no driver 'nothing'; installed are mem",
            "reconciler.yaml: targets.two: target of driver mem: system: field required; sistem: extra inputs are not permitted",
        ]
        assert not shell.system.calls

    def test_finds_a_target_that_the_settings_lack(self, shell: Shell) -> None:
        shell.write(mail=thing("a", annotations={"target": "elsewhere"}) + thing("b", annotations={"target": "elsewhere"}))
        done = shell.run("validate")
        assert done.code == 1
        assert done.err.splitlines() == ["reconciler.yaml: the settings have no target 'elsewhere' (configured: mem); add it below targets"]

    def test_finds_settings_that_cannot_be_read(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        (shell.folder / "reconciler.yaml").write_text('{"targets": {"mem": {"system": "file:/nowhere/token"}}, "engin": {}}')
        done = shell.run("validate", "-o", "json")
        assert done.code == 1
        assert [one.split(": ")[:2] for one in done.data["problems"]] == [
            ["reconciler.yaml", "targets.mem.system"],
            ["reconciler.yaml", "engin"],
        ]

    def test_of_a_folder_that_is_not_there_fails(self, shell: Shell) -> None:
        done = shell.run("validate")
        assert done.code == 1
        assert "desired: there is no such directory" in done.err

    def test_of_a_folder_without_a_stack_fails(self, shell: Shell) -> None:
        (shell.folder / "desired").mkdir()
        done = shell.run("validate", "desired")
        assert done.code == 1
        assert "there is no stack here; a stack is a folder with a stack.yaml" in done.err


class TestPaths:
    FORMS = (
        ("desired/mail", "desired/mail/all.yaml:5"),
        ("desired", "desired/mail/all.yaml:5"),
        (".", "desired/mail/all.yaml:5"),
        ("../{name}", "../{name}/desired/mail/all.yaml:5"),
        ("../{name}/desired/mail", "../{name}/desired/mail/all.yaml:5"),
        ("{full}", "{full}/desired/mail/all.yaml:5"),
        ("{full}/desired", "{full}/desired/mail/all.yaml:5"),
        ("{full}/desired/mail", "{full}/desired/mail/all.yaml:5"),
        ("{full}/desired/../desired", "{full}/desired/mail/all.yaml:5"),
    )

    @pytest.mark.parametrize(("typed", "named"), FORMS)
    def test_are_a_stack_a_folder_of_stacks_or_a_repository_and_problems_are_named_as_typed(
        self, shell: Shell, typed: str, named: str
    ) -> None:
        place = {"name": shell.folder.name, "full": str(shell.folder)}
        shell.write(mail=BAD)
        for verb in (["validate"], ["plan", "--path"]):
            done = shell.run(*verb, typed.format(**place))
            assert done.code == 1
            assert done.err.startswith(named.format(**place)), done.err

    @pytest.mark.parametrize("typed", [form for form, _ in FORMS])
    def test_mean_the_same_stack_in_every_form(self, shell: Shell, typed: str) -> None:
        shell.write(mail=GOOD)
        done = shell.run("plan", "-o", "json", "--path", typed.format(name=shell.folder.name, full=shell.folder))
        assert [one["stack"] for one in done.data] == ["mail"]
        assert done.code == 2

    def test_from_inside_a_stack(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        shell.write(mail=BAD)
        monkeypatch.chdir(shell.folder / "desired" / "mail")
        assert shell.run("validate", ".").err.startswith("../mail/all.yaml:5")
        assert Path("../mail/all.yaml").is_file(), "an editor can open it"

    def test_of_a_stack_whose_files_may_not_be_used_name_the_file_as_typed(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        (shell.folder / "desired/mail/link.yaml").symlink_to("/etc/passwd")
        assert shell.run("validate", f"{shell.folder}/desired/mail").err.startswith(f"{shell.folder}/desired/mail/link.yaml: a symlink")
        assert shell.run("validate").err.startswith("desired/mail/link.yaml: a symlink")

    def test_that_do_not_exist_fail(self, shell: Shell) -> None:
        done = shell.run("plan", "--path", "nowhere")
        assert done.code == 1
        assert "nowhere" in done.err

    def test_may_be_left_out_when_there_is_a_repository_only(self, shell: Shell) -> None:
        done = shell.run("plan")
        assert (done.code, done.out) == (1, "")
        assert "there is nothing to read: give --path DIR, or set repository.url in reconciler.yaml" in done.err

    def test_with_an_unknown_stack_name_those_there_are(self, shell: Shell) -> None:
        shell.write(mail=GOOD, web=thing("w"))
        done = shell.run("plan", "--path", "desired", "--stack", "mial")
        assert done.code == 1
        assert "there is no stack 'mial'" in done.err
        assert "mail, web" in done.err


class TestPlan:
    def test_shows_what_would_change_and_writes_nothing(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("plan", "--path", "desired")
        assert done.code == 2
        assert "  + mem/Thing/a (create, commit)" in done.out.splitlines()
        assert done.out.splitlines()[-1].startswith("mail: 2 to create; 0 unchanged; digest ")
        assert not shell.system.objects
        assert not (shell.folder / "reconciler.db").exists()

    def test_is_0_when_everything_is_as_git_wants_it(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        done = shell.run("plan", "--path", "desired")
        assert done.code == 0
        assert done.out.startswith("mail: nothing to do; 2 unchanged")

    def test_is_1_when_a_system_could_not_be_seen(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.system.on_read = [Permanent("mem: 401 unauthorized")]
        done = shell.run("plan", "--path", "desired")
        assert done.code == 1
        assert "unknown: mem/Thing/a, mem/Thing/b: mem cannot be seen: mem: 401 unauthorized" in done.out, "once"

    def test_names_a_target_that_the_settings_lack(self, shell: Shell) -> None:
        (shell.folder / "reconciler.yaml").write_text("{}")
        shell.write(mail=GOOD)
        done = shell.run("plan", "--path", "desired")
        assert done.code == 1
        assert "the settings have no target 'mem' (configured: none); add it below targets" in done.out

    def test_names_what_is_wrong_with_a_target(self, shell: Shell) -> None:
        (shell.folder / "reconciler.yaml").write_text("targets: {mem: {system: live, colour: red}}")
        shell.write(mail=GOOD)
        done = shell.run("plan", "--path", "desired")
        assert done.code == 1
        assert "colour: extra inputs are not permitted" in done.out

    def test_gives_json(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("plan", "--path", "desired", "-o", "json")
        assert done.code == 2
        assert [change["id"] for wave in done.data[0]["waves"] for change in wave] == ["mem/Thing/a", "mem/Thing/b"]

    def test_gives_markdown(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("plan", "--path", "desired", "-o", "markdown")
        assert done.code == 2
        assert done.out.startswith("### Plan for `mail`: 2 to create")
        assert "| + create | `mem/Thing/a` | commit |" in done.out

    def test_reports_the_problems_of_all_stacks_at_once(self, shell: Shell) -> None:
        shell.write(mail=BAD, web=BAD)
        assert len(shell.run("plan", "--path", "desired").err.splitlines()) == 2

    def test_of_one_stack_does_not_look_at_the_others(self, shell: Shell) -> None:
        shell.write(mail=GOOD, web=BAD)
        assert shell.run("plan", "--path", "desired", "--stack", "mail").code == 2


class TestApply:
    def test_converges_and_is_0(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("apply", "--path", "desired")
        assert done.code == 0
        assert done.out.startswith("mail: converged in ")
        assert sorted(shell.system.objects) == ["Thing/a", "Thing/b"]

    def test_is_1_when_something_failed_and_says_what(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.system.on_write = [Permanent("Thing/a: 403 the token may not write")]
        done = shell.run("apply", "--path", "desired")
        assert done.code == 1
        assert "  failed: mem/Thing/a: Thing/a: 403 the token may not write" in done.out
        assert "  blocked: mem/Thing/b: waits for mem/Thing/a" in done.out

    def test_is_2_when_something_is_held(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD})
        done = shell.run("apply", "--path", "desired")
        assert done.code == 2
        assert "held by approval: + mem/Thing/a" in done.out

    def test_is_2_when_something_fares_badly(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": stack_file(health_deadline=1).replace("name: test", "name: mail"), "all.yaml": thing("a")})
        shell.run("apply", "--path", "desired")
        shell.system.health["Thing/a"] = [degraded("2 of 3 answer")]
        done = shell.run("apply", "--path", "desired")
        assert done.code == 2
        assert "degraded: mem/Thing/a: 2 of 3 answer" in done.out

    def test_is_the_worst_of_its_stacks(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD}, web=thing("w"))
        assert shell.run("apply", "--path", "desired").code == 2
        shell.write(bad=thing("z", text="boom"))
        shell.system.on_write = [Permanent("no")]
        assert shell.run("apply", "--path", "desired").code == 1

    def test_does_nothing_at_all_while_one_stack_has_a_problem(self, shell: Shell) -> None:
        shell.write(a_mail=GOOD, web=BAD)
        done = shell.run("apply", "--path", "desired")
        assert done.code == 1
        assert done.err.startswith("desired/web/all.yaml:5")
        assert not shell.system.objects

    def test_gives_json_and_markdown(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        assert shell.run("apply", "--path", "desired", "-o", "json").data[0]["verdict"] == "converged"
        assert shell.run("apply", "--path", "desired", "-o", "markdown").out.startswith("### mail: converged")

    def test_passes_the_plan_whose_digest_is_given(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD})
        digest = shell.run("plan", "--path", "desired", "-o", "json").data[0]["digest"]
        assert shell.run("apply", "--path", "desired", "--approve", digest[:12]).code == 0
        assert "Thing/a" in shell.system.objects

    @pytest.mark.parametrize("digits", [8, 11])
    def test_takes_no_digest_shorter_than_12_digits_and_says_so(self, shell: Shell, digits: int) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD})
        digest = shell.run("plan", "--path", "desired", "-o", "json").data[0]["digest"]
        done = shell.run("apply", "--path", "desired", "--approve", digest[:digits])
        assert done.code == 2
        assert "nothing was approved" in done.err
        assert not shell.system.objects

    def test_says_when_an_approval_fits_no_plan(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD})
        done = shell.run("apply", "--path", "desired", "--approve", "0123456789abcdef")
        assert done.code == 2
        assert "--approve 0123456789abcdef: no plan has" in done.err

    def test_asks_on_a_terminal_and_a_no_changes_nothing(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        import io
        import sys

        shell.write(mail=GOOD)
        answers = io.StringIO("n\n")
        monkeypatch.setattr(answers, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", answers)
        done = shell.run("apply", "--path", "desired")
        assert done.code == 130
        assert "apply this plan?" in done.out
        assert not shell.system.objects

    def test_asks_nothing_with_yes(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        import io
        import sys

        shell.write(mail=GOOD)
        answers = io.StringIO("")
        monkeypatch.setattr(answers, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", answers)
        assert shell.run("apply", "--path", "desired", "--yes").code == 0


class TestDrift:
    def test_is_none_and_0_when_nobody_meddled(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        done = shell.run("drift", "--path", "desired")
        assert (done.code, done.out) == (0, "no drift\n")

    def test_shows_what_who_and_when(self, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        meddle(shell)
        real = MemoryDriver.see
        told = Evidence("ada@example.org", NOW, "dashboard")
        monkeypatch.setattr(MemoryDriver, "see", lambda self, *given: replace(real(self, *given), evidence=told))
        done = shell.run("drift", "--path", "desired")
        assert done.code == 2
        assert done.out.splitlines() == [
            "~ mem/Thing/a (update, drift, by ada@example.org at 2026-04-01 12:00:00 UTC (dashboard))",
            "    /text: meddled → Hello",
        ]
        assert shell.system.objects["Thing/a"].content["text"] == "meddled", "it only looks"

    def test_shows_since_when_if_a_run_noticed_it(self, shell: Shell) -> None:
        shell.write(mail=thing("a", text="Hello", annotations={"drift": "report"}))
        shell.run("apply", "--path", "desired")
        meddle(shell)
        shell.run("apply", "--path", "desired")
        assert " since 20" in shell.run("drift", "--path", "desired").out

    def test_that_is_acknowledged_is_shown_and_is_0(self, shell: Shell) -> None:
        exception = (
            "---\napiVersion: reconciler/v1\nkind: DriftException\nmetadata: {name: x}\n"
            "spec: {resource: mem/Thing/a, fields: [/text], reason: until the cut-over, ticket: T-1, expires: 2999-01-01}\n"
        )
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        meddle(shell)
        shell.write(mail=GOOD + exception)
        done = shell.run("drift", "--path", "desired")
        assert done.code == 0
        assert "acknowledged until 2999-01-01: until the cut-over (T-1)" in done.out

    def test_that_was_acknowledged_before_anything_was_applied_is_shown_too(self, shell: Shell) -> None:
        exception = (
            "---\napiVersion: reconciler/v1\nkind: DriftException\nmetadata: {name: x}\n"
            "spec: {resource: mem/Thing/a, fields: [/text], reason: until the cut-over, ticket: T-1, expires: 2999-01-01}\n"
        )
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        shell.write(mail=GOOD.replace("Hello", "Goodbye") + exception)
        done = shell.run("drift", "--path", "desired")
        assert done.code == 0
        assert "acknowledged until 2999-01-01: until the cut-over (T-1)" in done.out

    def test_gives_json_that_a_program_can_use(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        meddle(shell)
        done = shell.run("drift", "--path", "desired", "-o", "json")
        assert done.code == 2
        (row,) = done.data["drift"]
        assert (row["stack"], row["id"], row["action"]) == ("mail", "mem/Thing/a", "update")
        assert row["fields"] == [{"path": "/text", "before": "meddled", "after": "Hello"}]
        assert done.data["unknown"] == []

    def test_gives_markdown(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        meddle(shell)
        assert shell.run("drift", "--path", "desired", "-o", "markdown").out.startswith("- ~ mem/Thing/a")

    def test_is_1_when_a_system_could_not_be_seen(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.system.on_read = [Permanent("mem: down")]
        done = shell.run("drift", "--path", "desired")
        assert done.code == 1
        assert "unknown: mem/Thing/a: could not be seen" in done.out


class TestExplain:
    def test_goes_from_git_to_the_live_object(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        done = shell.run("explain", "--path", "desired", "mem/Thing/b")
        assert done.code == 0
        lines = done.out.splitlines()
        assert lines[0] == "mem/Thing/b is declared at desired/mail/all.yaml:7 in the stack mail, target mem"
        assert "comes after mem/Thing/a and needs it healthy" in lines
        assert "in sync: the live object is as git wants it" in lines
        assert "health: healthy" in lines
        assert any(line.startswith("last known to match git at a working tree, run 1, 20") for line in lines)

    def test_says_what_it_waits_for(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.system.on_write = [Permanent("no")]
        shell.run("apply", "--path", "desired")
        done = shell.run("explain", "--path", "desired", "mem/Thing/a")
        assert "would create: + mem/Thing/a (create, commit)" in done.out
        assert "does not exist in its system" in done.out

    def test_tells_the_drift_that_was(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        meddle(shell)
        shell.run("apply", "--path", "desired")
        assert "drift repaired since 20" in shell.run("explain", "--path", "desired", "mem/Thing/a").out

    def test_gives_json_and_markdown(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("explain", "--path", "desired", "mem/Thing/a", "-o", "json")
        assert done.data["resource"] == "mem/Thing/a"
        assert done.data["because"]
        assert shell.run("explain", "--path", "desired", "mem/Thing/a", "-o", "markdown").out.startswith("- mem/Thing/a is declared")

    def test_of_what_no_stack_declares_fails(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("explain", "--path", "desired", "mem/Thing/zebra")
        assert done.code == 1
        assert "mem/Thing/zebra: no stack declares it" in done.err

    def test_of_what_is_no_id_fails(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("explain", "--path", "desired", "zebra")
        assert done.code == 1
        assert "'zebra' is not a resource id; write driver/Kind/name" in done.err


class TestGraph:
    def test_shows_waves_and_gates(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("graph", "--path", "desired")
        assert done.code == 0
        assert done.out.splitlines() == ["wave 1", "  mem/Thing/a", "wave 2", "  mem/Thing/b  ← mem/Thing/a (gate)"]

    def test_gives_one_json_document_for_all_stacks(self, shell: Shell) -> None:
        shell.write(mail=GOOD, web=thing("w"))
        done = shell.run("graph", "--path", "desired", "-o", "json")
        assert done.data == {"mail": {"mem/Thing/a": [], "mem/Thing/b": ["mem/Thing/a"]}, "web": {"mem/Thing/w": []}}

    def test_draws(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        done = shell.run("graph", "--path", "desired", "-o", "markdown")
        assert done.out.splitlines() == [
            "```mermaid",
            "graph LR",
            '  n0["mem/Thing/a"]',
            '  n1["mem/Thing/b"]',
            "  n0 --> n1",
            "```",
        ]

    def test_tells_the_stacks_apart(self, shell: Shell) -> None:
        shell.write(mail=thing("a"), web=thing("w"))
        assert shell.run("graph", "--path", "desired").out.splitlines()[0] == "stack mail"

    def test_of_one_resource_shows_what_it_needs_and_no_more(self, shell: Shell) -> None:
        shell.write(mail=GOOD + thing("c", needs=["b"]), web=thing("w"))
        done = shell.run("graph", "--path", "desired", "--of", "mem/Thing/b", "-o", "json")
        assert done.data == {"mail": {"mem/Thing/a": [], "mem/Thing/b": ["mem/Thing/a"]}}

    @pytest.mark.parametrize(("root", "said"), [("zebra", "is not a resource id"), ("mem/Thing/zebra", "no stack declares it")])
    def test_of_what_is_not_there_fails(self, shell: Shell, root: str, said: str) -> None:
        shell.write(mail=GOOD)
        done = shell.run("graph", "--path", "desired", "--of", root)
        assert done.code == 1
        assert said in done.err


class TestStatus:
    def test_is_0_before_the_first_run_and_says_how_to_begin(self, shell: Shell) -> None:
        done = shell.run("status")
        assert done.code == 0
        assert "no run yet; start one with: reconciler apply --path DIR" in done.out

    def test_is_0_when_all_is_converged_and_asks_no_system(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        calls = len(shell.system.calls)
        done = shell.run("status")
        assert done.code == 0
        assert done.out.startswith("mail: converged at working tree (20")
        assert len(shell.system.calls) == calls

    def test_is_2_when_something_is_held_and_says_what(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD})
        shell.run("apply", "--path", "desired")
        done = shell.run("status")
        assert done.code == 2
        assert "  held by approval: mem/Thing/a: waits for approval of plan " in done.out

    def test_is_1_when_a_run_failed(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.system.on_write = [Permanent("no")]
        shell.run("apply", "--path", "desired")
        assert shell.run("status").code == 1

    def test_shows_open_drift_and_bad_health(self, shell: Shell) -> None:
        shell.write(mail=thing("a", text="Hello", annotations={"drift": "report"}))
        shell.run("apply", "--path", "desired")
        meddle(shell)
        shell.system.health["Thing/a"] = [degraded("2 of 3 answer")]
        shell.run("apply", "--path", "desired")
        done = shell.run("status")
        assert "  open drift since 20" in done.out
        assert "  degraded: mem/Thing/a: 2 of 3 answer" in done.out

    def test_shows_what_is_wrong_with_a_rejected_commit(self, shell: Shell) -> None:
        empty = Plan("mail", "c" * 40).sealed()
        problem = Problem("desired/mail/all.yaml", 7, "spec.txt: is not a field here")
        store = Store(Path("reconciler.db"))
        store.record(Report("mail", "c" * 40, "a new revision", Verdict.REJECTED, NOW, NOW, empty, empty, problems=(problem,)), {})
        store.close()
        done = shell.run("status")
        assert done.code == 1
        assert "  desired/mail/all.yaml:7: spec.txt: is not a field here" in done.out

    def test_gives_json_and_markdown(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        done = shell.run("status", "-o", "json")
        assert [(row["stack"], row["verdict"], row["held"], row["drift"]) for row in done.data] == [("mail", "converged", [], [])]
        assert shell.run("status", "-o", "markdown").out.startswith("- mail: converged")


class TestHistory:
    def test_lists_runs_newest_first(self, shell: Shell) -> None:
        shell.write(mail=GOOD, web=thing("w"))
        shell.run("apply", "--path", "desired")
        shell.run("apply", "--path", "desired")
        done = shell.run("history")
        assert done.code == 0
        assert [line.split()[0] for line in done.out.splitlines()] == ["4", "3", "2", "1"]
        assert "2 to create  [by hand]" in done.out

    def test_of_several_stacks_is_newest_first_too(self, shell: Shell) -> None:
        shell.write(mail=GOOD, web=thing("w"))
        shell.run("apply", "--path", "desired")
        shell.run("apply", "--path", "desired")
        done = shell.run("history", "--stack", "mail", "--stack", "web", "-n", "3")
        assert [line.split()[0] for line in done.out.splitlines()] == ["4", "3", "2"]

    def test_gives_json_and_markdown(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        assert [row["verdict"] for row in shell.run("history", "-o", "json").data] == ["converged"]
        assert shell.run("history", "-o", "markdown").out.startswith("- 1  20")

    def test_shows_one_run_with_everything(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        assert shell.run("history", "1").data["report"]["outcomes"][0]["id"] == "mem/Thing/a"

    def test_of_a_run_that_was_not_fails(self, shell: Shell) -> None:
        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        done = shell.run("history", "99")
        assert done.code == 1
        assert "there is no run 99; see reconciler history" in done.err


class TestApprove:
    def test_lets_the_held_plan_pass_at_the_next_apply(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD})
        shell.run("apply", "--path", "desired")
        digest = shell.run("status", "-o", "json").data[0]["digest"]
        done = shell.run("approve", digest[:12], "--who", "ada")
        assert (done.code, done.out) == (0, f"plan {digest[:12]} is approved\n")
        assert shell.run("apply", "--path", "desired").code == 0
        assert "Thing/b" in shell.system.objects

    def test_lets_pass_what_was_held_while_another_part_was_applied(self, shell: Shell) -> None:
        policy = stack_file(policy={"approval": "deletes"}).replace("name: test", "name: mail")
        shell.write(mail={"stack.yaml": policy, "all.yaml": GOOD})
        shell.run("apply", "--path", "desired")
        shell.write(mail={"stack.yaml": policy, "all.yaml": thing("a", text="Hello") + thing("c")})
        assert shell.run("apply", "--path", "desired").code == 2
        told = shell.run("status").out.partition("approval of plan ")[2].split()[0]
        assert shell.run("approve", told).code == 0
        assert shell.run("apply", "--path", "desired").code == 0
        assert sorted(shell.system.objects) == ["Thing/a", "Thing/c"]

    def test_lets_nothing_else_pass(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD})
        shell.run("apply", "--path", "desired")
        shell.run("approve", shell.run("status", "-o", "json").data[0]["digest"])
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD + thing("c")})
        assert shell.run("apply", "--path", "desired").code == 2
        assert not shell.system.objects

    def test_of_too_few_digits_fails(self, shell: Shell) -> None:
        shell.write(mail={"stack.yaml": CAREFUL, "all.yaml": GOOD})
        shell.run("apply", "--path", "desired")
        digest = shell.run("status", "-o", "json").data[0]["digest"]
        done = shell.run("approve", digest[:11])
        assert done.code == 1
        assert "give at least the first 12 digits" in done.err

    def test_of_an_unknown_digest_fails(self, shell: Shell) -> None:
        done = shell.run("approve", "0123456789ab")
        assert done.code == 1
        assert "0123456789ab: no run has a plan with this digest" in done.err


class TestWhatKeepsPeopleFromBeingTold:
    def test_is_shown_by_status_until_it_is_over(self, shell: Shell) -> None:
        from datetime import UTC, datetime

        from reconciler.daemon.cards import condition
        from reconciler.state import Store

        shell.write(mail=GOOD)
        shell.run("apply", "--path", "desired")
        store = Store(shell.folder / "reconciler.db")
        with store.transaction() as connection:
            condition(connection, "slack", "slack: chat.postMessage: is_archived", datetime(2026, 4, 1, 12, tzinfo=UTC))
        done = shell.run("status")
        assert "slack cannot be told since 2026-04-01T12:00:00 UTC: slack: chat.postMessage: is_archived" in done.out
        assert shell.run("status", "-o", "json").data[0]["conditions"][0]["name"] == "slack"
        with store.transaction() as connection:
            condition(connection, "slack", "", datetime(2026, 4, 1, 13, tzinfo=UTC))
        store.close()
        assert "cannot be told" not in shell.run("status").out

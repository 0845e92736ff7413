"""From a button into git: an emulated Slack, real requests, a real repository that is pushed to, and emulated forges."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, cast

import httpx
import pytest
import yaml
from test_slack_buttons import ADA, CAREFUL, EVE, PATH, REPORTED, Site, buttons, preformatted, said, wait_for

from reconciler.daemon.faces import ACKNOWLEDGE, ADOPT
from reconciler.daemon.offers import Offers
from reconciler.desired import desired_from
from reconciler.notify.forge import KINDS, Forge
from reconciler.resource import SecretValue
from reconciler.sandbox.forge import ForgeEmulator, Kind
from reconciler.sandbox.remote import Remote
from reconciler.source import GitSource
from reconciler.stack import ExceptionSpec
from tests.unit.core.memory import STACK, thing

YAML = """\
# all our things
apiVersion: mem/v1
kind: Thing
metadata:
  name: a
  annotations: {reconciler/drift: report}
spec:
  text: Hello   # to everybody
"""


class GitSite(Site):
    """A site whose desired state is in a real repository."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.remote = Remote(self.folder)
        self.set(propose=True)
        self.write(YAML)

    def set(self, forge: Forge | None = None, *, url: str = "", **repository: Any) -> None:
        self.door.close()
        self.configure(
            {
                "repository": {"url": url or self.remote.url, **repository},
                "state": {"path": str(self.folder / "state.db")},
            }
        )
        self.offers.forge = forge

    def write(self, text: str, **files: str) -> None:
        """Commit the stack, push it, and let it be in force."""
        folder = self.remote.work / "desired" / "mail"
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {"stack.yaml": STACK.replace("name: test", "name: mail"), "all.yaml": text, **files}.items():
            (folder / name).write_text(content)
        self.remote.push("a change")
        self.take("main")

    def take(self, branch: str) -> None:
        """Let the newest commit of a branch be in force, and pass."""
        source = GitSource(self.remote.url, "main", self.folder / "git", allow_file=True)
        if branch != "main":
            self.git("update-ref", "refs/heads/main", branch)
        found = desired_from(source.read(source.fetch()), "desired")
        self.daemon.accept(replace(found, source="repository"))
        self.passes(1)

    def git(self, *words: str) -> str:
        return subprocess.run(["git", "-C", str(self.remote.bare), *words], check=True, capture_output=True, text=True).stdout

    def branches(self) -> list[str]:
        return self.git("for-each-ref", "--format=%(refname:short)", "refs/heads/reconciler").split()

    def offer(self) -> list[str]:
        """Do what was asked for; give what the threads are told of it."""
        self.show()
        before = len(self.thread())
        assert self.offers.once(Event()) == 1.0
        self.show()
        return [said(one) for one in self.thread()[before:]]

    def drift(self, text: str = "meddled") -> None:
        self.meddle(text)
        self.later()
        assert self.show()[-1] == "mail: drift in 1 resource"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[GitSite]:
    made = GitSite(tmp_path)
    yield made
    made.close()


@pytest.fixture
def drifted(site: GitSite) -> GitSite:
    site.drift()
    return site


class TestAdopt:
    def test_makes_a_branch_that_ends_the_drift_when_it_is_merged(self, drifted: GitSite) -> None:
        before = drifted.system.writes
        assert drifted.press(ADOPT) == 200
        assert drifted.branches() == [], "the press is answered before anything is pushed"
        (told,) = drifted.offer()
        (branch,) = drifted.branches()
        assert branch.startswith("reconciler/adopt-mem-thing-a-")
        assert f"pushed as branch {branch}; merge it when it is right" in told
        assert "to be taken into git, said ada" in said(drifted.cards()[-1])
        assert drifted.git("show", f"{branch}:desired/mail/all.yaml") == YAML.replace("text: Hello ", "text: meddled ")
        message = drifted.git("log", "-1", "--format=%B", branch)
        assert message.startswith("Adopt what is live of mem/Thing/a\n\n")
        assert "Asked for by ada in Slack." in message
        assert drifted.system.writes == before
        drifted.take(branch)
        assert drifted.live() == "meddled"
        assert drifted.show()[-1] == "mail: over: drift in 1 resource"

    def test_pressed_twice_and_killed_in_between_is_one_branch_and_one_note(self, drifted: GitSite) -> None:
        body = drifted.slack.pressed(drifted.cards()[-1]["ts"], ADOPT, ADA)
        for number in range(3):
            headers = drifted.slack.signed(body, drifted.time.now.timestamp() + number)
            assert httpx.post(drifted.door.url + PATH, content=body, headers=headers).status_code == 200
        wait_for(lambda: len(drifted.slack.workspace.whispers) == 2)
        assert "ada did that already" in drifted.slack.workspace.whispers[0]["text"]
        with drifted.store.transaction() as connection:
            from reconciler.daemon import errands

            ((key, errand),) = errands.owed(connection)
        drifted.offer()
        with drifted.store.transaction() as connection:
            errands.owe(connection, key, errand)  # as if the process had been killed after the push
        drifted.offer()
        assert len(drifted.branches()) == 1
        assert drifted.offer() == []

    def test_of_what_has_changed_since_takes_nothing_over_and_may_be_pressed_again(self, drifted: GitSite) -> None:
        drifted.press(ADOPT)
        drifted.meddle("meddled otherwise")
        (told,) = drifted.offer()
        assert "mem/Thing/a: is not as it was on the card any more" in told
        assert drifted.branches() == []
        drifted.meddle()
        drifted.press(ADOPT)
        drifted.offer()
        assert len(drifted.branches()) == 1

    def test_by_a_stranger_or_by_who_was_taken_out_does_nothing(self, drifted: GitSite) -> None:
        drifted.press(ADOPT, EVE)
        slack = drifted.daemon.workshop.settings.notify.slack.model_copy(update={"users": {EVE: "eve"}})
        notify = drifted.daemon.workshop.settings.notify.model_copy(update={"slack": slack})
        drifted.daemon.workshop.settings = drifted.daemon.workshop.settings.model_copy(update={"notify": notify})
        drifted.press(ADOPT, ADA)
        assert drifted.offer() == []
        wait_for(lambda: len(drifted.slack.workspace.whispers) == 2)
        assert all("you may not do that here" in one["text"] for one in drifted.slack.workspace.whispers)

    def test_of_a_card_that_is_another_by_now_does_nothing(self, drifted: GitSite) -> None:
        body = drifted.slack.pressed(drifted.cards()[-1]["ts"], ADOPT, ADA)
        drifted.meddle("meddled otherwise")
        drifted.later()
        httpx.post(drifted.door.url + PATH, content=body, headers=drifted.slack.signed(body))
        assert drifted.offer() == []
        wait_for(lambda: bool(drifted.slack.workspace.whispers))
        assert "has changed since you saw it" in drifted.slack.workspace.whispers[0]["text"]

    def test_gives_the_patch_in_the_thread_where_nothing_may_be_pushed(self, drifted: GitSite) -> None:
        drifted.set(propose=False)
        drifted.press(ADOPT)
        (told,) = drifted.offer()
        assert "to take it into git, apply this:" in told
        (code,) = [text for one in drifted.thread() for text in preformatted(one)]
        assert drifted.branches() == []
        subprocess.run(["git", "apply", "-"], input=code, text=True, cwd=drifted.remote.work, check=True)
        assert "text: meddled   # to everybody" in (drifted.remote.work / "desired/mail/all.yaml").read_text()
        drifted.press(ADOPT)
        assert drifted.offer() == [], "and once"

    def test_gives_the_patch_with_the_reason_when_the_push_fails_and_may_be_pressed_again(
        self, drifted: GitSite, caplog: pytest.LogCaptureFixture
    ) -> None:
        hook = drifted.remote.bare / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho 'branches are made by people here'\nexit 1\n")
        hook.chmod(0o755)
        drifted.press(ADOPT)
        (told,) = drifted.offer()
        assert "no branch could be pushed: " in told
        assert "branches are made by people here" in told
        assert [text for one in drifted.thread() for text in preformatted(one)][-1].startswith("--- a/desired/mail/all.yaml")
        assert "could not be pushed" in caplog.text
        hook.unlink()
        drifted.press(ADOPT)
        drifted.offer()
        assert len(drifted.branches()) == 1

    def test_is_not_offered_for_what_is_gone_or_held_by_the_guard(self, site: GitSite) -> None:
        del site.system.objects["Thing/a"]
        site.later()
        assert site.show()[-1] == "mail: drift in 1 resource"
        assert ADOPT not in buttons(site.cards()[-1])
        site.begin(REPORTED + thing("b"), "c2", **{"stack.yaml": CAREFUL})
        assert not any(ADOPT in buttons(one) for one in site.cards())

    def test_of_several_is_one_branch_with_all_of_them_and_says_what_is_left(self, site: GitSite) -> None:
        more = YAML.replace("# all our things", "---").replace("name: a", "name: b").replace("text: Hello", "text: '${vars.greeting}'")
        stack = STACK.replace("name: test", "name: mail").replace("spec: {", "spec: {vars: {greeting: Hello}, ")
        site.write(YAML + more, **{"stack.yaml": stack})
        for name in ("a", "b"):
            site.system.objects[f"Thing/{name}"].content.update(text=f"meddled {name}", size=7)
        site.later()
        assert site.show()[-1] == "mail: drift in 2 resources"
        site.press(ADOPT)
        (told,) = site.offer()
        (branch,) = site.branches()
        assert "not taken over: mem/Thing/b: /spec/text: is written as ${vars.greeting}" in told
        text = site.git("show", f"{branch}:desired/mail/all.yaml")
        assert text.count("size: 7") == 2
        assert "text: meddled a   # to everybody" in text
        assert site.git("log", "-1", "--format=%s", branch).strip() == "Adopt what is live of 2 resources of mail"

    def test_shows_no_secret_to_anybody(self, site: GitSite) -> None:
        site.system.keep_secret("app", token="c4n4ry-1")
        text = YAML.replace("text: Hello   # to everybody", "text: ${vault('app', 'token')}\n  tags: {colour: blue}")
        site.write(text)
        site.system.objects["Thing/a"].sealed = ""
        site.system.objects["Thing/a"].content.update(text="c4n4ry-2", size=9, tags={"colour": "blue", "api_token": "c4n4ry-3"})
        site.later()
        site.show()
        site.press(ADOPT)
        (told,) = site.offer()
        (branch,) = site.branches()
        assert "size: 9" in site.git("show", branch)
        assert "c4n4ry" not in site.git("log", "-p", branch) + told
        site.set(propose=False)
        site.meddle("c4n4ry-4")
        site.later()
        site.show()
        site.press(ADOPT)
        (told,) = site.offer()
        assert "+  size: 9" in told
        assert "c4n4ry" not in told

    def test_of_a_system_that_cannot_be_seen_says_so(self, drifted: GitSite) -> None:
        drifted.press(ADOPT)
        drifted.system.fault, drifted.system.fault_times = "server-error", 99
        (told,) = drifted.offer()
        assert "mem cannot be seen" in told
        assert drifted.branches() == []

    def test_survives_a_bug_and_what_another_version_wrote(self, drifted: GitSite, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(stack: str) -> Any:
            raise ZeroDivisionError

        drifted.offers.force = broken
        drifted.press(ADOPT)
        (told,) = drifted.offer()
        assert "ZeroDivisionError; see the log" in told
        with drifted.store.transaction() as connection:
            from reconciler.daemon import errands

            errands.press(connection, "odd", "ada", drifted.time.now)
            errands.done(connection, "odd", '{"card": 1, "surprise": 2}')
        drifted.offers.force = drifted.daemon.force.get
        drifted.press(ADOPT)
        drifted.offer()
        assert len(drifted.branches()) == 1


class TestAcknowledge:
    def test_is_also_a_branch_that_makes_it_last(self, drifted: GitSite) -> None:
        assert drifted.press(ACKNOWLEDGE) == 200
        drifted.passes(1)
        assert drifted.show()[-1] == "mail: over: drift in 1 resource"
        (told,) = drifted.offer()
        (branch,) = drifted.branches()
        assert f"pushed as branch {branch}; merge it when it is right" in told
        assert not [text for one in drifted.thread() for text in preformatted(one)], "and not as text, too"
        document = yaml.safe_load(drifted.git("show", f"{branch}:desired/mail/exceptions.yaml"))
        assert document["spec"]["resource"] == "mem/Thing/a"
        ExceptionSpec.model_validate(document["spec"])
        drifted.take(branch)
        assert drifted.reports[-1].verdict == "converged"
        assert drifted.live() == "meddled"

    def test_comes_after_the_exceptions_that_are_there(self, site: GitSite) -> None:
        other = "# known\napiVersion: reconciler/v1\nkind: DriftException\nmetadata: {name: other}\nspec:\n"
        other += "  {resource: mem/Thing/a, fields: [/size], reason: known, expires: 2099-01-01}"
        site.write(YAML, **{"exceptions.yaml": other})
        site.drift()
        site.press(ACKNOWLEDGE)
        site.offer()
        (branch,) = site.branches()
        text = site.git("show", f"{branch}:desired/mail/exceptions.yaml")
        assert text.startswith(other + "\n---\n")
        assert [one["kind"] for one in yaml.safe_load_all(text)] == ["DriftException"] * 2

    def test_is_given_as_text_with_the_reason_when_it_cannot_be_a_branch(self, drifted: GitSite) -> None:
        drifted.remote.bare.rename(drifted.folder / "moved.git")
        drifted.press(ACKNOWLEDGE)
        drifted.passes(1)
        (told,) = drifted.offer()
        assert "no branch could be pushed: " in told
        assert "to make it last, commit this:" in told
        (code,) = [text for one in drifted.thread() for text in preformatted(one)]
        assert yaml.safe_load(code)["kind"] == "DriftException"
        assert drifted.show()[-1] == "mail: over: drift in 1 resource", "it counts all the same"
        assert drifted.offer() == []

    def test_of_a_stack_that_is_gone_meanwhile_is_given_as_text(self, drifted: GitSite) -> None:
        drifted.press(ACKNOWLEDGE)
        drifted.offers.force = lambda stack: None
        (told,) = drifted.offer()
        assert "there is no such stack in force any more" in told
        assert len([text for one in drifted.thread() for text in preformatted(one)]) == 1


class TestAForge:
    @pytest.fixture(params=["github", "gitea", "gitlab"])
    def forge(self, request: pytest.FixtureRequest) -> Iterator[ForgeEmulator]:
        kind: Kind = request.param
        emulator = ForgeEmulator(kind)
        emulator.start()
        yield emulator
        emulator.stop()

    def lead(self, site: GitSite, forge: ForgeEmulator) -> None:
        given = forge.settings()
        site.offers.forge = cast("Forge", KINDS[given["kind"]](given["url"], SecretValue(given["token"]), given["repository"]))

    def test_gets_a_pull_request_whose_page_the_thread_links(self, drifted: GitSite, forge: ForgeEmulator) -> None:
        self.lead(drifted, forge)
        drifted.press(ADOPT)
        (told,) = drifted.offer()
        (one,) = forge.proposals.values()
        assert (one.branch, one.base, one.title) == (drifted.branches()[0], "main", "Adopt what is live of mem/Thing/a")
        assert one.body.startswith("```text\nTaken over: /spec/text\n")
        assert "its pull request is open" in told
        assert "<https://forge.example.org/house/desired/" in told

    def test_that_refuses_leaves_the_branch_and_says_why(self, drifted: GitSite, forge: ForgeEmulator) -> None:
        forge.closed = True
        self.lead(drifted, forge)
        drifted.press(ADOPT)
        (told,) = drifted.offer()
        assert f"pushed as branch {drifted.branches()[0]}; merge it when it is right" in told
        assert "no pull request was opened: " in told
        assert "check forge.token and its rights" in told


def test_many_daemons_do_an_errand_once(drifted: GitSite) -> None:
    drifted.press(ADOPT)
    other = Offers(drifted.daemon.workshop, drifted.store, drifted.daemon.force.get)
    with drifted.store.sending(" offers") as turn:
        assert turn is not None
        assert other.once(Event()) == 1.0
        assert drifted.branches() == [], "it is another's turn"
    other.once(Event())
    drifted.offers.once(Event())
    drifted.show()
    assert len(drifted.branches()) == 1
    assert len([one for one in drifted.thread() if "pushed as branch" in said(one)]) == 1

"""Three forges over real HTTP, a real git repository, and a daemon's desk between them."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from reconciler.daemon import cards, statuses
from reconciler.daemon.pulls import PULLS, Desk
from reconciler.daemon.recording import recorder
from reconciler.driver import Plugin
from reconciler.errors import Permanent, SourceError, StoreError, Transient
from reconciler.notify import Closed, Gone
from reconciler.notify.forge import KINDS, Forge, opened
from reconciler.proposals import ProposalSource
from reconciler.registry import Catalog
from reconciler.resource import SecretValue
from reconciler.sandbox.forge import ME, ForgeEmulator, Kind, Proposal
from reconciler.sandbox.remote import Remote
from reconciler.sandbox.server import Fault
from reconciler.settings import Settings
from reconciler.state import Store
from tests.unit.core.memory import STACK, stack_file, thing
from tests.unit.daemon.house import GOOD, House, commit

SHA = "a" * 40
ALL: list[Kind] = ["github", "gitea", "gitlab"]


def client(forge: ForgeEmulator, **more: Any) -> Forge:
    given = {**forge.settings(), **more}
    return cast("Forge", KINDS[given["kind"]](given["url"], SecretValue(given["token"]), given["repository"]))


@pytest.fixture(params=ALL)
def forge(request: pytest.FixtureRequest) -> Iterator[ForgeEmulator]:
    emulator = ForgeEmulator(request.param)
    emulator.start()
    yield emulator
    emulator.stop()


class TestAClient:
    def test_sets_a_status_in_the_words_of_the_forge(self, forge: ForgeEmulator) -> None:
        client(forge).status(SHA, "reconciler/mail", "pending", "accepted", "")
        client(forge).status(SHA, "reconciler/mail", "failure", "x" * 5000, "https://reconciler.example.org/runs/1")
        assert forge.shown(SHA) == {"reconciler/mail": "failed" if forge.kind == "gitlab" else "failure"}
        assert forge.statuses[-1]["target_url"] == "https://reconciler.example.org/runs/1"

    def test_may_set_the_same_status_twice(self, forge: ForgeEmulator) -> None:
        for _ in range(2):
            client(forge).status(SHA, "reconciler/mail", "pending", "accepted", "")
        assert set(forge.shown(SHA)) == {"reconciler/mail"}

    def test_of_a_commit_that_is_not_there_is_told_so(self, forge: ForgeEmulator) -> None:
        forge.commits = set()
        with pytest.raises(Permanent, match=r"(No commit found|Commit Not Found)"):
            client(forge).status(SHA, "reconciler/mail", "pending", "accepted", "")

    def test_lists_every_open_pull_request_over_all_pages(self, forge: ForgeEmulator) -> None:
        for number in range(1, 76):
            forge.proposals[number] = Proposal(number, f"{number:040x}", "ada", open=number != 7, fork=number == 8)
        found = {one.number: one for one in client(forge).pulls()}
        assert sorted(found) == [number for number in range(1, 76) if number != 7]
        assert (found[9].ours, found[8].ours, found[9].author, found[9].base, found[9].head) == (True, False, "ada", "main", f"{9:040x}")

    def test_counts_a_branch_of_a_repository_that_was_deleted_as_a_strangers(self, forge: ForgeEmulator) -> None:
        forge.proposals[1] = Proposal(1, SHA, "ada", fork=None)
        assert [one.ours for one in client(forge).pulls()] == [False]

    def test_opens_a_pull_request_once_and_says_where_it_is(self, forge: ForgeEmulator) -> None:
        forge.proposals[1] = Proposal(1, SHA, "eve", fork=True, branch="reconciler/adopt-a")
        pages = [opened(client(forge), "reconciler/adopt-a", "main", "Adopt a", "because\n" * 3) for _ in range(2)]
        ours = forge.proposals[2]
        assert pages[0] == pages[1] != ""
        assert pages[0].endswith("/2"), "one of the same name in a stranger's copy is not ours"
        assert (ours.title, ours.body, ours.branch, len(forge.proposals)) == ("Adopt a", "because\n" * 3, "reconciler/adopt-a", 2)

    def test_may_not_open_one_without_the_right_and_says_what_is_missing(self, forge: ForgeEmulator) -> None:
        forge.closed = True
        with pytest.raises(Closed, match=r"check forge\.token and its rights"):
            opened(client(forge), "reconciler/adopt-a", "main", "Adopt a", "")

    def test_of_a_race_gets_no_second_one(self, forge: ForgeEmulator) -> None:
        client(forge).request("reconciler/adopt-a", "main", "Adopt a", "")
        with pytest.raises(Permanent):
            client(forge).request("reconciler/adopt-a", "main", "Adopt a", "")
        assert len(forge.proposals) == 1

    def test_writes_edits_and_finds_comments(self, forge: ForgeEmulator) -> None:
        forge.proposals[1] = Proposal(1, SHA, "ada")
        for number in range(65):
            forge.say(1, "ada", f"comment {number}")
        id = client(forge).comment(1, "a plan")
        client(forge).edit(1, id, "a better plan")
        last = list(client(forge).comments(1))[-1]
        assert (last.id, last.author, last.body) == (id, client(forge).me(), "a better plan")

    def test_knows_that_a_comment_is_gone(self, forge: ForgeEmulator) -> None:
        forge.proposals[1] = Proposal(1, SHA, "ada")
        with pytest.raises(Gone):
            client(forge).edit(1, "5", "x")

    def test_has_no_name_where_the_token_may_not_know(self, forge: ForgeEmulator) -> None:
        forge.nameless = True
        assert client(forge).me() == ""

    def test_shows_its_token_to_nobody(self, forge: ForgeEmulator, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(Closed, match=r"check forge\.token") as caught:
            client(forge, token="planted-canary").pulls()
        assert "canary" not in str(caught.value) + caplog.text

    @pytest.mark.parametrize(
        ("fault", "error", "wait"),
        [
            ("rate-limit", Transient, 7.0),
            ("secondary-limit", Transient, 60.0),
            ("server-error", Transient, None),
            ("cut-after", Transient, None),
            ("moved", Closed, None),
        ],
    )
    def test_says_what_a_refusal_means(self, forge: ForgeEmulator, fault: str, error: type[Exception], wait: float | None) -> None:
        with forge.faults.during(fault, times=1), pytest.raises(error) as caught:
            client(forge).pulls()
        assert getattr(caught.value, "retry_after", None) == wait


class Site(House):
    """A house with a repository, a forge, and a desk."""

    def __init__(self, folder: Path, forge: ForgeEmulator) -> None:
        self.forge = forge
        super().__init__(folder)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.remote = Remote(self.folder)
        self.settings = Settings(
            repository={"url": self.remote.url, "pull_requests": True},  # type: ignore[arg-type]  # as the file gives them
            forge={**self.forge.settings(), "authors": ["friend"]},  # type: ignore[arg-type]  # as above
            notify={"link": "https://reconciler.example.org/runs/{run}"},  # type: ignore[arg-type]  # as above
        ).model_copy(update={"targets": {"mem": {"system": self.system}}})
        self.store.close()
        self.store = Store(self.folder / "state.db", news=recorder(self.settings))
        self.daemon = self.make()
        self.daemon.workshop.settings = self.settings
        self.desk = self.sit()

    def sit(self) -> Desk:
        source = ProposalSource(self.remote.url, "main", self.folder / "proposals", allow_file=True)
        return Desk(self.daemon.workshop, self.store, client(self.forge), source)

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=owner", "-c", "user.email=owner@example.org"]
        return subprocess.run(["git", *who, *arguments], cwd=self.remote.work, capture_output=True, text=True, check=True).stdout.strip()

    def push(self, text: str, stack: str = "mail", **files: str) -> str:
        self.write(text, stack, **files)
        return self.remote.push("a change")

    def write(self, text: str, stack: str = "mail", **files: str) -> None:
        folder = self.remote.work / "desired" / stack
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {"stack.yaml": STACK.replace("name: test", f"name: {stack}"), "all.yaml": text, **files}.items():
            (folder / name).write_text(content)

    def propose(self, number: int, text: str, author: str = "ada", stack: str = "mail", **more: Any) -> str:
        """Open a pull request, or push to it again."""
        self.git("checkout", "--quiet", "-B", f"topic-{number}", "origin/main")
        self.write(text, stack)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a proposal")
        head = self.git("rev-parse", "HEAD")
        ref = client(self.forge).refs.replace("*", str(number))
        self.git("push", "--quiet", "--force", "origin", f"HEAD:{ref}")
        self.git("checkout", "--quiet", "-B", "main", "origin/main")
        before = self.forge.proposals.get(number)
        self.forge.proposals[number] = replace(before, head=head) if before else Proposal(number, head, author, **more)
        return head

    def planned(self) -> list[int]:
        """The pull requests of which something is remembered."""
        with self.store.transaction() as connection:
            return sorted(connection.execute(sa.select(PULLS.c.number)).scalars())

    def comments(self, number: int) -> list[str]:
        return [one.body for one in self.forge.proposals[number].notes if one.author == ME]


@pytest.fixture
def site(tmp_path: Path, forge: ForgeEmulator) -> Iterator[Site]:
    made = Site(tmp_path, forge)
    made.push(GOOD)
    made.daemon.accept(commit("0" * 40, mail=GOOD))
    made.passes(1)
    yield made
    made.store.close()


class TestACommit:
    def test_is_pending_until_its_pass_and_then_what_came_of_it_with_a_link(self, site: Site) -> None:
        failed = "failed" if site.forge.kind == "gitlab" else "failure"
        site.daemon.accept(commit(SHA, mail=GOOD + thing("b")))
        site.desk.once(pulls=False)
        assert site.forge.shown(SHA) == {"reconciler/mail": "pending"}
        site.system.on_write = [Permanent("Thing/b: 403")]
        site.passes(1)
        site.desk.once(pulls=False)
        assert site.forge.shown(SHA) == {"reconciler/mail": failed}
        site.time.seconds += 400
        site.passes(1)
        site.desk.once(pulls=False)
        assert site.forge.shown(SHA) == {"reconciler/mail": "success"}
        assert site.forge.statuses[-1]["description"] == "converged: 1 to create"
        assert str(site.forge.statuses[-1]["target_url"]).startswith("https://reconciler.example.org/runs/")

    def test_that_was_brought_about_stays_so_whatever_happens_later(self, site: Site) -> None:
        site.daemon.accept(commit(SHA, mail=GOOD))
        site.passes(1)
        site.system.on_read = [Permanent("mem: 401")]
        site.time.seconds += 400
        site.passes(1)
        site.desk.once(pulls=False)
        assert site.forge.shown(SHA) == {"reconciler/mail": "success"}

    def test_that_is_rejected_fails_with_the_place_of_its_first_problem(self, site: Site) -> None:
        site.daemon.accept(commit(SHA, mail=thing("a", sise=2)))
        site.desk.once(pulls=False)
        assert site.forge.shown(SHA)["reconciler/mail"] in ("failure", "failed")
        assert "desired/mail/all.yaml" in str(site.forge.statuses[-1]["description"])

    def test_that_is_overtaken_before_its_pass_does_not_stay_pending(self, site: Site) -> None:
        site.daemon.accept(commit(SHA, mail=GOOD + thing("b")))
        site.desk.once(pulls=False)
        site.daemon.accept(commit("b" * 40, mail=GOOD + thing("c")))
        site.desk.once(pulls=False)
        assert site.forge.shown(SHA)["reconciler/mail"] in ("error", "canceled")
        assert "overtaken by bbbbbbbbbbbb" in str([one["description"] for one in site.forge.statuses])

    def test_is_told_when_the_forge_comes_back(self, site: Site) -> None:
        site.forge.stop()
        site.daemon.accept(commit(SHA, mail=GOOD))
        assert site.desk.once(pulls=False) == 30
        site.passes(1)
        site.forge.start()
        site.desk.once(pulls=False)
        assert site.forge.shown(SHA) == {"reconciler/mail": "success"}

    def test_with_a_token_that_may_not_is_a_condition(self, site: Site) -> None:
        site.desk.forge = client(site.forge, token="wrong")
        site.daemon.accept(commit(SHA, mail=GOOD))
        assert site.desk.once(pulls=False) == 900
        with site.store.transaction() as connection:
            (one,) = cards.conditions(connection)
        assert (one["name"], "check forge.token" in one["message"]) == ("forge", True)
        site.desk.forge = client(site.forge)
        site.desk.once(pulls=False)
        with site.store.transaction() as connection:
            assert cards.conditions(connection) == []

    def test_is_told_later_when_the_database_cannot_be_written(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        site.daemon.accept(commit(SHA, mail=GOOD))
        with monkeypatch.context() as broken:

            def full() -> None:
                raise StoreError("the disk is full")

            broken.setattr(site.store, "transaction", full)
            assert site.desk.once(pulls=False) == 30
            site.desk._condition("the words of a forge that is shut")
        site.desk.once(pulls=False)
        assert site.forge.shown(SHA) == {"reconciler/mail": "pending"}


class TestAPullRequest:
    def test_gets_its_plan_as_one_comment_and_nothing_is_written(self, site: Site) -> None:
        before = site.system.writes
        head = site.propose(1, GOOD + thing("b", text="new"))
        site.desk.once()
        (text,) = site.comments(1)
        assert text.startswith("<!-- reconciler:plan:default -->\n### What would change: 1 to create")
        assert "| + create | `mem/Thing/b` | `commit` |" in text
        assert "Nothing was written" in text
        assert site.forge.shown(head) == {"reconciler/plan": "success"}
        assert site.system.writes == before

    def test_has_its_comment_edited_when_it_or_the_branch_moves(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"))
        site.desk.once()
        site.propose(1, GOOD + thing("b") + thing("c"))
        site.desk.once()
        (text,) = site.comments(1)
        assert "2 to create" in text
        site.push(GOOD, "web")
        site.desk.once()
        (text,) = site.comments(1)
        assert "#### Stack `web`" not in text, "what is merged already is not of this pull request"

    def test_is_left_alone_while_nothing_moves(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"))
        site.desk.once()
        before = len(site.forge.faults.requests)
        site.desk.once()
        assert len(site.forge.faults.requests) == before

    def test_keeps_its_one_comment_when_the_database_is_lost_or_an_answer_is(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"))
        site.forge.say(1, "eve", "<!-- reconciler:plan:default -->\nnot by us")

        def posts(method: str, path: str) -> bool:
            return method == "POST" and "statuses" not in path

        site.forge.faults.active.append(Fault("cut-after", matches=posts))
        assert site.desk.once() == 30
        site.desk.once()
        assert len(site.comments(1)) == 1
        assert site.forge.proposals[1].notes[0].body.endswith("not by us")

    def test_keeps_what_others_write_though_it_begins_as_ours(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"))
        site.forge.say(1, "eve", "<!-- reconciler:plan:default -->\nnot by us")
        site.desk.once()
        assert [one.author for one in site.forge.proposals[1].notes] == ["eve", ME]
        assert not [path for method, path in site.forge.faults.requests if method == "DELETE"], "whose token may delete it must not"

    def test_whose_comment_somebody_took_away_gets_it_again(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"))
        site.desk.once()
        site.forge.proposals[1].notes.clear()
        site.propose(1, GOOD + thing("c"))
        site.desk.once()
        assert len(site.comments(1)) == 1

    def test_that_was_closed_long_ago_is_forgotten_and_no_other(self, site: Site) -> None:
        for number in (1, 2, 3):
            site.propose(number, GOOD + thing("b"))
        site.desk.once()
        for number in (1, 3):
            del site.forge.proposals[number]
        site.time.now += timedelta(days=20)
        site.propose(4, GOOD + thing("c"))
        site.desk.once()
        assert site.planned() == [1, 2, 3, 4]
        with site.store.transaction() as connection:
            connection.execute(sa.update(PULLS).where(PULLS.c.number == 3).values(source="another repository"))
        site.time.now += timedelta(days=11)
        site.push(GOOD, "web")
        del site.forge.proposals[4]
        site.desk.once()
        assert site.planned() == [2, 3, 4]

    def test_with_problems_fails_with_their_places(self, site: Site) -> None:
        head = site.propose(1, thing("a", sise=2))
        site.desk.once()
        (text,) = site.comments(1)
        assert "### Not ready: `mail`" in text
        assert "- 🚨 `desired/mail/all.yaml:" in text
        assert site.forge.shown(head)["reconciler/plan"] in ("failure", "failed")

    def test_that_conflicts_is_not_planned(self, site: Site) -> None:
        site.propose(1, thing("a", text="theirs"))
        site.push(thing("a", text="ours"))
        site.desk.once()
        (text,) = site.comments(1)
        assert "Not planned: it conflicts with the branch" in text

    def test_that_could_not_be_read_is_planned_as_soon_as_it_can_be(self, site: Site) -> None:
        head = site.propose(1, GOOD + thing("b"))
        ref = client(site.forge).refs.replace("*", "1")
        site.git("push", "--quiet", "origin", f":{ref}")
        for _ in range(2):
            site.desk.once()
            (text,) = site.comments(1)
            assert "Not planned: it cannot be read" in text
        failed = [one for one in site.forge.statuses if one["sha"] == head]
        assert len(failed) == 2, "pending and what came of it, and no more while nothing changes"
        site.git("push", "--quiet", "origin", f"{head}:{ref}")
        site.desk.once()
        (text,) = site.comments(1)
        assert "1 to create" in text
        assert site.forge.shown(head)["reconciler/plan"] == "success"

    def test_that_could_not_be_read_for_a_moment_is_read_again_though_nothing_moved(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.propose(1, GOOD + thing("b"))
        assert site.desk.source is not None
        with monkeypatch.context() as trouble:
            trouble.setattr(ProposalSource, "bring", lambda *_: (_ for _ in ()).throw(SourceError("the server hung up")))
            site.desk.once()
        assert "Not planned: it cannot be read" in site.comments(1)[0]
        site.desk.once()
        assert "1 to create" in site.comments(1)[0]

    def test_whose_push_the_forge_hears_of_later_than_its_git_is_planned_then(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"))
        site.desk.once()
        before = site.forge.proposals[1]
        site.propose(1, GOOD + thing("b") + thing("c"))
        after, site.forge.proposals[1] = site.forge.proposals[1], before
        site.desk.once()
        site.forge.proposals[1] = replace(after, notes=before.notes)
        site.desk.once()
        (text,) = site.comments(1)
        assert "2 to create" in text

    def test_whose_push_the_forge_hears_of_earlier_than_its_git_is_planned_when_git_has_it(self, site: Site) -> None:
        old = site.propose(1, GOOD + thing("b"))
        site.desk.once()
        new = site.propose(1, GOOD + thing("b") + thing("c"))
        ref = client(site.forge).refs.replace("*", "1")
        site.git("push", "--quiet", "--force", "origin", f"{old}:{ref}")
        site.desk = site.sit()  # one that has just got the turn
        site.desk.once()
        site.git("push", "--quiet", "--force", "origin", f"{new}:{ref}")
        site.desk.once()
        (text,) = site.comments(1)
        assert "2 to create" in text

    def test_is_planned_without_trust_so_that_no_secret_is_revealed_and_no_probe_runs(self, site: Site) -> None:
        kinds = site.daemon.workshop.kinds
        acting = [replace(one, acts=True) if isinstance(one, Plugin) else one for one in kinds.plugins]
        site.daemon.workshop.kinds = Catalog(tuple(acting))
        asked = len(site.system.calls)
        site.propose(1, GOOD + thing("b"))
        site.desk.once()
        assert site.system.calls[asked:] == [], "looking is an act here"

    def test_that_somebody_doubts_while_it_is_shown_is_shown_once_more(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"))
        doubts = [statuses.unknown()]

        def doubted(method: str, path: str) -> bool:
            if method == "POST" and "statuses" not in path and doubts:
                with site.store.transaction() as connection:
                    connection.execute(sa.update(PULLS).values(shown=doubts.pop()))
            return False

        site.forge.faults.active.append(Fault("cut-after", matches=doubted))
        site.desk.once()
        assert not doubts
        before = len(site.forge.faults.requests)
        site.desk.once()
        assert len(site.forge.faults.requests) > before
        before = len(site.forge.faults.requests)
        site.desk.once()
        assert len(site.forge.faults.requests) == before, "and then it is settled"

    def test_that_is_behind_is_planned_as_merged(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"))
        site.push(GOOD, "web")
        site.desk.once()
        (text,) = site.comments(1)
        assert "1 to create" in text
        assert "disappears" not in text

    def test_of_a_stranger_is_not_planned_and_of_a_friend_it_is(self, site: Site) -> None:
        reads = len(site.system.calls)
        site.propose(1, GOOD + thing("b"), "stranger", fork=True)
        site.desk.once()
        assert (site.comments(1), len(site.system.calls)) == ([], reads)
        site.propose(2, GOOD + thing("b"), "friend", fork=True)
        site.desk.once()
        assert len(site.comments(2)) == 1

    def test_for_another_branch_is_left_alone(self, site: Site) -> None:
        site.propose(1, GOOD + thing("b"), base="next")
        site.desk.once()
        assert site.comments(1) == []

    def test_that_would_remove_a_stack_says_that_nothing_is_deleted(self, site: Site) -> None:
        site.push(GOOD, "web")
        site.git("checkout", "--quiet", "-B", "topic-1", "origin/main")
        site.git("rm", "-r", "--quiet", "desired/web")
        site.git("commit", "--quiet", "--message", "remove")
        site.git("push", "--quiet", "--force", "origin", f"HEAD:{client(site.forge).refs.replace('*', '1')}")
        site.forge.proposals[1] = Proposal(1, site.git("rev-parse", "HEAD"), "ada")
        site.desk.once()
        (text,) = site.comments(1)
        assert "the stack disappears; nothing of it would be deleted" in text

    def test_cannot_write_into_the_comment_more_than_values(self, site: Site) -> None:
        evil = "`` @everyone <img src=x> ![](http://evil.example/x.png) | --> [x](http://evil.example) \u202e"
        site.propose(1, GOOD + thing("b", text=evil))
        site.desk.once()
        (text,) = site.comments(1)
        assert outside_of_code(text).count("@") == 0
        for sign in ("<img", "![", "](", "\u202e"):
            assert sign not in outside_of_code(text)

    def test_that_adopts_an_object_shows_none_of_its_values(self, site: Site) -> None:
        from tests.unit.core.memory import Object

        site.system.objects["Thing/theirs"] = Object(99, {"text": "canary-value", "size": 1, "tags": {}, "zone": "", "needs": []})
        site.propose(1, GOOD + thing("theirs", text="mine", annotations={"adopt": "true"}))
        site.desk.once()
        (text,) = site.comments(1)
        assert "adopt | `mem/Thing/theirs` |" in text
        assert "canary-value" not in text


def outside_of_code(text: str) -> str:
    """Give what a forge would parse: everything that is in no code span, by the rule of CommonMark 6.1."""
    import re

    kept, place = [], 0
    for fence in re.finditer(r"`+", text):
        if fence.start() < place:
            continue
        run = fence.group()
        end = re.compile(rf"(?<!`){run}(?!`)").search(text, fence.end())
        if end is None:
            continue
        kept.append(text[place : fence.start()])
        place = end.end()
    return "".join([*kept, text[place:]]).replace("<!-- reconciler:plan:default -->", "").replace("<br>", "")


def test_what_is_not_merged_reveals_no_secret_and_runs_no_probe(tmp_path: Path) -> None:
    from reconciler.compose import Workshop
    from reconciler.desired import desired_below
    from tests.unit.core.memory import CATALOG, System

    plugins = [replace(one, acts=True) if isinstance(one, Plugin) and one.name == "mem" else one for one in CATALOG.plugins]
    folder = tmp_path / "desired" / "mail"
    folder.mkdir(parents=True)
    (folder / "stack.yaml").write_text(stack_file().replace("name: test", "name: mail"))
    (folder / "all.yaml").write_text(GOOD)
    system = System()
    workshop = Workshop(Settings().model_copy(update={"targets": {"mem": {"system": system}}}), kinds=Catalog(tuple(plugins)))
    stack = desired_below(tmp_path).load("mail", workshop.kinds, workshop.today())
    with workshop.engine() as engine:
        plan, seen = replace(engine, observer=replace(engine.observer, trusting=False)).plan(stack)
        with pytest.raises(Permanent, match="no secret is revealed for what is not merged"):
            seen.scope.reveal(cast("Any", None))
    assert (plan.in_sync, system.calls) == (True, [])

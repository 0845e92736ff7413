"""Where revisions come from: a real git repository, and a directory in which somebody edits."""

from pathlib import Path
from threading import Event, Thread

import pytest

from reconciler.daemon.heads import DirectoryHead, GitHead, Head, Heads
from reconciler.daemon.owners import Owners
from reconciler.desired import Desired
from reconciler.errors import InputError, SourceError
from reconciler.settings import SINGLE
from reconciler.source import GitSource, Revision
from tests.unit.core.memory import CATALOG, STACK, TODAY, thing
from tests.unit.test_source import Upstream

FILES = {"desired/mail/stack.yaml": STACK.encode(), "desired/mail/a.yaml": thing("a").encode()}


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    made = Upstream(tmp_path / "upstream")
    made.git("rm", "-rq", "desired")
    made.commit("stacks", FILES)
    return made


@pytest.fixture
def source(upstream: Upstream, tmp_path: Path) -> GitSource:
    return GitSource(upstream.url, "main", tmp_path / "cache", allow_file=True)


@pytest.fixture
def head(source: GitSource) -> GitHead:
    return GitHead(source, "desired", 60)


class TestABranch:
    def test_gives_its_newest_commit_once(self, upstream: Upstream, head: GitHead) -> None:
        given = head.changed()
        assert given is not None
        assert (given.revision.commit, given.names, given.rewritten) == (upstream.git("rev-parse", "HEAD"), ("mail",), False)
        assert given.load("mail", CATALOG, TODAY).graph.resources
        assert head.changed() is None

    def test_gives_the_newest_of_several_commits_and_not_those_between(self, upstream: Upstream, head: GitHead) -> None:
        head.changed()
        upstream.commit("one", {"desired/mail/b.yaml": thing("b").encode()})
        newest = upstream.commit("two", {"desired/mail/c.yaml": thing("c").encode()})
        given = head.changed()
        assert given is not None
        assert given.revision.commit == newest
        assert head.changed() is None

    def test_is_given_anew_to_a_daemon_that_starts_again(self, head: GitHead, source: GitSource) -> None:
        head.changed()
        assert GitHead(source, "desired", 60).changed() is not None

    def test_asks_the_server_one_question_when_nothing_is_new(
        self, head: GitHead, source: GitSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        head.changed()
        monkeypatch.setattr(source, "fetch", lambda: pytest.fail("fetched without need"))
        assert head.changed() is None

    def test_with_files_that_may_not_be_used_complains_once(self, upstream: Upstream, head: GitHead) -> None:
        (upstream.path / "desired/mail/link.yaml").symlink_to("/etc/passwd")
        upstream.commit("a link", {})
        with pytest.raises(InputError, match="link"):
            head.changed()
        assert head.changed() is None

    def test_that_could_not_be_read_for_a_while_is_read_later(
        self, head: GitHead, source: GitSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise SourceError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(source, "read", broken)
            with pytest.raises(SourceError):
                head.changed()
        assert head.changed() is not None

    def test_without_the_folder_says_so_at_every_look_until_it_is_there(self, upstream: Upstream, head: GitHead) -> None:
        upstream.git("rm", "-rq", "desired")
        upstream.commit("gone", {})
        for _ in range(2):
            with pytest.raises(SourceError, match="there is no folder desired"):
                head.changed()
        upstream.commit("back", FILES)
        assert head.changed() is not None


class TestARewrittenBranch:
    def test_is_said_to_be_rewritten_once(self, upstream: Upstream, head: GitHead) -> None:
        upstream.commit("lost", {"desired/mail/b.yaml": thing("b").encode()})
        head.changed()
        upstream.git("reset", "--hard", "--quiet", "HEAD~1")
        upstream.commit("instead", {"desired/mail/c.yaml": thing("c").encode()})
        given = head.changed()
        assert given is not None
        assert given.rewritten
        upstream.commit("on top", {"desired/mail/d.yaml": thing("d").encode()})
        given = head.changed()
        assert given is not None
        assert not given.rewritten

    def test_is_noticed_though_the_command_line_fetched_it_first(self, upstream: Upstream, head: GitHead, source: GitSource) -> None:
        upstream.commit("lost", {})
        head.changed()
        upstream.git("reset", "--hard", "--quiet", "HEAD~1")
        upstream.commit("instead", {"desired/mail/c.yaml": thing("c").encode()})
        source.fetch()
        source.fetch()
        given = head.changed()
        assert given is not None
        assert given.rewritten

    def test_is_not_forgotten_while_its_commit_cannot_be_used(self, upstream: Upstream, head: GitHead) -> None:
        upstream.commit("lost", {})
        head.changed()
        upstream.git("reset", "--hard", "--quiet", "HEAD~1")
        (upstream.path / "desired/mail/link.yaml").symlink_to("/etc/passwd")
        upstream.commit("instead", {})
        with pytest.raises(InputError):
            head.changed()
        (upstream.path / "desired/mail/link.yaml").unlink()
        upstream.commit("mended", {})
        given = head.changed()
        assert given is not None
        assert given.rewritten


class TestWaitingForABranch:
    def test_ends_at_once_when_somebody_pokes(self, head: GitHead) -> None:
        head.poke()
        head.wait(Event())

    def test_a_poke_counts_once(self, source: GitSource) -> None:
        head = GitHead(source, "desired", 0.01)
        head.poke()
        head.wait(Event())
        assert not head._poked.is_set()

    def test_ends_when_the_daemon_ends(self, head: GitHead) -> None:
        stop = Event()
        waiting = Thread(target=head.wait, args=(stop,))
        waiting.start()
        stop.set()
        waiting.join(timeout=5)
        assert not waiting.is_alive()

    def test_ends_when_it_is_time(self, source: GitSource) -> None:
        GitHead(source, "desired", 0.01).wait(Event())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(content)
    return tmp_path / "tree"


class TestADirectory:
    def test_is_given_when_something_in_it_was_saved_and_only_then(self, folder: Path) -> None:
        head = DirectoryHead(folder, "desired")
        first = head.changed()
        assert first is not None
        assert first.names == ("mail",)
        assert head.changed() is None
        (folder / "desired/mail/a.yaml").write_text(thing("a", size=2))
        second = head.changed()
        assert second is not None
        assert second.load("mail", CATALOG, TODAY).graph.resources != first.load("mail", CATALOG, TODAY).graph.resources
        assert head.changed() is None

    def test_that_was_saved_without_a_change_is_no_news(self, folder: Path) -> None:
        head = DirectoryHead(folder, "desired")
        head.changed()
        (folder / "desired/mail/a.yaml").write_bytes(FILES["desired/mail/a.yaml"])
        assert head.changed() is None

    def test_that_cannot_be_read_complains_once_and_is_given_when_it_can_be(self, folder: Path) -> None:
        head = DirectoryHead(folder, "desired")
        head.changed()
        (folder / "desired/mail/link.yaml").symlink_to("/etc/passwd")
        with pytest.raises(InputError):
            head.changed()
        assert head.changed() is None
        (folder / "desired/mail/link.yaml").unlink()
        assert head.changed() is not None

    def test_wakes_the_daemon_when_a_file_is_saved(self, folder: Path) -> None:
        head, stop, saved = DirectoryHead(folder, "desired"), Event(), Event()
        head.changed()

        def watch() -> None:
            while not stop.is_set() and head.changed() is None:
                head.wait(stop)
            saved.set()

        watching = Thread(target=watch)
        watching.start()
        (folder / "desired/mail/b.yaml").write_text(thing("b"))
        assert saved.wait(5)
        stop.set()
        watching.join(timeout=5)

    def test_that_vanished_ends_nothing(self, folder: Path) -> None:
        head, stop = DirectoryHead(folder / "nowhere", "desired"), Event()
        with pytest.raises(SourceError):
            head.changed()
        stop.set()
        head.wait(stop)
        assert head.changed() is None

    def test_stops_waiting_with_the_daemon(self, folder: Path) -> None:
        head, stop = DirectoryHead(folder, "desired"), Event()
        waiting = Thread(target=head.wait, args=(stop,))
        waiting.start()
        stop.set()
        waiting.join(timeout=5)
        assert not waiting.is_alive()


class TestSeveralRepositories:
    @pytest.fixture
    def two(self, tmp_path: Path) -> tuple[Upstream, Upstream]:
        made = Upstream(tmp_path / "one"), Upstream(tmp_path / "two")
        for one, name in zip(made, ("mail", "web"), strict=True):
            one.git("rm", "-rq", "desired")
            one.commit("stacks", {f"desired/{name}/stack.yaml": STACK.replace("test", name).encode()})
        return made

    @pytest.fixture
    def heads(self, two: tuple[Upstream, Upstream], tmp_path: Path) -> Heads:
        self.now = 0.0
        pairs = {
            name: (GitHead(GitSource(one.url, "main", tmp_path / "cache", allow_file=True), "desired", poll), poll)
            for name, one, poll in (("one", two[0], 10.0), ("two", two[1], 100.0))
        }
        return Heads(pairs, lambda: self.now)

    def asked(self, heads: Heads) -> dict[str, Head]:
        """Ask those that are due and wait until each has answered."""
        found = heads.due()
        while heads._asked:
            heads.wait(Event())
            found |= heads.due()
        return found

    def test_each_gives_its_own(self, heads: Heads) -> None:
        found = {name: head.changed() for name, head in self.asked(heads).items()}
        assert {name: desired.names for name, desired in found.items() if desired is not None} == {"one": ("mail",), "two": ("web",)}

    def test_each_is_asked_at_its_own_pace(self, heads: Heads) -> None:
        assert set(self.asked(heads)) == {"one", "two"}
        assert not self.asked(heads)
        self.now = 11.0
        assert set(self.asked(heads)) == {"one"}
        self.now = 101.0
        assert set(self.asked(heads)) == {"one", "two"}

    def test_a_poke_asks_all_of_them(self, heads: Heads) -> None:
        self.asked(heads)
        heads.poke()
        heads.wait(Event())
        assert set(self.asked(heads)) == {"one", "two"}

    def test_waits_until_the_first_is_due_and_no_longer(self, heads: Heads) -> None:
        self.asked(heads)
        self.now = 11.0
        heads.wait(Event())

    def test_one_whose_server_is_slow_keeps_no_other_waiting(self, heads: Heads) -> None:
        free = Event()

        class Slow:
            def changed(self) -> None:
                free.wait(20)

            def wait(self, stop: Event) -> None:
                return

            def poke(self) -> None:
                return

        heads.exchange({**heads.pairs(), "slow": (Slow(), 1.0)})
        given: dict[str, Head] = {}
        while len(given) < 2:
            given |= heads.due()
            heads.wait(Event())
        assert set(given) == {"one", "two"}
        self.now = 11.0
        while "one" not in (again := heads.due()):
            heads.wait(Event())
        assert "slow" not in again
        free.set()
        assert "slow" in self.asked(heads)

    def test_what_one_says_that_was_exchanged_meanwhile_counts_no_more(self, heads: Heads) -> None:
        pairs = heads.pairs()
        heads.due()
        heads.exchange({"two": pairs["two"]})
        assert set(self.asked(heads)) <= {"two"}

    def test_the_trouble_of_one_is_told_as_its_own(self, heads: Heads, two: tuple[Upstream, Upstream]) -> None:
        two[0].path.rename(two[0].path.with_name("away"))
        answers = self.asked(heads)
        with pytest.raises(SourceError, match="one"):
            answers["one"].changed()
        assert answers["two"].changed() is not None

    def test_a_lone_one_is_asked_at_once_and_its_desired_state_names_it(self, heads: Heads) -> None:
        heads.exchange({"one": heads.pairs()["one"]})
        given = heads.changed()
        assert given is not None
        assert (given.source, given.names) == ("one", ("mail",))


class TestOwners:
    def desired(self, source: str, *names: str) -> Desired:
        return Desired(Revision("c", {}), "desired", names, source=source)

    def test_a_stack_may_move_when_its_repository_is_followed_no_more_also_over_a_restart(self, tmp_path: Path) -> None:
        Owners(tmp_path / "stacks.json").claim("mail", self.desired("one", "mail"))
        owners = Owners(tmp_path / "stacks.json")
        owners.follow(frozenset({"two"}))
        again = Owners(tmp_path / "stacks.json")
        again.claim("mail", self.desired("two", "mail"))
        assert again.of("mail") == "two"

    def test_are_told_apart_by_their_repository(self) -> None:
        owners = Owners()
        owners.claim("mail", self.desired("one", "mail"))
        owners.claim("web", self.desired("two", "web"))
        assert (owners.stacks("one"), owners.stacks("two"), owners.stacks("three")) == ({"mail"}, {"web"}, set())

    def test_a_stack_of_two_repositories_is_refused_to_the_second_naming_both(self) -> None:
        owners = Owners()
        owners.claim("mail", self.desired("one", "mail"))
        with pytest.raises(InputError, match="the repositories one and two both have a stack of this name, and one had it first"):
            owners.claim("mail", self.desired("two", "mail"))
        owners.claim("mail", self.desired("one", "mail"))

    def test_a_restart_lets_no_other_repository_win_that_answers_first(self, tmp_path: Path) -> None:
        Owners(tmp_path / "x/stacks.json").claim("mail", self.desired("one", "mail"))
        again = Owners(tmp_path / "x/stacks.json")
        with pytest.raises(InputError):
            again.claim("mail", self.desired("two", "mail"))

    def test_a_stack_may_move_once_its_repository_no_longer_has_it(self, tmp_path: Path) -> None:
        owners = Owners()
        owners.claim("mail", self.desired("one", "mail"))
        owners.claim("web", self.desired("one", "web"))
        owners.claim("mail", self.desired("two", "mail"))

    def test_a_repository_that_is_no_longer_followed_owns_nothing(self) -> None:
        owners = Owners()
        owners.claim("mail", self.desired("one", "mail"))
        owners.follow(frozenset({"two"}))
        owners.claim("mail", self.desired("two", "mail"))

    def test_what_was_followed_before_and_is_no_more_is_given_with_its_stacks_once(self, tmp_path: Path) -> None:
        before = Owners(tmp_path / "stacks.json")
        assert before.follow(frozenset({"one", "two", "empty"})) == {}
        for source, name in (("one", "web"), ("one", "mail"), ("two", "dns")):
            before.claim(name, self.desired(source, "web", "mail", "dns"))
        after = Owners(tmp_path / "stacks.json")
        assert after.follow(frozenset({"two", "new"})) == {"one": ["mail", "web"], "empty": []}
        assert after.follow(frozenset({"two", "new"})) == {}
        assert Owners(tmp_path / "stacks.json").follow(frozenset({"two", "new"})) == {}

    def test_a_repository_that_people_are_told_of_by_name_is_its_own_and_a_stack_nobody_claimed_is_nobodys(self) -> None:
        owners = Owners()
        assert [owners.of(name) for name in ("repository web", SINGLE, "repositories")] == ["web", SINGLE, ""]

    def test_the_file_of_an_older_version_is_understood(self, tmp_path: Path) -> None:
        (tmp_path / "stacks.json").write_text('{"stacks": "one", "mail": "two"}')
        owners = Owners(tmp_path / "stacks.json")
        assert (owners.of("stacks"), owners.of("mail")) == ("one", "two")
        assert owners.follow(frozenset({"two"})) == {"one": ["stacks"]}

    def test_a_file_that_cannot_be_read_or_written_is_as_good_as_none(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for text in ("[", "[]", '{"stacks": {}, "followed": 7}'):
            (tmp_path / "stacks.json").write_text(text)
            Owners(tmp_path / "stacks.json").claim("mail", self.desired("one", "mail"))
        (tmp_path / "file").touch()
        Owners(tmp_path / "file/stacks.json").claim("mail", self.desired("one", "mail"))
        assert "is forgotten at a restart" in caplog.text

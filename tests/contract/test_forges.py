"""Several repositories, each with a forge of its own: what belongs to one is told to its forge and to no other, as the settings are now."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import sqlalchemy as sa

from reconciler.clock import Clock
from reconciler.daemon.heads import Heads
from reconciler.daemon.owners import Owners
from reconciler.daemon.pulls import PULLS
from reconciler.daemon.reception import Reception, client, proposals
from reconciler.daemon.recording import recorder
from reconciler.daemon.reload import heads
from reconciler.daemon.statuses import STATUSES
from reconciler.repositories import Signatures
from reconciler.sandbox.forge import ME, ForgeEmulator, Proposal
from reconciler.sandbox.remote import Remote
from reconciler.sandbox.server import Fault
from reconciler.settings import SINGLE, Settings
from reconciler.state import Store
from tests.unit.core.memory import STACK, thing
from tests.unit.daemon.house import GOOD, House


@dataclass
class Upstream:
    """A repository with one stack, and its forge."""

    name: str
    remote: Remote
    forge: ForgeEmulator

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=owner", "-c", "user.email=owner@example.org"]
        return subprocess.run(["git", *who, *arguments], cwd=self.remote.work, capture_output=True, text=True, check=True).stdout.strip()

    def write(self, text: str) -> None:
        folder = self.remote.work / "desired" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "stack.yaml").write_text(STACK.replace("name: test", f"name: {self.name}"))
        (folder / "all.yaml").write_text(text)

    def push(self, text: str) -> str:
        self.write(text)
        return self.remote.push("a change")

    def propose(self, number: int, text: str, refs: str) -> str:
        """Open a pull request."""
        self.git("checkout", "--quiet", "-B", f"topic-{number}", "origin/main")
        self.write(text)
        self.git("commit", "--quiet", "--all", "--message", "a proposal")
        head = self.git("rev-parse", "HEAD")
        self.git("push", "--quiet", "origin", f"HEAD:{refs.replace('*', str(number))}")
        self.git("checkout", "--quiet", "-B", "main", "origin/main")
        self.forge.proposals[number] = Proposal(number, head, "ada")
        return head

    def comments(self, number: int) -> list[str]:
        return [one.body for one in self.forge.proposals[number].notes if one.author == ME]


class Site(House):
    """A daemon that follows two repositories."""

    def __init__(self, folder: Path, forges: list[ForgeEmulator]) -> None:
        folder.joinpath("mail").mkdir()
        folder.joinpath("web").mkdir()
        self.mail, self.web = (Upstream(name, Remote(folder / name), forge) for name, forge in zip(("mail", "web"), forges, strict=True))
        super().__init__(folder)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.store.close()
        settings = self.told_to(self.mail.forge, self.web.forge)
        self.store = Store(self.folder / "state.db", news=recorder(settings))
        self.daemon = self.make()
        self.daemon.workshop.settings = settings
        self.daemon.workshop.clock = Clock()  # desks are threads and wait
        self.daemon.head, self.daemon.owners = Heads(heads(settings)), Owners()
        self.reception = Reception(self.daemon.workshop, self.store, self.daemon.owners.of)

    def told_to(self, mail: ForgeEmulator | None, web: ForgeEmulator | None) -> Settings:
        """The settings, with the forges that the two repositories have."""

        def repository(upstream: Upstream, forge: ForgeEmulator | None) -> dict[str, Any]:
            own = {"forge": forge.settings(), "pull_requests": True} if forge is not None else {}
            return {"url": upstream.remote.url, "poll": 1, **own}

        followed = {"mail": repository(self.mail, mail), "web": repository(self.web, web)}
        made = Settings(
            repositories=followed,  # type: ignore[arg-type]  # as the file gives them
            state={"path": str(self.folder / "state.db")},  # type: ignore[arg-type]  # as above
        )
        return made.model_copy(update={"targets": {"mem": {"system": self.system}}})

    def follow(self) -> None:
        """Look at both repositories, and make every pass that is asked for."""
        self.daemon.head.poke()
        newest = {one.name: one.git("rev-parse", "origin/main") for one in (self.mail, self.web)}
        until(lambda: self.daemon.look() and self.known() == newest, "both commits")
        self.passes()

    def known(self) -> dict[str, str]:
        return {name: force.desired.revision.commit for name, force in self.daemon.force.items()}


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    forges = [ForgeEmulator("github"), ForgeEmulator("gitlab")]
    for forge in forges:
        forge.start()
    made = Site(tmp_path, forges)
    yield made
    made.reception.close()
    made.store.close()
    for forge in forges:
        forge.stop()


def test_each_forge_is_told_of_the_commits_of_its_own_repository(site: Site) -> None:
    mail, web = site.mail.push(GOOD), site.web.push(thing("w"))
    site.follow()
    site.reception.look()
    until(lambda: site.mail.forge.shown(mail) and site.web.forge.shown(web), "both statuses")
    assert site.mail.forge.shown(mail) == {"reconciler/mail": "success"}
    assert site.web.forge.shown(web) == {"reconciler/web": "success"}
    assert site.mail.forge.shown(web) == site.web.forge.shown(mail) == {}


def test_a_status_whose_repository_nobody_wrote_down_goes_to_that_of_its_stack(site: Site) -> None:
    mail, web = site.mail.push(GOOD), site.web.push(thing("w"))
    site.follow()
    with site.store.transaction() as connection:
        connection.execute(sa.update(STATUSES).values(source=""))
    site.reception.look()
    until(lambda: site.mail.forge.shown(mail) and site.web.forge.shown(web), "both statuses")
    assert site.mail.forge.shown(web) == site.web.forge.shown(mail) == {}


def test_a_commit_that_touches_a_stack_of_another_repository_is_refused_where_the_commit_is(site: Site) -> None:
    mail = site.mail.push(GOOD)
    web = site.web.push(thing("w"))
    site.follow()
    site.web.write(thing("w"))
    folder = site.web.remote.work / "desired" / "mail"
    folder.mkdir()
    (folder / "stack.yaml").write_text(STACK.replace("name: test", "name: mail"))
    (folder / "all.yaml").write_text(thing("stolen"))
    second = site.web.remote.push("a stack that is another's")
    site.daemon.head.poke()
    until(lambda: site.daemon.look() and site.known()["web"] == second, "the commit")
    site.passes()
    site.reception.look()
    until(lambda: len(site.web.forge.shown(second)) == 2 and site.mail.forge.shown(mail), "both statuses of it")
    assert site.web.forge.shown(second) == {"reconciler/web": "success", "reconciler/mail": "failed"}
    (said,) = [str(one["description"]) for one in site.web.forge.statuses if (one["sha"], one["state"]) == (second, "failed")]
    assert "the repositories mail and web both have a stack of this name, and mail had it first" in said
    assert site.mail.forge.shown(second) == {}
    assert site.mail.forge.shown(mail) == {"reconciler/mail": "success"}
    assert site.web.forge.shown(web) == {"reconciler/web": "success"}
    assert site.known()["mail"] == mail


def test_pull_requests_with_one_number_are_planned_each_in_its_repository(site: Site) -> None:
    site.mail.push(GOOD)
    site.web.push(thing("w"))
    site.follow()
    site.mail.propose(7, GOOD + thing("more"), client(site.daemon.workshop.settings.forges()["mail"]).refs)
    site.web.propose(7, thing("w") + thing("other"), client(site.daemon.workshop.settings.forges()["web"]).refs)
    site.reception.look()
    until(lambda: site.mail.comments(7) and site.web.comments(7), "both comments")
    assert "mem/Thing/more" in site.mail.comments(7)[0]
    assert "mem/Thing/other" not in site.mail.comments(7)[0]
    assert "mem/Thing/other" in site.web.comments(7)[0]
    assert set(site.system.objects) == {"Thing/a", "Thing/w"}, "a plan writes nothing"


def test_a_desk_neither_shows_nor_touches_what_another_repository_planned_under_the_same_number(site: Site) -> None:
    site.mail.push(GOOD)
    site.web.push(thing("w"))
    site.follow()
    theirs = {
        "source": "web",
        "number": 7,
        "head": "h",
        "base": "b",
        "body": "of web",
        "state": "success",
        "comment": "9",
        "shown": "",
        "at": "",
    }
    with site.store.transaction() as connection:
        connection.execute(sa.insert(PULLS), theirs)
    site.daemon.workshop.settings = site.told_to(site.mail.forge, None)
    site.mail.propose(7, GOOD + thing("more"), client(site.daemon.workshop.settings.forges()["mail"]).refs)
    site.reception.look()
    until(lambda: site.mail.comments(7), "the comment")
    site.reception.close()
    (said,) = site.mail.comments(7)
    assert "of web" not in said
    with site.store.transaction() as connection:
        (row,) = connection.execute(sa.select(PULLS).where(PULLS.c.source == "web"))
    assert dict(row._mapping) == theirs


def test_a_pull_request_whose_commits_would_be_refused_says_so_beside_its_plan(site: Site) -> None:
    site.mail.push(GOOD)
    site.web.push(thing("w"))
    site.follow()
    settings = site.daemon.workshop.settings
    strict = {"policy": "strict", "allowed_signers": site.folder / "signers", "since": site.mail.git("rev-parse", "HEAD")}
    (site.folder / "signers").write_text("")
    followed = settings.repositories["mail"].model_copy(update={"signatures": Signatures(**strict)})
    site.daemon.workshop.settings = settings.model_copy(update={"repositories": {**settings.repositories, "mail": followed}})
    head = site.mail.propose(7, GOOD + thing("more"), client(settings.forges()["mail"]).refs)
    site.reception.look()
    until(lambda: site.mail.comments(7), "the comment")
    (said,) = site.mail.comments(7)
    assert "### Not ready: its commits would be refused" in said
    assert f"commit {head[:12]}" in said
    assert "mem/Thing/more" in said, "and what it would do"
    until(lambda: site.mail.forge.shown(head).get("reconciler/plan") == "failure", "the status")


def test_where_only_the_head_must_be_signed_a_pull_request_says_what_becomes_of_its_newest_commit(site: Site) -> None:
    site.mail.push(GOOD)
    site.web.push(thing("w"))
    site.follow()
    settings = site.daemon.workshop.settings
    (site.folder / "signers").write_text("")
    signed = Signatures(policy="head", allowed_signers=site.folder / "signers")
    followed = settings.repositories["mail"].model_copy(update={"signatures": signed})
    site.daemon.workshop.settings = settings.model_copy(update={"repositories": {**settings.repositories, "mail": followed}})
    refs = client(settings.forges()["mail"]).refs
    head = site.mail.propose(7, GOOD + thing("more"), refs)
    site.reception.look()
    until(lambda: site.mail.comments(7), "the comment")
    (said,) = site.mail.comments(7)
    assert "### What would change: 1 to create" in said, "it may be merged: the merge is what must be signed"
    assert f"Fast-forwarded, its newest commit would be refused: `commit {head[:12]}: by owner <owner@example.org>" in said
    assert "is not signed" in said
    assert "a merge, a squash or a rebase makes must itself be signed by a key that counts" in said
    until(lambda: site.mail.forge.shown(head).get("reconciler/plan") == "success", "the status")
    site.mail.push(GOOD + thing("other"))
    until(lambda: "It cannot be fast-forwarded" in site.mail.comments(7)[0], "what counts when the branch has moved on")
    assert "would be refused" not in site.mail.comments(7)[0]


def test_a_forge_that_is_gone_keeps_no_other_waiting(site: Site) -> None:
    site.mail.forge.stop()
    site.mail.push(GOOD)
    web = site.web.push(thing("w"))
    site.follow()
    site.reception.look()
    until(lambda: site.web.forge.shown(web), "the status in the other")


def test_a_forge_that_the_settings_name_later_is_told_and_one_they_name_no_more_is_not(site: Site) -> None:
    site.daemon.workshop.settings = site.told_to(site.mail.forge, None)
    site.store.news = recorder(site.daemon.workshop.settings)
    mail, web = site.mail.push(GOOD), site.web.push(thing("w"))
    site.follow()
    site.reception.look()
    until(lambda: site.mail.forge.shown(mail), "the status in the first")
    assert site.web.forge.shown(web) == {}
    site.daemon.workshop.settings = site.told_to(None, site.web.forge)
    site.reception.look()
    until(lambda: site.web.forge.shown(web), "the status in the second")
    second = site.mail.push(GOOD + thing("b"))
    site.follow()
    assert site.store.runs("mail")[0]["revision"] == second
    site.reception.look()
    time.sleep(1.5)
    assert site.mail.forge.shown(second) == {}


def test_a_repository_that_is_taken_out_of_the_settings_is_followed_no_more_and_said_once(site: Site) -> None:
    site.mail.push(GOOD)
    site.web.push(thing("w"))
    site.follow()
    site.told()
    site.system.objects["Thing/w"].content["text"] = "meddled"
    site.daemon.leave("web")
    assert set(site.daemon.force) == {"mail"}
    assert site.told() == [
        "repository web: the repository was taken out of the settings; its stacks are followed no more, and nothing of them is deleted"
    ]
    site.daemon.queue.request("web", "resync")
    assert site.passes() == ["web"]
    assert site.system.objects["Thing/w"].content["text"] == "meddled"
    assert set(site.system.objects) == {"Thing/a", "Thing/w"}
    assert site.told() == []


def test_drift_of_what_is_followed_no_more_is_open_no_more(site: Site) -> None:
    site.mail.push(GOOD)
    site.web.push(thing("w"))
    site.follow()
    site.system.objects["Thing/w"].content["text"] = "meddled"
    site.system.on_write = [PermissionError("no")] * 9  # type: ignore[list-item]  # whatever it is, it cannot be written
    site.time.seconds += 400
    site.passes()
    assert site.store.drifts("web")
    site.daemon.leave("web")
    assert site.store.drifts("web") == []


def working(name: str) -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == f"forge {name}"]


def test_a_desk_that_dies_is_opened_again_after_a_while_and_the_others_go_on(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    now, broken = [1000.0], [True]

    def wait(stop: Event, seconds: float) -> bool:
        if broken[0] and threading.current_thread().name == "forge mail":
            raise OverflowError("canary")
        return stop.wait(seconds)

    site.daemon.workshop.clock = site.reception.workshop.clock = Clock(monotonic=lambda: now[0], wait=wait)
    mail, web = site.mail.push(GOOD), site.web.push(thing("w"))
    site.follow()
    site.reception.look()
    until(lambda: not working("mail"), "it dies")
    assert "bug: nobody speaks with the forge of mail for 30 s: OverflowError" in caplog.text
    until(lambda: site.web.forge.shown(web), "the status in the other")
    broken[0] = False
    now[0] += 29
    site.reception.look()
    now[0] += 29
    site.reception.look()
    assert working("mail") == [], "not every second: what is broken would fill the log"
    now[0] += 2
    site.reception.look()
    until(lambda: site.mail.forge.shown(mail), "the status in the first, at last")
    site.reception.look()
    assert (len(working("mail")), len(working("web"))) == (1, 1), "one that lives is left alone"


def test_a_desk_that_cannot_be_opened_keeps_no_other_from_it(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    site.daemon.workshop.clock = Clock(monotonic=lambda: now[0])
    mail, web = site.mail.push(GOOD), site.web.push(thing("w"))
    site.follow()
    settings = site.daemon.workshop.settings
    wrong = {**settings.repositories, "mail": settings.repositories["mail"].model_copy(update={"branch": "no..branch"})}
    site.daemon.workshop.settings = settings.model_copy(update={"repositories": wrong})
    for _ in range(2):
        site.reception.look()
    assert caplog.text.count("the forge of mail is told nothing, and is tried again in 30 s") == 1
    assert "no..branch" in caplog.text
    until(lambda: site.web.forge.shown(web), "the status in the other")
    site.daemon.workshop.settings = settings
    now[0] += 31
    site.reception.look()
    until(lambda: site.mail.forge.shown(mail), "the status in the first, at last")


def test_a_desk_whose_settings_change_makes_room_for_its_next_one_and_is_waited_for_at_the_end(site: Site) -> None:
    site.mail.push(GOOD)
    site.web.push(thing("w"))
    site.follow()
    slow = Fault("latency", times=1, seconds=3)
    site.mail.forge.faults.active.append(slow)
    site.reception.look()
    until(lambda: slow not in site.mail.forge.faults.active, "it waits for its forge")
    (old,) = working("mail")
    site.daemon.workshop.settings = site.told_to(site.web.forge, None)
    site.reception.look()
    (new,) = [one for one in working("mail") if one is not old]
    assert old.is_alive()
    assert new.is_alive()
    site.reception.look()
    assert len(working("mail")) == 2, "the next one is opened once"
    site.reception.close()
    assert working("mail") == working("web") == []


def test_a_desk_is_opened_anew_when_its_repository_changes_in_the_settings(site: Site) -> None:
    site.mail.push(GOOD)
    site.web.push(thing("w"))
    site.follow()
    site.reception.look()
    mail, web = working("mail"), working("web")
    settings = site.daemon.workshop.settings
    moved = {**settings.repositories, "mail": settings.repositories["mail"].model_copy(update={"timeout": 7.0})}
    site.daemon.workshop.settings = settings.model_copy(update={"repositories": moved})
    site.reception.look()
    until(lambda: not mail[0].is_alive(), "the end of the old one")
    assert len(working("mail")) == 1
    assert working("web") == web


def test_each_repository_is_read_for_its_desk_in_a_mirror_of_its_own(site: Site) -> None:
    settings = site.daemon.workshop.settings
    mirrors = {proposals(settings, name, settings.repositories["mail"]).mirror for name in ("mail", "web", SINGLE)}
    assert len(mirrors) == 3, "also where two follow branches of one address"


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        (
            {"repositories": {"a": {"url": "https://x/y", "pull_requests": True}}},
            "repositories.a.pull_requests is set, but there is no forge to ask",
        ),
        (
            {"repository": {"url": "https://x/y", "pull_requests": True}},
            "repository.pull_requests is set, but there is no forge to ask; set forge.kind",
        ),
        (
            {"repositories": {"a": {"url": "https://x/y", "forge": {"kind": "github", "url": "https://x", "token": "t"}}}},
            "repositories.a.forge.repository: is missing",
        ),
        (
            {"repository": {"url": "https://x/y"}, "forge": {"kind": "github", "url": "https://x", "token": "t"}},
            "forge.repository: is missing",
        ),
    ],
)
def test_settings_of_which_no_forge_can_be_made_are_refused(sections: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Settings(**sections)


def test_what_a_repository_says_of_its_forge_goes_before_what_all_share() -> None:
    shared = {"kind": "gitea", "url": "https://git.example.org/api/v1", "token": "t", "authors": ["ada"]}
    settings = Settings(
        forge=shared,  # type: ignore[arg-type]  # as the file gives them
        repositories={"a": {"url": "https://x/a", "forge": {"repository": "me/a"}}, "b": {"url": "https://x/b"}},  # type: ignore[arg-type]  # as above
    )
    found = settings.forges()
    assert set(found) == {"a"}, "b has no name there"
    assert (found["a"].kind, found["a"].repository, found["a"].authors) == ("gitea", "me/a", ("ada",))

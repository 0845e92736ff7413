"""Which commits are trusted: real keys of gpg and ssh-keygen, and git's own verdict."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reconciler.daemon.heads import GitHead
from reconciler.errors import SourceError, Untrusted
from reconciler.proposals import ProposalSource
from reconciler.signatures import SignaturePolicy
from reconciler.source import GitSource
from tests.unit.test_source import Upstream

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")
WITH_GPG = pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not installed")


def ssh_key(folder: Path, name: str) -> Path:
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)], check=True)
    return key


class Team:
    """A repository whose people sign, and the file that says whose signature counts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.upstream = Upstream(root / "upstream")
        self.ada, self.eve = ssh_key(root, "ada"), ssh_key(root, "eve")
        self.signers = root / "allowed_signers"
        self.allow(self.ada)

    def allow(self, *keys: Path) -> None:
        self.signers.write_text("".join(f"{key.name}@example.org {key.with_suffix('.pub').read_text()}" for key in keys))

    def commit(self, subject: str, *, key: Path | None = None) -> str:
        files = {f"desired/mail/{subject}.yaml": subject.encode()}
        if key is None:
            return self.upstream.commit(subject, files)
        self.upstream.git("config", "gpg.format", "ssh")
        self.upstream.git("config", "user.signingKey", str(key))
        self.upstream.git("config", "commit.gpgSign", "true")
        try:
            return self.upstream.commit(subject, files)
        finally:
            self.upstream.git("config", "commit.gpgSign", "false")

    def source(self, mode: Any, **more: Any) -> GitSource:
        policy = SignaturePolicy(mode, **{"allowed_signers": self.signers, **more})
        return GitSource(self.upstream.url, directory=self.root / "cache", allow_file=True, signatures=policy)


@pytest.fixture
def team(tmp_path: Path) -> Team:
    return Team(tmp_path)


def refused(source: GitSource) -> list[str]:
    commit = source.fetch()
    with pytest.raises(Untrusted) as caught:
        source.read(commit)
    return [f"{one.file}: {one.message}" for one in caught.value.problems]


class TestSsh:
    def test_a_signed_head_is_taken_whatever_lies_below_it(self, team: Team) -> None:
        team.commit("signed", key=team.ada)
        source = team.source("head")
        assert source.read(source.fetch()).signed == "ssh"

    def test_an_unsigned_head_is_refused_with_its_author(self, team: Team) -> None:
        team.commit("signed", key=team.ada)
        commit = team.commit("sneaky")
        [said] = refused(team.source("head"))
        assert said.startswith(f"commit {commit[:12]}: by Ada <ada@example.org> (sneaky) is not signed; sign it")

    def test_the_signature_of_somebody_else_is_refused_with_the_key(self, team: Team) -> None:
        commit = team.commit("by eve", key=team.eve)
        [said] = refused(team.source("head"))
        assert said.startswith(
            f"commit {commit[:12]}: by Ada <ada@example.org> (by eve) is signed with a key that nobody vouches for (SHA256:"
        )

    def test_without_a_file_of_signers_no_ssh_signature_counts(self, team: Team) -> None:
        team.commit("signed", key=team.ada)
        assert refused(team.source("head", allowed_signers=None))

    def test_a_file_of_signers_inside_the_repository_means_nothing(self, team: Team) -> None:
        inside = f"eve@example.org {team.eve.with_suffix('.pub').read_text()}".encode()
        team.upstream.commit("my own key", {"allowed_signers": inside, ".gitconfig": b"[gpg.ssh]\nallowedSignersFile=allowed_signers\n"})
        team.commit("by eve", key=team.eve)
        assert refused(team.source("head"))

    def test_a_commit_that_was_changed_after_it_was_signed_is_refused(self, team: Team) -> None:
        commit = team.commit("signed", key=team.ada)
        content = team.upstream.git("cat-file", "commit", commit).replace("signed", "forged")
        forged = team.upstream.git("hash-object", "-t", "commit", "-w", "--stdin", data=f"{content}\n".encode())
        team.upstream.git("update-ref", "refs/heads/main", forged)
        [said] = refused(team.source("head"))
        assert "carries a signature that does not fit it" in said

    def test_a_text_that_claims_to_be_a_good_signature_is_none(self, team: Team) -> None:
        team.commit('Good "git" signature for ada@example.org with ED25519 key')
        assert "is not signed" in refused(team.source("head"))[0]

    def test_a_new_key_counts_as_soon_as_the_file_has_it(self, team: Team) -> None:
        team.commit("by eve", key=team.eve)
        source = team.source("head")
        refused(source)
        team.allow(team.ada, team.eve)
        assert source.read(source.fetch())

    def test_none_asks_for_nothing(self, team: Team) -> None:
        source = team.source("none")
        assert source.read(source.fetch())


class TestStrict:
    def test_every_commit_since_the_last_trusted_one_must_be_signed(self, team: Team) -> None:
        since = team.upstream.git("rev-parse", "HEAD")
        team.commit("one", key=team.ada)
        source = team.source("strict", since=since)
        assert source.read(source.fetch())
        bad = [team.commit("two"), team.commit("three", key=team.eve)]
        team.commit("four", key=team.ada)
        said = refused(source)
        assert [one.split(":")[0] for one in said] == sorted(f"commit {one[:12]}" for one in bad)
        assert refused(source) == said, "it is not trusted because it was looked at before"

    def test_what_was_merged_from_a_branch_counts_too(self, team: Team) -> None:
        since = team.upstream.git("rev-parse", "HEAD")
        team.upstream.git("switch", "--quiet", "-c", "side")
        bad = team.commit("side")
        team.upstream.git("switch", "--quiet", "main")
        team.commit("one", key=team.ada)
        team.upstream.git("merge", "--quiet", "--no-ff", "--gpg-sign", "-m", "merge", "side")
        assert [one.split(":")[0] for one in refused(team.source("strict", since=since))] == [f"commit {bad[:12]}"]

    def test_without_a_beginning_all_of_history_must_be_signed(self, team: Team) -> None:
        team.commit("one", key=team.ada)
        assert ["(first) is not signed" in one for one in refused(team.source("strict"))] == [True]

    def test_what_is_trusted_is_remembered_over_a_restart(self, team: Team) -> None:
        since = team.upstream.git("rev-parse", "HEAD")
        team.commit("one", key=team.ada)
        source = team.source("strict", since=since)
        source.read(source.fetch())
        team.allow(team.eve)
        team.commit("two", key=team.eve)
        again = team.source("strict", since=since)
        assert again.read(again.fetch()), "the key of the older commit need not count for ever"

    def test_what_was_trusted_stays_so_when_its_key_is_taken_away(self, team: Team) -> None:
        since = team.upstream.git("rev-parse", "HEAD")
        commit = team.commit("one", key=team.ada)
        source = team.source("strict", since=since)
        source.read(source.fetch())
        team.allow(team.eve)
        again = team.source("strict", since=since)
        assert again.read(commit)
        team.commit("two", key=team.ada)
        assert "nobody vouches for" in refused(again)[0]

    def test_reading_an_older_commit_does_not_move_the_trust_back(self, team: Team) -> None:
        since = team.upstream.git("rev-parse", "HEAD")
        first = team.commit("one", key=team.ada)
        team.commit("two", key=team.ada)
        source = team.source("strict", since=since)
        source.read(source.fetch())
        source.read(first)
        team.allow(team.eve)
        team.commit("three", key=team.eve)
        assert source.read(source.fetch())

    def test_a_force_push_onto_unsigned_commits_is_refused(self, team: Team) -> None:
        since = team.upstream.git("rev-parse", "HEAD")
        team.commit("one", key=team.ada)
        source = team.source("strict", since=since)
        source.read(source.fetch())
        team.upstream.git("reset", "--quiet", "--hard", since)
        team.commit("other")
        assert "(other) is not signed" in refused(source)[0]
        assert source.rewritten

    def test_many_bad_commits_are_counted(self, team: Team) -> None:
        for number in range(14):
            team.commit(f"number{number}")
        said = refused(team.source("strict", since=team.upstream.git("rev-parse", "HEAD~14")))
        assert len(said) == 11
        assert any("and 4 more that are not trusted" in one for one in said)

    def test_a_beginning_that_does_not_exist_is_said(self, team: Team) -> None:
        team.commit("one", key=team.ada)
        source = team.source("strict", since="1" * 40)
        commit = source.fetch()
        with pytest.raises(SourceError, match=r"signatures\.since names 111111111111, which is no commit of this repository"):
            source.read(commit)
        assert not source.mirror.with_suffix(".broken").exists(), "that is no damage of the mirror"

    def test_a_head_that_is_not_trusted_is_said_once_and_the_next_good_one_taken(self, team: Team) -> None:
        team.commit("one")
        head = GitHead(team.source("head"), "desired", 60)
        with pytest.raises(Untrusted):
            head.changed()
        assert head.changed() is None
        team.commit("two", key=team.ada)
        assert head.changed() is not None

    def test_after_a_restart_the_last_trusted_commit_is_in_force_while_a_newer_one_is_not_trusted(self, team: Team) -> None:
        good = team.commit("one", key=team.ada)
        source = team.source("head")
        source.read(source.fetch())
        team.commit("two")
        head = GitHead(team.source("head"), "desired", 60)
        with pytest.raises(Untrusted):
            head.changed()
        given = head.changed()
        assert given is not None
        assert (given.revision.commit, given.older) == (good, True)
        assert head.changed() is None
        team.commit("three", key=team.ada)
        given = head.changed()
        assert given is not None
        assert not given.older


class Ring:
    """A keyring with two people in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, root / "home"
        self.home.mkdir(mode=0o700)
        for who in ("ada@example.org", "eve@example.org"):
            self.run(
                "--homedir",
                str(self.home),
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
                "--quick-gen-key",
                who,
                "ed25519",
                "sign",
                "never",
            )

    def run(self, *arguments: str) -> bytes:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root)}
        return subprocess.run(["gpg", "--batch", "--quiet", *arguments], env=environment, capture_output=True, check=True).stdout

    def exported(self, who: str) -> Path:
        file = self.root / f"{who}.asc"
        file.write_bytes(self.run("--homedir", str(self.home), "--export", "--armor", who))
        return file

    def commit(self, team: Team, subject: str, who: str) -> str:
        program = self.root / "gpg-here"
        program.write_text(f'#!/bin/sh\nexec gpg --homedir {self.home} "$@"\n')
        program.chmod(0o755)
        team.upstream.git("config", "gpg.format", "openpgp")
        team.upstream.git("config", "gpg.program", str(program))
        git: Callable[..., str] = team.upstream.git
        (team.upstream.path / f"desired/mail/{who}.yaml").write_text(subject)
        git("add", "--all")
        git("commit", "--quiet", f"--gpg-sign={who}", "-m", subject)
        return git("rev-parse", "HEAD")

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    made = Ring(tmp_path_factory.mktemp("gpg"))
    yield made
    made.close()


@WITH_GPG
class TestGpg:
    def test_a_key_of_the_file_counts_and_another_does_not(self, team: Team, ring: Ring) -> None:
        commit = ring.commit(team, "by ada", "ada@example.org")
        source = team.source("head", gpg_keys=ring.exported("ada@example.org"))
        assert source.read(commit if source.fetch() == commit else "").signed == "openpgp"
        ring.commit(team, "by eve", "eve@example.org")
        [said] = refused(source)
        assert "is signed with a key that is not known here (" in said

    def test_without_keys_no_openpgp_signature_counts_even_when_our_own_keyring_knows_it(
        self, team: Team, ring: Ring, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GNUPGHOME", str(ring.home))
        ring.commit(team, "by ada", "ada@example.org")
        assert refused(team.source("head"))

    def test_in_a_keyring_the_trust_that_it_records_decides(self, team: Team, ring: Ring) -> None:
        ring.commit(team, "by ada", "ada@example.org")
        home = team.root / "ring"
        home.mkdir(mode=0o700)
        ring.run("--homedir", str(home), "--import", str(ring.exported("ada@example.org")))
        source = team.source("head", gnupg_home=home)
        assert "nobody vouches for" in refused(source)[0]
        (home / "gpg.conf").write_text("trust-model always\n")
        assert source.read(source.fetch())

    def test_keys_that_cannot_be_read_are_named(self, team: Team, ring: Ring, tmp_path: Path) -> None:
        commit = ring.commit(team, "by ada", "ada@example.org")
        bad = tmp_path / "keys"
        bad.write_text("nothing")
        source = team.source("head", gpg_keys=bad)
        source.fetch()
        with pytest.raises(SourceError, match=r"keys: gpg cannot read the keys; export them"):
            source.read(commit)
        gone = team.source("head", gnupg_home=tmp_path / "gone")
        with pytest.raises(SourceError, match="gone: the keyring does not exist"):
            gone.read(commit)


class TestAProposal:
    @pytest.fixture
    def proposed(self, team: Team) -> tuple[ProposalSource, str, str]:
        """Where proposals are read, the branch, and a proposal of which one of two commits is signed."""
        base = team.commit("base", key=team.ada)
        team.upstream.git("checkout", "--quiet", "-b", "topic")
        team.commit("sneaky")
        head = team.commit("signed", key=team.ada)
        team.upstream.git("checkout", "--quiet", "main")
        source = ProposalSource(team.upstream.url, "main", team.root / "proposals", allow_file=True)
        assert source.fetch() == base
        assert source.bring("refs/heads/topic") == head
        return source, base, head

    def test_is_told_beforehand_which_of_its_commits_would_be_refused(self, team: Team, proposed: tuple[ProposalSource, str, str]) -> None:
        source, base, head = proposed
        (said,) = source.doubts(base, head, SignaturePolicy("strict", allowed_signers=team.signers))
        assert "by Ada <ada@example.org> (sneaky) is not signed" in said

    def test_is_told_of_its_newest_commit_alone_where_only_the_head_counts(
        self, team: Team, proposed: tuple[ProposalSource, str, str]
    ) -> None:
        source, base, head = proposed
        assert source.doubts(base, head, SignaturePolicy("head", allowed_signers=team.signers)) == ()
        team.allow(team.eve)
        (said,) = source.doubts(base, head, SignaturePolicy("head", allowed_signers=team.signers))
        assert f"commit {head[:12]}: by Ada <ada@example.org> (signed) is signed with a key that nobody vouches for" in said

    def test_is_told_nothing_where_nobody_need_sign(self, team: Team, proposed: tuple[ProposalSource, str, str]) -> None:
        source, base, head = proposed
        assert source.doubts(base, head, SignaturePolicy("none")) == ()

    def test_waits_for_whoever_else_has_the_mirror(self, proposed: tuple[ProposalSource, str, str]) -> None:
        source, base, head = proposed
        with source.mirror.with_suffix(".lock").open("w") as guard, ThreadPoolExecutor(1) as pool:
            fcntl.flock(guard, fcntl.LOCK_EX)
            brought = pool.submit(source.bring, "refs/heads/topic")
            with pytest.raises(TimeoutError):
                brought.result(0.3)
            fcntl.flock(guard, fcntl.LOCK_UN)
            assert brought.result(20) == head
        assert source.merged(base, head) == head

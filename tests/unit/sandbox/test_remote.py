"""The demo's repository: what the owner pushes is what a daemon fetches."""

from pathlib import Path

import pytest

from reconciler.errors import SourceError
from reconciler.sandbox.remote import Remote
from reconciler.source import GitSource

FILE = "desired/mail/dns.yaml"


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    (tmp_path / "seed/mail").mkdir(parents=True)
    (tmp_path / "seed/mail/dns.yaml").write_text("ttl: 300\n")
    (tmp_path / "world").mkdir()
    made = Remote(tmp_path / "world")
    made.copy(tmp_path / "seed", "desired")
    made.push("first")
    return made


@pytest.fixture
def source(remote: Remote, tmp_path: Path) -> GitSource:
    return GitSource(remote.url, "main", tmp_path / "cache", allow_file=True)


def test_what_is_pushed_is_what_is_fetched(remote: Remote, source: GitSource) -> None:
    commit = source.fetch()
    assert commit == remote.head()
    revision = source.read(commit)
    assert revision.tree == {FILE: b"ttl: 300\n"}
    assert (revision.subject, revision.author.partition(" <")[0]) == ("first", "owner")


def test_an_edit_is_seen_when_it_is_pushed_and_not_before(remote: Remote, source: GitSource) -> None:
    first = source.head()
    remote.edit(FILE, lambda text: text.replace("300", "60"))
    assert source.head() == first
    second = remote.push("lower the ttl")
    assert source.fetch() == second != first
    assert source.read(second).tree[FILE] == b"ttl: 60\n"
    assert not source.rewritten


def test_an_edit_that_finds_nothing_to_change_is_an_error(remote: Remote) -> None:
    with pytest.raises(SourceError, match="the edit found nothing to change"):
        remote.edit(FILE, lambda text: text.replace("400", "60"))


def test_a_revert_brings_back_the_files_in_a_commit_of_its_own(remote: Remote, source: GitSource) -> None:
    remote.edit(FILE, lambda text: text.replace("300", "60"))
    second = remote.push("lower the ttl")
    third = remote.revert("take it back")
    assert third != second
    assert source.fetch() == third
    revision = source.read(third)
    assert (revision.tree[FILE], revision.subject) == (b"ttl: 300\n", "take it back")
    assert not source.rewritten

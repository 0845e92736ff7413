"""A damaged mirror is fetched again beside itself; nothing that was known of history is lost with it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import SourceError
from reconciler.source import GitSource
from tests.unit.test_source import Upstream


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    made = Upstream(tmp_path / "upstream")
    for number in range(3):
        made.commit(f"number {number}", {f"desired/mail/{number}.yaml": b"kind: DNSRecord\n" * (number + 1)})
    return made


@pytest.fixture
def source(upstream: Upstream, tmp_path: Path) -> GitSource:
    return GitSource(upstream.url, "main", tmp_path / "cache", allow_file=True, timeout=20)


def packed(mirror: Path) -> Path:
    subprocess.run(["git", "repack", "-adq"], cwd=mirror, check=True)
    [pack] = mirror.glob("objects/pack/*.pack")
    pack.chmod(0o644)
    return pack


def loose(mirror: Path) -> Path:
    """The object of the newest commit, unpacked."""
    pack = packed(mirror)
    aside = mirror.parent / "aside.pack"
    pack.rename(aside)
    for one in mirror.glob("objects/pack/*"):
        one.unlink()
    subprocess.run(["git", "unpack-objects", "-q"], cwd=mirror, input=aside.read_bytes(), check=True)
    head = (mirror / "refs/heads/main").read_text().strip()
    found = mirror / "objects" / head[:2] / head[2:]
    found.chmod(0o644)
    return found


def cut_pack(mirror: Path) -> None:
    pack = packed(mirror)
    pack.write_bytes(pack.read_bytes()[:60])


def scribble_in_pack(mirror: Path) -> None:
    pack = packed(mirror)
    content = bytearray(pack.read_bytes())
    content[30:90] = os.urandom(60)
    pack.write_bytes(content)


def lose_pack(mirror: Path) -> None:
    packed(mirror).unlink()


def empty_commit(mirror: Path) -> None:
    loose(mirror).write_bytes(b"")


def garbled_commit(mirror: Path) -> None:
    loose(mirror).write_bytes(b"garbage")


def empty_ref(mirror: Path) -> None:
    (mirror / "refs/heads/main").write_bytes(b"")


def garbled_head(mirror: Path) -> None:
    (mirror / "HEAD").write_bytes(b"\0\0\0")


def garbled_config(mirror: Path) -> None:
    (mirror / "config").write_bytes(b"[[[")


DAMAGE = [cut_pack, scribble_in_pack, lose_pack, empty_commit, garbled_commit, empty_ref, garbled_head, garbled_config]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_mirror_is_made_anew_when_it_is_fetched_and_read(
    upstream: Upstream, source: GitSource, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    wanted = source.read(source.fetch()).tree
    damage(source.mirror)
    assert source.read(source.fetch()).tree == wanted
    upstream.commit("next", {"desired/mail/next.yaml": b"x"})
    assert set(source.read(source.fetch()).tree) == {*wanted, "desired/mail/next.yaml"}
    assert not source.rewritten
    if damage is not empty_ref:  # which git takes for a ref that is not there, and fetches
        assert "has been fetched anew" in caplog.text
        assert source.mirror.with_suffix(".broken").is_dir()


@pytest.mark.parametrize("damage", [cut_pack, lose_pack, garbled_config])
def test_a_push_that_rewrites_history_is_noticed_over_a_damaged_mirror(
    upstream: Upstream, source: GitSource, damage: Callable[[Path], None]
) -> None:
    source.fetch()
    damage(source.mirror)
    upstream.git("commit", "--quiet", "--amend", "-m", "rewritten")
    source.fetch()
    assert source.rewritten


def test_a_damaged_mirror_stays_while_the_server_cannot_be_reached(upstream: Upstream, source: GitSource) -> None:
    wanted = source.read(source.fetch()).tree
    cut_pack(source.mirror)
    upstream.path.rename(upstream.path.with_name("away"))
    with pytest.raises(SourceError, match="upstream"):
        source.read(source.fetch())
    assert not source.mirror.with_suffix(".broken").exists()
    upstream.path.with_name("away").rename(upstream.path)
    assert source.read(source.fetch()).tree == wanted


def test_what_the_server_says_of_its_own_files_is_no_reason_to_fetch_all_again(upstream: Upstream, source: GitSource) -> None:
    before = source.fetch()
    upstream.commit("next", {"desired/mail/next.yaml": b"x" * 5000})
    subprocess.run(["git", "repack", "-adq"], cwd=upstream.path, check=True)
    [pack] = upstream.path.glob(".git/objects/pack/*.pack")
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])
    with pytest.raises(SourceError, match="upstream: git fetch failed"):
        source.fetch()
    assert source.read(before).tree
    assert not source.mirror.with_suffix(".broken").exists()


def test_a_full_disk_is_named_and_the_mirror_goes_on_when_there_is_room_again(upstream: Upstream, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)], capture_output=True)
    if mount.returncode:
        pytest.skip("a small disk can be made by root only")
    try:
        source = GitSource(upstream.url, directory=disk, allow_file=True)
        before = source.fetch()
        upstream.commit("large", {"desired/mail/large.bin": os.urandom(1_000_000)})
        with pytest.raises(SourceError, match="the disk is full; make room"):
            source.fetch()
        assert source.read(before).tree, "what was there can still be read"
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert source.fetch() == upstream.git("rev-parse", "HEAD")
    finally:
        subprocess.run(["umount", str(disk)], check=False)

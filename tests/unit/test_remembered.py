"""What was read once is not read again, is never changed by whoever uses it, and does not grow without end."""

import copy
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from reconciler import remembered as room
from reconciler.desired import desired_from
from reconciler.documents import read
from reconciler.registry import catalog
from reconciler.remembered import Remembered
from reconciler.source import WorkingTree

ROOT = Path(__file__).parents[2]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are really parsed."""
    found: list[str] = []

    def noting(file: str, content: bytes) -> Any:
        found.append(file)
        return read(file, content)

    monkeypatch.setattr(room, "read_fresh", noting)
    return found


def test_a_file_is_parsed_again_only_when_it_changed(parsed: list[str]) -> None:
    memory = Remembered()
    for text in (b"a: 1\n", b"a: 1\n", b"a: 2\n", b"a: 1\n"):
        assert memory.read("x.yaml", text)[0][0].data == {"a": int(text[3:4])}
    assert memory.read("y.yaml", b"a: 1\n")[0][0].file == "y.yaml"
    assert parsed == ["x.yaml", "x.yaml", "y.yaml"]


def test_a_file_with_problems_is_read_anew_and_gives_them_each_time(parsed: list[str]) -> None:
    memory = Remembered()
    assert memory.read("x.yaml", b"[")[1] == memory.read("x.yaml", b"[")[1] != []
    assert len(parsed) == 2
    assert len(memory) == 0


def test_it_keeps_what_was_used_last_within_its_bytes(parsed: list[str]) -> None:
    memory = Remembered(most=20)
    for name in ("a", "b", "a", "c"):
        memory.read(name, f"k: {name}aaa\n".encode())
    assert memory.bytes <= 20
    parsed.clear()
    memory.read("a", b"k: aaaa\n")
    assert parsed == []
    memory.read("b", b"k: baaa\n")
    assert parsed == ["b"]


def test_of_each_file_it_keeps_the_two_contents_that_were_used_last(parsed: list[str]) -> None:
    memory = Remembered()
    in_force, proposal = b"k: in-force\n", b"k: proposal\n"
    for content in (in_force, proposal, in_force, b"k: newer\n"):
        memory.read("x", content)
    parsed.clear()
    memory.read("x", in_force)
    assert parsed == [], "it was used after the proposal"
    memory.read("x", proposal)
    assert parsed == ["x"]


def test_it_does_not_grow_with_the_history_of_a_repository() -> None:
    memory = Remembered()
    for number in range(100):
        for name in ("a", "b"):
            memory.read(name, f"k: {number:04}\n".encode())
    assert len(memory) == 4
    assert memory.bytes == 4 * len(b"k: 0000\n")


def test_loading_a_whole_stack_changes_nothing_of_what_is_remembered() -> None:
    revision = WorkingTree().read(ROOT, "desired/mail")
    desired = desired_from(revision, "desired")
    first = desired.load("mail", catalog(), date(2026, 4, 1))
    files = {file: content for file, content in revision.tree.items() if file.endswith(".yaml")}
    before = {file: copy.deepcopy(room.remembered.read(file, content)[0]) for file, content in files.items()}
    second = desired.load("mail", catalog(), date(2026, 4, 1))
    assert {one.id: one.digest for one in first.graph} == {one.id: one.digest for one in second.graph}
    assert {file: room.remembered.read(file, content)[0] for file, content in files.items()} == before
    assert {file: read(file, content)[0] for file, content in files.items()} == before


def test_many_threads_may_read_at_once() -> None:
    memory, wrong = Remembered(most=2_000), list[object]()

    def work(seed: int) -> None:
        for number in range(300):
            name = f"f{(number * seed) % 60}"
            found = memory.read(name, f"k: {name}\nmore: {'x' * 40}\n".encode())[0]
            if found[0].data["k"] != name:
                wrong.append(found)

    threads = [Thread(target=work, args=(seed,)) for seed in (1, 7, 13, 31)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert memory.bytes <= 2_000

"""The answer of the program on the firewall: what is believed, what is told, and what is worth another try."""

import base64
import json
from typing import Any

import pytest

from reconciler.errors import Conflict, Permanent, Transient
from reconciler_pfsense.agent import Program, Snapshot, Used, foreign_revisions, read_answer, transaction_id

PROGRAM = Program({"verb": "observe"}, "0123456789abcdef")
FATAL = '<pre style="x">PHP ERROR: Type: 1, File: -, Line: 42, Message: {}</pre>\nStack trace:\n#0 x("canary")'


def line(body: Any, nonce: str = PROGRAM.nonce, end: str = " END") -> str:
    return f"\nRECONCILER-RESULT {nonce} {base64.b64encode(json.dumps(body).encode()).decode()}{end}\n"


GOOD = {"ok": True, "body": {"sha": "x"}}


@pytest.mark.parametrize(
    "output",
    [
        line(GOOD),
        "...." + line(GOOD),
        line(GOOD).replace("\n", "\r\n"),
        "PHP Warning:  something in x.inc\n" + line(GOOD) + "Notice: afterwards\n",
        line({"ok": True, "body": {"sha": "another run"}}, nonce="feedfeedfeedfeed") + line(GOOD),
    ],
)
def test_the_answer_is_found_among_whatever_else_is_printed(output: str) -> None:
    assert read_answer("fw:22", PROGRAM, output, 0) == {"sha": "x"}


@pytest.mark.parametrize(
    "output",
    [
        "",
        line(GOOD)[:-20],
        line(GOOD, end=""),
        line(GOOD, nonce="feedfeedfeedfeed"),
        "said RECONCILER-RESULT " + line(GOOD).strip().partition(" ")[2],
    ],
)
@pytest.mark.parametrize("status", [0, 255, None])
def test_an_answer_that_is_not_whole_or_not_ours_leaves_it_open_whether_anything_was_done(output: str, status: int | None) -> None:
    with pytest.raises(Transient, match=r"fw:22: the answer did not arrive whole .*; whether anything was done is not known"):
        read_answer("fw:22", PROGRAM, output, status)


@pytest.mark.parametrize("status", [126, 127])
def test_an_interpreter_that_does_not_start_is_said_with_the_setting_to_change(status: int) -> None:
    with pytest.raises(Permanent, match=rf"php cannot be started \(exit code {status}\); set php"):
        read_answer("fw:22", PROGRAM, "", status)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("Uncaught Error: Call to undefined function haproxy_check_and_run()", Permanent),
        ("Allowed memory size of 536870912 bytes exhausted", Transient),
        ("Maximum execution time of 900 seconds exceeded", Transient),
    ],
)
@pytest.mark.parametrize("frame", [FATAL, "PHP Fatal error:  {} in -:12\nStack trace:\n#0 x('canary')", "Fatal error: {}, Errfile: canary"])
def test_the_last_words_of_php_are_told_in_one_line_without_html_and_stack(words: str, error: type[Exception], frame: str) -> None:
    with pytest.raises(error) as caught:
        read_answer("fw:22", PROGRAM, "..<b>noise</b>\n" + frame.format(words), 255)
    assert words in str(caught.value)
    assert str(caught.value).startswith("fw:22: php stopped: ")
    assert not {"<", ">", "\n"} & set(str(caught.value))
    assert "noise" not in str(caught.value)
    assert "canary" not in str(caught.value)


def test_an_answer_weighs_more_than_an_error_that_was_printed_before_it() -> None:
    assert read_answer("fw:22", PROGRAM, FATAL.format("old") + line(GOOD), 255) == {"sha": "x"}


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("busy", Transient, "fw:22: why"),
        ("conflict", Conflict, "fw:22: why; nothing was written, the next pass plans anew"),
        ("used", Used, "fw:22: why"),
        ("refused", Permanent, "fw:22: why"),
        ("failed", Permanent, "fw:22: why"),
    ],
)
def test_a_refusal_is_told_as_what_it_is(kind: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        read_answer("fw:22", PROGRAM, line({"ok": False, "kind": kind, "message": "why"}), 0)
    assert type(caught.value) is error
    assert str(caught.value) == words


def test_a_transaction_is_known_by_what_it_does_and_by_the_state_that_it_was_planned_for() -> None:
    edits: list[Any] = [{"list": "nat/rule", "at": 1, "delete": True}]
    assert transaction_id("a", edits) == transaction_id("a", json.loads(json.dumps(edits)))
    assert len({transaction_id("a", edits), transaction_id("b", edits), transaction_id("a", [])}) == 3


def said(*words: str) -> list[dict[str, Any]]:
    return [{"description": one, "time": str(number)} for number, one in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["(system): reconciler home/fw tx:1", "admin: x"], 0),
        (["admin: c", "anna: b", "(system): reconciler home/fw tx:1", "admin: a"], 2),
        (["admin: c", "anna: b", "admin: a"], 1),
        (["admin: c"], 1),
    ],
)
def test_who_wrote_since_our_last_write_is_told_and_without_one_of_ours_only_the_last(words: list[str], count: int) -> None:
    first, *rest = said(*words)
    assert foreign_revisions(first, rest) == said(*words)[:count]


def test_an_item_that_is_no_object_keeps_its_place_so_that_the_index_of_the_others_is_right() -> None:
    lists = {"nat/rule": ["", {"descr": "second"}]}
    body = {"sha": "x", "revision": {}, "lists": lists, "settings": None, "stats": None, "pending": False, "version": "", "history": []}
    assert Snapshot.of(body).lists == {"nat/rule": [{}, {"descr": "second"}]}

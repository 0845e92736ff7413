"""One value in a YAML file changes, and no other byte does."""

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import event, given, settings
from hypothesis import strategies as st

from reconciler.documents import read
from reconciler.edits import END, GONE, CannotEdit, Path, edit, flow, with_value

FILE = """\
# the zone of the house
apiVersion: cloudflare/v1   # ours
kind: DNSRecord
metadata: {name: mail, annotations: {"reconciler/adopt": "true"}}
spec:
  # where it lives
  zone: example.org
  ttl: 300      # five minutes

  addresses:
    - 192.0.2.1   # first
    # the second is in the cellar
    - '192.0.2.2'
  text: |
      one
      two

  # the end
---
kind: Other
spec:
- a: 1
  b: 2   # two
- a: 3
"""


def changed(path: Path, value: Any, index: int = 0, text: str = FILE) -> list[str]:
    """The lines that went (-) and came (+)."""
    import difflib

    after = edit(text, index, path, value)
    return [line for line in difflib.ndiff(text.splitlines(), after.splitlines()) if line[0] in "+-"]


@pytest.mark.parametrize(
    ("path", "value", "lines"),
    [
        (("spec", "ttl"), 60, ["-   ttl: 300      # five minutes", "+   ttl: 60      # five minutes"]),
        (("spec", "zone"), "example.com", ["-   zone: example.org", "+   zone: example.com"]),
        (("spec", "zone"), "yes", ["-   zone: example.org", '+   zone: "yes"']),
        (("spec", "addresses", 1), "192.0.2.9", ["-     - '192.0.2.2'", "+     - '192.0.2.9'"]),
        (("spec", "addresses", END), "192.0.2.3", ["+     - 192.0.2.3"]),
        (("spec", "addresses", 0), GONE, ["-     - 192.0.2.1   # first"]),
        (("spec", "proxied"), True, ["+   proxied: true"]),
        (("spec", "ttl"), GONE, ["-   ttl: 300      # five minutes"]),
        (("spec", "text"), "one\ntwo\nthree\n", ["+       three"]),
        (("spec", "text"), "short", ["-   text: |", "-       one", "-       two", "+   text: short"]),
        (("spec", "new", "deep"), {"a": [1, {"b": "c"}]}, ["+   new:", "+     deep:", "+       a:", "+         - 1", "+         - b: c"]),
        (
            ("metadata", "annotations", "x"),
            "z",
            [
                '- metadata: {name: mail, annotations: {"reconciler/adopt": "true"}}',
                '+ metadata: {name: mail, annotations: {"reconciler/adopt": "true", x: z}}',
            ],
        ),
        (
            ("metadata", "annotations"),
            GONE,
            ['- metadata: {name: mail, annotations: {"reconciler/adopt": "true"}}', "+ metadata: {name: mail}"],
        ),
    ],
)
def test_only_the_lines_of_the_value_change(path: Path, value: Any, lines: list[str]) -> None:
    assert sorted(line for line in changed(path, value) if not line.startswith("?")) == sorted(lines)


def test_another_document_of_the_file_can_be_meant() -> None:
    assert changed(("spec", 0, "b"), 5, 1) == ["-   b: 2   # two", "+   b: 5   # two"]
    assert changed(("spec", 0, "a"), GONE, 1) == ["- - a: 1", "-   b: 2   # two", "+ - b: 2   # two"]
    assert changed(("spec", END), {"a": 5, "b": 6}, 1) == ["+ - a: 5", "+   b: 6"]


@pytest.mark.parametrize(
    ("text", "path", "value", "wanted"),
    [
        ("spec:\n  a: 1", ("spec", "b"), 2, "spec:\n  a: 1\n  b: 2"),
        ("spec:\nkind: x\n", ("spec", "b"), 2, "spec:\n  b: 2\nkind: x\n"),
        ("spec:\n  a:   # empty\nkind: x\n", ("spec", "a"), 2, "spec:\n  a: 2   # empty\nkind: x\n"),
        ("a: {}\n", ("a", "b"), 1, "a: {b: 1}\n"),
        ("a: []\n", ("a", END), 1, "a: [1]\n"),
        ("a: [1, 2, 3]\n", ("a", 0), GONE, "a: [2, 3]\n"),
        ("a: [1, 2, 3]\n", ("a", 2), GONE, "a: [1, 2]\n"),
        ("a:\n  - 1\nb: 2\n", ("a", 0), GONE, "a: []\nb: 2\n"),
        ("a:\r\n  b: 1\r\nc: 2\r\n", ("a", "d"), 3, "a:\r\n  b: 1\r\n  d: 3\r\nc: 2\r\n"),
        ("a: 'it''s'\n", ("a",), "it's not", "a: 'it''s not'\n"),
        ('a: "x"\n', ("a",), 'say "ü"', 'a: "say \\"ü\\""\n'),
        ("a: b: c\n".replace("b: c", "x"), ("a",), "b: c", 'a: "b: c"\n'),
        ("a: 1\n", ("a",), {"b": {"c": []}}, "a:\n  b:\n    c: []\n"),
        ("a:\n  b: 1\n# below\nc: 1\n", ("a",), 5, "a: 5\n# below\nc: 1\n"),
    ],
)
def test_the_forms_of_yaml_are_kept(text: str, path: Path, value: Any, wanted: str) -> None:
    assert edit(text, 0, path, value) == wanted


def test_what_other_places_share_is_refused() -> None:
    text = "a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 1\n"
    for path in (("a", "b"), ("c", "b"), ("a",)):
        with pytest.raises(CannotEdit, match="an anchor, or comes from one"):
            edit(text, 0, path, 2)
    assert edit(text, 0, ("d", "e"), 2) == text.replace("e: 1", "e: 2")


@pytest.mark.parametrize(
    "word",
    [
        "yes",
        "on",
        "null",
        "~",
        "1e3",
        "0x1f",
        "1_000",
        "12:30",
        "2020-01-01",
        "",
        " x",
        "x ",
        "- x",
        "#x",
        "a: b",
        "a #b",
        "*x",
        "&x",
        "!x",
        "%x",
        "@x",
        "`x",
        "{x",
        "[x",
        "x,y]",
        "'",
        '"',
        "\\",
        "\t",
        "\x00",
        "\u2028",
        "🙂",
        "=",
        "y",
    ],
)
def test_a_text_that_yaml_would_take_for_something_else_is_quoted(word: str) -> None:
    if word == "\x00":
        assert flow(word) == '"\\u0000"'
    for text, path in (
        ("a: x\n", ("a",)),
        ("a: {b: x, c: 1}\n", ("a", "b")),
        ("a: [x]\n", ("a", 0)),
        ("- x\n".replace("- x", "a:\n- x"), ("a", 0)),
    ):
        after = edit(text, 0, path, word)
        assert read("", after.encode())[0][0].data == with_value(read("", text.encode())[0][0].data, path, word)


# -- the law ---------------------------------------------------------------------------------------------------------------------

words = st.sampled_from(
    ["mail", "192.0.2.1", "yes", "a b", "x: y", "it's", 'say "x"', "ümlaut", "- x", "#no", "1.5", "", "multi\nline\n", "${x}"]
)
scalars = st.one_of(words, st.integers(-5, 70_000), st.booleans(), st.none())
keys = st.sampled_from(["name", "port", "a/b", "x.y", "on", "8080", "spec", "über"])
values = st.recursive(
    scalars, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)), max_leaves=12
)
tops = st.dictionaries(keys, values, min_size=1, max_size=4)


def written(value: Any, column: int, dice: random.Random) -> str:
    """Nested data as a person might write it: blocks and brackets, comments and blank lines here and there."""
    if not isinstance(value, dict | list) or not value or dice.random() < 0.25:
        return flow(value) + dice.choice(["", "", "   # why"]) if "\n" not in flow(value) else flow(value)
    pad = "\n" + " " * column
    parts = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        lead = dice.choice(
            [
                "",
                "",
                "",
                f"# about {key}{pad}",
            ]
        )
        lead = lead and lead
        if isinstance(value, list):
            parts.append(f"{'' if not parts else lead}- {written(item, column + 2, dice)}")
        else:
            deep = isinstance(item, dict | list) and item
            body = written(item, column + 2, dice)
            inline = not deep or body[:1] in "[{"
            parts.append(f"{'' if not parts else lead}{flow(str(key))}:" + (f" {body}" if inline else f"\n{' ' * (column + 2)}{body}"))
    return pad.join(parts)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from places(item, (*path, number))


def region(text: str, path: Path) -> tuple[int, int]:
    """From the line in which the collection round ``path`` is named to the line in which it ends, by the marks of the parser."""
    node = next(iter(yaml.compose_all(text, Loader=yaml.SafeLoader)))
    start = node.start_mark.index
    for part in path[:-1]:
        pair = next(pair for pair in node.value if pair[0].value == str(part)) if isinstance(part, str) else (node.value[part],) * 2
        start, node = pair[0].start_mark.index, pair[1]
    end = text.find("\n", max(start, node.end_mark.index - 1))
    return text.rfind("\n", 0, start) + 1, len(text) if end < 0 else end


@settings(max_examples=250)
@given(
    data=tops,
    other=tops,
    value=st.one_of(values, st.just(GONE)),
    seed=st.integers(0, 10_000),
    choice=st.integers(0, 10_000),
    add=st.booleans(),
)
def test_the_result_means_the_old_data_with_one_change_and_every_other_line_is_the_same(
    data: dict[str, Any], other: dict[str, Any], value: Any, seed: int, choice: int, add: bool
) -> None:
    dice = random.Random(seed)
    text = f"# top\n{written(data, 0, dice)}\n---\n# top\n{written(other, 0, dice)}\n# end\n"
    before, problems = read("", text.encode())
    assert not problems
    assert [one.data for one in before] == [data, other], text
    found = sorted(places(data), key=str)
    path = found[choice % len(found)]
    if add:
        path = (*path[:-1], "added") if isinstance(path[-1], str) else (*path[:-1], END)
        value = 5 if value is GONE else value
    try:
        after = edit(text, 0, path, value)
    except CannotEdit as error:
        event(f"refused: {error}")
        return
    first, last = region(text, path)
    assert after.startswith(text[:first])
    assert after[first:].endswith(text[last:]), "what is outside of the collection round the value is as it was, byte by byte"
    if not add and value is not GONE and not isinstance(_at(data, path), dict | list) and not isinstance(value, dict | list):
        assert [line for line in comments(text) if line not in comments(after)] == [], "a comment beside a value stays"
    real = (*path[:-1], len(_list(data, path[:-1]))) if path[-1] == END else path
    assert read("", after.encode())[0][0].data == with_value(data, real, value)


def comments(text: str) -> list[str]:
    return re.findall(r"# (?:about|why|top|end).*", text)


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _list(data: Any, path: Path) -> list[Any]:
    found = _at(data, path)
    assert isinstance(found, list)
    return found

"""Bad input: every mistake is named with its file and line, all of them at once, and nothing that is not a mistake."""

from collections.abc import Mapping

import pytest

from reconciler.errors import InputError
from tests.unit.core.memory import STACK, stack_file, stack_of, thing


def problems(files: Mapping[str, str | bytes] | str) -> list[str]:
    """What loading complains about, without the folder."""
    with pytest.raises(InputError) as caught:
        stack_of(files)
    return [str(one).removeprefix("desired/test/") for one in caught.value.problems]


def test_a_good_stack_has_no_problems() -> None:
    stack = stack_of(thing("a", text="x") + thing("b", needs=["a"]))
    assert [str(one.id) for one in stack.graph] == ["mem/Thing/a", "mem/Thing/b"]


def test_invalid_yaml_is_named_with_its_line() -> None:
    assert problems("a: 1\nb: [1, 2\nc: 3\n") == ["all.yaml:3: while parsing a flow sequence did not find expected ',' or ']'"]


def test_a_tab_for_indentation_is_named_with_its_line() -> None:
    assert problems("a:\n\tb: 1\n")[0].startswith("all.yaml:2: while scanning for the next token")


def test_a_key_that_is_written_twice_is_refused() -> None:
    assert problems(thing("a") + "spec: {size: 2}\n") == ["all.yaml:6: the key 'spec' is written twice"]


def test_a_key_that_is_written_twice_deep_inside_is_refused() -> None:
    text = "apiVersion: mem/v1\nkind: Thing\nmetadata: {name: a}\nspec:\n  tags:\n    x: a\n    x: b\n"
    assert problems(text) == ["all.yaml:7: the key 'x' is written twice"]


def test_a_key_that_overrides_a_merged_one_is_not_written_twice() -> None:
    text = (
        "apiVersion: mem/v1\nkind: Thing\nmetadata: {name: a}\nspec:\n  tags:\n    <<: &base {x: a, y: a}\n    x: b\n---\n"
        "apiVersion: mem/v1\nkind: Thing\nmetadata: {name: b, labels: {one: {two: {c: &deep {<<: &low {x: a}, x: b}}}, d: {<<: *deep}}}\n"
    )
    graph = stack_of(text).graph
    assert next(iter(graph)).spec.model_dump()["tags"] == {"x": "b", "y": "a"}


def test_an_unknown_field_is_refused_with_a_suggestion() -> None:
    assert problems(thing("a", txet="x")) == ["all.yaml:5: mem/Thing/a: spec.txet: is not a field here; did you mean text?"]


def test_an_unknown_field_of_the_envelope_is_refused_with_a_suggestion() -> None:
    assert problems("apiVersion: mem/v1\nkind: Thing\nmetadata: {name: a, annotation: {}}\nspecs: {}\n") == [
        "all.yaml:3: metadata.annotation is not a field here; did you mean annotations?",
        "all.yaml:4: specs is not a field here; a document has apiVersion, kind, metadata and spec; did you mean spec?",
    ]


def test_an_unknown_field_of_the_stack_is_refused_with_a_suggestion() -> None:
    text = stack_file(var={}, policy={"deletes": {"flor": 1}}).replace("spec:", "specs: {}\nspec:")
    assert problems({"stack.yaml": text}) == [
        "stack.yaml:4: specs is not a field here; a document has apiVersion, kind, metadata and spec; did you mean spec?",
        "stack.yaml:5: spec.policy.deletes.flor: is not a field here; did you mean floor?",
        "stack.yaml:5: spec.var: is not a field here; did you mean vars?",
    ]


def test_an_unknown_kind_is_refused_with_a_suggestion() -> None:
    assert problems(thing("a", kind="Thin")) == [
        "all.yaml:3: mem/v1 has no kind 'Thin'; it has Precious, Secret, Thing; did you mean Thing?"
    ]


def test_a_kind_of_ours_that_does_not_exist_is_refused_with_a_suggestion() -> None:
    assert problems("apiVersion: reconciler/v1\nkind: DriftExeption\nmetadata: {name: x}\n") == [
        "all.yaml:2: reconciler/v1 has no kind 'DriftExeption'; it has DriftException, Stack; did you mean DriftException?"
    ]


@pytest.mark.parametrize(("group", "meant"), [("mem/v2", "mem/v1"), ("reconcilr/v1", "reconciler/v1"), ("poll/v1", "pool/v1")])
def test_a_near_miss_of_a_group_is_refused_with_a_suggestion(group: str, meant: str) -> None:
    assert problems(thing("a", group=group)) == [f"all.yaml:3: the group {group!r} is not known; did you mean {meant}?"]


def test_every_value_of_a_wrong_type_is_named_once() -> None:
    assert problems(thing("a", size="big", tags=[], text=["x"])) == [
        "all.yaml:5: mem/Thing/a: spec.size: input should be a valid integer, unable to parse string as an integer",
        "all.yaml:5: mem/Thing/a: spec.tags: input should be a valid dictionary",
        "all.yaml:5: mem/Thing/a: spec.text: input should be a valid string",
    ]


@pytest.mark.parametrize("spec", ["[1, 2]", "text", "7"])
def test_a_spec_that_is_no_mapping_is_refused(spec: str) -> None:
    (problem,) = problems(f"apiVersion: mem/v1\nkind: Thing\nmetadata: {{name: a}}\nspec: {spec}\n")
    assert problem.startswith("all.yaml:4: mem/Thing/a: spec: input should be")


def test_a_dangling_reference_is_named_at_its_line_with_a_suggestion() -> None:
    text = (
        thing("mail-mx")
        + "---\napiVersion: mem/v1\nkind: Thing\nmetadata: {name: b}\nspec:\n  size: 1\n  text: ${ref('mem/Thing/mail-xm').spec.text}\n"
    )
    assert problems(text) == [
        "all.yaml:12: mem/Thing/b: refers to mem/Thing/mail-xm, which this stack does not declare; did you mean mem/Thing/mail-mx?"
    ]


def test_a_dangling_depends_on_is_named_at_its_line_with_a_suggestion() -> None:
    text = thing("mail-mx") + thing("b", annotations={"depends-on": ["mem/Thing/mail-xm"]})
    assert problems(text) == [
        "all.yaml:9: mem/Thing/b: refers to mem/Thing/mail-xm, which this stack does not declare; did you mean mem/Thing/mail-mx?"
    ]


def test_a_dangling_status_is_named() -> None:
    assert problems(thing("b", text="${status('mem/Thing/x').a}")) == [
        "all.yaml:5: mem/Thing/b: refers to mem/Thing/x, which this stack does not declare; did you mean mem/Thing/b?"
    ]


def test_a_circle_of_references_is_named_once_as_a_path() -> None:
    text = "".join(thing(one, text=f"${{ref('mem/Thing/{other}').spec.text}}") for one, other in ("ab", "bc", "ca", "da"))
    assert problems(text) == ["all.yaml:2: mem/Thing/a: depends on itself: mem/Thing/a -> mem/Thing/b -> mem/Thing/c -> mem/Thing/a"]


def test_a_resource_that_refers_to_itself_is_named() -> None:
    assert problems(thing("a", text="${ref('mem/Thing/a').spec.text}")) == [
        "all.yaml:2: mem/Thing/a: depends on itself: mem/Thing/a -> mem/Thing/a"
    ]
    assert problems(thing("a", text="${status('mem/Thing/a').x}")) == [
        "all.yaml:2: mem/Thing/a: depends on itself: mem/Thing/a -> mem/Thing/a"
    ]


def test_a_circle_of_depends_on_is_named_once_as_a_path() -> None:
    text = thing("a", annotations={"depends-on": "mem/Thing/b"}) + thing("b", annotations={"depends-on": "mem/Thing/a"})
    assert problems(text) == ["all.yaml:2: mem/Thing/a: depends on itself: mem/Thing/a -> mem/Thing/b -> mem/Thing/a"]


def test_a_circle_of_a_reference_and_a_depends_on_is_named() -> None:
    text = thing("a", text="${ref('mem/Thing/b').spec.text}") + thing("b", annotations={"depends-on": "mem/Thing/a"})
    assert problems(text) == ["all.yaml:2: mem/Thing/a: depends on itself: mem/Thing/a -> mem/Thing/b -> mem/Thing/a"]


def test_a_circle_of_what_the_kinds_themselves_require_is_named_beside_other_mistakes() -> None:
    text = thing("a", needs=["b"]) + thing("b", needs=["a"]) + thing("c", sise=1)
    assert problems(text) == [
        "all.yaml:2: mem/Thing/a: depends on itself: mem/Thing/a -> mem/Thing/b -> mem/Thing/a",
        "all.yaml:15: mem/Thing/c: spec.sise: is not a field here; did you mean size?",
    ]


def test_two_resources_of_one_identity_are_refused() -> None:
    assert problems({"a.yaml": thing("a"), "b.yaml": thing("a")}) == [
        "b.yaml:4: mem/Thing/a: is declared twice; the other one is at desired/test/a.yaml:2"
    ]


def test_a_missing_variable_is_named() -> None:
    assert problems(thing("a", text="${vars.domain}")) == ["all.yaml:5: mem/Thing/a: vars.domain is not declared under vars in stack.yaml"]


def test_the_syntax_of_an_expression_is_checked() -> None:
    (first, second) = problems(thing("a", text="${1 +}") + thing("b", text="${vars.x"))
    assert first.startswith("all.yaml:5: mem/Thing/a: ${1 +}: ")
    assert second == "all.yaml:10: mem/Thing/b: ${vars.x... is not closed; write $${ for a literal ${"


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("1 / 0", "${1 / 0}: "),
        ("[1].filter(x, x > 1)[0]", "index out of bounds"),
        ("ref('mem/Thing/b').spec.nothing", "nothing"),
        ("{'a': 1}", "is dict, which cannot stand inside a text"),
        ("unknown", "${unknown} names nothing known; write $${unknown} if the text itself is meant"),
        ("ref('mem' + '/Thing/b')", "ref() takes 1 literal string(s)"),
        ("ref(vars.x)", "the arguments of ref() must be literal strings"),
        ("ref('b')", "'b' is not a resource id; write driver/Kind/name"),
    ],
)
def test_an_expression_that_cannot_be_evaluated_is_named_once(expression: str, says: str) -> None:
    (problem,) = problems(thing("a", text=f"x ${{{expression}}}") + thing("b"))
    assert problem.startswith("all.yaml:5: mem/Thing/a: ")
    assert says in problem


def test_a_monstrous_expression_is_refused_in_few_words() -> None:
    (problem,) = problems(thing("a", text="${" + "(" * 5000 + "1" + ")" * 5000 + "}"))
    assert len(problem) < 600


def test_a_bad_expression_in_an_annotation_is_named_once() -> None:
    assert problems(thing("a", annotations={"depends-on": "${vars.x}"})) == [
        "all.yaml:4: mem/Thing/a: vars.x is not declared under vars in stack.yaml"
    ]


def test_a_variable_with_a_bad_expression_is_named_and_hides_no_other_mistake() -> None:
    files = {
        "stack.yaml": stack_file(vars={"a": "${vars.b", "c": "${1/0}", "d": "fine"}),
        "all.yaml": thing("a", text="${vars.a}", kind="Thin"),
    }
    assert [one.split(": ")[0] for one in problems(files)] == ["all.yaml:3", "stack.yaml:4", "stack.yaml:4"]


def test_variables_in_a_circle_are_named() -> None:
    assert problems({"stack.yaml": stack_file(vars={"a": "${vars.b}", "b": "x${vars.a}"})}) == [
        "stack.yaml:4: these variables use one another in a circle: a, b"
    ]


def test_a_variable_cannot_hold_a_secret() -> None:
    assert problems({"stack.yaml": stack_file(vars={"a": ["${vault('p', 'k')}"]})}) == [
        "stack.yaml:4: vars.a reads a secret; write vault() where the secret is used"
    ]


def test_a_stack_without_its_file_is_refused() -> None:
    from reconciler.load import load_stack
    from tests.unit.core.memory import CATALOG, TODAY

    with pytest.raises(InputError, match=r"desired/x/stack\.yaml: does not exist; every stack has one"):
        load_stack({"desired/test/stack.yaml": STACK.encode()}, "desired/x", CATALOG, today=TODAY)


@pytest.mark.parametrize("text", ["", "---\n", "# nothing\n", thing("a")])
def test_a_stack_file_without_a_stack_is_refused(text: str) -> None:
    assert problems({"stack.yaml": text}) == ["stack.yaml: holds no Stack; write apiVersion: reconciler/v1 and kind: Stack"]


def test_a_second_stack_is_refused() -> None:
    assert problems({"z.yaml": STACK}) == ["z.yaml:1: a second Stack; the first is at desired/test/stack.yaml:1"]


def test_a_document_of_ten_megabytes_is_refused_unread() -> None:
    assert problems({"big.yaml": b"a: " + b"x" * 10_000_000}) == ["big.yaml: is 10000003 bytes long; the limit is 1048576; split it"]


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"] + [
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert problems("\n".join(lines)) == ["all.yaml:1: its aliases expand to more than 200000 values; write them out"]


def test_an_alias_bomb_of_merges_is_refused() -> None:
    lines = ["a: &a {k: v}"] + [f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 20)}]}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    assert problems("\n".join(lines)) == ["all.yaml:1: its aliases expand to more than 200000 values; write them out"]


def test_an_alias_inside_itself_is_refused() -> None:
    assert len(problems("a: &a [*a]\n")) == 1


def test_a_file_that_is_not_utf8_is_refused_at_its_line() -> None:
    assert problems({"all.yaml": b"a: 1\nb: \xff\xfe\n"}) == ["all.yaml:2: is not UTF-8; save it as UTF-8"]


@pytest.mark.parametrize("depth", [80, 3_000, 400_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    (problem,) = problems("a: " + "[" * depth + "]" * depth)
    assert problem.startswith("all.yaml")
    assert "deep" in problem or "depth" in problem or "nest" in problem


def test_a_document_that_is_no_mapping_is_refused() -> None:
    assert problems("- a\n- b\n") == ["all.yaml:1: a document must be a mapping, this one is a list"]


def test_an_unsafe_tag_is_refused() -> None:
    (problem,) = problems("a: !!python/object/apply:os.system [id]\n")
    assert problem.startswith("all.yaml:1: could not determine a constructor for the tag")


def test_an_unknown_annotation_is_refused_with_a_suggestion() -> None:
    (problem,) = problems(thing("a", annotations={"adoopt": "true"}))
    assert problem.startswith("all.yaml:4: mem/Thing/a: annotation reconciler/adoopt: is not known; there are adopt, ")
    assert problem.endswith("did you mean adopt?")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("adopt", "yes please", '\'yes please\' is neither "true" nor "false"'),
        ("prune", [], '[] is neither "true" nor "false"'),
        ("drift", "ignore", '\'ignore\' is neither "enforce" nor "report"'),
        ("ignore", "spec/replicas", "'spec/replicas' is not a JSON pointer; write it as /spec/replicas"),
        ("ignore", '["/a", 3]', "must be a list of texts"),
        ("ignore", '["/a"', "must be a list of texts"),
        ("depends-on", "nothing", "'nothing' is not a resource id; write driver/Kind/name"),
        ("target", "", "must be the name of a target"),
    ],
)
def test_a_bad_value_of_an_annotation_is_refused(name: str, value: object, says: str) -> None:
    assert problems(thing("a", annotations={name: value})) == [f"all.yaml:4: mem/Thing/a: annotation reconciler/{name}: {says}"]


def test_annotations_that_are_no_mapping_are_refused() -> None:
    assert problems("apiVersion: mem/v1\nkind: Thing\nmetadata:\n  name: a\n  annotations: [x]\n") == [
        "all.yaml:5: mem/Thing/a: metadata.annotations must be a mapping"
    ]


@pytest.mark.parametrize("metadata", ["[]", "{}", "{name: 7}", "{name: null}", "x"])
def test_a_document_without_a_name_is_refused(metadata: str) -> None:
    assert problems(f"apiVersion: mem/v1\nkind: Thing\nmetadata: {metadata}\n") == ["all.yaml:3: Thing needs metadata.name, a text"]


def test_what_has_no_name_for_a_reason_is_told_what_to_do_instead() -> None:
    assert problems("apiVersion: v1\nkind: List\nitems: []\n") == [
        "all.yaml:2: a List is no resource; write its items as documents of their own, --- between them"
    ]
    assert problems("apiVersion: v1\nkind: Pod\nmetadata:\n  generateName: x-\n") == [
        "all.yaml:4: Pod needs metadata.name; a generated name would be another object at each apply"
    ]


def test_a_document_without_a_kind_is_refused() -> None:
    assert problems("metadata: {name: a}\n") == ["all.yaml:1: a document needs apiVersion and kind"]


@pytest.mark.parametrize("name", ["a b", "-a", "a/b", "ä", "a" * 200, "a\\n", "${1 + 1}"])
def test_a_name_with_bad_characters_is_refused(name: str) -> None:
    (problem,) = problems(f'apiVersion: mem/v1\nkind: Thing\nmetadata:\n  name: "{name}"\n')
    assert problem.startswith("all.yaml:4: ")
    assert problem.endswith("is not a name; use letters, digits, dots and dashes, at most 128")


def exception(**spec: object) -> str:
    return thing("known", kind="DriftException", group="reconciler/v1", **spec)


def test_an_exception_for_an_unknown_resource_is_refused_with_a_suggestion() -> None:
    text = exception(resource="mem/Thing/b", reason="until June", expires="2026-05-31") + thing("a")
    assert problems(text) == ["all.yaml:5: mem/Thing/b is not declared in this stack; did you mean mem/Thing/a?"]


def test_an_exception_needs_an_end_and_a_reason() -> None:
    assert problems(exception(resource="mem/Thing/a") + thing("a")) == [
        "all.yaml:5: spec.expires: field required",
        "all.yaml:5: spec.reason: field required",
    ]


def test_an_exception_with_a_bad_pointer_or_date_or_id_is_refused() -> None:
    text = exception(resource="mem/Thing/a", reason="because", expires="soon", fields=["text"]) + thing("a")
    assert [one.split(": ", 2)[1] for one in problems(text)] == ["spec.expires", "spec.fields"]
    assert problems(exception(resource="a", reason="because", expires="2026-05-31") + thing("a")) == [
        "all.yaml:5: 'a' is not a resource id; write driver/Kind/name"
    ]
    assert len(problems(exception(resource="${vars.x", reason="because", expires="2026-05-31"))) == 1


def test_an_exception_counts_on_its_last_day_and_has_ended_on_the_next() -> None:
    def expired(expires: str) -> bool:
        return stack_of(exception(resource="mem/Thing/a", reason="because", expires=expires) + thing("a")).exemptions[0].expired

    assert not expired("2026-04-01")
    assert expired("2026-03-31")


def test_a_time_zone_that_does_not_exist_is_refused() -> None:
    text = stack_file(policy={"freeze": [{"name": "night", "timezone": "Europe/Atlantis"}]})
    assert problems({"stack.yaml": text}) == [
        "stack.yaml:4: spec.policy.freeze.0.timezone: 'Europe/Atlantis' is not a time zone; write an IANA name such as Europe/Berlin"
    ]


def test_a_file_outside_of_the_stack_cannot_be_read() -> None:
    for path in ("../other/secret.txt", "/etc/passwd", "x/../../other/secret.txt"):
        (problem,) = problems({"all.yaml": thing("a", text=f"${{file('{path}')}}"), "../other/secret.txt": "x"})
        assert problem.endswith(f"}}: {path} lies outside the stack")


def test_a_file_that_does_not_exist_is_named() -> None:
    (problem,) = problems(thing("a", text="${file('x.txt')}"))
    assert "desired/test/x.txt does not exist" in problem


def test_all_mistakes_of_all_files_are_reported_at_once() -> None:
    files = {
        "a.yaml": thing("a", txet=1) + thing("b", text="${ref('mem/Thing/a').spec.text}"),
        "b.yaml": "a: [\n",
        "c.yaml": thing("c", text="${ref('mem/Thing/in-b').spec.text}") + thing("d", annotations={"adopt": "x"}),
        "stack.yaml": stack_file(intervall=3),
    }
    assert [one.split(": ")[0] for one in problems(files)] == ["b.yaml:2", "stack.yaml:4"]
    files["stack.yaml"] = STACK
    assert [one.split(": ")[0] for one in problems(files)] == ["a.yaml:5", "b.yaml:2", "c.yaml:9"]


def test_a_long_chain_of_references_is_followed_to_its_end() -> None:
    text = "".join(thing(f"t{number}", text=f"${{ref('mem/Thing/t{number + 1}').spec.text}}") for number in range(600)) + thing(
        "t600", text="end"
    )
    assert {one.spec.model_dump()["text"] for one in stack_of(text).graph} == {"end"}


def test_many_mistakes_in_one_large_file_are_found_in_little_time() -> None:
    assert len(problems("".join(thing(f"a{number}", txet=1) for number in range(1_500)))) == 1_500

"""What Go prints, and what is read as the API server reads it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler_k8s.emulator.defaults import amount, quantity
from reconciler_k8s.emulator.gotext import Struct, compact, difference, document, plain, strings, syntax, type_name
from reconciler_k8s.emulator.internals import claim_spec, pod_template
from reconciler_k8s.emulator.selectors import SelectorError, matcher
from reconciler_k8s.emulator.tables import duration


@pytest.mark.parametrize(
    ("value", "shown", "written", "named"),
    [
        ("yes", "yes", '"yes"', "string"),
        (True, "true", "true", "bool"),
        (12, "12", "12", "int64"),
        (1.5, "1.5", "1.5", "float64"),
        (2.0, "2", "2", "float64"),
        (1e21, "1e+21", "1e+21", "float64"),
        (None, "<nil>", "interface {}(nil)", "<nil>"),
        ({"b": 1, "a": ["x"]}, "map[a:[x] b:1]", 'map[string]interface {}{"a":[]interface {}{"x"}, "b":1}', "map[string]interface {}"),
        (["a", 1], "[a 1]", '[]interface {}{"a", 1}', "[]interface {}"),
    ],
)
def test_decoded_json_is_printed_as_go_prints_it(value: Any, shown: str, written: str, named: str) -> None:
    assert (plain(value), syntax(value), type_name(value)) == (shown, written, named)


def test_a_list_of_strings_is_printed_with_its_type() -> None:
    assert strings(["a", 'b"']) == '[]string{"a", "b\\""}'


def test_a_struct_is_printed_with_all_its_fields_in_gos_order() -> None:
    structs: dict[str, Struct] = {
        "Outer": {"b": ("B", ""), "a": ("A", None), "in": ("In", "=Inner"), "by": ("By", "=Inner!"), "many": ("Many", "[Inner")}
    }
    structs |= {"Inner": {"n": ("N", 0)}}
    assert compact(document({"a": "<x>"}, "Outer", structs)) == '{"B":"","A":"\\u003cx\\u003e","In":null,"By":{"N":0},"Many":null}'
    assert document({"in": {}, "many": [{"n": 2}]}, "Outer", structs)["Many"] == [{"N": 2}]


def test_a_difference_has_three_lines_round_each_change_and_no_header() -> None:
    before = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6}
    text = difference(before, {**before, "e": 7})
    assert text == '@@ -3,6 +3,6 @@\n  "b": 2,\n  "c": 3,\n  "d": 4,\n- "e": 5,\n+ "e": 7,\n  "f": 6\n }'


def test_equal_documents_differ_in_nothing() -> None:
    assert difference({"a": [1]}, {"a": [1]}) == ""


def test_a_claim_is_printed_as_the_server_holds_it() -> None:
    spec = claim_spec({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
    assert list(spec)[:4] == ["AccessModes", "Selector", "Resources", "VolumeName"]
    assert spec["Resources"] == {"Limits": None, "Requests": {"storage": "1Gi"}}


def test_a_pod_template_keeps_the_hosts_switches_in_its_security_context() -> None:
    found = pod_template({"metadata": {"labels": {"a": "b"}}, "spec": {"hostNetwork": True, "containers": [{"name": "x", "tty": True}]}})
    assert list(found) == ["labels", "Spec"]
    assert found["Spec"]["SecurityContext"]["HostNetwork"] is True
    assert found["Spec"]["Containers"][0]["TTY"] is True
    assert found["Spec"]["Containers"][0]["Stdin"] is False


LABELS = {"app": "web", "env": "prod", "rank": "5"}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("", True),
        ("app", True),
        ("!app", False),
        ("app=web,env==prod", True),
        ("app!=web", False),
        ("nosuch!=web", True),
        ("env in (test, prod),app", True),
        ("env notin (test,prod)", False),
        ("nosuch notin (a)", True),
        ("rank>4,rank<6", True),
        ("rank>5", False),
        ("app=", False),
    ],
)
def test_a_label_selector_chooses(selector: str, fits: bool) -> None:
    assert matcher(selector, "")({"metadata": {"labels": LABELS}}) is fits


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("a===", "unable to parse requirement: found '=', expected: identifier"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a ~ b", "unable to parse requirement: found '~', expected: in, notin, =, ==, !=, gt, lt"),
    ],
)
def test_a_broken_label_selector_is_refused_in_the_servers_words(selector: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        matcher(selector, "")
    assert str(caught.value) == message


@given(st.integers(0, 10**12), st.sampled_from(["", "k", "M", "Ki", "Mi", "Gi", "m"]))
def test_the_canonical_spelling_of_a_quantity_is_worth_the_same_and_stays(number: int, suffix: str) -> None:
    text = quantity(f"{number}{suffix}")
    assert amount(text) == amount(f"{number}{suffix}")
    assert quantity(text) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3s"), (119, "119s"), (310, "5m10s"), (300, "5m"), (4000, "66m"), (15000, "4h10m"), (90000, "25h"), (400000, "4d15h")],
)
def test_an_age_is_short(seconds: int, text: str) -> None:
    assert duration(seconds) == text

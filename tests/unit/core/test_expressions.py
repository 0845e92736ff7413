"""Expressions: what they may use, what they give, and that a secret in them is never more than a reference."""

import json
from typing import Any

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import DriverError, Permanent, Transient
from reconciler.expressions import Environment, ExpressionError, complete, dovecot_accounts, json_field, parse, render, to_base64
from reconciler.resource import SecretRef
from tests.unit.core.memory import Bench, mem, stack_file, stack_of, thing

CANARY = "c4n4ry-v4lue"


def spec(text: str, name: str, **variables: Any) -> Any:
    """The spec of a resource in a stack with these variables."""
    files = {"stack.yaml": stack_file(vars=variables), "all.yaml": text}
    return stack_of(files).graph.resources[mem(name)].spec


def text_of(expression: str, **variables: Any) -> Any:
    return spec(thing("a", text=expression), "a", **variables).text


# -- values ---------------------------------------------------------------------------------------------------------------------


def test_variables_may_be_nested_and_use_one_another() -> None:
    variables = {"domain": "example.org", "mail": {"host": "mail.${vars.domain}"}, "all": ["${vars.mail.host}", "x"]}
    assert text_of("${vars.mail.host}", **variables) == "mail.example.org"
    assert text_of("${vars.all[0]}!", **variables) == "mail.example.org!"


def test_a_lone_expression_keeps_its_type_and_inside_a_text_it_is_text() -> None:
    found = spec(
        thing("a", size="${vars.n}", text="${vars.n}/${vars.yes}/${vars.f}", tags="${vars.tags}"),
        "a",
        n=7,
        yes=True,
        f=1.5,
        tags={"k": "v"},
    )
    assert (found.size, found.text, found.tags) == (7, "7/true/1.5", {"k": "v"})


def test_ref_reads_the_desired_object_with_its_types_its_defaults_and_its_exports() -> None:
    text = thing("a", text="x") + thing(
        "b",
        size="${ref('mem/Thing/a').spec.size}",
        text="${ref('mem/Thing/a').url} ${ref('mem/Thing/a').metadata.name}",
        tags={"n": "${ref('mem/Thing/a').spec.text}"},
    )
    stack = stack_of(text)
    found = stack.graph.resources[mem("b")]
    assert (found.spec.size, found.spec.text, found.spec.tags) == (1, "mem://a a", {"n": "x"})  # type: ignore[attr-defined]
    assert found.refs == (mem("a"),)
    assert stack.graph.waves == ((mem("a"),), (mem("b"),))


def test_references_are_followed_in_any_order_of_writing() -> None:
    text = thing("a", text="${ref('mem/Thing/b').spec.text}") + thing("b", text="${ref('mem/Thing/c').spec.text}") + thing("c", text="deep")
    assert spec(text, "a").text == "deep"


def test_a_list_can_be_filtered() -> None:
    ports = [{"name": "smtp", "nodePort": 30025}, {"name": "imap", "nodePort": 30143}]
    assert spec(thing("a", size='${vars.ports.filter(p, p.name == "imap")[0].nodePort}'), "a", ports=ports).size == 30143


def test_a_doubled_dollar_is_a_literal() -> None:
    assert text_of("$${HOME} ${vars.x}", x="v") == "${HOME} v"
    assert text_of("$5 and $$ and {x}") == "$5 and $$ and {x}"


def test_a_literal_stays_one_in_a_document_that_waits_for_a_status_and_beside_a_secret() -> None:
    bench = Bench()
    bench.system.status["Thing/a"] = {"address": "10.0.0.1"}
    text = thing("a") + thing("b", text="$${HOME}", tags={"at": "$${X} ${status('mem/Thing/a').address}"})
    assert bench.run(text).verdict == "converged"
    assert bench.system.objects["Thing/b"].content["text"] == "${HOME}"
    assert bench.system.objects["Thing/b"].content["tags"] == {"at": "${X} 10.0.0.1"}
    ref = text_of("$${HOME} ${vault('p', 'k')}")
    assert complete(ref, lambda path, key: "v") == "${HOME} v"


def test_a_file_of_the_stack_can_be_read() -> None:
    assert (
        stack_of({"all.yaml": thing("a", text="${file('conf/x.txt')}"), "conf/x.txt": "content\n"}).graph.resources[mem("a")].spec.text
        == "content\n"
    )  # type: ignore[attr-defined]


@given(st.text("ab$ {}'\"\\", max_size=30))
def test_a_text_is_read_or_refused_and_never_anything_else(text: str) -> None:
    try:
        parse(text)
    except ExpressionError:
        return


@given(st.text("ab${} ", max_size=30))
def test_every_text_can_be_written_as_a_literal(text: str) -> None:
    assert render(text.replace("${", "$${"), Environment({})) == text


# -- status ---------------------------------------------------------------------------------------------------------------------


def test_a_status_blocks_until_it_is_there_and_then_its_value_is_written() -> None:
    bench = Bench()
    text = thing("a") + thing("b", size="${status('mem/Thing/a').port}")
    first = bench.run(text)
    assert first.verdict == "pending"
    assert [(str(one.id), one.reason) for one in first.remaining.stuck] == [
        ("mem/Thing/b", "needs the status of mem/Thing/a, which does not exist yet")
    ]
    bench.system.status["Thing/a"] = {}
    assert "needs a status that is not there yet" in bench.run(text).remaining.stuck[0].reason
    bench.system.status["Thing/a"] = {"port": 30025}
    assert bench.run(text).verdict == "converged"
    assert bench.system.objects["Thing/b"].content["size"] == 30025
    assert bench.plan(text).in_sync


def test_a_status_of_the_wrong_type_blocks_with_the_field_it_does_not_fit() -> None:
    bench = Bench()
    bench.system.status["Thing/a"] = {"port": "many"}
    stuck = bench.run(thing("a") + thing("b", size="${status('mem/Thing/a').port}")).remaining.stuck
    assert [one.reason for one in stuck] == [
        "what status() gives does not fit: size: input should be a valid integer, unable to parse string as an integer"
    ]


def test_ref_does_not_see_what_another_resource_only_learns_from_a_status() -> None:
    from reconciler.errors import InputError

    text = thing("a") + thing("b", text="${status('mem/Thing/a').x}") + thing("c", text="${ref('mem/Thing/b').spec.text}")
    with pytest.raises(InputError, match="text"):
        stack_of(text)


def test_status_and_a_secret_in_one_text_are_refused() -> None:
    from reconciler.errors import InputError

    with pytest.raises(InputError, match="cannot be told apart in time; split it"):
        stack_of(thing("a") + thing("b", text="${status('mem/Thing/a').x} ${vault('p', 'k')}"))


# -- secrets --------------------------------------------------------------------------------------------------------------------


def test_vault_gives_a_reference_that_is_equal_when_it_means_the_same() -> None:
    first, second = text_of("${vault('p', 'k')}"), text_of("${vault('p', 'k')}")
    assert isinstance(first, SecretRef)
    assert first == second
    assert hash(first) == hash(second)
    assert first.inputs == (("p", "k"),)
    assert first != text_of("${vault('p', 'other')}")
    assert first != text_of("x${vault('p', 'k')}")


def test_a_reference_carries_what_else_its_expressions_use() -> None:
    expression = "[${vars.host}] ${vault('p', 'k') + ':' + vars.port}"
    one, other = text_of(expression, host="h", port="1", unused="a"), text_of(expression, host="h", port="2", unused="a")
    assert one != other
    assert one == text_of(expression, host="h", port="1", unused="b")
    assert complete(one, lambda path, key: f"{path}.{key}") == "[h] p.k:1"


def test_a_reference_may_read_several_secrets_and_another_resource() -> None:
    text = thing("a", text="user") + thing("b", text="${ref('mem/Thing/a').spec.text}:${vault('p', 'k')}@${vault('q', 'k')}")
    ref = spec(text, "b").text
    assert ref.paths == ("p", "q")
    assert complete(ref, lambda path, key: path.upper()) == "user:P@Q"


def test_a_secret_of_another_resource_cannot_be_read_by_ref() -> None:
    from reconciler.errors import InputError

    with pytest.raises(InputError, match="text"):
        stack_of(thing("a", text="${vault('p', 'k')}") + thing("b", text="${ref('mem/Thing/a').spec.text}"))


def test_a_reference_cannot_be_changed_and_shows_no_value() -> None:
    ref = text_of("${vault('p', 'k')}")
    with pytest.raises(AttributeError):
        ref.template = "x"
    assert repr(ref) == "SecretRef(\"${vault('p', 'k')}\")"


def test_functions_on_secrets_are_evaluated_only_at_the_write() -> None:
    ref = text_of("${base64(jsonField(vault('p', 'k'), 'user'))}")
    assert complete(ref, lambda path, key: json.dumps({"user": "me"})) == "bWU="


@pytest.mark.parametrize(
    "expression",
    [
        "${jsonField(vault('p', 'k'), 'x')}",
        "${dovecotAccounts(vault('p', 'k'))}",
        "${int(vault('p', 'k'))}",
        "${vault('p', 'k')[0]}",
        "${vault('p', 'k').x}",
        "${[vault('p', 'k')]}",
        "${{vault('p', 'k'): 1}[vault('p', 'k') + 'x']}",
    ],
)
def test_an_error_never_carries_a_value(expression: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExpressionError) as caught:
        complete(text_of(expression), lambda path, key: CANARY)
    error: BaseException | None = caught.value
    assert CANARY not in str(error)
    assert error is not None
    assert error.__suppress_context__ or error.__context__ is None
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err


@pytest.mark.parametrize("error", [Transient("the store does not answer", retry_after=3), Permanent("forbidden")])
def test_the_stores_own_error_gets_through_a_reveal(error: DriverError) -> None:
    from reconciler.driver import Scope
    from reconciler.secrets import Secrets

    class Store:
        def read(self, path: str, scope: Scope) -> Any:
            raise error

    with pytest.raises(type(error)) as caught:
        Secrets(Store(), Scope("x"), b"key").reveal(text_of("${vault('p', 'k')}"))  # type: ignore[arg-type]
    assert caught.value is error


# -- helpers --------------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=20))
def test_base64_can_be_read_back(text: str) -> None:
    import base64

    assert base64.b64decode(to_base64(text)).decode() == text


def test_json_field_gives_texts_as_they_are_and_other_values_as_json() -> None:
    assert json_field('{"a": "x", "b": [1]}', "a") == "x"
    assert json_field('{"a": "x", "b": [1]}', "b") == "[1]"


def test_an_account_line_changes_exactly_when_its_password_does() -> None:
    first = dovecot_accounts('{"b@x.org": "one", "a@x.org": "two"}').splitlines()
    assert [line.split("|")[0] for line in first] == ["a@x.org", "b@x.org"]
    assert first == dovecot_accounts('{"a@x.org": "two", "b@x.org": "one"}').splitlines()
    second = dovecot_accounts('{"a@x.org": "two", "b@x.org": "changed", "c@x.org": "two"}').splitlines()
    assert first[0] == second[0]
    assert first[1] != second[1]
    assert second[0].split("|")[1] != second[2].split("|")[1], "two accounts with one password must not look alike"


def test_an_account_line_can_be_logged_in_with() -> None:
    scheme, hashed = dovecot_accounts('{"a@x.org": "s3cret"}').strip().split("|")[1].split("}")
    assert scheme == "{BLF-CRYPT"
    assert bcrypt.checkpw(b"s3cret", hashed.encode())


def test_a_password_that_is_a_hash_already_is_kept() -> None:
    assert dovecot_accounts('{"a@x.org": "{SHA512-CRYPT}$6$abc"}') == "a@x.org|{SHA512-CRYPT}$6$abc\n"

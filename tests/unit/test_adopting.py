"""What is live goes into git: a plan finds nothing afterwards, every other byte is as it was, and no secret is written."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adopting import Adoption, adopt
from reconciler.desired import Desired, desired_from
from reconciler.driver import Evidence
from reconciler.errors import ReconcilerError
from reconciler.source import Revision
from tests.unit.core.memory import CATALOG, STACK, TODAY, Bench, mem, stack_file, thing
from tests.unit.test_edits import flow, written

BEFORE = """\
# all our things
apiVersion: mem/v1
kind: Thing
metadata:
  name: a
spec:
  # what it says
  text: Hello   # to everybody
  size: 3
  tags:
    colour: blue
    shape: round   # like a ball
---
# another one
apiVersion: mem/v1
kind: Thing
metadata: {name: b}
spec: {text: "${ref('mem/Thing/a').spec.text} too", size: 1}
"""


def desired(all_yaml: str, stack_yaml: str = STACK) -> Desired:
    tree = {"desired/test/stack.yaml": stack_yaml.encode(), "desired/test/all.yaml": all_yaml.encode()}
    return desired_from(Revision("c1", tree), "desired")


def adopted(bench: Bench, found: Desired, name: str = "a", *, over: bool = False) -> Adoption:
    stack = found.load("test", CATALOG, TODAY)
    return adopt(bench.engine(), found, stack, mem(name), CATALOG, over=over)


def with_file(found: Desired, adoption: Adoption) -> Desired:
    tree = {**found.revision.tree, adoption.file: adoption.after}
    return replace(found, revision=replace(found.revision, tree=tree))


def differs(bench: Bench, found: Desired, name: str) -> bool:
    plan, _ = bench.engine().plan(found.load("test", CATALOG, TODAY), "c2")
    return any(one.id == mem(name) for one in (*plan.changes, *(held.change for held in plan.held))) or any(
        one.id == mem(name) for one in plan.stuck
    )


def live(bench: Bench, **content: Any) -> None:
    """Somebody changes the thing ``a`` by hand."""
    bench.system.objects["Thing/a"].content.update(content)


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.run(BEFORE)
    return made


class TestAField:
    def test_is_taken_over_beside_its_comment(self, bench: Bench) -> None:
        live(bench, text="Goodbye", size=4)
        found = adopted(bench, desired(BEFORE))
        assert found.after.decode() == BEFORE.replace("text: Hello ", "text: Goodbye ").replace("size: 3", "size: 4")
        assert set(found.taken) == {"/spec/text", "/spec/size"}
        assert found.complete
        assert not differs(bench, with_file(desired(BEFORE), found), "a")

    def test_that_git_left_to_its_default_is_added(self, bench: Bench) -> None:
        live(bench, zone="north", tags={"colour": "blue", "shape": "round", "weight": "heavy"})
        found = adopted(bench, desired(BEFORE))
        assert "    shape: round   # like a ball\n    weight: heavy\n  zone: north\n---" in found.after.decode()
        assert found.complete

    def test_that_is_gone_is_taken_out(self, bench: Bench) -> None:
        live(bench, tags={"colour": "blue"})
        assert adopted(bench, desired(BEFORE)).after.decode() == BEFORE.replace("    shape: round   # like a ball\n", "")

    def test_that_would_read_like_an_expression_is_written_as_the_text_that_it_is(self, bench: Bench) -> None:
        live(bench, text="costs ${5}")
        found = adopted(bench, desired(BEFORE))
        assert 'text: "costs $${5}"   # to everybody' in found.after.decode()
        assert found.complete

    def test_that_is_an_expression_is_refused_with_what_to_change_and_replaced_when_asked(self, bench: Bench) -> None:
        text = BEFORE.replace("text: Hello", "text: ${vars.greeting}")
        given = desired(text, stack_file(vars={"greeting": "Hello"}))
        live(bench, text="Goodbye", size=4)
        found = adopted(bench, given)
        assert found.after.decode() == text.replace("size: 3", "size: 4"), "the others are taken all the same"
        [refused] = found.refused
        assert (refused.path, refused.reason) == (
            "/spec/text",
            "is written as ${vars.greeting}; change vars.greeting in stack.yaml, or have the expression replaced with --replace",
        )
        assert adopted(bench, given, over=True).after.decode() == BEFORE.replace("Hello", "Goodbye").replace("size: 3", "size: 4")

    def test_that_its_kind_does_not_allow_is_said(self, bench: Bench) -> None:
        live(bench, size="large", text="Goodbye")
        found = adopted(bench, desired(BEFORE))
        assert [one.path for one in found.refused] == ["/spec/size"]
        assert "cannot be expressed: spec.size:" in found.refused[0].reason
        assert found.taken == ("/spec/text",)

    def test_that_comes_from_an_anchor_is_left_to_a_person(self, bench: Bench) -> None:
        text = BEFORE.replace("colour: blue", "colour: &c blue").replace("shape: round", "shape: *c")
        bench.run(text)
        live(bench, tags={"colour": "red", "shape": "round"}, text="Goodbye")
        found = adopted(bench, desired(text))
        assert {(one.path, one.reason.split(";")[0]) for one in found.refused} == {
            (f"/spec/tags/{name}", "it is an anchor, or comes from one, that other places share") for name in ("colour", "shape")
        }
        assert found.taken == ("/spec/text",)


class TestASecret:
    TEXT = BEFORE.replace("text: Hello", "text: ${vault('app', 'token')}").replace("${ref('mem/Thing/a').spec.text} too", "x")

    @pytest.fixture
    def bench(self) -> Bench:
        made = Bench()
        made.system.keep_secret("app", token="c4n4ry-1")
        made.run(self.TEXT)
        return made

    @pytest.mark.parametrize("over", [False, True])
    def test_is_never_written_in_clear(self, bench: Bench, over: bool) -> None:
        bench.system.objects["Thing/a"].sealed = ""
        live(bench, text="c4n4ry-2", size=9)
        found = adopted(bench, desired(self.TEXT), over=over)
        assert b"c4n4ry" not in found.after
        assert "c4n4ry" not in found.message + found.patch
        assert [(one.path, one.reason.split(",")[0]) for one in found.refused] == [("/spec/text", "is a secret")]
        assert found.after.decode() == self.TEXT.replace("size: 3", "size: 9")

    def test_is_not_written_either_where_a_key_says_that_it_is_one(self, bench: Bench) -> None:
        live(bench, tags={"colour": "blue", "shape": "round", "api_token": "c4n4ry-3"})
        found = adopted(bench, desired(self.TEXT), over=True)
        assert b"c4n4ry" not in found.after
        assert "looks like a secret" in found.refused[0].reason


class TestNothing:
    def test_is_proposed_where_git_says_what_is_live(self, bench: Bench) -> None:
        with pytest.raises(ReconcilerError, match="mem/Thing/a: git already says what is live; there is nothing to take over"):
            adopted(bench, desired(BEFORE))

    def test_is_proposed_for_what_does_not_exist(self, bench: Bench) -> None:
        del bench.system.objects["Thing/a"]
        with pytest.raises(ReconcilerError, match=r"does not exist in its system; if that is right, .* at desired/test/all.yaml:2"):
            adopted(bench, desired(BEFORE))

    def test_is_proposed_for_what_cannot_be_seen(self, bench: Bench) -> None:
        bench.system.fault, bench.system.fault_times = "server-error", 99
        with pytest.raises(ReconcilerError, match="mem cannot be seen"):
            adopted(bench, desired(BEFORE))

    def test_is_proposed_for_what_git_does_not_declare(self, bench: Bench) -> None:
        with pytest.raises(ReconcilerError, match="mem/Thing/z: the stack test does not declare it"):
            adopted(bench, desired(BEFORE), "z")


def test_what_runs_already_and_carries_nobodys_mark_is_taken_over_before_it_is_adopted() -> None:
    bench = Bench()
    bench.run(thing("a", text="as it runs", size=8, tags={"x": "1"}))
    bench.system.objects["Thing/a"].mark = ""
    text = BEFORE.replace("  name: a\n", '  name: a\n  annotations: {reconciler/adopt: "true"}\n')
    found = adopted(bench, desired(text))
    assert found.complete
    [change] = [
        one
        for one in bench.engine().plan(with_file(desired(text), found).load("test", CATALOG, TODAY), "c2")[0].changes
        if one.id == mem("a")
    ]
    assert not change.diffs, "the adoption changes nothing but the mark"


def test_the_commit_and_the_patch_say_what_was_taken_over_and_whose_change_it_was(bench: Bench) -> None:
    live(bench, size=4)
    found = replace(adopted(bench, desired(BEFORE)), evidence="by ada at noon")
    assert found.message == "Adopt what is live of mem/Thing/a\n\nChanged by ada at noon.\nTaken over: /spec/size\n"
    assert "-  size: 3\n+  size: 4\n" in found.patch
    assert found.patch.startswith("--- a/desired/test/all.yaml\n+++ b/desired/test/all.yaml\n")
    assert Evidence()


# -- the law ---------------------------------------------------------------------------------------------------------------------

texts = st.sampled_from(["", "Hello", "yes", "1e3", "a: b", "two\nlines\n", "${x}", "- x", "#", "it's", "ümlaut"])
tags = st.dictionaries(st.sampled_from(["a", "b/c", "on", "x.y", "8"]), texts, max_size=4)
specs = st.fixed_dictionaries(
    {}, optional={"text": texts, "size": st.integers(-3, 99), "tags": tags, "zone": texts, "needs": st.lists(st.just("b"), max_size=1)}
)


@settings(max_examples=60)
@given(before=specs, after=specs, seed=st.integers(0, 9999))
def test_after_it_a_plan_finds_nothing_and_everything_else_is_byte_by_byte_the_same(
    before: dict[str, Any], after: dict[str, Any], seed: int
) -> None:
    bench = Bench()
    dice = random.Random(seed)
    bench.run(document("a", escape(after), dice) + thing("b"))
    head, tail = f"# top\n{thing('b')}---\n# ours\n", f"---\n# below\n{thing('c')}# end\n"
    text = head + document("a", escape(before), dice).removeprefix("---\n") + tail
    given = desired(text)
    if not differs(bench, given, "a"):
        return
    found = adopted(bench, given)
    assert found.complete, found.refused
    result = with_file(given, found)
    assert not differs(bench, result, "a")
    assert found.after.decode().startswith(head)
    assert found.after.decode().endswith(tail)


def escape(spec: dict[str, Any]) -> dict[str, Any]:
    if isinstance(spec, dict):
        return {key: escape(item) for key, item in spec.items()}
    return spec.replace("${", "$${") if isinstance(spec, str) else spec


def document(name: str, spec: dict[str, Any], dice: random.Random) -> str:
    body = written(spec, 2, dice)
    body = f" {body}" if not spec or body[:1] == "{" else f"\n  {body}"
    return f"---\napiVersion: mem/v1\nkind: Thing\nmetadata: {{name: {flow(name)}}}\nspec:{body}\n"

"""A difference that somebody acknowledged counts for what was acknowledged, and for nothing else."""

from reconciler.driver import FieldDiff
from reconciler.plan import Exemption
from tests.unit.core.memory import mem, stack_file, stack_of, thing

PINNED = """---
apiVersion: reconciler/v1
kind: DriftException
metadata: {name: known}
spec:
  resource: mem/Thing/a
  values: {/text: the old one}
  reason: until the cut-over
  expires: 2027-01-01
"""


def test_an_exception_that_names_a_value_accepts_that_value_and_no_other() -> None:
    one = Exemption(mem("a"), ("/text",), "known", "", "2027-01-01", values=(("/text", "the old one"),))
    assert one.covers(FieldDiff("/text", "the old one", "the new one"))
    assert not one.covers(FieldDiff("/text", "something else", "the new one"))
    assert not one.covers(FieldDiff("/size", 1, 2))


def test_a_pointer_with_a_value_counts_as_a_field() -> None:
    (found,) = stack_of(thing("a", text="x") + PINNED).exemptions
    assert found.fields == ("/text",)
    assert found.values == (("/text", "the old one"),)


def test_a_stack_inside_a_stack_keeps_its_files_to_itself() -> None:
    inner = {"inner/stack.yaml": stack_file(), "inner/all.yaml": thing("b")}
    stack = stack_of({"all.yaml": thing("a"), **inner})
    assert set(stack.graph.resources) == {mem("a")}

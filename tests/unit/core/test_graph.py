"""What the order of things refuses, beyond what the loader finds."""

from dataclasses import replace

from reconciler.graph import rivals
from reconciler.resource import Resource
from tests.unit.core.memory import Thing, resource


def test_two_names_for_one_object_are_one_problem_at_the_second_name() -> None:
    class Natural(Thing):
        def stands_for(self) -> str:
            return f"object {self.text}"

    def named(name: str, text: str) -> Resource:
        return replace(resource(name), spec=Natural(text=text))

    (problem,) = rivals([named("a", "same"), named("b", "same"), named("c", "other")])
    assert problem.resource == "mem/Thing/b"
    assert "is the same object as mem/Thing/a" in problem.message
    assert not list(rivals([named("a", "one"), named("b", "other"), resource("c"), resource("d")]))

"""A write to one key of a path is no rotation of another key. Values are read once, by a pass that may write, and noted without them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.driver import Cause, Scope, SecretNote, SecretReading, SecretVersion
from reconciler.errors import Permanent, Transient
from reconciler.report import Verdict
from reconciler.resource import SecretRef, SecretValue
from reconciler.secrets import STRONG, Secrets
from tests.unit.core.memory import Bench, resource, thing

CANARY = "hush-4711-canary"
STRONG_KEY = b"a long random text of an installation"
TWO = thing("a", text="${vault('app', 'a')}") + thing("b", text="${vault('app', 'b')}")


def bench_of(**secrets: str) -> Bench:
    bench = Bench(key=STRONG_KEY)
    bench.system.keep_secret("app", **(secrets or {"a": f"{CANARY}-1", "b": f"{CANARY}-2"}))
    return bench


def reads(bench: Bench) -> int:
    return bench.system.calls.count("read app")


def written(bench: Bench) -> list[str]:
    return bench.system.written()


class TestRotation:
    def test_a_write_to_one_key_rewrites_only_who_reads_it(self) -> None:
        bench = bench_of()
        bench.run(TWO)
        bench.system.calls.clear()
        bench.system.keep_secret("app", a=f"{CANARY}-new", b=f"{CANARY}-2")
        report = bench.run(TWO)
        assert [(one.id.name, one.cause) for one in report.plan.changes] == [("a", Cause.ROTATION)]
        assert written(bench) == ["update Thing/a"]
        assert bench.system.objects["Thing/a"].content["text"] == f"{CANARY}-new"
        assert reads(bench) == 1, "the value is read once, for the note and for the write"
        assert report.verdict is Verdict.CONVERGED

    def test_a_write_that_changes_nothing_and_one_to_a_key_that_nobody_reads_write_nothing(self) -> None:
        bench = bench_of()
        bench.run(TWO)
        bench.system.calls.clear()
        bench.system.keep_secret("app", a=f"{CANARY}-1", b=f"{CANARY}-2", other="x")
        assert bench.run(TWO).verdict is Verdict.CONVERGED
        assert not written(bench)

    def test_a_plan_reads_nothing_and_shows_who_may_be_rewritten_until_a_pass_has_looked(self) -> None:
        bench = bench_of()
        bench.run(TWO)
        bench.system.keep_secret("app", a=f"{CANARY}-new", b=f"{CANARY}-2")
        bench.system.calls.clear()
        plan = bench.plan(TWO)
        assert {one.id.name for one in plan.changes} == {"a", "b"}
        assert any(note.startswith("app: nobody looked into version 2 yet") for note in plan.notes)
        assert not reads(bench)
        assert bench.system.notes["app"].version == "1", "a plan notes nothing"
        bench.run(TWO)
        assert bench.plan(TWO).in_sync

    def test_the_plan_of_who_is_about_to_apply_is_the_plan_of_the_pass(self) -> None:
        from tests.unit.core.memory import stack_of

        bench = bench_of()
        bench.run(TWO)
        bench.system.keep_secret("app", a=f"{CANARY}-new", b=f"{CANARY}-2")
        shown, seen = bench.engine().plan(stack_of(TWO, bench.catalog), "r1", exact=True)
        assert [one.id.name for one in shown.changes] == ["a"]
        assert CANARY not in repr(seen)
        assert bench.run(TWO, shown=shown.digest).verdict is Verdict.CONVERGED

    def test_a_value_that_comes_back_is_the_old_one_and_a_lost_note_costs_one_reading(self) -> None:
        bench = bench_of()
        bench.run(TWO)
        bench.system.notes.clear()
        bench.system.calls.clear()
        assert bench.run(TWO).verdict is Verdict.CONVERGED
        assert (reads(bench), written(bench)) == (1, [])
        bench.system.calls.clear()
        bench.run(TWO)
        assert reads(bench) == 0

    def test_a_forged_note_hides_no_rotation(self) -> None:
        bench = bench_of()
        bench.run(TWO)
        bench.system.keep_secret("app", a=f"{CANARY}-new", b=f"{CANARY}-2")
        bench.system.notes["app"] = replace(bench.system.notes["app"], version="2")
        bench.run(TWO)
        assert bench.system.objects["Thing/a"].content["text"] == f"{CANARY}-new"

    def test_a_note_of_another_path_is_no_note(self) -> None:
        bench = bench_of()
        bench.run(TWO)
        note = bench.system.notes["app"]
        bench.system.keep_secret("other", a="x", b="y")
        bench.system.notes["other"] = note
        bench.run(TWO + thing("c", text="${vault('other', 'a')}"))
        assert bench.system.notes["other"].tags["a"] != note.tags["a"]

    def test_keys_that_another_stack_reads_stay_noted(self) -> None:
        bench = bench_of()
        bench.run(thing("a", text="${vault('app', 'a')}"))
        assert set(bench.system.notes["app"].tags) == {"a"}
        bench.run(thing("b", text="${vault('app', 'b')}"))
        assert set(bench.system.notes["app"].tags) == {"a", "b"}

    def test_a_note_holds_no_value_and_no_digest_that_works_without_the_key(self) -> None:
        notes = []
        for key in (STRONG_KEY, STRONG_KEY[::-1]):
            bench = bench_of(a="same", b="same")
            bench.key = key
            bench.run(TWO)
            notes.append(bench.system.notes["app"])
        tags = [tag for note in notes for tag in note.tags.values()]
        assert len(set(tags)) == 4, "neither two keys of a path nor two installations can be compared"


class TestWithoutNotes:
    def test_with_a_known_key_nothing_of_a_value_is_noted_and_the_whole_path_counts(self) -> None:
        bench = bench_of()
        bench.key = b"reconciler"
        assert len(bench.key) < STRONG
        bench.run(TWO)
        assert not bench.system.notes
        bench.system.keep_secret("app", a=f"{CANARY}-new", b=f"{CANARY}-2")
        report = bench.run(TWO)
        assert {one.id.name for one in report.plan.changes} == {"a", "b"}
        assert any("fingerprint_key is no long random text" in note for note in report.plan.notes)

    def test_where_no_note_may_be_kept_the_whole_path_counts_and_the_plan_says_why(self) -> None:
        bench = bench_of()
        bench.system.on_note = Permanent("app: permission denied")
        assert bench.run(TWO).verdict is Verdict.CONVERGED
        bench.system.calls.clear()
        assert bench.run(TWO).verdict is Verdict.CONVERGED
        assert not written(bench)
        bench.system.keep_secret("app", a=f"{CANARY}-new", b=f"{CANARY}-2")
        report = bench.run(TWO)
        assert {one.id.name for one in report.plan.changes} == {"a", "b"}
        assert "app: a write to any of its keys rewrites every consumer of it: app: permission denied" in report.plan.notes

    def test_a_note_that_could_not_be_kept_for_a_moment_rewrites_nobody(self) -> None:
        bench = bench_of()
        bench.run(TWO)
        bench.system.keep_secret("app", a=f"{CANARY}-1", b=f"{CANARY}-2", c="x")
        bench.system.calls.clear()
        bench.system.on_note = Transient("503")
        assert bench.run(TWO).verdict is Verdict.CONVERGED
        bench.system.on_note = None
        assert bench.run(TWO).verdict is Verdict.CONVERGED
        assert not written(bench)
        assert bench.system.notes["app"].version == "2"

    def test_a_value_that_cannot_be_read_makes_its_consumers_wait_and_rewrites_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tests.unit.core.memory import MemoryDriver

        bench = bench_of()
        bench.run(TWO)
        bench.system.keep_secret("app", a=f"{CANARY}-new", b=f"{CANARY}-2")
        bench.system.calls.clear()

        def read(self: MemoryDriver, path: str, scope: Any) -> Any:
            raise Permanent("app: permission denied (403)")

        with monkeypatch.context() as patch:
            patch.setattr(MemoryDriver, "read", read)
            report = bench.run(TWO)
        assert {one.reason for one in report.remaining.stuck} == {"app: permission denied (403)"}
        assert not written(bench)
        bench.run(TWO)
        assert written(bench) == ["update Thing/a"]


class TestFaults:
    def test_a_value_of_the_wrong_shape_makes_its_own_consumers_wait_and_is_not_read_for_that_again(self) -> None:
        bench = bench_of()
        bench.system.facts["app"] = {"a": {"fault": "does not match the pattern ^x"}}
        report = bench.run(TWO)
        said = "app#a does not match the pattern ^x; put a value of the right shape or correct the rule in git"
        assert [(one.id.name, one.reason) for one in report.remaining.stuck] == [("a", said)]
        assert written(bench) == ["create Thing/b"]
        bench.system.calls.clear()
        plan = bench.plan(TWO)
        assert [one.reason for one in plan.stuck] == [said]
        assert not reads(bench)

    def test_where_nothing_is_noted_a_value_of_the_wrong_shape_fails_at_the_write(self) -> None:
        store = SecretReading({"k": SecretValue(CANARY)}, "1", {"k": {"fault": "is not JSON"}})

        class Store:
            def read(self, path: str, scope: Scope) -> SecretReading:
                return store

        with pytest.raises(Permanent, match="p#k is not JSON") as caught:
            Secrets(Store(), Scope("x"), b"k").reveal(SecretRef("${vault('p', 'k')}", (("p", "k"),)))  # type: ignore[arg-type]
        assert CANARY not in str(caught.value)


class Shelf:
    """A store with one path whose values a test decides."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.version = 0
        self.kept: SecretNote | None = None

    def put(self, values: dict[str, str]) -> None:
        self.values, self.version = values, self.version + 1

    def versions(self, paths: Any, scope: Scope) -> dict[str, SecretVersion]:
        return {"p": SecretVersion(str(self.version), frozenset(self.values), self.kept)}

    def read(self, path: str, scope: Scope) -> SecretReading:
        return SecretReading({key: SecretValue(value) for key, value in self.values.items()}, str(self.version))

    def note(self, path: str, note: SecretNote, scope: Scope) -> None:
        self.kept = note

    def provider(self, path: str, wanted: Any) -> None:
        return None


VALUES = st.fixed_dictionaries({"a": st.text(max_size=3), "b": st.text(max_size=3)})


@given(st.lists(VALUES, min_size=2, max_size=5))
def test_a_fingerprint_changes_exactly_when_the_value_of_its_key_does(history: list[dict[str, str]]) -> None:
    shelf, prints, wanted = Shelf(), [], [resource(key, text=SecretRef(f"${{{key}}}", (("p", key),))) for key in ("a", "b")]
    for values in history:
        shelf.put(values)
        secrets = Secrets(shelf, Scope("x/y"), STRONG_KEY)  # type: ignore[arg-type]
        assert not secrets.prepare(wanted, exact=True)
        prints.append([secrets.fingerprint(one.spec.secrets()[0]) for one in wanted])
        blind = Secrets(shelf, Scope("x/y"), STRONG_KEY)  # type: ignore[arg-type]
        blind.prepare(wanted)
        assert [blind.fingerprint(one.spec.secrets()[0]) for one in wanted] == prints[-1]
    for place, key in enumerate(("a", "b")):
        for one, values in zip(prints, history, strict=True):
            for other, others in zip(prints, history, strict=True):
                assert (one[place] == other[place]) is (values[key] == others[key])

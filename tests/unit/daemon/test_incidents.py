"""What an incident is: one thing from its beginning to its end, whatever happens in between."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reconciler.daemon.incidents import MOST_NOTED, QUIET, Found, Incident, Part, Sort, merge, spell

NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)


def unseen(*ids: str, why: str = "refused", target: str = "vault") -> Found:
    return Found(f"unseen:{target}", Sort.UNSEEN, Part(why, {id: f"{id}: cannot be seen" for id in ids}), details=("why",))


def drift(*ids: str, lasting: bool = True) -> Found:
    return Found("drift:mail", Sort.DRIFT, Part("", {id: f"{id}: differs" for id in ids}), lasting=lasting, details=("fields",))


def after(
    known: list[Incident], stack: str, *found: Found, minutes: float = 0, unknown: tuple[str, ...] = ()
) -> tuple[list[str], list[Incident]]:
    """Merge, as the store would; give what happened and what is known then."""
    steps = merge(stack, known, found, NOW + timedelta(minutes=minutes), unknown=unknown)
    kept = {one.id: one for one in known}
    for step in steps:
        number = step.incident.id or len(kept) + 1
        kept[number] = replace(step.incident, id=number)
    return [step.what for step in steps], list(kept.values())


def test_a_trouble_opens_stays_and_ends_as_one_incident() -> None:
    what, known = after([], "mail", unseen("a", "b"))
    assert what == ["opened"]
    what, known = after(known, "mail", unseen("a", "b"), minutes=5)
    assert what == [], "a state that stays is no news"
    what, known = after(known, "mail", minutes=10)
    assert (what, [one.open for one in known]) == (["over"], [False])


def test_a_system_that_two_stacks_need_is_one_incident_until_both_see_it_again() -> None:
    _, known = after([], "mail", unseen("a"))
    what, known = after(known, "web", unseen("w"))
    assert (what, len(known), sorted(known[0].parts)) == (["changed"], 1, ["mail", "web"])
    what, known = after(known, "mail")
    assert (what, known[0].open, list(known[0].parts)) == (["changed"], True, ["web"])
    what, known = after(known, "web")
    assert (what, known[0].open) == (["over"], False)


def test_what_comes_and_goes_is_said_in_the_thread() -> None:
    _, known = after([], "mail", drift("a", "b"))
    (step,) = merge("mail", known, [drift("b", "c")], NOW)
    assert step.lines == ("c: differs", "no longer: a")


def test_a_drift_whose_system_cannot_be_seen_stays_open() -> None:
    _, known = after([], "mail", drift("a", "b"))
    what, known = after(known, "mail", unseen("a"), unknown=("a",))
    assert sorted(what) == ["changed", "opened"]
    assert list(known[0].parts["mail"].items) == ["a"], "b was seen, and differs no longer"
    what, known = after(known, "mail")
    assert what == ["over", "over"]


def test_what_is_unseen_because_of_another_system_now_is_over_for_the_first() -> None:
    _, known = after([], "mail", unseen("a"))
    what, known = after(known, "mail", unseen("a", target="k8s"), unknown=("a",))
    assert what == ["opened", "over"]
    assert [one.key for one in known if one.open] == ["unseen:k8s"]


def test_what_cannot_be_judged_stands_behind_what_was_found_and_in_no_older_words() -> None:
    _, known = after([], "mail", drift("a", "b", "c"))
    found = Found("drift:mail", Sort.DRIFT, Part("", {"c": "c: differs", "b": "b: differs otherwise"}))
    _, known = after(known, "mail", found, unknown=("a", "b"))
    assert list(known[0].parts["mail"].items.items()) == [("c", "c: differs"), ("b", "b: differs otherwise"), ("a", "a: differs")]


def test_another_plan_is_said_and_what_only_the_card_shows_is_not() -> None:
    found = Found("held:mail", Sort.HELD, Part("1 deletion", {"a": "- a"}, digest="d" * 64, revision="c1", run=1))
    _, known = after([], "mail", found)
    for part, what, lines in (
        (replace(found.part, run=2), None, ()),
        (replace(found.part, revision="c2"), "refreshed", ()),
        (replace(found.part, hurt={"x": "x: down"}), "refreshed", ()),
        (replace(found.part, waits=("x",)), "refreshed", ()),
        (replace(found.part, fix=True), "refreshed", ()),
        (replace(found.part, digest="e" * 64), "changed", (f"the plan is another one now: {'e' * 12}",)),
        (replace(found.part, digest="", about="2 deletions"), "refreshed", ()),
    ):
        steps = merge("mail", known, [replace(found, part=part)], NOW)
        assert [(step.what, step.lines) for step in steps] == ([(what, lines)] if what else [])


def test_a_long_list_of_what_came_is_cut_in_the_thread_and_says_so() -> None:
    _, known = after([], "mail", drift("z"))
    (step,) = merge("mail", known, [drift("z", *(f"a{number:02}" for number in range(MOST_NOTED + 2)))], NOW)
    assert (len(step.lines), step.lines[-1]) == (MOST_NOTED + 1, "and 2 more")


def test_of_two_incidents_of_one_key_the_newer_counts_in_whatever_order_they_are_kept() -> None:
    _, known = after([], "mail", unseen("a"))
    _, known = after(known, "mail", minutes=1)
    _, known = after(known, "mail", unseen("a"), minutes=300)
    assert merge("mail", known[::-1], [unseen("a")], NOW + timedelta(minutes=301)) == []


def test_a_trouble_that_comes_back_soon_opens_the_same_card_again_and_later_another() -> None:
    _, known = after([], "mail", unseen("a"))
    _, known = after(known, "mail", minutes=1)
    what, known = after(known, "mail", unseen("a"), minutes=2)
    assert (what, len(known), known[0].times, known[0].open) == (["again"], 1, 2, True)
    _, known = after(known, "mail", minutes=3)
    what, known = after(known, "mail", unseen("a"), minutes=4 + QUIET.total_seconds() / 60)
    assert (what, len(known)) == (["opened"], 2)


def test_a_trouble_that_is_back_begins_anew_with_who_has_it_and_with_nothing_said_about_it() -> None:
    _, known = after([], "mail", unseen("a"))
    _, known = after(known, "web", unseen("w"))
    _, known = after([replace(known[0], said=("acknowledged by ada",))], "mail", minutes=1)
    _, known = after(known, "web", minutes=2)
    what, known = after(known, "mail", unseen("a"), minutes=3)
    assert (what, list(known[0].parts), known[0].said) == (["again"], ["mail"], ())


def test_drift_that_is_repaired_at_once_is_over_at_once_and_counted_when_it_comes_again() -> None:
    what, known = after([], "mail", drift("a", lasting=False))
    assert (what, known[0].open, known[0].event) == (["opened"], False, True)
    what, known = after(known, "mail", minutes=5)
    assert what == []
    what, known = after(known, "mail", drift("a", lasting=False), minutes=6)
    assert (what, len(known), known[0].times) == (["again"], 1, 2)


def test_open_drift_that_a_pass_repairs_is_over_with_that_as_its_last_word() -> None:
    _, known = after([], "mail", drift("a"))
    (step,) = merge("mail", known, [drift("a", lasting=False)], NOW + timedelta(minutes=12))
    assert (step.what, step.lines) == ("over", ("fields", "over after 12 min"))


def test_one_commit_is_one_card_for_all_its_stacks_however_late_they_are() -> None:
    one = Found("commit:c1", Sort.COMMIT, Part("1 to create", {"mail a": "+ a"}), lasting=False)
    _, known = after([], "mail", one)
    what, known = after(known, "web", replace(one, part=Part("2 to create", {"web b": "+ b"})), minutes=600)
    assert (what, len(known), sorted(known[0].parts)) == (["changed"], 1, ["mail", "web"])


def test_a_pass_leaves_alone_what_it_cannot_judge() -> None:
    rejected = Found("rejected:mail", Sort.REJECTED, Part("bad", {"x": "x"}))
    _, known = after([], "mail", rejected)
    assert merge("mail", known, [], NOW, sorts=[Sort.DRIFT]) == []
    assert merge("web", known, [], NOW) == [], "nor what is another stack's"


def test_durations_are_said_as_people_say_them() -> None:
    times = [timedelta(seconds=45), timedelta(minutes=12), timedelta(hours=3), timedelta(days=2, hours=5), timedelta(seconds=119)]
    assert [spell(one) for one in times] == ["45 s", "12 min", "3 h", "2 days", "119 s"]


IDS = st.sets(st.sampled_from("abcd"))


@given(st.lists(st.tuples(st.sampled_from(["mail", "web"]), IDS, IDS, st.integers(0, 120)), max_size=12))
def test_there_is_never_more_than_one_open_incident_of_a_key_and_none_when_all_is_well(
    passes: list[tuple[str, set[str], set[str], int]],
) -> None:
    known: list[Incident] = []
    minutes = 0.0
    for stack, blind, differs, wait in passes:
        minutes += wait
        found = [unseen(*sorted(blind))] if blind else []
        found += [Found(f"drift:{stack}", Sort.DRIFT, drift(*sorted(differs - blind)).part)] if differs - blind else []
        _, known = after(known, stack, *found, minutes=minutes, unknown=tuple(blind))
        again, _ = after(known, stack, *found, minutes=minutes, unknown=tuple(blind))
        assert again == [], "the same pass once more says nothing"
        keys = [one.key for one in known if one.open]
        assert len(set(keys)) == len(keys)
        shown = {id for one in known if one.open and one.sort is Sort.UNSEEN for id in one.parts.get(stack, Part()).items}
        assert shown == blind
    for stack in ("mail", "web"):
        _, known = after(known, stack, minutes=minutes)
    assert not [one for one in known if one.open]

"""The plan: each way a wish and a sight can meet, and the laws that hold for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.driver import Action, Cause, Change, Evidence, FieldDiff, Health, Level, Observation, Ownership, Status
from reconciler.graph import build
from reconciler.plan import Applied, Exemption, Held, Inputs, Plan, covers, diff, make_plan
from reconciler.resource import Drift, Resource, ResourceId, ResourcePolicy, SecretRef
from tests.unit.core.memory import Bench, Precious, Thing, mem, resource, thing

SECRET = SecretRef('${vault("p", "k")}', (("p", "k"),))


def fingerprint(ref: SecretRef) -> str:
    return f"print-of-{ref.template}"


def seen(wish: Resource, /, *, owned: Ownership = Ownership.OURS, **live: Any) -> Observation:
    """What a driver would report of ``wish``, with some fields different."""
    return Observation(wish.id, {**wish.spec.canonical(fingerprint), **live}, owned)


def plan(wishes: Sequence[Resource], observations: Sequence[Observation] = (), **more: Any) -> Plan:
    targets = {one.id: "mem" for one in observations} | {one.id: "mem" for one in wishes}
    return make_plan("test", "r1", build(wishes), Inputs(observations, fingerprint, targets, **more))


def only(result: Plan) -> Change:
    (change,) = result.changes
    return change


def applied(*wishes: Resource, before: Mapping[str, Sequence[str]] | None = None, protect: bool = False) -> dict[ResourceId, Applied]:
    edges = before or {}
    return {one.id: Applied(one.digest, tuple(mem(name) for name in edges.get(one.id.name, ())), protect) for one in wishes}


# -- one wish and what was seen of it ---------------------------------------------------------------------------------------------


def test_what_is_as_git_wants_it_is_not_planned() -> None:
    wish = resource("a", text="x")
    result = plan([wish], [seen(wish)])
    assert result.in_sync
    assert (result.waves, result.unchanged, result.size) == ((), 1, {"mem": 1})


def test_what_does_not_exist_is_created_with_all_its_fields() -> None:
    change = only(plan([resource("a", text="x")]))
    assert (change.action, change.cause) == (Action.CREATE, Cause.COMMIT)
    assert FieldDiff("/text", None, "x") in change.diffs


def test_what_vanished_although_it_was_applied_is_created_as_drift() -> None:
    wish = resource("a")
    assert only(plan([wish], applied=applied(wish))).cause is Cause.DRIFT


def test_a_different_field_is_updated_and_nothing_else_is_named() -> None:
    change = only(plan([resource("a", text="new", size=2)], [seen(resource("a", text="old", size=2))]))
    assert (change.action, change.diffs) == (Action.UPDATE, (FieldDiff("/text", "old", "new"),))


def test_an_immutable_field_plans_a_replace() -> None:
    assert only(plan([resource("a", zone="b")], [seen(resource("a", zone="a"))])).action is Action.REPLACE


def test_a_driver_may_say_that_a_change_needs_a_replace() -> None:
    wish = resource("a", text="b")
    change = only(plan([wish], [replace(seen(wish, text="a"), replace="the volume cannot shrink")]))
    assert (change.action, change.risk) == (Action.REPLACE, "the volume cannot shrink")


def precious(**spec: Any) -> Resource:
    return Resource(ResourceId("mem", "Precious", "a"), Precious.model_validate(spec))


def test_what_bears_an_identity_is_replaced_only_with_an_explicit_word() -> None:
    wish = precious(zone="b")
    (held,) = plan([wish], [seen(wish, zone="a")]).held
    assert (held.guard, held.change.action) == ("replace", Action.REPLACE)
    meant = replace(wish, policy=ResourcePolicy(replace=True))
    assert only(plan([meant], [seen(wish, zone="a")])).action is Action.REPLACE


def test_a_held_replace_blocks_its_dependents_and_says_why() -> None:
    wish = precious(zone="b")
    after = replace(resource("b"), needs=(wish.id,))
    result = plan([wish, after], [seen(wish, zone="a")])
    assert [(one.id.name, one.status) for one in result.stuck] == [("b", Status.BLOCKED)]
    assert result.stuck[0].reason.startswith("waits for mem/Precious/a: would lose its identity")


def test_an_unmarked_object_is_refused_with_the_way_out() -> None:
    wish = resource("a")
    (stuck,) = plan([wish], [seen(wish, owned=Ownership.UNMARKED)]).stuck
    assert stuck.status is Status.REFUSED
    assert stuck.reason == 'exists and carries nobody\'s mark; set the annotation reconciler/adopt: "true" to take it over'


def test_a_foreign_object_is_refused_naming_its_owner() -> None:
    wish = resource("a")
    (stuck,) = plan([wish], [replace(seen(wish, owned=Ownership.FOREIGN), owner="other/stack")]).stuck
    assert stuck.reason.startswith("belongs to other/stack")


def test_adoption_takes_over_even_what_is_already_equal() -> None:
    wish = resource("a", ResourcePolicy(adopt=True))
    for ownership in (Ownership.UNMARKED, Ownership.FOREIGN):
        assert only(plan([wish], [seen(wish, owned=ownership)])).action is Action.ADOPT
    assert plan([wish], [seen(wish)]).in_sync


def test_what_was_not_seen_is_unknown_and_neither_created_nor_deleted() -> None:
    wish = resource("a")
    result = plan([wish], [Observation(wish.id, None, unknown="403 forbidden"), Observation(mem("gone"), {}, unknown="403")])
    assert not result.changes
    assert [(one.unknown, one.status, one.reason) for one in result.stuck] == [(True, Status.REFUSED, "cannot be seen: 403 forbidden")]


def test_what_a_driver_refuses_stays_and_says_why() -> None:
    wish = resource("a", size=2)
    result = plan([wish], [replace(seen(wish, size=1), refused="is managed by the cloud")])
    assert [(one.status, one.reason, one.unknown) for one in result.stuck] == [(Status.REFUSED, "is managed by the cloud", False)]


def test_a_blind_target_refuses_its_resources_and_only_those() -> None:
    here, there = resource("a"), Resource(ResourceId("pool", "Thing", "b"), Thing())
    graph = build([here, there])
    result = make_plan("test", "", graph, Inputs((), fingerprint, {here.id: "mem", there.id: "pool"}, blind={"mem": "timed out"}))
    assert [str(one.id) for one in result.stuck] == ["mem/Thing/a"]
    assert result.stuck[0].reason == "mem cannot be seen: timed out"
    assert [str(one.id) for one in result.changes] == ["pool/Thing/b"]


def test_the_servers_own_prediction_is_compared_instead_of_the_wish() -> None:
    wish = resource("a", text="x")
    live = {**wish.spec.canonical(fingerprint), "defaulted": 1}
    assert plan([wish], [Observation(wish.id, live, predicted=live)]).in_sync
    change = only(plan([wish], [Observation(wish.id, live, predicted={**live, "text": "y"})]))
    assert change.diffs == (FieldDiff("/text", "x", "y"),)
    created = only(plan([wish], [Observation(wish.id, None, predicted=live)]))
    assert FieldDiff("/defaulted", None, 1) in created.diffs


def test_a_stale_mark_is_rewritten_by_an_update_of_the_same_object() -> None:
    wish = resource("new-name")
    change = only(plan([wish], [replace(seen(wish), stale_mark="old-name")], applied=applied(wish)))
    assert (change.action, change.cause, change.diffs) == (
        Action.UPDATE,
        Cause.COMMIT,
        (FieldDiff("/metadata/mark", "old-name", "new-name"),),
    )


def test_evidence_and_handle_reach_the_change() -> None:
    wish = resource("a", size=2)
    evidence = Evidence("alice", None, "web interface")
    change = only(plan([wish], [replace(seen(wish, size=1), evidence=evidence, handle={"id": 7})]))
    assert (change.evidence, change.handle, change.live) == (evidence, {"id": 7}, seen(wish, size=1).live)


# -- why ------------------------------------------------------------------------------------------------------------------------


def test_a_difference_is_a_commit_when_git_changed_and_drift_when_it_did_not() -> None:
    old, new = resource("a", size=1), resource("a", size=2)
    assert only(plan([new], [seen(old)], applied=applied(old))).cause is Cause.COMMIT
    assert only(plan([old], [seen(new)], applied=applied(old))).cause is Cause.DRIFT
    assert only(plan([old], [seen(new)])).cause is Cause.COMMIT


def test_a_digest_in_the_mark_tells_drift_even_without_a_memory() -> None:
    wish = resource("a", size=1)
    assert only(plan([wish], [replace(seen(wish, size=2), applied=wish.digest)])).cause is Cause.DRIFT


def test_a_new_version_of_a_secret_is_a_rotation() -> None:
    wish = resource("a", text=SECRET)
    observation = seen(wish, text="secret:older")
    assert only(plan([wish], [observation])).cause is Cause.ROTATION
    assert only(plan([wish], [observation], applied=applied(wish))).cause is Cause.ROTATION


def test_a_commit_that_reads_another_secret_is_no_rotation() -> None:
    wish, old = resource("a", text=SECRET), resource("a", text=SecretRef('${vault("p", "old")}', (("p", "old"),)))
    assert only(plan([wish], [seen(wish, text="secret:older")], applied=applied(old))).cause is Cause.COMMIT


def test_drift_that_must_only_be_reported_is_held_even_when_nothing_is_remembered() -> None:
    wish = resource("a", ResourcePolicy(drift=Drift.REPORT), size=1)
    for memory in (applied(wish), {}):
        (held,) = plan([wish], [seen(wish, size=2)], applied=memory).held
        assert (held.guard, held.change.cause) == ("drift", Cause.DRIFT)
    assert only(plan([replace(wish, spec=Thing(size=3), digest="")], [seen(wish)], applied=applied(wish))).cause is Cause.COMMIT


def test_what_depends_on_a_create_that_is_held_is_blocked() -> None:
    first, second = resource("a", ResourcePolicy(drift=Drift.REPORT)), resource("b", needs=["a"])
    result = plan([first, second], applied=applied(first))
    assert [one.guard for one in result.held] == ["drift"]
    assert [(one.id.name, one.status) for one in result.stuck] == [("b", Status.BLOCKED)]


# -- exceptions and ignored fields ------------------------------------------------------------------------------------------------


def exemption(*fields: str, expired: bool = False) -> Exemption:
    return Exemption(mem("a"), fields, "until the cut-over", "code-569", "2026-05-31", expired)


def test_an_acknowledged_difference_is_held_quietly_with_its_reason() -> None:
    wish = resource("a", text="new")
    for one in (exemption("/text"), exemption()):
        result = plan([wish], [seen(wish, text="old")], exemptions=[one])
        assert [held.reason for held in result.held] == ["acknowledged until 2026-05-31: until the cut-over (code-569)"]
        assert result.in_sync


def test_an_acknowledged_absence_is_held_by_an_exception_for_the_whole_resource_only() -> None:
    wish = resource("a")
    assert [one.guard for one in plan([wish], exemptions=[exemption()]).held] == ["exception"]
    assert plan([wish], exemptions=[exemption()]).in_sync
    assert only(plan([wish], exemptions=[exemption("/text")])).action is Action.CREATE
    assert only(plan([wish], exemptions=[exemption(expired=True)])).action is Action.CREATE


def test_an_exception_for_one_field_keeps_it_while_another_is_repaired() -> None:
    wish = resource("a", text="new", size=2)
    change = only(plan([wish], [seen(wish, text="old", size=1)], exemptions=[exemption("/text")]))
    assert change.diffs == (FieldDiff("/size", 1, 2),)
    assert change.desired is not None
    assert change.desired.spec == Thing(text="old", size=2)
    assert change.desired.digest == wish.digest


def test_an_exception_that_has_ended_is_announced_and_repaired() -> None:
    wish = resource("a", text="new")
    result = plan([wish], [seen(wish, text="old")], exemptions=[exemption("/text", expired=True)])
    assert only(result).action is Action.UPDATE
    assert result.notes == ("mem/Thing/a: the exception of 2026-05-31 has ended (until the cut-over); repair it or renew the exception",)


def test_ignored_fields_are_neither_compared_nor_written() -> None:
    wish = resource("a", ResourcePolicy(ignore=("/size", "/tags/owner")), text="new", size=1, tags={"owner": "git", "x": "1"})
    assert plan([wish], [seen(wish, size=9, tags={"owner": "hpa", "x": "1"})]).in_sync
    change = only(plan([wish], [seen(wish, text="old", size=9, tags={"owner": "hpa", "x": "1"})]))
    assert change.desired is not None
    assert change.desired.spec == Thing(text="new", size=9, tags={"owner": "hpa", "x": "1"})


def test_the_fingerprint_of_a_secret_is_never_written_in_its_place() -> None:
    wish = resource("a", ResourcePolicy(ignore=("/text",)), text=SECRET, size=2)
    change = only(plan([wish], [seen(wish, text="secret:somewhat-else", size=1)]))
    assert change.desired is not None
    assert change.desired.spec == wish.spec


def test_an_ignored_field_with_a_live_value_that_is_none_of_its_kind_is_refused() -> None:
    wish = resource("a", ResourcePolicy(ignore=("/size",)), text="new")
    (stuck,) = plan([wish], [seen(wish, text="old", size="many")]).stuck
    assert stuck.reason == "what is live at /size cannot be kept: it is no value of this kind"


# -- what git no longer wants -----------------------------------------------------------------------------------------------------


def test_only_what_is_owned_is_pruned() -> None:
    ours, unmarked, foreign = (resource(name) for name in "abc")
    result = plan([], [seen(ours), seen(unmarked, owned=Ownership.UNMARKED), seen(foreign, owned=Ownership.FOREIGN)])
    assert [(one.id.name, one.action) for one in result.changes] == [("a", Action.DELETE)]


def test_what_its_mark_wants_kept_stays() -> None:
    (held,) = plan([], [replace(seen(resource("a")), keep=True)]).held
    assert (held.guard, held.quiet) == ("keep", True)


def test_what_was_protected_when_it_left_git_is_held() -> None:
    wish = resource("a")
    (held,) = plan([], [seen(wish)], applied=applied(wish, protect=True)).held
    assert (held.guard, held.quiet) == ("protect", False)


def test_deletes_walk_the_remembered_edges_backwards() -> None:
    wishes = [resource(name) for name in "abc"]
    result = plan([], [seen(one) for one in wishes], applied=applied(*wishes, before={"b": ["a"], "c": ["b"]}))
    assert [[one.id.name for one in wave] for wave in result.waves] == [["c"], ["b"], ["a"]]


def test_deletes_come_last_and_without_memory_follow_their_drivers_backwards() -> None:
    base, top = resource("a"), Resource(ResourceId("pool", "Thing", "t"), Thing(), needs=(mem("a"),))
    gone = [resource("old"), Resource(ResourceId("pool", "Thing", "old"), Thing())]
    targets = {one.id: one.id.driver for one in (base, top, *gone)}
    result = make_plan("test", "", build([base, top]), Inputs([seen(one) for one in gone], fingerprint, targets))
    assert [[str(one.id) for one in wave] for wave in result.waves] == [
        ["mem/Thing/a"],
        ["pool/Thing/t"],
        ["pool/Thing/old"],
        ["mem/Thing/old"],
    ]


def test_edges_in_a_circle_do_not_hang_the_order_of_deletes() -> None:
    wishes = [resource(name) for name in "ab"]
    result = plan([], [seen(one) for one in wishes], applied=applied(*wishes, before={"a": ["b"], "b": ["a"]}))
    assert sorted(one.id.name for one in result.changes) == ["a", "b"]


# -- dependents -------------------------------------------------------------------------------------------------------------------


def test_what_is_stuck_blocks_its_dependents_and_nobody_else_each_naming_the_next() -> None:
    wishes = [resource("a"), resource("b", needs=["a"]), resource("c", refs=["b"]), resource("d")]
    result = plan(wishes, [seen(wishes[0], owned=Ownership.UNMARKED)])
    assert [one.id.name for one in result.changes] == ["d"]
    reasons = {one.id.name: one.reason for one in result.stuck}
    assert reasons["b"].startswith("waits for mem/Thing/a: exists and carries nobody's mark")
    assert reasons["c"].startswith("waits for mem/Thing/b: waits for mem/Thing/a")


def test_a_sick_gate_blocks_what_needs_it_but_not_what_only_comes_after_it() -> None:
    wishes = [resource("a"), resource("b", needs=["a"]), resource("c", refs=["a"])]
    sick = replace(seen(wishes[0]), health=Health(Level.DEGRADED, "crash loop"))
    result = plan(wishes, [sick])
    assert [one.id.name for one in result.changes] == ["c"]
    assert [one.reason for one in result.stuck] == ["waits for mem/Thing/a: degraded: crash loop"]


def test_a_sick_gate_that_this_plan_changes_does_not_block() -> None:
    wishes = [resource("a", text="fix"), resource("b", needs=["a"])]
    sick = replace(seen(wishes[0], text="broken"), health=Health(Level.DEGRADED, "crash loop"))
    assert [one.id.name for one in plan(wishes, [sick]).changes] == ["a", "b"]


def test_dependents_that_are_in_sync_are_not_called_blocked() -> None:
    wishes = [resource("a"), resource("b", needs=["a"])]
    result = plan(wishes, [seen(wishes[0], owned=Ownership.UNMARKED), seen(wishes[1])])
    assert [one.id.name for one in result.stuck] == ["a"]


def test_a_blocked_resource_says_what_it_waits_for() -> None:
    wish = resource("a")
    (stuck,) = plan([wish], blocked={wish.id: "needs the status of x"}).stuck
    assert (stuck.status, stuck.reason) == (Status.BLOCKED, "needs the status of x")


# -- the digest -------------------------------------------------------------------------------------------------------------------


def test_the_digest_does_not_know_order_time_or_what_is_volatile() -> None:
    wishes = [resource("a", text="x"), resource("b", size=2), resource("c")]
    views = [seen(wishes[1], size=1), seen(resource("gone"))]
    first = plan(wishes, views)
    volatile = [
        replace(one, health=Health(Level.PROGRESSING, "5 s"), handle={"version": 9}, evidence=Evidence("x")) for one in reversed(views)
    ]
    second = make_plan(
        "test",
        "r2",
        build(reversed(wishes)),
        Inputs(volatile, fingerprint, dict.fromkeys((mem("gone"), *build(wishes).resources), "mem")),
    )
    assert first.digest == second.digest
    assert len(first.digest) == 64


def test_the_digest_knows_every_value_and_what_is_held() -> None:
    wish = precious(zone="b", size=2)
    digests = {
        plan([resource("a", text="x")]).digest,
        plan([resource("a", text="y")]).digest,
        plan([resource("b", text="x")]).digest,
        plan([]).digest,
        plan([wish], [seen(wish, zone="a")]).digest,
        plan([wish], [seen(wish, zone="c")]).digest,
    }
    assert len(digests) == 6


# -- laws ---------------------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from("abcdefg")
SPECS = st.fixed_dictionaries({"text": st.sampled_from(["", "x", "y"]), "size": st.integers(1, 3), "zone": st.sampled_from(["", "z"])})
STACKS = st.dictionaries(NAMES, st.tuples(SPECS, st.sets(NAMES, max_size=2)), max_size=6)
SIGHTS = st.dictionaries(NAMES, st.tuples(SPECS, st.sampled_from(list(Ownership)), st.booleans(), st.sampled_from(list(Level))), max_size=7)


def wishes_of(stack: Mapping[str, Any]) -> list[Resource]:
    """Resources whose edges go down the alphabet, so that there is no circle."""
    return [
        resource(name, needs=sorted(one for one in needs if one in stack and one < name), **spec) for name, (spec, needs) in stack.items()
    ]


def sights_of(views: Mapping[str, Any]) -> list[Observation]:
    return [
        Observation(mem(name), {**Thing.model_validate(spec).canonical(fingerprint)}, owned, Health(level), unknown="no" if unknown else "")
        for name, (spec, owned, unknown, level) in views.items()
    ]


@given(STACKS, SIGHTS, st.randoms(use_true_random=False))
def test_a_plan_is_a_pure_function_and_knows_no_order(stack: Mapping[str, Any], views: Mapping[str, Any], random: Any) -> None:
    wishes, sights = wishes_of(stack), sights_of(views)
    first = plan(wishes, sights)
    assert plan(wishes, sights) == first
    random.shuffle(wishes)
    random.shuffle(sights)
    assert plan(wishes, sights) == first


@given(STACKS, SIGHTS)
def test_every_wish_is_accounted_for_exactly_once(stack: Mapping[str, Any], views: Mapping[str, Any]) -> None:
    result = plan(wishes_of(stack), sights_of(views))
    kept = [one.change.id for one in result.held if isinstance(one, Held) and one.change.desired is not None]
    wanted = [one.id for one in result.changes if one.desired is not None] + kept + [one.id for one in result.stuck]
    assert len(set(wanted)) == len(wanted)
    assert len(wanted) + result.unchanged == len(stack)


@given(STACKS, SIGHTS)
def test_nothing_is_written_that_is_not_ours_or_was_not_seen(stack: Mapping[str, Any], views: Mapping[str, Any]) -> None:
    for change in plan(wishes_of(stack), sights_of(views)).changes:
        if change.id.name in views:
            _, owned, unknown, _ = views[change.id.name]
            assert owned is Ownership.OURS
            assert not unknown


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STACKS, STACKS)
def test_after_an_apply_the_plan_is_empty(first: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    bench = Bench()
    for stack in (first, then):
        if not stack:
            continue
        text = documents_of(stack)
        report = bench.run(text)
        assert report.verdict == "converged" or report.remaining.held, report
        result = bench.plan(text)
        assert not result.waves
        assert not result.stuck


def documents_of(stack: Mapping[str, Any]) -> str:
    return "".join(
        thing(name, annotations={"depends-on": [f"mem/Thing/{one}" for one in sorted(needs) if one in stack and one < name]}, **spec)
        for name, (spec, needs) in stack.items()
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab/~", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab/~", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1, and a key that is null is a key that is absent."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(same(one.get(key), other.get(key)) for key in {*one, *other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)


@given(JSON, JSON)
def test_there_is_no_difference_exactly_where_two_values_are_the_same(one: Any, other: Any) -> None:
    assert (not list(diff(one, other))) is same(one, other)


@given(JSON, JSON)
def test_a_difference_read_backwards_is_the_difference_of_the_reverse(one: Any, other: Any) -> None:
    assert [(d.path, d.after, d.before) for d in diff(one, other)] == [(d.path, d.before, d.after) for d in diff(other, one)]


@given(
    st.dictionaries(st.text("ab/~", min_size=1, max_size=2), JSON, max_size=3),
    st.dictionaries(st.text("ab/~", min_size=1, max_size=2), JSON, max_size=3),
)
def test_writing_every_difference_makes_the_values_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    from copy import deepcopy

    from reconciler.resource import put

    changed = deepcopy(one)
    for difference in diff(one, other):
        put(changed, difference.path, difference.after)
    assert same(changed, other)


@given(st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=4), st.integers(0, 4))
def test_a_pointer_covers_itself_and_what_lies_below_it_and_nothing_beside_it(parts: list[str], cut: int) -> None:
    pointer, path = "/" + "/".join(parts[: cut or 1]), "/" + "/".join(parts)
    assert covers([pointer], path)
    assert not covers([pointer + "x"], path)
    assert not covers([], path)

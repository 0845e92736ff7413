"""The guard: budgets at their edges, windows of time, protection, and approvals that release exactly one plan."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.driver import Action, Cause, Change
from reconciler.plan import Held, Plan
from reconciler.policy import Budget, Freeze, StackPolicy, guard, pending
from reconciler.resource import ResourceId, ResourcePolicy
from tests.unit.core.memory import NOW, resource

OPEN = Budget(floor=1000, share=1, most=1000)


def change(name: str, action: Action = Action.UPDATE, cause: Cause = Cause.COMMIT, driver: str = "mem", protect: bool = False) -> Change:
    wish = None if action is Action.DELETE else resource(name, ResourcePolicy(protect=protect))
    return Change(action, ResourceId(driver, "Thing", name), driver, wish, cause=cause)


def plan(changes: Sequence[Change], owned: dict[str, int] | None = None, held: Sequence[Held] = ()) -> Plan:
    return Plan("test", "r1", (tuple(changes),) if changes else (), tuple(held), size=owned or {"mem": 100}).sealed()


def names(result: Plan) -> tuple[list[str], list[str]]:
    return sorted(one.id.name for one in result.changes), sorted(f"{one.change.id.name}:{one.guard}" for one in result.held)


def many(count: int, action: Action = Action.DELETE, **more: Any) -> list[Change]:
    return [change(f"{action[0]}{number}", action, **more) for number in range(count)]


# -- budgets ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "owned", "allowed"),
    [
        (Budget(floor=3, share=0.3, most=50), 0, 3),
        (Budget(floor=3, share=0.3, most=50), 10, 3),
        (Budget(floor=3, share=0.3, most=50), 14, 4),
        (Budget(floor=3, share=0.3, most=50), 1000, 50),
        (Budget(floor=3, share=0.3, most=2), 10, 2),
        (Budget(floor=0, share=0.29, most=50), 100, 29),
        (Budget(floor=0, share=0, most=50), 100, 0),
        (Budget(floor=0, share=1, most=500), 100, 100),
    ],
)
def test_a_budget_allows_its_floor_then_its_share_and_never_more_than_its_most(budget: Budget, owned: int, allowed: int) -> None:
    assert budget.allows(owned) == allowed


@given(st.integers(0, 20), st.floats(0, 1), st.integers(0, 50), st.integers(0, 500), st.integers(0, 500))
def test_a_budget_never_shrinks_when_more_is_owned(floor: int, share: float, most: int, fewer: int, more: int) -> None:
    budget = Budget(floor=floor, share=share, most=most)
    assert budget.allows(min(fewer, more)) <= budget.allows(max(fewer, more)) <= most


def test_exactly_the_budget_passes_and_one_more_holds_all_of_its_class() -> None:
    policy = StackPolicy(deletes=Budget(floor=0, share=0.1, most=50))
    assert names(guard(plan(many(10)), policy, now=NOW))[1] == []
    result = guard(plan(many(11)), policy, now=NOW)
    assert len(result.held) == 11
    assert result.held[0].reason == "11 deletes of 100 mem resources exceed the change budget of 10; approve this plan by its digest"


def test_replaces_count_as_deletes() -> None:
    policy = StackPolicy(deletes=Budget(floor=1, share=0, most=50))
    assert len(guard(plan([*many(1), *many(1, Action.REPLACE)]), policy, now=NOW).held) == 2


def test_creates_need_no_budget_but_wait_with_their_class() -> None:
    policy = StackPolicy(deletes=Budget(floor=0, share=0, most=0), updates=Budget(floor=0, share=0, most=0))
    assert names(guard(plan(many(500, Action.CREATE)), policy, now=NOW))[1] == []
    assert len(guard(plan([*many(5, Action.CREATE), *many(1)]), policy, now=NOW).held) == 6


def test_a_budget_holds_for_each_driver_and_for_all_together() -> None:
    policy = StackPolicy(deletes=Budget(floor=0, share=0.5, most=3))
    small = plan([change("a", Action.DELETE, driver="tiny")], {"mem": 100, "tiny": 1})
    assert guard(small, policy, now=NOW).held[0].reason.startswith("1 deletes of 1 tiny resources")
    spread = plan([*many(2), *many(2, driver="pool")], {"mem": 4, "pool": 4})
    assert guard(spread, policy, now=NOW).held[0].reason.startswith("4 deletes of 8 resources")


def test_repairs_and_commits_overspend_separately() -> None:
    policy = StackPolicy(updates=Budget(floor=2, share=0, most=50), deletes=OPEN)
    repairs = [*many(3, Action.UPDATE, cause=Cause.DRIFT)]
    commits = [change("c", Action.CREATE), change("u")]
    done, held = names(guard(plan([*repairs, *commits]), policy, now=NOW))
    assert (done, held) == (["c", "u"], ["u0:budget", "u1:budget", "u2:budget"])
    rotation = [change(f"r{number}", cause=Cause.ROTATION) for number in range(3)]
    assert len(guard(plan([*rotation, *commits]), policy, now=NOW).held) == 3


# -- freezes ----------------------------------------------------------------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_freeze_holds_new_commits_and_lets_repairs_pass() -> None:
    policy = StackPolicy(freeze=(Freeze(name="holidays"),))
    changes = [change("commit"), change("drift", cause=Cause.DRIFT), change("rotation", cause=Cause.ROTATION)]
    result = guard(plan(changes), policy, now=NOW)
    assert names(result) == (["drift", "rotation"], ["commit:freeze"])
    assert result.held[0].reason == "new commits wait until the freeze 'holidays' ends"


@pytest.mark.parametrize(
    ("now", "frozen"),
    [
        ("2026-04-03T21:59:59+00:00", False),
        ("2026-04-03T22:00:00+00:00", True),
        ("2026-04-04T03:59:59+00:00", True),
        ("2026-04-04T04:00:00+00:00", False),
        ("2026-04-04T22:30:00+00:00", False),
    ],
)
def test_a_freeze_lasts_over_midnight_and_belongs_to_the_day_it_starts_on(now: str, frozen: bool) -> None:
    assert Freeze(name="night", days=("fri",), start=time(22), hours=6).covers(at(now)) is frozen


def test_a_freeze_is_meant_in_its_own_time_zone() -> None:
    window = Freeze(name="evening", days=("fri",), start=time(22), hours=2, timezone="America/New_York")
    assert window.covers(at("2026-04-04T02:30:00+00:00"))
    assert not window.covers(at("2026-04-03T22:30:00+00:00"))
    assert window.covers(datetime(2026, 4, 4, 4, 30, tzinfo=ZoneInfo("Europe/Berlin")))


def test_a_freeze_of_a_whole_week_has_no_gap() -> None:
    window = Freeze(name="week", days=("mon",), hours=168)
    assert all(window.covers(NOW + timedelta(hours=hours)) for hours in range(24 * 14))


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
)
def test_a_freeze_of_every_day_and_24_hours_covers_every_moment(moment: datetime, zone: str) -> None:
    assert Freeze(name="always", start=time(13, 30), timezone=zone).covers(moment.replace(tzinfo=UTC))


# -- protection, emptiness, approvals -----------------------------------------------------------------------------------------------


def test_a_protected_resource_is_changed_but_neither_replaced_nor_deleted() -> None:
    policy = StackPolicy(protect=("mem/Thing/data-*",), deletes=OPEN)
    changes = [
        change("data-1", Action.DELETE),
        change("data-2", Action.REPLACE),
        change("data-3"),
        change("other", Action.DELETE),
        change("own", Action.REPLACE, protect=True),
    ]
    assert names(guard(plan(changes), policy, now=NOW)) == (["data-3", "other"], ["data-1:protect", "data-2:protect", "own:protect"])


def test_a_pattern_matches_slashes_and_knows_upper_and_lower_case() -> None:
    policy = StackPolicy(protect=("mem/*",), deletes=OPEN)
    assert names(guard(plan([change("x/y", Action.DELETE)]), policy, now=NOW))[1] == ["x/y:protect"]
    assert names(guard(plan([change("a", Action.DELETE)]), StackPolicy(protect=("MEM/*",), deletes=OPEN), now=NOW))[1] == []


def test_a_stack_that_asks_for_nothing_never_means_to_delete_everything() -> None:
    result = guard(plan(many(2)), StackPolicy(deletes=OPEN), now=NOW, wanted=0)
    assert names(result) == ([], ["d0:empty", "d1:empty"])


def test_approval_can_be_asked_for_deletes_or_for_every_commit() -> None:
    changes = [change("update"), change("delete", Action.DELETE), change("drift", cause=Cause.DRIFT)]
    assert names(guard(plan(changes), StackPolicy(approval="deletes"), now=NOW)) == (["drift", "update"], ["delete:approval"])
    assert names(guard(plan(changes), StackPolicy(approval="commits"), now=NOW)) == (["drift"], ["delete:approval", "update:approval"])


def test_an_approval_releases_exactly_the_plan_with_its_digest() -> None:
    policy = StackPolicy(approval="commits", protect=("*",), deletes=Budget(floor=0, share=0, most=0), freeze=(Freeze(name="now"),))
    approved = plan(many(3))
    digest = guard(approved, policy, now=NOW).digest
    assert digest == approved.digest, "people approve the digest they are shown"
    assert names(guard(approved, policy, now=NOW, approved={digest}))[1] == []
    other = plan(many(4))
    assert len(guard(other, policy, now=NOW, approved={digest}).held) == 4
    assert len(guard(approved, policy, now=NOW, approved={digest[:12]}).held) == 3


def test_an_approval_frees_what_the_plan_itself_held_but_nobody_decided_to_leave() -> None:
    held = [
        Held(change("r", Action.REPLACE), "replace", ""),
        Held(change("e"), "exception", ""),
        Held(change("p", Action.DELETE), "protect", ""),
    ]
    waiting = plan([change("new", Action.CREATE)], held=held)
    waiting = replace(waiting, waves=(*waiting.waves, (change("old", Action.DELETE),))).sealed()
    result = guard(waiting, StackPolicy(), now=NOW, approved={waiting.digest})
    assert [[one.id.name for one in wave] for wave in result.waves] == [["new"], ["r"], ["old"], ["p"]]
    assert [one.guard for one in result.held] == ["exception"]


def test_what_somebody_decided_is_not_pending() -> None:
    held = [Held(change(guard), guard, "") for guard in ("exception", "keep", "drift", "budget", "protect")]
    assert [one.guard for one in pending(plan([], held=held))] == ["drift", "budget", "protect"]


def test_the_guard_keeps_the_order_of_what_it_lets_pass() -> None:
    waves = ((change("a", Action.CREATE),), (change("b", cause=Cause.DRIFT), change("c")), (change("d", Action.DELETE),))
    result = guard(Plan("test", "", waves, size={"mem": 9}).sealed(), StackPolicy(freeze=(Freeze(name="x"),)), now=NOW)
    assert [[one.id.name for one in wave] for wave in result.waves] == [["b"]]
    assert [one.change.id.name for one in result.held] == ["a", "c", "d"]

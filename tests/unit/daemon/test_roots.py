"""Root causes, through whole passes: one outage is one piece of news, whatever waits for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.daemon import cards, news
from reconciler.daemon.faces import card
from reconciler.daemon.incidents import merge
from reconciler.driver import Status
from reconciler.errors import Permanent
from reconciler.notify import Notice
from reconciler.plan import Plan, Stuck
from reconciler.report import Report, Verdict
from reconciler.resource import ResourceId
from tests.unit.core.memory import NOW, degraded, stack_file, thing
from tests.unit.daemon.house import House, commit


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.store.close()


def told(house: House) -> list[Notice]:
    house.passes()
    house.told()
    return house.mailbox.got


MANY = "".join(thing(f"t{number:02}", needs=["root"]) for number in range(40))


def test_forty_resources_that_wait_for_one_that_failed_are_one_card(house: House) -> None:
    house.system.on_write = [Permanent("Thing/root: 403 the token may not write")]
    house.daemon.accept(commit("c1", mail=thing("root") + MANY))
    (notice,) = told(house)
    assert notice.title == "1 write to mem failed"
    assert notice.lines == ("mem/Thing/root: Thing/root: 403 the token may not write", "40 resources wait for it")


def test_a_system_that_cannot_be_seen_is_one_card_for_all_its_stacks(house: House) -> None:
    house.system.on_read = [Permanent("mem: 401 the token has expired") for _ in range(3)]
    house.daemon.accept(commit("c1", **{name: thing("root") + MANY for name in ("mail", "web", "blog")}))
    (notice,) = told(house)
    assert notice.title == "mem cannot be seen"
    assert notice.lines[0] == "mem: 401 the token has expired"
    assert sorted(notice.lines[1:]) == [f"{name}: 41 resources unknown" for name in ("blog", "mail", "web")]


def test_what_waits_for_what_is_not_healthy_is_counted_under_it(house: House) -> None:
    house.daemon.accept(commit("c1", mail=thing("root")))
    told(house)
    house.system.health["Thing/root"] = [degraded("2 of 3 answer")]
    gated = "".join(thing(f"t{number}", annotations={"depends-on": "mem/Thing/root"}) for number in range(5))
    house.daemon.accept(commit("c2", mail=thing("root") + gated))
    (notice,) = told(house)
    assert notice.title == "1 resource not healthy"
    assert notice.lines == ("mem/Thing/root (5 others wait for it): 2 of 3 answer",)


def test_of_many_that_are_not_healthy_the_one_that_the_others_wait_for_comes_first(house: House) -> None:
    """The alphabet would put the cause last."""
    text = thing("zz-server") + thing("a-probe", annotations={"depends-on": "mem/Thing/zz-server"}) + thing("lone")
    text += thing("b-probe", annotations={"depends-on": "mem/Thing/a-probe"})
    house.daemon.accept(commit("c1", mail=text))
    told(house)
    for name in ("zz-server", "a-probe", "b-probe", "lone"):
        house.system.health[f"Thing/{name}"] = [degraded(f"{name} is broken")]
    house.time.seconds += 300
    (notice,) = told(house)
    assert notice.title == "4 resources not healthy"
    assert notice.lines == (
        "mem/Thing/zz-server (2 others wait for it): zz-server is broken",
        "mem/Thing/a-probe: a-probe is broken; depends on mem/Thing/zz-server",
        "mem/Thing/b-probe: b-probe is broken; depends on mem/Thing/zz-server",
        "mem/Thing/lone: lone is broken",
    )


def test_a_cause_leaves_and_what_it_did_not_cause_stays_on_the_same_card(house: House) -> None:
    text = thing("server") + thing("probe", annotations={"depends-on": "mem/Thing/server"})
    house.daemon.accept(commit("c1", mail=text))
    told(house)
    house.system.health = {f"Thing/{name}": [degraded("broken")] for name in ("server", "probe")}
    house.time.seconds += 300
    told(house)
    house.system.health.pop("Thing/server")
    house.time.seconds += 300
    house.passes()
    with house.store.transaction() as connection:
        (one,) = [one for one in cards.known(connection, house.time.now) if one.key == "unhealthy:mail"]
    assert one.open
    assert dict(one.parts["mail"].items) == {"mem/Thing/probe": "mem/Thing/probe: broken"}


def test_what_is_not_healthy_because_a_write_failed_is_told_on_the_card_of_the_write(house: House) -> None:
    text = thing("server") + thing("probe", annotations={"depends-on": "mem/Thing/server"})
    house.daemon.accept(commit("c1", mail=text))
    told(house)
    house.system.health["Thing/probe"] = [degraded("no answer")]
    house.system.on_write = [Permanent("Thing/server: 403 quota")] * 9
    gated = thing("late", annotations={"depends-on": "mem/Thing/probe"})
    house.daemon.accept(commit("c2", mail=text.replace("spec: {}", "spec: {size: 2}", 1) + gated))
    (notice,) = told(house)
    assert notice.title == "1 write to mem failed"
    assert notice.lines == (
        "mem/Thing/server: Thing/server: 403 quota",
        "mem/Thing/probe: no answer; depends on mem/Thing/server",
        "1 resource waits for it",
    )


def test_what_belongs_to_somebody_else_is_told_because_nothing_will_change_by_itself(house: House) -> None:
    from tests.unit.core.memory import Object

    house.system.objects["Thing/a"] = Object(9, {"text": "", "size": 1, "tags": {}, "zone": "", "needs": []})
    house.daemon.accept(commit("c1", mail=thing("a")))
    (notice,) = told(house)
    assert notice.title == "1 resource cannot be applied"
    assert "carries nobody's mark" in notice.lines[0]


def test_what_rests_after_a_failure_is_still_the_same_failure(house: House) -> None:
    house.system.on_write = [Permanent("Thing/a: 403") for _ in range(9)]
    house.daemon.accept(commit("c1", mail=thing("a")))
    assert [one.title for one in told(house)] == ["1 write to mem failed"]
    for _ in range(4):
        house.time.seconds += 6
        assert told(house) == []


def test_a_held_plan_and_what_waits_for_it_are_one_card_with_the_command_that_lets_it_pass(house: House) -> None:
    careful = stack_file(policy={"approval": "commits"}).replace("name: test", "name: mail")
    house.daemon.accept(commit("c1", mail={"all.yaml": thing("root") + MANY, "stack.yaml": careful}))
    (notice,) = told(house)
    assert notice.title == "41 changes are held by the guard"
    assert any("to let it pass: reconciler approve" in line for line in notice.lines)


def test_what_is_not_healthy_because_of_what_cannot_be_seen_stands_on_that_card() -> None:
    """The two are in different systems, so that one can be seen while the other cannot."""
    database, shop = ResourceId("vault", "Secret", "database"), ResourceId("k8s", "Deployment", "shop")
    plan = Plan("web", "c1", stuck=(Stuck(database, Status.REFUSED, "vault cannot be seen: 503", unknown=True),)).sealed()
    report = Report(
        "web", "c1", "resync", Verdict.FAILED, NOW, NOW, plan, plan, health={shop: degraded("crash loop")}, above={shop: (database,)}
    )
    (one,) = news.found(report)
    assert (one.key, dict(one.part.hurt)) == ("unseen:vault", {str(shop): f"{shop}: crash loop; depends on {database}"})
    (step,) = merge("web", [], [one], NOW)
    assert card(step.incident).lines == ("503", "web: 1 resource unknown", f"{shop}: crash loop; depends on {database}")

"""Whatever a zone holds and whatever git asks for: passes lead there, strangers stay untouched, and then there is silence."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.driver import Mark, Scope, Status
from reconciler.graph import build
from reconciler.plan import Inputs, Plan, make_plan
from reconciler.resource import JSONObject, Resource, ResourceId, ResourcePolicy
from reconciler_cloudflare.client import Refusal
from reconciler_cloudflare.config import Config
from reconciler_cloudflare.driver import CloudflareDriver
from reconciler_cloudflare.emulator.rules import Limits, Refused
from reconciler_cloudflare.emulator.store import Zone
from reconciler_cloudflare.match import Live, form_wanted
from reconciler_cloudflare.spec import DNSRecord

ZONE, OWNER = "example.com", "test/unit"
SCOPE = Scope(owner=OWNER)

contents = st.one_of(
    st.builds(lambda last: {"type": "A", "content": f"192.0.2.{last}"}, st.integers(1, 3)),
    st.builds(lambda last: {"type": "TXT", "content": f"text {last}"}, st.integers(1, 3)),
    st.builds(lambda last: {"type": "CNAME", "content": f"{last}.example.net"}, st.sampled_from("abc")),
    st.builds(lambda last: {"type": "MX", "content": f"{last}.example.net", "priority": 1}, st.sampled_from("abc")),
)
names = st.sampled_from(["x.example.com", "y.example.com"])
ids = st.sampled_from(["one", "two", "three", "four"])
marks = st.one_of(
    st.none(), ids.map(lambda name: str(Mark(OWNER, "DNSRecord", name))), st.just(str(Mark("test/other", "DNSRecord", "one")))
)
records = st.builds(
    lambda name, content, mark, ttl: {"name": name, **content, "comment": mark, "ttl": ttl},
    names,
    contents,
    marks,
    st.sampled_from([1, 300]),
)
wishes = st.builds(
    lambda wish, name, content, adopt, exclusive: Resource(
        ResourceId("cloudflare", "DNSRecord", wish),
        DNSRecord.model_validate({"zone": ZONE, "name": name, **content, "exclusive": exclusive}),
        policy=ResourcePolicy(adopt=adopt),
    ),
    ids,
    names,
    contents,
    st.booleans(),
    st.booleans(),
)


class Direct:
    """The emulator's store without a network between."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone

    def records(self, zone: str) -> list[JSONObject]:
        return self.zone.listing()

    def usage(self, zone: str) -> tuple[int | None, int]:
        return None, len(self.zone.records)

    def knows(self, zone: str) -> bool:
        return True

    def trouble(self, zone: str) -> str:
        return ""

    def batch(self, zone: str, body: JSONObject) -> None:
        try:
            self.zone.batch(body)
        except Refused as error:
            raise Refusal(error.message, frozenset({error.code})) from None


def zone_with(fields: list[JSONObject]) -> Zone:
    zone = Zone(ZONE, limits=Limits())
    for one in fields:
        try:
            zone.post(one)
        except Refused:
            continue
    return zone


def driver_for(zone: Zone) -> CloudflareDriver:
    driver: Any = CloudflareDriver(Config.model_validate({"token": "t", "zones": {ZONE: zone.id}}))
    driver._client = Direct(zone)
    return driver


def planned(driver: CloudflareDriver, wanted: list[Resource]) -> Plan:
    observations = driver.observe(wanted, SCOPE)
    assert len({one.id for one in observations}) == len(observations)
    targets = {one.id: "test" for one in (*observations, *wanted)}
    return make_plan("unit", "", build(wanted), Inputs(observations, lambda ref: "", targets))


@settings(max_examples=150, deadline=None)
@given(st.lists(records, max_size=7), st.lists(wishes, max_size=4, unique_by=lambda one: one.id))
def test_passes_converge_and_leave_strangers_alone(fields: list[JSONObject], wanted: list[Resource]) -> None:
    zone = zone_with(fields)
    driver = driver_for(zone)
    strangers = {one["id"]: one for one in zone.listing() if Live.read(ZONE, one).ownership(OWNER) != "ours"}
    for _ in range(4):
        plan = planned(driver, wanted)
        adopted = {str(change.handle["id"]) for change in plan.changes if change.action == "adopt"}
        for wave in plan.waves:
            outcomes = driver.apply(wave, SCOPE)
            assert [one.id for one in outcomes] == [change.id for change in wave]
            assert all(not one.transient for one in outcomes if one.status is Status.FAILED)
        strangers = {id: one for id, one in strangers.items() if id not in adopted}
        assert all(zone.records.get(id) == one for id, one in strangers.items()), "a stranger's record was touched"
    plan = planned(driver, wanted)
    assert not plan.changes, [(change.action, str(change.id), change.diffs) for change in plan.changes]
    stuck = {one.id for one in plan.stuck}
    lives = [Live.read(ZONE, one) for one in zone.listing()]
    for one in wanted:
        if one.id not in stuck:
            assert any(live.marked_id() == one.id and live.form == form_wanted(one) for live in lives), f"{one.id} is not there"
    unwanted = {live.marked_id() for live in lives if live.ownership(OWNER) == "ours"} - {one.id for one in wanted}
    assert plan.stuck or not unwanted, "something of ours that left git is still there"


@settings(max_examples=50, deadline=None)
@given(st.lists(wishes, max_size=4, unique_by=lambda one: one.id), st.lists(wishes, max_size=4, unique_by=lambda one: one.id))
def test_going_there_and_back_is_a_way_home(first: list[Resource], second: list[Resource]) -> None:
    zone = zone_with([])
    driver = driver_for(zone)

    def converge(wanted: list[Resource]) -> set[tuple[str, str, str]]:
        for _ in range(3):
            for wave in planned(driver, wanted).waves:
                driver.apply(wave, SCOPE)
        return {(one["name"], one["type"], one["content"]) for one in zone.listing()}

    begun = converge(first)
    converge(second)
    blocked = {one.id for one in planned(driver, first).stuck}
    firm = [replace(one, policy=ResourcePolicy()) for one in first]
    if not blocked:
        assert converge(firm) == begun


def test_two_aliases_that_exchange_their_names_exchange_their_marks() -> None:
    def alias(wish: str, name: str, target: str) -> Resource:
        spec = DNSRecord.model_validate({"zone": ZONE, "name": name, "type": "CNAME", "content": target})
        return Resource(ResourceId("cloudflare", "DNSRecord", wish), spec)

    zone = zone_with([])
    driver = driver_for(zone)
    for wanted in (
        [alias("one", "x.example.com", "a.example.net"), alias("two", "y.example.com", "b.example.net")],
        [alias("one", "y.example.com", "b.example.net"), alias("two", "x.example.com", "c.example.net")],
    ):
        for wave in planned(driver, wanted).waves:
            assert {one.status for one in driver.apply(wave, SCOPE)} == {Status.APPLIED}
        assert not planned(driver, wanted).changes

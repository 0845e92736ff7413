"""What only a plan can show: a policy that changes under its old id. What was published is known from the live objects alone.

The systems are in memory and of no vendor; their kinds have the shape that the rules look for.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.checks import Severity, check
from reconciler.driver import Plugin
from reconciler.expressions import mta_sts_id
from reconciler.plan import Plan
from reconciler.registry import Catalog
from reconciler.report import Verdict
from reconciler.resource import Fingerprint, JSONObject, Spec
from reconciler.state import Store
from tests.unit.core.memory import Bench, Config, stack_of


class ConfigMap(Spec):
    """A file of a cluster."""

    manifest: dict[str, Any]

    def canonical(self, fingerprint: Fingerprint) -> JSONObject:
        return self.manifest


class DNSRecord(Spec):
    """A record, as any provider may have it."""

    name: str
    type: str
    content: str


KINDS: dict[str, type[Spec]] = {"ConfigMap": ConfigMap, "DNSRecord": DNSRecord}
CATALOG = Catalog((Plugin("mem", "mem/v1", KINDS, Config, "tests.unit.core.memory:MemoryDriver"),))
OLD = "version: STSv1\nmode: testing\nmx: mail.example.com\nmax_age: 604800\n"
NEW = OLD.replace("testing", "enforce")
COMPUTED = 'id=${mtaStsId(ref("mem/ConfigMap/policy").spec.manifest.data["mta-sts.txt"])}'
PLACE = "mem/DNSRecord/mta-sts"


def document(kind: str, name: str, spec: JSONObject) -> str:
    return f"---\n{json.dumps({'apiVersion': 'mem/v1', 'kind': kind, 'metadata': {'name': name}, 'spec': spec})}\n"


def stack(policy: str, identity: str) -> str:
    """Declare an MX, the host of the policy, the policy and its record."""
    records = [
        ("mx", "example.com", "MX", "mail.example.com"),
        ("mail", "mail.example.com", "A", "203.0.113.5"),
        ("host", "mta-sts.example.com", "A", "203.0.113.6"),
        ("mta-sts", "_mta-sts.example.com", "TXT", f"v=STSv1; {identity}"),
    ]
    texts = "".join(document("DNSRecord", name, {"name": place, "type": type, "content": text}) for name, place, type, text in records)
    return texts + document("ConfigMap", "policy", {"manifest": {"data": {"mta-sts.txt": policy}}})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    store = Store(tmp_path / "x.db")
    yield Bench(catalog=CATALOG, memory=store)
    store.close()


def held(plan: Plan) -> dict[str, str]:
    return {one.change.id.name: one.guard for one in plan.held}


def published(bench: Bench) -> str:
    return str(bench.system.objects["DNSRecord/mta-sts"].content["content"])


def test_a_policy_that_changes_under_its_old_id_is_held(bench: Bench) -> None:
    assert bench.run(stack(OLD, "id=1")).verdict is Verdict.CONVERGED
    report = bench.run(stack(NEW, "id=1"), "r2")
    assert held(report.remaining) == {"policy": "check"}
    assert report.remaining.held[0].reason.startswith(f"{PLACE}: its id stays while the policy in mem/ConfigMap/policy changes, ")
    assert "write id=${mtaStsId(ref(" in report.remaining.held[0].reason
    assert bench.run(stack(NEW, "id=2"), "r3").verdict is Verdict.CONVERGED


def test_an_id_of_another_making_is_worth_an_info_before_anything_changes() -> None:
    (finding,) = [one for one in check(stack_of(stack(OLD, "id=1"), CATALOG)) if one.rule == "mta-sts-id"]
    assert (finding.severity, str(finding.resource)) == (Severity.INFO, PLACE)
    assert not [one for one in check(stack_of(stack(OLD, COMPUTED), CATALOG)) if one.rule == "mta-sts-id"]


def test_an_id_that_changes_without_its_policy_is_told_and_holds_nothing(bench: Bench) -> None:
    bench.run(stack(OLD, "id=1"))
    report = bench.run(stack(OLD, "id=2"), "r2")
    assert report.verdict is Verdict.CONVERGED
    assert [note for note in report.plan.notes if note.startswith(f"{PLACE}: its id changes, and the policy in mem/ConfigMap/policy")]


def test_both_together_are_right_and_so_is_neither(bench: Bench) -> None:
    for number, (policy, identity) in enumerate([(OLD, "id=1"), (NEW, "id=2"), (NEW, "id=2")]):
        report = bench.run(stack(policy, identity), f"r{number}")
        assert (report.verdict, list(report.plan.notes)) == (Verdict.CONVERGED, [])


def test_an_id_that_is_computed_follows_the_policy_and_is_never_spoken_of(bench: Bench) -> None:
    ids = []
    for number, policy in enumerate([OLD, NEW, OLD]):
        report = bench.run(stack(policy, COMPUTED), f"r{number}")
        assert (report.verdict, list(report.plan.notes)) == (Verdict.CONVERGED, [])
        ids.append(published(bench))
    assert ids == [f"v=STSv1; id={mta_sts_id(OLD)}", f"v=STSv1; id={mta_sts_id(NEW)}", f"v=STSv1; id={mta_sts_id(OLD)}"]


def test_another_spelling_of_one_policy_needs_no_other_id(bench: Bench) -> None:
    bench.run(stack(OLD, "id=1"))
    report = bench.run(stack("\r\n".join([*OLD.split("\n")[:1], *reversed(OLD.split("\n")[1:4]), ""]), "id=1"), "r2")
    assert (report.verdict, list(report.plan.notes)) == (Verdict.CONVERGED, [])


def test_a_policy_changed_by_hand_is_changed_back_under_its_id(bench: Bench) -> None:
    bench.run(stack(OLD, "id=1"))
    bench.system.objects["ConfigMap/policy"].content["data"] = {"mta-sts.txt": NEW}
    report = bench.run(stack(OLD, "id=1"))
    assert (report.verdict, list(report.plan.notes)) == (Verdict.CONVERGED, [])
    assert bench.system.objects["ConfigMap/policy"].content["data"] == {"mta-sts.txt": OLD}


LINES = st.lists(st.sampled_from(["mx: a.example.com", "mx: b.example.com", "mode: enforce", "max_age: 86400"]), unique=True)


@given(LINES, LINES)
def test_two_policies_have_one_id_exactly_when_they_say_the_same(one: list[str], other: list[str]) -> None:
    texts = ["\n".join(["version: STSv1", *lines]) for lines in (one, other)]
    assert (mta_sts_id(texts[0]) == mta_sts_id(texts[1])) is (set(one) == set(other))


@pytest.mark.parametrize("text", ["", "mode: enforce", "version: STSv2\nmode: none"])
def test_what_is_no_policy_has_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="no MTA-STS policy"):
        mta_sts_id(text)

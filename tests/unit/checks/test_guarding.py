"""What becomes of a finding: a held commit, a note, a line of ``validate``, or nothing, because somebody waived it.

The systems are in memory and of no vendor; their kinds have the shape that the rules look for, and that is all they are known by.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.checks import CHECKS, Severity, check
from reconciler.checks.findings import RULES, Finding, error, info, warning
from reconciler.cli import main
from reconciler.driver import Action, Cause, Change, Plugin
from reconciler.errors import InputError
from reconciler.plan import Plan
from reconciler.policy import StackPolicy, guard
from reconciler.registry import Catalog
from reconciler.report import Verdict, plan_text
from reconciler.resource import Resource, ResourceId, Spec
from reconciler.state import Store
from tests.unit.checks.stacks import RSA_1024, RSA_2048, WHOLE, broken, found, recorded, said, whole
from tests.unit.core.memory import NOW, Bench, Config, Secret, mem, resource, stack_of


class Alias(Spec):
    """A named set, as another firewall may have it."""

    name: str
    addresses: tuple[dict[str, str], ...] = ()


class FirewallRule(Spec):
    """A rule, as another firewall may have it."""

    source: str
    destination: str = "any"


class DNSRecord(Spec):
    """A record, as another provider may have it."""

    name: str
    type: str
    content: str
    immutable: ClassVar[tuple[str, ...]] = ("/type",)


KINDS: dict[str, type[Spec]] = {"Alias": Alias, "FirewallRule": FirewallRule, "DNSRecord": DNSRecord, "Secret": Secret}
CATALOG = Catalog((Plugin("mem", "mem/v1", KINDS, Config, "tests.unit.core.memory:MemoryDriver"),))


def record(name: str, content: str, **annotations: object) -> str:
    notes = {f"reconciler/{key}": value for key, value in annotations.items()}
    spec = {"name": "example.com", "type": "TXT", "content": content}
    document = {"apiVersion": "mem/v1", "kind": "DNSRecord", "metadata": {"name": name, "annotations": notes}, "spec": spec}
    return f"---\n{json.dumps(document)}\n"


def rule(source: str) -> str:
    document = {"apiVersion": "mem/v1", "kind": "FirewallRule", "metadata": {"name": "rule"}, "spec": {"source": source}}
    return f"---\n{json.dumps(document)}\n"


def alias(name: str) -> str:
    document = {"apiVersion": "mem/v1", "kind": "Alias", "metadata": {"name": name}, "spec": {"name": name}}
    return f"---\n{json.dumps(document)}\n"


def held(plan: Plan) -> list[tuple[str, str]]:
    return [(str(one.change.id), one.guard) for one in plan.held]


# -- the guard ---------------------------------------------------------------------------------------------------------------------


def change(name: str, cause: Cause = Cause.COMMIT) -> Change:
    return Change(Action.UPDATE, mem(name), "mem", resource(name), cause=cause)


def guarded(findings: Sequence[Finding], approved: Sequence[str] = ()) -> Plan:
    plan = Plan("test", "r1", ((change("a"), change("b", Cause.DRIFT), change("c", Cause.ROTATION)),), size={"mem": 9}).sealed()
    return guard(plan, StackPolicy(), now=NOW, findings=findings, approved=[plan.digest for _ in approved])


def test_an_error_holds_what_a_commit_changes_and_lets_repairs_go_on() -> None:
    plan = guarded([error("spf-one", mem("a"), "has two"), error("null-mx", mem("a"), "is not alone")])
    assert held(plan) == [("mem/Thing/a", "check")]
    assert [one.id.name for one in plan.changes] == ["b", "c"]
    assert plan.held[0].reason == "mem/Thing/a: has two [spf-one, RFC 7208 3.2], and 1 more; correct it, or waive the rule there"


def test_a_warning_and_an_info_hold_nothing() -> None:
    assert held(guarded([warning("spf-ptr", mem("a"), "x"), info("spf-one", mem("a"), "x")])) == []


def test_an_approval_lets_exactly_this_plan_pass() -> None:
    assert held(guarded([error("spf-one", mem("a"), "has two")], approved=["this one"])) == []


# -- whole passes ------------------------------------------------------------------------------------------------------------------


def test_a_commit_that_contradicts_itself_is_not_applied_until_it_is_corrected() -> None:
    bench = Bench(catalog=CATALOG)
    wrong = record("spf", "v=spf1 -all") + record("spf-too", "v=spf1 ~all")
    report = bench.run(wrong)
    assert report.verdict is Verdict.PENDING
    assert bench.system.written() == []
    assert set(held(report.remaining)) == {("mem/DNSRecord/spf", "check"), ("mem/DNSRecord/spf-too", "check")}
    assert bench.run(record("spf", "v=spf1 -all")).verdict is Verdict.CONVERGED


def test_a_warning_is_a_note_of_the_plan_and_an_info_is_none() -> None:
    plan = Bench(catalog=CATALOG).plan(record("spf", "v=spf1 ptr include:x.example.net -all"))
    assert list(plan.notes) == ["mem/DNSRecord/spf: ptr is slow and must not be used; name addresses or an include [spf-ptr, RFC 7208 5.5]"]
    assert "note: mem/DNSRecord/spf: ptr is slow" in plan_text(plan)
    assert [one.id.name for one in plan.changes] == ["spf"]


def test_an_alias_is_not_deleted_while_a_rule_names_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "x.db")
    bench = Bench(catalog=CATALOG, memory=store)
    assert bench.run(record("spf", "v=spf1 -all") + alias("nodes") + rule("nodes")).verdict is Verdict.CONVERGED
    report = bench.run(record("spf", "v=spf1 -all") + rule("nodes"), "r2")
    assert held(report.remaining) == [("mem/Alias/nodes", "check")]
    assert "mem/Alias/nodes is about to be deleted" in report.remaining.held[0].reason
    assert bench.run(record("spf", "v=spf1 -all") + rule("any"), "r3").verdict is Verdict.CONVERGED
    assert "Alias/nodes" not in bench.system.objects
    store.close()


# -- waivers -----------------------------------------------------------------------------------------------------------------------


def test_a_rule_is_waived_at_the_resource_that_the_finding_names() -> None:
    wrong = ((RSA_2048, RSA_1024), ("metadata: {name: dkim}", "metadata: {name: dkim, annotations: {reconciler/waive: '[\"dkim-key\"]'}}"))
    assert said(found(broken(wrong[0]))) == [("warning", "dkim-key", "cloudflare/DNSRecord/dkim")]
    assert found(broken(*wrong)) == []


def test_a_waiver_of_one_rule_hides_no_other() -> None:
    wrong = record("spf", "v=spf1 -all", waive="spf-ptr") + record("spf-too", "v=spf1 ~all", waive=["spf-ptr", "spf-end"])
    assert [one.rule for one in check(stack_of(wrong, CATALOG))] == ["spf-one"]
    assert check(stack_of(wrong.replace("spf-end", "spf-one"), CATALOG)) == ()


def test_a_waiver_of_a_rule_that_does_not_exist_is_a_problem() -> None:
    with pytest.raises(InputError) as caught:
        stack_of(record("spf", "v=spf1 -all", waive=["spf-on"]), CATALOG)
    assert str(caught.value.problems[0]).endswith("annotation reconciler/waive: 'spf-on' is no rule of the checks; did you mean spf-one?")


# -- validate ----------------------------------------------------------------------------------------------------------------------


def validate(folder: Path, parts: dict[str, str], *options: str) -> int:
    for name, text in parts.items():
        (folder / f"{name}.yaml").write_text(text)
    with pytest.raises(SystemExit) as caught:
        main(["validate", str(folder), *options])
    return int(str(caught.value.code))


STACK = {"stack": "apiVersion: reconciler/v1\nkind: Stack\nmetadata: {name: post}\nspec: {}\n"}


def test_validate_fails_for_an_error_and_says_it_on_the_error_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken_dns = WHOLE["dns"].replace("v=DMARC1; p=quarantine", "p=quarantine")
    assert validate(tmp_path, STACK | {"dns": broken_dns}) == 1
    out, err = capsys.readouterr()
    assert "resources in 1 waves" in out
    assert err.startswith(
        "error: cloudflare/DNSRecord/dmarc: does not begin with v=DMARC1, so it is no DMARC record at all [dmarc-syntax, "
    )


def test_validate_passes_with_warnings_and_gives_all_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(tmp_path, STACK | {"dns": WHOLE["dns"].replace(RSA_2048, RSA_1024)}, "-o", "json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is True
    assert data["findings"][0] == {
        "severity": "warning",
        "rule": "dkim-key",
        "reference": "RFC 8301 3.2, RFC 8463 4",
        "resource": "cloudflare/DNSRecord/dkim",
        "message": "an RSA key of 1024 bits is weak; make one of 2048",
    }


# -- the findings themselves -------------------------------------------------------------------------------------------------------


def test_findings_are_sorted_the_worst_first_and_stand_on_the_stack() -> None:
    stack = broken(("v=DMARC1; p=quarantine", "p=quarantine"), (RSA_2048, RSA_1024))
    assert [one.severity for one in stack.findings] == [Severity.ERROR, Severity.WARNING, Severity.INFO]
    assert stack.findings == tuple(sorted(stack.findings)) == check(stack)


def test_every_rule_has_a_test_that_breaks_it() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__))
    assert [rule for rule in RULES if f'"{rule}"' not in tests] == []


def test_every_rule_has_a_reason_and_every_function_says_what_it_asks() -> None:
    assert all(one.asks and one.reference for one in RULES.values())
    assert all(rule.__doc__ for rule in CHECKS)


def test_kinds_of_the_same_name_but_another_shape_are_left_alone() -> None:
    secret = '---\napiVersion: mem/v1\nkind: Secret\nmetadata: {name: s}\nspec: {path: a/b, keys: ["x"]}\n'
    assert check(stack_of(record("spf", "v=spf1 -all") + secret, CATALOG)) == ()


class Manifest(Spec):
    """An object of a cluster."""

    manifest: dict[str, Any]


PLACES = (
    "spec",
    "template",
    "metadata",
    "namespace",
    "ports",
    "selector",
    "jobTemplate",
    "volumes",
    "containers",
    "env",
    "envFrom",
    "data",
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.sampled_from(["", "x", "25"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PLACES), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.sampled_from(["Service", "Deployment", "CronJob", "Pod", "ConfigMap", "Ingress"]), st.dictionaries(st.sampled_from(PLACES), ANYTHING)
)
def test_manifests_with_anything_in_them_are_looked_at(kind: str, manifest: dict[str, Any]) -> None:
    odd = Resource(ResourceId("k8s", kind, "mail/odd"), Manifest(manifest=manifest))
    stack = whole()
    resources = {**stack.graph.resources, odd.id: odd}
    findings = check(replace(stack, graph=replace(stack.graph, resources=resources)), resolver=recorded)
    assert [one for one in findings if one.resource != odd.id] == []

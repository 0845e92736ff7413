"""What one snapshot says of each resource: whose it is, how it fares, and who changed it."""

from typing import Any

import pytest

from reconciler.driver import Level, Observation, Scope
from reconciler.resource import Resource, ResourceId
from reconciler_pfsense.agent import Snapshot
from reconciler_pfsense.emulator.firewall import LISTS
from reconciler_pfsense.items import BACKENDS, FRONTENDS, RULES
from reconciler_pfsense.native import is_done, needs_reload
from reconciler_pfsense.spec import KINDS
from reconciler_pfsense.view import View

OURS = "test/unit"


def seen(kind: str, name: str, snapshot: Snapshot, **spec: Any) -> Observation:
    made = KINDS[kind].from_document({"metadata": {"name": name}, "spec": spec})[1]
    wanted = Resource(ResourceId("pfsense", kind, name), made)
    found = View(snapshot, OURS, [wanted]).observation(wanted, Scope(OURS))
    assert found is not None
    return found


def snapshot_of(
    stats: dict[str, str] | None = None, *, enabled: bool = True, revision: Any = None, history: Any = (), **lists: Any
) -> Snapshot:
    items = {path: [] for path in LISTS} | lists
    return Snapshot("sha", revision or {}, items, {"enable": ""} if enabled else {}, stats, history=tuple(history))


@pytest.mark.parametrize(
    ("states", "level", "words"),
    [
        ({"a": "UP", "b": "no check"}, Level.HEALTHY, ""),
        ({"a": "DOWN (agent)", "b": "UP"}, Level.HEALTHY, "1 of 2 servers are up; down: a"),
        ({"a": "NOLB", "b": "MAINT"}, Level.DEGRADED, "0 of 2 servers are up; down: a, b"),
        ({}, Level.HEALTHY, ""),
    ],
)
def test_a_backend_fares_as_its_servers_do_whatever_the_backend_is_called_in_the_file(states: Any, level: Level, words: str) -> None:
    for rendered in ("it_ipvANY", "it_ipv4", "it_ipv6"):
        stats = {f"{rendered}/{name}": state for name, state in states.items()} | {f"{rendered}/BACKEND": "DOWN", "it_2_ipvANY/c": "DOWN"}
        health = seen("HAProxyBackend", "it", snapshot_of(stats, **{BACKENDS: [{"name": "it"}]}), servers=[]).health
        assert (health.level, health.message) == (level, words)


def test_a_frontend_must_be_run_by_haproxy_alone_or_merged_while_it_is_active() -> None:
    def level(status: str, stats: dict[str, str] | None, *, enabled: bool = True) -> Level:
        snapshot = snapshot_of(stats, enabled=enabled, **{FRONTENDS: [{"name": "it", "status": status}]})
        bind = {"address": "10.0.0.1", "port": 25}
        return seen("HAProxyFrontend", "it", snapshot, binds=[bind], default_backend="it").health.level

    for name in ("it", "it-merged"):
        assert level("active", {f"{name}/FRONTEND": "OPEN"}) is Level.HEALTHY
    assert level("active", {"it2/FRONTEND": "OPEN"}) is Level.DEGRADED
    assert level("disabled", {}) is Level.HEALTHY
    assert level("active", None) is Level.UNKNOWN
    assert level("active", None, enabled=False) is Level.HEALTHY, "haproxy is switched off, so nobody expects an answer"


def test_who_made_a_revision_without_a_user_is_read_from_its_description() -> None:
    revision = {"time": "1700000000", "description": "anna@10.0.0.5: changed by hand"}
    evidence = seen("HAProxyBackend", "it", snapshot_of({}, revision=revision, **{BACKENDS: [{"name": "it"}]}), servers=[]).evidence
    assert evidence is not None
    assert (evidence.who, evidence.how) == ("anna@10.0.0.5", "anna@10.0.0.5: changed by hand")
    assert evidence.when is not None
    assert evidence.when.isoformat() == "2023-11-14T22:13:20+00:00"


def test_a_mark_of_one_kind_on_an_object_of_another_makes_it_nobodys() -> None:
    """A person copied the description of a forward to a rule of their own."""
    rule = {"type": "pass", "interface": "wan", "descr": f"[reconciler:{OURS}:PortForward/smtp] 25"}
    view = View(snapshot_of(**{RULES: [rule]}), OURS, [])
    assert view.unwanted() == []
    assert view.marked(ResourceId("pfsense", "PortForward", "smtp")) is None


def test_taking_a_flag_away_is_a_change_that_pf_must_load() -> None:
    snapshot = snapshot_of(**{RULES: [{"descr": "x", "disabled": ""}]})
    edit = {"list": RULES, "at": 0, "key": {"descr": "x"}, "set": {"descr": "x"}, "unset": ["disabled"]}
    assert not is_done(edit, snapshot)
    assert needs_reload([edit], snapshot) == (True, False)
    assert is_done(edit | {"unset": ["log"]}, snapshot)

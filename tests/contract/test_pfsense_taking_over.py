"""Taking over a firewall that already runs: what is there, written down as it is, is adopted and nothing of it changes."""

import copy
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pfsense_world import LISTS, PfSenseWorld
from pydantic import ValidationError

from reconciler.driver import Action, Status
from reconciler.resource import Resource, ResourceId
from reconciler.testing import Bench, adopting, scope_for
from reconciler_pfsense import PLUGIN
from reconciler_pfsense.agent import Snapshot
from reconciler_pfsense.emulator.configfile import Config, dump, listed, parse, put
from reconciler_pfsense.emulator.firewall import Firewall
from reconciler_pfsense.haproxy import settings_live
from reconciler_pfsense.items import decoded, encoded, split_mark
from reconciler_pfsense.native import BY_NAME

SHARED = Path(os.environ.get("RECONCILER_SHARED", Path(__file__).parents[3] / "shared"))
RECORDED = SHARED / "transcripts" / "pfsense"
FILES = sorted(f"{path.parent.name}/{path.name}" for path in RECORDED.glob("[0-9]*/*.xml")) if RECORDED.is_dir() else []


BAD_GUYS = "Value error, 198.51.100.0/24 does not go with ipprotocol inet46; pf refuses a rule that mixes IPv4 and IPv6"
REFUSED = {f"15-foreign-untouched/{name}.xml": {"<bad> guys & co": BAD_GUYS} for name in ("before", "after")}
"""What was recorded and cannot be in git: the stand-in for pf that the recordings were made with took everything."""
DANGLING = "07-alias-delete-in-use/after.xml"
"""Somebody deleted an alias, and the rules that use it are skipped."""


@pytest.fixture
def world() -> Iterator[PfSenseWorld]:
    world = PfSenseWorld()
    yield world
    world.emulator.stop()


def written_down(world: PfSenseWorld) -> tuple[list[Resource], dict[str, str]]:
    """Every object of a firewall as git would have it, and what git cannot hold, with the reason."""
    snapshot = Snapshot.of(world.emulator.firewall.observe())
    found, refused = list[Resource](), dict[str, str]()
    for name, kind in BY_NAME.items():
        for one in kind.all(snapshot):
            id = ResourceId("pfsense", name, f"{name.lower()}-{one.index}")
            try:
                found.append(adopting(Resource(id, PLUGIN.kinds[name].model_validate(kind.live(one.item, snapshot)))))
            except ValidationError as error:
                refused[str(one.item.get("name") or one.item.get("descr"))] = "; ".join(each["msg"] for each in error.errors())
    if snapshot.settings is not None:
        spec = PLUGIN.kinds["HAProxySettings"].model_validate(settings_live(snapshot.settings))
        found.append(Resource(ResourceId("pfsense", "HAProxySettings", "haproxy"), spec))
    return found, refused


def unmarked(tree: Config) -> Config:
    """A configuration without our marks, without the revision, and without what rendering and writing add to it."""
    tree = copy.deepcopy(tree)
    del tree["revision"]
    for path in LISTS.values():
        for item in listed(tree, path):
            descr = str(item.get("descr", "")).removeprefix("NAT ")
            item["descr"] = split_mark(descr)[1]
            if path == LISTS["Alias"]:  # the order of its entries means nothing
                words, details = str(item.get("address", "")).split(), str(item.get("detail", "")).split("||")
                pairs = zip(words, [*(one.strip() for one in details), *[""] * len(words)], strict=False)
                item["address"], item["detail"] = "", " ".join(map(str, sorted(pairs)))
            lines = [
                line.strip() for line in decoded(item.get("advanced_backend", "")).splitlines() if not line.startswith("# reconciler:")
            ]
            if "advanced_backend" in item:
                item["advanced_backend"] = encoded("\n".join(lines))
    return tree


def taken_over(world: PfSenseWorld, text: str) -> dict[str, str]:
    """Adopt everything, and hold that nothing but the marks has changed. Gives what git cannot hold."""
    world.emulator.firewall = Firewall(text)
    before, rules = world.tree(), world.emulator.rules()
    wanted, refused = written_down(world)
    bench = Bench(world, world.open(), scope_for(world))
    plan = bench.plan(wanted)
    assert not plan.stuck, plan.stuck
    assert {one.action for one in plan.changes} <= {Action.ADOPT}
    assert [(str(one.id), one.diffs) for one in plan.changes if one.diffs] == []
    bench.converge(wanted)
    assert not bench.plan([Resource(one.id, one.spec) for one in wanted]).changes, "once adopted, nobody need say so again"
    bench.driver.close()
    assert meaning(world.tree()) == meaning(before)
    assert order(world.emulator.rules()) == order(rules)
    return refused


def meaning(tree: Config) -> Any:
    """What a configuration means: fields at their defaults and empty ones say nothing."""
    tree, defaults = unmarked(tree), {"ipprotocol": "inet", "checkinter": "1000", "retries": "3", "balance": "roundrobin", "weight": "1"}
    times = dict.fromkeys(("connection_timeout", "server_timeout", "client_timeout"), "30000")
    return _said(tree, {**defaults, **times, "nbthread": "1", "hard_stop_after": "15m", "check_type": "Basic", "status": "active"})


def _said(value: Any, defaults: dict[str, str]) -> Any:
    match value:
        case dict():
            inner = {key: _said(one, defaults) for key, one in value.items()}
            flags = ("disabled", "not", "any", "log", "enable")
            return {key: one for key, one in inner.items() if key in flags or one not in ("", {}, [], defaults.get(key))}
        case list():
            return [_said(one, defaults) for one in value]
    return " ".join(sorted(value.split())) if isinstance(value, str) else value  # the words of a server may stand in any order


def order(rules: str) -> list[str]:
    """The lines of the packet filter in their order, without the descriptions that carry marks."""
    lines = re.sub(r'label "USER_RULE: [^"]*"|for rule \'.*', "", rules).splitlines()
    return [" ".join(sorted(line.split())) if re.match(r"table|\w+ = ", line) else line for line in lines]


@pytest.mark.skipif(not FILES, reason="the recordings are not here; set RECONCILER_SHARED")
@pytest.mark.parametrize("file", [one for one in FILES if one != DANGLING])
def test_a_recorded_firewall_is_taken_over_as_it_is(world: PfSenseWorld, file: str) -> None:
    assert taken_over(world, (RECORDED / file).read_text("utf-8")) == REFUSED.get(file, {})


@pytest.mark.skipif(not FILES, reason="the recordings are not here; set RECONCILER_SHARED")
def test_a_rule_that_pf_skips_is_not_taken_over_and_the_missing_alias_is_named(world: PfSenseWorld) -> None:
    world.emulator.firewall = Firewall((RECORDED / DANGLING).read_text("utf-8"))
    before = world.tree()
    wanted, _ = written_down(world)
    bench = Bench(world, world.open(), scope_for(world))
    (rule,) = [one for one in wanted if getattr(one.spec, "destination", "") == "mail_host"]
    (outcome,) = bench.apply(bench.plan([rule]))
    bench.driver.close()
    assert outcome.status is Status.FAILED
    assert "pf would skip rules: # Unresolvable destination alias 'mail_host'" in outcome.message
    assert "the configuration from before was restored and loaded" in outcome.message
    assert unmarked(world.tree()) == unmarked(before)


def difficult() -> str:
    """A firewall of several years: interfaces, negations, disabled things, nested aliases, ranges, names as routes."""
    tree = parse(PfSenseWorld().emulator.config_xml())
    tree["interfaces"]["opt1"] = {"enable": "", "if": "em2", "descr": "DMZ", "ipaddr": "192.0.2.1", "subnet": "24"}
    aliases = [
        {"name": "inner", "type": "host", "address": "10.0.20.9 10.0.20.8", "descr": "Büro <&>", "detail": "neun||acht"},
        {"name": "outer", "type": "network", "address": "inner 192.168.0.0/16", "descr": "", "detail": ""},
        {"name": "ports", "type": "port", "address": "25 2000:2010 587", "descr": "", "detail": "||range||"},
    ]
    put(tree, "aliases/alias", aliases)
    where = {"ipprotocol": "inet", "protocol": "tcp"}
    put(
        tree,
        "nat/rule",
        [
            {
                **where,
                "interface": "opt1",
                "source": {"address": "outer", "not": ""},
                "destination": {"network": "opt1ip", "port": "2000-2010"},
                "target": "inner",
                "local-port": "3000",
                "descr": "a range",
                "associated-rule-id": "",
                "disabled": "",
            },
            {
                **where,
                "interface": "wan",
                "protocol": "tcp/udp",
                "source": {"any": ""},
                "destination": {"address": "203.0.113.11", "port": "ports"},
                "target": "10.0.20.9",
                "local-port": "ports",
                "descr": "",
                "associated-rule-id": "nat_65f0c0ffee0001.00000001",
                "natreflection": "disable",
            },
        ],
    )
    linked = {"protocol": "tcp/udp", "source": {"any": ""}, "destination": {"address": "10.0.20.9", "port": "ports"}, "descr": "NAT "}
    tree["filter"]["rule"] += [
        {"type": "block", "interface": "opt1", "ipprotocol": "inet46", "source": {"any": ""}, "destination": {"network": "lan", "not": ""}},
        {
            "type": "reject",
            "interface": "wan",
            **where,
            "source": {"address": "outer", "port": "ports"},
            "destination": {"any": ""},
            "log": "",
        },
        {"type": "pass", "interface": "wan", "ipprotocol": "inet", **linked, "associated-rule-id": "nat_65f0c0ffee0001.00000001"},
        {"type": "pass", "interface": "lan", "ipprotocol": "inet6", "protocol": "udp", "source": {"network": "lanip"}, "disabled": ""}
        | {"destination": {"address": "2001:db8::/32", "port": "53"}, "descr": "by hand", "tag": "kept"},
    ]
    for number, rule in enumerate(tree["filter"]["rule"]):
        rule["tracker"] = str(1700000000 + number)
    servers = [
        {"status": "active", "name": "n1", "address": "10.0.20.9", "port": "443", "weight": "5", "advanced": "send-proxy-v2 port 8443"},
        {"status": "backup", "name": "n2", "address": "10.0.20.8", "port": "443", "id": "102", "advanced": "", "maxconn": "9"},
    ]
    pools = [
        {"name": "web", "id": "100", "check_type": "none", "ha_servers": {"item": servers}, "advanced_backend": encoded("option tcpka")},
        {"name": "idle", "id": "104", "ha_servers": "", "stats_password": "hidden", "cookie_name": "x"},
    ]
    names = [
        {"name": "one", "expression": "ssl_sni_matches", "value": "Web.example.org", "casesensitive": "", "not": ""},
        {"name": "two", "expression": "ssl_sni_ends_with", "value": ".example.org", "casesensitive": "", "not": ""},
    ]
    actions = [{"action": "use_backend", "use_backendbackend": pool, "acl": acl} for pool, acl in (("web", "one"), ("idle", "two"))]
    binds = [
        {"extaddr": "opt1_ipv4", "extaddr_port": "443,8443"},
        {"extaddr": "custom", "extaddr_custom": "inner", "extaddr_port": "ports"},
    ]
    frontends = [
        {"name": "by_name", "descr": "Grüße", "status": "active", "type": "https", "a_extaddr": {"item": binds}, "max_connections": "7"}
        | {"ha_acls": {"item": names}, "a_actionitems": {"item": actions}, "client_timeout": "60000"},
        {"name": "off", "status": "disabled", "type": "http", "backend_serverpool": "web", "a_extaddr": {"item": binds[:1]}},
    ]
    put(tree, "installedpackages/haproxy/ha_pools/item", pools)
    put(tree, "installedpackages/haproxy/ha_backends/item", frontends)
    return dump(tree)


def test_a_difficult_firewall_is_taken_over_as_it_is(world: PfSenseWorld) -> None:
    assert taken_over(world, difficult()) == {}
    sni = [one["acl"] for one in listed(world.tree(), LISTS["HAProxyFrontend"])[0]["a_actionitems"]["item"]]
    assert sni == ["one", "two"], "a route keeps the name that somebody gave it while nothing of it changes"


@pytest.mark.parametrize("name", ["12345", "__", "any", "pass", "port", "wan", "lan", "opt3", "opt1ip"])
def test_an_alias_whose_name_pf_takes_for_something_else_is_left_out_with_the_reason(world: PfSenseWorld, name: str) -> None:
    """pfSense refuses such names in its GUI, but a file that was edited by hand or restored from an old one may hold them."""
    alias = {"name": name, "type": "host", "address": "10.0.20.9", "descr": "", "detail": ""}
    tree = world.tree()
    put(tree, "aliases/alias", [alias])
    refused = taken_over(world, dump(tree))
    assert list(refused) == [name]
    assert f"'{name}' is not a name that pfSense takes here" in refused[name]
    assert listed(world.tree(), "aliases/alias") == [alias]

"""The shape in config.xml: whatever is wished and written reads back as what was wished."""

import base64
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.driver import Mark
from reconciler_pfsense.agent import Snapshot
from reconciler_pfsense.emulator.configfile import dump, parse
from reconciler_pfsense.emulator.firewall import LISTS, edit
from reconciler_pfsense.items import ALIASES, BACKENDS, FORWARDS, FRONTENDS, RULES, split_mark, with_mark
from reconciler_pfsense.native import BY_NAME, deletes_for, edits_for, is_done, needs_reload
from reconciler_pfsense.routes import route_fields, routes_live
from reconciler_pfsense.rules import link_id, tracker
from reconciler_pfsense.spec import KINDS, Route

thorough = settings(deadline=None, max_examples=30)
MARK = Mark("test/unit", "Alias", "x")
lines = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=20).map(str.strip)
names = st.from_regex(r"[a-z][a-z0-9_]{1,20}", fullmatch=True)
hosts = st.ip_addresses(v=4).map(str) | names
ports = st.integers(1, 65535).map(str)


def ranges() -> st.SearchStrategy[str]:
    return st.tuples(st.integers(1, 60000), st.integers(1, 500)).map(lambda pair: f"{pair[0]}-{pair[0] + pair[1]}")


ends = st.sampled_from(["any", "lan", "wanip", "(self)", "!lan", "!10.0.0.0/8", "10.0.0.1", "2001:db8::/32"]) | names
aliases = st.fixed_dictionaries(
    {
        "type": st.just("host"),
        "addresses": st.lists(st.fixed_dictionaries({"address": hosts, "detail": lines.filter(lambda text: "|" not in text)}), max_size=4),
        "description": lines,
    }
)
forwards = st.fixed_dictionaries(
    {"port": ports | ranges(), "target": hosts, "source": ends, "destination": ends, "description": lines, "disabled": st.booleans()},
    optional={"target_port": ports, "pass_rule": st.booleans(), "protocol": st.sampled_from(["tcp", "udp", "tcp/udp"])},
)
rules = st.fixed_dictionaries(
    {"interface": st.sampled_from(["lan", "wan", "opt1"]), "protocol": st.just("tcp"), "source": ends, "destination": ends},
    optional={
        "source_port": ports | names,
        "destination_port": ports | ranges(),
        "description": lines,
        "disabled": st.booleans(),
        "log": st.booleans(),
        "action": st.sampled_from(["pass", "block", "reject"]),
        "ipprotocol": st.sampled_from(["inet", "inet6", "inet46"]),
    },
)
servers = st.fixed_dictionaries(
    {"name": names, "address": hosts, "port": st.integers(1, 65535)},
    optional={
        "weight": st.integers(0, 256),
        "status": st.sampled_from(["active", "backup", "disabled", "inactive"]),
        "send_proxy": st.sampled_from(["none", "v1", "v2"]),
        "check_port": st.integers(1, 65535),
        "advanced": st.sampled_from(["", "on-marked-down shutdown-sessions", "maxqueue 5"]),
    },
)
backends = st.fixed_dictionaries(
    {"servers": st.lists(servers, max_size=3, unique_by=lambda server: server["name"])},
    optional={
        "check": st.sampled_from(["none", "basic", "http", "ssl"]),
        "balance": st.sampled_from(["roundrobin", "leastconn", "source"]),
        "redispatch": st.booleans(),
        "retries": st.integers(1, 9),
        "check_interval": st.integers(1, 100000),
        "server_timeout": st.integers(1, 10000000),
        "advanced": st.sampled_from(["", "option tcpka", "option tcpka\n# a note\ntimeout queue 5s"]),
    },
)
frontends = st.fixed_dictionaries(
    {
        "binds": st.lists(st.fixed_dictionaries({"address": hosts | st.just("lan_ipv4"), "port": ports}), min_size=1, max_size=3),
        "default_backend": names,
        "description": lines,
    },
    optional={"status": st.sampled_from(["active", "disabled"]), "client_timeout": st.integers(1, 10000000)},
)
server_names = st.from_regex(r"(\*\.)?[a-z][a-z0-9]{0,5}\.(example|test)", fullmatch=True)
by_name = st.fixed_dictionaries(
    {
        "type": st.just("https"),
        "binds": st.just([{"address": "10.0.0.1", "port": 443}]),
        "routes": st.lists(
            st.fixed_dictionaries({"names": st.lists(server_names, min_size=1, max_size=3), "backend": names}), min_size=1, max_size=3
        ),
    },
    optional={"default_backend": names},
)
frontends |= by_name
WISHES = {"Alias": aliases, "PortForward": forwards, "FirewallRule": rules, "HAProxyBackend": backends, "HAProxyFrontend": frontends}


def spec_of(kind: str, fields: Any) -> Any:
    return KINDS[kind].from_document({"metadata": {"name": "it"}, "spec": fields})[1]


def snapshot_of(config: Any) -> Snapshot:
    lists = {ALIASES: "aliases", FORWARDS: "nat", RULES: "filter"}
    found = {path: (config.get(key) or {}).get(path.split("/")[1], []) for path, key in lists.items()}
    haproxy = config["installedpackages"]["haproxy"]
    for path, key in ((FRONTENDS, "ha_backends"), (BACKENDS, "ha_pools")):
        found[path] = (haproxy.get(key) or {}).get("item", [])
    return Snapshot("", {}, found, {})


def empty() -> Any:
    return {"aliases": "", "nat": "", "filter": "", "installedpackages": {"haproxy": {"ha_backends": "", "ha_pools": ""}}}


def written(kind: str, fields: Any, config: Any = None) -> tuple[Any, Any]:
    """Write a wish to a configuration, send that through its file, and give the spec and what is there then."""
    spec, config = spec_of(kind, fields), config or empty()
    mark = Mark("test/unit", kind, "it")
    found = next(iter(BY_NAME[kind].all(snapshot_of(config))), None)
    edit(config, edits_for(spec, mark, found, snapshot_of(config)))
    return spec, parse(dump(config))


@pytest.mark.parametrize("kind", WISHES)
def test_what_is_written_reads_back_as_the_wish(kind: str) -> None:
    @thorough
    @given(WISHES[kind])
    def law(fields: Any) -> None:
        try:
            spec, config = written(kind, fields)
        except ValidationError:
            assume(False)  # not a wish that a person may have
        (found,) = BY_NAME[kind].all(snapshot_of(config))
        assert found.kind.live(found.item, snapshot_of(config)) == spec.canonical(lambda ref: "")
        assert str(found.mark) == f"reconciler:test/unit:{kind}/it"

    law()


@pytest.mark.parametrize("kind", WISHES)
def test_writing_the_same_wish_again_changes_nothing(kind: str) -> None:
    @thorough
    @given(WISHES[kind])
    def law(fields: Any) -> None:
        try:
            spec, config = written(kind, fields)
        except ValidationError:
            assume(False)
        snapshot = snapshot_of(config)
        (found,) = BY_NAME[kind].all(snapshot)
        edits = edits_for(spec, Mark("test/unit", kind, "it"), found, snapshot)
        assert all(is_done(one, snapshot) for one in edits)
        assert needs_reload(edits, snapshot) == (False, False)

    law()


@pytest.mark.parametrize("kind", WISHES)
def test_one_wish_becomes_any_other_in_place(kind: str) -> None:
    @thorough
    @given(WISHES[kind], WISHES[kind])
    def law(one: Any, other: Any) -> None:
        try:
            _, config = written(kind, one)
            spec, config = written(kind, other, config)
        except ValidationError:
            assume(False)
        (found,) = BY_NAME[kind].all(snapshot_of(config))
        assert found.kind.live(found.item, snapshot_of(config)) == spec.canonical(lambda ref: "")

    law()


@thorough
@given(forwards)
def test_a_forward_and_its_rule_go_together(fields: Any) -> None:
    try:
        spec, config = written("PortForward", fields)
    except ValidationError:
        assume(False)
    snapshot = snapshot_of(config)
    assert len(snapshot.lists[RULES]) == int(spec.pass_rule)
    edit(config, deletes_for(BY_NAME["PortForward"].all(snapshot)[0], snapshot))
    assert not snapshot_of(config).lists[FORWARDS]
    assert not snapshot_of(config).lists[RULES]


@thorough
@given(lines)
def test_a_mark_and_a_description_come_apart_as_they_were_put_together(words: str) -> None:
    assert split_mark(with_mark(MARK, words)) == (MARK, words)


def test_a_description_that_only_looks_like_a_mark_is_a_description() -> None:
    for words in ("[gitops mail/25] port 25", "[reconciler:broken] x", "reconciler:a:b/c"):
        assert split_mark(words) == (None, words)


def test_defaults_that_the_gui_leaves_empty_are_no_drift() -> None:
    item = {"name": "it", "check_type": "Basic", "checkinter": "", "connection_timeout": "", "retries": "", "ha_servers": ""}
    item["advanced_backend"] = base64.b64encode(b"option redispatch").decode()
    live = BY_NAME["HAProxyBackend"].live(item, Snapshot("", {}, {}, {}))
    assert live == spec_of("HAProxyBackend", {}).canonical(lambda ref: "")


def test_the_words_of_a_server_may_stand_in_any_order() -> None:
    server = {"name": "n1", "address": "10.0.0.1", "port": "25", "advanced": "port 30145 on-error mark-down send-proxy-v2"}
    live = BY_NAME["HAProxyBackend"].live({"name": "it", "ha_servers": {"item": [server]}}, Snapshot("", {}, {}, {}))["servers"][0]
    assert (live["send_proxy"], live["check_port"], live["advanced"]) == ("v2", 30145, "on-error mark-down")


def test_a_tracker_is_never_given_twice() -> None:
    snapshot = Snapshot("", {}, {RULES: []}, {})
    first = tracker(MARK, snapshot)
    snapshot.lists[RULES].append({"tracker": first})
    assert tracker(MARK, snapshot) == str(int(first) + 1)
    numbers = [int(tracker(Mark("test/unit", "Alias", f"x{number}"), snapshot)) for number in range(40)]
    assert all(2_000_000_000 <= one < 2**32 for one in numbers), "no time of these days, which pfSense gives, is as large"


def test_the_id_of_a_link_has_the_form_of_pfsense_and_stays_the_same() -> None:
    assert link_id(MARK) == link_id(Mark("test/unit", "Alias", "x", keep=True))
    assert len(link_id(MARK)) == len("nat_6b030000000025.00000025")


def test_haproxy_loads_anew_only_for_what_it_uses() -> None:
    bind = {"extaddr": "custom", "extaddr_custom": "mail_ip", "extaddr_port": "25"}
    snapshot = Snapshot("", {}, {path: [] for path in LISTS} | {FRONTENDS: [{"a_extaddr": {"item": [bind]}}]}, {})
    unused = {"list": ALIASES, "key": {"name": "office"}, "set": {}, "unset": []}
    assert needs_reload([unused], snapshot) == (True, False)
    assert needs_reload([{**unused, "key": {"name": "mail_ip"}}], snapshot) == (True, True)
    assert needs_reload([{**unused, "list": BACKENDS}], snapshot) == (False, True)


def test_haproxy_loads_anew_for_an_alias_inside_one_that_it_uses() -> None:
    bind = {"extaddr": "custom", "extaddr_custom": "mail_ip", "extaddr_port": "25"}
    aliases = [{"name": "mail_ip", "address": "10.0.20.1 middle"}, {"name": "middle", "address": "inner mail_ip"}]
    lists = {path: [] for path in LISTS} | {FRONTENDS: [{"a_extaddr": {"item": [bind]}}], ALIASES: aliases}
    edit = {"list": ALIASES, "key": {"name": "inner"}, "set": {"address": "10.0.20.2"}, "unset": []}
    assert needs_reload([edit], Snapshot("", {}, lists, {})) == (True, True)
    assert needs_reload([{**edit, "key": {"name": "office"}}], Snapshot("", {}, lists, {})) == (True, False)


def test_a_rule_for_a_name_that_an_action_of_somebody_else_uses_as_well_stays_for_it() -> None:
    """Without it HAProxy refuses the whole file."""
    theirs = {"action": "tcp-request_content_reject", "acl": "office one"}
    rule = {"name": "one", "expression": "ssl_sni_matches", "value": "a.example"}
    item = {
        "ha_acls": {"item": [rule, {"name": "office", "expression": "source_ip", "value": "192.0.2.0/24"}]},
        "a_actionitems": {"item": [theirs, {"action": "use_backend", "use_backendbackend": "web", "acl": "one"}]},
    }
    assert routes_live(item) == [{"names": ["a.example"], "backend": "web"}]
    wanted = [Route(names=("a.example", "b.example"), backend="web")]
    after = item | route_fields(wanted, item)
    assert rule in after["ha_acls"]["item"]
    assert theirs in after["a_actionitems"]["item"]
    assert routes_live(after) == [{"names": ["a.example", "b.example"], "backend": "web"}]
    assert route_fields(wanted, after) == {}, "what is there already is not written again"
    assert rule in (item | route_fields([], item))["ha_acls"]["item"]


def by_hand(*rules: dict[str, str], **action: str) -> dict[str, Any]:
    """A frontend with one action that sends to ``web``, and access rules."""
    return {
        "ha_acls": {"item": list(rules)},
        "a_actionitems": {"item": [{"action": "use_backend", "use_backendbackend": "web", "acl": "one", **action}]},
    }


def test_a_rule_that_bears_the_name_of_ours_does_not_let_more_through_our_route() -> None:
    item = by_hand({"name": "sni_web", "expression": "ssl_sni_matches", "value": "other.example"}, acl="gone")
    after = item | route_fields([Route(names=("a.example",), backend="web")], item)
    assert routes_live(after) == [{"names": ["a.example"], "backend": "web"}]


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(by_hand(), id="an action whose rule is not there"),
        pytest.param(by_hand({"name": "one", "expression": "ssl_sni_matches", "value": "a", "not": "yes"}), id="every name but one"),
        pytest.param(by_hand({"name": "one", "expression": "ssl_sni_matches", "value": "a", "casesensitive": "yes"}), id="one spelling"),
        pytest.param(by_hand({"name": "one", "expression": "ssl_sni_ends_with", "value": "evil.example"}), id="the end of a label"),
        pytest.param(
            by_hand(
                {"name": "one", "expression": "ssl_sni_matches", "value": "a.example"},
                {"name": "one", "expression": "source_ip", "value": "192.0.2.0/24"},
            ),
            id="a name or an address",
        ),
        pytest.param(by_hand({"name": "one", "expression": "ssl_sni_matches", "value": "a"}, action="http-request_deny"), id="a refusal"),
    ],
)
def test_what_a_route_cannot_say_is_no_route_and_stays_where_it_stands(item: Any) -> None:
    assert routes_live(item) == []
    after = item | route_fields([Route(names=("b.example",), backend="mail")], item)
    assert routes_live(after) == [{"names": ["b.example"], "backend": "mail"}]
    for key, old in item.items():
        assert after[key]["item"][: len(old["item"])] == old["item"]
    assert after | route_fields([], after) == item | {"ha_acls": item["ha_acls"] if item["ha_acls"]["item"] else ""}


def test_routes_are_written_where_the_first_of_them_stood_because_the_first_that_holds_wins() -> None:
    before = {"name": "before", "expression": "source_ip", "value": "192.0.2.1"}
    behind = {"name": "behind", "expression": "source_ip", "value": "192.0.2.2"}
    first, last = ({"action": "tcp-request_content_reject", "acl": one["name"]} for one in (before, behind))
    ours = {"name": "one", "expression": "ssl_sni_matches", "value": "A.example", "note": "theirs"}
    action = {"action": "use_backend", "use_backendbackend": "web", "acl": "one"}
    item = {"ha_acls": {"item": [before, ours, behind]}, "a_actionitems": {"item": [first, action, last]}}
    assert routes_live(item) == [{"names": ["a.example"], "backend": "web"}]
    after = item | route_fields([Route(names=("b.example",), backend="web"), Route(names=("c.example",), backend="mail")], item)
    actions = after["a_actionitems"]["item"]
    assert [one.get("use_backendbackend") for one in actions] == [None, "web", "mail", None]
    assert (actions[0], actions[-1]) == (first, last)
    assert (after["ha_acls"]["item"][0], after["ha_acls"]["item"][-1]) == (before, behind)


def test_fields_of_a_route_that_no_spec_owns_stay() -> None:
    item = route_fields([Route(names=("a.example",), backend="web")], {})
    item["ha_acls"]["item"][0]["casesensitive"] = ""
    item["a_actionitems"]["item"][0]["note"] = "by hand"
    after = route_fields([Route(names=("a.example", "b.example"), backend="web")], item)
    assert after["ha_acls"]["item"][0] == item["ha_acls"]["item"][0]
    assert after["a_actionitems"]["item"] == item["a_actionitems"]["item"]


def forward(**fields: Any) -> dict[str, Any]:
    """A forward as config.xml has it."""
    side = {"network": "wanip", "port": "25"}
    return {
        "interface": "wan",
        "protocol": "tcp",
        "destination": side,
        "target": "10.0.0.1",
        "local-port": "25",
        "descr": "by hand",
    } | fields


def test_a_forward_without_a_link_has_nothing_to_do_with_the_rules_of_others_that_have_none() -> None:
    """pfSense writes the empty tag for rules and forwards alike."""
    others = [{"associated-rule-id": "", "type": "pass", "interface": "wan", "descr": "NAT by hand"}]
    config = empty() | {"nat": {"rule": [forward(**{"associated-rule-id": ""})]}, "filter": {"rule": list(others)}}
    (found,) = BY_NAME["PortForward"].all(snapshot_of(config))
    assert found.kind.live(found.item, snapshot_of(config))["pass_rule"] is False
    edit(config, deletes_for(found, snapshot_of(config)))
    assert (config["nat"]["rule"], config["filter"]["rule"]) == ([], others)


def test_a_forward_that_pf_passes_without_a_rule_gets_one_of_its_own() -> None:
    config = empty() | {"nat": {"rule": [forward(**{"associated-rule-id": "pass"})]}}
    _, config = written("PortForward", {"port": "25", "target": "10.0.0.1"}, config)
    mark = Mark("test/unit", "PortForward", "it")
    assert [one["associated-rule-id"] for one in (*config["nat"]["rule"], *config["filter"]["rule"])] == [link_id(mark)] * 2


@pytest.mark.parametrize(("fields", "port"), [({"port": "2000-2010", "target_port": "3000"}, "3000-3010"), ({"port": "25"}, "25")])
def test_a_linked_rule_passes_what_the_forward_translates(fields: Any, port: str) -> None:
    _, config = written("PortForward", {**fields, "target": "10.0.0.1", "disabled": True})
    (rule,) = config["filter"]["rule"]
    assert rule["destination"] == {"address": "10.0.0.1", "port": port}
    assert (rule["statetype"], rule["disabled"]) == ("keep state", "")


def test_a_range_that_the_gui_wrote_with_a_colon_is_the_same_range() -> None:
    side, link = {"network": "wanip", "port": "2000:2010"}, {"associated-rule-id": "nat_1"}
    rule = {"type": "pass", "interface": "wan", "ipprotocol": "inet", "protocol": "tcp", "source": {"any": ""}, "descr": "NAT by hand"}
    config = empty() | {"nat": {"rule": [forward(**{"destination": side, "local-port": "3000"}, **link)]}}
    for port, whole in (("3000-3010", True), ("3000:3010", True), ("3000-3009", "edited"), ("3000", "edited")):
        config["filter"] = {"rule": [rule | link | {"destination": {"address": "10.0.0.1", "port": port}}]}
        (found,) = BY_NAME["PortForward"].all(snapshot_of(config))
        live = found.kind.live(found.item, snapshot_of(config))
        assert (live["port"], live["pass_rule"]) == ("2000-2010", whole), port


def test_forwards_of_one_name_in_two_stacks_have_rules_of_their_own() -> None:
    assert link_id(MARK) != link_id(Mark("test/other", "Alias", "x"))


def test_what_a_check_of_another_sort_would_need_is_neither_seen_nor_written() -> None:
    pool = {"name": "it", "check_type": "none", "monitor_uri": "/alive", "monitor_domain": "example.org", "ha_servers": ""}
    config = empty()
    config["installedpackages"]["haproxy"]["ha_pools"] = {"item": [pool]}
    spec, config = written("HAProxyBackend", {"check": "none"}, config)
    (found,) = BY_NAME["HAProxyBackend"].all(snapshot_of(config))
    assert found.kind.live(found.item, snapshot_of(config)) == spec.canonical(lambda ref: "")
    assert (found.item["monitor_uri"], found.item["monitor_domain"]) == ("/alive", "example.org")


def test_words_of_a_server_that_only_begin_like_ours_are_left_as_they_are() -> None:
    for words in ("send-proxy-v2-ssl port", "port http", "check-send-proxy"):
        server = {"name": "n1", "address": "10.0.0.1", "port": "25", "advanced": words}
        live = BY_NAME["HAProxyBackend"].live({"name": "it", "ha_servers": {"item": [server]}}, Snapshot("", {}, {}, {}))["servers"][0]
        assert (live["send_proxy"], live["check_port"], live["advanced"]) == ("none", None, words)

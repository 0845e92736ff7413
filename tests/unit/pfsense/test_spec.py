"""What a pfSense resource may say, and that two spellings of one wish are one value."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from reconciler.resource import ResourceId, Spec
from reconciler_pfsense import PLUGIN
from reconciler_pfsense.config import Config


def spec(kind: str, metadata_name: str = "it", /, **fields: Any) -> Any:
    return PLUGIN.kinds[kind].from_document({"metadata": {"name": metadata_name}, "spec": fields})[1]


def canonical(made: Spec) -> Any:
    return made.canonical(lambda ref: "")


def refused(kind: str, match: str, name: str = "it", /, **fields: Any) -> None:
    with pytest.raises(ValidationError, match=match):
        spec(kind, name, **fields)


def test_the_name_defaults_to_that_of_the_document() -> None:
    assert spec("Alias", "mail_hosts", type="host", addresses=[]).name == "mail_hosts"
    assert spec("Alias", "mail-hosts", name="mail_hosts", type="host", addresses=[]).name == "mail_hosts"


def test_a_name_that_pfsense_would_not_take_is_refused_with_the_way_out() -> None:
    refused("Alias", "letters, digits and underscores.*; set spec.name", "mail-hosts", type="host", addresses=[])
    refused("Alias", "1 to 31", "a" * 32, type="host", addresses=[])
    refused("HAProxyBackend", "is not a name", "mail smtp")


@pytest.mark.parametrize("name", ["25", "___", "any", "pass", "port", "wan", "lan", "opt1", "wanip"])
def test_an_alias_may_not_be_called_what_means_something_else_to_pfsense(name: str) -> None:
    refused("Alias", "no word of its own such as any", name, type="host", addresses=[])
    assert spec("Alias", f"{name}_x", type="host", addresses=[]).name == f"{name}_x"


@pytest.mark.parametrize("family", [("inet", "2001:db8::1", "10.0.20.1"), ("inet6", "!10.0.0.0/8", "2001:db8::1")])
def test_an_address_of_the_other_family_is_refused_before_pf_refuses_it(family: tuple[str, str, str]) -> None:
    protocol, wrong, right = family
    for key in ("source", "destination"):
        refused("FirewallRule", f"does not go with ipprotocol {protocol};", interface="lan", ipprotocol=protocol, **{key: wrong})
        refused("FirewallRule", "does not go with ipprotocol inet46", interface="lan", ipprotocol="inet46", **{key: wrong})
        refused("PortForward", "does not go with", ipprotocol=protocol, port=25, target=right, **{key: wrong})
    assert spec("PortForward", ipprotocol=protocol, port=25, target=right, source="office").target == right


def test_a_target_and_a_bind_are_one_place() -> None:
    for place in ("!10.0.20.1", "10.0.20.0/24", "any", "!mail_host"):
        refused("PortForward", "give one address or an alias", port=25, target=place)
        refused("HAProxyFrontend", "give one address or an alias", binds=[{"address": place, "port": 25}], default_backend="x")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("FirewallRule", {"interface": "lün"}),
        ("PortForward", {"port": 25, "target": "grün"}),
        ("HAProxyBackend", {"servers": [{"name": "n1", "address": "grün.example.org", "port": 25}]}),
        ("HAProxyFrontend", {"binds": [{"address": "10.0.20.1", "port": 25, "advanced": "grün"}], "default_backend": "x"}),
        ("Alias", {"type": "host", "addresses": ["grün.example.org"]}),
    ],
)
def test_letters_that_pfsense_would_lose_are_refused_and_the_reason_is_given(kind: str, fields: Any) -> None:
    refused(kind, "must be printable ASCII.*silently restores a backup", **fields)


def test_descriptions_may_hold_any_letters_on_one_line() -> None:
    assert spec("PortForward", port=25, target="10.0.20.1", description="Grüße & <b> 日本").description == "Grüße & <b> 日本"
    refused("PortForward", "one line", port=25, target="10.0.20.1", description="two\nlines")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "port", "addresses": [25, "2000-2010"]}, {"type": "port", "addresses": ["2000:2010", "25"]}),
        ({"type": "network", "addresses": ["10.1.2.3/8"]}, {"type": "network", "addresses": ["10.0.0.0/8"]}),
        ({"type": "network", "addresses": ["198.51.100.7"]}, {"type": "network", "addresses": ["198.51.100.7/32"]}),
        ({"type": "host", "addresses": ["2001:DB8:0::1", "a.example"]}, {"type": "host", "addresses": ["a.example", "2001:db8::1"]}),
    ],
)
def test_two_spellings_of_an_alias_are_one(one: Any, other: Any) -> None:
    assert canonical(spec("Alias", **one)) == canonical(spec("Alias", **other))


def test_an_alias_refuses_what_its_file_form_cannot_hold() -> None:
    refused("Alias", "not one entry", type="host", addresses=["10.0.0.1 10.0.0.2"])
    refused("Alias", r"must not contain \|\|", type="host", addresses=[{"address": "10.0.0.1", "detail": "a||b"}])
    refused("Alias", "listed twice", type="network", addresses=["10.0.0.0/8", "10.1.0.0/8"])


def test_a_forward_goes_to_the_same_port_unless_told_otherwise() -> None:
    assert canonical(spec("PortForward", port=25, target="10.0.20.1")) == canonical(
        spec("PortForward", port="25", target="10.0.20.1", target_port=25, interface="wan", destination="wanip", protocol="tcp")
    )
    assert spec("PortForward", port="2000-2010", target="10.0.20.1").target_port == "2000"
    refused("PortForward", "write 2000", port="2000-2010", target="10.0.20.1", target_port="2000-2010")


@pytest.mark.parametrize("port", [0, 65536, "10-5", "mail-ports", True, 2.5])
def test_what_is_no_port_is_refused(port: Any) -> None:
    refused("PortForward", "port", port=port, target="10.0.20.1")


def test_ports_without_a_protocol_are_refused_because_pfsense_would_pass_everything() -> None:
    refused("FirewallRule", "match everything", interface="wan", destination_port=25)
    refused("FirewallRule", "has no ports", interface="wan", protocol="icmp", source_port=25)


def test_what_has_a_field_of_its_own_is_refused_in_advanced() -> None:
    for words in ("send-proxy-v2", "weight 2 port 30145"):
        refused("HAProxyBackend", "has its own field", servers=[{"name": "n1", "address": "10.0.0.1", "port": 25, "advanced": words}])
    for line in ("option redispatch", "# reconciler:a:b/c"):
        refused("HAProxyBackend", "written by this program", advanced=line)


def test_a_check_has_what_it_needs_and_nothing_else() -> None:
    refused("HAProxyBackend", "check_domain goes with", check="smtp")
    refused("HAProxyBackend", "check_domain goes with", check="basic", check_domain="mail.example.org")
    refused("HAProxyBackend", "check_uri goes with", check="basic", check_uri="/")
    refused("HAProxyBackend", "same name", servers=[{"name": "n1", "address": "10.0.0.1", "port": port} for port in (25, 26)])


def test_a_frontend_takes_a_list_of_ports_but_no_range() -> None:
    made = spec(
        "HAProxyFrontend", binds=[{"address": "10.0.20.1", "port": "25, 2525"}, {"address": "10.0.20.1", "port": 26}], default_backend="x"
    )
    assert [bind.port for bind in made.binds] == ["25,2525", "26"]
    refused("HAProxyFrontend", "is a range", binds=[{"address": "10.0.20.1", "port": "25-26"}], default_backend="x")


def test_a_resource_names_what_it_uses() -> None:
    forward = spec("PortForward", port="mail_ports", target="mail_host", source="!bad_guys")
    assert {str(id) for id in forward.requires("it")} >= {"pfsense/Alias/mail_host", "pfsense/Alias/mail_ports", "pfsense/Alias/bad_guys"}
    frontend = spec("HAProxyFrontend", binds=[{"address": "10.0.20.1", "port": 25}], default_backend="mail_smtp")
    assert frontend.requires("it")[0] == ResourceId("pfsense", "HAProxyBackend", "mail_smtp")
    assert ResourceId("pfsense", "HAProxySettings", "haproxy") in frontend.requires("it")
    rule = spec("FirewallRule", interface="lan", protocol="tcp", destination="10.0.20.1", destination_port=25, source="office")
    assert ResourceId("pfsense", "Alias", "office") in rule.requires("it")
    nested = spec("Alias", type="host", addresses=["other_hosts", "10.0.0.1"])
    assert nested.requires("it") == (ResourceId("pfsense", "Alias", "other_hosts"),)


def test_every_kind_describes_itself_to_editors() -> None:
    for kind, model in PLUGIN.kinds.items():
        schema = model.model_json_schema()
        assert all("description" in field or "$ref" in field for field in schema["properties"].values()), kind
        assert "name" not in schema.get("required", []), kind


def test_a_target_needs_exactly_one_credential_and_a_host_key() -> None:
    host = {"host": "fw", "known_hosts": "fw ssh-ed25519 AAAA"}
    assert Config.model_validate({**host, "password": "x"}).port == 22
    with pytest.raises(ValidationError, match="exactly one"):
        Config.model_validate(host)
    with pytest.raises(ValidationError, match="exactly one"):
        Config.model_validate({**host, "password": "x", "private_key_file": "/key"})
    with pytest.raises(ValidationError, match="known_hosts"):
        Config.model_validate({"host": "fw", "password": "x"})


def test_the_plugin_is_described_without_loading_the_ssh_library() -> None:
    code = "import sys, reconciler_pfsense.config, reconciler_pfsense.native; sys.exit('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


BINDS = [{"address": "10.0.20.1", "port": 443}]


def by_name(*routes: Any, **fields: Any) -> dict[str, Any]:
    return {"binds": BINDS, "type": "https", "routes": list(routes), **fields}


def test_names_of_a_route_are_a_set_without_case() -> None:
    one = spec("HAProxyFrontend", **by_name({"names": ["Mail.example.org", "a.example.org", "mail.example.org"], "backend": "web"}))
    assert one.routes[0].names == ("a.example.org", "mail.example.org")


def test_routes_that_could_not_work_are_refused_with_the_way_out() -> None:
    route = {"names": ["mail.example.org"], "backend": "web"}
    refused("HAProxyFrontend", "need type https", **by_name(route, type="tcp"))
    refused("HAProxyFrontend", "the backend web stands in two routes", **by_name(route, {**route, "names": ["other.example.org"]}))
    refused("HAProxyFrontend", r"the name mail\.example\.org stands in two routes", **by_name(route, {**route, "backend": "other"}))
    refused("HAProxyFrontend", "leads somewhere", binds=BINDS)
    for name in ("mail example", "*", "*.*.org", "a..b", "-a.org", "grün.org", "/path"):
        refused("HAProxyFrontend", "not a name", **by_name({"names": [name], "backend": "web"}))


def test_a_frontend_comes_after_every_backend_that_it_leads_to() -> None:
    made = spec("HAProxyFrontend", **by_name({"names": ["a.org"], "backend": "web"}, default_backend="rest"))
    needed = {id.name for id in made.requires("it") if id.kind == "HAProxyBackend"}
    assert needed == {"web", "rest"}

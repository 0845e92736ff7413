"""A zone that already runs is written down as desired state, and its plan then only adopts."""

from dataclasses import replace

import pytest
import yaml
from cloudflare_world import DKIM, ZONE, CloudflareWorld

from reconciler.driver import Action
from reconciler.resource import JSONObject, Resource, ResourceId, ResourcePolicy
from reconciler.testing import Bench, scope_for
from reconciler_cloudflare.emulator import CloudflareEmulator
from reconciler_cloudflare.importer import desired_yaml
from reconciler_cloudflare.spec import DNSRecord

RECORDS: list[JSONObject] = [
    {"name": "@", "type": "MX", "content": "mail.example.com", "priority": 1, "comment": "cut over in April"},
    {"name": "@", "type": "TXT", "content": "v=spf1 include:spf.brevo.com ~all"},
    {"name": "@", "type": "TXT", "content": "brevo-code:a6ef"},
    {"name": "@", "type": "CAA", "data": {"flags": 0, "tag": "issue", "value": "letsencrypt.org"}},
    {"name": "mail._domainkey", "type": "TXT", "content": f'"{DKIM}"'},
    {"name": "_dmarc", "type": "TXT", "content": '"v=DMARC1; p=quarantine"'},
    {"name": "mail", "type": "A", "content": "192.0.2.1", "ttl": 300},
    {"name": "mail", "type": "AAAA", "content": "2001:db8::1"},
    {"name": "www", "type": "CNAME", "content": "example.com", "proxied": True},
    {"name": "*", "type": "A", "content": "192.0.2.2"},
    {"name": "odd", "type": "TXT", "content": 'raw ${not} an "expression" \\ ümlaut', "comment": "c" * 90},
    {"name": "yes", "type": "TXT", "content": "true"},
    {"name": "_imaps._tcp", "type": "SRV", "data": {"priority": 0, "weight": 1, "port": 993, "target": "mail.example.com"}},
    {"name": "@", "type": "MX", "content": "route1.mx.cloudflare.net", "priority": 90, "meta": {"read_only": True}},
    {"name": "theirs", "type": "A", "content": "192.0.2.3", "comment": "reconciler:other/stack:DNSRecord/theirs"},
]


EMULATOR = CloudflareEmulator


@pytest.fixture
def world(emulator: CloudflareEmulator) -> CloudflareWorld:
    world = CloudflareWorld(emulator)
    world.reload(zones={ZONE: {"records": RECORDS}})
    return world


def loaded(text: str) -> list[Resource]:
    """Read the documents as the loader does, as far as a record needs it."""
    resources = []
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        annotations = document["metadata"].pop("annotations", {})
        literal = yaml.safe_load(yaml.safe_dump(document).replace("$${", "${"))
        name, spec = DNSRecord.from_document(literal)
        policy = ResourcePolicy(adopt=annotations.get("reconciler/adopt") == "true")
        resources.append(Resource(ResourceId("cloudflare", "DNSRecord", name), spec, policy=policy))
    return resources


def listing(world: CloudflareWorld) -> list[JSONObject]:
    return world.zone.listing()


def test_the_plan_of_an_imported_zone_only_adopts(world: CloudflareWorld) -> None:
    wanted = loaded(desired_yaml(listing(world), ZONE, owner=world.owner))
    bench = Bench(world, world.open(), scope_for(world))
    plan = bench.plan(wanted)
    assert len(plan.changes) == 13
    assert {change.action for change in plan.changes} == {Action.ADOPT}
    assert [(change.id.name, diff.path) for change in plan.changes for diff in change.diffs] == [("odd-txt", "/comment")]
    before = {one["id"]: (one["type"], one["name"], one["content"], one["ttl"]) for one in listing(world)}
    bench.converge(wanted, passes=1)
    assert {one["id"]: (one["type"], one["name"], one["content"], one["ttl"]) for one in listing(world)} == before
    bench.driver.close()


def test_an_imported_zone_is_imported_again_under_the_same_names_and_needs_no_adoption(world: CloudflareWorld) -> None:
    first = loaded(desired_yaml(listing(world), ZONE, owner=world.owner))
    bench = Bench(world, world.open(), scope_for(world))
    bench.converge(first)
    bench.driver.close()
    again = loaded(desired_yaml(listing(world), ZONE, owner=world.owner))
    assert again == [replace(one, policy=ResourcePolicy()) for one in first]


def test_what_is_not_taken_over_is_named_with_its_reason(world: CloudflareWorld) -> None:
    text = desired_yaml(listing(world), ZONE, owner=world.owner)
    tail = text.partition("# Not taken over\n")[2]
    assert 'MX example.com "90 route1.mx.cloudflare.net": locked by Cloudflare' in tail
    assert 'A theirs.example.com "192.0.2.3": belongs to other/stack' in tail


def test_the_documents_are_grouped_and_short(world: CloudflareWorld) -> None:
    text = desired_yaml(listing(world), ZONE, owner=world.owner)
    groups = [
        line
        for line in text.splitlines()
        if line.startswith("# ") and line[2:] in ("Mail", "Addresses", "Aliases", "Other texts", "Other records")
    ]
    assert groups == ["# Mail", "# Addresses", "# Aliases", "# Other texts", "# Other records"]
    assert "ttl: 1\n" not in text
    assert "proxied: false" not in text
    assert "would be lost" in text


def test_names_say_what_a_record_is_for(world: CloudflareWorld) -> None:
    names = {one.id.name for one in loaded(desired_yaml(listing(world), ZONE, owner=world.owner))}
    assert {"mx", "spf", "dkim-mail", "dmarc", "mail-a", "mail-aaaa", "www-cname", "wildcard-a", "apex-caa", "imaps-tcp-srv"} < names


def test_an_empty_zone_gives_an_empty_text() -> None:
    assert desired_yaml([], ZONE, owner="test/contract") == ""

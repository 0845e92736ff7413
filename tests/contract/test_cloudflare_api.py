"""What the driver sends and what the emulator answers, held against Cloudflare's published description of its API."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from cloudflare_world import SAMPLES, ZONE, CloudflareWorld, record

from reconciler.resource import JSONObject
from reconciler.testing import Bench, scope_for
from reconciler_cloudflare.emulator import CloudflareEmulator

SHARED = Path(os.environ.get("RECONCILER_SHARED", Path(__file__).parents[3] / "shared"))
DESCRIPTION = SHARED / "data" / "cloudflare-dns-openapi.json"

MORE = [
    record("https", name="www.example.com", type="HTTPS", data={"priority": 1, "target": ".", "value": 'alpn="h3,h2"'}),
    record(
        "tlsa",
        name="_25._tcp.mail.example.com",
        type="TLSA",
        data={"usage": 3, "selector": 1, "matching_type": 1, "certificate": "ab" * 32},
    ),
    record("sshfp", name="host.example.com", type="SSHFP", data={"algorithm": 4, "type": 2, "fingerprint": "ab" * 32}),
    record("uri", name="_x._tcp.example.com", type="URI", priority=10, data={"weight": 1, "target": "https://example.com/"}),
    record(
        "naptr",
        name="n.example.com",
        type="NAPTR",
        data={"order": 1, "preference": 1, "flags": "u", "service": "E2U+sip", "regex": "!^.*$!x!"},
    ),
    record(
        "loc", name="loc.example.com", type="LOC", data={"lat_degrees": 1, "lat_direction": "N", "long_degrees": 2, "long_direction": "E"}
    ),
    record("ds", name="sub.example.com", type="DS", data={"key_tag": 1, "algorithm": 13, "digest_type": 2, "digest": "ab" * 32}),
    record("ptr", name="1.example.com", type="PTR", content="host.example.com"),
    record("ns", name="sub.example.com", type="NS", content="ns1.example.net"),
]


@pytest.fixture(scope="module")
def description() -> JSONObject:
    if not DESCRIPTION.exists():
        pytest.skip(f"{DESCRIPTION.name} is not beside this repository; set RECONCILER_SHARED")
    loaded: JSONObject = _nullable(json.loads(DESCRIPTION.read_text()))
    return loaded


def _nullable(schema: Any) -> Any:
    """Say `nullable` of OpenAPI 3.0 in the words of JSON Schema."""
    if isinstance(schema, list):
        return [_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _nullable(value) for key, value in schema.items()}
    if result.get("nullable") is True and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
    return result


EMULATOR, WORLD = CloudflareEmulator, CloudflareWorld


@pytest.fixture(scope="module")
def used() -> Iterator[CloudflareWorld]:
    """A world in which a driver has created, changed and deleted records of many types."""
    world = CloudflareWorld(CloudflareEmulator())
    world.emulator.start()
    bench = Bench(world, world.open(), scope_for(world))
    bench.converge([*(one.before for one in SAMPLES), *MORE])
    bench.converge([*(one.after for one in SAMPLES), *MORE[1:]])
    bench.driver.close()
    yield world
    world.emulator.stop()


def check(description: JSONObject, schema: JSONObject, value: object) -> None:
    errors = list(jsonschema.Draft4Validator({**description, "allOf": [schema]}).iter_errors(value))
    assert not errors, "\n".join(f"{'/'.join(map(str, error.path))}: {error.message[:300]}" for error in errors)


def answered(description: JSONObject, path: str, method: str) -> JSONObject:
    schema: JSONObject = description["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
    return schema


def ask(world: CloudflareWorld, method: str, path: str, body: JSONObject | None = None) -> httpx.Response:
    settings = world.emulator.settings()
    headers = {"Authorization": f"Bearer {settings['token']}"}
    return httpx.request(method, settings["base_url"] + path, headers=headers, json=body, trust_env=False)


def test_every_batch_that_the_driver_sends_is_as_described(description: JSONObject, used: CloudflareWorld) -> None:
    bodies = [body for _, path, body in used.emulator.bodies if path.endswith("/batch")]
    assert {part for body in bodies for part in body} == {"deletes", "patches", "posts"}
    for body in bodies:
        check(description, {"$ref": "#/components/schemas/dns-records_dns-request-batch-object"}, body)


def test_every_call_that_the_driver_makes_is_described(description: JSONObject, used: CloudflareWorld) -> None:
    requests = set(used.emulator.faults.requests)
    dns = {(method, path) for method, path in requests if not path.endswith("/audit_logs")}  # the description ends at DNS
    assert len(dns) > 2
    for method, path in dns:
        generic = path.removeprefix("/client/v4").replace(used.zone.id, "{zone_id}")
        assert method.lower() in description["paths"][generic]


def test_a_wrong_body_would_be_noticed(description: JSONObject) -> None:
    wrong = {"posts": [{"name": "x", "type": "MX", "content": "a", "priority": 70000}]}
    with pytest.raises(AssertionError):
        check(description, {"$ref": "#/components/schemas/dns-records_dns-request-batch-object"}, wrong)


@pytest.mark.parametrize(
    "path", ["/zones", "/zones/{zone_id}", "/zones/{zone_id}/dns_records", "/zones/{zone_id}/dns_records/usage", "/user/tokens/verify"]
)
def test_the_emulator_answers_reads_as_described(description: JSONObject, used: CloudflareWorld, path: str) -> None:
    answer = ask(used, "GET", path.replace("{zone_id}", used.zone.id))
    check(description, answered(description, path, "get"), answer.json())


def test_the_emulator_answers_writes_as_described(description: JSONObject, world: CloudflareWorld) -> None:
    records = f"/zones/{world.zone.id}/dns_records"
    fields = {"name": "x", "type": "TXT", "content": "text"}
    generic = "/zones/{zone_id}/dns_records"
    created = ask(world, "POST", records, fields)
    check(description, answered(description, generic, "post"), created.json())
    one = f"{records}/{created.json()['result']['id']}"
    for method, body in (("PATCH", {"ttl": 300, "comment": "c"}), ("PUT", fields), ("GET", None), ("DELETE", None)):
        answer = ask(world, method, one, body)
        check(description, answered(description, f"{generic}/{{dns_record_id}}", method.lower()), answer.json())
    answer = ask(world, "POST", f"{records}/batch", {"posts": [fields, {**fields, "name": "y"}]})
    check(description, answered(description, f"{generic}/batch", "post"), answer.json())


def test_the_emulators_refusals_are_as_described(description: JSONObject, world: CloudflareWorld) -> None:
    failure = description["paths"]["/zones/{zone_id}/dns_records/batch"]["post"]["responses"]["4XX"]["content"]["application/json"][
        "schema"
    ]
    records = f"/zones/{world.zone.id}/dns_records"
    for method, path, body in [
        ("POST", records, {"name": "x", "type": "A", "content": "192.0.2"}),
        ("POST", records, {"name": "x", "type": "CNAME", "content": "a.example.net", "settings": {"flatten_cname": True}}),
        ("GET", f"{records}/{'0' * 32}", None),
        ("GET", "/zones/unknown/dns_records", None),
        ("GET", "/nowhere", None),
    ]:
        answer = ask(world, method, path, body)
        assert 400 <= answer.status_code < 500
        check(description, failure, answer.json())


# -- habits of the real system that its description does not tell ------------------------------------------------------------


def test_a_record_keeps_its_id_over_patch_and_put_and_names_no_zone(world: CloudflareWorld) -> None:
    one = world.zone.post({"name": "Büro", "type": "AAAA", "content": "2001:DB8:0::1", "ttl": 300, "proxied": True, "comment": "c"})
    assert (one["name"], one["content"], one["ttl"]) == (f"xn--bro-hoa.{ZONE}", "2001:db8::1", 1)
    assert not {"zone_id", "zone_name"} & one.keys()
    patched = world.zone.patch(one["id"], {"proxied": False})
    assert (patched["id"], patched["comment"], "comment_modified_on" in patched) == (one["id"], "c", True)
    put = world.zone.put(one["id"], {"name": "Büro", "type": "AAAA", "content": "2001:db8::1"})
    assert (put["id"], put["comment"], "comment_modified_on" in put) == (one["id"], None, False)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a b", "a b"), ('"a b"', '"a b"'), ('"a" "b"', '"a" "b"'), (f'"{"x" * 300}"', f'"{"x" * 255}" "{"x" * 45}"'), ("y" * 300, "y" * 300)],
)
def test_a_text_keeps_the_spelling_in_which_it_was_sent(world: CloudflareWorld, sent: str, kept: str) -> None:
    assert world.zone.post({"name": "x", "type": "TXT", "content": sent})["content"] == kept


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ({"type": "TXT", "content": "a"}, {"type": "TXT", "content": "a"}, 81058),
        ({"type": "A", "content": "192.0.2.1"}, {"type": "CNAME", "content": "a.example.net"}, 81053),
        ({"type": "CNAME", "content": "a.example.net"}, {"type": "A", "content": "192.0.2.1"}, 81054),
        ({"type": "CNAME", "content": "a.example.net"}, {"type": "CNAME", "content": "b.example.net"}, 81054),
        ({"type": "NS", "content": "ns.example.net"}, {"type": "TXT", "content": "a"}, 81056),
        ({"type": "TXT", "content": "a" * 4000}, {"type": "TXT", "content": "b" * 4090}, None),
        ({"type": "TXT", "content": "a"}, {"type": "TXT", "content": "b", "tags": ["a:b"]}, 9300),
        ({"type": "TXT", "content": "a"}, {"type": "TXT", "content": "b", "proxied": True}, 9004),
        ({"type": "TXT", "content": "a"}, {"type": "TXT", "content": "b", "ttl": 30}, 9021),
        ({"type": "TXT", "content": "a"}, {"type": "TXT", "content": "b" * 4097}, 9015),
        ({"type": "TXT", "content": "a"}, {"type": "TXT", "content": '"open'}, 1004),
    ],
)
def test_the_emulator_refuses_what_cloudflare_refuses(
    world: CloudflareWorld, first: JSONObject, second: JSONObject, code: int | None
) -> None:
    records = f"/zones/{world.zone.id}/dns_records"
    assert ask(world, "POST", records, {"name": "x", **first}).status_code == 200
    answer = ask(world, "POST", records, {"name": "x", **second})
    assert (answer.json()["errors"] or [{"code": None}])[0]["code"] == code


def test_a_batch_is_all_or_nothing_and_runs_deletes_before_posts(world: CloudflareWorld) -> None:
    old = world.zone.post({"name": "x", "type": "CNAME", "content": "a.example.net"})
    posts = [{"name": "x", "type": "A", "content": "192.0.2.1"}, {"name": "y", "type": "A", "content": "wrong"}]
    path = f"/zones/{world.zone.id}/dns_records/batch"
    refused = ask(world, "POST", path, {"deletes": [{"id": old["id"]}], "posts": posts})
    assert [error["code"] for error in refused.json()["errors"]] == [9005]
    assert list(world.zone.records) == [old["id"]]
    assert ask(world, "POST", path, {"posts": posts[:1], "deletes": [{"id": old["id"]}]}).status_code == 200


def test_a_page_past_the_end_is_empty(world: CloudflareWorld) -> None:
    world.zone.post({"name": "x", "type": "TXT", "content": "a"})
    answer = ask(world, "GET", f"/zones/{world.zone.id}/dns_records?page=9").json()
    assert (answer["result"], answer["result_info"]["total_count"]) == ([], 1)


def test_names_are_filtered_without_regard_to_case(world: CloudflareWorld) -> None:
    world.zone.post({"name": "one", "type": "TXT", "content": "a", "comment": "Hello"})
    world.zone.post({"name": "two", "type": "TXT", "content": "b"})
    for query in ("name.startswith=ONE", "comment.contains=hell", "content.exact=A", "comment.present=1&type=TXT"):
        answer = ask(world, "GET", f"/zones/{world.zone.id}/dns_records?{query}").json()
        assert [one["name"] for one in answer["result"]] == ["one.example.com"]

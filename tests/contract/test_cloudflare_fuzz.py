"""The emulator under requests made up from Cloudflare's published description: whatever comes, it answers as described."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from cloudflare_world import SAMPLES, ZONE, CloudflareWorld
from hypothesis import HealthCheck, Phase, given, settings

from reconciler_cloudflare.emulator import CloudflareEmulator
from reconciler_cloudflare.spec import DNSRecord, body_of

SHARED = Path(os.environ.get("RECONCILER_SHARED", Path(__file__).parents[3] / "shared"))
DESCRIPTION = SHARED / "data" / "cloudflare-dns-openapi.json"
CONFORMANCE = {"POSITIVE": ("status_code", "content_type", "response_schema"), "NEGATIVE": ("status_code", "content_type")}
EXAMPLES = int(os.environ.get("RECONCILER_EXAMPLES", "8"))
OPERATIONS = [
    ("get", "/user/tokens/verify"),
    ("get", "/accounts/{account_id}/tokens/verify"),
    ("get", "/zones"),
    ("get", "/zones/{zone_id}"),
    ("get", "/zones/{zone_id}/dns_records"),
    ("post", "/zones/{zone_id}/dns_records"),
    ("post", "/zones/{zone_id}/dns_records/batch"),
    ("get", "/zones/{zone_id}/dns_records/usage"),
    ("get", "/zones/{zone_id}/dns_records/{dns_record_id}"),
    ("patch", "/zones/{zone_id}/dns_records/{dns_record_id}"),
    ("put", "/zones/{zone_id}/dns_records/{dns_record_id}"),
    ("delete", "/zones/{zone_id}/dns_records/{dns_record_id}"),
]
"""What the emulator serves; of the description it leaves out export, import and scan, which the driver must never call."""


@pytest.fixture(scope="module")
def schema() -> Any:
    if not DESCRIPTION.exists():
        pytest.skip(f"{DESCRIPTION.name} is not beside this repository; set RECONCILER_SHARED")
    return schemathesis.openapi.from_dict(json.loads(DESCRIPTION.read_text()))


@pytest.fixture(scope="module")
def world() -> Iterator[CloudflareWorld]:
    world = CloudflareWorld(CloudflareEmulator())
    world.emulator.start()
    yield world
    world.emulator.stop()


def filled(world: CloudflareWorld) -> None:
    """Begin with one record of each usual type, and with no limit that many requests would reach."""
    specs = [one.before.spec for one in SAMPLES]
    records = [body_of(one.canonical(lambda ref: ""), "") for one in specs if isinstance(one, DNSRecord)]
    world.reload(zones={ZONE: {"records": records, "tags": 20}}, rate_limit=[100_000, 300])


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part.replace("/", "_"))
def test_the_emulator_answers_as_described(schema: Any, world: CloudflareWorld, method: str, path: str, mode: str) -> None:
    """A positive request is as described, and so must be the status and the whole of its answer. A negative one is not.

    The answer to that need only have a status and a type that are described: fields inside ``data`` are kept as they were sent, where the
    real system would look at each, because the driver checks them before it sends them.
    """
    filled(world)
    connection = world.emulator.settings()
    checks = [
        schemathesis.checks.not_a_server_error,
        *(schemathesis.checks.CHECKS.get_one(f"{one}_conformance") for one in CONFORMANCE[mode]),
    ]

    @given(case=schema[path][method.upper()].as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        ids = list(world.zone.records)
        known = {"zone_id": world.zone.id, "dns_record_id": ids[0] if ids else "0" * 32}
        case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
        headers = {"Authorization": f"Bearer {connection['token']}"}
        answer = case.call(base_url=connection["base_url"], headers=headers)
        if answer.status_code == 400 and answer.content == b"Invalid HTTP request received.":
            return  # what is no HTTP never reaches the emulator
        case.validate_response(answer, checks=checks)

    ask()

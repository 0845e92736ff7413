"""The Cloudflare emulator as the tests see it: from the front through a driver, from behind through its store."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from reconciler.driver import Driver, Mark
from reconciler.resource import JSONObject, Resource, ResourceId, ResourcePolicy
from reconciler.testing import Bench, Sample, scope_for
from reconciler_cloudflare.config import Config
from reconciler_cloudflare.driver import CloudflareDriver
from reconciler_cloudflare.emulator import CloudflareEmulator
from reconciler_cloudflare.emulator.store import Zone
from reconciler_cloudflare.spec import DNSRecord

ZONE = "example.com"
DKIM = "v=DKIM1; h=sha256; k=rsa; p=" + "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" * 12
VOLATILE = {"id", "created_on", "modified_on", "comment_modified_on", "tags_modified_on", "meta", "proxiable"}


def record(id: str, /, policy: ResourcePolicy | None = None, **spec: Any) -> Resource:
    """One wish in the zone example.com."""
    spec = {"zone": ZONE, "name": ZONE, **spec}
    return Resource(ResourceId("cloudflare", "DNSRecord", id), DNSRecord.model_validate(spec), policy=policy or ResourcePolicy())


def sample(id: str, after: dict[str, Any], /, **spec: Any) -> Sample:
    return Sample(record(id, **spec), record(id, **{**spec, **after}))


SAMPLES = [
    sample("a", {"ttl": 300}, name="mail.example.com", type="A", content="192.0.2.1"),
    sample("aaaa", {"proxied": True}, name="www.example.com", type="AAAA", content="2001:db8::2", ttl=600),
    sample("cname", {"comment": "delegated"}, name="brevo1._domainkey.example.com", type="CNAME", content="b1.dkim.brevo.com"),
    sample("mx", {"ttl": 120}, type="MX", content="mail.example.com", priority=1),
    sample("spf", {"ttl": 300, "comment": "tighten"}, type="TXT", content="v=spf1 include:spf.brevo.com ~all"),
    sample("dkim", {"ttl": 3600}, name="mail._domainkey.example.com", type="TXT", content=DKIM),
    sample("caa", {"ttl": 3600}, type="CAA", data={"flags": 0, "tag": "issue", "value": "letsencrypt.org"}),
    sample(
        "srv",
        {"comment": "x"},
        name="_imaps._tcp.example.com",
        type="SRV",
        data={"priority": 0, "weight": 1, "port": 993, "target": "mail.example.com"},
    ),
]


class CloudflareWorld:
    """The emulator, looked at from behind the driver."""

    owner = "test/contract"
    faults = frozenset({"rate-limit", "server-error", "latency", "cut-before", "cut-after", "partial"})

    def __init__(self, emulator: CloudflareEmulator) -> None:
        self.emulator = emulator
        self.reload()

    def reload(self, **seed: Any) -> None:
        self.emulator.load({"retry_after": 0, "zones": {ZONE: {}}, **seed})

    @property
    def zone(self) -> Zone:
        return self.emulator.zones[ZONE]

    def open(self, **settings: Any) -> Driver:
        return CloudflareDriver(Config.model_validate({**self.emulator.settings(), "requests_per_second": 1000, "timeout": 5, **settings}))

    def samples(self) -> Sequence[Sample]:
        return SAMPLES

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        found: dict[str, tuple[str, JSONObject]] = {}
        for one in self.zone.records.values():
            natural = f"{one['type']} {one['name']} {one['content'].replace(chr(34), '').replace(' ', '')}"
            while natural in found:
                natural += " again"
            found[natural] = one["id"], {key: value for key, value in one.items() if key not in VOLATILE}
        return found

    def locate(self, resource: Resource) -> str:
        spec = resource.spec
        assert isinstance(spec, DNSRecord)
        content = spec.content if spec.data is None else " ".join(str(item) for item in spec.data.values())
        assert content is not None
        return f"{spec.type} {spec.name} {content.replace(' ', '')}"

    def plant(self, resource: Resource) -> None:
        spec = resource.spec
        assert isinstance(spec, DNSRecord)
        fields = spec.model_dump(include={"name", "type", "content", "data", "priority", "ttl", "proxied"}, exclude_none=True)
        self.zone.post(fields)

    def meddle(self, resource: Resource) -> None:
        self.zone.patch(self.peek()[self.locate(resource)][0], {"ttl": 7200, "proxied": False})

    def remove(self, resource: Resource) -> None:
        self.zone.delete(self.peek()[self.locate(resource)][0])

    def writes(self) -> int:
        return self.emulator.faults.writes

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        if fault == "partial":
            return self.emulator.partial(times)
        return self.emulator.faults.during(fault, times=times, writes_only=fault.startswith("cut-"))

    def secret_values(self) -> Sequence[str]:
        return [self.emulator.token]


@contextmanager
def opened(world: CloudflareWorld, **settings: Any) -> Iterator[Bench]:
    bench = Bench(world, world.open(**settings), scope_for(world))
    yield bench
    bench.driver.close()


def txt(id: str, content: str, **spec: Any) -> Resource:
    return record(id, **{"name": f"{id}.example.com", "type": "TXT", "content": content, **spec})


def mark(id: str, owner: str = "test/contract") -> str:
    return str(Mark(owner, "DNSRecord", id))


def only(world: CloudflareWorld) -> JSONObject:
    (one,) = world.zone.records.values()
    return one

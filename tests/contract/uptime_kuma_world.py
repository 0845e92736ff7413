"""A world of Uptime Kuma for the contract: samples, a look behind the driver's back, and emulators that end in the background."""

import asyncio
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from reconciler.driver import Driver, Mark
from reconciler.resource import JSONObject, Resource, ResourceId, SecretRef, Spec
from reconciler.testing import Bench, Sample, scope_for
from reconciler_uptime_kuma import PLUGIN, maintenance, page
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.driver import UptimeKumaDriver
from reconciler_uptime_kuma.emulator import UptimeKumaEmulator
from reconciler_uptime_kuma.login import shared_login
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.marks import Tag, split
from reconciler_uptime_kuma.native import Links, monitor_payload
from reconciler_uptime_kuma.page import StatusPage
from reconciler_uptime_kuma.spec import Monitor, Notification

NOBODY = Tag(Mark("nobody", "StatusPage", "x"))
ENDING = ThreadPoolExecutor(8)
SECRETS = {
    "secret/kuma#token": "push-canary-4711",
    "secret/kuma#hook": "https://hooks.example/canary-4712",
    "secret/kuma#pass": "canary-4713",
}


def secret(key: str) -> SecretRef:
    return SecretRef(f'${{vault("secret/kuma", "{key}")}}', (("secret/kuma", key),))


def resource(kind: str, name: str, **fields: Any) -> Resource:
    spec: type[Spec] = PLUGIN.kinds[kind]
    return Resource(ResourceId("uptime-kuma", kind, name), spec.from_document({"metadata": {"name": name}, "spec": fields})[1])


def changed(one: Resource, **fields: Any) -> Resource:
    return replace(one, spec=type(one.spec).model_validate({**dict(one.spec), **fields}), digest="")


HOOK = resource("Notification", "hook", type="webhook", config={"webhookURL": secret("hook"), "webhookContentType": "json"})
GROUP = resource("Monitor", "mail", type="group", title="Mail system")
SMTP = resource(
    "Monitor", "smtp", type="port", hostname="10.0.20.1", port=25, parent="folder", notifications=["pager"], description="The front door"
)
PUSH = resource("Monitor", "roundtrip", type="push", push_token=secret("token"), interval=1500)
WEB = resource(
    "Monitor",
    "roundcube",
    type="keyword",
    url="https://mail.example.org/",
    keyword="Roundcube",
    extra={"authMethod": "basic", "basic_auth_user": "probe", "basic_auth_pass": secret("pass"), "headers": '{"X-Probe": "1"}'},
)
PAGER = resource("Notification", "pager", type="ntfy", config={"ntfytopic": "mail", "ntfyPriority": 5})
FOLDER = resource("Monitor", "folder", type="group")
NIGHT = resource(
    "Maintenance",
    "updates",
    strategy="recurring-weekday",
    weekdays=["sun", "mon"],
    window_start="02:00",
    window_end="03:30",
    timezone="Europe/Sofia",
    monitors=["folder"],
    pages=["public"],
    description="Operating system updates",
)
ONCE = resource("Maintenance", "move", strategy="single", start="2030-01-01 10:00", end="2030-01-02T11:30:00", monitors=["folder"])
PUBLIC = resource("StatusPage", "public")
STATUS = resource(
    "StatusPage",
    "mail-status",
    title="Mail",
    description="How our **mail** fares",
    groups=[{"name": "Ways in", "monitors": ["folder"], "linked": ["folder"]}, {"name": "Empty"}],
    domains=["status.example.org"],
    custom_css="body { color: navy }",
)
TAGGED = resource("Monitor", "tagged", type="group", tags={"team": "mail", "critical": ""})
MX = resource("Monitor", "mx", type="dns", hostname="example.org", dns_resolve_type="MX", active=False)


DAILY = {
    "strategy": "recurring-interval",
    "weekdays": [],
    "interval_days": 3,
    "window_start": "22:00",
    "window_end": "01:00",
    "start": "2026-01-01 00:00",
    "timezone": "UTC",
}


def samples(*, modern: bool) -> Sequence[Sample]:
    return [
        Sample(HOOK, changed(HOOK, config={"webhookURL": secret("hook"), "webhookCustomBody": "{}"}, default=True)),
        Sample(GROUP, changed(GROUP, description="Everything that carries mail")),
        Sample(PUSH, changed(PUSH, interval=1800)),
        Sample(
            WEB,
            changed(
                WEB,
                method="POST",
                accepted_statuscodes=["301", "200-299"],
                extra={"ignoreTls": True, "basic_auth_pass": secret("pass")},
            ),
        ),
        Sample(MX, changed(MX, dns_resolve_server="9.9.9.9", active=True)),
        Sample(TAGGED, changed(TAGGED, tags={"team": "post", "noisy": "yes"})),
        Sample(NIGHT, changed(NIGHT, **DAILY, monitors=[], pages=[], description="", active=False), needs=(FOLDER, PUBLIC)),
        Sample(ONCE, changed(ONCE, strategy="manual", start="", end=""), needs=(FOLDER,)),
        Sample(
            STATUS,
            changed(
                STATUS,
                theme="dark",
                icon="/icon.png",
                groups=[{"name": "Empty", "monitors": ["folder"]}, {"name": "More"}],
                domains=[],
                show_tags=True,
                show_certificate_expiry=True,
                show_powered_by=False,
                footer="bye",
                custom_css="",
                extra={"autoRefreshInterval": 60} if modern else {"googleAnalyticsId": "G-1"},
            ),
            needs=(FOLDER,),
        ),
        Sample(
            SMTP,
            changed(
                SMTP,
                title="SMTP front door",
                interval=120,
                retry_interval=30,
                resend_interval=5,
                max_retries=2,
                timeout=20,
                upside_down=True,
                parent="",
                notifications=[],
                description="Behind the firewall",
                active=False,
            ),
            needs=(PAGER, FOLDER),
        ),
    ]


class UptimeKumaWorld:
    owner = "test/contract"
    faults = frozenset({"rate-limit", "server-error", "latency", "cut-before", "cut-after"})

    def __init__(self, emulator: UptimeKumaEmulator) -> None:
        self.emulator = emulator

    def open(self) -> Driver:
        return UptimeKumaDriver(UptimeKumaConfig(**self.emulator.settings(), timeout=5, settle=0, login_pause=0))

    def samples(self) -> Sequence[Sample]:
        return samples(modern=self.emulator.store.dialect.modern)

    def peek(self) -> Mapping[str, tuple[str, JSONObject]]:
        found: dict[str, tuple[str, JSONObject]] = {}
        snapshot = self.emulator.snapshot()
        tables = {"Monitor": "monitors", "Notification": "notifications", "Maintenance": "maintenances", "StatusPage": "pages"}
        for kind, table in tables.items():
            for id, row in sorted(snapshot[table].items()):
                name = f"{kind}/{row['slug'] if kind == 'StatusPage' else row.get('name') or row.get('title')}"
                found[f"{name}#{id}" if name in found else name] = (str(id), row)
        return found

    def locate(self, resource: Resource) -> str:
        assert isinstance(resource.spec, Monitor | Notification | Maintenance | StatusPage)
        return f"{resource.id.kind}/{resource.spec.slug if isinstance(resource.spec, StatusPage) else resource.spec.title}"

    def id(self, resource: Resource) -> int:
        return int(self.peek()[self.locate(resource)][0])

    def plant(self, resource: Resource) -> None:
        store, spec = self.emulator.store, resource.spec
        if isinstance(spec, Notification):
            config = {key: reveal(value) for key, value in spec.config.items()}
            store.save_notification({**config, "name": spec.title, "type": spec.type, "isDefault": spec.default}, None)
            self.emulator.publish()
            return
        links = Links(self.owner, list(store.views().values()), [], pages=list(store.pages.rows.values()))
        if isinstance(spec, Maintenance):
            id = store.windows.add({**maintenance.payload(spec, ""), "description": spec.description})
            for numbers, pages in ((links.monitor_ids(spec.monitors, resource.id), False), (links.page_ids(spec.pages, resource.id), True)):
                store.windows.link(id, [{"id": one} for one in numbers], numbers, pages=pages)
            return
        if isinstance(spec, StatusPage):
            slug = store.pages.add(spec.title, spec.slug)
            config = page.config(spec, NOBODY, store.pages.get(slug), (), store.dialect)
            config["customCSS"] = split(config["customCSS"])[0]
            store.pages.save(slug, config, spec.icon, page.groups(spec, {}, links, resource.id), store.monitors.keys())
            return
        assert isinstance(spec, Monitor)
        columns = monitor_payload(spec, store.dialect, lambda ref: str(reveal(ref)))
        numbers = {
            "notificationIDList": {str(self.id(PAGER)): True for _ in spec.notifications},
            "parent": self.id(FOLDER) if spec.parent else None,
        }
        store.add({**store.dialect.required, **columns, **numbers, "description": spec.description, "active": spec.active})

    def meddle(self, resource: Resource) -> None:
        store, id = self.emulator.store, self.id(resource)
        match resource.id.kind:
            case "Monitor":
                store.monitors[id]["interval"] = 77
            case "Maintenance":
                store.windows.rows[id]["active"] = False
            case "StatusPage":
                store.pages.rows[id]["footerText"] = "meddled"
            case _:
                store.notifications[id]["isDefault"] = True
        self.emulator.publish()

    def remove(self, resource: Resource) -> None:
        store = self.emulator.store
        match resource.id.kind:
            case "Monitor":
                store.delete(self.id(resource))
            case "Maintenance":
                store.windows.delete(self.id(resource))
            case "StatusPage":
                store.pages.delete(store.pages.rows[self.id(resource)]["slug"])
            case _:
                store.delete_notification(self.id(resource))
        self.emulator.publish()

    def writes(self) -> int:
        return self.emulator.faults.writes

    def fail(self, fault: str, *, times: int = 1_000_000) -> AbstractContextManager[None]:
        if fault == "rate-limit":
            return self.emulator.limited()
        return self.emulator.faults.during(fault, times=times, seconds=0.05, writes_only=fault.startswith("cut"))

    def secret_values(self) -> Sequence[str]:
        return list(SECRETS.values())


def reveal(value: Any) -> Any:
    return SECRETS["#".join(value.inputs[0])] if isinstance(value, SecretRef) else value


@contextmanager
def serving(**seed: Any) -> Iterator[UptimeKumaEmulator]:
    emulator = UptimeKumaEmulator({"password": "adminpass1", **seed})
    shared_login.cache_clear()  # a port may be used again, and its token with it
    emulator.start()
    try:
        yield emulator
    finally:
        ENDING.submit(emulator.stop)  # a stop is 0.2 s of waiting, which the next test need not see


@contextmanager
def bench_on(emulator: UptimeKumaEmulator, **config: Any) -> Iterator[Bench]:
    settings = {**emulator.settings(), "timeout": 5, "settle": 0, "login_pause": 0, **config}
    world = UptimeKumaWorld(emulator)
    bench = Bench(world, UptimeKumaDriver(UptimeKumaConfig(**settings)), scope_for(world, secrets=SECRETS))
    try:
        yield bench
    finally:
        bench.driver.close()


@contextmanager
def behind_tls(url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Put a door with a certificate of its own before an emulator; gives its address and the file of its authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, secret = folder / "authority.pem", folder / "key.pem"
    authority.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, secret)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    inside = int(url.rpartition(":")[2])
    door = asyncio.run_coroutine_threadsafe(asyncio.start_server(partial(_pass, inside), "127.0.0.1", 0, ssl=context), loop).result(5)
    try:
        yield f"https://127.0.0.1:{door.sockets[0].getsockname()[1]}", authority
    finally:
        asyncio.run_coroutine_threadsafe(_shut(door), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pass(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry both ways until one of the two ends it."""
    near, far = await asyncio.open_connection("127.0.0.1", port)
    ways = [asyncio.ensure_future(_pump(reader, far)), asyncio.ensure_future(_pump(near, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for one in (far, writer):
            one.close()
        await asyncio.gather(*ways, far.wait_closed(), writer.wait_closed(), return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(65536):
        writer.write(block)
        await writer.drain()


async def _shut(door: asyncio.Server) -> None:
    """Close the door, and end whoever still stands in it: a loop that stops under them leaves their sockets behind."""
    door.close()
    standing = asyncio.all_tasks() - {asyncio.current_task()}
    for one in standing:
        one.cancel()
    await asyncio.gather(*standing, return_exceptions=True)
    await door.wait_closed()

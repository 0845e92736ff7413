"""What a spec permits, a real HAProxy accepts: every value of every field goes through the emulated firewall to HAProxy's own check."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from pfsense_world import SETTINGS, PfSenseWorld, changed, wish

from reconciler.resource import Resource
from reconciler.testing import Bench, scope_for
from reconciler_pfsense.spec import CHECKS, HAProxyBackend, HAProxyFrontend, Server

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/bin")
USER = "\tuid\t\t\t80\n\tgid\t\t\t80\n"

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


def choices(model: Any, field: str) -> tuple[str, ...]:
    return get_args(model.model_fields[field].annotation)


def server(**fields: Any) -> dict[str, Any]:
    return {"name": "n1", "address": "127.0.0.1", "port": 2525, **fields}


def checked(check: str) -> dict[str, Any]:
    return {"check": check, **({"check_domain": "mail.example.org"} if check in ("smtp", "esmtp") else {})}


BACKENDS: dict[str, dict[str, Any]] = {
    **{f"check-{one}": checked(one) for one in CHECKS},
    "check-uri": {"check": "http", "check_uri": "/health"},
    **{f"balance-{one}": {"balance": one} for one in choices(HAProxyBackend, "balance")},
    **{f"server-{one}": {"servers": [server(status=one)]} for one in choices(Server, "status")},
    **{f"proxy-{one}": {"servers": [server(send_proxy=one, check_port=2526)]} for one in choices(Server, "send_proxy")},
    "weight-0": {"servers": [server(weight=0)]},
    "weight-256": {"servers": [server(weight=256)]},
    "no-servers": {"servers": []},
    "six": {"servers": [server(address="2001:db8::1")]},
    "patient": {"redispatch": False, "retries": 1, "connect_timeout": 1, "server_timeout": 86400000, "check_interval": 600000},
    "lines": {"advanced": "option tcpka\ntimeout tunnel 1h", "servers": [server(advanced="on-marked-down shutdown-sessions")]},
}
BINDS: dict[str, list[dict[str, Any]]] = {
    "any": [{"address": "any_ipv4", "port": 2500}],
    "any-six": [{"address": "any_ipv6", "port": 2500}],
    "here": [{"address": "localhost_ipv4", "port": 2500}],
    "here-six": [{"address": "localhost_ipv6", "port": 2500}],
    "two": [{"address": "127.0.0.1", "port": "2500,2501,2503"}, {"address": "::1", "port": 2500}],
    "alias": [{"address": "mail_ip", "port": "mail_ports"}],
    "words": [{"address": "127.0.0.1", "port": 2500, "advanced": "accept-proxy"}],
}
ALIASES = (
    wish("Alias", "mail_ip", type="host", addresses=["127.0.0.1", "127.0.0.2"]),
    wish("Alias", "mail_ports", type="port", addresses=["2500", "2502"]),
)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    world = PfSenseWorld()
    made = Bench(world, world.open(), scope_for(world))
    yield made
    made.driver.close()
    world.emulator.stop()


def accepted(bench: Bench, folder: Path, wanted: Sequence[Resource], settings: Resource = SETTINGS) -> str:
    """Converge, and give what was rendered once HAProxy has found no fault with it."""
    bench.converge([settings, *wanted])
    config = folder / "haproxy.cfg"
    assert isinstance(bench.world, PfSenseWorld)
    rendered: str = bench.world.emulator.haproxy_cfg()
    config.write_text(rendered.replace(USER, "").replace("/tmp/", f"{folder}/"))
    (folder / "haproxy_chroot").mkdir()
    done = subprocess.run([str(HAPROXY), "-c", "-f", config], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return rendered


@pytest.mark.parametrize("kind", choices(HAProxyFrontend, "type"))
@pytest.mark.parametrize("name", BACKENDS)
def test_haproxy_takes_every_backend_that_a_spec_permits(bench: Bench, tmp_path: Path, name: str, kind: str) -> None:
    pool = wish("HAProxyBackend", "pool", **{"servers": [server()], **BACKENDS[name]})
    frontend = wish("HAProxyFrontend", "front", type=kind, binds=BINDS["here"], default_backend="pool")
    assert "backend pool_ipvANY" in accepted(bench, tmp_path, [pool, frontend])


@pytest.mark.parametrize("name", BINDS)
@pytest.mark.parametrize("status", choices(HAProxyFrontend, "status"))
def test_haproxy_takes_every_bind_that_a_spec_permits(bench: Bench, tmp_path: Path, name: str, status: str) -> None:
    pool = wish("HAProxyBackend", "pool", servers=[server()])
    frontend = wish("HAProxyFrontend", "front", binds=BINDS[name], default_backend="pool", status=status)
    assert ("frontend front" in accepted(bench, tmp_path, [*ALIASES, pool, frontend])) == (status == "active")


def test_haproxy_takes_every_name_that_a_route_permits(bench: Bench, tmp_path: Path) -> None:
    pools = [wish("HAProxyBackend", name, servers=[server()]) for name in ("pool", "a.b-c_d")]
    routes = [
        {"names": ["mail.example.org", "xn--mller-kva.example"], "backend": "pool"},
        {"names": ["*.example.org", "_x.y"], "backend": "a.b-c_d"},
    ]
    frontend = wish("HAProxyFrontend", "front", type="https", binds=BINDS["here"], routes=routes)
    assert accepted(bench, tmp_path, [*pools, frontend]).count("use_backend") == 2


@pytest.mark.parametrize("fields", [{"maxconn": None}, {"maxconn": 1}, {"nbthread": 64}, {"hard_stop_after": "1h"}])
def test_haproxy_takes_every_setting_that_a_spec_permits(bench: Bench, tmp_path: Path, fields: dict[str, Any]) -> None:
    rendered = accepted(bench, tmp_path, [], changed(SETTINGS, **fields))
    for value in fields.values():
        assert ("maxconn" not in rendered) if value is None else (f"\t{value}\n" in rendered)

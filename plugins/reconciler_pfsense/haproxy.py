"""HAProxy backends, frontends and settings, as the package keeps them in config.xml. Pure.

The package calls frontends ``ha_backends`` and backends ``ha_pools``.
"""

import re
from typing import Any

from reconciler.driver import Mark
from reconciler.resource import JSONObject
from reconciler_pfsense.agent import Snapshot
from reconciler_pfsense.fields import normal_address
from reconciler_pfsense.items import (
    BACKENDS,
    FRONTENDS,
    HAPROXY,
    Edit,
    Kind,
    decoded,
    descr_mark,
    encoded,
    flag,
    items,
    name_in,
    name_key,
    name_of,
    number,
    overwrite,
    text,
    with_mark,
    words,
)
from reconciler_pfsense.routes import route_fields, routes_live
from reconciler_pfsense.spec import (
    CHECKS,
    REDISPATCH,
    Bind,
    HAProxyBackend,
    HAProxyFrontend,
    HAProxySettings,
    Server,
    normal_bind_port,
)

_BIND_WORD = re.compile(r"[a-z0-9.]+_ipv[46]")


def _backend_mark(item: JSONObject) -> Mark | None:
    """Read the mark from the comment that opens the backend's own lines; a pool has no field for people."""
    first, _, _ = decoded(text(item, "advanced_backend")).partition("\n")
    return Mark.parse(first.removeprefix("# ").strip()) if first.startswith("# ") else None


def _backend_lines(item: JSONObject) -> list[str]:
    lines = [line.strip() for line in decoded(text(item, "advanced_backend")).splitlines()]
    return lines[1:] if _backend_mark(item) is not None else lines


def _server_live(item: JSONObject) -> JSONObject:
    words = text(item, "advanced").split()
    proxy = "v2" if "send-proxy-v2" in words else "v1" if "send-proxy" in words else "none"
    rest = [word for word in words if word not in ("send-proxy", "send-proxy-v2")]
    check_port = None
    if "port" in rest[:-1] and rest[rest.index("port") + 1].isdigit():
        at = rest.index("port")
        check_port = int(rest[at + 1])
        del rest[at : at + 2]
    return {
        "name": text(item, "name"),
        "address": text(item, "address"),
        "port": number(item, "port", 0),
        "weight": number(item, "weight", 1),
        "status": text(item, "status", "active"),
        "send_proxy": proxy,
        "check_port": check_port,
        "advanced": " ".join(rest),
    }


def _server_item(server: Server, found: JSONObject | None) -> JSONObject:
    """Write a server over the one of the same name, which may have fields that are not ours."""
    words = [
        *({"v1": ["send-proxy"], "v2": ["send-proxy-v2"], "none": []}[server.send_proxy]),
        *(["port", str(server.check_port)] if server.check_port else []),
        *([server.advanced] if server.advanced else []),
    ]
    return (found or {}) | {
        "name": server.name,
        "status": server.status,
        "address": server.address,
        "port": str(server.port),
        "weight": str(server.weight),
        "advanced": " ".join(words),
    }


def _backend_live(item: JSONObject, snapshot: Snapshot) -> JSONObject:
    lines = _backend_lines(item)
    check = text(item, "check_type", "Basic")
    names = {native: name for name, native in CHECKS.items()}
    return {
        "name": text(item, "name"),
        "servers": [_server_live(server) for server in items(item.get("ha_servers"))],
        "check": names.get(check, check),
        "check_uri": text(item, "monitor_uri") if check == "HTTP" else "",
        "check_domain": text(item, "monitor_domain") if check in ("SMTP", "ESMTP") else "",
        "check_interval": number(item, "checkinter", 1000),
        "connect_timeout": number(item, "connection_timeout", 30000),
        "server_timeout": number(item, "server_timeout", 30000),
        "balance": text(item, "balance", "roundrobin"),
        "redispatch": REDISPATCH in lines,
        "retries": number(item, "retries", 3),
        "advanced": "\n".join(line for line in lines if line != REDISPATCH),
    }


def _backend_fields(spec: HAProxyBackend, mark: Mark, item: JSONObject | None) -> dict[str, Any]:
    servers = {text(server, "name"): server for server in items((item or {}).get("ha_servers"))}
    lines = [f"# {mark}", *([REDISPATCH] if spec.redispatch else []), *([spec.advanced] if spec.advanced else [])]
    return {
        "name": spec.name,
        "check_type": CHECKS[spec.check],
        **({"monitor_uri": spec.check_uri} if spec.check == "http" else {}),
        **({"monitor_domain": spec.check_domain} if spec.check in ("smtp", "esmtp") else {}),
        "checkinter": str(spec.check_interval),
        "connection_timeout": str(spec.connect_timeout),
        "server_timeout": str(spec.server_timeout),
        "balance": spec.balance,
        "retries": str(spec.retries),
        "ha_servers": {"item": [_server_item(server, servers.get(server.name)) for server in spec.servers]} if spec.servers else "",
        "advanced_backend": encoded("\n".join(lines)),
    }


def _bind_live(item: JSONObject) -> JSONObject:
    place = text(item, "extaddr")
    if place == "custom":
        address = normal_address(text(item, "extaddr_custom"))
    else:  # the package listens everywhere when it does not know the word, so an address here is not the address
        address = place if _BIND_WORD.fullmatch(place) else f"{place or 'nothing'} (not as a custom address)"
    return {
        "address": address,
        "port": normal_bind_port(text(item, "extaddr_port")),
        "advanced": " ".join(text(item, "extaddr_advanced").split()),
    }


def _bind_place(item: JSONObject) -> tuple[str, str]:
    live = _bind_live(item)
    return live["address"], live["port"]


def _bind_item(bind: Bind, old: list[JSONObject]) -> JSONObject:
    found = next((item for item in old if _bind_place(item) == (bind.address, bind.port)), {})
    word = bool(_BIND_WORD.fullmatch(bind.address))
    return found | {
        "extaddr": bind.address if word else "custom",
        "extaddr_custom": "" if word else bind.address,
        "extaddr_port": bind.port,
        "extaddr_advanced": bind.advanced,
    }


def _frontend_live(item: JSONObject, snapshot: Snapshot) -> JSONObject:
    return {
        "name": text(item, "name"),
        "binds": [_bind_live(bind) for bind in items(item.get("a_extaddr"))],
        "type": text(item, "type"),
        "default_backend": text(item, "backend_serverpool"),
        "routes": routes_live(item),
        "client_timeout": number(item, "client_timeout", 30000),
        "status": text(item, "status"),
        "description": words(item),
    }


def _frontend_fields(spec: HAProxyFrontend, mark: Mark, item: JSONObject | None) -> dict[str, Any]:
    old = items((item or {}).get("a_extaddr"))
    return {
        "name": spec.name,
        "descr": with_mark(mark, spec.description),
        "status": spec.status,
        "type": spec.type,
        "a_extaddr": {"item": [_bind_item(bind, old) for bind in spec.binds]},
        "backend_serverpool": spec.default_backend,
        **route_fields(spec.routes, item or {}),
        "client_timeout": str(spec.client_timeout),
    }


def settings_live(settings: JSONObject) -> JSONObject:
    """Read the settings of the package."""
    return {
        "enabled": "enable" in settings,
        "maxconn": number(settings, "maxconn", 0) or None,
        "nbthread": number(settings, "nbthread", 1),
        "hard_stop_after": text(settings, "hard_stop_after", "15m"),
    }


def settings_edit(spec: HAProxySettings) -> Edit:
    """Write the settings of the package."""
    fields = {
        "enable": flag(spec.enabled),
        "maxconn": str(spec.maxconn) if spec.maxconn else "",
        "nbthread": str(spec.nbthread),
        "hard_stop_after": spec.hard_stop_after,
    }
    return overwrite({"path": HAPROXY}, fields)


BACKEND = Kind("HAProxyBackend", BACKENDS, _backend_mark, _backend_live, name_of, name_in, name_key, _backend_fields)
FRONTEND = Kind("HAProxyFrontend", FRONTENDS, descr_mark, _frontend_live, name_of, name_in, name_key, _frontend_fields)

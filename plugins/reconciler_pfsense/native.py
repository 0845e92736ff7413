"""The shape of our kinds in config.xml: items to canonical form, and specs to edits. Pure: it knows no transport.

Only fields that a spec owns are read and written; an item's other fields are never mentioned, so they stay as they are. Sources:
``config.inc``/``xmlparse.inc`` of pfSense 2.7.2 and 2.8 and ``haproxy.inc`` of the package.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from reconciler.driver import Mark
from reconciler.resource import JSONObject, Spec
from reconciler_pfsense.agent import Snapshot
from reconciler_pfsense.spec import (
    CHECKS,
    REDISPATCH,
    SPECIAL_NETWORK,
    Alias,
    Bind,
    FirewallRule,
    HAProxyBackend,
    HAProxyFrontend,
    HAProxySettings,
    PortForward,
    Server,
    normal_address,
    normal_entry,
    normal_port,
)

ALIASES = "aliases/alias"
FORWARDS = "nat/rule"
RULES = "filter/rule"
HAPROXY = "installedpackages/haproxy"
FRONTENDS = f"{HAPROXY}/ha_backends/item"
BACKENDS = f"{HAPROXY}/ha_pools/item"

_MARKED = re.compile(r"\[(reconciler:[^\]]+)\] ?(.*)", re.DOTALL)
_BIND_WORD = re.compile(r"[a-z0-9]+_ipv[46]")
Edit = JSONObject


def text(item: Mapping[str, Any], key: str, default: str = "") -> str:
    """Give a scalar field; an empty tag means the default."""
    value = item.get(key)
    return value if isinstance(value, str) and value else default


def number(item: Mapping[str, Any], key: str, default: int) -> Any:
    """Give a numeric field; text that is no number is given as it is, so that it shows as a difference."""
    value = text(item, key)
    return (int(value) if value.isdigit() else value) if value else default


def items(value: Any) -> list[JSONObject]:
    """Give the entries below a wrapper such as ``ha_servers``; an empty wrapper is an empty string."""
    found = value.get("item") if isinstance(value, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def split_mark(words: str) -> tuple[Mark | None, str]:
    """Take ``[mark] description`` apart."""
    found = _MARKED.fullmatch(words)
    mark = Mark.parse(found[1]) if found else None
    return (mark, found[2]) if found and mark else (None, words)


def with_mark(mark: Mark, words: str) -> str:
    """Write ``[mark] description``."""
    return f"[{mark}] {words}".strip()


def decoded(value: str) -> str:
    """Read one of the package's base64 fields; what is not base64 is garbage there, too."""
    try:
        return base64.b64decode(value, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return value


def encoded(words: str) -> str:
    """Write one of the package's base64 fields."""
    return base64.b64encode(words.encode()).decode()


@dataclass(frozen=True, slots=True)
class Found:
    """One item of a list of the configuration, where it stands, and which kind it is."""

    kind: "Kind"
    index: int
    item: JSONObject

    @property
    def mark(self) -> Mark | None:
        """Give the mark it carries."""
        return self.kind.mark(self.item)

    def edit(self, fields: Mapping[str, Any]) -> Edit:
        """Overwrite fields of this very item; None takes a field away."""
        return _edit({"list": self.kind.path, "at": self.index, "key": self._key()}, fields)

    def delete(self) -> Edit:
        """Take this item away."""
        return {"list": self.kind.path, "at": self.index, "key": self._key(), "delete": True}

    def _key(self) -> JSONObject:
        """Give what the firewall compares before it believes the index."""
        return {key: self.item[key] for key in ("name", "descr", "associated-rule-id") if isinstance(self.item.get(key), str)}


def _edit(edit: Edit, fields: Mapping[str, Any]) -> Edit:
    return {
        **edit,
        "set": {key: value for key, value in fields.items() if value is not None},
        "unset": [key for key, value in fields.items() if value is None],
    }


def create(path: str, key: JSONObject, fields: Mapping[str, Any]) -> Edit:
    """Add an item to the end of a list, unless one with this key is there, which then gets the fields."""
    return _edit({"list": path, "key": key}, fields)


@dataclass(frozen=True, slots=True)
class Kind:
    """One list of the configuration as a kind of resource."""

    name: str
    path: str
    mark: Callable[[JSONObject], Mark | None]
    live: Callable[[JSONObject, Snapshot], JSONObject]
    same: Callable[[JSONObject, Any], bool]
    key: Callable[[Any, str], JSONObject]
    fields: Callable[[Any, Mark, JSONObject | None], dict[str, Any]]

    def all(self, snapshot: Snapshot) -> list[Found]:
        """Give every item of this kind, whoever made it."""
        found = (Found(self, index, item) for index, item in enumerate(snapshot.lists[self.path]) if item)
        return [one for one in found if self.path != RULES or not text(one.item, "associated-rule-id")]


def _descr_mark(item: JSONObject) -> Mark | None:
    return split_mark(text(item, "descr"))[0]


def _words(item: JSONObject) -> str:
    return split_mark(text(item, "descr"))[1]


def _same_name(item: JSONObject, spec: Any) -> bool:
    return text(item, "name") == str(spec.name)


def _name_key(spec: Any, descr: str) -> JSONObject:
    return {"name": spec.name}


def _descr_key(spec: Any, descr: str) -> JSONObject:
    return {"descr": descr}


# -- aliases -------------------------------------------------------------------------------------------------------------------


def _alias_live(item: JSONObject, snapshot: Snapshot) -> JSONObject:
    kind, details = text(item, "type"), text(item, "detail").split("||")
    entries = [normal_entry(kind, entry) for entry in text(item, "address").split()]
    pairs = sorted(zip(entries, [*(detail.strip() for detail in details), *([""] * len(entries))], strict=False))
    addresses = [{"address": address, "detail": detail} for address, detail in pairs]
    return {"name": text(item, "name"), "type": kind, "addresses": addresses, "description": _words(item)}


def _alias_fields(spec: Alias, mark: Mark, item: JSONObject | None) -> dict[str, Any]:
    details = [entry.detail for entry in spec.addresses]
    return {
        "name": spec.name,
        "type": spec.type,
        "address": " ".join(entry.address for entry in spec.addresses),
        "descr": with_mark(mark, spec.description),
        "detail": "||".join(details) if any(details) else "",
    }


# -- forwards and rules ----------------------------------------------------------------------------------------------------------


def _end(side: Any) -> str:
    """Read the address of a source or destination."""
    if not isinstance(side, dict):
        return ""
    name = "any" if "any" in side else text(side, "network") or text(side, "address")
    return ("!" if "not" in side else "") + normal_address(name)


def _end_port(side: Any) -> str:
    return normal_port(text(side, "port")) if isinstance(side, dict) else ""


def _side(address: str, port: str = "") -> JSONObject:
    """Write a source or destination. Flags are written by their presence."""
    name = address.removeprefix("!")
    place = "any" if name == "any" else "network" if SPECIAL_NETWORK.fullmatch(name) else "address"
    side: JSONObject = {place: "" if name == "any" else name}
    if port:
        side["port"] = port
    return side | ({"not": ""} if address.startswith("!") else {})


def _flag(value: bool) -> str | None:
    return "" if value else None


def linked(item: JSONObject, snapshot: Snapshot) -> Found | None:
    """Give the pass rule that is linked to a forward."""
    id = text(item, "associated-rule-id")
    for index, rule in enumerate(snapshot.lists[RULES]):
        if id and rule.get("associated-rule-id") == id:
            return Found(RULE, index, rule)
    return None


def link_id(mark: Mark) -> str:
    """Make the id that links a forward to its rule, in pfSense's own form, always the same for one mark."""
    value = hashlib.sha256(f"{mark.owner}:{mark.kind}/{mark.name}".encode()).hexdigest()
    return f"nat_{value[:14]}.{int(value[14:30], 16) % 10**8:08d}"


def tracker(mark: Mark, snapshot: Snapshot) -> str:
    """Make a tracker that no rule has, starting from one derived from the mark. pfSense's own are times, which stay below."""
    taken = {text(rule, "tracker") for rule in snapshot.lists[RULES]}
    value = 2_000_000_000 + crc32(str(mark).encode()) % 1_000_000_000
    while str(value) in taken:
        value += 1
    return str(value)


def link_fields(forward: JSONObject) -> dict[str, Any]:
    """Give what the linked rule of a forward must say."""
    source = forward["source"]
    return {
        "type": "pass",
        "interface": forward["interface"],
        "ipprotocol": forward["ipprotocol"],
        "protocol": forward["protocol"],
        "source": source,
        "destination": {"address": forward["target"], "port": _target_ports(forward)},
        "descr": f"NAT {forward['descr']}",
        "disabled": forward.get("disabled"),
    }


def _target_ports(forward: JSONObject) -> str:
    """Give the ports behind the forward: as many, from the local port on."""
    first, _, last = text(forward["destination"], "port").replace(":", "-").partition("-")
    local = text(forward, "local-port")
    return f"{local}-{int(local) + int(last) - int(first)}" if last.isdigit() and local.isdigit() else local


def link_differences(forward: JSONObject, rule: JSONObject) -> list[str]:
    """Name the fields in which a linked rule is not what its forward needs."""
    whole = {"ipprotocol": "inet", "protocol": "tcp", "source": {"any": ""}, "destination": {}, "descr": "", "interface": "", "target": ""}
    wanted = link_fields({**whole, **forward})
    return [key for key, value in wanted.items() if not _alike(key, rule.get(key), value)]


def _alike(key: str, found: Any, wanted: Any) -> bool:
    if key in ("source", "destination"):
        return (_end(found), _end_port(found)) == (_end(wanted), _end_port(wanted))
    return (found is None) == (wanted is None) and (found or "") == (wanted or "")


def _forward_live(item: JSONObject, snapshot: Snapshot) -> JSONObject:
    rule = linked(item, snapshot)
    return {
        "interface": text(item, "interface"),
        "ipprotocol": text(item, "ipprotocol", "inet"),
        "protocol": text(item, "protocol"),
        "source": _end(item.get("source")),
        "destination": _end(item.get("destination")),
        "port": _end_port(item.get("destination")),
        "target": normal_address(text(item, "target")),
        "target_port": normal_port(text(item, "local-port")),
        "description": _words(item),
        "disabled": "disabled" in item,
        "pass_rule": False if rule is None else "edited" if link_differences(item, rule.item) else True,
    }


def _forward_same(item: JSONObject, spec: PortForward) -> bool:
    wanted = (spec.interface, spec.protocol, spec.destination, spec.port)
    side = item.get("destination")
    return wanted == (text(item, "interface"), text(item, "protocol"), _end(side), _end_port(side))


def _forward_fields(spec: PortForward, mark: Mark, item: JSONObject | None) -> dict[str, Any]:
    return {
        "descr": with_mark(mark, spec.description),
        "interface": spec.interface,
        "ipprotocol": spec.ipprotocol,
        "protocol": spec.protocol,
        "source": _side(spec.source),
        "destination": _side(spec.destination, spec.port),
        "target": spec.target,
        "local-port": spec.target_port,
        "disabled": _flag(spec.disabled),
    }


def forward_of_rule(rule: JSONObject) -> JSONObject:
    """Rebuild, from a linked rule whose forward is gone, enough of the forward to show what is left over."""
    return {
        "interface": text(rule, "interface"),
        "protocol": text(rule, "protocol"),
        "source": rule.get("source"),
        "destination": rule.get("destination"),
        "target": _end(rule.get("destination")),
        "local-port": _end_port(rule.get("destination")),
        "descr": text(rule, "descr").removeprefix("NAT "),
        "associated-rule-id": text(rule, "associated-rule-id"),
    }


def _rule_live(item: JSONObject, snapshot: Snapshot) -> JSONObject:
    return {
        "action": text(item, "type", "pass"),
        "interface": text(item, "interface"),
        "ipprotocol": text(item, "ipprotocol", "inet"),
        "protocol": text(item, "protocol", "any"),
        "source": _end(item.get("source")),
        "source_port": _end_port(item.get("source")),
        "destination": _end(item.get("destination")),
        "destination_port": _end_port(item.get("destination")),
        "description": _words(item),
        "disabled": "disabled" in item,
        "log": "log" in item,
    }


_RULE_KEY = ("action", "interface", "ipprotocol", "protocol", "source", "source_port", "destination", "destination_port")


def _rule_same(item: JSONObject, spec: FirewallRule) -> bool:
    live = _rule_live(item, Snapshot("", {}, {}, None))
    return all(live[key] == getattr(spec, key) for key in _RULE_KEY)


def _rule_fields(spec: FirewallRule, mark: Mark, item: JSONObject | None) -> dict[str, Any]:
    return {
        "descr": with_mark(mark, spec.description),
        "type": spec.action,
        "interface": spec.interface,
        "ipprotocol": spec.ipprotocol,
        "protocol": None if spec.protocol == "any" else spec.protocol,
        "source": _side(spec.source, spec.source_port),
        "destination": _side(spec.destination, spec.destination_port),
        "disabled": _flag(spec.disabled),
        "log": _flag(spec.log),
    }


# -- haproxy ---------------------------------------------------------------------------------------------------------------------


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
    return {"address": address, "port": text(item, "extaddr_port"), "advanced": " ".join(text(item, "extaddr_advanced").split())}


def _bind_item(bind: Bind, old: list[JSONObject]) -> JSONObject:
    found = next((item for item in old if (_bind_live(item)["address"], text(item, "extaddr_port")) == (bind.address, bind.port)), {})
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
        "client_timeout": number(item, "client_timeout", 30000),
        "status": text(item, "status"),
        "description": _words(item),
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
        "enable": _flag(spec.enabled),
        "maxconn": str(spec.maxconn) if spec.maxconn else "",
        "nbthread": str(spec.nbthread),
        "hard_stop_after": spec.hard_stop_after,
    }
    return _edit({"path": HAPROXY}, fields)


ALIAS = Kind("Alias", ALIASES, _descr_mark, _alias_live, _same_name, _name_key, _alias_fields)
FORWARD = Kind("PortForward", FORWARDS, _descr_mark, _forward_live, _forward_same, _descr_key, _forward_fields)
RULE = Kind("FirewallRule", RULES, _descr_mark, _rule_live, _rule_same, _descr_key, _rule_fields)
BACKEND = Kind("HAProxyBackend", BACKENDS, _backend_mark, _backend_live, _same_name, _name_key, _backend_fields)
FRONTEND = Kind("HAProxyFrontend", FRONTENDS, _descr_mark, _frontend_live, _same_name, _name_key, _frontend_fields)

BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in (ALIAS, FORWARD, RULE, BACKEND, FRONTEND)}
"""The kinds that are items of a list; HAProxySettings is the one that is not."""


def edits_for(spec: Spec, mark: Mark, found: Found | None, snapshot: Snapshot) -> list[Edit]:
    """Give the edits that make ``spec`` true for the item found, or for a new one."""
    if isinstance(spec, HAProxySettings):
        return [settings_edit(spec)]
    kind = BY_NAME[mark.kind]
    fields = kind.fields(spec, mark, found.item if found else None)
    if isinstance(spec, PortForward):
        return _forward_edits(spec, mark, found, fields, snapshot)
    if isinstance(spec, FirewallRule) and found is None:
        fields["tracker"] = tracker(mark, snapshot)
    return [found.edit(fields) if found else create(kind.path, kind.key(spec, fields.get("descr", "")), fields)]


def _forward_edits(spec: PortForward, mark: Mark, found: Found | None, fields: dict[str, Any], snapshot: Snapshot) -> list[Edit]:
    """Write a forward and bring its linked rule to what it needs: made, corrected, left or taken away."""
    old = found.item if found else {}
    id = text(old, "associated-rule-id")
    id = id if id.startswith("nat_") else link_id(mark)
    rule = linked({"associated-rule-id": id}, snapshot)
    fields["associated-rule-id"] = id if spec.pass_rule else ""
    edits = [found.edit(fields) if found else create(FORWARDS, {"descr": fields["descr"]}, fields)]
    if not spec.pass_rule:
        return edits + ([rule.delete()] if rule else [])
    if rule is not None and not isinstance(spec.pass_rule, bool):
        return edits
    if rule is not None:
        return [*edits, rule.edit(link_fields(fields))]
    new = {"tracker": tracker(mark, snapshot), "statetype": "keep state"}
    return [*edits, create(RULES, {"associated-rule-id": id}, link_fields(fields) | new)]


def deletes_for(found: Found, snapshot: Snapshot) -> list[Edit]:
    """Give the edits that take an item away, the linked rule of a forward included."""
    if found.kind is not FORWARD:
        return [found.delete()]
    rule = linked(found.item, snapshot)
    return [*([] if found.index < 0 else [found.delete()]), *([rule.delete()] if rule else [])]


def is_done(edit: Edit, snapshot: Snapshot) -> bool:
    """Say whether an edit would change nothing."""
    if edit.get("delete"):
        return False
    if "path" in edit:
        item = snapshot.settings or {}
    elif "at" in edit:
        item = snapshot.lists[edit["list"]][edit["at"]]
    else:
        return False
    return all(item.get(key) == value for key, value in edit["set"].items()) and not any(key in item for key in edit["unset"])


def needs_reload(edits: list[Edit], snapshot: Snapshot) -> tuple[bool, bool]:
    """Say whether pf and whether HAProxy must load anew. HAProxy only if need be: each reload cuts its long sessions some time later."""
    lists = {edit.get("list", HAPROXY) for edit in edits}
    aliases = {edit["key"].get("name") for edit in edits if edit.get("list") == ALIASES}
    binds = [bind for frontend in snapshot.lists[FRONTENDS] for bind in items(frontend.get("a_extaddr"))]
    listened = {word for bind in binds for key in ("extaddr_custom", "extaddr_port") for word in re.split(r"[\s,]+", text(bind, key))}
    return bool(lists & {ALIASES, FORWARDS, RULES}), bool(lists & {HAPROXY, FRONTENDS, BACKENDS}) or bool(aliases & listened)

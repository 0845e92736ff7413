"""Aliases, port forwards with their linked rules, and filter rules, as config.xml has them. Pure."""

import hashlib
from typing import Any
from zlib import crc32

from reconciler.driver import Mark
from reconciler.resource import JSONObject
from reconciler_pfsense.agent import Snapshot
from reconciler_pfsense.fields import SPECIAL_NETWORK, normal_address, normal_port
from reconciler_pfsense.items import (
    ALIASES,
    FORWARDS,
    RULES,
    Edit,
    Found,
    Kind,
    Meaning,
    create,
    descr_key,
    descr_mark,
    flag,
    name_in,
    name_key,
    name_of,
    text,
    with_mark,
    words,
)
from reconciler_pfsense.spec import Alias, FirewallRule, PortForward, normal_entry

# -- aliases -------------------------------------------------------------------------------------------------------------------


def _alias_live(item: JSONObject, snapshot: Snapshot) -> JSONObject:
    kind, details = text(item, "type"), text(item, "detail").split("||")
    entries = [normal_entry(kind, entry) for entry in text(item, "address").split()]
    pairs = sorted(zip(entries, [*(detail.strip() for detail in details), *([""] * len(entries))], strict=False))
    addresses = [{"address": address, "detail": detail} for address, detail in pairs]
    return {"name": text(item, "name"), "type": kind, "addresses": addresses, "description": words(item)}


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


def end(side: Any) -> str:
    """Read the address of a source or destination."""
    if not isinstance(side, dict):
        return ""
    name = "any" if "any" in side else text(side, "network") or text(side, "address")
    return ("!" if "not" in side else "") + normal_address(name)


def end_port(side: Any) -> str:
    """Read the port of a source or destination."""
    return normal_port(text(side, "port")) if isinstance(side, dict) else ""


def side_of(address: str, port: str = "") -> JSONObject:
    """Write a source or destination. Flags are written by their presence."""
    name = address.removeprefix("!")
    place = "any" if name == "any" else "network" if SPECIAL_NETWORK.fullmatch(name) else "address"
    side: JSONObject = {place: "" if name == "any" else name}
    if port:
        side["port"] = port
    return side | ({"not": ""} if address.startswith("!") else {})


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
        return (end(found), end_port(found)) == (end(wanted), end_port(wanted))
    return (found is None) == (wanted is None) and str(found or "").strip() == str(wanted or "").strip()


def _forward_live(item: JSONObject, snapshot: Snapshot) -> JSONObject:
    rule = linked(item, snapshot)
    return {
        "interface": text(item, "interface"),
        "ipprotocol": text(item, "ipprotocol", "inet"),
        "protocol": text(item, "protocol"),
        "source": end(item.get("source")),
        "destination": end(item.get("destination")),
        "port": end_port(item.get("destination")),
        "target": normal_address(text(item, "target")),
        "target_port": normal_port(text(item, "local-port")),
        "description": words(item),
        "disabled": "disabled" in item,
        "pass_rule": False if rule is None else "edited" if link_differences(item, rule.item) else True,
    }


def _forward_means(item: JSONObject) -> Meaning:
    side = item.get("destination")
    return text(item, "interface"), text(item, "protocol"), end(side), end_port(side)


def _forward_meant(spec: PortForward) -> Meaning:
    return spec.interface, spec.protocol, spec.destination, spec.port


def _forward_fields(spec: PortForward, mark: Mark, item: JSONObject | None) -> dict[str, Any]:
    return {
        "descr": with_mark(mark, spec.description),
        "interface": spec.interface,
        "ipprotocol": spec.ipprotocol,
        "protocol": spec.protocol,
        "source": side_of(spec.source),
        "destination": side_of(spec.destination, spec.port),
        "target": spec.target,
        "local-port": spec.target_port,
        "disabled": flag(spec.disabled),
    }


def forward_of_rule(rule: JSONObject) -> JSONObject:
    """Rebuild, from a linked rule whose forward is gone, enough of the forward to show what is left over."""
    return {
        "interface": text(rule, "interface"),
        "protocol": text(rule, "protocol"),
        "source": rule.get("source"),
        "destination": rule.get("destination"),
        "target": end(rule.get("destination")),
        "local-port": end_port(rule.get("destination")),
        "descr": text(rule, "descr").removeprefix("NAT "),
        "associated-rule-id": text(rule, "associated-rule-id"),
    }


def _rule_live(item: JSONObject, snapshot: Snapshot) -> JSONObject:
    return {
        "action": text(item, "type", "pass"),
        "interface": text(item, "interface"),
        "ipprotocol": text(item, "ipprotocol", "inet"),
        "protocol": text(item, "protocol", "any"),
        "source": end(item.get("source")),
        "source_port": end_port(item.get("source")),
        "destination": end(item.get("destination")),
        "destination_port": end_port(item.get("destination")),
        "description": words(item),
        "disabled": "disabled" in item,
        "log": "log" in item,
    }


_RULE_KEY = ("action", "interface", "ipprotocol", "protocol", "source", "source_port", "destination", "destination_port")


def _rule_means(item: JSONObject) -> Meaning:
    live = _rule_live(item, Snapshot("", {}, {}, None))
    return tuple(str(live[key]) for key in _RULE_KEY)


def _rule_meant(spec: FirewallRule) -> Meaning:
    return tuple(str(getattr(spec, key)) for key in _RULE_KEY)


def _rule_fields(spec: FirewallRule, mark: Mark, item: JSONObject | None) -> dict[str, Any]:
    return {
        "descr": with_mark(mark, spec.description),
        "type": spec.action,
        "interface": spec.interface,
        "ipprotocol": spec.ipprotocol,
        "protocol": None if spec.protocol == "any" else spec.protocol,
        "source": side_of(spec.source, spec.source_port),
        "destination": side_of(spec.destination, spec.destination_port),
        "disabled": flag(spec.disabled),
        "log": flag(spec.log),
    }


ALIAS = Kind("Alias", ALIASES, descr_mark, _alias_live, name_of, name_in, name_key, _alias_fields)
FORWARD = Kind("PortForward", FORWARDS, descr_mark, _forward_live, _forward_means, _forward_meant, descr_key, _forward_fields)
RULE = Kind("FirewallRule", RULES, descr_mark, _rule_live, _rule_means, _rule_meant, descr_key, _rule_fields)


def forward_edits(spec: PortForward, mark: Mark, found: Found | None, fields: dict[str, Any], snapshot: Snapshot) -> list[Edit]:
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

"""Cluster addresses and node ports: the two things of a Service that only the server can choose."""

import ipaddress
import random
from collections.abc import Iterable
from typing import Any

from reconciler.resource import JSONObject
from reconciler_k8s.emulator.statuses import Cause, invalid

RANGE = ipaddress.ip_network("10.96.0.0/12")
PORTS = range(30000, 32768)
CHOSEN_BY_HAND = range(30000, 30300)
"""The ports that the server itself gives out last, so that people may choose them; wider than the 86 of a real one."""
OUT_OF_RANGE = "provided port is not in the valid range. The range of valid ports is 30000-32767"


def addresses_used(services: Iterable[JSONObject]) -> set[str]:
    """Collect the cluster addresses in use."""
    return {str(one["spec"].get("clusterIP")) for one in services if one.get("spec", {}).get("clusterIP") not in (None, "", "None")}


def ports_used(services: Iterable[JSONObject]) -> set[int]:
    """Collect the node ports in use."""
    used = set[int]()
    for one in services:
        spec = one.get("spec") or {}
        used |= {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
        used |= {spec["healthCheckNodePort"]} if spec.get("healthCheckNodePort") else set()
    return used


def allocate(spec: JSONObject, old: JSONObject | None, others: list[JSONObject], *, dry_run: bool) -> list[Cause]:
    """Give a service its addresses and ports, in place; say what cannot be had."""
    causes: list[Cause] = []
    if spec.get("type") == "ExternalName":
        for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(key, None)
    else:
        causes += _address(spec, old, others, dry_run=dry_run)
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        causes += _ports(spec, old, others, dry_run=dry_run)
    local = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    if local and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = _free(ports_used([*others, {"spec": spec}]), dry_run=dry_run)
    if not local:
        spec.pop("healthCheckNodePort", None)
    return causes


def _address(spec: JSONObject, old: JSONObject | None, others: list[JSONObject], *, dry_run: bool) -> list[Cause]:
    wanted = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), None)
    if wanted is None and old is not None and old.get("clusterIP"):
        wanted = old["clusterIP"]
    if wanted is None:
        used = addresses_used(others)
        wanted = "10.96.0.0" if dry_run else next(one for one in iter(_address_at_random, None) if one not in used)
    elif wanted != "None" and wanted != (old or {}).get("clusterIP") and not dry_run:
        why = _address_problem(wanted, others)
        if why:
            return [invalid("spec.clusterIPs", f'["{wanted}"]', f"failed to allocate IP {wanted}: {why}")]
    spec["clusterIP"], spec["clusterIPs"] = wanted, [wanted]
    headless = wanted == "None" and not spec.get("selector")
    spec.setdefault("ipFamilies", ["IPv4", "IPv6"] if headless else ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "RequireDualStack" if headless else "SingleStack")
    return []


def _address_at_random() -> str:
    return str(RANGE[random.randrange(256, RANGE.num_addresses - 1)])  # noqa: S311 - addresses are no secret


def _address_problem(wanted: str, others: list[JSONObject]) -> str:
    try:
        inside = ipaddress.ip_address(wanted) in RANGE
    except ValueError:
        return "invalid IP"
    if not inside:
        return "the provided network does not match the current range"
    return "provided IP is already allocated" if wanted in addresses_used(others) else ""


def _ports(spec: JSONObject, old: JSONObject | None, others: list[JSONObject], *, dry_run: bool) -> list[Cause]:
    used, causes = ports_used(others), list[Cause]()
    before = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in (old or {}).get("ports") or ()}
    mine = {port["nodePort"] for port in (old or {}).get("ports") or () if port.get("nodePort")}
    allocates = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
    for number, port in enumerate(spec.get("ports") or ()):
        port_wanted: Any = port.get("nodePort") or before.get((port.get("port"), port.get("protocol")))
        if not port_wanted and allocates:
            port["nodePort"] = _free(used | mine | {one.get("nodePort") for one in spec["ports"]}, dry_run=dry_run)
        elif port_wanted:
            port["nodePort"] = port_wanted
            if port_wanted in used:
                causes.append(invalid(f"spec.ports[{number}].nodePort", port_wanted, "provided port is already allocated"))
            elif port_wanted not in PORTS and not dry_run:
                causes.append(invalid(f"spec.ports[{number}].nodePort", port_wanted, OUT_OF_RANGE))
    return causes


def _free(used: set[Any], *, dry_run: bool) -> int:
    if dry_run:
        return 32769
    free = [port for port in PORTS if port not in used]
    return random.choice([port for port in free if port >= CHOSEN_BY_HAND.stop] or free)  # noqa: S311 - ports are no secret

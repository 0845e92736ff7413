"""What of a cluster the rules look at: services, what runs behind them, and the files and settings those read. Pure.

Manifests are what people wrote: whatever is not where it should be is left out here, for the server will say it better.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from reconciler.checks.listeners import Listeners, listeners_in
from reconciler.driver import FieldDiff
from reconciler.resource import Resource, ResourceId

WORKLOADS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod"})


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service: ``target`` is a number or the name of a container's port, ``node`` is 0 when none is pinned."""

    id: ResourceId
    namespace: str
    name: str
    port: int
    target: str
    node: int
    selector: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """What runs: its labels, its named ports, its environment, and the ConfigMaps and Secrets that it reads, by name."""

    id: ResourceId
    namespace: str
    labels: frozenset[tuple[str, str]]
    ports: Mapping[str, int]
    environment: Mapping[str, str]
    configs: frozenset[str]
    secrets: frozenset[str]
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """A ConfigMap: its texts by key."""

    id: ResourceId
    namespace: str
    name: str
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The objects of the cluster that this stack declares. ``listeners`` says of each workload which ports demand a PROXY header."""

    ports: tuple[ServicePort, ...] = ()
    workloads: tuple[Workload, ...] = ()
    configs: tuple[Config, ...] = ()
    listeners: Mapping[ResourceId, Listeners] = field(default_factory=dict)

    def behind(self, port: ServicePort) -> Iterator[tuple[Workload, int]]:
        """Give what a port of a Service leads to: the workload and the number of its container's port."""
        for one in self.workloads:
            if one.namespace == port.namespace and port.selector and frozenset(port.selector) <= one.labels:
                number = int(port.target) if port.target.isdecimal() else one.ports.get(port.target, 0)
                if number:
                    yield one, number

    def read_by(self, workload: Workload) -> tuple[Config, ...]:
        """Give the ConfigMaps that a workload reads and the stack declares."""
        return tuple(_read(workload, self.configs))


def addresses_lost(id: ResourceId, diffs: Iterable[FieldDiff]) -> Iterator[str]:
    """Give the load balancer's addresses that a Service has and would have no more."""
    if id.kind != "Service":
        return
    places = ("/metadata/annotations", "/spec/loadBalancerIP", "/spec/externalIPs")
    asked = [one for one in diffs if one.path.startswith(places)]
    kept = {address for one in asked for address in _addresses(one.after)}
    yield from sorted({address for one in asked for address in _addresses(one.before)} - kept)


def _addresses(value: Any) -> Iterator[str]:
    """Give what is written as an address, or as several with commas, anywhere in a value."""
    if isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _addresses(inner)
    elif isinstance(value, str):
        yield from (part.strip() for part in value.split(",") if _is_address(part.strip()))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def cluster_of(resources: Iterable[Resource]) -> Cluster:
    """Take the objects of the cluster out of all resources."""
    ports: list[ServicePort] = []
    workloads: list[Workload] = []
    configs: list[Config] = []
    for one in resources:
        manifest = getattr(one.spec, "manifest", None)
        if not isinstance(manifest, Mapping):
            continue
        if one.id.kind == "Service":
            ports += _service(one.id, manifest)
        elif one.id.kind in WORKLOADS:
            workloads.append(_workload(one.id, manifest))
        elif one.id.kind == "ConfigMap":
            texts = {str(key): value for key, value in _map(manifest, "data").items() if isinstance(value, str)}
            configs.append(Config(one.id, *_place(manifest), texts))
    listeners = {one.id: listeners_in(text for config in _read(one, configs) for text in config.texts.values()) for one in workloads}
    return Cluster(tuple(ports), tuple(workloads), tuple(configs), listeners)


def _read(workload: Workload, configs: Iterable[Config]) -> Iterator[Config]:
    return (one for one in configs if one.namespace == workload.namespace and one.name in workload.configs)


def _place(manifest: Mapping[str, Any]) -> tuple[str, str]:
    metadata = _map(manifest, "metadata")
    return str(metadata.get("namespace", "")), str(metadata.get("name", ""))


def _service(id: ResourceId, manifest: Mapping[str, Any]) -> Iterator[ServicePort]:
    namespace = _place(manifest)[0]
    selector = tuple(sorted((str(key), str(value)) for key, value in _map(manifest, "spec", "selector").items()))
    for one in _maps(_map(manifest, "spec").get("ports")):
        port = number(one.get("port"))
        target = str(one.get("targetPort") or port)
        yield ServicePort(id, namespace, str(one.get("name", "")), port, target, number(one.get("nodePort")), selector)


def _workload(id: ResourceId, manifest: Mapping[str, Any]) -> Workload:
    job = _map(manifest, "spec", "jobTemplate")
    template = manifest if id.kind == "Pod" else _map(job or manifest, "spec", "template")
    pod = _map(template, "spec")
    containers = [*_maps(pod.get("initContainers")), *_maps(pod.get("containers"))]
    ports = {str(port.get("name")): number(port.get("containerPort")) for one in containers for port in _maps(one.get("ports"))}
    environment = {
        str(env["name"]): str(env["value"]) for one in containers for env in _maps(one.get("env")) if "value" in env and "name" in env
    }
    labels = frozenset((str(key), str(value)) for key, value in _map(template, "metadata", "labels").items())
    sources = list(_sources(pod, containers))
    configs = frozenset(name for sort, name in sources if sort == "ConfigMap")
    secrets = frozenset(name for sort, name in sources if sort == "Secret")
    schedule = str(_map(manifest, "spec").get("schedule", ""))
    return Workload(id, _place(manifest)[0], labels, ports, environment, configs, secrets, schedule)


def _sources(pod: Mapping[str, Any], containers: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for volume in _maps(pod.get("volumes")):
        for one in (volume, *_maps(_map(volume, "projected").get("sources"))):
            yield "ConfigMap", str(_map(one, "configMap").get("name", ""))
            yield "Secret", str(_map(one, "secret").get("secretName") or _map(one, "secret").get("name", ""))
    for container in containers:
        for one in _maps(container.get("envFrom")):
            yield "ConfigMap", str(_map(one, "configMapRef").get("name", ""))
            yield "Secret", str(_map(one, "secretRef").get("name", ""))
        for one in _maps(container.get("env")):
            yield "ConfigMap", str(_map(one, "valueFrom", "configMapKeyRef").get("name", ""))
            yield "Secret", str(_map(one, "valueFrom", "secretKeyRef").get("name", ""))


def number(value: Any) -> int:
    """Give a port as a number, or 0 when it is none."""
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) else 0


def _map(data: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Give the mapping at a path, or an empty one."""
    for key in path:
        value = data.get(key)
        data = value if isinstance(value, Mapping) else {}
    return data


def _maps(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list | tuple) else []

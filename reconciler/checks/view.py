"""What the rules look at: the resources of one stack, by what they are for mail, whatever plugin brought them.

Pure. Kinds are known by their name and fields only, so no plugin is imported and another driver with a kind of the same shape is seen, too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from reconciler.checks.cluster import Cluster, addresses_lost, cluster_of
from reconciler.driver import Action, Change
from reconciler.resource import Resource, ResourceId, SecretRef, find_secrets

if TYPE_CHECKING:
    from reconciler.plan import Plan
    from reconciler.stack import Stack

Resolver: TypeAlias = Callable[[str, str], Sequence[str] | None]
"""Gives what is recorded of a name and a type: its values, none at all, or None when nobody knows. A TXT is one text, joined."""

Facts: TypeAlias = Mapping[tuple[str, str], Mapping[str, str]]
"""What may be told of the value of a key on a path: fact name to text, see ``driver.SecretNote``."""
NO_FACTS: Facts = {}

MAIL_PORTS = frozenset({25, 143, 465, 587, 993})
MAIL_LABELS = ("_dmarc", "_domainkey", "_mta-sts", "_tls")
FIELDS: Mapping[str, Mapping[str, tuple[str, ...] | None]] = {
    "HAProxyBackend": {"name": None, "servers": ("name", "address", "port")},
    "HAProxyFrontend": {"binds": ("address", "port"), "default_backend": None},
    "PortForward": {"port": None, "target": None, "destination": None},
    "Alias": {"name": None, "addresses": ("address",)},
    "FirewallRule": {"source": None, "destination": None},
    "Secret": {"path": None, "keys": ()},
    "Monitor": {"type": None, "interval": None},
}
"""The kinds that are read field by field: what one must have to be taken for one, and what the parts of a list or mapping must have."""


@dataclass(frozen=True, slots=True)
class Record:
    """A DNS record. ``content`` is empty for the types that have none."""

    id: ResourceId
    zone: str
    name: str
    type: str
    content: str
    priority: int = 0
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """A resource of another kind with the fields of its spec as plain data."""

    id: ResourceId
    data: Mapping[str, Any]


@dataclass(frozen=True)
class MailView:
    """One stack as the rules see it; ``resolver`` knows recorded answers, ``facts`` is what may be told of stored secrets.

    Of a plan: ``leaving`` is what it would delete, ``changes`` what it would write, ``waiting`` what it cannot say or write yet, and
    ``released`` are the addresses that it takes away, each with the Service that had it.
    """

    resources: Mapping[ResourceId, Resource]
    records: tuple[Record, ...]
    items: Mapping[str, tuple[Item, ...]]
    cluster: Cluster
    variables: Mapping[str, Any] = field(default_factory=dict)
    resolver: Resolver | None = None
    leaving: frozenset[ResourceId] = frozenset()
    changes: Mapping[ResourceId, Change] = field(default_factory=dict)
    waiting: frozenset[ResourceId] = frozenset()
    facts: Facts = field(default_factory=dict)
    released: Mapping[str, ResourceId] = field(default_factory=dict)

    @classmethod
    def of(cls, stack: "Stack", resolver: Resolver | None = None, plan: "Plan | None" = None, facts: Facts = NO_FACTS) -> "MailView":
        """Look at a stack, and at it beside what a plan would do."""
        resources = [stack.graph.resources[id] for id in sorted(stack.graph.resources)]
        records = tuple(record for one in resources if (record := _record(one)) is not None)
        items: dict[str, tuple[Item, ...]] = dict.fromkeys(FIELDS, ())
        for one in resources:
            if (found := _item(one)) is not None:
                items[one.id.kind] += (found,)
        changes = {one.id: one for one in plan.changes} if plan is not None else {}
        return cls(
            resources=stack.graph.resources,
            records=records,
            items=items,
            cluster=cluster_of(resources),
            variables=stack.spec.vars,
            resolver=resolver,
            leaving=frozenset(id for id, one in changes.items() if one.action is Action.DELETE),
            changes=changes,
            waiting=frozenset(one.id for one in plan.stuck) if plan is not None else frozenset(),
            facts=facts,
            released={address: one.id for one in changes.values() for address in addresses_lost(one.id, one.diffs)},
        )

    # -- names -------------------------------------------------------------------------------------------------------------------

    def at(self, type: str, name: str) -> tuple[Record, ...]:
        """Give the declared records of one type at one name."""
        return self._by_place.get((type, name), ())

    def texts(self, last: str) -> Iterator[tuple[str, tuple[Record, ...]]]:
        """Give the TXT records below names that begin with the labels ``last``, by name."""
        for (type, name), records in sorted(self._by_place.items()):
            if type == "TXT" and name.startswith(f"{last}."):
                yield name, records

    def lookup(self, name: str, type: str) -> tuple[str, ...] | None:
        """Give the values of a name: the declared ones, else the recorded ones. None: nobody here knows."""
        if declared := self.at(type, name):
            return tuple(one.content for one in declared)
        answer = self.resolver(name, type) if self.resolver is not None else None
        return None if answer is None else tuple(answer)

    @cached_property
    def _by_place(self) -> Mapping[tuple[str, str], tuple[Record, ...]]:
        found: dict[tuple[str, str], tuple[Record, ...]] = {}
        for one in self.records:
            found[one.type, one.name] = (*found.get((one.type, one.name), ()), one)
        return found

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The domains that receive mail: every name with an MX that is no null MX."""
        return tuple(sorted({one.name for one in self.records if one.type == "MX" and one.content != "."}))

    @cached_property
    def spf(self) -> Mapping[str, tuple[Record, ...]]:
        """The SPF records by name."""
        found: dict[str, tuple[Record, ...]] = {}
        for one in self.records:
            if one.type == "TXT" and is_spf(one.content):
                found[one.name] = (*found.get(one.name, ()), one)
        return found

    # -- secrets -----------------------------------------------------------------------------------------------------------------

    @cached_property
    def reads(self) -> Mapping[tuple[str, str], tuple[ResourceId, ...]]:
        """Who reads which key of which secret path."""
        found: dict[tuple[str, str], tuple[ResourceId, ...]] = {}
        for id, one in sorted(self.resources.items()):
            for place in sorted({place for ref in one.spec.secrets() for place in ref.inputs}):
                found[place] = (*found.get(place, ()), id)
        return found

    @cached_property
    def keys(self) -> Mapping[tuple[str, str], tuple[ResourceId, Mapping[str, Any]]]:
        """The declared secrets: who declares a key of a path, and what it asks of it."""
        found: dict[tuple[str, str], tuple[ResourceId, Mapping[str, Any]]] = {}
        for one in self.items["Secret"]:
            for key, wish in one.data["keys"].items():
                found[str(one.data["path"]), str(key)] = one.id, wish
        return found

    # -- the whole ---------------------------------------------------------------------------------------------------------------

    @property
    def about_mail(self) -> bool:
        """True when anything of the stack is about mail: a record, a port, or a relay."""
        names = any(one.type == "MX" or _says_mail(one) for one in self.records)
        ports = {int(bind["port"]) for one in self.items["HAProxyFrontend"] for bind in one.data["binds"] if str(bind["port"]).isdecimal()}
        ports |= {int(one.data["port"]) for one in self.items["PortForward"] if str(one.data["port"]).isdecimal()}
        return names or bool(ports & MAIL_PORTS) or any("RELAY_HOST" in key for one in self.cluster.configs for key in one.texts)


def is_spf(text: str) -> bool:
    """Say whether a TXT is an SPF record (RFC 7208 4.5)."""
    return text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")


def _says_mail(record: Record) -> bool:
    return record.type in ("TXT", "CNAME") and (is_spf(record.content) or any(label in MAIL_LABELS for label in record.name.split(".")))


def _record(resource: Resource) -> Record | None:
    if resource.id.kind != "DNSRecord" or not {"name", "type", "content"} <= set(type(resource.spec).model_fields):
        return None
    spec: Any = resource.spec
    proxied, priority = bool(getattr(spec, "proxied", False)), int(getattr(spec, "priority", None) or 0)
    return Record(resource.id, str(getattr(spec, "zone", "")), str(spec.name), str(spec.type), _plain(spec.content), priority, proxied)


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else ""


def _item(resource: Resource) -> Item | None:
    fields = FIELDS.get(resource.id.kind)
    if fields is None or not set(fields) <= set(type(resource.spec).model_fields):
        return None
    data = resource.spec.model_dump(mode="python")
    return Item(resource.id, data) if all(_has(data[name], parts) for name, parts in fields.items()) else None


def _has(value: Any, parts: tuple[str, ...] | None) -> bool:
    """Say whether a field is a plain value, or a list or mapping of mappings with these parts."""
    if parts is None:
        return isinstance(value, str | int)
    inner = value.values() if isinstance(value, Mapping) else value
    return isinstance(inner, Iterable) and all(isinstance(one, Mapping) and set(parts) <= set(one) for one in inner)


def secrets_in(value: Any) -> Iterable[SecretRef]:
    """Give the references in plain data."""
    return find_secrets(value)

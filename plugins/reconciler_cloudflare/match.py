"""Which live record stands for which wish: first by mark, then by identity, then by place. Pure."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TypeAlias, TypeVar

from reconciler.driver import Mark, Ownership
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_cloudflare.spec import DNSRecord, Key, clash, form_of, key_of, split_comment

DRIVER, KIND = "cloudflare", "DNSRecord"
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Live:
    """One record as it is: its own id, the API's answer, its form (the comment without our mark), what makes it this record, its mark."""

    id: str
    zone: str
    raw: JSONObject
    form: JSONObject
    key: Key
    mark: Mark | None

    @classmethod
    def read(cls, zone: str, raw: JSONObject, wishes: Mapping[Key, JSONObject] | None = None) -> "Live":
        """Read one record of a listing. One that is as one of ``wishes`` is the same object as that: equal at once, and held once."""
        form = form_of(raw, zone)
        mark, form["comment"] = split_comment(form["comment"])
        key = key_of(form)
        wish = wishes.get(key) if wishes is not None else None
        return cls(str(raw["id"]), zone, raw, wish if wish is not None and wish == form else form, key, mark)

    @property
    def place(self) -> tuple[str, str]:
        """Its type and name."""
        return self.form["type"], self.form["name"]

    @property
    def comment(self) -> str:
        """The whole comment, mark included."""
        return str(self.raw.get("comment") or "")

    @property
    def modified(self) -> datetime | None:
        """When it was changed last."""
        return moment(self.raw.get("modified_on"))

    @property
    def locked(self) -> bool:
        """True for a record that Cloudflare itself keeps, such as those of Email Routing."""
        return bool((self.raw.get("meta") or {}).get("read_only"))

    def ownership(self, owner: str) -> Ownership:
        """Say whose it is, seen by ``owner``."""
        if self.mark is None:
            return Ownership.UNMARKED
        return self.mark.ownership(owner)

    def marked_id(self) -> ResourceId | None:
        """The resource that its mark names."""
        return ResourceId(DRIVER, self.mark.kind, self.mark.name) if self.mark is not None else None


Couple: TypeAlias = tuple[Resource, Live | None]
"""A wish and the record that stands for it, if one does."""


def moment(text: object) -> datetime | None:
    """Read a time as the API writes it; None when it is none."""
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def spec_of(resource: Resource) -> DNSRecord:
    """Give the spec of a resource of this driver."""
    assert isinstance(resource.spec, DNSRecord)
    return resource.spec


def form_wanted(resource: Resource) -> JSONObject:
    """Give the canonical form that a resource wants."""
    return spec_of(resource).form


class Matching:
    """Pairs wishes with records, each record at most once, best evidence first."""

    def __init__(self, wanted: Sequence[Resource], lives: Sequence[Live], owner: str) -> None:
        """Pair. ``orphans`` are the records of ours that stand for no wish, by the id in their mark; those of a paired id are copies."""
        self.pairs: dict[ResourceId, Live] = {}
        self._owner = owner
        self._wanted = {one.id: (one, form_wanted(one)) for one in sorted(wanted, key=lambda one: one.id.name)}
        self._free = {live.id: live for live in sorted(lives, key=lambda live: (str(live.raw.get("created_on")), live.id))}
        self._marked = self._ours()
        open = list(self._wanted.values())
        for rule in (self._by_mark, self._by_key, self._by_place, self._by_adoption):
            open = [one for one in open if not self._paired(rule, *one)]
        self._untangle()
        self.orphans = self._ours()

    def _paired(self, rule: Callable[[Resource, JSONObject], Iterable[Live]], resource: Resource, form: JSONObject) -> bool:
        """Pair a wish with the best that ``rule`` finds, if it finds any."""
        candidates = [live for live in rule(resource, form) if live.id in self._free]
        if len(candidates) > 1:
            candidates.sort(key=lambda live: (live.key != key_of(form), live.place != (form["type"], form["name"])))
        if candidates:
            self.pairs[resource.id] = self._free.pop(candidates[0].id)
        return bool(candidates)

    @cached_property
    def _keyed(self) -> dict[tuple[str, Key], list[Live]]:
        """Index by identity what no mark has paired."""
        return grouped(self._free.values(), lambda live: (live.zone, live.key))

    @cached_property
    def _named(self) -> dict[tuple[str, str], list[Live]]:
        return grouped(self._free.values(), lambda live: (live.zone, live.form["name"]))

    def _untangle(self) -> None:
        """Where wishes have exchanged what they stand for, exchange their marks: no order of patches leads through a ring.

        A CNAME stands alone at its name, so to hold the name is to hold the place of whoever wants it.
        """
        if all(live.key == key_of(self._wanted[id][1]) for id, live in self.pairs.items()):
            return
        holder = {(live.zone, live.key): id for id, live in self.pairs.items()}
        alone = {(live.zone, live.place): id for id, live in self.pairs.items() if live.place[0] == "CNAME"}

        def held_by(id: ResourceId) -> ResourceId | None:
            zone, form = self.pairs[id].zone, self._wanted[id][1]
            return holder.get((zone, key_of(form))) or alone.get((zone, (form["type"], form["name"])))

        onward = {id: held_by(id) for id in self.pairs}
        before = dict(self.pairs)
        for id in before:
            ring = [id]
            while (after := onward[ring[-1]]) is not None and after not in ring:
                ring.append(after)
            if after == id:
                self.pairs[id] = before[ring[1 % len(ring)]]

    def _by_mark(self, resource: Resource, form: JSONObject) -> Iterable[Live]:
        return self._marked.get(resource.id, ())

    def _by_key(self, resource: Resource, form: JSONObject) -> Iterable[Live]:
        return self._keyed.get((form["zone"], key_of(form)), ())

    def _by_place(self, resource: Resource, form: JSONObject) -> Iterable[Live]:
        """Take over what a wish that left git has left behind, where the two cannot stand side by side until it is deleted.

        Elsewhere the new record is made first and the old one deleted afterwards, so that answers have no gap.
        """
        alone = spec_of(resource).exclusive
        near = self._named.get((form["zone"], form["name"]), ())
        return [live for live in near if self._left(live) and (in_the_way(live, form) or (alone and _same_place(live, form)))]

    def _left(self, live: Live) -> bool:
        """Say whether a record is ours and its wish has gone from git for good."""
        going = live.mark is not None and not (live.mark.keep or live.mark.protect)
        return going and live.ownership(self._owner) is Ownership.OURS and live.marked_id() not in self._wanted

    def _by_adoption(self, resource: Resource, form: JSONObject) -> Iterable[Live]:
        """Find what a wish would have to push aside: the only CNAME a name can have, or a set it claims for itself and may adopt."""
        claims = form["type"] == "CNAME" or (resource.policy.adopt and spec_of(resource).exclusive)
        near = self._named.get((form["zone"], form["name"]), ())
        return [live for live in near if claims and not live.locked and _same_place(live, form)]

    @property
    def fixed(self) -> list[Live]:
        """The records that will stay whatever this pass does: strangers, copies of a mark in use, and what must be kept."""
        return [live for live in self._free.values() if not self._left(live)]

    @property
    def strangers(self) -> list[Live]:
        """The records that stand for no wish and are not ours."""
        return [live for live in self._free.values() if live.ownership(self._owner) is not Ownership.OURS]

    def _ours(self) -> dict[ResourceId, list[Live]]:
        """Index what is ours and not paired yet by the id in its mark."""
        found: dict[ResourceId, list[Live]] = {}
        for live in self._free.values():
            id = live.marked_id()
            if id is not None and live.ownership(self._owner) is Ownership.OURS:
                found.setdefault(id, []).append(live)
        return found


def grouped(lives: Iterable[Live], key: Callable[[Live], K]) -> dict[K, list[Live]]:
    """Index records by ``key``, in their order."""
    found: dict[K, list[Live]] = {}
    for live in lives:
        found.setdefault(key(live), []).append(live)
    return found


def _same_place(live: Live, form: JSONObject) -> bool:
    return live.zone == form["zone"] and live.place == (form["type"], form["name"])


def in_the_way(live: Live, form: JSONObject) -> bool:
    """Say whether a record and a wish cannot both stand at their name."""
    return live.zone == form["zone"] and live.form["name"] == form["name"] and clash(live.form["type"], form["type"])

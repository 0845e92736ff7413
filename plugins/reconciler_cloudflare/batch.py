"""From changes to transactions: what each change asks of a zone as it is now, what must stay together, and what fits in one call. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from reconciler.driver import Action, Change, Mark, Ownership, Scope
from reconciler.errors import Conflict, Permanent
from reconciler.resource import JSONObject, Resource
from reconciler_cloudflare.match import Live, form_wanted
from reconciler_cloudflare.spec import Key, body_of, clash, describe, join_comment, key_of, patch_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unit:
    """What must be done together or not at all, for one change or for a pair of them. ``frees`` and ``takes`` are record identities."""

    changes: tuple[Change, ...]
    names: frozenset[str]
    types: frozenset[str]
    delete: str = ""
    patch: JSONObject = field(default_factory=dict)
    post: JSONObject = field(default_factory=dict)
    frees: Key | None = None
    takes: Key | None = None

    @property
    def size(self) -> int:
        """How many operations it is."""
        return sum(map(bool, (self.delete, self.patch, self.post)))

    @property
    def added(self) -> int:
        """How many records the zone has more afterwards."""
        return bool(self.post) - bool(self.delete)


class Snapshot:
    """One zone as it was listed just before the write."""

    def __init__(self, lives: Iterable[Live]) -> None:
        """Index the records."""
        self.by_id = {live.id: live for live in lives}
        self._by_mark = {(live.mark.owner, live.mark.kind, live.mark.name): live for live in self.by_id.values() if live.mark is not None}
        self._by_key = {live.key: live for live in self.by_id.values()}

    def marked(self, resource: Resource, owner: str) -> Live | None:
        """Give the record that carries this resource's mark."""
        return self._by_mark.get((owner, resource.id.kind, resource.id.name))

    def equal(self, form: JSONObject) -> Live | None:
        """Give the record with the identity of ``form``."""
        return self._by_key.get(key_of(form))


def unit_of(change: Change, zone: Snapshot, scope: Scope) -> Unit | None:
    """Give what ``change`` still asks for, None when the zone already is as it wishes.

    Raises Conflict when the record is no longer the one that the plan was made for, Permanent for a record that Cloudflare locks.
    """
    if change.action is Action.DELETE:
        return _delete(change, zone, scope)
    assert change.desired is not None
    live = zone.by_id.get(str(change.handle.get("id", "")))
    if change.action is Action.CREATE or (change.action is Action.REPLACE and live is None):
        return _create(change, change.desired, zone, scope)
    if live is None:
        raise Conflict(f"{change.id}: the record {change.handle.get('id')} is gone; the next pass plans anew")
    return _rewrite(change, change.desired, live, scope)


def _create(change: Change, desired: Resource, zone: Snapshot, scope: Scope) -> Unit | None:
    wanted, comment = form_wanted(desired), comment_for(desired, scope)
    live = zone.marked(desired, scope.owner)
    if live is not None:
        if patch_of(live.form, wanted, (live.comment, comment)):
            raise Conflict(f"{change.id}: a record with its mark has appeared meanwhile; the next pass plans anew")
        return None
    twin = zone.equal(wanted)
    if twin is not None:
        raise Conflict(f"{change.id}: {describe(twin.form)} has appeared meanwhile without its mark; the next pass plans anew")
    names, types = frozenset({wanted["name"]}), frozenset({wanted["type"]})
    return Unit((change,), names, types, post=body_of(wanted, comment), takes=key_of(wanted))


def _rewrite(change: Change, desired: Resource, live: Live, scope: Scope) -> Unit | None:
    wanted, comment = form_wanted(desired), comment_for(desired, scope)
    patch = patch_of(live.form, wanted, (live.comment, comment))
    if not patch:
        return None
    _check_locked(change, live)
    if change.action is not Action.ADOPT and live.ownership(scope.owner) is not Ownership.OURS:
        raise Conflict(f"{change.id}: its record no longer carries our mark; the next pass plans anew")
    if change.live is not None and change.live != live.form:
        raise Conflict(f"{change.id}: its record was changed after the plan was made; the next pass plans anew")
    names = frozenset({wanted["name"], live.form["name"]})
    types = frozenset({wanted["type"], live.form["type"]})
    if wanted["type"] != live.form["type"]:
        return Unit((change,), names, types, delete=live.id, post=body_of(wanted, comment), frees=live.key, takes=key_of(wanted))
    return Unit((change,), names, types, patch={"id": live.id, **patch}, frees=live.key, takes=key_of(wanted))


def _delete(change: Change, zone: Snapshot, scope: Scope) -> Unit | None:
    live = zone.by_id.get(str(change.handle.get("id", "")))
    if live is None:
        return None
    _check_locked(change, live)
    if live.ownership(scope.owner) is not Ownership.OURS:
        raise Conflict(f"{change.id}: its record no longer carries our mark and is left alone")
    names, types = frozenset({live.form["name"]}), frozenset({live.form["type"]})
    return Unit((change,), names, types, delete=live.id, frees=live.key)


def _check_locked(change: Change, live: Live) -> None:
    if live.locked:
        raise Permanent(f"{change.id}: {describe(live.form)} is locked by Cloudflare (Email Routing); switch that off to change it")


def comment_for(resource: Resource, scope: Scope) -> str:
    """Give the comment that a resource's record must carry."""
    return join_comment(Mark.of(resource, scope), form_wanted(resource)["comment"])


def paired(units: Sequence[Unit], zone: Snapshot, scope: Scope) -> list[Unit]:
    """Turn a delete and a create of one name and type into one patch, which keeps the record's id and leaves no gap in the answers."""
    deletes: dict[tuple[frozenset[str], frozenset[str]], list[Unit]] = {}
    for unit in units:
        if unit.delete and not unit.post:
            deletes.setdefault((unit.names, unit.types), []).append(unit)
    result = []
    for unit in units:
        partners = deletes.get((unit.names, unit.types))
        if unit.post and not unit.delete and partners:
            partner = partners.pop(0)
            result.append(_merged(partner, unit, zone.by_id[partner.delete], scope))
        elif unit.post or unit.patch:
            result.append(unit)
    return [unit for left in deletes.values() for unit in left] + result


def _merged(partner: Unit, unit: Unit, live: Live, scope: Scope) -> Unit:
    desired = unit.changes[0].desired
    assert desired is not None
    patch = {"id": live.id, **patch_of(live.form, form_wanted(desired), (live.comment, comment_for(desired, scope)))}
    return Unit(partner.changes + unit.changes, unit.names, unit.types, patch=patch, frees=live.key, takes=unit.takes)


Bundle = tuple[Unit, ...]
"""Units that must go out in one call, because one makes room for the other."""


def bundles(units: Sequence[Unit]) -> list[Bundle]:
    """Tie together what depends on each other at one name; deletes come first."""
    ordered = sorted(units, key=lambda unit: (not unit.delete, not unit.patch))
    return [bundle for group in connected(ordered, lambda unit: unit.names) for bundle in _tie(group)]


def _tie(units: Sequence[Unit]) -> list[Bundle]:
    result: list[list[Unit]] = []
    for unit in units:
        tied = [bundle for bundle in result if any(_tied(unit, other) for other in bundle)]
        result = [bundle for bundle in result if bundle not in tied]
        result.append([*(one for bundle in tied for one in bundle), unit])
    return [tuple(bundle) for bundle in result]


def connected(items: Iterable[T], names_of: Callable[[T], Iterable[str]]) -> list[list[T]]:
    """Group what shares a name, directly or by way of others; the order within a group is that of the input."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    placed = [(item, [root(name) for name in names_of(item)]) for item in items]
    for _, names in placed:
        for name in names[1:]:
            parent[root(name)] = root(names[0])
    groups: dict[str, list[T]] = {}
    for item, names in placed:
        groups.setdefault(root(names[0]), []).append(item)
    return list(groups.values())


def _tied(one: Unit, other: Unit) -> bool:
    """Two units depend on each other when one frees what the other takes, or frees a name from a record that tolerates no neighbour."""
    if any(a.frees is not None and a.frees == b.takes for a, b in ((one, other), (other, one))):
        return True
    frees_and_takes = (one.delete and other.takes is not None) or (other.delete and one.takes is not None)
    return bool(frees_and_takes and one.names & other.names and any(clash(a, b) for a in one.types for b in other.types))


def chunks(all: Sequence[Bundle], limit: int) -> list[list[Bundle]]:
    """Pack bundles into calls of at most ``limit`` operations, all changes of one name in one call where they fit."""
    result: list[list[Bundle]] = []
    room = 0
    for group in connected(all, lambda bundle: [name for unit in bundle for name in unit.names]):
        if _size(group) > room:
            result.append([])
            room = limit
        for bundle in group:
            if _size([bundle]) > room and result[-1]:
                result.append([])
                room = limit
            result[-1].append(bundle)
            room -= _size([bundle])
    return result


def _size(group: Sequence[Bundle]) -> int:
    return sum(unit.size for bundle in group for unit in bundle)


def body(group: Sequence[Bundle]) -> JSONObject:
    """Give the body of one call; Cloudflare runs deletes, then patches, then posts, each in the order given."""
    units = [unit for bundle in group for unit in bundle]
    parts = {
        "deletes": [{"id": unit.delete} for unit in units if unit.delete],
        "patches": [unit.patch for unit in _in_turn([unit for unit in units if unit.patch])],
        "posts": [unit.post for unit in units if unit.post],
    }
    return {name: part for name, part in parts.items() if part}


def _in_turn(units: list[Unit]) -> list[Unit]:
    """Order patches so that an identity is freed before it is taken; a ring has no such order and is left as it is."""
    result: list[Unit] = []
    while units:
        holders = {unit.frees: unit for unit in units}
        free = [unit for unit in units if holders.get(unit.takes, unit) is unit]
        result += free or units
        done = {id(unit) for unit in free or units}
        units = [unit for unit in units if id(unit) not in done]
    return result

"""Which live object each wish stands for. Pure.

Nothing in Uptime Kuma is unique, so the mark decides; among several with one mark the lowest number, because a later one is a copy
that somebody made in the web page, or a second write of a crashed pass. Copies are reported and never deleted.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from reconciler.driver import Ownership
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_uptime_kuma import marks
from reconciler_uptime_kuma.named import DRIVER
from reconciler_uptime_kuma.native import page_tag, stored_config
from reconciler_uptime_kuma.shapes import knows
from reconciler_uptime_kuma.spec import Monitor


@dataclass(frozen=True, slots=True)
class Live:
    """One object of Uptime Kuma with its mark, if it has one."""

    row: JSONObject
    tag: marks.Tag | None

    @property
    def id(self) -> int:
        """Its number."""
        return int(self.row["id"])

    def ownership(self, owner: str) -> Ownership:
        """Whose mark it carries."""
        return Ownership.UNMARKED if self.tag is None else self.tag.mark.ownership(owner)


@dataclass(frozen=True, slots=True)
class Match:
    """What was found for one resource. ``live`` None with ``refused`` means that it must not be created either."""

    id: ResourceId
    resource: Resource | None
    live: Live | None
    refused: str = ""
    copies: tuple[int, ...] = ()
    stale: str = ""


def monitor(row: JSONObject) -> Live:
    """Read the mark of a monitor."""
    return Live(row, marks.split(row.get("description"))[1])


def notification(row: JSONObject) -> Live:
    """Read the mark of a notification."""
    return Live(row, marks.of_config(stored_config(row)))


def monitor_key(row: JSONObject) -> tuple[str, ...]:
    """Say what a live monitor watches, so that one made by hand can be recognised."""
    known, type = knows(str(row.get("type"))), str(row.get("type"))
    if "url" in known:
        return (type, _text(row.get("url")), _text(row.get("keyword")))
    if "hostname" in known:
        return (type, _text(row.get("hostname")), _text(row.get("port")), _text(row.get("dns_resolve_type")) if type == "dns" else "")
    return (type, _text(row.get("name")))


def spec_key(spec: Monitor) -> tuple[str, ...]:
    """Say what a wanted monitor watches, in the same form."""
    return monitor_key(
        {
            "type": spec.type,
            "url": spec.url,
            "keyword": spec.keyword,
            "hostname": spec.hostname,
            "port": spec.port,
            "dns_resolve_type": spec.dns_resolve_type,
            "name": spec.title,
        }
    )


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def notification_key(row: JSONObject) -> tuple[str, ...]:
    """Name a notification by its type and title."""
    return (_text(stored_config(row).get("type")), _text(row.get("name")))


def maintenance(row: JSONObject) -> Live:
    """Read the mark of a maintenance."""
    return Live(row, marks.split(row.get("description"))[1])


def page(row: JSONObject) -> Live:
    """Read the mark of a status page."""
    return Live(row, page_tag(row))


@dataclass(slots=True)
class Matcher:
    """Matches the wishes of one kind with what is there. ``unique`` says that there can be only one with a key, whosever it is."""

    kind: str
    owner: str
    live: Sequence[Live]
    key: Callable[[JSONObject], tuple[str, ...]]
    wish: Callable[[Any], tuple[str, ...]]
    unique: bool = False
    _taken: set[int] = field(default_factory=set)

    def all(self, wanted: Sequence[Resource]) -> list[Match]:
        """Match every wish that stands for something, and then everything else that is ours."""
        names = {one.id.name for one in wanted}
        found: dict[ResourceId, Match] = {}
        for find in (self._marked_or_pinned, partial(self._by_nature, names=names)):
            for one in wanted:
                match = None if one.id in found else find(one)
                if match is not None:
                    found[one.id] = match
        return [*found.values(), *self._unwanted(names)]

    def marked(self, name: str) -> list[Live]:
        """Give the objects with our mark and this name, lowest number first."""
        return sorted((one for one in self.live if self._is_ours(one) and self._name(one) == name), key=lambda one: one.id)

    def _marked_or_pinned(self, resource: Resource) -> Match | None:
        pinned = resource.spec.id if isinstance(resource.spec, Monitor) else None
        ours = self.marked(resource.id.name)
        chosen = next((one for one in self.live if one.id == pinned), None) if pinned else next(iter(ours), None)
        if pinned and chosen is None:
            return Match(
                resource.id, resource, None, refused=f"there is no monitor {pinned}; correct the id, or leave it out to make a new one"
            )
        if chosen is None:
            return None
        if chosen.id in self._taken:
            return Match(resource.id, resource, None, refused=f"monitor {chosen.id} is wanted twice; keep one of the two")
        self._taken |= {chosen.id, *(one.id for one in ours)}
        stale = self._name(chosen) if self._is_ours(chosen) and self._name(chosen) != resource.id.name else ""
        return Match(resource.id, resource, chosen, copies=tuple(one.id for one in ours if one is not chosen), stale=stale)

    def _by_nature(self, resource: Resource, *, names: set[str]) -> Match | None:
        """Find what git called otherwise before, or what somebody made by hand; objects of other stacks do not count."""
        wish, title = self.wish(resource.spec), getattr(resource.spec, "title", "")
        free = [one for one in self.live if one.id not in self._taken and self.key(one.row) == wish]
        renamed = [one for one in free if self._is_ours(one) and self._name(one) not in names]
        by_hand = [one for one in free if one.tag is None or self.unique]
        candidates = renamed or by_hand
        titled = [one for one in candidates if _text(one.row.get("name")) == title]
        chosen = candidates if len(candidates) == 1 else titled
        if not candidates:
            return None
        if len(chosen) != 1:
            numbers = ", ".join(str(one.id) for one in candidates)
            return Match(
                resource.id,
                resource,
                None,
                refused=f"{len(candidates)} objects look like it ({numbers}); name one by its id, or delete the others",
            )
        self._taken.add(chosen[0].id)
        return Match(resource.id, resource, chosen[0], stale=self._name(chosen[0]) if renamed else "")

    def _unwanted(self, names: set[str]) -> list[Match]:
        left = {self._name(one) for one in self.live if self._is_ours(one) and one.id not in self._taken} - names
        matches = []
        for name in sorted(left):
            first, *copies = [one for one in self.marked(name) if one.id not in self._taken]
            numbers = tuple(one.id for one in copies)
            refused = "" if not copies else f"{1 + len(copies)} objects carry this mark; delete by hand those that are not needed"
            matches.append(Match(ResourceId(DRIVER, self.kind, name), None, first, refused=refused, copies=numbers))
        return matches

    def _is_ours(self, one: Live) -> bool:
        return one.tag is not None and one.tag.mark.owner == self.owner and one.tag.mark.kind == self.kind

    def _name(self, one: Live) -> str:
        return one.tag.mark.name if one.tag is not None else ""


def of_monitors(owner: str, rows: Iterable[JSONObject]) -> Matcher:
    """Match monitors by what they watch."""
    return Matcher("Monitor", owner, [monitor(row) for row in rows], monitor_key, spec_key)


def of_notifications(owner: str, rows: Iterable[JSONObject]) -> Matcher:
    """Match notifications by type and title."""
    return Matcher("Notification", owner, [notification(row) for row in rows], notification_key, lambda spec: (spec.type, spec.title))


def of_maintenances(owner: str, rows: Iterable[JSONObject]) -> Matcher:
    """Match maintenances by title."""
    return Matcher(
        "Maintenance", owner, [maintenance(row) for row in rows], lambda row: (_text(row.get("title")),), lambda spec: (spec.title,)
    )


def of_pages(owner: str, rows: Iterable[JSONObject]) -> Matcher:
    """Match status pages by address, of which there is one."""
    return Matcher(
        "StatusPage", owner, [page(row) for row in rows], lambda row: (_text(row.get("slug")),), lambda spec: (spec.slug,), unique=True
    )

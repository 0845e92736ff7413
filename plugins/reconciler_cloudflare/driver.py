"""Observe and apply: one listing per zone to read, as few transactions per zone as possible to write."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.driver import Action, Change, Evidence, Mark, Observation, Outcome, Ownership, Scope, Status
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_cloudflare.batch import comment_for
from reconciler_cloudflare.client import Client
from reconciler_cloudflare.config import Config
from reconciler_cloudflare.match import Live, Matching, form_wanted, spec_of
from reconciler_cloudflare.spec import clash, describe, duplicates, key_of
from reconciler_cloudflare.writer import ZoneWriter


class CloudflareDriver:
    """One credential and its zones."""

    def __init__(self, config: Config) -> None:
        """Prepare; nothing is called yet."""
        self._config = config
        self._client = Client(config)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # -- observe -------------------------------------------------------------------------------------------------------------

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """List every zone that is wanted or configured. Raises Transient when any of them is not completely seen.

        A zone that refuses us for good makes its own resources unknown; when nothing else was asked for, it raises.
        """
        zones = {spec_of(one).zone for one in wanted}
        lives: list[Live] = []
        failed: dict[str, str] = {}
        for zone in sorted(zones | set(self._config.zones)):
            try:
                lives += self._list(zone, scope)
            except Permanent as error:
                if zone not in zones or zones <= {*failed, zone}:
                    raise
                failed[zone] = str(error)
        seen = [one for one in wanted if spec_of(one).zone not in failed]
        unknown = [Observation(one.id, None, unknown=failed[spec_of(one).zone]) for one in wanted if spec_of(one).zone in failed]
        hidden = {one.id for one in unknown}
        return unknown + [one for one in self._matched(seen, lives, scope) if one.id not in hidden]

    def _list(self, zone: str, scope: Scope) -> list[Live]:
        with scope.span("GET dns_records", zone=zone):
            return [Live.read(zone, record) for record in self._client.records(zone)]

    def _matched(self, wanted: Sequence[Resource], lives: Sequence[Live], scope: Scope) -> list[Observation]:
        matching = Matching(wanted, lives, scope.owner)
        twice = duplicates(form_wanted(one) for one in wanted)
        found = []
        for resource in wanted:
            live = matching.pairs.get(resource.id)
            copies = matching.orphans.get(resource.id, [])
            refused = self._refusal(resource, live, lives, scope)
            if key_of(form_wanted(resource)) in twice:
                refused = f"{resource.id}: another resource asks for the same record; keep one of them"
            notes = (*_strangers(resource, live, lives, scope), *(f"{describe(copy.form)} carries a copy of its mark" for copy in copies))
            if live is not None:
                found.append(_observed(resource, live, scope, refused, notes))
            elif refused or notes:
                found.append(Observation(resource.id, None, refused=refused, notes=notes))
        paired_ids = {one.id for one in wanted}
        return found + [_orphaned(id, copies[0]) for id, copies in matching.orphans.items() if id not in paired_ids]

    def _refusal(self, resource: Resource, live: Live | None, lives: Sequence[Live], scope: Scope) -> str:
        """Say why a resource must not be written, if so."""
        form, excess = form_wanted(resource), len(comment_for(resource, scope)) - self._config.comment_limit
        if excess > 0:
            part = "comment" if form["comment"] else "metadata.name"
            return f"{resource.id}: its mark and comment are {excess} characters too long for Cloudflare's limit; shorten its {part}"
        if live is not None and live.locked:
            return f"{resource.id}: {describe(live.form)} is locked by Cloudflare (Email Routing); switch that off to manage it here"
        if live is not None and live.ownership(scope.owner) is not Ownership.OURS and live.form["type"] != form["type"]:
            return f"{resource.id}: {describe(live.form)} stands in its place and is not ours; delete it by hand"
        if live is None:
            for other in lives:
                strange = other.ownership(scope.owner) is not Ownership.OURS
                if strange and (other.zone, other.form["name"]) == (form["zone"], form["name"]) and clash(other.form["type"], form["type"]):
                    return f"{resource.id}: {describe(other.form)} stands in its way and is not ours; delete it by hand"
        return ""

    # -- apply ---------------------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change], scope: Scope) -> list[Outcome]:
        """Make all changes of a zone in as few transactions as the plan's limit allows.

        A record that moves to another zone is created there before it is deleted here.
        """
        outcomes = self._by_zone(changes, _home, scope)
        moved = [one for one in changes if _source(one) not in ("", _home(one)) and outcomes[one.id].status is Status.APPLIED]
        outcomes |= self._by_zone([replace(one, action=Action.DELETE, desired=None) for one in moved], _source, scope)
        return [outcomes[change.id] for change in changes]

    def _by_zone(self, changes: Sequence[Change], zone_of: Callable[[Change], str], scope: Scope) -> dict[ResourceId, Outcome]:
        outcomes: dict[ResourceId, Outcome] = {}
        for zone in sorted({zone_of(change) for change in changes}):
            writer = ZoneWriter(self._client, zone, scope, self._config.batch_limit)
            outcomes |= writer.write([change for change in changes if zone_of(change) == zone])
        return outcomes


def _source(change: Change) -> str:
    """Name the zone in which the record was seen, if it was."""
    return str(change.handle.get("zone", ""))


def _home(change: Change) -> str:
    """Name the zone in which the record belongs."""
    return spec_of(change.desired).zone if change.desired is not None else _source(change)


def _observed(resource: Resource, live: Live, scope: Scope, refused: str, notes: tuple[str, ...]) -> Observation:
    ownership, mark = live.ownership(scope.owner), Mark.of(resource, scope)
    stale = live.mark is not None and ownership is Ownership.OURS and live.mark != mark
    return Observation(
        id=resource.id,
        live=live.form,
        ownership=ownership,
        handle=_handle(live),
        evidence=_evidence(live),
        refused=refused,
        owner=live.mark.owner if live.mark is not None else "",
        stale_mark=_short(live.mark) if stale and live.mark is not None else "",
        notes=notes,
    )


def _orphaned(id: ResourceId, live: Live) -> Observation:
    assert live.mark is not None
    refused = f"{id}: {describe(live.form)} is locked by Cloudflare (Email Routing)" if live.locked else ""
    return Observation(
        id, live.form, handle=_handle(live), evidence=_evidence(live), refused=refused, keep=live.mark.keep, owner=live.mark.owner
    )


def _short(mark: Mark) -> str:
    return f"{mark.name}:keep" if mark.keep else mark.name


def _handle(live: Live) -> JSONObject:
    return {"zone": live.zone, "id": live.id}


def _evidence(live: Live) -> Evidence:
    """Give when it was changed last; who did it stands in the account's audit log, not in the record."""
    commented = live.raw.get("comment_modified_on")
    return Evidence(when=_time(live.raw.get("modified_on")), how=f"comment written {commented}" if commented else "")


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _strangers(resource: Resource, live: Live | None, lives: Sequence[Live], scope: Scope) -> Iterator[str]:
    """Name what stands in a set that a resource claims for this stack alone."""
    form = form_wanted(resource)
    if not spec_of(resource).exclusive:
        return
    for other in lives:
        same_set = other.zone == form["zone"] and other.place == (form["type"], form["name"])
        if same_set and other is not live and other.ownership(scope.owner) is not Ownership.OURS:
            locked = ", locked by Email Routing" if other.locked else ""
            yield f"foreign record in an exclusive set: {describe(other.form)} (id {other.id}{locked}); it is not ours to delete"

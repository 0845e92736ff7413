"""Observe and apply: one listing per zone to read, as few transactions per zone as possible to write."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

from reconciler.driver import Action, Change, Mark, Observation, Outcome, Ownership, Scope, Status
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_cloudflare.attribution import Attribution, touched
from reconciler_cloudflare.batch import comment_for
from reconciler_cloudflare.client import Client
from reconciler_cloudflare.config import Config
from reconciler_cloudflare.match import Couple, Live, Matching, form_wanted, grouped, in_the_way, spec_of
from reconciler_cloudflare.remarks import remarks, rivals
from reconciler_cloudflare.spec import Key, describe, key_of
from reconciler_cloudflare.writer import ZoneWriter


class CloudflareDriver:
    """One credential and its zones."""

    def __init__(self, config: Config) -> None:
        """Prepare; nothing is called yet."""
        self._config = config
        self._client = Client(config)
        self._attribution = Attribution(self._client)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def records(self, zone: str) -> list[JSONObject]:
        """List a zone as the API answers it. Raises Transient when the listing is not complete, and Permanent when it is refused."""
        return self._client.records(zone)

    @property
    def comment_limit(self) -> int:
        """The most characters that a comment may have, our mark included."""
        return self._config.comment_limit

    # -- observe -------------------------------------------------------------------------------------------------------------

    def observe(self, wanted: Sequence[Resource], scope: Scope) -> list[Observation]:
        """List every zone that is wanted or configured. Raises Transient when any of them is not completely seen.

        A zone that refuses us for good makes its own resources unknown; when nothing else was asked for, it raises.
        """
        zones = {spec_of(one).zone for one in wanted}
        wishes = {key_of(form): form for form in map(form_wanted, wanted)}
        lives: list[Live] = []
        failed: dict[str, str] = {}
        for zone in sorted(zones | set(self._config.zones)):
            try:
                lives += self._list(zone, wishes, scope)
            except Permanent as error:
                if zone not in zones or zones <= {*failed, zone}:
                    raise
                failed[zone] = str(error)
        seen = [one for one in wanted if spec_of(one).zone not in failed]
        matching = Matching(seen, lives, scope.owner)
        others = Counter(live.zone for live in matching.strangers)
        for zone in sorted((zones | set(self._config.zones)) - failed.keys()):
            scope.count(f"the zone {zone}", others[zone])
        unknown = [Observation(one.id, None, unknown=failed[spec_of(one).zone]) for one in wanted if spec_of(one).zone in failed]
        hidden = {one.id for one in unknown}
        return unknown + [one for one in self._matched(seen, matching, scope) if one.id not in hidden]

    def _list(self, zone: str, wishes: Mapping[Key, JSONObject], scope: Scope) -> list[Live]:
        with scope.span("GET dns_records", zone=zone):
            return [Live.read(zone, record, wishes) for record in self._client.records(zone)]

    def _matched(self, wanted: Sequence[Resource], matching: Matching, scope: Scope) -> list[Observation]:
        couples = [(one, matching.pairs.get(one.id)) for one in wanted]
        refused = self._refusals(couples, matching, scope)
        missing = [one for one, live in couples if live is None]
        self._hold_to_quota(missing, refused, scope)
        notes = self._with_states(remarks(wanted, matching), wanted, scope)
        self._attribution.learn(_drifted(couples, scope), scope)
        taken = self._attribution.taken(couples, scope)
        found = []
        for resource, live in couples:
            id = resource.id
            if live is not None:
                found.append(self._observed(resource, live, scope, refused.get(id, ""), notes.get(id, ())))
            elif id in refused or id in notes or id in taken:
                found.append(Observation(id, None, evidence=taken.get(id), refused=refused.get(id, ""), notes=notes.get(id, ())))
        known = {one.id for one in wanted} if matching.orphans else ()
        return found + [one for id, copies in matching.orphans.items() if id not in known for one in self._orphaned(id, copies)]

    def _with_states(
        self, notes: Mapping[ResourceId, tuple[str, ...]], wanted: Sequence[Resource], scope: Scope
    ) -> Mapping[ResourceId, tuple[str, ...]]:
        """Add, to the first wish of each zone, why the zone as a whole is not served."""
        first = {spec_of(one).zone: one.id for one in reversed(wanted)}
        told = dict(notes)
        for zone, id in sorted(first.items()):
            with nullcontext() if self._client.knows(zone) else scope.span("GET zones", zone=zone):
                trouble = self._client.trouble(zone)
            if trouble:
                told[id] = (trouble, *told.get(id, ()))
        return told

    def _observed(self, resource: Resource, live: Live, scope: Scope, refused: str, notes: tuple[str, ...]) -> Observation:
        ownership = live.ownership(scope.owner)
        stale = ownership is Ownership.OURS and live.mark != Mark.of(resource, scope)
        return Observation(
            id=resource.id,
            live=live.form,
            ownership=ownership,
            handle=_handle(live),
            evidence=self._attribution.of(live),
            refused=refused,
            owner=live.mark.owner if live.mark is not None else "",
            stale_mark=_short(live.mark) if stale and live.mark is not None else "",
            notes=notes,
        )

    def _orphaned(self, id: ResourceId, copies: Sequence[Live]) -> Iterator[Observation]:
        """Report what left git. A mark that was copied by hand gives several records, each of which needs a name of its own."""
        for number, live in enumerate(copies):
            assert live.mark is not None
            own = id if number == 0 else replace(id, name=f"{id.name} (copy {live.id})")
            refused = f"{own}: {describe(live.form)} is locked by Cloudflare (Email Routing)" if live.locked else ""
            yield Observation(
                own,
                live.form,
                handle=_handle(live),
                evidence=self._attribution.of(live),
                refused=refused,
                keep=live.mark.keep,
                protect=live.mark.protect,
                owner=live.mark.owner,
            )

    def _refusals(self, couples: Sequence[Couple], matching: Matching, scope: Scope) -> dict[ResourceId, str]:
        """Say why a resource must not be written, if so. What a refused one holds stays, and may be in the way of the next."""
        reasons = ((one.id, self._refusal(one, live, scope)) for one, live in couples)
        refused = {id: reason for id, reason in reasons if reason} | rivals([one for one, _ in couples])
        while True:
            held = [matching.pairs[id] for id in refused if id in matching.pairs]
            fixed = grouped([*matching.fixed, *held], lambda live: live.form["name"])
            blocked = {}
            for one, live in couples if fixed else ():
                other = _obstacle(one, live, fixed.get(spec_of(one).name, ()))
                if other is not None and one.id not in refused:
                    blocked[one.id] = f"{one.id}: {describe(other.form)} stands in its way and will not go by itself; delete it by hand"
            if not blocked:
                return refused
            refused |= blocked

    def _refusal(self, resource: Resource, live: Live | None, scope: Scope) -> str:
        excess = len(comment_for(resource, scope)) - self._config.comment_limit
        if excess > 0:
            part = "comment" if form_wanted(resource)["comment"] else "metadata.name"
            return f"{resource.id}: its mark and comment are {excess} characters too long for Cloudflare's limit; shorten its {part}"
        if live is not None and live.locked:
            return f"{resource.id}: {describe(live.form)} is locked by Cloudflare (Email Routing); switch that off to manage it here"
        return ""

    def _hold_to_quota(self, missing: Sequence[Resource], refused: dict[ResourceId, str], scope: Scope) -> None:
        """Refuse all new records of a zone that has no room for all of them; what the same pass deletes is deleted later."""
        for zone in sorted({spec_of(one).zone for one in missing}):
            fresh = [one for one in missing if spec_of(one).zone == zone and one.id not in refused]
            if not fresh:
                continue
            with scope.span("GET dns_records/usage", zone=zone):
                quota, used = self._client.usage(zone)
            if quota is not None and used + len(fresh) > quota:
                text = f"the zone {zone} holds {used} of at most {quota} records, so {len(fresh)} more do not fit; delete some first"
                refused.update({one.id: text for one in fresh})

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


def _obstacle(resource: Resource, live: Live | None, fixed: Sequence[Live]) -> Live | None:
    """Find what holds the identity that a wish wants, or its name, and will go on holding it."""
    form = form_wanted(resource)
    return next((one for one in fixed if one is not live and (one.key == key_of(form) or in_the_way(one, form))), None)


def _source(change: Change) -> str:
    """Name the zone in which the record was seen, if it was."""
    return str(change.handle.get("zone", ""))


def _home(change: Change) -> str:
    """Name the zone in which the record belongs."""
    return spec_of(change.desired).zone if change.desired is not None else _source(change)


def _short(mark: Mark) -> str:
    return mark.called


def _handle(live: Live) -> JSONObject:
    return {"zone": live.zone, "id": live.id}


def _drifted(couples: Iterable[Couple], scope: Scope) -> list[Live]:
    """List the records of ours that differ where git has a say, and that were changed after we marked them."""
    differing = [(one, live) for one, live in couples if live is not None and _differs(one, live)]
    ours = [(one, live) for one, live in differing if live.ownership(scope.owner) is Ownership.OURS]
    return [live for one, live in ours if touched(live, form_wanted(one)["comment"])]


def _differs(resource: Resource, live: Live) -> bool:
    if form_wanted(resource) == live.form:
        return False
    try:
        spared = spec_of(resource).with_live(resource.policy.ignore, live.form)
    except ValueError:
        return True
    return spared.form != live.form

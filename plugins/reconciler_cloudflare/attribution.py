"""Who changed or took away a record behind our back: asked of the account's audit log, and never in the way of a plan."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeAlias

from reconciler.driver import Evidence, Scope
from reconciler.errors import DriverError
from reconciler.resource import JSONObject, Resource, ResourceId
from reconciler_cloudflare.client import Client
from reconciler_cloudflare.match import Couple, Live, form_wanted, grouped, moment, spec_of
from reconciler_cloudflare.spec import form_of

Place: TypeAlias = tuple[str, str, str | None]
"""Type, name and content of a record, as far as the log tells them: of a structured type only the first two."""

NEAR = timedelta(seconds=60)
"""How far an entry may lie from a record's own time of change to be about that change."""
SAME = timedelta(seconds=2)
SILENCE = 300.0
"""Seconds for which the log is not asked again after it refused or failed: at least a whole pass."""


class Attribution:
    """Remembers what the log said of a change, which stays true, and that it said no, which is asked again later."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare; nothing is asked yet."""
        self._client, self._clock = client, clock
        self._known: dict[tuple[str, str], Evidence] = {}
        self._gone: dict[ResourceId, tuple[Evidence | None, float]] = {}
        self._silent_until = float("-inf")

    def learn(self, lives: Iterable[Live], scope: Scope) -> None:
        """Ask once per zone about those records of which nothing is known. Raises nothing that is a DriverError."""
        fresh = [live for live in lives if live.modified is not None and _change(live) not in self._known]
        for zone, group in sorted(grouped(fresh, lambda live: live.zone).items()):
            times = {live.id: (live, live.modified) for live in group}
            since = min(when for _, when in times.values() if when is not None) - NEAR
            self._note(times, self._ask(zone, since.isoformat(), scope))

    def taken(self, couples: Iterable[Couple], scope: Scope) -> dict[ResourceId, Evidence]:
        """Say who took away what was there once and is missing now, as far as the log tells. Raises nothing that is a DriverError.

        An answer holds until the record is back; that there is none yet is asked again later.
        """
        missing: list[Resource] = []
        for one, live in couples:
            if live is None and one.id in scope.applied:
                missing.append(one)
            elif self._gone:
                self._gone.pop(one.id, None)
        now = self._clock()
        fresh = [one for one in missing if self._unknown(one.id, now)]
        for zone in sorted({spec_of(one).zone for one in fresh}):
            places = {one.id: _wished(one) for one in fresh if spec_of(one).zone == zone}
            said = _departures(self._ask(zone, "", scope), zone, set(places.values()))
            self._gone.update({id: (said.get(place), now) for id, place in places.items()})
        known = ((one.id, self._gone.get(one.id, (None, now))[0]) for one in missing)
        return {id: evidence for id, evidence in known if evidence is not None}

    def _unknown(self, id: ResourceId, now: float) -> bool:
        evidence, asked = self._gone.get(id, (None, float("-inf")))
        return evidence is None and asked + SILENCE <= now

    def of(self, live: Live) -> Evidence:
        """Give what is known of a record's last change: its time at least."""
        commented = live.raw.get("comment_modified_on")
        own = Evidence(when=live.modified, how=f"comment written {commented}" if commented else "")
        return self._known.get(_change(live), own) if self._known else own

    def _ask(self, zone: str, since: str, scope: Scope) -> Sequence[JSONObject]:
        """Give what the log says of a zone, newest first; nothing where it does not answer, and then it is left in peace for a while."""
        if self._clock() < self._silent_until:
            return ()
        try:
            with scope.span("GET audit_logs", zone=zone):
                entries = self._client.audit_log(zone, since)
        except DriverError:
            self._silent_until = self._clock() + SILENCE
            return ()
        return [entry for entry in entries if _action(entry).get("result") is not False]  # an attempt that failed changed nothing

    def _note(self, times: Mapping[str, tuple[Live, datetime | None]], entries: Iterable[JSONObject]) -> None:
        for entry in entries:
            live, when = times.get(_about(entry), (None, None))
            said = _evidence(entry)
            if live is None or when is None or said.when is None or not said.who or abs(said.when - when) > NEAR:
                continue
            self._known.setdefault(_change(live), replace(said, when=when))


def touched(live: Live, comment: str) -> bool:
    """Say whether somebody may have changed a record of ours after its comment, and with it our mark, was written."""
    marked = moment(live.raw.get("comment_modified_on"))
    if live.modified is None or marked is None or live.form["comment"] != comment:
        return True
    return live.modified - marked > SAME


def _change(live: Live) -> tuple[str, str]:
    return live.id, str(live.raw.get("modified_on"))


def _departures(entries: Iterable[JSONObject], zone: str, places: Collection[Place]) -> dict[Place, Evidence]:
    """Find what became of the record that stood at each of ``places``: it was deleted, or made into another. Entries are newest first."""
    latest: dict[str, JSONObject] = {}
    found: dict[Place, Evidence | None] = {}
    for entry in entries:
        end, place = latest.setdefault(_about(entry), entry), _stood(entry, zone)
        if place is not None and place in places and place not in found:
            left = end is not entry or _action(entry).get("type") == "rec_del"
            found[place] = _evidence(end) if left else None  # the log may not yet know what happened after this entry
    return {place: evidence for place, evidence in found.items() if evidence is not None}


def _wished(resource: Resource) -> Place:
    form = form_wanted(resource)
    return form["type"], form["name"], form["content"]


def _stood(entry: JSONObject, zone: str) -> Place | None:
    """Give the place that an entry speaks of, if it speaks of one."""
    said = entry.get("metadata") or {}
    if not said.get("type") or not said.get("name"):
        return None
    form = form_of({key: said.get(key) for key in ("type", "name", "content")}, zone)
    return form["type"], form["name"], form["content"]


def _about(entry: JSONObject) -> str:
    return str((entry.get("resource") or {}).get("id"))


def _action(entry: JSONObject) -> JSONObject:
    action: JSONObject = entry.get("action") or {}
    return action


def _evidence(entry: JSONObject) -> Evidence:
    """Read one entry; a person is known by the address, anything else by its type and id."""
    actor = entry.get("actor") or {}
    other = " ".join(str(actor[key]) for key in ("type", "id") if actor.get(key))
    how = " via ".join(str(part) for part in (_action(entry).get("type"), entry.get("interface")) if part)
    return Evidence(str(actor.get("email") or other), moment(entry.get("when")), how)

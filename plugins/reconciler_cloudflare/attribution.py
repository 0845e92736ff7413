"""Who changed a record behind our back: asked of the account's audit log, as a courtesy that never stands in the way of a plan."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta

from reconciler.driver import Evidence, Scope
from reconciler.errors import DriverError
from reconciler.resource import JSONObject
from reconciler_cloudflare.client import Client
from reconciler_cloudflare.match import Live, grouped, moment

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
        self._silent_until = float("-inf")

    def learn(self, lives: Iterable[Live], scope: Scope) -> None:
        """Ask once per zone about those records of which nothing is known. Raises nothing that is a DriverError."""
        fresh = [live for live in lives if live.modified is not None and _change(live) not in self._known]
        for zone, group in sorted(grouped(fresh, lambda live: live.zone).items()):
            if self._clock() < self._silent_until:
                return
            try:
                self._ask(zone, group, scope)
            except DriverError:
                self._silent_until = self._clock() + SILENCE

    def of(self, live: Live) -> Evidence:
        """Give what is known of a record's last change: its time at least."""
        commented = live.raw.get("comment_modified_on")
        own = Evidence(when=live.modified, how=f"comment written {commented}" if commented else "")
        return self._known.get(_change(live), own) if self._known else own

    def _ask(self, zone: str, lives: Iterable[Live], scope: Scope) -> None:
        times = {live.id: (live, live.modified) for live in lives}
        since = min(when for _, when in times.values() if when is not None) - NEAR
        with scope.span("GET audit_logs", zone=zone):
            entries = self._client.audit_log(zone, since.isoformat())
        for entry in entries:  # newest first
            live, when = times.get(str((entry.get("resource") or {}).get("id")), (None, None))
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


def _evidence(entry: JSONObject) -> Evidence:
    """Read one entry; a person is known by the address, anything else by its type and id."""
    actor, action = entry.get("actor") or {}, entry.get("action") or {}
    other = " ".join(str(actor[key]) for key in ("type", "id") if actor.get(key))
    how = " via ".join(str(part) for part in (action.get("type"), entry.get("interface")) if part)
    return Evidence(str(actor.get("email") or other), moment(entry.get("when")), how)

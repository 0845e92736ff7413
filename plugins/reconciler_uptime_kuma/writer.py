"""The writing half: add, edit, delete; each checked against the mark before and read back after.

A write whose answer was lost or was an error may have been made all the same, so the mark is looked for before anything is called
failed. Nothing is deleted to be made anew: a monitor's number and history outlive every change.
"""

import time

from reconciler.driver import Action, Change, Mark, Scope
from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import Resource
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.maintenances import Maintenances
from reconciler_uptime_kuma.match import Live
from reconciler_uptime_kuma.monitors import Monitors
from reconciler_uptime_kuma.notifications import Notifications
from reconciler_uptime_kuma.pages import Pages
from reconciler_uptime_kuma.sight import links_of
from reconciler_uptime_kuma.tables import Table

LOOK_AGAIN = 0.25
"""Seconds between two looks for a write whose answer was lost."""


class Writer:
    """Applies the changes of one wave, one at a time."""

    def __init__(self, client: Client, scope: Scope, settle: float) -> None:
        """List what is there. Raises Transient or Permanent when that fails; nothing was written then."""
        self._scope, self._settle = scope, settle
        with scope.span("EMIT getMonitorList"):
            rows = client.monitors()
        links = links_of(client, scope, rows)
        self._tables: dict[str, Table] = {
            "Monitor": Monitors(client, scope, links, rows),
            "Notification": Notifications(client, scope),
            "Maintenance": Maintenances(client, scope, links),
            "StatusPage": Pages(client, scope, links),
        }

    def write(self, change: Change) -> str | None:
        """Apply one change and give a remark for its outcome. Raises DriverError."""
        table = self._tables[change.id.kind]
        if change.action is Action.REPLACE:
            raise Permanent(f"{change.id}: is never replaced, because every field can be edited in place and history would be lost")
        if change.action is Action.DELETE:
            return self._delete(table, change)
        assert change.desired is not None
        if change.action is Action.CREATE:
            return self._create(table, change.desired)
        live = table.find(int(change.handle["id"]))
        if live is None:
            raise Conflict(f"{change.id}: number {change.handle['id']} is gone; the next pass plans anew")
        _check_mark(change, live, str(Mark.of(change.desired, self._scope)))
        return self._edit(table, change.desired, live)

    def _create(self, table: Table, resource: Resource) -> str | None:
        existing = table.known(resource.id.name)
        if existing:  # an earlier try, whose answer was lost, made it
            return self._edit(table, resource, existing[0])
        try:
            id = table.add(resource)
        except DriverError as error:
            made = self._look_for(table, resource, error)
            if made is None:
                raise
            self._edit(table, resource, made)
            return f"was made although the answer was: {error}"
        return self._finish(table, resource, id)

    def _look_for(self, table: Table, resource: Resource, error: DriverError) -> Live | None:
        """Look for an object that a failed add may have made. After a lost answer the server may still be at work, so look repeatedly."""
        until = time.monotonic() + (self._settle if isinstance(error, Transient) else 0)
        while True:
            try:
                found = table.marked(resource.id.name)
            except DriverError as blind:
                raise Transient(
                    f"{resource.id}: {error}; whether it was written cannot be seen: {blind}", retry_after=_delay(blind)
                ) from None
            if found or time.monotonic() >= until:
                return found[0] if found else None
            time.sleep(LOOK_AGAIN)

    def _edit(self, table: Table, resource: Resource, live: Live) -> str | None:
        try:
            table.edit(resource, live)
        except DriverError as error:
            after = table.find(live.id)
            if after is None or not table.same(resource, after) or table.same(resource, live):
                raise
            if isinstance(error, Permanent):
                raise Transient(f"{resource.id}: was stored, but its running check may not know it: {error}") from None
        return self._finish(table, resource, live.id)

    def _finish(self, table: Table, resource: Resource, id: int) -> str | None:
        """Read back, and make what hangs on it."""
        after = table.find(id)
        if after is None or after.tag is None or after.tag.mark != Mark.of(resource, self._scope):
            raise Conflict(f"{resource.id}: number {id} was written and does not carry our mark now; somebody else writes it, too")
        return table.complete(resource, after) or None

    def _delete(self, table: Table, change: Change) -> str | None:
        id = int(change.handle["id"])
        live = table.find(id)
        if live is None:
            return "was already gone"
        _check_mark(change, live, str(change.handle["mark"]))
        try:
            table.delete(live)
        except Transient:
            if table.find(id) is not None:
                raise
        if table.find(id) is not None:
            raise Transient(f"{change.id}: number {id} is still there after its deletion was accepted")
        return None


def _check_mark(change: Change, live: Live, wanted: str) -> None:
    found = str(live.tag.mark) if live.tag is not None else ""
    if found not in (change.handle["mark"], wanted):
        raise Conflict(f"{change.id}: number {live.id} is marked {found or 'by nobody'} now; the next pass plans anew")


def _delay(error: DriverError) -> float | None:
    return error.retry_after if isinstance(error, Transient) else None

"""The writing half: add, edit, delete; each checked against the mark before and read back after.

A write whose answer was lost or was an error may have been made all the same, so the mark is looked for before anything is called
failed. Nothing is deleted to be made anew: a monitor's number and history outlive every change.
"""

import time
from typing import Any, Protocol

from reconciler.driver import Action, Change, Mark, Scope
from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import JSONObject, Resource, SecretRef
from reconciler_uptime_kuma import match, native
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.marks import Tag, join
from reconciler_uptime_kuma.match import Live
from reconciler_uptime_kuma.spec import Monitor, Notification

LOOK_AGAIN = 0.25
"""Seconds between two looks for a write whose answer was lost."""


class Writer:
    """Applies the changes of one wave, one at a time."""

    def __init__(self, client: Client, scope: Scope, settle: float) -> None:
        """List what is there. Raises Transient or Permanent when that fails; nothing was written then."""
        self._scope, self._settle = scope, settle
        with scope.span("EMIT getMonitorList"):
            rows = client.monitors()
        links = native.Links(scope.owner, rows, client.notifications())
        self._tables: dict[str, _Table] = {"Monitor": _Monitors(client, scope, links), "Notification": _Notifications(client, scope)}

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

    def _create(self, table: "_Table", resource: Resource) -> str | None:
        existing = table.marked(resource.id.name)
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
        self._read_back(table, resource, id)
        return None

    def _look_for(self, table: "_Table", resource: Resource, error: DriverError) -> Live | None:
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

    def _edit(self, table: "_Table", resource: Resource, live: Live) -> str | None:
        try:
            table.edit(resource, live)
        except DriverError as error:
            after = table.find(live.id)
            if after is None or not table.same(resource, after) or table.same(resource, live):
                raise
            if isinstance(error, Permanent):
                raise Transient(f"{resource.id}: was stored, but its running check may not know it: {error}") from None
        self._read_back(table, resource, live.id)
        return None

    def _read_back(self, table: "_Table", resource: Resource, id: int) -> None:
        after = table.find(id)
        if after is None or after.tag is None or after.tag.mark != Mark.of(resource, self._scope):
            raise Conflict(f"{resource.id}: number {id} was written and does not carry our mark now; somebody else writes it, too")

    def _delete(self, table: "_Table", change: Change) -> str | None:
        id = int(change.handle["id"])
        live = table.find(id)
        if live is None:
            return "was already gone"
        _check_mark(change, live, str(change.handle["mark"]))
        try:
            table.delete(id)
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


class _Table(Protocol):
    """The calls for one kind."""

    def marked(self, name: str) -> list[Live]:
        """Read afresh what carries our mark and this name, lowest number first."""
        ...

    def find(self, id: int) -> Live | None:
        """Read one object afresh."""
        ...

    def add(self, resource: Resource) -> int:
        """Make it, mark included, and give its number."""
        ...

    def edit(self, resource: Resource, live: Live) -> None:
        """Lay the wish over what is there, and write it."""
        ...

    def same(self, resource: Resource, live: Live) -> bool:
        """Say whether what is there is what is wanted, mark included."""
        ...

    def delete(self, id: int) -> None:
        """Delete it."""
        ...


class _Monitors:
    """Monitors."""

    def __init__(self, client: Client, scope: Scope, links: native.Links) -> None:
        self._client, self._scope, self._links = client, scope, links

    def marked(self, name: str) -> list[Live]:
        with self._scope.span("EMIT getMonitorList"):
            return match.of_monitors(self._scope.owner, self._client.monitors()).marked(name)

    def find(self, id: int) -> Live | None:
        with self._scope.span("EMIT getMonitor", monitor=id):
            row = self._client.monitor(id)
        return match.monitor(row) if row is not None else None

    def add(self, resource: Resource) -> int:
        spec = _monitor(resource)
        columns = self._columns(resource, None)
        with self._scope.span("EMIT add", resource=str(resource.id)):
            return self._client.add_monitor({**self._client.dialect.required, **columns, "active": spec.active})

    def edit(self, resource: Resource, live: Live) -> None:
        spec = _monitor(resource)
        # Read just before, because the last writer wins, and because what is left out of an edit is not always left alone.
        row = {**live.row, **native.resets(live.row, spec, live.tag, self._client.dialect), **self._columns(resource, live.id)}
        with self._scope.span("EMIT editMonitor", monitor=live.id):
            self._client.edit_monitor(row)
        if bool(live.row.get("active")) is not spec.active and not live.row.get("forceInactive"):
            with self._scope.span("EMIT resumeMonitor" if spec.active else "EMIT pauseMonitor", monitor=live.id):
                self._client.set_active(live.id, active=spec.active)

    def same(self, resource: Resource, live: Live) -> bool:
        spec = _monitor(resource)
        seen = native.monitor_live(live.row, spec, live.tag, self._links)
        return live.tag == self._tag(resource, spec) and seen == spec.canonical(self._scope.fingerprint)

    def delete(self, id: int) -> None:
        with self._scope.span("EMIT deleteMonitor", monitor=id):
            self._client.delete_monitor(id)

    def _columns(self, resource: Resource, id: int | None) -> JSONObject:
        spec = _monitor(resource)
        parent = self._links.parent_id(spec.parent, resource.id) if spec.parent else None
        if parent is not None and parent == id:
            raise Permanent(
                f"{resource.id}: parent {spec.parent!r} is the monitor itself, which would make Uptime Kuma hang; name its group"
            )
        links = {"parent": parent, "notificationIDList": self._links.notification_ids(spec.notifications, resource.id)}
        text = {"description": join(spec.description, self._tag(resource, spec))}
        return {**native.monitor_payload(spec, self._client.dialect, lambda ref: _reveal(self._scope, ref)), **links, **text}

    def _tag(self, resource: Resource, spec: Monitor) -> Tag:
        secrets = native.monitor_secrets(spec, self._scope.fingerprint)
        return Tag(Mark.of(resource, self._scope), resource.digest, tuple(sorted(spec.extra)), secrets)


class _Notifications:
    """Notifications. There is no call to read them: the server pushes the list before it answers a write."""

    def __init__(self, client: Client, scope: Scope) -> None:
        self._client, self._scope = client, scope

    def marked(self, name: str) -> list[Live]:
        return match.of_notifications(self._scope.owner, self._client.notifications()).marked(name)

    def find(self, id: int) -> Live | None:
        rows = self._client.notifications()
        return next((match.notification(row) for row in rows if row["id"] == id), None)

    def add(self, resource: Resource) -> int:
        with self._scope.span("EMIT addNotification", resource=str(resource.id)):
            return self._client.save_notification(self._config(resource), None)

    def edit(self, resource: Resource, live: Live) -> None:
        spec = _notification(resource)
        dropped = set(live.tag.keys if live.tag is not None else ()) - spec.config.keys()
        kept: dict[str, Any] = {key: value for key, value in native.stored_config(live.row).items() if key not in dropped}
        with self._scope.span("EMIT addNotification", notification=live.id):
            self._client.save_notification({**kept, **self._config(resource)}, live.id)

    def same(self, resource: Resource, live: Live) -> bool:
        spec = _notification(resource)
        seen = native.notification_live(live.row, spec, live.tag)
        return live.tag == self._tag(resource, spec) and seen == spec.canonical(self._scope.fingerprint)

    def delete(self, id: int) -> None:
        with self._scope.span("EMIT deleteNotification", notification=id):
            self._client.delete_notification(id)

    def _config(self, resource: Resource) -> JSONObject:
        spec = _notification(resource)
        return native.notification_config(spec, self._tag(resource, spec), lambda ref: _reveal(self._scope, ref))

    def _tag(self, resource: Resource, spec: Notification) -> Tag:
        secrets = native.notification_secrets(spec, self._scope.fingerprint)
        return Tag(Mark.of(resource, self._scope), resource.digest, tuple(sorted(spec.config)), secrets)


def _reveal(scope: Scope, ref: SecretRef) -> str:
    return scope.reveal(ref).reveal()


def _monitor(resource: Resource) -> Monitor:
    assert isinstance(resource.spec, Monitor)
    return resource.spec


def _notification(resource: Resource) -> Notification:
    assert isinstance(resource.spec, Notification)
    return resource.spec

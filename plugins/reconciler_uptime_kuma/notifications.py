"""Writing notifications: one call for adding and editing, whose answer comes after the new list."""

from typing import Any

from reconciler.driver import Mark, Scope
from reconciler.resource import JSONObject, Resource
from reconciler_uptime_kuma import match, native
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.marks import Tag
from reconciler_uptime_kuma.match import Live
from reconciler_uptime_kuma.spec import Notification
from reconciler_uptime_kuma.tables import reveal


class Notifications:
    """Notifications. There is no call to read them: the server pushes the list before it answers a write."""

    def __init__(self, client: Client, scope: Scope) -> None:
        self._client, self._scope = client, scope

    def known(self, name: str) -> list[Live]:
        """Give what was ours under this name when the table was made."""
        return self.marked(name)

    def marked(self, name: str) -> list[Live]:
        """Read afresh what is ours under this name, lowest number first."""
        return match.of_notifications(self._scope.owner, self._client.notifications()).marked(name)

    def find(self, id: int) -> Live | None:
        """Read one afresh."""
        rows = self._client.notifications()
        return next((match.notification(row) for row in rows if row["id"] == id), None)

    def add(self, resource: Resource) -> int:
        """Make it and give its number."""
        with self._scope.span("EMIT addNotification", resource=str(resource.id)):
            return self._client.save_notification(self._config(resource), None)

    def edit(self, resource: Resource, live: Live) -> None:
        """Write the wish over what is there."""
        spec = _notification(resource)
        dropped = set(live.tag.keys if live.tag is not None else ()) - spec.config.keys()
        kept: dict[str, Any] = {key: value for key, value in native.stored_config(live.row).items() if key not in dropped}
        with self._scope.span("EMIT addNotification", notification=live.id):
            self._client.save_notification({**kept, **self._config(resource)}, live.id)

    def same(self, resource: Resource, live: Live) -> bool:
        """Say whether it is what is wanted."""
        spec = _notification(resource)
        seen = native.notification_live(live.row, spec, live.tag)
        return live.tag == self._tag(resource, spec) and seen == spec.canonical(self._scope.fingerprint)

    def complete(self, resource: Resource, live: Live) -> str:
        """Make what hangs on it."""
        return ""

    def delete(self, live: Live) -> None:
        """Delete it."""
        with self._scope.span("EMIT deleteNotification", notification=live.id):
            self._client.delete_notification(live.id)

    def _config(self, resource: Resource) -> JSONObject:
        spec = _notification(resource)
        return native.notification_config(spec, self._tag(resource, spec), lambda ref: reveal(self._scope, ref))

    def _tag(self, resource: Resource, spec: Notification) -> Tag:
        secrets = native.notification_secrets(spec, self._scope.fingerprint)
        return Tag(Mark.of(resource, self._scope), resource.digest, tuple(sorted(spec.config)), secrets)


def _notification(resource: Resource) -> Notification:
    assert isinstance(resource.spec, Notification)
    return resource.spec

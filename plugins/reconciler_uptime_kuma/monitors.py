"""Writing monitors: the row, then the pause, then the tags; what is to be gone goes first, so that the mark names whatever is ours."""

from collections.abc import Collection, Mapping

from reconciler.driver import Mark, Scope
from reconciler.errors import Permanent
from reconciler.resource import JSONObject, Resource
from reconciler_uptime_kuma import match, native
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.marks import Tag, join
from reconciler_uptime_kuma.match import Live
from reconciler_uptime_kuma.spec import Monitor
from reconciler_uptime_kuma.tables import reveal

COLOR = "#4B5563"
"""The colour of a tag that had to be made; people may choose another."""


class Monitors:
    """Monitors."""

    def __init__(self, client: Client, scope: Scope, links: native.Links, rows: Collection[JSONObject]) -> None:
        self._client, self._scope, self._links = client, scope, links
        self._before = match.of_monitors(scope.owner, rows)
        self._tags: dict[str, int] | None = None

    def known(self, name: str) -> list[Live]:
        """Give what was ours under this name when the table was made."""
        return self._before.marked(name)

    def marked(self, name: str) -> list[Live]:
        """Read afresh what is ours under this name, lowest number first."""
        with self._scope.span("EMIT getMonitorList"):
            self._before = match.of_monitors(self._scope.owner, self._client.monitors())
        return self._before.marked(name)

    def find(self, id: int) -> Live | None:
        """Read one afresh."""
        with self._scope.span("EMIT getMonitor", monitor=id):
            row = self._client.monitor(id)
        return match.monitor(row) if row is not None else None

    def add(self, resource: Resource) -> int:
        """Make it and give its number."""
        spec = _monitor(resource)
        columns = self._columns(resource, None)
        with self._scope.span("EMIT add", resource=str(resource.id)):
            id = self._client.add_monitor({**self._client.dialect.required, **columns, "active": spec.active})
        self._links.learn(id, resource.id.name)
        return id

    def edit(self, resource: Resource, live: Live) -> None:
        """Write the wish over what is there."""
        spec = _monitor(resource)
        self._untag(live, set(live.tag.labels if live.tag is not None else ()) - spec.tags.keys())
        # Read just before, because the last writer wins, and because what is left out of an edit is not always left alone.
        row = {**live.row, **native.resets(live.row, spec, live.tag, self._client.dialect), **self._columns(resource, live.id)}
        with self._scope.span("EMIT editMonitor", monitor=live.id):
            self._client.edit_monitor(row)
        if bool(live.row.get("active")) is not spec.active and not live.row.get("forceInactive"):
            with self._scope.span("EMIT resumeMonitor" if spec.active else "EMIT pauseMonitor", monitor=live.id):
                self._client.set_active(live.id, active=spec.active)

    def same(self, resource: Resource, live: Live) -> bool:
        """Say whether it is what is wanted."""
        spec = _monitor(resource)
        seen = native.monitor_live(live.row, spec, live.tag, self._links)
        return live.tag == self._tag(resource, spec) and {**seen, "tags": spec.tags} == spec.canonical(self._scope.fingerprint)

    def delete(self, live: Live) -> None:
        """Delete it."""
        with self._scope.span("EMIT deleteMonitor", monitor=live.id):
            self._client.delete_monitor(live.id)

    # -- what is no part of the row ------------------------------------------------------------------------------------------

    def complete(self, resource: Resource, live: Live) -> str:
        """Make what hangs on it."""
        spec = _monitor(resource)
        remarks = [self._decorate(spec.tags, live)]
        if spec.copies == "delete":
            remarks.append(self._delete_copies(resource, live))
        return "; ".join(filter(None, remarks))

    def _decorate(self, wanted: Mapping[str, str], live: Live) -> str:
        """Put the tags that are missing, each once, and take away what else stands under their names."""
        there = native.live_tags(live.row, wanted.keys())
        wrong = {name for name, value in wanted.items() if there.get(name) != value}
        self._untag(live, wrong & there.keys())
        fresh = [name for name in sorted(wrong) if self._put(name, wanted[name], live)]
        if not fresh or not self._client.dialect.modern:
            return ""
        return f"the tag {', '.join(fresh)} is new: Uptime Kuma 2.1 leaves its monitors out of /metrics until it is started anew"

    def _put(self, name: str, value: str, live: Live) -> bool:
        """Put a tag on a monitor; say whether it had to be made for that."""
        if self._tags is None:
            self._tags = {}
            for tag in sorted(self._client.tags(), key=lambda tag: -int(tag["id"])):  # of several with one name the first
                self._tags[str(tag["name"])] = int(tag["id"])
        fresh = name not in self._tags
        if fresh:
            with self._scope.span("EMIT addTag"):
                self._tags[name] = self._client.add_tag(name, COLOR)
        with self._scope.span("EMIT addMonitorTag", monitor=live.id):
            self._client.tag_monitor(self._tags[name], live.id, value)
        return fresh

    def _untag(self, live: Live, names: Collection[str]) -> None:
        gone = {(int(tag["tag_id"]), tag.get("value")) for tag in live.row.get("tags") or () if tag.get("name") in names}
        for tag, value in sorted(gone, key=str):
            with self._scope.span("EMIT deleteMonitorTag", monitor=live.id):
                self._client.untag_monitor(tag, live.id, value)

    def _delete_copies(self, resource: Resource, live: Live) -> str:
        copies = [one for one in self.marked(resource.id.name) if one.id != live.id]
        for one in copies:
            self.delete(one)
        return f"deleted the copies {', '.join(str(one.id) for one in copies)}" if copies else ""

    # -- the row -------------------------------------------------------------------------------------------------------------

    def _columns(self, resource: Resource, id: int | None) -> JSONObject:
        spec = _monitor(resource)
        parent = self._links.parent_id(spec.parent, resource.id) if spec.parent else None
        if parent is not None and parent == id:
            raise Permanent(
                f"{resource.id}: parent {spec.parent!r} is the monitor itself, which would make Uptime Kuma hang; name its group"
            )
        links = {"parent": parent, "notificationIDList": self._links.notification_ids(spec.notifications, resource.id)}
        if spec.type == "docker":
            links["docker_host"] = self._links.docker_id(spec.docker_host, resource.id)
        text = {"description": join(spec.description, self._tag(resource, spec).line())}
        return {**native.monitor_payload(spec, self._client.dialect, lambda ref: reveal(self._scope, ref)), **links, **text}

    def _tag(self, resource: Resource, spec: Monitor) -> Tag:
        secrets = native.monitor_secrets(spec, self._scope.fingerprint)
        return Tag(Mark.of(resource, self._scope), resource.digest, tuple(sorted(spec.extra)), secrets, tuple(sorted(spec.tags)))


def _monitor(resource: Resource) -> Monitor:
    assert isinstance(resource.spec, Monitor)
    return resource.spec

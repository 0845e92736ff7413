"""Writing maintenances: the object with its mark in one call, then what it is for. A pass that dies between leaves drift and no orphan."""

from reconciler.driver import Mark, Scope
from reconciler.resource import JSONObject, Resource
from reconciler_uptime_kuma import maintenance, match
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.marks import Tag
from reconciler_uptime_kuma.match import Live
from reconciler_uptime_kuma.native import Links


class Maintenances:
    """Maintenances."""

    def __init__(self, client: Client, scope: Scope, links: Links) -> None:
        self._client, self._scope, self._links = client, scope, links

    def known(self, name: str) -> list[Live]:
        """Give what was ours under this name when the table was made."""
        return self.marked(name)

    def marked(self, name: str) -> list[Live]:
        """Read afresh what is ours under this name, lowest number first."""
        return match.of_maintenances(self._scope.owner, self._rows()).marked(name)

    def find(self, id: int) -> Live | None:
        """Read one afresh."""
        row = next((row for row in self._rows() if row["id"] == id), None)
        return match.maintenance(linked(self._client, row)) if row is not None else None

    def add(self, resource: Resource) -> int:
        """Make it and give its number."""
        self._numbers(resource)  # an unknown name is found before anything is written
        with self._scope.span("EMIT addMaintenance", resource=str(resource.id)):
            return self._client.add_maintenance(self._payload(resource))

    def edit(self, resource: Resource, live: Live) -> None:
        """Write the wish over what is there."""
        self._numbers(resource)
        with self._scope.span("EMIT editMaintenance", maintenance=live.id):
            self._client.edit_maintenance({**self._payload(resource), "id": live.id})

    def complete(self, resource: Resource, live: Live) -> str:
        """Make what hangs on it."""
        monitors, pages = self._numbers(resource)
        if (live.row["monitors"], live.row["pages"]) != (sorted(monitors), sorted(pages)):
            with self._scope.span("EMIT addMonitorMaintenance", maintenance=live.id):
                self._client.link_maintenance(live.id, monitors, pages)
        return ""

    def same(self, resource: Resource, live: Live) -> bool:
        """Say whether it is what is wanted."""
        seen, spec = maintenance.live(live.row, self._links), _maintenance(resource)
        own = {**seen, "monitors": spec.monitors, "pages": spec.pages}
        return live.tag == self._tag(resource) and own == spec.canonical(self._scope.fingerprint)

    def delete(self, live: Live) -> None:
        """Delete it."""
        with self._scope.span("EMIT deleteMaintenance", maintenance=live.id):
            self._client.delete_maintenance(live.id)

    def _rows(self) -> list[JSONObject]:
        with self._scope.span("EMIT getMaintenanceList"):
            return self._client.maintenances()

    def _numbers(self, resource: Resource) -> tuple[list[int], list[int]]:
        spec = _maintenance(resource)
        return self._links.monitor_ids(spec.monitors, resource.id), self._links.page_ids(spec.pages, resource.id)

    def _payload(self, resource: Resource) -> JSONObject:
        return maintenance.payload(_maintenance(resource), self._tag(resource).line())

    def _tag(self, resource: Resource) -> Tag:
        return Tag(Mark.of(resource, self._scope), resource.digest)


def linked(client: Client, row: JSONObject) -> JSONObject:
    """Give a maintenance with the numbers of what it is for and where it is shown, which the list leaves out."""
    return {**row, "monitors": client.maintenance_monitors(row["id"]), "pages": client.maintenance_pages(row["id"])}


def _maintenance(resource: Resource) -> Maintenance:
    assert isinstance(resource.spec, Maintenance)
    return resource.spec

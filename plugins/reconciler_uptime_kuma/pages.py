"""Writing status pages. A page is made empty and then filled: its first title is the mark, so that a half-made one is known for ours."""

from reconciler.driver import Mark, Scope
from reconciler.errors import Conflict
from reconciler.resource import JSONObject, Resource
from reconciler_uptime_kuma import match, page
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.marks import Tag
from reconciler_uptime_kuma.match import Live
from reconciler_uptime_kuma.native import Links
from reconciler_uptime_kuma.page import StatusPage


class Pages:
    """Status pages. Their list comes at a login only, so each is read by its address."""

    def __init__(self, client: Client, scope: Scope, links: Links) -> None:
        self._client, self._scope, self._links = client, scope, links
        self._slugs = {int(row["id"]): str(row["slug"]) for row in client.pages()}

    def known(self, name: str) -> list[Live]:
        """Give what was ours under this name when the table was made."""
        return self.marked(name)

    def marked(self, name: str) -> list[Live]:
        """Read every page there is, of which there are few."""
        rows = [row for slug in sorted(set(self._slugs.values())) if (row := self._client.page(slug)) is not None]
        return [self._shown(one.row) for one in match.of_pages(self._scope.owner, rows).marked(name)]

    def find(self, id: int) -> Live | None:
        """Read one afresh."""
        with self._scope.span("EMIT getStatusPage", page=id):
            row = self._by_number(id)
            if row is None:  # made or moved since the login
                self._client.outdate("statusPageList")
                self._slugs = {int(row["id"]): str(row["slug"]) for row in self._client.pages()}
                row = self._by_number(id)
        return self._shown(row) if row is not None else None

    def add(self, resource: Resource) -> int:
        """Make it and give its number."""
        spec = _page(resource)
        page.groups(spec, {}, self._links, resource.id)  # an unknown name is found before anything is written
        self._slugs.setdefault(-1, spec.slug)  # looked at, too, when the answer is lost
        with self._scope.span("EMIT addStatusPage", resource=str(resource.id)):
            self._client.add_page(str(Mark.of(resource, self._scope)), spec.slug)
        row = self._client.page(spec.slug)
        if row is None:
            raise Conflict(f"{resource.id}: the page {spec.slug!r} was made and is gone; the next pass plans anew")
        live = self._shown(row)
        self._slugs[live.id] = spec.slug
        self.edit(resource, live)
        return live.id

    def edit(self, resource: Resource, live: Live) -> None:
        """Write the wish over what is there."""
        spec, tag = _page(resource), self._tag(resource)
        dropped = set(live.tag.keys if live.tag is not None else ()) - spec.extra.keys()
        config = page.config(spec, tag, live.row, dropped, self._client.dialect)
        groups = page.groups(spec, live.row, self._links, resource.id)
        with self._scope.span("EMIT saveStatusPage", page=live.id):
            self._client.save_page(str(live.row["slug"]), config, groups)
        self._slugs[live.id] = spec.slug
        self._client.outdate("statusPageList")

    def complete(self, resource: Resource, live: Live) -> str:
        """Make what hangs on it."""
        return ""

    def same(self, resource: Resource, live: Live) -> bool:
        """Say whether it is what is wanted."""
        spec = _page(resource)
        seen = page.live(live.row, spec, live.tag, self._links)
        return live.tag == self._tag(resource) and seen == spec.canonical(self._scope.fingerprint)

    def delete(self, live: Live) -> None:
        """Delete it."""
        with self._scope.span("EMIT deleteStatusPage", page=live.id):
            self._client.delete_page(str(live.row["slug"]))
        self._client.outdate("statusPageList")

    def _by_number(self, id: int) -> JSONObject | None:
        row = self._client.page(self._slugs[id]) if id in self._slugs else None
        return row if row is not None and row["id"] == id else None

    def _shown(self, row: JSONObject) -> Live:
        return match.page({**row, "groups": self._client.page_groups(str(row["slug"]))})

    def _tag(self, resource: Resource) -> Tag:
        return Tag(Mark.of(resource, self._scope), resource.digest, tuple(sorted(_page(resource).extra)))


def _page(resource: Resource) -> StatusPage:
    assert isinstance(resource.spec, StatusPage)
    return resource.spec

"""One look at everything that an Uptime Kuma holds, with as few calls as it offers.

One list of monitors, one of maintenances, and the lists that it pushes; only what is wanted or ours is asked for one by one.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from reconciler.driver import Ownership, Scope
from reconciler.errors import DriverError, Permanent
from reconciler.resource import JSONObject, Resource
from reconciler_uptime_kuma import match
from reconciler_uptime_kuma.client import Client
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.maintenances import linked
from reconciler_uptime_kuma.match import Match
from reconciler_uptime_kuma.native import Links
from reconciler_uptime_kuma.page import StatusPage
from reconciler_uptime_kuma.spec import Monitor, Notification


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen: the matches of each kind, the names of everything, and why one sort could not be seen."""

    links: Links
    monitors: Sequence[Match]
    notifications: Sequence[Match]
    maintenances: Sequence[Match]
    pages: Sequence[Match]
    rows: Sequence[JSONObject]
    blind: str = ""


def links_of(client: Client, scope: Scope, rows: Collection[JSONObject]) -> Links:
    """Learn the names of everything; ``rows`` are the monitors."""
    return Links(scope.owner, rows, client.notifications(), client.docker_hosts(), client.pages())


def look(client: Client, wanted: Sequence[Resource], scope: Scope) -> Sight:
    """Look at everything. Raises Transient or Permanent when the monitors cannot be seen."""
    with scope.span("EMIT getMonitorList"):
        rows = client.monitors()
    maintenances, blind = _maintenances(client, scope)
    owner = scope.owner
    return Sight(
        links_of(client, scope, rows),
        match.of_monitors(owner, rows).all(_of(wanted, Monitor)),
        match.of_notifications(owner, client.notifications()).all(_of(wanted, Notification)),
        [_linked(client, one) for one in match.of_maintenances(owner, maintenances).all(_of(wanted, Maintenance))] if not blind else [],
        _pages(client, _of(wanted, StatusPage), scope),
        rows,
        blind,
    )


def _of(wanted: Sequence[Resource], kind: type) -> list[Resource]:
    return [one for one in wanted if isinstance(one.spec, kind)]


def _maintenances(client: Client, scope: Scope) -> tuple[list[JSONObject], str]:
    """List the maintenances. One that the server cannot work out makes it refuse the whole list, which must not hide the monitors."""
    try:
        with scope.span("EMIT getMaintenanceList"):
            return client.maintenances(), ""
    except Permanent as error:
        return [], f"{error}; one maintenance is broken, see its time zone and its days in the log of Uptime Kuma, and delete it"


def _linked(client: Client, one: Match) -> Match:
    return one if one.live is None else _with_row(one, linked(client, one.live.row))


def _with_row(one: Match, row: JSONObject) -> Match:
    assert one.live is not None
    return Match(one.id, one.resource, match.Live(row, one.live.tag), one.refused, one.copies, one.stale)


def _pages(client: Client, wanted: Sequence[Resource], scope: Scope) -> list[Match]:
    """Read the pages that are ours or wanted. The list is as old as the login, so each is read by its address."""
    listed = {str(row["slug"]): row for row in client.pages()}
    ours = {slug for slug, row in listed.items() if match.page(row).ownership(scope.owner) is Ownership.OURS}
    slugs = sorted(ours | {one.spec.slug for one in wanted if isinstance(one.spec, StatusPage)})
    rows = {slug: client.page(slug) for slug in slugs}
    if any(rows[slug] is None for slug in ours):  # gone, or at another address now: only a login tells
        client.outdate("statusPageList")
        for row in client.pages():
            if str(row["slug"]) not in rows and match.page(row).ownership(scope.owner) is Ownership.OURS:
                rows[str(row["slug"])] = client.page(str(row["slug"]))
    return [_shown(client, one) for one in match.of_pages(scope.owner, [row for row in rows.values() if row is not None]).all(wanted)]


def _shown(client: Client, one: Match) -> Match:
    """Add what a page shows. What cannot be seen of it is said by ``refused``: such a page is neither written nor deleted."""
    if one.live is None:
        return one
    try:
        groups = client.page_groups(str(one.live.row["slug"]))
    except DriverError as error:
        return Match(one.id, one.resource, None, f"what the page shows cannot be seen: {error}")
    return _with_row(one, {**one.live.row, "groups": groups})

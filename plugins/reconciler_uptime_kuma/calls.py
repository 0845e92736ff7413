"""Every call that the driver makes, by what it is for. Knows events and shapes, and neither sockets nor logins.

Where the server has no call that reads, it pushes a list, to everybody and before it answers a write; what was pushed last is then as
good as a reading.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from reconciler.errors import Permanent
from reconciler.resource import JSONObject
from reconciler_uptime_kuma.answers import absent


class Calls(ABC):
    """The calls, on top of four ways to talk. Each raises Transient or Permanent."""

    @abstractmethod
    def call(self, event: str, *args: Any) -> JSONObject:
        """Send one call and give its answer."""

    @abstractmethod
    def listed(self, event: str, push: str) -> Any:
        """Send a call whose answer is the push before it, and give that."""

    @abstractmethod
    def pushed(self, event: str) -> Any:
        """Give what was last pushed under a name; waits for the first after a login."""

    @abstractmethod
    def renew(self, event: str, id: int, argument: Any) -> None:
        """Send a call after which the server checks a monitor anew, so that a heartbeat from before proves nothing."""

    @abstractmethod
    def fetch(self, path: str) -> JSONObject | None:
        """Read a page of JSON that anybody may read; None when there is none."""

    # -- monitors ------------------------------------------------------------------------------------------------------------

    def monitors(self) -> list[JSONObject]:
        """Give every monitor of the user, by number; a fresh list."""
        return _by_number(self.listed("getMonitorList", "monitorList"))

    def monitor(self, id: int) -> JSONObject | None:
        """Give one monitor, or None when there is none with this number."""
        found = self._one("getMonitor", id).get("monitor")
        return found if isinstance(found, dict) else None

    def add_monitor(self, payload: JSONObject) -> int:
        """Add a monitor and give its number. After any error the monitor may exist all the same."""
        return int(self.call("add", payload)["monitorID"])

    def edit_monitor(self, row: JSONObject) -> None:
        """Write a whole row. After any error its fields may be stored all the same."""
        self.renew("editMonitor", row["id"], row)

    def set_active(self, id: int, *, active: bool) -> None:
        """Resume or pause a monitor; harmless when it is so already."""
        self.renew("resumeMonitor" if active else "pauseMonitor", id, id)

    def delete_monitor(self, id: int) -> None:
        """Delete a monitor with its history; children of a group stay. No error when it does not exist."""
        self.call("deleteMonitor", id)

    def docker_hosts(self) -> list[JSONObject]:
        """Give the Docker hosts, as last pushed: ``id`` and ``name`` of each."""
        return list(self.pushed("dockerHostList"))

    # -- tags ----------------------------------------------------------------------------------------------------------------

    def tags(self) -> list[JSONObject]:
        """Give every tag: ``id``, ``name`` and ``color``. Names may repeat."""
        return list(self.call("getTags")["tags"])

    def add_tag(self, name: str, color: str) -> int:
        """Make a tag and give its number."""
        return int(self.call("addTag", {"name": name, "color": color})["tag"]["id"])

    def tag_monitor(self, tag: int, monitor: int, value: str) -> None:
        """Put a tag on a monitor; a second time puts it there twice."""
        self.call("addMonitorTag", tag, monitor, value)

    def untag_monitor(self, tag: int, monitor: int, value: str | None) -> None:
        """Take a tag with exactly this value off a monitor, every time it is there."""
        self.call("deleteMonitorTag", tag, monitor, value)

    # -- notifications -------------------------------------------------------------------------------------------------------

    def notifications(self) -> list[JSONObject]:
        """Give every notification, as last pushed: the server sends the list at login and after each change by anybody."""
        return list(self.pushed("notificationList"))

    def save_notification(self, config: JSONObject, id: int | None) -> int:
        """Add a notification, or write the one with number ``id``; gives the number."""
        return int(self.call("addNotification", config, id)["id"])

    def delete_notification(self, id: int) -> None:
        """Delete a notification; every monitor forgets it."""
        self.call("deleteNotification", id)

    # -- maintenances --------------------------------------------------------------------------------------------------------

    def maintenances(self) -> list[JSONObject]:
        """Give every maintenance, by number; a fresh list. One with a broken time zone makes the server refuse the whole list."""
        return _by_number(self.listed("getMaintenanceList", "maintenanceList"))

    def maintenance_monitors(self, id: int) -> list[int]:
        """Give the numbers of the monitors that a maintenance is for."""
        return sorted(int(row["id"]) for row in self.call("getMonitorMaintenance", id)["monitors"])

    def maintenance_pages(self, id: int) -> list[int]:
        """Give the numbers of the status pages that a maintenance is shown on."""
        return sorted(int(row["id"]) for row in self.call("getMaintenanceStatusPage", id)["statusPages"])

    def add_maintenance(self, payload: JSONObject) -> int:
        """Add a maintenance, for nothing yet, and give its number."""
        return int(self.call("addMaintenance", payload)["maintenanceID"])

    def edit_maintenance(self, row: JSONObject) -> None:
        """Write a whole maintenance."""
        self.call("editMaintenance", row)

    def link_maintenance(self, id: int, monitors: Sequence[int], pages: Sequence[int]) -> None:
        """Say what a maintenance is for and where it is shown. Each list is emptied and filled one by one, so numbers must exist."""
        self.call("addMonitorMaintenance", id, [{"id": one} for one in monitors])
        self.call("addMaintenanceStatusPage", id, [{"id": one} for one in pages])

    def delete_maintenance(self, id: int) -> None:
        """Delete a maintenance; its monitors are watched again at once. No error when it does not exist."""
        self.call("deleteMaintenance", id)

    # -- status pages --------------------------------------------------------------------------------------------------------

    def pages(self) -> list[JSONObject]:
        """Give the status pages as they were at the login: the server never sends this list again."""
        return _by_number(self.pushed("statusPageList"))

    def page(self, slug: str) -> JSONObject | None:
        """Give the settings of one status page, or None; what it shows is not among them."""
        found = self._one("getStatusPage", slug).get("config")
        return found if isinstance(found, dict) else None

    def page_groups(self, slug: str) -> list[JSONObject]:
        """Give what a status page shows: groups with ``id``, ``name`` and ``monitorList``. Ask only for a page that exists.

        It is on the public address only; 1.23 never answers for a page that does not exist.
        """
        shown = self.fetch(f"/api/status-page/{quote(slug)}")
        return list(shown["publicGroupList"]) if shown is not None else []

    def add_page(self, title: str, slug: str) -> None:
        """Add an empty status page."""
        self.call("addStatusPage", title, slug)

    def save_page(self, slug: str, config: JSONObject, groups: Sequence[JSONObject]) -> None:
        """Write a status page; after an error some groups may be written. The icon is an argument of its own."""
        self.call("saveStatusPage", slug, config, config.get("icon") or "", list(groups))

    def delete_page(self, slug: str) -> None:
        """Delete a status page."""
        self._one("deleteStatusPage", slug)

    def _one(self, event: str, key: Any) -> JSONObject:
        """Call for one object; empty when there is no such object."""
        try:
            return self.call(event, key)
        except Permanent as error:
            if absent(error):
                return {}
            raise


def _by_number(rows: dict[str, JSONObject]) -> list[JSONObject]:
    return [row for _, row in sorted(rows.items(), key=lambda item: int(item[0]))]

"""The calls about maintenances, status pages, Docker hosts and proxies."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from reconciler.resource import JSONObject
from reconciler_uptime_kuma.emulator.calls import Calls
from reconciler_uptime_kuma.emulator.refusals import Refused


class Planning(Calls):
    """The handlers; see ``Calls``."""

    async def _plan(self) -> None:
        """Push the maintenances to everybody. Raises Refused when one of them cannot be worked out."""
        await self.push("maintenanceList", self.store.windows.views())

    async def _told(self, text: str, work: Callable[[], int]) -> JSONObject:
        """Do something to a maintenance; everybody hears of it before the answer."""
        with self.store.lock:
            id = work()
        await self._plan()
        return self.done(text, maintenanceID=id)

    async def on_addMaintenance(self, sid: str, given: Any) -> JSONObject:  # noqa: N802
        """Add a maintenance."""
        return await self._told("successAdded", lambda: self.store.windows.add(given))

    async def on_editMaintenance(self, sid: str, given: Any) -> JSONObject:  # noqa: N802
        """Write a maintenance."""
        return await self._told("Saved.", lambda: self.store.windows.edit(given))

    async def on_getMaintenance(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Give one maintenance."""
        return {"ok": True, "maintenance": self.store.windows.view(id, alone=True)}

    async def on_getMaintenanceList(self, sid: str) -> JSONObject:  # noqa: N802
        """Push the list, then answer."""
        await self._plan()
        return {"ok": True}

    async def on_addMonitorMaintenance(self, sid: str, id: Any, monitors: Any) -> JSONObject:  # noqa: N802
        """Say for which monitors a maintenance is."""
        with self.store.lock:
            self.store.windows.link(id, monitors, self.store.monitors.keys(), pages=False)
        return self.done("successAdded")

    async def on_addMaintenanceStatusPage(self, sid: str, id: Any, pages: Any) -> JSONObject:  # noqa: N802
        """Say on which pages a maintenance is shown."""
        with self.store.lock:
            self.store.windows.link(id, pages, self.store.pages.rows.keys(), pages=True)
        return self.done("successAdded")

    async def on_getMonitorMaintenance(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Give the monitors of a maintenance."""
        return {"ok": True, "monitors": [{"id": one} for one in self.store.windows.monitors.get(id, ())]}

    async def on_getMaintenanceStatusPage(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Give the pages of a maintenance."""
        pages = self.store.pages.rows
        return {"ok": True, "statusPages": [{"id": one, "title": pages[one]["title"]} for one in self.store.windows.pages.get(id, ())]}

    async def on_pauseMaintenance(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Pause; everybody hears of it after the answer."""
        return self._afterwards("successPaused", lambda: self.store.windows.set_active(id, active=False))

    async def on_resumeMaintenance(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Resume."""
        return self._afterwards(
            "successResumed" if self.modern else "Resume Successfully", lambda: self.store.windows.set_active(id, active=True)
        )

    async def on_deleteMaintenance(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Delete; no error when there is none."""
        return self._afterwards("successDeleted", lambda: self.store.windows.delete(id))

    def _afterwards(self, text: str, work: Callable[[], None]) -> JSONObject:
        with self.store.lock:
            work()
        self.later(self._planned())
        return self.done(text)

    async def _planned(self) -> None:
        with suppress(Refused):  # the real one logs it
            await self._plan()

    # -- status pages --------------------------------------------------------------------------------------------------------

    async def on_addStatusPage(self, sid: str, title: Any, slug: Any) -> JSONObject:  # noqa: N802
        """Add an empty page. Nobody else hears of it."""
        with self.store.lock:
            stored = self.store.pages.add(title, slug)
        return self.done("successAdded", slug=stored) if self.modern else {"ok": True, "msg": "OK!"}

    async def on_getStatusPage(self, sid: str, slug: Any) -> JSONObject:  # noqa: N802
        """Give the settings of a page."""
        return {"ok": True, "config": dict(self.store.pages.get(slug))}

    async def on_saveStatusPage(self, sid: str, slug: Any, config: Any, icon: Any, groups: Any) -> JSONObject:  # noqa: N802
        """Write a page."""
        with self.store.lock:
            return {"ok": True, "publicGroupList": self.store.pages.save(slug, config, icon, groups, self.store.monitors.keys())}

    async def on_deleteStatusPage(self, sid: str, slug: Any) -> JSONObject:  # noqa: N802
        """Delete a page."""
        with self.store.lock:
            self.store.windows.forget(self.store.pages.delete(slug), pages=True)
        return {"ok": True}

    # -- Docker hosts and proxies --------------------------------------------------------------------------------------------

    async def on_addDockerHost(self, sid: str, given: Any, id: Any) -> JSONObject:  # noqa: N802
        """Add or write a Docker host."""
        number = id if id is not None else self.store.next_id("docker_host")
        kept = {key: given[key] for key in ("dockerDaemon", "dockerType", "name")}
        self.store.docker_hosts[number] = {"id": number, "userID": 1, **kept}
        await self.push("dockerHostList", list(self.store.docker_hosts.values()))
        return self.done("Saved." if self.modern else "Saved", id=number)

    async def on_addProxy(self, sid: str, given: Any, id: Any) -> JSONObject:  # noqa: N802
        """Add or write a proxy."""
        number = id if id is not None else self.store.next_id("proxy")
        kept = {key: given[key] for key in ("protocol", "host", "port", "auth", "username", "password", "active", "default")}
        self.store.proxies[number] = {"id": number, "userId": 1, **kept}
        await self.push("proxyList", list(self.store.proxies.values()))
        return self.done("Saved." if self.modern else "Saved", id=number)

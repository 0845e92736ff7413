"""The calls about monitors, notifications, tags and keys: what each answers, and what it pushes before and after."""

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from reconciler.resource import JSONObject
from reconciler_uptime_kuma.emulator.refusals import FOREIGN_KEY, NoAnswer, Refused, complaint
from reconciler_uptime_kuma.emulator.store import Store

ROOM = "1"
"""The room of the user: every client of the user gets every push."""
_ENGLISH = {
    "successAdded": "Added Successfully.",
    "successEdited": "Edited Successfully.",
    "successDeleted": "Deleted Successfully.",
    "successPaused": "Paused Successfully.",
    "successResumed": "Resumed Successfully.",
    "Saved.": "Saved.",
}


class Calls(ABC):
    """The handlers ``on_<event>``. What they need of the sockets comes from the subclass."""

    store: Store

    @abstractmethod
    async def push(self, event: str, *args: Any, to: str = ROOM) -> None:
        """Send an event to one client, or to all of the user's."""

    @abstractmethod
    async def check(self, id: int) -> None:
        """Check a monitor and push the heartbeat."""

    @abstractmethod
    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something after the answer has been sent."""

    @property
    def modern(self) -> bool:
        """True for 2.x."""
        return self.store.dialect.modern

    def done(self, text: str, **more: Any) -> JSONObject:
        """Give an answer that says yes: 2.x names a text to translate, 1.23 says it in English."""
        if self.modern:
            return {"ok": True, "msg": text, "msgi18n": True, **more}
        return {"ok": True, "msg": _ENGLISH.get(text, text), **more}

    # -- monitors ------------------------------------------------------------------------------------------------------------

    async def on_add(self, sid: str, monitor: Any) -> JSONObject:
        """Add a monitor; everybody hears of it before the answer."""
        with self.store.lock:
            id = self.store.add(monitor)
        await self._tell(id)
        if self.store.view(id)["active"]:
            self.later(self._first_beat(id))
        return self.done("successAdded", monitorID=id)

    async def on_editMonitor(self, sid: str, monitor: Any) -> JSONObject:  # noqa: N802
        """Edit a monitor; its check starts anew."""
        with self.store.lock:
            id = self.store.edit(monitor)
        await self._tell(id)
        self.later(self.check(id))
        return self.done("Saved.", monitorID=id)

    async def on_getMonitor(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Give one monitor; stumble over one that is not there."""
        if id not in self.store.monitors:
            raise Refused(f"Cannot read properties of null (reading '{'id' if self.modern else 'toJSON'}')")
        return {"ok": True, "monitor": self.store.view(id, alone=True)}

    async def on_getMonitorList(self, sid: str) -> JSONObject:  # noqa: N802
        """Push the list, then answer; a wedged server does neither."""
        if self.store.wedged:
            raise NoAnswer
        await self.push("monitorList", self.store.views())
        return {"ok": True}

    async def on_getMonitorBeats(self, sid: str, id: Any, hours: Any) -> JSONObject:  # noqa: N802
        """Give the heartbeats of a monitor, oldest first."""
        return {"ok": True, "data": list(self.store.beats.get(id, []))}

    async def on_pauseMonitor(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Pause; harmless when it is paused already."""
        with self.store.lock:
            self.store.set_active(id, active=False)
        await self._tell(id)
        return self.done("successPaused")

    async def on_resumeMonitor(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Resume; checked at once."""
        with self.store.lock:
            self.store.set_active(id, active=True)
        self.later(self.check(id))
        await self._tell(id)
        return self.done("successResumed")

    async def on_deleteMonitor(self, sid: str, id: Any, *more: Any) -> JSONObject:  # noqa: N802
        """Delete a monitor; clients hear of it after the answer. Only 2.x can delete the children, too."""
        if more and not self.modern:
            raise NoAnswer
        with self.store.lock:
            orphans, deleted = self.store.delete(id, children=bool(more and more[0]))
        for child in orphans if self.modern else ():
            await self._tell(child)
        for child in deleted:
            await self.push("deleteMonitorFromList", child)
        if deleted:
            await self.push("maintenanceList", self.store.windows.views())
        self.later(self._gone(id))
        return self.done("successDeleted")

    async def _gone(self, id: Any) -> None:
        if self.modern:
            await self.push("deleteMonitorFromList", id)
        else:
            await self.push("monitorList", self.store.views())
            await self.push("importantHeartbeatList", id, [], True)

    async def _first_beat(self, id: int) -> None:
        if self.modern:
            await self.push("maintenanceList", self.store.windows.views())
        await self.check(id)
        if not self.modern:
            await self.push("maintenanceList", self.store.windows.views())

    async def _tell(self, id: int) -> None:
        if self.modern:
            await self.push("updateMonitorIntoList", {str(id): self.store.view(id)})
        else:
            await self.push("monitorList", self.store.views())

    # -- notifications, tags, keys -------------------------------------------------------------------------------------------

    async def on_addNotification(self, sid: str, config: Any, id: Any) -> JSONObject:  # noqa: N802
        """Add or write a notification; the list comes before the answer."""
        with self.store.lock:
            number = self.store.save_notification(config, id)
        await self.push("notificationList", list(self.store.notifications.values()))
        return self.done("Saved." if self.modern else "Saved", id=number)

    async def on_deleteNotification(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Delete a notification; the list comes before the answer."""
        with self.store.lock:
            self.store.delete_notification(id)
        await self.push("notificationList", list(self.store.notifications.values()))
        return self.done("successDeleted" if self.modern else "Deleted")

    async def on_getTags(self, sid: str) -> JSONObject:  # noqa: N802
        """List the tags."""
        return {"ok": True, "tags": list(self.store.tags.values())}

    async def on_addTag(self, sid: str, tag: Any) -> JSONObject:  # noqa: N802
        """Add a tag; names may repeat."""
        if not isinstance(tag, dict):
            raise Refused("Cannot read properties of null (reading 'name')")
        for column in ("name", "color"):
            if tag.get(column) is None:
                columns = {"color": tag.get("color"), "name": tag.get("name")}
                raise Refused(complaint("tag", columns, f"SQLITE_CONSTRAINT: NOT NULL constraint failed: tag.{column}"))
        id = self.store.next_id("tag")
        self.store.tags[id] = {"id": id, "name": tag["name"], "color": tag["color"]}
        return {"ok": True, "tag": self.store.tags[id]}

    async def on_editTag(self, sid: str, tag: Any) -> JSONObject:  # noqa: N802
        """Rename or recolour a tag everywhere."""
        if tag["id"] not in self.store.tags:
            raise Refused("tagNotFound" if self.modern else "Tag not found")
        self.store.tags[tag["id"]] = {"id": tag["id"], "name": tag["name"], "color": tag["color"]}
        return self.done("Saved." if self.modern else "Saved", tag=self.store.tags[tag["id"]])

    async def on_deleteTag(self, sid: str, id: Any) -> JSONObject:  # noqa: N802
        """Delete a tag and take it off every monitor."""
        self.store.tags.pop(id, None)
        self.store.monitor_tags = [one for one in self.store.monitor_tags if one["tag_id"] != id]
        return self.done("successDeleted")

    async def on_addMonitorTag(self, sid: str, tag: Any, monitor: Any, value: Any) -> JSONObject:  # noqa: N802
        """Put a tag on a monitor; the same one may be put there again."""
        if tag not in self.store.tags or monitor not in self.store.monitors:
            statement = ("INSERT INTO monitor_tag (tag_id, monitor_id, value)", f"VALUES ({tag}, {monitor}, '{value}')")
            raise Refused(" ".join((*statement, "-", FOREIGN_KEY)))
        row = {"id": self.store.next_id("monitor_tag"), "tag_id": tag, "monitor_id": monitor, "value": value}
        self.store.monitor_tags.append(row)
        if self.modern:
            await self._tell(monitor)
        return self.done("successAdded")

    async def on_editMonitorTag(self, sid: str, tag: Any, monitor: Any, value: Any) -> JSONObject:  # noqa: N802
        """Set the value of a tag on a monitor, wherever the monitor carries it."""
        for row in self._tagged(tag, monitor):
            row["value"] = value
        if self.modern:
            await self._tell(monitor)
        return self.done("successEdited")

    async def on_deleteMonitorTag(self, sid: str, tag: Any, monitor: Any, value: Any) -> JSONObject:  # noqa: N802
        """Take a tag with this value off a monitor, every time it is there."""
        gone = [row for row in self._tagged(tag, monitor) if row["value"] == value]
        self.store.monitor_tags = [row for row in self.store.monitor_tags if row not in gone]
        if self.modern:
            await self._tell(monitor)
        return self.done("successDeleted")

    def _tagged(self, tag: Any, monitor: Any) -> list[JSONObject]:
        return [row for row in self.store.monitor_tags if (row["tag_id"], row["monitor_id"]) == (tag, monitor)]

    async def on_addAPIKey(self, sid: str, key: Any) -> JSONObject:  # noqa: N802
        """Make a key, after which /metrics takes no password any more."""
        id = self.store.next_id("api_key")
        self.store.api_keys[id] = f"uk{id}_emulated"
        return self.done("successAdded", key=self.store.api_keys[id], keyID=id)

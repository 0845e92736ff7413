"""What the emulated Uptime Kuma holds, and the rules by which a monitor is added, edited and deleted.

No network here. Raises Refused for an error answer, possibly after having written, as the real one does; NoAnswer where the real
one never answers. Maintenances and status pages are tables of their own.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reconciler.resource import JSONObject
from reconciler_uptime_kuma.dialect import CLASSIC, COMPUTED, MANAGED, MODERN, Dialect
from reconciler_uptime_kuma.emulator.pages import Pages
from reconciler_uptime_kuma.emulator.refusals import FOREIGN_KEY, NoAnswer, Refused, complaint
from reconciler_uptime_kuma.emulator.windows import Windows

UP, DOWN, PENDING, MAINTENANCE = 1, 0, 2, 3

_MANAGED_DEFAULTS: JSONObject = {
    **dict.fromkeys(MANAGED - {"notificationIDList", "jsonPathOperator"}),
    "interval": 20,
    "retryInterval": 0,
    "resendInterval": 0,
    "maxretries": 0,
    "timeout": 0,
    "method": "GET",
    "upsideDown": False,
    "weight": 2000,
    "active": True,
    "dns_last_result": None,
}
_NUMBERS = frozenset({"port", "interval", "retryInterval", "resendInterval", "maxretries", "timeout", "parent", "weight"})
_READ_ONLY = COMPUTED - {"active", "dns_last_result", "weight"} | {"notificationIDList"}


@dataclass(slots=True)
class Store:
    """The database of one emulated server.

    ``check`` says whether what a monitor watches is up; ``labels`` are the tags that there were at its start.
    """

    dialect: Dialect = MODERN
    check: Callable[[JSONObject], bool] = lambda row: True
    monitors: dict[int, JSONObject] = field(default_factory=dict)
    links: dict[int, set[int]] = field(default_factory=dict)
    notifications: dict[int, JSONObject] = field(default_factory=dict)
    tags: dict[int, JSONObject] = field(default_factory=dict)
    monitor_tags: list[JSONObject] = field(default_factory=list)
    beats: dict[int, list[JSONObject]] = field(default_factory=dict)
    api_keys: dict[int, str] = field(default_factory=dict)
    running: dict[int, JSONObject] = field(default_factory=dict)
    docker_hosts: dict[int, JSONObject] = field(default_factory=dict)
    proxies: dict[int, JSONObject] = field(default_factory=dict)
    labels: frozenset[int] = frozenset()
    wedged: bool = False
    windows: Windows = field(init=False)
    pages: Pages = field(init=False)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _last: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the tables that depend on the dialect."""
        self.windows, self.pages = Windows(self.dialect.modern), Pages(self.dialect)

    # -- numbers and defaults ------------------------------------------------------------------------------------------------

    def next_id(self, table: str, wanted: int | None = None) -> int:
        """Give the next number of a table; numbers are never used again."""
        id = wanted if wanted is not None else self._last.get(table, 0) + 1
        self._last[table] = max(self._last.get(table, 0), id)
        return id

    def defaults(self) -> JSONObject:
        """Give a row as the database makes it when nothing is said."""
        own = {"jsonPathOperator": None} if self.dialect.modern else {}
        return json.loads(json.dumps({**self.dialect.defaults, **_MANAGED_DEFAULTS, **own}))  # type: ignore[no-any-return]

    # -- monitors ------------------------------------------------------------------------------------------------------------

    def add(self, monitor: Any) -> int:
        """Add a monitor, or overwrite the one whose number it brings along."""
        if not isinstance(monitor, dict):
            raise NoAnswer
        _check_codes(monitor)
        self._validate(monitor)
        wanted = monitor.get("id")
        if wanted is not None and wanted not in self.monitors:
            raise Refused("You do not own this monitor.")
        self._check_columns(monitor)
        if monitor.get("parent") is not None and monitor["parent"] not in self.monitors:
            raise Refused(statement(monitor, self.dialect, FOREIGN_KEY))
        id = wanted if wanted is not None else self.next_id("monitor")
        row = self.monitors.get(id) or self.defaults()
        self.monitors[id] = row | {key: _coerced(value, row.get(key), key) for key, value in monitor.items() if key not in _READ_ONLY}
        self.link(id, monitor.get("notificationIDList") or {})
        self.running[id] = dict(self.monitors[id])
        return int(id)

    def edit(self, monitor: Any) -> int:
        """Write the fields that an edit knows. Some that are left out are reset; being one's own parent wedges the server."""
        if not isinstance(monitor, dict):
            raise Refused("Cannot read properties of null (reading 'id')")
        id = monitor.get("id")
        if id not in self.monitors:
            raise Refused("Cannot read properties of null (reading 'user_id')")
        parent = monitor.get("parent")
        if parent == id:
            self.monitors[id]["parent"] = id
            self.wedged = True
            raise NoAnswer
        if parent in self.descendants(id):
            raise Refused("Invalid Monitor Group")
        _check_codes(monitor)
        row = self.monitors[id]
        ignored = COMPUTED | {"notificationIDList"}
        fields = {key: _coerced(value, row[key], key) for key, value in monitor.items() if key in row and key not in ignored}
        after = {**row, "port": None, "proxyId": None, **fields}
        if self.dialect.modern:
            after["retryOnlyOnStatusCodeFailure"] = bool(monitor.get("retryOnlyOnStatusCodeFailure"))
        self._validate(after)
        self.monitors[id] = after
        self.wedged = self.wedged and any(other["parent"] == number for number, other in self.monitors.items())
        self.link(id, monitor.get("notificationIDList") or {})
        self.running[id] = dict(after)
        return int(id)

    def delete(self, id: Any, *, children: bool = False) -> tuple[list[int], list[int]]:
        """Delete a monitor; give the children that were let go and those that were deleted with it. No error when there is none."""
        below = [number for number, row in self.monitors.items() if row["parent"] == id]
        for number in below:
            if children:
                self.delete(number, children=True)
            else:
                self.monitors[number]["parent"] = None
        for table in (self.monitors, self.links, self.beats, self.running):
            table.pop(id, None)
        self.monitor_tags = [row for row in self.monitor_tags if row["monitor_id"] != id]
        self.windows.forget(id)
        self.pages.forget(id)
        return ([], below) if children else (below, [])

    def set_active(self, id: Any, *, active: bool) -> None:
        """Pause or resume."""
        if id not in self.monitors:
            raise Refused("You do not own this monitor.")
        self.monitors[id]["active"] = active

    def link(self, id: int, wanted: Any) -> None:
        """Set the notifications of a monitor. It is already stored when an unknown one makes this fail."""
        pairs = enumerate(wanted) if isinstance(wanted, list) else wanted.items()
        self.links[id] = set()
        for number, on in pairs:
            if not on:
                continue
            if not str(number).isdigit() or int(number) not in self.notifications:
                columns = {"monitor_id": id, "notification_id": str(number)}
                raise Refused(complaint("monitor_notification", columns, FOREIGN_KEY))
            self.links[id].add(int(number))

    def descendants(self, id: int) -> set[int]:
        """Give every monitor below a group."""
        below = {number for number, row in self.monitors.items() if row["parent"] == id and number != id}
        return below.union(*(self.descendants(number) for number in below))

    def _validate(self, row: JSONObject) -> None:
        least = 1 if self.dialect.modern else 20
        if "interval" in row and (row["interval"] is None or float(row["interval"]) < least):
            raise Refused(f"Interval cannot be less than {least} seconds")
        if self.dialect.modern:
            if "retryInterval" in row and (row["retryInterval"] is None or float(row["retryInterval"]) < 1):
                raise Refused("Retry interval cannot be less than 1 seconds")
            _check_headers(row.get("headers"))

    def _check_columns(self, monitor: JSONObject) -> None:
        known = self.defaults().keys() | {"id", "user_id", "notificationIDList"}
        unknown = sorted(snake(key) for key in monitor if key not in known)
        if unknown:
            raise Refused(statement(monitor, self.dialect, f"SQLITE_ERROR: table monitor has no column named {unknown[0]}"))
        if self.dialect.modern and monitor.get("conditions") is None:
            raise Refused(statement(monitor, self.dialect, "SQLITE_CONSTRAINT: NOT NULL constraint failed: monitor.conditions"))

    # -- what clients see ----------------------------------------------------------------------------------------------------

    def view(self, id: int, *, alone: bool = False) -> JSONObject:
        """Give a monitor as it is sent. ``alone`` is the answer of getMonitor, whose path 2.x gets wrong."""
        row = self.monitors[id]
        ancestors = self._ancestors(id)
        forced = any(not self.monitors[one]["active"] for one in ancestors)
        names = [self.monitors[one]["name"] for one in ancestors]
        own = None if alone and self.dialect.modern else row["name"]
        view = {
            **row,
            "id": id,
            "active": (False if self.dialect.modern else 0) if forced else bool(row["active"]),
            "forceInactive": forced,
            "pathName": " / ".join([*names, own or ""]),
            "childrenIDs": [number for number, other in self.monitors.items() if other["parent"] == id and number != id],
            "notificationIDList": {str(number): True for number in sorted(self.links.get(id, ()))},
            "tags": [self._tag_view(one) for one in self.monitor_tags if one["monitor_id"] == id],
            "maintenance": self.in_peace(id),
            "screenshot": None,
            "includeSensitiveData": True,
        }
        return {**view, "path": [*names, own]} if self.dialect.modern else view

    def in_peace(self, id: int) -> bool:
        """Say whether a monitor, or a group above it, is under maintenance."""
        return any(self.windows.covers(one) for one in (id, *self._ancestors(id)))

    def views(self) -> JSONObject:
        """Give all monitors as they are listed."""
        return {str(id): self.view(id) for id in sorted(self.monitors)}

    def _ancestors(self, id: int) -> list[int]:
        found: list[int] = []
        parent = self.monitors[id]["parent"]
        while parent is not None and parent in self.monitors and parent not in (id, *found):
            found.insert(0, parent)
            parent = self.monitors[parent]["parent"]
        return found

    def _tag_view(self, link: JSONObject) -> JSONObject:
        tag = self.tags[link["tag_id"]]
        view = {
            "tag_id": link["tag_id"],
            "monitor_id": link["monitor_id"],
            "value": link["value"],
            "name": tag["name"],
            "color": tag["color"],
        }
        return view if self.dialect.modern else {"id": link["id"], **view}

    # -- notifications -------------------------------------------------------------------------------------------------------

    def save_notification(self, config: Any, id: int | None) -> int:
        """Add a notification, or write the one with this number; its settings are kept as one text."""
        if not isinstance(config, dict):
            raise Refused("Cannot read properties of null (reading 'name')")
        if id is not None and id not in self.notifications:
            raise Refused("notification not found")
        number = id if id is not None else self.next_id("notification")
        stored = {**config, "applyExisting": bool(config.get("applyExisting"))} if self.dialect.modern else config
        self.notifications[number] = {
            "id": number,
            "name": config.get("name"),
            "active": True,
            "userId": 1,
            "isDefault": bool(config.get("isDefault")),
            "config": json.dumps(stored, separators=(",", ":"), ensure_ascii=False),
        }
        if config.get("applyExisting"):
            for links in self.links.values():
                links.add(number)
        return number

    def delete_notification(self, id: Any) -> None:
        """Delete a notification; monitors forget it."""
        if self.notifications.pop(id, None) is None:
            raise Refused("notification not found")
        for links in self.links.values():
            links.discard(id)

    # -- heartbeats ----------------------------------------------------------------------------------------------------------

    def dials(self, id: int) -> JSONObject | None:
        """Give what a monitor reaches out to; None when it is gone or paused, waits to be called, or only sums up others."""
        row = self.running.get(id)
        if row is None or id not in self.monitors or not self.view(id)["active"] or row["type"] in ("push", "group", "manual"):
            return None
        return dict(row)

    def checked(self, id: int, *, up: bool) -> JSONObject | None:
        """Keep the heartbeat of a check that went well or not; a group looks at its children. None when there is nothing to keep."""
        row = self.running.get(id)
        if row is None or id not in self.monitors or not self.view(id)["active"] or row["type"] in ("push", "manual"):
            return None
        if self.in_peace(id):
            return self.beat(id, MAINTENANCE, "Monitor under maintenance")
        if row["type"] == "group":
            return self.beat(id, *self._children(id))
        good = up is not bool(row["upsideDown"])
        return self.beat(id, UP, "1 ms", 1) if good else self.beat(id, DOWN, "Connection failed")

    def beat(self, id: int, status: int, message: str, ping: float | None = None) -> JSONObject:
        """Keep a heartbeat."""
        before = self.beats.setdefault(id, [])
        beat = {
            "id": self.next_id("heartbeat"),
            "important": int(not before or before[-1]["status"] != status),
            "monitor_id": id,
            "status": status,
            "msg": message,
            "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3],
            "ping": ping,
            "duration": 0,
            "down_count": 0,
        }
        before.append(beat)
        return beat

    def _children(self, id: int) -> tuple[int, str, float | None]:
        below = [number for number, other in self.monitors.items() if other["parent"] == id]
        states = [self.beats[number][-1]["status"] if self.beats.get(number) else PENDING for number in below]
        if not below:
            return PENDING, "Group empty", None
        if DOWN in states:
            return DOWN, "Child monitors down", None
        return (PENDING, "Pending child monitors", None) if PENDING in states else (UP, "All children up and running", 1)


def _check_codes(monitor: JSONObject) -> None:
    if not isinstance(monitor.get("accepted_statuscodes"), list):
        raise Refused("Cannot read properties of undefined (reading 'every')")
    if not all(isinstance(code, str) for code in monitor["accepted_statuscodes"]):
        raise Refused("Accepted status codes are not all strings")


def _check_headers(headers: Any) -> None:
    try:
        json.loads(headers or "{}")
    except (TypeError, ValueError):
        shown = headers if isinstance(headers, str) else "[object Object]"
        raise Refused(f'Headers must be valid JSON: "{shown}" is not valid JSON') from None


def _coerced(value: Any, before: Any, key: str) -> Any:
    """Store a value as SQLite does in a column of this kind."""
    if isinstance(before, bool) and isinstance(value, int):
        return bool(value)
    if key in _NUMBERS and isinstance(value, str) and value.isdigit():
        return int(value)
    return json.dumps(value, separators=(",", ":")) if key in ("headers", "body") and isinstance(value, dict) else value


def snake(key: str) -> str:
    """Give the column that a key is stored in."""
    return re.sub(r"[A-Z]", lambda match: f"_{match.group().lower()}", key)


def statement(monitor: JSONObject, dialect: Dialect, failure: str) -> str:
    """Give the complaint about an insert of a monitor."""
    columns = {snake(key): value for key, value in monitor.items() if key not in ("accepted_statuscodes", "notificationIDList")}
    texts = ("kafka_producer_brokers", "kafka_producer_sasl_options", *(("conditions", "rabbitmq_nodes") if dialect.modern else ()))
    for key in texts:
        columns[key] = None if columns.get(key) is None else _json(columns[key])
    columns |= {"accepted_statuscodes_json": _json(monitor["accepted_statuscodes"]), "user_id": 1}
    return complaint("monitor", columns, failure)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def seeded(seed: JSONObject) -> Store:
    """Build a store from a seed. Rows may be short: what is missing is the database's default."""
    store = Store(CLASSIC if seed.get("dialect") == "1.23" else MODERN)
    for row in seed.get("notifications", ()):
        id = store.next_id("notification", row.get("id"))
        store.notifications[id] = {"name": row.get("name")}
        store.save_notification({key: value for key, value in row.items() if key != "id"}, id)
    for name in seed.get("docker_hosts", ()):
        id = store.next_id("docker_host")
        store.docker_hosts[id] = {"id": id, "userID": 1, "dockerDaemon": "/var/run/docker.sock", "dockerType": "socket", "name": name}
    for row in seed.get("monitors", ()):
        _plant(store, row)
    return store


def _plant(store: Store, row: JSONObject) -> None:
    id = store.next_id("monitor", row.get("id"))
    store.monitors[id] = store.defaults() | {"interval": 60, "retryInterval": 60, "accepted_statuscodes": ["200-299"]}
    beats: Iterable[JSONObject] = row.get("beats", ())
    store.monitors[id] |= {key: value for key, value in row.items() if key not in ("id", "beats", "notificationIDList")}
    store.link(id, row.get("notificationIDList") or {})
    store.running[id] = dict(store.monitors[id])
    for one in beats:
        store.beat(id, int(one.get("status", UP)), str(one.get("msg", "")), one.get("ping"))
    if not store.beats.get(id):
        store.checked(id, up=True)

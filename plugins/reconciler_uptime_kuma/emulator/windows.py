"""The maintenances of the emulated server: what it takes, what it stumbles over later, and which monitors are left in peace now."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from reconciler.resource import JSONObject
from reconciler_uptime_kuma.emulator.refusals import FOREIGN_KEY, Refused, complaint

_MIDNIGHT = {"hours": 0, "minutes": 0}


@dataclass(slots=True)
class Windows:
    """The table of maintenances, ``id`` to row, and what each is for. A broken row stays, and fails every list from then on.

    ``slow`` is how far the clock of the server is behind.
    """

    modern: bool
    rows: dict[int, JSONObject] = field(default_factory=dict)
    monitors: dict[int, list[int]] = field(default_factory=dict)
    pages: dict[int, list[int]] = field(default_factory=dict)
    slow: timedelta = timedelta()
    _last: int = 0

    def add(self, given: Any) -> int:
        """Add a maintenance. It is stored although the answer may be an error."""
        row = self._row(given)
        self._last += 1
        self.rows[self._last] = row
        self._check_zone(row)
        return self._last

    def edit(self, given: Any) -> int:
        """Write a maintenance."""
        id = given.get("id") if isinstance(given, dict) else None
        if id not in self.rows:
            raise Refused("Cannot read properties of null (reading 'user_id')")
        self.rows[id] = self._row(given)
        self._check_zone(self.rows[id])
        return int(id)

    def delete(self, id: Any) -> None:
        """Delete a maintenance; no error when there is none."""
        for table in (self.rows, self.monitors, self.pages):
            table.pop(id, None)

    def set_active(self, id: Any, *, active: bool) -> None:
        """Pause or resume."""
        if id not in self.rows:
            raise Refused("Maintenance not found")
        self.rows[id]["active"] = active

    def link(self, id: int, given: Iterable[JSONObject], known: Collection[int], *, pages: bool) -> None:
        """Say what a maintenance is for. The old list is gone, and those before an unknown number are stored, when it is refused."""
        table, name = (self.pages, "status_page") if pages else (self.monitors, "monitor")
        table[id] = []
        for one in given:
            if one["id"] not in known or id not in self.rows:
                joint = "maintenance_status_page" if pages else "monitor_maintenance"
                raise Refused(complaint(joint, {"maintenance_id": id, f"{name}_id": one["id"]}, FOREIGN_KEY))
            table[id].append(int(one["id"]))

    def forget(self, number: int, *, pages: bool = False) -> None:
        """Take a deleted monitor or page out of every maintenance."""
        for linked in (self.pages if pages else self.monitors).values():
            if number in linked:
                linked.remove(number)

    def covers(self, monitor: int) -> bool:
        """Say whether a monitor is left in peace now."""
        return any(monitor in self.monitors.get(id, ()) and self._state(row) == "under-maintenance" for id, row in self.rows.items())

    def views(self) -> JSONObject:
        """Give all of them as they are listed. Raises Refused when one cannot be worked out."""
        return {str(id): self.view(id) for id in sorted(self.rows)}

    def view(self, id: int, *, alone: bool = False) -> JSONObject:
        """Give one. ``alone`` is the answer of getMaintenance, which reads the row and not what runs."""
        if id not in self.rows:
            raise Refused("Cannot read properties of null (reading 'toJSON')")
        row = self.rows[id]
        self._check_zone(row)
        repeats = row["strategy"] not in ("manual", "single")
        shown: JSONObject = {key: row[key] for key in ("title", "description", "strategy", "intervalDay", "active")}
        shown |= {"id": id, "dateRange": [row["start"], *([row["end"]] if row["end"] else [])], "timeRange": row["times"]}
        shown |= {"weekdays": row["weekdays"], "daysOfMonth": row["days"], "timeslotList": []}
        if row["strategy"] == "single":
            shown["timeslotList"] = [{"startDate": row["start"], "endDate": row["end"]}]
        if alone and not repeats:
            shown |= {"cron": None, "duration": None, "durationMinutes": 0}
        else:
            seconds = row["minutes"] * 60
            shown |= {
                "cron": row["cron"],
                **({"duration": seconds} if repeats else {}),
                "durationMinutes": row["minutes"] if repeats else None,
            }
        zone = row["zone"] or "UTC"
        real = "UTC" if zone == "SAME_AS_SERVER" else zone
        offset = datetime.now(ZoneInfo(real)).strftime("%z")
        option = row["zone"] if alone else zone
        shown |= {"timezone": real, "timezoneOption": option, "timezoneOffset": f"{offset[:3]}:{offset[3:]}"}
        return {**shown, "status": self._state(row)}

    # -- rows ----------------------------------------------------------------------------------------------------------------

    def _row(self, given: Any) -> JSONObject:
        if not isinstance(given, dict):
            raise Refused("Cannot read properties of null (reading 'id')")
        if "dateRange" not in given:
            raise Refused("Cannot read properties of undefined (reading '0')")
        start, end = (*given["dateRange"], None, None)[:2]
        strategy = str(given["strategy"])
        row = {
            **{key: given.get(key) for key in ("title", "description", "intervalDay")},
            "strategy": strategy,
            "active": bool(given.get("active")),
            "zone": given.get("timezoneOption"),
            "start": self._date(start, "start"),
            "end": self._date(end, "end"),
            "cron": "",
            "minutes": 0,
            "times": [dict(_MIDNIGHT), dict(_MIDNIGHT)],
            "weekdays": [],
            "days": [],
        }
        if strategy == "cron":
            row |= {"cron": given.get("cron"), "minutes": int(given.get("durationMinutes") or 0)}
        if strategy.startswith("recurring-"):
            times = [{**one, "seconds": 0} for one in given["timeRange"]]
            row |= {"times": times, "weekdays": list(given["weekdays"]), "days": list(given["daysOfMonth"])}
            row |= {"cron": _cron(strategy, row, modern=self.modern), "minutes": _minutes(times)}
        if strategy == "recurring-weekday" and not row["weekdays"]:
            raise Refused("CronPattern: configuration entry dayOfWeek () is empty, check for trailing spaces.")
        if (strategy == "cron" or strategy.startswith("recurring-")) and len(str(row["cron"]).split()) not in (5, 6):
            parts = (
                "exactly five or six space separated parts are required."
                if self.modern
                else "exacly five or six space separated parts required."
            )
            raise Refused(f"CronPattern: invalid configuration format ('{row['cron']}'), {parts}")
        return row

    def _date(self, value: Any, which: str) -> Any:
        if not value:
            return None
        try:
            datetime.fromisoformat(str(value))
        except ValueError:
            raise Refused(f"Invalid {which} date" if self.modern else "Invalid time value") from None
        return value

    def _check_zone(self, row: JSONObject) -> None:
        if row["zone"] in (None, "", "SAME_AS_SERVER"):
            return
        try:
            if row["zone"].startswith(("posix", "right/")) or row["zone"] in ("Factory", "localtime"):  # Node knows them not
                raise ZoneInfoNotFoundError
            ZoneInfo(row["zone"])
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise Refused(f"Invalid time zone specified: {row['zone']}" if self.modern else "Invalid time value") from None

    def _state(self, row: JSONObject) -> str:
        if not row["active"]:
            return "inactive"
        if row["strategy"] == "manual":
            return "under-maintenance"
        self._check_zone(row)
        now = datetime.now(ZoneInfo("UTC" if row["zone"] in (None, "", "SAME_AS_SERVER") else row["zone"])).replace(tzinfo=None) - self.slow
        if row["start"] and now < datetime.fromisoformat(row["start"]):
            return "scheduled"
        if row["end"] and now > datetime.fromisoformat(row["end"]):
            return "ended"
        return "under-maintenance" if row["strategy"] == "single" else "scheduled"


def _cron(strategy: str, row: JSONObject, *, modern: bool) -> str:
    begin = row["times"][0]
    first = f"{begin['minutes']} {begin['hours']}"
    if strategy == "recurring-interval":
        return f"{first}  * * *" if modern else f"{first} */{row['intervalDay']} * *"
    if strategy == "recurring-weekday":
        return f"{first} * * {','.join(str(one) for one in sorted(row['weekdays']))}"
    if strategy == "recurring-day-of-month":
        return f"{first} {','.join('L' if one == 'lastDay1' else str(one) for one in row['days'])} * *"
    return ""


def _minutes(times: list[JSONObject]) -> int:
    begin, end = (timedelta(hours=one["hours"], minutes=one["minutes"]) for one in times)
    return int((end - begin).total_seconds() // 60) % (24 * 60)

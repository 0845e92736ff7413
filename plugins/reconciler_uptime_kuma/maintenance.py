"""Maintenances: what a person may wish, what Uptime Kuma stores of it, and back. Pure.

What the server cannot work with it stores all the same, and from then on it refuses its list to everybody: a time zone that it does not
know, a weekly window without a weekday. So all of that is refused here.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from reconciler.resource import JSONObject, ResourceId
from reconciler_uptime_kuma import marks
from reconciler_uptime_kuma.named import DRIVER, Human, Named, Names
from reconciler_uptime_kuma.native import Links

Strategy: TypeAlias = Literal["manual", "single", "recurring-interval", "recurring-weekday", "recurring-day-of-month", "cron"]
Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SAME_AS_SERVER = "SAME_AS_SERVER"
LAST = "lastDay1"
_LOCAL_ZONES = re.compile(r"Factory|localtime|posixrules|(posix|right)/.*")
"""Names in the time zone database of a machine that JavaScript does not know (ECMA-402 takes the names of IANA's Zones and Links)."""

_TIMES = ("window_start", "window_end")
NEEDS: dict[Strategy, tuple[str, ...]] = {
    "manual": (),
    "single": ("start", "end"),
    "recurring-interval": (*_TIMES, "interval_days"),
    "recurring-weekday": (*_TIMES, "weekdays"),
    "recurring-day-of-month": (*_TIMES, "days_of_month"),
    "cron": ("cron", "duration_minutes"),
}
"""For each strategy the fields it needs; ``start`` and ``end`` bound every one that repeats."""
_FIELDS = ("start", "end", *_TIMES, "interval_days", "weekdays", "days_of_month", "cron", "duration_minutes")


def moment(value: str) -> str:
    """Bring a local date and time into the stored spelling, ``YYYY-MM-DD HH:MM:SS``. Raises ValueError for anything else."""
    if not value:
        return ""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        found = None
    if found is None or found.tzinfo is not None or len(value) < len("2026-01-01 00:00"):
        raise ValueError(f"{value!r} is not a date and time; write YYYY-MM-DD HH:MM, and its zone in timezone")
    return found.strftime("%Y-%m-%d %H:%M:%S")


def _clock(value: str) -> str:
    if value and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError(f"{value!r} is not a time of day; write HH:MM")
    return value


def _zone(value: str) -> str:
    if value == SAME_AS_SERVER:
        return value
    try:
        known = bool(ZoneInfo(value)) and not _LOCAL_ZONES.fullmatch(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = False
    if not known:
        raise ValueError(
            f"{value!r} is not a time zone, and would make Uptime Kuma refuse its list; write an IANA name such as Europe/Berlin"
        )
    return value


def _cron(value: str) -> str:
    if value and len(value.split()) not in (5, 6):
        raise ValueError(f"{value!r} is not a cron expression; write five fields, such as 30 3 * * 1")
    return " ".join(value.split())


def _week(days: list[Weekday]) -> list[Weekday]:
    return [one for one in WEEKDAYS if one in days]


def _month(days: list[int | Literal["last"]]) -> list[int | Literal["last"]]:
    numbers = sorted({one for one in days if isinstance(one, int)})
    if bad := [one for one in numbers if not 1 <= one <= 31]:
        raise ValueError(f"{bad[0]} is no day of a month; write 1 to 31, or last")
    return [*numbers, "last"] if "last" in days else [*numbers]


Moment: TypeAlias = Annotated[str, AfterValidator(moment)]
Clock: TypeAlias = Annotated[str, AfterValidator(_clock)]


class Maintenance(Named):
    """A time in which Uptime Kuma announces nothing about some monitors. Shown on the status pages that are named."""

    strategy: Strategy = Field(description="When it is: manual means for as long as it is active.")
    monitors: Names = Field(default=[], description="Names of the Monitors it is for; also the title of one made by hand.")
    pages: Names = Field(default=[], description="Names of the StatusPages that show it.")
    description: Human = Field(default="", description="Text for people; our mark is added below it, which pages do not show.")
    active: bool = Field(default=True, description="Whether it takes place.")
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="IANA name of the zone of all its times, or SAME_AS_SERVER."
    )
    start: Moment = Field(default="", description="When it begins, or from when on it repeats: YYYY-MM-DD HH:MM.")
    end: Moment = Field(default="", description="When it ends, or until when it repeats: YYYY-MM-DD HH:MM.")
    window_start: Clock = Field(default="", description="Time of day at which each one begins, HH:MM.")
    window_end: Clock = Field(
        default="", description="Time of day at which each one ends, HH:MM; earlier than the start means the next day."
    )
    interval_days: int = Field(default=0, ge=0, le=3650, description="Days from one to the next, for recurring-interval.")
    weekdays: Annotated[list[Weekday], AfterValidator(_week)] = Field(default=[], description="Days of the week, mon to sun.")
    days_of_month: Annotated[list[int | Literal["last"]], AfterValidator(_month)] = Field(
        default=[], description="Days of the month, 1 to 31, or last."
    )
    cron: Annotated[str, AfterValidator(_cron)] = Field(default="", description="Cron expression of the beginnings, for cron.")
    duration_minutes: int = Field(default=0, ge=0, description="Minutes that each one lasts, for cron.")

    @model_validator(mode="after")
    def _fits_its_strategy(self) -> Self:
        needed = NEEDS[self.strategy]
        bounded = ("start", "end") if self.strategy not in ("manual", "single") else ()
        kind = f"a maintenance of strategy {self.strategy}"
        faults = [f"{kind} needs {field}" for field in needed if not getattr(self, field)]
        strange = [field for field in _FIELDS if field not in (*needed, *bounded) and getattr(self, field)]
        faults += [f"{kind} has no {field}; leave it out" for field in strange]
        if self.start and self.end and self.end <= self.start:
            faults.append(f"it ends {self.end}, which is not after its start {self.start}")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def requires(self, name: str) -> tuple[ResourceId, ...]:
        """Come after the monitors and the pages that are named."""
        monitors = (ResourceId(DRIVER, "Monitor", one) for one in self.monitors)
        return (*monitors, *(ResourceId(DRIVER, "StatusPage", one) for one in self.pages))


def payload(spec: Maintenance, line: str) -> JSONObject:
    """Give the object that ``addMaintenance`` and ``editMaintenance`` take. ``line`` is the mark."""
    return {
        "title": spec.title,
        "description": marks.join(spec.description, line),
        "strategy": spec.strategy,
        "active": spec.active,
        "intervalDay": spec.interval_days or 1,
        "dateRange": [spec.start or None, spec.end or None],
        "timeRange": [_hours(spec.window_start), _hours(spec.window_end)],
        "weekdays": [(WEEKDAYS.index(one) + 1) % 7 for one in spec.weekdays],
        "daysOfMonth": [LAST if one == "last" else one for one in spec.days_of_month],
        "timezoneOption": spec.timezone,
        "cron": spec.cron,
        "durationMinutes": spec.duration_minutes,
    }


def _hours(clock: str) -> JSONObject:
    hours, _, minutes = (clock or "00:00").partition(":")
    return {"hours": int(hours), "minutes": int(minutes)}


def live(row: JSONObject, links: Links) -> JSONObject:
    """Give the canonical form of a live maintenance; ``row`` has ``monitors`` and ``pages`` beside what is listed.

    Fields that its strategy does not use appear with their defaults, because the server leaves in them what was there before.
    """
    strategy = str(row.get("strategy"))
    used = {*NEEDS.get(strategy, _FIELDS), *(("start", "end") if strategy not in ("manual",) else ())}  # type: ignore[call-overload]  # any text
    dates, times = list(row.get("dateRange") or ()), list(row.get("timeRange") or ())
    found: JSONObject = {
        "start": _spelled(dates[0] if dates else None),
        "end": _spelled(dates[1] if len(dates) > 1 else None),
        "window_start": _time(times[0] if times else None),
        "window_end": _time(times[1] if len(times) > 1 else None),
        "interval_days": int(row.get("intervalDay") or 0),
        "weekdays": [day for number, day in enumerate(WEEKDAYS, 1) if number % 7 in (row.get("weekdays") or ())],
        "days_of_month": _days(row.get("daysOfMonth") or ()),
        "cron": " ".join(str(row.get("cron") or "").split()),
        "duration_minutes": int(row.get("durationMinutes") or 0),
    }
    return {
        "title": str(row.get("title") or "").strip(),
        "strategy": strategy,
        "monitors": sorted(links.parent(id) for id in row["monitors"]),
        "pages": sorted(links.page(id) for id in row["pages"]),
        "description": marks.split(row.get("description"))[0],
        "active": bool(row.get("active")),
        "timezone": str(row.get("timezoneOption") or ""),
        **{field: value if field in used else Maintenance.model_fields[field].default for field, value in found.items()},
    }


def _spelled(value: Any) -> str:
    try:
        return moment(str(value or "").replace("Z", ""))
    except ValueError:
        return str(value)


def _time(value: Any) -> str:
    return f"{int(value.get('hours') or 0):02}:{int(value.get('minutes') or 0):02}" if isinstance(value, dict) else ""


def _days(values: Any) -> list[Any]:
    numbers = sorted({int(one) for one in values if str(one).isdigit()})
    rest = sorted({"last" if one == LAST else str(one) for one in values if not str(one).isdigit()})
    return [*numbers, *rest]

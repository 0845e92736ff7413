from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reconciler.resource import JSONObject
from reconciler_uptime_kuma.maintenance import NEEDS, WEEKDAYS, Maintenance, live, moment, payload
from reconciler_uptime_kuma.native import Links

NOBODY = Links("lab/mail", [], [])
MARK = "<!-- reconciler:lab/mail:Maintenance/updates -->"


def maintenance(name: str = "updates", **spec: Any) -> Maintenance:
    return Maintenance.from_document({"metadata": {"name": name}, "spec": spec})[1]


def stored(spec: Maintenance) -> JSONObject:
    """The row that a server keeps of what it is sent."""
    sent = payload(spec, MARK)
    return {**sent, "id": 1, "monitors": (), "pages": ()}


VALUES: dict[str, Any] = {
    "start": "2030-01-01 10:00",
    "end": "2030-01-02 10:00",
    "window_start": "23:00",
    "window_end": "01:30",
    "interval_days": 3,
    "weekdays": ["sun", "mon"],
    "days_of_month": ["last", 31, 1],
    "cron": "30  3 * * 1",
    "duration_minutes": 45,
}


@pytest.mark.parametrize("strategy", sorted(NEEDS))
def test_what_is_written_is_read_back_as_wanted(strategy: Any) -> None:
    spec = maintenance(strategy=strategy, description="why", timezone="Europe/Sofia", **{one: VALUES[one] for one in NEEDS[strategy]})
    assert live(stored(spec), NOBODY) == spec.canonical(lambda ref: "")


@pytest.mark.parametrize("strategy", sorted(NEEDS))
def test_what_a_server_keeps_of_an_earlier_strategy_is_no_drift(strategy: Any) -> None:
    spec = maintenance(strategy=strategy, **{one: VALUES[one] for one in NEEDS[strategy]})
    row = stored(spec)
    left = {"intervalDay": 7, "weekdays": [1], "daysOfMonth": [5], "cron": "0 2 * * 1", "durationMinutes": 90}
    kept = {"intervalDay": "interval_days", "weekdays": "weekdays", "daysOfMonth": "days_of_month", "cron": "cron"}
    row |= {key: value for key, value in left.items() if kept.get(key, "duration_minutes") not in NEEDS[strategy]}
    assert live(row, NOBODY) == spec.canonical(lambda ref: "")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"strategy": "single"}, "needs start"),
        ({"strategy": "manual", "start": "2030-01-01 10:00"}, "has no start"),
        ({"strategy": "single", "start": "2030-01-02 10:00", "end": "2030-01-01 10:00"}, "not after its start"),
        ({"strategy": "single", "start": "tomorrow", "end": "2030-01-01 10:00"}, "write YYYY-MM-DD HH:MM"),
        ({"strategy": "single", "start": "2030-01-01", "end": "2030-01-03 10:00"}, "write YYYY-MM-DD HH:MM"),
        ({"strategy": "single", "start": "2030-01-01T10:00Z", "end": "2030-01-03 10:00"}, "its zone in timezone"),
        ({"strategy": "recurring-weekday", "window_start": "02:00", "window_end": "03:00"}, "needs weekdays"),
        ({"strategy": "recurring-weekday", "window_start": "24:00", "window_end": "03:00", "weekdays": ["mon"]}, "write HH:MM"),
        (
            {"strategy": "recurring-day-of-month", "window_start": "02:00", "window_end": "03:00", "days_of_month": [32]},
            "no day of a month",
        ),
        ({"strategy": "cron", "cron": "3 3 * *", "duration_minutes": 5}, "write five fields"),
        ({"strategy": "cron", "cron": "3 3 * * *"}, "needs duration_minutes"),
        ({"strategy": "manual", "timezone": "Europe/Nowhere"}, "would make Uptime Kuma refuse its list"),
        ({"strategy": "manual", "timezone": "right/Europe/Sofia"}, "would make Uptime Kuma refuse its list"),
        ({"strategy": "manual", "timezone": "Factory"}, "would make Uptime Kuma refuse its list"),
        ({"strategy": "sometimes"}, "Input should be 'manual'"),
        ({"strategy": "manual", "description": "reconciler:lab/mail:Maintenance/x"}, "must not contain a mark"),
    ],
)
def test_a_wish_that_a_server_would_stumble_over_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        maintenance(**spec)


def test_comes_after_its_monitors_and_its_pages() -> None:
    needed = maintenance(strategy="manual", monitors=["b", "a"], pages=["p"]).requires("updates")
    assert [str(one) for one in needed] == ["uptime-kuma/Monitor/a", "uptime-kuma/Monitor/b", "uptime-kuma/StatusPage/p"]


def test_a_row_with_null_and_odd_values_is_read_without_failing() -> None:
    odd = {"id": 1, "strategy": None, "dateRange": [None], "timeRange": None, "weekdays": None, "daysOfMonth": ["lastDay2", "x"]}
    assert live({**odd, "monitors": [4], "pages": [5]}, NOBODY)["monitors"] == ["#4"]
    single = {"strategy": "single", "dateRange": ["2030-01-01T10:00:00.000Z", "when"], "monitors": (), "pages": ()}
    assert (live(single, NOBODY)["start"], live(single, NOBODY)["end"]) == ("2030-01-01 10:00:00", "when")


@given(when=st.datetimes(min_value=datetime(1000, 1, 1)))
def test_a_moment_has_one_spelling(when: Any) -> None:
    said = moment(when.isoformat())
    assert moment(said) == said == when.strftime("%Y-%m-%d %H:%M:%S")


@given(days=st.lists(st.sampled_from(WEEKDAYS), min_size=1))
def test_weekdays_are_a_set_in_the_order_of_the_week(days: list[Any]) -> None:
    spec = maintenance(strategy="recurring-weekday", window_start="01:00", window_end="02:00", weekdays=days)
    assert spec.weekdays == [day for day in WEEKDAYS if day in days]
    assert live(stored(spec), NOBODY)["weekdays"] == spec.weekdays

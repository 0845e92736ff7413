"""The pace of one credential, and what the vendor's library is told."""

import pytest

from reconciler.errors import Transient
from reconciler_cloudflare.config import OFFICIAL, Config
from reconciler_cloudflare.pace import BURST, Pace, pace_of


class Clock:
    """A clock that stands still until somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


def paced(clock: Clock, rate: float = 4) -> Pace:
    pace = Pace(clock=clock, sleep=clock.sleep)
    pace.join(clock, rate)
    return pace


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_passes_and_what_follows_is_spread(clock: Clock) -> None:
    pace = paced(clock)
    for _ in range(int(BURST)):
        pace.enter()
    assert clock.slept == 0
    for _ in range(8):
        pace.enter()
    assert clock.slept == pytest.approx(2)


def test_silence_is_saved_up_but_only_to_one_burst(clock: Clock) -> None:
    pace = paced(clock)
    clock.now += 3600
    for _ in range(int(BURST) + 1):
        pace.enter()
    assert clock.slept == pytest.approx(0.25)


def test_a_stop_refuses_every_call_until_it_is_over(clock: Clock) -> None:
    pace = paced(clock)
    pace.stop(30)
    with pytest.raises(Transient) as error:
        pace.enter()
    assert error.value.retry_after == 30
    clock.now += 30
    pace.enter()


def test_few_calls_left_are_spread_over_the_servers_window(clock: Clock) -> None:
    pace = paced(clock)
    pace.heed(10, 20.0)
    for _ in range(12):
        pace.enter()
    assert clock.slept == pytest.approx(4)
    pace.heed(1000, 300.0)
    for _ in range(4):
        pace.enter()
    assert clock.slept == pytest.approx(4)


def test_no_call_left_is_a_stop(clock: Clock) -> None:
    pace = paced(clock)
    pace.heed(0, 7.0)
    with pytest.raises(Transient) as error:
        pace.enter()
    assert error.value.retry_after == 7


def test_targets_with_one_credential_share_one_pace_and_a_stop_of_one_stops_the_other() -> None:
    first, second, other = (pace_of(OFFICIAL, token) for token in ("one", "one", "two"))
    elsewhere = pace_of("https://elsewhere.example/client/v4", "one")
    for pace in (first, other, elsewhere):
        pace.join(pace, 4)
    first.stop(30)
    with pytest.raises(Transient, match="too many requests"):
        second.enter()
    other.enter()
    elsewhere.enter()


def test_the_smallest_rate_of_those_who_hold_a_credential_counts_until_they_leave(clock: Clock) -> None:
    pace = paced(clock, 8)
    slow = Clock()
    pace.join(slow, 2)
    for _ in range(int(BURST) + 4):
        pace.enter()
    assert clock.slept == pytest.approx(2)
    pace.heed(1000, 300.0)
    pace.enter()
    assert clock.slept == pytest.approx(2.5), "though the server would have let it go faster"
    pace.leave(slow)
    for _ in range(3 + 8):
        pace.enter()
    assert clock.slept == pytest.approx(3.5), "three that half a second allowed, and then eight a second"


def test_the_settings_have_safe_defaults_and_hide_the_token() -> None:
    config = Config.model_validate({"token": "secret-value", "zones": {"Example.COM.": ""}})
    assert config.base_url == OFFICIAL
    assert config.zones == {"example.com": ""}
    assert "secret-value" not in repr(config)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Config.model_fields.values())

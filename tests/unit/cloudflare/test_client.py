"""The pace of one credential, and what the vendor's library is told."""

import pytest

from reconciler.errors import Transient
from reconciler_cloudflare.client import BURST, Pace
from reconciler_cloudflare.config import OFFICIAL, Config


class Clock:
    """A clock that stands still until somebody sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_passes_and_what_follows_is_spread(clock: Clock) -> None:
    pace = Pace(4, clock=clock, sleep=clock.sleep)
    for _ in range(int(BURST)):
        pace.enter()
    assert clock.slept == 0
    for _ in range(8):
        pace.enter()
    assert clock.slept == pytest.approx(2)


def test_silence_is_saved_up_but_only_to_one_burst(clock: Clock) -> None:
    pace = Pace(4, clock=clock, sleep=clock.sleep)
    clock.now += 3600
    for _ in range(int(BURST) + 1):
        pace.enter()
    assert clock.slept == pytest.approx(0.25)


def test_a_stop_refuses_every_call_until_it_is_over(clock: Clock) -> None:
    pace = Pace(4, clock=clock, sleep=clock.sleep)
    pace.stop(30)
    with pytest.raises(Transient) as error:
        pace.enter()
    assert error.value.retry_after == 30
    clock.now += 30
    pace.enter()


def test_few_calls_left_are_spread_over_the_servers_window(clock: Clock) -> None:
    pace = Pace(4, clock=clock, sleep=clock.sleep)
    pace.heed(10, 20.0)
    for _ in range(12):
        pace.enter()
    assert clock.slept == pytest.approx(4)
    pace.heed(1000, 300.0)
    for _ in range(4):
        pace.enter()
    assert clock.slept == pytest.approx(4)


def test_no_call_left_is_a_stop(clock: Clock) -> None:
    pace = Pace(4, clock=clock, sleep=clock.sleep)
    pace.heed(0, 7.0)
    with pytest.raises(Transient) as error:
        pace.enter()
    assert error.value.retry_after == 7


def test_the_settings_have_safe_defaults_and_hide_the_token() -> None:
    config = Config.model_validate({"token": "secret-value", "zones": {"Example.COM.": ""}})
    assert config.base_url == OFFICIAL
    assert config.zones == {"example.com": ""}
    assert "secret-value" not in repr(config)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Config.model_fields.values())

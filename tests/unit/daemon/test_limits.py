"""How much one stranger may ask for, and what was seen before: it passes with time, and no flood makes it grow."""

import pytest

from reconciler.daemon.http import limits
from reconciler.daemon.http.limits import MOST, PACE, Seen, Strikes, origin


def struck(strikes: Strikes, address: str, times: int = MOST, *, at: float = 0.0) -> Strikes:
    for _ in range(times):
        strikes.strike(address, at)
    return strikes


class TestStrikes:
    def test_let_an_address_speak_until_it_was_refused_too_often_and_again_when_one_is_forgiven(self) -> None:
        assert struck(Strikes(), "192.0.2.1", MOST - 1).wait("192.0.2.1", 0.0) == 0
        strikes = struck(Strikes(), "192.0.2.1")
        assert strikes.wait("192.0.2.1", 0.0) == pytest.approx(PACE)
        assert strikes.wait("192.0.2.1", PACE / 2) == pytest.approx(PACE / 2)
        assert strikes.wait("192.0.2.1", PACE) == 0

    def test_are_one_address_s_own(self) -> None:
        strikes = struck(Strikes(), "192.0.2.1")
        assert strikes.wait("192.0.2.2", 0.0) == 0

    def test_count_a_home_s_ipv6_as_one_stranger(self) -> None:
        strikes = struck(Strikes(), "2001:db8:0:1::1")
        assert strikes.wait("2001:db8:0:1:ffff::2", 0.0) > 0
        assert strikes.wait("2001:db8:0:2::1", 0.0) == 0
        assert origin("a proxy's socket") == "a proxy's socket"

    def test_remember_the_latest_strangers_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "PEOPLE", 2)
        strikes = Strikes()
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
            struck(strikes, address)
        assert [strikes.wait(f"192.0.2.{number}", 0.0) > 0 for number in (1, 2, 3)] == [True, False, True]


class TestSeen:
    def test_knows_an_id_again_within_its_time_and_not_after(self) -> None:
        seen = Seen(10.0)
        assert [seen.again("a", now) for now in (0.0, 9.0, 10.0, 19.0, 20.0)] == [False, True, False, True, False]

    def test_remembers_the_latest_ids_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "PEOPLE", 2)
        seen = Seen(10.0)
        assert [seen.again(id, 0.0) for id in ("a", "b", "c")] == [False] * 3
        assert [seen.again(id, 0.0) for id in ("b", "c", "a")] == [True, True, False]

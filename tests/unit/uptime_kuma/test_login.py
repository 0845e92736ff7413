"""The login: token first, the password kept back after a refusal, and nothing said aloud."""

import asyncio
from typing import Any

import pytest

from reconciler.errors import Permanent, Transient
from reconciler.resource import JSONObject
from reconciler_uptime_kuma.answers import TooMany, accepted
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.login import SocketLogin, shared_login


class Line:
    """A connection that answers as it is told, in order."""

    def __init__(self, *answers: JSONObject | Exception) -> None:
        self.answers, self.sent = list(answers), list[tuple[str, Any]]()

    async def emit(self, event: str, *args: Any) -> JSONObject:
        self.sent.append((event, args[0]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return accepted("kuma", event, answer)

    async def until(self, *events: str) -> None:
        self.sent.append(("until", events[0]))


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def enter(login: SocketLogin, *answers: JSONObject | Exception) -> list[str]:
    line = Line(*answers)
    try:
        asyncio.run(login.enter(line))
    finally:
        enter.sent = [event for event, _ in line.sent]  # type: ignore[attr-defined]
    return [event for event, _ in line.sent]


def sent() -> list[str]:
    return list(enter.sent)  # type: ignore[attr-defined]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def login(time: Time) -> SocketLogin:
    return SocketLogin(UptimeKumaConfig(url="http://kuma", username="u", password="p4ssw0rd"), time)  # type: ignore[arg-type]


WELCOME = {"ok": True, "token": "t0ken"}
NO = {"ok": False, "msg": "authIncorrectCreds"}
BUSY = {"ok": False, "msg": "Too frequently, try again later."}


def test_the_password_is_used_once_and_the_token_from_then_on(login: SocketLogin) -> None:
    assert enter(login, WELCOME) == ["login"]
    assert enter(login, {"ok": True}) == ["loginByToken"]


def test_a_token_that_became_worthless_is_forgotten(login: SocketLogin) -> None:
    enter(login, WELCOME)
    assert enter(login, {"ok": False, "msg": "authInvalidToken"}, WELCOME) == ["loginByToken", "login"]


def test_a_token_is_not_forgotten_because_a_connection_was_lost(login: SocketLogin) -> None:
    enter(login, WELCOME)
    with pytest.raises(Transient):
        enter(login, Transient("lost"))
    assert enter(login, {"ok": True}) == ["loginByToken"]


@pytest.mark.parametrize(("answer", "kind"), [(NO, Permanent), (BUSY, Transient)])
def test_after_a_refusal_nothing_is_sent_for_a_minute(login: SocketLogin, time: Time, answer: JSONObject, kind: type[Exception]) -> None:
    with pytest.raises(kind) as first:
        enter(login, answer)
    time.now = 59.0
    with pytest.raises(kind) as second:
        enter(login)
    assert sent() == []
    assert "p4ssw0rd" not in f"{first.value}{second.value}"
    if isinstance(second.value, Transient):
        assert second.value.retry_after == 1.0
    else:
        assert str(second.value).endswith("it is tried again in 1 s at the earliest, because logins are limited")
    time.now = 60.0
    assert enter(login, WELCOME) == ["login"]
    time.now = 61.0
    assert enter(login, {"ok": True}) == ["loginByToken"]


def test_a_lost_connection_is_no_refusal(login: SocketLogin) -> None:
    with pytest.raises(Transient):
        enter(login, Transient("lost"))
    assert enter(login, WELCOME) == ["login"]


def test_a_second_factor_is_asked_for_once_a_minute_at_most(login: SocketLogin) -> None:
    for answers in (({"tokenRequired": True},), ()):
        with pytest.raises(Permanent, match="second factor"):
            enter(login, *answers)
    assert sent() == []


def test_without_a_user_nothing_is_sent() -> None:
    assert enter(SocketLogin(UptimeKumaConfig(url="http://kuma"))) == ["until"]


def test_connections_with_the_same_settings_share_one_login() -> None:
    settings = {"url": "http://kuma", "username": "u", "password": "p"}
    first, second = (UptimeKumaConfig.model_validate(settings) for _ in range(2))
    assert shared_login(first) is shared_login(second)
    assert shared_login(first) is not shared_login(UptimeKumaConfig.model_validate({**settings, "password": "q"}))


def test_too_many_logins_are_told_from_other_refusals() -> None:
    with pytest.raises(TooMany):
        accepted("kuma", "login", BUSY)

"""New settings behind doors that stay where they are: who is heard from the next request on, and what nobody is forgiven."""

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from reconciler.daemon.http import limits
from reconciler.daemon.http.door import Door
from reconciler.daemon.http.slack import PATH
from tests.unit.daemon.test_reload import CANARY, Place

OLD, NEW = f"{CANARY}-of-the-old-one", f"{CANARY}-of-the-new-one"
STACKS = "/api/v1/stacks"
USERS = {"U0123ABCD": "ada"}


def token(text: str, role: str = "operate") -> dict[str, Any]:
    return {"on-call": {"token": text, "role": role}}


def sender(*secrets: str, **more: Any) -> dict[str, Any]:
    return {"forge": {"scheme": "github", "secrets": list(secrets), **more}}


def slack(secret: str) -> dict[str, Any]:
    return {"slack": {"bot_token": f"xoxb-{CANARY}", "channel": "C0123ABCD", "users": USERS, "signing_secret": secret}}


HTTP: dict[str, Any] = {"listen": "127.0.0.1:8080", "tokens": token(OLD), "webhooks": sender(OLD)}


class Client:
    """Hands requests to what is behind a door that is never opened."""

    def __init__(self, place: Place, door: int, address: str) -> None:
        behind = place.daemon.doors[door]
        assert isinstance(behind, Door)
        transport = httpx.ASGITransport(behind.app, client=(address, 1))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://daemon.example.org")

    async def _get(self, path: str, shown: str, headers: Mapping[str, str]) -> int:
        return (await self.client.get(path, headers={"authorization": f"Bearer {shown}", **headers} if shown else headers)).status_code

    def get(self, path: str, shown: str = "", **headers: str) -> int:
        return asyncio.run(self._get(path, shown, headers))

    def hook(self, secret: str, number: int = 0, body: bytes = b"", **headers: str) -> tuple[int, str]:
        """Send a signed push; give the status, and what became of it where that is said."""
        content = body or push(number)

        async def sent() -> tuple[int, str]:
            answer = await self.client.post("/webhooks/forge", content=content, headers={**signed(secret, content), **headers})
            return answer.status_code, answer.json().get("result", "") if answer.content else ""

        return asyncio.run(sent())

    def press(self, secret: str, at: int | None = None) -> int:
        """Send a press of nothing."""
        body, stamp = b"payload=%7B%7D", str(int(time.time()) if at is None else at)
        seal = hmac.new(secret.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
        headers = {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={seal}"}

        async def sent() -> int:
            return (await self.client.post(PATH, content=body, headers=headers)).status_code

        return asyncio.run(sent())


def push(number: int = 0) -> bytes:
    return json.dumps({"ref": "refs/heads/main", "number": number}).encode()


def signed(secret: str, body: bytes) -> dict[str, str]:
    seal = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-github-event": "push", "x-hub-signature-256": f"sha256={seal}", "content-type": "application/json"}


class Doors(Place):
    """A place whose daemon has doors."""

    def __init__(self, folder: Path, http: Mapping[str, Any], **sections: Any) -> None:
        self.http = dict(http)
        super().__init__(folder, http=self.http, **sections)

    def client(self, door: int = -1, address: str = "198.51.100.7") -> Client:
        return Client(self, door, address)

    def take(self, **http: Any) -> bool:
        """Write other settings of http, without those that are None, and have them read."""
        self.http = {name: value for name, value in {**self.http, **http}.items() if value is not None}
        self.write(http=self.http)
        return self.reloader.turn()


@pytest.fixture
def place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Doors]:
    yield from opened(tmp_path, caplog, HTTP)


def opened(folder: Path, caplog: pytest.LogCaptureFixture, http: Mapping[str, Any], **sections: Any) -> Iterator[Doors]:
    caplog.set_level(logging.INFO, logger="reconciler")
    made = Doors(folder, http, **sections)
    yield made
    made.store.close()
    assert CANARY not in caplog.text


class TestTokens:
    def test_one_that_was_exchanged_in_its_file_is_refused_from_the_next_request_on(self, place: Doors, tmp_path: Path) -> None:
        file, client = tmp_path / "on-call", place.client()
        file.write_text(OLD)
        assert place.take(tokens=token(f"file:{file}")) is False, "the same token from elsewhere is no change"
        assert client.get(STACKS, OLD) == 200
        file.write_text(NEW)
        assert place.reloader.turn()
        assert [client.get(STACKS, one) for one in (OLD, NEW)] == [401, 200]

    def test_a_role_that_was_taken_away_is_gone(self, place: Doors) -> None:
        async def triggered() -> int:
            answer = await client.client.post("/api/v1/stacks/mail/trigger", headers={"authorization": f"Bearer {OLD}"})
            return answer.status_code

        client = place.client()
        assert asyncio.run(triggered()) == 404, "there is no such stack"
        assert place.take(tokens=token(OLD, "read"))
        assert asyncio.run(triggered()) == 403

    def test_without_any_there_is_no_api_for_this_machine_alone_as_at_a_start(self, place: Doors) -> None:
        client = place.client()
        assert client.get("/metrics") == 401
        assert place.take(tokens=None)
        assert (client.get(STACKS, OLD), client.get("/metrics")) == (404, 200)
        assert place.take(tokens=token(NEW))
        assert (client.get(STACKS, NEW), client.get("/metrics")) == (200, 401)

    def test_metrics_can_be_opened_and_closed(self, place: Doors) -> None:
        client = place.client()
        assert place.take(metrics="open")
        assert client.get("/metrics") == 200
        assert place.take(metrics="token")
        assert client.get("/metrics") == 401

    def test_nobody_is_forgiven_wrong_ones_by_new_settings(self, place: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "PACE", 3600.0)
        client = place.client()
        assert [client.get(STACKS, "wrong") for _ in range(30)] == [401] * 30
        for number in range(3):
            assert place.take(tokens=token(f"{NEW}-{number}"))
            assert client.get(STACKS, f"{NEW}-{number}") == 429
        assert place.client(address="203.0.113.9").get(STACKS, f"{NEW}-2") == 200


class TestWebhooks:
    def test_a_secret_is_changed_by_way_of_two(self, place: Doors) -> None:
        client = place.client()
        believed = []
        for number, secrets in enumerate([(OLD,), (NEW, OLD), (NEW,)]):
            place.take(webhooks=sender(*secrets))
            believed.append([client.hook(one, 2 * number + more)[0] for more, one in enumerate((OLD, NEW))])
        assert believed == [[202, 401], [202, 202], [401, 202]]

    def test_what_was_taken_before_the_change_is_known_after_it(self, place: Doors) -> None:
        client = place.client()
        assert client.hook(OLD) == (202, "accepted")
        assert place.take(webhooks=sender(NEW, OLD))
        assert client.hook(OLD) == (202, "repeated")
        assert place.take(webhooks=None)
        assert client.hook(OLD)[0] == 404
        assert place.take(webhooks=sender(OLD))
        assert client.hook(OLD) == (202, "repeated")
        assert client.hook(OLD, 1) == (202, "accepted")

    def test_nobody_is_forgiven_forged_ones_by_new_settings(self, place: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "PACE", 3600.0)
        client = place.client()
        assert [client.hook("forged")[0] for _ in range(30)] == [401] * 30
        assert place.take(webhooks=sender(NEW))
        assert client.hook(NEW)[0] == 429
        assert place.client(address="203.0.113.9").hook(NEW) == (202, "accepted")

    def test_which_branch_and_how_large_counts_at_once(self, place: Doors) -> None:
        client = place.client()
        assert place.take(webhooks=sender(OLD, branch="next"), max_body=2000)
        assert client.hook(OLD) == (202, "ignored")
        assert client.hook(OLD, body=b" " * 3000)[0] == 413

    def test_one_that_is_under_way_ends_on_the_settings_that_it_began_with(self, place: Doors) -> None:
        client, body = place.client(), push()

        async def play() -> int:
            begun, changed = asyncio.Event(), asyncio.Event()

            async def chunks() -> AsyncIterator[bytes]:
                yield body[:5]
                begun.set()
                await changed.wait()
                yield body[5:]

            sent = asyncio.create_task(client.client.post("/webhooks/forge", content=chunks(), headers=signed(OLD, body)))
            await begun.wait()
            assert place.take(webhooks=sender(NEW))
            other = await client.client.post("/webhooks/forge", content=push(1), headers=signed(OLD, push(1)))
            assert other.status_code == 401
            changed.set()
            return (await sent).status_code

        assert asyncio.run(play()) == 202

    def test_what_strangers_have_us_hold_is_counted_over_the_change(self, place: Doors) -> None:
        assert place.take(max_body=25_000_000)
        client, large = place.client(), b"x" * 20_000_000

        async def play() -> tuple[int, int]:
            begun, changed = asyncio.Event(), asyncio.Event()

            async def chunks() -> AsyncIterator[bytes]:
                yield large
                begun.set()
                await changed.wait()

            sent = asyncio.create_task(client.client.post("/webhooks/forge", content=chunks(), headers=signed(OLD, large)))
            await begun.wait()
            assert place.take(deadline=20)
            second = await client.client.post("/webhooks/forge", content=large, headers=signed(OLD, large))
            changed.set()
            return (await sent).status_code, second.status_code

        assert asyncio.run(play()) == (400, 503), "the first is believed, though it is no push"

    def test_whom_to_believe_about_addresses_counts_at_once(self, place: Doors, caplog: pytest.LogCaptureFixture) -> None:
        client = place.client()
        forwarded = {"x-forwarded-for": "203.0.113.9"}
        client.hook("forged", **forwarded)
        assert "for forge from 198.51.100.7 is refused" in caplog.text
        assert place.take(trusted_proxies=["198.51.100.0/24"])
        client.hook("forged", **forwarded)
        assert "for forge from 203.0.113.9 is refused" in caplog.text
        caplog.clear()
        assert place.take(trusted_proxies=None)
        client.hook("forged", **forwarded)
        assert "for forge from 198.51.100.7 is refused" in caplog.text


class TestButtons:
    def test_come_change_and_go_and_what_came_before_stays_known(self, place: Doors) -> None:
        client = place.client()
        assert client.press(OLD) == 404
        place.write(notify=slack(OLD))
        assert place.reloader.turn()
        now = int(time.time())
        assert [client.press(OLD, now), client.press(OLD, now), client.press(NEW)] == [200, 401, 401]
        place.write(notify=slack(NEW))
        assert place.reloader.turn()
        assert [client.press(OLD, now + 1), client.press(NEW)] == [401, 200]
        place.write(notify=slack(""))
        assert place.reloader.turn()
        assert [client.press(NEW, now + 1), client.press("", now + 1)] == [404, 404]
        place.write(notify=slack(OLD))
        assert place.reloader.turn()
        assert client.press(OLD, now) == 401, "it came once"

    def test_who_carries_out_what_they_ask_of_git_is_there_from_the_start(self, place: Doors) -> None:
        stop = Event()
        thread = Thread(target=place.daemon.aside["offers"], args=(stop,), daemon=True)
        thread.start()
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive(), "and ends, though nobody ever asked"


class TestRefusing:
    @pytest.mark.parametrize(
        ("http", "said"),
        [
            ({"tokens": token("short")}, "at least 20"),
            ({"webhooks": sender("")}, "secrets.0 is empty"),
            ({"webhooks": sender("a", "b", "c")}, "at most 2"),
            ({"webhooks": sender("file:/nowhere/secret")}, "/nowhere/secret cannot be read"),
            ({"tokens": token(NEW) | {"other": {"token": NEW}}}, "two of the tokens are the same"),
            ({"trusted_proxies": ["everybody"]}, "everybody"),
        ],
    )
    def test_settings_that_would_not_do_for_a_start_leave_who_is_heard_as_it_was(
        self, place: Doors, caplog: pytest.LogCaptureFixture, http: dict[str, Any], said: str
    ) -> None:
        client = place.client()
        before = place.now.http
        assert not place.take(**http)
        assert said in caplog.text
        assert "the settings stay as they were" in caplog.text
        assert place.now.http is before
        assert (client.get(STACKS, OLD), client.hook(OLD)) == (200, (202, "accepted"))

    def test_the_last_token_is_not_dropped_where_others_can_reach_the_door(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for place in opened(tmp_path, caplog, {**HTTP, "listen": "0.0.0.0:8080"}):
            client = place.client()
            assert not place.take(tokens=None)
            assert "listen 0.0.0.0:8080 can be reached from other machines; set http.tokens" in caplog.text
            assert [client.get("/metrics"), client.get(STACKS), client.get(STACKS, OLD)] == [401, 401, 200]

    def test_nor_is_it_when_another_address_is_named_which_counts_after_a_restart(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for place in opened(tmp_path, caplog, {**HTTP, "listen": "0.0.0.0:8080"}):
            client = place.client()
            assert place.take(listen="127.0.0.1:8080", tokens=None, webhooks=sender(NEW))
            assert "http.listen: 0.0.0.0:8080 until a restart, then 127.0.0.1:8080" in caplog.text
            assert "http stays as it was until a restart: listen 0.0.0.0:8080 can be reached from other machines" in caplog.text
            assert "after a restart only: http.listen, http.tokens.on-call, http.webhooks.forge.secrets" in caplog.text
            assert [client.get("/metrics"), client.get(STACKS), client.get(STACKS, OLD)] == [401, 401, 200]
            assert place.take(tokens=token(NEW)), "with a token they do for both addresses"
            assert [client.get(STACKS, OLD), client.get(STACKS, NEW)] == [401, 200]


class TestAddresses:
    def test_stay_until_a_restart_which_is_said_while_the_rest_is_taken(self, place: Doors, caplog: pytest.LogCaptureFixture) -> None:
        client = place.client()
        assert place.take(listen="127.0.0.1:9090", webhook_listen="127.0.0.1:9091", webhooks=sender(NEW))
        assert "http.listen: 127.0.0.1:8080 until a restart, then 127.0.0.1:9090" in caplog.text
        assert "http.webhook_listen: nowhere until a restart, then 127.0.0.1:9091" in caplog.text
        assert "after a restart only: http.listen, http.webhook_listen\n" in caplog.text
        assert (place.now.http.listen, place.now.http.webhook_listen) == ("127.0.0.1:8080", "")
        assert [client.hook(OLD)[0], client.hook(NEW)[0]] == [401, 202], "as long, at the one door there is"

    def test_that_are_two_keep_inside_and_outside_apart(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        for place in opened(tmp_path, caplog, {**HTTP, "webhook_listen": "127.0.0.1:8081"}):
            outside, inside = place.client(0), place.client(1)
            assert place.take(webhooks=sender(NEW), tokens=token(NEW))
            assert [outside.hook(OLD)[0], outside.hook(NEW)[0], inside.hook(NEW)[0]] == [401, 202, 404]
            assert [outside.get(one, NEW) for one in ("/metrics", STACKS, "/healthz")] == [404] * 3
            assert [inside.get(STACKS, one) for one in (OLD, NEW)] == [401, 200]

    def test_of_a_daemon_that_listens_nowhere_make_all_of_http_wait_and_nothing_else(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for place in opened(tmp_path, caplog, {}):
            assert not place.daemon.doors
            place.write(notify=slack(NEW), engine={"attempts": 9})
            assert place.take(listen="127.0.0.1:8080", tokens=token(NEW), webhooks=sender(NEW))
            assert "http stays as it was until a restart: nothing listens yet" in caplog.text
            assert "http.tokens.on-call, http.webhooks.forge, notify.slack.signing_secret\n" in caplog.text
            assert place.now.engine.attempts == 9
            assert place.now.notify.slack.channel == "C0123ABCD"
            assert not place.now.notify.slack.signing_secret.get_secret_value(), "a button that nobody hears is none"
            assert not place.daemon.doors

"""Webhooks over real sockets: who is believed, who is not, what a stranger can cost, and that a hint is never lost."""

import itertools
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.daemon.http import door, limits, webhooks
from reconciler.daemon.http.bodies import Bodies, Room
from reconciler.daemon.http.config import Http
from tests.e2e.http_house import Served
from tests.unit.daemon.test_schemes import SCHEMES, SECRET, secret_of, signed

PUSH: dict[str, Any] = {"ref": "refs/heads/main", "repository": {"full_name": "me/infra"}, "project": {"path_with_namespace": "me/infra"}}
BODY = json.dumps(PUSH).encode()
EVENTS = {"github": "x-github-event", "gitea": "x-gitea-event", "forgejo": "x-forgejo-event", "bitbucket": "x-event-key"}
SENDERS = {name: {"scheme": name, "secrets": [secret_of(name)]} for name in SCHEMES}


def proof(scheme: str, body: bytes = BODY, **more: Any) -> dict[str, str]:
    """The headers of a push that is signed now."""
    event = {"bitbucket": "repo:push"}.get(scheme, "push")
    named = {EVENTS[scheme]: event} if scheme in EVENTS else {}
    return {**named, **signed(scheme, body, **{"at": time.time(), **more}), "content-type": "application/json"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    senders = {**SENDERS, "one": {"scheme": "github", "secrets": [SECRET], "repository": "me/infra", "branch": "main"}}
    with Served(tmp_path, webhooks=senders, deadline=0.6, max_body=100_000) as made:
        yield made


def until(served: Served, pokes: int) -> None:
    end = time.monotonic() + 5
    while len(served.pokes) < pokes and time.monotonic() < end:
        time.sleep(0.02)
    assert len(served.pokes) == pokes


def request(head: str, body: bytes = b"") -> bytes:
    return head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_signed_push_of_each_sender_is_taken_at_once_and_makes_us_look(served: Served, scheme: str) -> None:
    began = time.monotonic()
    answer = served.hook(scheme, BODY, proof(scheme))
    assert (answer.status_code, answer.json()) == (202, {"result": "accepted"})
    assert time.monotonic() - began < 0.5
    assert len(served.pokes) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_whoever_does_not_prove_it_learns_the_status_and_nothing_else(served: Served, scheme: str) -> None:
    strangers = [{}, proof(scheme, secret="whsec_b3RoZXI=" if scheme == "standard-webhooks" else "forged"), {"authorization": "Bearer x"}]
    for headers in strangers:
        answer = served.hook(scheme, BODY, headers)
        assert (answer.status_code, answer.content) == (401, b"")
    assert served.pokes == []


def test_a_header_that_is_there_twice_is_refused(served: Served) -> None:
    headers = [*proof("github").items(), ("x-hub-signature-256", proof("github")["x-hub-signature-256"])]
    assert served.hook("github", BODY, headers).status_code == 401


def test_the_scheme_is_the_configured_one_whatever_headers_are_there(served: Served) -> None:
    gitea = {**proof("gitea"), **proof("github", secret="forged")}
    assert served.hook("gitea", BODY, gitea).status_code == 202
    assert served.hook("github", BODY, gitea).status_code == 401


@pytest.mark.parametrize(("scheme", "event"), [("github", "ping"), ("bitbucket", "diagnostics:ping")])
def test_a_signed_ping_is_answered_and_makes_nobody_look(served: Served, scheme: str, event: str) -> None:
    body = b'{"zen": "Keep it logically awesome."}'
    answer = served.hook(scheme, body, {**proof(scheme, body), EVENTS[scheme]: event})
    assert (answer.status_code, answer.json()) == (200, {"result": "pong"})
    assert served.hook(scheme, body, {EVENTS[scheme]: event}).status_code == 401
    assert served.pokes == []


@pytest.mark.parametrize("scheme", ["github", "gitlab-token", "standard-webhooks", "forgejo"])
def test_what_comes_twice_counts_once_though_it_is_given_another_id(served: Served, scheme: str) -> None:
    headers = proof(scheme)
    assert served.hook(scheme, BODY, headers).json() == {"result": "accepted"}
    again = {**headers, **({"x-github-delivery": "another"} if scheme == "github" else {})}
    answer = served.hook(scheme, BODY, again)
    assert (answer.status_code, answer.json()) == (202, {"result": "repeated"})


def test_what_two_senders_give_the_same_id_counts_for_each_of_them(served: Served) -> None:
    assert [served.hook(name, BODY, proof("github")).json()["result"] for name in ("one", "github")] == ["accepted"] * 2


def test_what_a_sender_whose_signature_names_nothing_sends_again_counts_again(served: Served) -> None:
    results = [served.hook("hmac", BODY, proof("hmac")).json()["result"] for _ in range(2)]
    assert results == ["accepted"] * 2, "it posts the same body each time, and means it each time"


def test_an_old_standard_webhook_is_refused(served: Served) -> None:
    assert served.hook("standard-webhooks", BODY, proof("standard-webhooks", at=time.time() - 400)).status_code == 401


def test_what_another_repository_or_branch_says_is_ignored(served: Served) -> None:
    for change in ({"ref": "refs/heads/topic"}, {"repository": {"full_name": "me/other"}, "project": None}):
        body = json.dumps({**PUSH, **change}).encode()
        assert served.hook("one", body, proof("github", body)).json() == {"result": "ignored"}
    assert served.hook("one", BODY, {**proof("github"), "x-github-event": "star"}).json() == {"result": "ignored"}
    assert served.pokes == []


def test_a_form_of_github_is_believed_over_its_raw_bytes(served: Served) -> None:
    body = b"payload=%7B%22ref%22%3A+%22refs%2Fheads%2Fmain%22%7D"
    headers = {**proof("github", body), "content-type": "application/x-www-form-urlencoded"}
    assert served.hook("github", body, headers).json() == {"result": "accepted"}


def test_a_chunked_body_is_believed_like_any_other(served: Served) -> None:
    def chunks() -> Iterator[bytes]:
        yield BODY[:5]
        yield BODY[5:]

    answer = httpx.post(f"{served.url}/webhooks/github", content=chunks(), headers=proof("github"), timeout=5)
    assert answer.status_code == 202


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity"])
def test_a_compressed_body_is_refused_though_it_is_signed(served: Served, coding: str) -> None:
    assert served.hook("github", BODY, {**proof("github"), "content-encoding": coding}).status_code == 415


@pytest.mark.parametrize("body", [b"", b"not json", b"[1]", b"[" * 50_000])
def test_a_signed_body_that_is_no_object_is_refused_without_detail(served: Served, body: bytes) -> None:
    answer = served.hook("github", body, proof("github", body))
    assert (answer.status_code, answer.content) == (400, b"")


def test_a_body_with_a_newline_more_than_was_signed_is_refused(served: Served) -> None:
    assert served.hook("github", BODY + b"\n", proof("github")).status_code == 401


def test_a_body_that_is_too_large_is_refused_before_it_is_read_and_while_it_is(served: Served) -> None:
    head = "POST /webhooks/github HTTP/1.1\nHost: x\nContent-Length: 30000000"
    answer, seconds = served.raw(request(head))
    assert answer.startswith(b"HTTP/1.1 413")
    assert seconds < 0.5
    chunk = b"%x\r\n%s\r\n" % (60_000, b"x" * 60_000)
    answer, _ = served.raw(request("POST /webhooks/github HTTP/1.1\nHost: x\nTransfer-Encoding: chunked", chunk * 3))
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_that_drips_in_is_cut_off_at_the_deadline(served: Served) -> None:
    head = f"POST /webhooks/github HTTP/1.1\nHost: x\nContent-Length: {len(BODY)}"
    answer, seconds = served.raw(request(head), drip=BODY[:60])
    assert answer.startswith(b"HTTP/1.1 408")
    assert 0.4 < seconds < 2


def test_headers_that_drip_in_are_cut_off_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "HEADER_SECONDS", 0.4)
    for before in (b"", request("GET /healthz HTTP/1.1\nHost: x")):
        answer, seconds = served.raw(before + b"GET /healthz HTTP/1.1\r\nX-Slow: ", drip=b"s" * 60)
        assert 0.3 < seconds < 2
        assert answer.count(b"HTTP/1.1 200") == (1 if before else 0)


def test_strangers_together_cannot_have_us_hold_more_than_so_much(served: Served) -> None:
    import asyncio

    from starlette.requests import Request

    async def slow(more: asyncio.Event, size: int) -> Any:
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await more.wait()
                return {"type": "http.request", "body": b"", "more_body": False}
            sent = True
            return {"type": "http.request", "body": b"x" * size, "more_body": True}

        return Request({"type": "http", "method": "POST", "headers": []}, receive)

    async def play() -> None:
        bodies, more = Bodies(1000, 5, Room(1500)), asyncio.Event()
        first = asyncio.create_task(bodies.read(await slow(more, 1000)))
        await asyncio.sleep(0)
        with pytest.raises(Exception, match="too many bodies") as caught:
            await bodies.read(await slow(more, 1000))
        assert caught.value.status == 503  # type: ignore[attr-defined]
        more.set()
        assert len(await first) == 1000
        assert len(await bodies.read(await slow(more, 1000))) == 1000

    asyncio.run(play())


def test_an_unknown_sender_another_method_and_nonsense_get_nowhere(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    assert served.hook("nobody", BODY, proof("github")).status_code == 404
    assert httpx.get(f"{served.url}/webhooks/github").status_code == 405
    with caplog.at_level(logging.WARNING):
        for nonsense in (
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/9.9\r\n\r\n",
            b"POST /webhooks/github HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        ):
            assert served.raw(nonsense)[0][9:10] in (b"4", b"")
    assert "Traceback" not in caplog.text
    assert served.get("/healthz").status_code in (200, 503)


def test_after_many_refusals_an_address_must_wait_and_a_believed_one_never_does(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PACE", 60.0)  # a busy machine must not be forgiven while it sends
    for number in range(60):
        body = json.dumps({**PUSH, "number": number}).encode()
        assert served.hook("github", body, proof("github", body)).status_code == 202
    codes = [served.hook("github", BODY, {}).status_code for _ in range(35)]
    assert codes[:29] == [401] * 29
    assert codes[-1] == 429
    answer = served.hook("github", BODY, proof("github"))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert served.metric("reconciler_webhooks_total")['{result="limited",sender="github"}'] >= 2


def test_a_burst_is_heard_at_once_and_once_more_at_its_end(served: Served) -> None:
    with ThreadPoolExecutor(8) as pool, httpx.Client(timeout=20) as client:

        def send(number: int) -> int:
            body = json.dumps({**PUSH, "number": number}).encode()
            return client.post(f"{served.url}/webhooks/github", content=body, headers=proof("github", body)).status_code

        began = time.monotonic()
        codes = list(pool.map(send, range(200)))
        took = time.monotonic() - began
    assert codes == [202] * 200
    time.sleep(webhooks.GAP + 0.2)
    assert 1 <= len(served.pokes) <= 2 + took / webhooks.GAP
    assert served.pokes[0] - began < 0.5
    assert served.pokes[-1] - began >= min(took, webhooks.GAP) or len(served.pokes) == 1


def test_a_burst_stays_one_though_the_settings_change_in_the_middle_of_it(served: Served) -> None:
    workshop = served.house.daemon.workshop
    began = time.monotonic()
    for number in range(5):
        body = json.dumps({**PUSH, "number": number}).encode()
        assert served.hook("github", body, proof("github", body)).status_code == 202
        http = workshop.settings.http.model_copy(update={"max_body": 50_000 + number})
        workshop.settings = workshop.settings.model_copy(update={"http": http})
    took = time.monotonic() - began
    time.sleep(webhooks.GAP + 0.2)
    assert 2 <= len(served.pokes) <= 2 + took / webhooks.GAP
    assert min(later - one for one, later in itertools.pairwise(served.pokes)) > webhooks.GAP * 0.9


def test_webhooks_can_be_exposed_alone(tmp_path: Path) -> None:
    with Served(tmp_path, webhooks=SENDERS, webhook_listen="127.0.0.1:0") as served:
        outside, inside = served.doors[0].url, served.doors[1].url
        assert served.hook("github", BODY, proof("github")).status_code == 202
        assert served.hook("github", BODY, proof("github"), door=1).status_code == 404
        for path in ("/healthz", "/readyz", "/metrics", "/api/v1/stacks", "/api/v1/openapi.json", "/"):
            assert httpx.get(outside + path).status_code == 404
        assert httpx.get(f"{inside}/metrics", headers={"authorization": f"Bearer {'r' * 24}"}).status_code == 200


def test_no_webhook_is_received_unless_one_is_configured(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        assert served.hook("github", BODY, proof("github")).status_code == 404


def test_the_address_is_that_of_the_sender_only_behind_a_proxy_that_is_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for proxies, address in (([], "127.0.0.1"), (["127.0.0.1/32"], "203.0.113.9")):
        folder = tmp_path / address
        folder.mkdir()
        with Served(folder, webhooks=SENDERS, trusted_proxies=proxies) as served:
            served.hook("github", BODY, {"x-forwarded-for": "203.0.113.9"})
        assert f"from {address} is refused" in caplog.text


class TestTheSettings:
    @pytest.mark.parametrize(
        ("given", "complaint"),
        [
            ({"webhooks": {"a": {"scheme": "github", "secrets": [""]}}, "listen": "127.0.0.1:1"}, "is empty"),
            ({"webhooks": {"a": {"scheme": "github", "secrets": ["  \t"]}}, "listen": "127.0.0.1:1"}, "is empty"),
            ({"webhooks": {"a": {"scheme": "github", "secrets": []}}, "listen": "127.0.0.1:1"}, "at least 1"),
            ({"webhooks": {"a": {"scheme": "github", "secrets": ["a", "b", "c"]}}, "listen": "127.0.0.1:1"}, "at most 2"),
            ({"webhooks": {"a": {"scheme": "standard-webhooks", "secrets": ["plain"]}}, "listen": "127.0.0.1:1"}, "whsec_"),
            ({"webhooks": {"a": {"scheme": "sha1", "secrets": ["a"]}}, "listen": "127.0.0.1:1"}, "github"),
            ({"webhooks": {"a/b": {"scheme": "github", "secrets": ["a"]}}, "listen": "127.0.0.1:1"}, "letters, digits"),
            ({"webhooks": {"a": {"scheme": "github", "secrets": ["a"]}}}, "nothing listens"),
            ({"listen": "0.0.0.0:8080"}, "set http.tokens"),
            ({"listen": "[::]:8080"}, "set http.tokens"),
            ({"listen": "8080"}, "HOST:PORT"),
            ({"listen": "localhost:8080"}, "IP address"),
            ({"listen": "127.0.0.1:99999"}, "HOST:PORT"),
            ({"listen": "127.0.0.1:1", "tokens": {"a": {"token": "short"}}}, "at least 20"),
            ({"listen": "127.0.0.1:1", "tokens": {"a": {"token": "x" * 20}, "b": {"token": "x" * 20}}}, "the same"),
            ({"trusted_proxies": ["everybody"]}, "everybody"),
        ],
    )
    def test_that_would_let_somebody_in_are_refused(self, given: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint.replace("[", r"\[")) as caught:
            Http.model_validate(given)
        assert "x" * 20 not in str(caught.value)

    def test_listen_nowhere_when_nothing_is_said(self) -> None:
        assert (Http().listen, Http().webhook_listen, Http().tokens, Http().webhooks) == ("", "", {}, {})

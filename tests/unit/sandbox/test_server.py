"""What the emulators share: each fault as a plain client sees it, the log of requests, and a port that outlives a restart."""

import socket
from collections.abc import Iterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from reconciler.sandbox.server import AppServer, FaultMiddleware, Faults


class Service:
    """A counter behind the faults: POST adds one, GET tells."""

    def __init__(self) -> None:
        self.count = 0
        self.faults = Faults()
        app = Starlette(routes=[Route("/count", self.answer, methods=["GET", "POST"])])
        self.server = AppServer(FaultMiddleware(app, self.faults, self.render))

    async def answer(self, request: Request) -> PlainTextResponse:
        self.count += request.method == "POST"
        return PlainTextResponse(str(self.count))

    def render(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        if kind == "rate-limit":
            return 429, {"Retry-After": "7"}, b"slow down"
        return (200, {"Content-Type": "text/html"}, b"<html>") if kind == "html" else (503, {}, b"sorry")

    @property
    def url(self) -> str:
        return f"{self.server.url}/count"


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    made = Service()
    made.server.start()
    yield made
    made.server.stop()


@pytest.fixture
def service(running: Service) -> Service:
    running.count = 0
    running.faults.requests.clear()
    running.faults.active.clear()
    return running


class TestFaults:
    def test_are_absent_until_they_are_asked_for_and_after(self, service: Service) -> None:
        with service.faults.during("server-error"):
            assert httpx.get(service.url).status_code == 503
        assert httpx.get(service.url).text == "0"

    def test_of_a_rate_limit_are_the_systems_own_answer_and_nothing_is_executed(self, service: Service) -> None:
        with service.faults.during("rate-limit"):
            answer = httpx.post(service.url)
        assert (answer.status_code, answer.headers["retry-after"], answer.text) == (429, "7", "slow down")
        assert service.count == 0

    def test_of_a_login_page_are_a_success_in_the_wrong_language(self, service: Service) -> None:
        with service.faults.during("html"):
            answer = httpx.get(service.url)
        assert (answer.status_code, answer.headers["content-type"], answer.text) == (200, "text/html", "<html>")

    def test_of_slowness_end_in_the_clients_own_timeout(self, service: Service) -> None:
        with service.faults.during("latency", seconds=0.4), pytest.raises(httpx.ReadTimeout):
            httpx.get(service.url, timeout=0.1)

    def test_of_slowness_are_only_slow_for_a_patient_client(self, service: Service) -> None:
        with service.faults.during("latency", seconds=0.01):
            assert httpx.post(service.url).text == "1"

    def test_of_a_cut_before_leave_nothing_done(self, service: Service) -> None:
        with service.faults.during("cut-before"), pytest.raises(httpx.RemoteProtocolError):
            httpx.post(service.url)
        assert service.count == 0

    def test_of_a_cut_after_leave_it_done_and_unsaid(self, service: Service) -> None:
        with service.faults.during("cut-after"), pytest.raises(httpx.RemoteProtocolError):
            httpx.post(service.url)
        assert service.count == 1

    def test_hit_as_often_as_was_asked(self, service: Service) -> None:
        with service.faults.during("server-error", times=2):
            codes = [httpx.get(service.url).status_code for _ in range(3)]
        assert codes == [503, 503, 200]

    def test_may_spare_reads(self, service: Service) -> None:
        with service.faults.during("server-error", writes_only=True):
            assert httpx.get(service.url).status_code == 200
            assert httpx.post(service.url).status_code == 503

    def test_are_played_in_the_order_in_which_they_were_asked_for(self, service: Service) -> None:
        with service.faults.during("rate-limit", times=1), service.faults.during("server-error", times=1):
            assert [httpx.get(service.url).status_code for _ in range(3)] == [429, 503, 200]


class TestTheLog:
    def test_keeps_every_request_also_those_that_were_cut(self, service: Service) -> None:
        httpx.get(service.url)
        with service.faults.during("cut-before"), pytest.raises(httpx.RemoteProtocolError):
            httpx.post(service.url)
        assert list(service.faults.requests) == [("GET", "/count"), ("POST", "/count")]

    def test_counts_writes(self, service: Service) -> None:
        for method in ("GET", "HEAD", "POST", "POST", "LIST"):
            httpx.request(method, service.url)
        assert service.faults.writes == 2


class TestTheServer:
    def test_keeps_its_port_over_a_restart_and_refuses_while_it_is_down(self) -> None:
        server = Service().server
        server.start()
        port = server.port
        assert port
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        server.start()
        assert server.port == port
        assert httpx.get(f"{server.url}/count").text == "0"
        server.stop()

    def test_may_be_stopped_before_it_was_started(self) -> None:
        Service().server.stop()

"""The inside door over real sockets: health that tells the truth, metrics, and an API in which everybody does only what they may."""

import json
import logging
import sqlite3
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler.daemon.http import limits
from reconciler.errors import Permanent, SourceError
from tests.e2e.http_house import APPROVE, OPERATE, READ, Served
from tests.unit.core.memory import thing
from tests.unit.daemon.house import BETTER, GOOD, Hand, commit

REPORT_ONLY = thing("a", text="Hello", annotations={"drift": "report"})


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as made:
        yield made


def converge(served: Served, name: str = "c1", **stacks: str) -> None:
    served.house.daemon.accept(commit(name, **(stacks or {"mail": GOOD})))
    served.house.passes()


def meddle(served: Served, text: str = "meddled") -> None:
    served.house.system.objects["Thing/a"].content["text"] = text


def again(served: Served) -> None:
    served.house.daemon.queue.request("mail", "look")
    served.house.passes()


class TestHealth:
    def test_is_ready_only_when_a_revision_is_in_force(self, served: Served) -> None:
        served.house.head = served.house.daemon.head = Hand(None, commit("c1", mail=GOOD))
        assert served.get("/healthz").status_code == 200
        answer = served.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"]["loaded"] == {"ok": False, "message": "no revision is in force yet"}
        served.house.daemon.look()
        assert served.get("/readyz").status_code == 503
        served.house.daemon.look()
        assert served.get("/readyz").json()["ok"]
        assert served.get("/readyz").status_code == 200

    def test_says_when_the_repository_cannot_be_read_for_long_and_when_it_can_again(self, served: Served) -> None:
        now = [1000.0]
        served.house.daemon.vitals.monotonic = lambda: now[0]
        served.house.daemon.vitals.began = now[0]
        served.house.daemon.head = Hand(commit("c1", mail=GOOD), SourceError("gone"), None)
        served.house.daemon.look()
        now[0] += 601
        served.house.daemon.look()
        assert served.get("/readyz").json()["checks"]["source"] == {"ok": False, "message": "last read 601 s ago"}
        assert served.get("/healthz").status_code == 200, "a fresh start would not bring the git server back"
        served.house.daemon.look()
        assert served.get("/readyz").status_code == 200
        now[0] += 601
        assert served.get("/healthz").json()["checks"]["source thread"]["ok"] is False, "no look has ended at all"
        assert served.get("/healthz").status_code == 503

    def test_fails_when_a_thread_is_dead(self, served: Served) -> None:
        dead = threading.Thread(target=lambda: None, name="worker-0")
        dead.start()
        dead.join()
        served.house.daemon.threads.append(dead)
        assert served.get("/healthz").json()["checks"]["threads"] == {"ok": False, "message": "dead: worker-0"}

    def test_fails_when_nobody_takes_what_is_due_or_a_pass_never_ends(self, served: Served) -> None:
        converge(served)
        served.house.time.seconds += 3000
        assert served.get("/healthz").json()["checks"]["queue"]["ok"] is False
        served.house.passes()
        assert served.get("/healthz").status_code == 200
        served.house.daemon.vitals.passes["mail"] = served.house.daemon.vitals.monotonic() - 100_000
        assert served.get("/healthz").json()["checks"]["passes"]["ok"] is False

    def test_is_not_ready_when_the_store_cannot_be_written(self, served: Served) -> None:
        converge(served)
        served.house.daemon.look()
        assert served.get("/readyz").status_code == 200
        other = sqlite3.connect(served.house.folder / "state.db")
        other.execute("DROP TABLE beats")
        other.commit()
        other.close()
        from reconciler.daemon.http import health

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(health, "BEAT", 0)
            answer = served.get("/readyz")
        assert answer.status_code == 503
        assert "no such table: beats" in answer.json()["checks"]["store"]["message"]

    def test_does_not_fail_because_a_target_is_down(self, served: Served) -> None:
        served.house.system.on_read = [Permanent("mem is down")] * 50
        served.house.daemon.head = Hand(commit("c1", mail=GOOD))
        served.house.daemon.look()
        served.house.passes()
        assert served.house.reports[-1].verdict == "failed"
        assert served.get("/healthz").status_code == 200
        assert served.get("/readyz").status_code == 200


class TestMetrics:
    def test_tell_how_the_stacks_fare_in_the_format_of_prometheus(self, served: Served) -> None:
        served.house.daemon.head = Hand(commit("c1", mail=REPORT_ONLY))
        served.house.daemon.look()
        served.house.passes()
        meddle(served)
        again(served)
        text = served.get("/metrics", READ).text
        assert {one.name for one in text_string_to_metric_families(text)} >= {"reconciler_drift_open", "reconciler_build_info"}
        assert served.metric("reconciler_drift_open") == {
            '{stack="mail",state="acknowledged"}': 0,
            '{stack="mail",state="open"}': 1,
        }
        assert served.metric("reconciler_pass_duration_seconds_count")['{stack="mail",verdict="converged"}'] == 1
        assert served.metric("reconciler_pass_duration_seconds_count")['{stack="mail",verdict="pending"}'] == 1
        assert served.metric("reconciler_commit_to_converged_seconds_count") == {'{stack="mail"}': 1}
        assert served.metric("reconciler_stack_verdict")['{stack="mail",verdict="pending"}'] == 1
        assert served.metric("reconciler_last_converged_timestamp_seconds")['{stack="mail"}'] > 0
        assert served.metric("reconciler_queue_depth") == {"": 1}
        assert served.metric("reconciler_source_looks_total")['{result="good"}'] == 1

    def test_count_a_commit_as_converged_once(self, served: Served) -> None:
        for answer in (commit("c1", mail=GOOD), commit("c2", mail=BETTER)):
            served.house.daemon.head = Hand(answer)
            served.house.daemon.look()
            served.house.passes()
            again(served)
        assert served.metric("reconciler_commit_to_converged_seconds_count") == {'{stack="mail"}': 2}

    def test_count_calls_retries_and_throttling_by_target(self, served: Served) -> None:
        from reconciler import telemetry
        from reconciler.errors import Transient

        with telemetry.at("dns", "observe"):
            with telemetry.call("GET records"):
                pass
            for wrong in (PermissionError(), _Answered(404), _Answered(429), _Answered(503)):
                with pytest.raises(type(wrong)), telemetry.call("GET records"):
                    raise wrong
            retry = served.house.daemon.workshop
            tries = iter([Transient("busy", retry_after=0.0), Transient("busy"), None])

            def work() -> None:
                if (error := next(tries)) is not None:
                    raise error

            from reconciler.retry import Retry

            Retry(retry.settings.engine, retry.stop, retry.clock).call(work)
        calls = served.metric("reconciler_api_call_duration_seconds_count")
        assert calls == {
            '{outcome="ok",target="dns"}': 1,
            '{outcome="refused",target="dns"}': 1,
            '{outcome="error",target="dns"}': 3,
        }
        assert served.metric("reconciler_api_retries_total") == {'{target="dns"}': 2}
        assert served.metric("reconciler_api_throttled_total") == {'{target="dns"}': 1}

    def test_need_a_token_unless_they_are_open(self, served: Served, tmp_path: Path) -> None:
        assert served.get("/metrics").status_code == 401
        assert served.get("/metrics", READ).status_code == 200
        (tmp_path / "open").mkdir()
        with Served(tmp_path / "open", metrics="open") as other:
            assert other.get("/metrics").status_code == 200


class _Answered(Exception):
    def __init__(self, status: int) -> None:
        self.status_code = status


class TestTheApi:
    def test_shows_the_stacks_their_plans_and_their_runs(self, served: Served) -> None:
        converge(served)
        (stack,) = served.get("/api/v1/stacks", READ).json()
        assert (stack["name"], stack["in_force"], stack["verdict"], stack["drift"]) == ("mail", "c1", "converged", 0)
        assert served.get("/api/v1/stacks/mail", READ).json() == stack
        assert served.get("/api/v1/stacks/mail/plan", READ).json()["plan"]["in_sync"] is True
        (run,) = served.get("/api/v1/runs?stack=mail&most=5", READ).json()
        assert served.get(f"/api/v1/runs/{run['id']}", READ).json()["report"]["verdict"] == "converged"

    def test_triggers_a_pass_with_who_asked_as_its_reason(self, served: Served) -> None:
        converge(served)
        answer = served.post("/api/v1/stacks/mail/trigger", OPERATE, {"reason": "after the maintenance"})
        assert answer.status_code == 202
        assert served.house.passes() == ["mail"]
        assert served.house.reports[-1].reason == "operate: after the maintenance"
        assert len(served.pokes) == 1

    def test_approves_exactly_the_plan_that_is_held(self, served: Served) -> None:
        many = "".join(thing(f"t{number}") for number in range(10))
        converge(served, "c1", mail=many)
        converge(served, "c2", mail=thing("t0"))
        assert len(served.house.system.objects) == 10
        digest = served.get("/api/v1/stacks/mail/plan", READ).json()["digest"]
        assert served.post("/api/v1/approvals", APPROVE, {"digest": "0" * 12}).status_code == 409
        answer = served.post("/api/v1/approvals", APPROVE, {"digest": digest[:12]})
        assert (answer.status_code, answer.json()) == (201, {"stack": "mail", "digest": digest, "who": "approve"})
        assert served.get("/api/v1/stacks/mail/plan", READ).json()["approved"] is True
        assert served.house.passes() == ["mail"]
        assert len(served.house.system.objects) == 1
        assert served.post("/api/v1/approvals", APPROVE, {"digest": digest[:12]}).status_code == 409, "nothing is held any more"

    def test_acknowledges_a_drift_until_a_time_and_no_longer(self, served: Served) -> None:
        converge(served, mail=REPORT_ONLY)
        meddle(served)
        again(served)
        (drift,) = served.get("/api/v1/drift?stack=mail", READ).json()
        now = served.house.daemon.workshop.clock.now()
        until = (now + timedelta(hours=24)).isoformat()
        path = f"/api/v1/drift/{drift['id']}/acknowledge"
        answer = served.post(path, OPERATE, {"reason": "the migration runs until tomorrow", "until": until})
        assert answer.status_code == 201, answer.text
        assert (answer.json()["who"], answer.json()["resource"]) == ("operate", drift["resource"])
        assert served.post(path, OPERATE, {"reason": "once more", "until": until}).status_code == 409
        assert served.house.passes() == ["mail"]
        assert served.house.reports[-1].verdict == "converged"
        (shown,) = served.get("/api/v1/drift", READ).json()
        assert shown["state"] == "acknowledged"
        assert "the migration runs until tomorrow (by operate)" in shown["reason"]
        meddle(served, "something else")
        again(served)
        assert served.house.reports[-1].verdict == "pending", "it accepted one value, not every"
        meddle(served)
        served.house.time.now += timedelta(seconds=86_500)
        again(served)
        assert served.house.reports[-1].verdict == "pending"
        assert served.get("/api/v1/drift", READ).json()[0]["state"] == "open"
        assert [one for one in served.house.told() if "an exception has ended" in one]

    def test_refuses_an_acknowledgement_that_ends_too_late_or_was_over_before_it_began(self, served: Served) -> None:
        converge(served, mail=REPORT_ONLY)
        meddle(served)
        again(served)
        now = served.house.daemon.workshop.clock.now()
        number = served.get("/api/v1/drift", READ).json()[0]["id"]
        for days in (-1, 31):
            body = {"reason": "because", "until": (now + timedelta(days=days)).isoformat()}
            answer = served.post(f"/api/v1/drift/{number}/acknowledge", OPERATE, body)
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "until")
        body["until"] = "2026-12-01T00:00:00"
        assert served.post(f"/api/v1/drift/{number}/acknowledge", OPERATE, body).status_code == 400, "no time zone"
        assert served.post("/api/v1/drift/999/acknowledge", OPERATE, {**body, "until": now.isoformat()}).status_code == 400

    @pytest.mark.parametrize(
        ("method", "path", "role"),
        [
            ("GET", "/stacks", 0),
            ("GET", "/runs", 0),
            ("GET", "/drift", 0),
            ("POST", "/stacks/mail/trigger", 1),
            ("POST", "/drift/1/acknowledge", 1),
            ("POST", "/approvals", 2),
        ],
    )
    def test_lets_everybody_do_what_their_role_may_and_no_more(self, served: Served, method: str, path: str, role: int) -> None:
        converge(served)
        for number, token in enumerate((READ, OPERATE, APPROVE)):
            answer = httpx.request(method, f"{served.url}/api/v1{path}", headers={"authorization": f"Bearer {token}"}, timeout=5)
            assert (answer.status_code == 403) is (number < role)
        for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {READ}"}, {"authorization": "Bearer"}):
            answer = httpx.request(method, f"{served.url}/api/v1{path}", headers=header, timeout=5)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_lets_nobody_in_with_two_tokens_or_bytes_that_are_no_text(self, served: Served) -> None:
        for headers in ([("authorization", f"Bearer {READ}")] * 2, [("authorization", b"Bearer \xff\xfe")]):
            assert httpx.get(f"{served.url}/api/v1/stacks", headers=headers, timeout=5).status_code == 401

    def test_makes_an_address_with_many_wrong_tokens_wait(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "PACE", 60.0)  # a busy machine must not be forgiven while it sends
        codes = [served.get("/api/v1/stacks", f"guess-{number}").status_code for number in range(35)]
        assert codes[0] == 401
        assert codes[-1] == 429

    def test_counts_nobody_who_shows_no_token(self, served: Served) -> None:
        assert {httpx.get(f"{served.url}/api/v1/stacks").status_code for _ in range(limits.MOST + 5)} == {401}
        assert served.get("/api/v1/stacks", READ).status_code == 200, "a browser that looked before it logged in is no guesser"

    def test_is_not_there_without_tokens(self, tmp_path: Path) -> None:
        with Served(tmp_path, tokens={}) as served:
            assert served.get("/api/v1/stacks", READ).status_code == 404
            assert served.get("/healthz").status_code == 200

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/stacks/mail/trigger", b"{"),
            ("/stacks/mail/trigger", b'{"reason": "x\\ny: forged line"}'),
            ("/stacks/mail/trigger", b'{"reason": 7, "more": 1}'),
            ("/approvals", b'{"digest": "../../etc"}'),
            ("/approvals", b"[" * 10_000),
        ],
    )
    def test_says_what_is_wrong_with_a_body_and_does_not_repeat_it(self, served: Served, path: str, body: bytes) -> None:
        converge(served)
        answer = httpx.post(f"{served.url}/api/v1{path}", content=body, headers={"authorization": f"Bearer {APPROVE}"}, timeout=5)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"]
        assert "forged" not in answer.text

    def test_writes_down_who_did_what_from_where_and_never_a_token(
        self, served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        converge(served)
        audit = logging.getLogger("reconciler.audit")
        for name, value in (("handlers", [caplog.handler]), ("propagate", False), ("disabled", False)):
            monkeypatch.setattr(audit, name, value)  # whatever a test before this one has made of the program's logging
        with caplog.at_level(logging.INFO, logger=audit.name):
            served.post("/api/v1/stacks/mail/trigger", OPERATE)
            served.post("/api/v1/stacks/mail%0Aforged/trigger", OPERATE)
            served.get("/api/v1/stacks", "wrong-token-canary")
        lines = [one.getMessage() for one in caplog.records if one.name == "reconciler.audit"]
        assert lines[0] == "operate (operate, from 127.0.0.1): POST /api/v1/stacks/mail/trigger"
        assert "\n" not in lines[1]
        assert OPERATE not in caplog.text
        assert "canary" not in caplog.text

    def test_serves_the_document_that_describes_it(self, served: Served) -> None:
        document: dict[str, Any] = served.get("/api/v1/openapi.json").json()
        assert document["openapi"] == "3.1.0"
        assert document["paths"]["/api/v1/runs/{run}"]["get"]["parameters"][0]["schema"] == {"type": "integer", "minimum": 0}
        assert json.dumps(document).count("#/$defs") == 0

"""Traces and logs: one trace for a commit, the same on every machine, and never a secret in a span or a line."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from reconciler import telemetry
from reconciler.telemetry import JsonFormatter, commit, current_trace, span, trace_id
from tests.unit.core.memory import Bench, thing

CANARY = "c4n4ry-v4lue"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def test_the_trace_of_a_commit_is_known_to_whoever_knows_the_commit() -> None:
    assert trace_id("abc") == trace_id("abc")
    assert trace_id("abc") != trace_id("abd")
    assert len(trace_id("abc")) == 32


def test_every_span_of_a_pass_is_in_the_trace_of_its_commit(spans: InMemorySpanExporter) -> None:
    bench = Bench()
    report = bench.run(thing("a") + thing("b", needs=["a"]), "abc")
    finished = spans.get_finished_spans()
    assert report.trace_id == trace_id("abc")
    assert {f"{one.context.trace_id:032x}" for one in finished if one.context} == {trace_id("abc")}
    names = [one.name for one in finished]
    for name in ("pass", "observe", "observe mem", "secrets", "wave 1", "apply mem", "verify", "record", "LIST objects"):
        assert name in names


def test_spans_of_threads_hang_below_the_span_that_started_them(spans: InMemorySpanExporter) -> None:
    Bench().run(thing("a"), "abc")
    finished = {one.name: one for one in spans.get_finished_spans()}
    parent = finished["LIST objects"].parent
    assert parent is not None
    ids = {one.context.span_id: one.name for one in spans.get_finished_spans() if one.context}
    assert ids[parent.span_id] == "observe mem"


def test_no_span_carries_a_secret_even_when_a_driver_has_a_bug(spans: InMemorySpanExporter) -> None:
    bench = Bench()
    bench.system.keep_secret("app", password=CANARY)
    text = thing("a", text="${vault('app', 'password')}")
    bench.system.on_write = [RuntimeError(CANARY)]
    bench.run(text)
    bench.run(text)
    with pytest.raises(ValueError, match=CANARY), span("broken"):
        raise ValueError(CANARY)
    said = "".join(one.to_json() for one in spans.get_finished_spans())
    assert "broken" in said
    assert CANARY not in said


def test_without_a_provider_spans_cost_nothing_and_fail_nothing() -> None:
    with commit("abc"), span("x", count=1):
        assert current_trace() == trace_id("abc")
    assert current_trace() == ""


def test_spans_can_be_written_to_a_file_one_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.util._once import Once

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    telemetry.configure("file", file=tmp_path / "deep" / "traces.jsonl")
    with commit("abc"), span("hello"):
        pass
    telemetry.shutdown()
    lines = (tmp_path / "deep" / "traces.jsonl").read_text().splitlines()
    assert [json.loads(one)["name"] for one in lines] == ["hello"]


def test_a_log_line_is_json_with_its_trace_and_without_the_text_of_an_exception() -> None:
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        record = logging.LogRecord("reconciler.x", logging.ERROR, "f", 1, "went %s", ("wrong",), (type(error), error, None))
    with commit("abc"):
        line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["level"], line["exception"], line["trace_id"]) == ("went wrong", "error", "ValueError", trace_id("abc"))
    assert CANARY not in json.dumps(line)


def test_a_traceback_in_the_log_shows_places_and_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "json"):
        telemetry.configure_logging("debug", form)
        try:
            try:
                raise ValueError("canary-inside")
            except ValueError as error:
                raise RuntimeError("canary-outside") from error
        except RuntimeError as error:
            logging.getLogger("reconciler.x").exception("bug: %s", type(error).__name__)
    said = capsys.readouterr().err
    assert "canary-" not in said.replace('"canary-inside"', "").replace('"canary-outside"', "")
    assert said.count("RuntimeError") >= 2
    assert "test_telemetry.py" in said


def test_what_nobody_caught_is_logged_without_its_words(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sys, threading):
        monkeypatch.setattr(module, "excepthook", module.excepthook)
    telemetry.configure_logging("info", "text")
    telemetry.catch_crashes()
    value = "canary-" + "4711"

    def crash() -> None:
        raise RuntimeError(value)

    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    sys.excepthook(RuntimeError, RuntimeError(value), None)
    said = capsys.readouterr().err
    assert said.count("bug: nobody caught RuntimeError") == 2
    assert value not in said

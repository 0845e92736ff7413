"""Traces and logs. The only user of the OpenTelemetry SDK; everything else asks for ``span``.

One trace per commit: the trace id is derived from the revision, so that whoever knows the commit finds its trace. Spans carry names,
counts and ids; never a value from a spec. Without ``configure`` every span is a no-op.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

T = TypeVar("T")
_shutdown: list[Callable[[], None]] = []


def trace_id(revision: str) -> str:
    """Give the trace id of a revision: 32 hex digits, the same on every machine."""
    return hashlib.sha256(f"reconciler:{revision}".encode()).hexdigest()[:32]


@contextmanager
def commit(revision: str) -> Iterator[None]:
    """Have every span inside belong to the trace of ``revision``."""
    seed = hashlib.sha256(f"root:{revision}".encode()).hexdigest()[:16]
    parent = SpanContext(int(trace_id(revision), 16), int(seed, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[Any]:
    """Open a span. An exception is recorded by its type alone, because its text may carry what a server said."""
    with trace.get_tracer("reconciler").start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def completed(name: str, seconds: float, *, well: bool, **attributes: str | int | float | bool) -> None:
    """Add a span for work that has just ended and took ``seconds``, below the span that is open here."""
    end = time.time_ns()
    done = trace.get_tracer("reconciler").start_span(name, attributes=attributes, start_time=end - int(seconds * 1e9))
    if not well:
        done.set_status(Status(StatusCode.ERROR))
    done.end(end_time=end)


def current_trace() -> str:
    """Give the trace id of the span that is open here, or an empty text."""
    found = trace.get_current_span().get_span_context().trace_id
    return f"{found:032x}" if found else ""


def configure(exporter: str, *, file: Path | None = None, endpoint: str = "", service: str = "reconciler") -> None:
    """Start exporting spans: ``none``, ``console``, ``file`` (one JSON object a line) or ``otlp`` (HTTP)."""
    if exporter == "none":
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from reconciler import __version__

    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.version": __version__}))
    processor = BatchSpanProcessor(_exporter(exporter, file, endpoint))
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    _shutdown.append(lambda: _close(provider))


def _close(provider: Any) -> None:
    provider.force_flush(timeout_millis=2000)
    provider.shutdown()


def _exporter(kind: str, file: Path | None, endpoint: str) -> Any:
    if kind == "otlp":
        from opentelemetry.exporter.otlp.proto.http import Compression
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(endpoint=endpoint or None, timeout=5, compression=Compression.Gzip)
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    if kind == "console":
        return ConsoleSpanExporter()
    assert file is not None
    file.parent.mkdir(parents=True, exist_ok=True)
    out = file.open("a", encoding="utf-8")
    _shutdown.append(out.close)
    return ConsoleSpanExporter(out=out, formatter=lambda one: one.to_json(indent=None) + "\n")


def shutdown() -> None:
    """Send what is left and stop exporting; takes at most a few seconds."""
    while _shutdown:
        _shutdown.pop()()


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the trace id of the pass that wrote it."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        import json

        line = {"time": self.formatTime(record), "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if found := current_trace():
            line["trace_id"] = found
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line)


def configure_logging(level: str, form: str) -> None:
    """Log to standard error as ``text`` or ``json`` from ``level`` on. Vendor libraries stay at warning: their debug logs print bodies."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("reconciler").setLevel(level.upper())

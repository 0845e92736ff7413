"""Traces and logs. The only user of the OpenTelemetry SDK; everything else asks for ``span``.

One trace per commit: the trace id is derived from the revision, so that whoever knows the commit finds its trace. Spans carry names,
counts and ids; never a value from a spec. Without ``configure`` every span is a no-op. Whoever counts calls is an ``Ear``.
"""

import hashlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, TypeVar

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

T = TypeVar("T")
PATIENCE = 1.5
"""Seconds that the end of the program waits for a collector to take the last spans."""
_shutdown: list[Callable[[], None]] = []
_target: ContextVar[str] = ContextVar("target", default="")
_root: ContextVar[tuple[int, int] | None] = ContextVar("root", default=None)


class Ear(Protocol):
    """Hears of every outgoing call, whether or not spans are exported. Must be quick, and safe to call from any thread."""

    def called(self, target: str, seconds: float, outcome: str) -> None:
        """Take a call that has ended: ``ok``, ``refused`` (the system said no, 4xx) or ``error``."""
        ...

    def retried(self, target: str, *, throttled: bool) -> None:
        """Take a try that failed for a temporary reason; ``throttled`` when the system asked for a pause."""
        ...


ears: list[Ear] = []


def trace_id(revision: str) -> str:
    """Give the trace id of a revision: 32 hex digits, the same on every machine."""
    return hashlib.sha256(f"reconciler:{revision}".encode()).hexdigest()[:32]


def trace_link(template: str, trace: str) -> str:
    """Fill ``{trace_id}`` of an address; empty when there is no address or no trace."""
    return template.replace("{trace_id}", trace) if trace else ""


def _seed(revision: str) -> int:
    return int(hashlib.sha256(f"root:{revision}".encode()).hexdigest()[:16], 16)


@contextmanager
def commit(revision: str) -> Iterator[None]:
    """Have every span inside belong to the trace of ``revision``."""
    parent = SpanContext(int(trace_id(revision), 16), _seed(revision), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(parent)))
    try:
        yield
    finally:
        context.detach(token)


def root(revision: str, seconds: float) -> None:
    """Add the span that all others of a revision hang on; it took the ``seconds`` from the first word of it until now."""
    token = _root.set((int(trace_id(revision), 16), _seed(revision)))
    try:
        completed("commit", seconds, revision=revision)
    finally:
        _root.reset(token)


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


@contextmanager
def at(target: str, name: str, **attributes: str | int | float | bool) -> Iterator[Any]:
    """Open a span for work at a target; every ``call`` inside counts as one to it."""
    token = _target.set(target)
    try:
        with span(f"{name} {target}", **attributes) as current:
            yield current
    finally:
        _target.reset(token)


@contextmanager
def call(name: str, **attributes: str | int | float | bool) -> Iterator[Any]:
    """Open a span round one outgoing call, and tell whoever counts."""
    began, outcome = time.monotonic(), "ok"
    try:
        with span(name, **attributes) as current:
            yield current
    except BaseException as error:
        outcome = "refused" if _refused(error) else "error"
        raise
    finally:
        for ear in ears:
            ear.called(_target.get(), time.monotonic() - began, outcome)


def _refused(error: BaseException) -> bool:
    """Say whether a vendor's exception carries an HTTP status of the sort 4xx, in the attribute where most keep it."""
    codes = (getattr(error, name, None) for name in ("status", "status_code"))
    return any(isinstance(code, int) and 400 <= code < 500 and code != 429 for code in codes)


def retried(*, throttled: bool) -> None:
    """Tell whoever counts that a call to the target at work here will be tried again."""
    for ear in ears:
        ear.retried(_target.get(), throttled=throttled)


def completed(name: str, seconds: float, *, well: bool = True, **attributes: str | int | float | bool) -> None:
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

    resource = Resource.create({"service.name": service, "service.version": __version__})
    provider = TracerProvider(resource=resource, id_generator=_ids(), shutdown_on_exit=False)
    processor = BatchSpanProcessor(_exporter(exporter, file, endpoint))
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    _shutdown.append(lambda: _close(provider))


def _ids() -> Any:
    """Give a generator of ids that gives the root of a commit's trace the ids which everybody can compute."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Derived(RandomIdGenerator):
        def generate_span_id(self) -> int:
            found = _root.get()
            return found[1] if found is not None else super().generate_span_id()

        def generate_trace_id(self) -> int:
            found = _root.get()
            return found[0] if found is not None else super().generate_trace_id()

    return Derived()


def _close(provider: Any) -> None:
    """Send what is left. In a thread, because an exporter whose collector is gone does not always keep to its own time."""
    thread = Thread(target=lambda: (provider.force_flush(timeout_millis=int(PATIENCE * 1000)), provider.shutdown()), daemon=True)
    thread.start()
    thread.join(timeout=PATIENCE)


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
    """Send what is left and stop exporting; a collector that does not answer is waited for a second and a half."""
    while _shutdown:
        _shutdown.pop()()


class TextFormatter(logging.Formatter):
    """One line for people, and below it where an exception came from: the places, and its type. What it says may quote a secret."""

    def __init__(self) -> None:
        """Set the form of a line."""
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name is the standard library's
        """Give the places of a traceback and the type of its exception; no other exception is shown that led to it."""
        import traceback

        kind, _, trail = ei
        return "".join([*traceback.format_tb(trail), getattr(kind, "__name__", "")]).rstrip()


def crashed(kind: type[BaseException], error: BaseException | None, trail: Any) -> None:
    """Log what nobody caught, in the place of the interpreter's own report, which shows what the exception says."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trail)
        return
    logging.getLogger("reconciler").critical("bug: nobody caught %s", kind.__name__, exc_info=(kind, error or kind(), trail))


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
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("reconciler").setLevel(level.upper())


def catch_crashes() -> None:
    """Have uncaught exceptions of every thread logged, without what they say. For a program of its own, not for a library."""
    sys.excepthook = crashed
    threading.excepthook = lambda one: None if one.exc_type is SystemExit else crashed(one.exc_type, one.exc_value, one.exc_traceback)

"""The metrics, in the format of Prometheus, on a registry of their own. What can be asked is asked at each scrape; the rest is counted.

Names end in their unit. Labels are stacks, targets, verdicts and states: few, and never a resource, so that a large stack stays cheap.
"""

import platform
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from reconciler import __version__
from reconciler.daemon.loop import Daemon
from reconciler.report import Report, Verdict

PASS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
CONVERGE = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
CALL = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STATES = ("open", "acknowledged")
TYPE = "text/plain; version=0.0.4; charset=utf-8"
disable_created_metrics()  # type: ignore[no-untyped-call]  # else each label has a second gauge, which nobody asks for


class Meters:
    """Counts for one daemon. It is the ``Ear`` of telemetry and the ``meter`` of the daemon."""

    def __init__(self, daemon: Daemon) -> None:
        """Make every metric, at zero where it has no labels to wait for."""
        self.registry = registry = CollectorRegistry()
        self._daemon = daemon
        self._converged: dict[str, str] = {}
        self._passes = Histogram("reconciler_pass_duration_seconds", "Passes.", ("stack", "verdict"), buckets=PASS, registry=registry)
        about = "From the first word of a commit, by webhook or look, to its first converged pass."
        self._converge = Histogram("reconciler_commit_to_converged_seconds", about, ("stack",), buckets=CONVERGE, registry=registry)
        about = "Calls to the systems, by target and outcome (ok, refused, error)."
        self._calls = Histogram("reconciler_api_call_duration_seconds", about, ("target", "outcome"), buckets=CALL, registry=registry)
        about = "Tries that failed for a temporary reason, by target."
        self._retries = Counter("reconciler_api_retries_total", about, ("target",), registry=registry)
        about = "Those of them in which the system asked for a pause."
        self._throttled = Counter("reconciler_api_throttled_total", about, ("target",), registry=registry)
        about = "Webhooks, by sender and result (accepted, ignored, repeated, pong, refused, limited)."
        self._webhooks = Counter("reconciler_webhooks_total", about, ("sender", "result"), registry=registry)
        registry.register(_Now(daemon))
        ProcessCollector(registry=registry)

    def passed(self, report: Report) -> None:
        """Count a pass, or a revision that was rejected before it came to one."""
        self._passes.labels(report.stack, report.verdict.value).observe(report.seconds)
        if report.verdict is Verdict.CONVERGED and self._converged.get(report.stack) != report.revision:
            self._converged[report.stack] = report.revision
            if (seconds := self._daemon.vitals.since(report.revision)) is not None:
                self._converge.labels(report.stack).observe(seconds)

    def called(self, target: str, seconds: float, outcome: str) -> None:
        """Count an outgoing call."""
        self._calls.labels(target, outcome).observe(seconds)

    def retried(self, target: str, *, throttled: bool) -> None:
        """Count a try that will be repeated."""
        self._retries.labels(target).inc()
        if throttled:
            self._throttled.labels(target).inc()

    def received(self, sender: str, result: str) -> None:
        """Count a webhook."""
        self._webhooks.labels(sender, result).inc()

    def text(self) -> bytes:
        """Give everything in the text format."""
        return generate_latest(self.registry)


class _Now(Collector):
    """What is read at the scrape, so that it is never older than the question."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._well: dict[str, str] = {}

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: the daemon need not be complete when it is registered."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Give the gauges."""
        daemon, vitals = self._daemon, self._daemon.vitals
        build = {"version": __version__, "python": platform.python_version(), "installation": daemon.workshop.settings.instance}
        yield InfoMetricFamily("reconciler_build", "The program.", value=build)
        yield self._drift()
        yield from self._stacks()
        looks = CounterMetricFamily("reconciler_source_looks", "Looks at the repository (good, failed, rejected).", labels=("result",))
        for result, count in dict(vitals.looks).items():
            looks.add_metric((result,), count)
        yield looks
        age = vitals.monotonic() - (vitals.good if vitals.good is not None else vitals.began)
        about = "Since the repository could last be read; since the start when it never could."
        yield GaugeMetricFamily("reconciler_source_age_seconds", about, value=age)
        yield GaugeMetricFamily("reconciler_queue_depth", "Stacks that wait for a pass, now or later.", value=len(daemon.queue))
        about = "How long the first stack in the queue waits for a free worker."
        yield GaugeMetricFamily("reconciler_queue_overdue_seconds", about, value=daemon.queue.overdue())
        yield GaugeMetricFamily("reconciler_outbox_depth", "Notices that are not delivered yet.", value=daemon.store.owed())

    def _drift(self) -> Metric:
        metric = GaugeMetricFamily("reconciler_drift_open", "Drifts that are not closed, by stack and state.", labels=("stack", "state"))
        counts = self._daemon.store.drift_counts()
        for stack in sorted({*self._daemon.force, *(stack for stack, _ in counts)}):
            for state in sorted({*STATES, *(state for name, state in counts if name == stack)}):
                metric.add_metric((stack, state), counts.get((stack, state), 0))
        return metric

    def _stacks(self) -> Iterator[Metric]:
        about = "When the last pass ended that left the stack converged, as Unix time."
        converged = GaugeMetricFamily("reconciler_last_converged_timestamp_seconds", about, labels=("stack",))
        verdicts = GaugeMetricFamily("reconciler_stack_verdict", "1 for how the last pass of a stack ended.", labels=("stack", "verdict"))
        for stack in sorted(self._daemon.force):
            for run in self._daemon.store.runs(stack, most=1):
                for one in Verdict:
                    verdicts.add_metric((stack, one.value), float(one.value == run["verdict"]))
                if run["verdict"] == Verdict.CONVERGED:
                    self._well[stack] = run["finished"]
            if stack not in self._well:
                self._well[stack] = self._daemon.store.last_converged(stack)
            if self._well[stack]:
                converged.add_metric((stack,), datetime.fromisoformat(self._well[stack]).timestamp())
        yield from (converged, verdicts)

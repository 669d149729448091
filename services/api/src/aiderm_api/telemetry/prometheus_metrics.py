"""Prometheus metrics of the service. They contain no image data, and no label that a client can choose freely."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from aiderm_api.schemas import Assessment

M = TypeVar("M", bound=MetricWrapperBase)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BYTES = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7)


class Metrics:
    """The metrics of one app, in a separate registry."""

    def __init__(self) -> None:
        self._labelled: dict[tuple[MetricWrapperBase, tuple[str, ...]], MetricWrapperBase] = {}
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("aiderm_requests", "Requests answered", ["route", "method", "status"], registry=registry)
        self.seconds = Histogram(
            "aiderm_request_seconds", "Time from the first byte to the last", ["route"], buckets=_SECONDS, registry=registry
        )
        self.in_progress = Gauge("aiderm_requests_in_progress", "Requests in progress", registry=registry)
        self.problems = Counter("aiderm_problems", "Problems answered, by code", ["code"], registry=registry)
        self.unauthorized = Counter("aiderm_unauthorized", "Requests without a valid key", ["reason"], registry=registry)
        self.rate_limited = Counter(
            "aiderm_rate_limited", "Requests refused because their key exceeded its rate", ["key"], registry=registry
        )
        self.shed = Counter("aiderm_shed", "Images dropped without an answer", ["reason"], registry=registry)
        self.stages = Histogram("aiderm_stage_seconds", "Time spent in one stage", ["stage"], buckets=_SECONDS, registry=registry)
        self.decisions = Counter("aiderm_decisions", "Assessments", ["model", "version", "decision"], registry=registry)
        self.lesions = Counter(
            "aiderm_lesion_decisions", "Lesions assessed by several images", ["model", "version", "decision"], registry=registry
        )
        self.comparisons = Counter(
            "aiderm_comparisons", "Pairs of images of one lesion compared", ["model", "version", "result"], registry=registry
        )
        self.warnings = Counter("aiderm_quality_warnings", "Quality warnings", ["code"], registry=registry)
        self.upload_bytes = Histogram("aiderm_upload_bytes", "Size of one image file", buckets=_BYTES, registry=registry)
        self.batch_files = Histogram("aiderm_batch_files", "Images in one batch", buckets=(1, 2, 4, 8, 16, 32), registry=registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Adds a gauge whose value is read when the metrics are collected."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Adds a counter whose value is kept elsewhere."""
        self.registry.register(_ExternalCounter(name, text, read))

    def count_assessment(self, assessment: Assessment) -> None:
        """Counts one answer, its stages and its warnings."""
        model = assessment.model
        self.labelled(self.decisions, model.name, model.version, assessment.decision.value).inc()
        for stage, milliseconds in assessment.timing_ms:
            self.labelled(self.stages, stage).observe(milliseconds / 1000)
        for warning in assessment.quality.warnings:
            self.labelled(self.warnings, warning.code).inc()

    def labelled(self, metric: M, *labels: str) -> M:
        """Returns ``metric.labels(*labels)`` from a cache, which takes a fifth of the time."""
        known: M | None = self._labelled.get((metric, labels))  # type: ignore[assignment]
        if known is None:
            known = self._labelled[metric, labels] = metric.labels(*labels)
        return known

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _ExternalCounter(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._text, value=self._read())

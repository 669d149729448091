"""Logs, metrics and request ids. Neither holds anything of a picture: no content, no file names."""

from __future__ import annotations

import logging
import random
import re
import sys
import time
from collections.abc import Callable, Iterator

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiderm_api.errors.problems import InternalError, ProblemResponse
from aiderm_api.schemas import Assessment

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Ids must differ, not be secret: asking the system for randomness lets every other thread pass before.
_IDS = random.Random()  # noqa: S311
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BYTES = (1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7)
_QUIET = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
log = structlog.get_logger(__name__)


def configure_logging(level: str, form: str) -> None:
    """Sends structlog's and the standard library's records to stderr in one form: ``json``, ``console`` or ``auto``."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # With format_exc_info here, the console renderer would print tracebacks twice.
    rendering: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # The parser logs positions in uploads; its warnings are of no use to an operator.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    structlog.configure(
        # Straight to the stream: through the standard library's records a line takes three times as long.
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


class Metrics:
    """Prometheus metrics of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("aiderm_requests", "Answers", ["route", "method", "status"], registry=registry)
        self.seconds = Histogram(
            "aiderm_request_seconds", "From first byte to last", ["route"], buckets=_SECONDS, registry=registry
        )
        self.in_progress = Gauge("aiderm_requests_in_progress", "Requests being answered", registry=registry)
        self.problems = Counter("aiderm_problems", "Failures by code", ["code"], registry=registry)
        self.unauthorized = Counter("aiderm_unauthorized", "Requests without a valid key", ["reason"], registry=registry)
        self.rate_limited = Counter("aiderm_rate_limited", "Pictures beyond the rate of a key", ["key"], registry=registry)
        self.shed = Counter("aiderm_shed", "Pictures dropped without an answer", ["reason"], registry=registry)
        self.stages = Histogram("aiderm_stage_seconds", "Time in one stage", ["stage"], buckets=_SECONDS, registry=registry)
        self.decisions = Counter("aiderm_decisions", "Assessments", ["model", "version", "decision"], registry=registry)
        self.warnings = Counter("aiderm_quality_warnings", "Quality warnings", ["code"], registry=registry)
        self.upload_bytes = Histogram(
            "aiderm_upload_bytes",
            "Size of one picture",
            buckets=_BYTES,
            registry=registry,
        )
        self.batch_files = Histogram(
            "aiderm_batch_files", "Pictures in one batch", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A counter that somebody else keeps."""
        self.registry.register(_Kept(name, text, read))

    def assessed(self, assessment: Assessment) -> None:
        """Counts one answer and its stages."""
        model = assessment.model
        self.decisions.labels(model.name, model.version, assessment.decision.value).inc()
        for stage, milliseconds in assessment.timing_ms.model_dump().items():
            self.stages.labels(stage).observe(milliseconds / 1000)
        for warning in assessment.quality.warnings:
            self.warnings.labels(warning.code).inc()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _Kept(Collector):
    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._text, value=self._read())


class RequestContext:
    """Outermost: request id, log line, metrics, HEAD for every GET, and the answer for a crash."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        method = scope["method"]
        head = method == "HEAD"
        inner = {**scope, "request_id": request_id, "original_method": method, "method": "GET" if head else method}
        status = 0
        started = time.perf_counter()

        async def wrapped_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                extra = {b"x-request-id": request_id.encode("ascii"), b"x-content-type-options": b"nosniff"}
                present = {name.lower() for name, _ in headers}
                headers += [(name, value) for name, value in extra.items() if name not in present]
                message = {**message, "headers": headers}
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        self.metrics.in_progress.inc()
        try:
            await self.app(inner, receive, wrapped_send)
        except Exception as error:
            # Here and not in Starlette's own handler, which lies outside of this middleware and answers without the id.
            log.error("crash", exc_info=error)
            inner["problem_code"] = InternalError.code
            if status:
                raise  # half an answer is out: only the server can break the connection
            await ProblemResponse(InternalError().problem(request_id))(inner, receive, wrapped_send)
        finally:
            self.metrics.in_progress.dec()
            self._record(inner, method, status, time.perf_counter() - started)

    def _record(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        route = scope.get("route_label") or getattr(scope.get("route"), "path", None) or "unmatched"
        method = method if method in _METHODS else "other"
        code = scope.get("problem_code")
        answered = scope.get("answered_at")
        if answered is not None:
            self.metrics.stages.labels("respond").observe(time.perf_counter() - answered)
        self.metrics.requests.labels(route, method, str(status)).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        if code is not None:
            self.metrics.problems.labels(code).inc()
        line = log.debug if route in _QUIET and status < 400 else log.info
        fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        line("request", **fields, **({"code": code} if code else {}))


def new_request_id() -> str:
    """For a request that brought none of its own."""
    return f"{_IDS.getrandbits(128):032x}"


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if REQUEST_ID.fullmatch(text):
                return str(text)
    return new_request_id()

"""Gives each request an id, a log line, metrics and headers; answers crashes and discards unread bodies."""

from __future__ import annotations

import random
import re
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiderm_api.errors.problems import InternalError, ProblemError
from aiderm_api.middleware.request_checks import RequestChecks
from aiderm_api.middleware.unread_body import Exchange
from aiderm_api.telemetry.prometheus_metrics import Metrics

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Added to every answer that does not set them itself. Answers are data: no browser should run, frame or refer from them.
SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
_SECURITY_ITEMS = tuple(SECURITY_HEADERS.items())
# Ids must be unique but not secret; asking the operating system for randomness would let other threads run first.
_IDS = random.Random()  # noqa: S311
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET = frozenset({"/health", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"})
log = structlog.get_logger(__name__)


class RequestContext:
    """Wraps the whole application.

    Args:
        app: the rest of the application.
        metrics: counts and times the requests.
        checks: what a request must satisfy to reach ``app``.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, checks: RequestChecks) -> None:
        self.app = app
        self.metrics = metrics
        self.checks = checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        method = scope["method"]
        inner = {**scope, "request_id": request_id, "original_method": method, "method": "GET" if method == "HEAD" else method}
        exchange = _Answer(inner, receive, send)
        started = time.perf_counter()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        self.metrics.in_progress.inc()
        try:
            refusal = self.checks.refusal(inner)
            if refusal is None:
                await self.app(inner, exchange.receive, exchange.send)
            else:
                await _refuse(refusal, inner, exchange.receive, exchange.send)
        except Exception as error:
            # Handled here because Starlette's own handler would lie outside this middleware and answer without the id.
            log.error("crash", exc_info=error)
            if exchange.status:
                inner["problem_code"] = InternalError.code
                raise  # part of an answer has been sent: only the server can close the connection
            await _refuse(InternalError(), inner, exchange.receive, exchange.send)
        finally:
            self.metrics.in_progress.dec()
            self._record(inner, method, exchange.status, time.perf_counter() - started)

    def _record(self, scope: Scope, method: str, status: int, seconds: float) -> None:
        route = scope.get("route_label") or getattr(scope.get("route"), "path", None) or "unmatched"
        method = method if method in _METHODS else "other"
        code, metrics = scope.get("problem_code"), self.metrics
        received, answered = scope.get("receive_seconds"), scope.get("answered_at")
        if received is not None:
            metrics.labelled(metrics.stages, "receive").observe(received)
        if answered is not None:
            metrics.labelled(metrics.stages, "respond").observe(time.perf_counter() - answered)
        metrics.labelled(metrics.requests, route, method, str(status)).inc()
        metrics.labelled(metrics.seconds, route).observe(seconds)
        if code is not None:
            metrics.labelled(metrics.problems, code).inc()
        line = log.debug if route in _QUIET and status < 400 else log.info
        fields = {"method": method, "route": route, "status": status, "ms": round(seconds * 1000, 1)}
        line("request", **fields, **({"code": code} if code else {}))


class _Answer(Exchange):
    """Adds the request's id and the security headers; a HEAD request's answer has no body."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.status = 0
        self._request_id = scope["request_id"].encode("ascii")
        self._head = scope["original_method"] == "HEAD"

    def outgoing(self, message: Message) -> Message:
        """See Exchange."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            added = ((b"x-request-id", self._request_id), *_SECURITY_ITEMS)
            return {**message, "headers": headers + [item for item in added if item[0] not in present]}
        return {**message, "body": b""} if self._head and message["type"] == "http.response.body" else message


async def _refuse(problem: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
    scope["problem_code"] = problem.code
    await problem.response(scope["request_id"])(scope, receive, send)


def new_request_id() -> str:
    """Returns an id for a request that came without a valid one."""
    return f"{_IDS.getrandbits(128):032x}"


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if REQUEST_ID.fullmatch(text):
                return str(text)
    return new_request_id()

# ruff: noqa: D101, N818  (a class is its status and code, and is named after the code)
"""Failures as RFC 9457 problem documents: one exception class a status and code, and the handlers that answer with them.

Text for the client names what was received and what is allowed; causes go to the log only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from aiderm_core.imaging.errors import ImageError

MEDIA_TYPE = "application/problem+json"
EXAMPLE_REQUEST_ID = "5f2c0c1c8b7a4a5f9a3a0d4c1b2e3f40"
_RETRIED = frozenset({429, 503, 504})  # these come with Retry-After
log = structlog.get_logger(__name__)


class Problem(BaseModel):
    """An RFC 9457 problem document with a stable ``code`` for programs."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Unsupported Media Type",
                "status": 415,
                "code": "unsupported_type",
                "detail": "Received a PDF document; allowed: JPEG, PNG, WebP, BMP, TIFF or GIF.",
                "request_id": EXAMPLE_REQUEST_ID,
            }
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    retry_after: int | None = None


class ProblemError(Exception):
    """Base of every failure that a client is told about."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    example: ClassVar[str] = ""
    """A detail that clients may meet, for the OpenAPI document; every problem that a route declares has one."""

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))

    def problem(self, request_id: str) -> Problem:
        """The document for this failure."""
        return Problem(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            code=self.code,
            detail=self.detail,
            request_id=request_id,
            retry_after=self.retry_after,
        )


class MalformedRequest(ProblemError):
    status, code = 400, "malformed_request"


class MalformedMultipart(ProblemError):
    status, code = 400, "malformed_multipart"
    example = "Received: multipart/form-data without a boundary parameter. Allowed: one with it."


class MissingFile(ProblemError):
    status, code = 400, "missing_file"
    example = "Received: no parts. Allowed: a file part named 'file' with a filename."


class Unauthorized(ProblemError):
    status, code = 401, "unauthorized"
    example = "Received: no Authorization header. Allowed: 'Authorization: Bearer KEY' with a key from this service's operator."


class NotFound(ProblemError):
    status, code = 404, "not_found"
    example = "melanoma 2 has no report."


class UnknownModel(ProblemError):
    status, code = 404, "unknown_model"
    example = "Received: model 'moles'. Allowed: melanoma."


class TooLarge(ProblemError):
    status, code = 413, "too_large"
    example = "Received: a file of more than 20,000,000 bytes. Allowed: 20,000,000 bytes (20 MB)."


class UnsupportedType(ProblemError):
    status, code = 415, "unsupported_type"
    example = "Received a PDF document; allowed: JPEG, PNG, WebP, BMP, TIFF or GIF."


class EmptyFile(ProblemError):
    status, code = 422, "empty_file"
    example = "Received an empty file; allowed: JPEG, PNG, WebP, BMP, TIFF or GIF."


class Undecodable(ProblemError):
    status, code = 422, "undecodable"
    example = "Received samples of 32 bits in a format without a fixed range; allowed: 8 or 16 bits unsigned."


class Truncated(ProblemError):
    status, code = 422, "truncated"
    example = "Received a JPEG file that ends before its picture does (12,000 bytes); send it again whole."


class TooSmall(ProblemError):
    status, code = 422, "too_small"
    example = "Received 80 x 60 pixels; allowed: a shorter side of at least 100."


class TooManyPixels(ProblemError):
    status, code = 422, "too_many_pixels"
    example = "Received 30,000 x 30,000 pixels (900,000,000); allowed: at most 50,000,000."


class InvalidParameter(ProblemError):
    status, code = 422, "invalid_parameter"
    example = "query explain: Input should be a valid boolean, unable to interpret input. Received: 'perhaps'"


class ClientClosedRequest(ProblemError):
    """The client hung up; nobody reads this answer, it is for the log and the metrics."""

    status, code = 499, "client_closed_request"

    def problem(self, request_id: str) -> Problem:
        """499 is nginx's number, which Python's table of statuses lacks."""
        return Problem(title="Client Closed Request", status=499, code=self.code, detail=self.detail, request_id=request_id)


class RateLimited(ProblemError):
    status, code = 429, "rate_limited"
    example = "Received: more pictures with this key than it may send. Allowed: 5 a second, and up to 20 at once after a pause."


class Overloaded(ProblemError):
    status, code = 503, "overloaded"
    example = "Received: one picture more than the 32 that may wait."


class NoModel(ProblemError):
    status, code = 503, "no_model"
    example = "The model 'melanoma' does not serve at present; /health says why."


class DeadlineExceeded(ProblemError):
    status, code = 504, "deadline"
    example = "No answer within 15 s. Try again in a moment."


class InternalError(ProblemError):
    status, code = 500, "internal_error"
    example = "The service failed to answer. The cause is in its log under this request_id."

    def __init__(self) -> None:
        super().__init__(self.example)


_IMAGE_PROBLEMS: dict[str, type[ProblemError]] = {
    kind.code: kind for kind in (EmptyFile, UnsupportedType, Undecodable, Truncated, TooSmall, TooManyPixels, TooLarge)
}
# Codes of what the framework itself refuses.
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_type"}


def from_image_error(error: ImageError) -> ProblemError:
    """The problem for a picture that the core refused."""
    kind = _IMAGE_PROBLEMS.get(error.code, Undecodable)
    return kind(error.detail)


class ProblemResponse(JSONResponse):
    """Answers with a problem document."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        extra = dict(headers or {})
        if problem.retry_after is not None:
            extra["Retry-After"] = str(problem.retry_after)
        self.problem = problem
        super().__init__(problem.model_dump(exclude_none=True), status_code=problem.status, headers=extra)


def request_id_of(request: Request) -> str:
    """The id that the middleware gave this request."""
    return str(request.scope.get("request_id", ""))


def _note(request: Request, problem: Problem) -> ProblemResponse:
    request.scope["problem_code"] = problem.code  # the middleware logs and counts it
    return ProblemResponse(problem)


async def _on_problem(request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, ProblemError):
        raise error
    if error.__cause__ is not None:
        log.info("cause", request_id=request_id_of(request), code=error.code, cause=repr(error.__cause__))
    return _note(request, error.problem(request_id_of(request)))


async def _on_invalid(request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    parts = []
    for item in error.errors():
        where = " ".join(str(part) for part in item["loc"])
        parts.append(f"{where}: {item['msg']}. Received: {str(item.get('input'))[:100]!r}")
    return _note(request, InvalidParameter("; ".join(parts)).problem(request_id_of(request)))


async def _on_http(request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 404:
        detail = f"There is nothing at this address. Received: {request.url.path[:200]!r}"
    elif error.status_code == 405:
        allowed = {method.strip() for method in headers.get("Allow", headers.get("allow", "GET")).split(",")}
        if "GET" in allowed:
            allowed.add("HEAD")  # answered for every GET, see observability.RequestContext
        headers["Allow"] = ", ".join(sorted(allowed))
        detail = f"Received: {request.scope.get('original_method', request.method)}. Allowed here: {headers['Allow']}."
    else:
        detail = str(error.detail)
    problem = Problem(
        title=HTTPStatus(error.status_code).phrase,
        status=error.status_code,
        code=_HTTP_CODES.get(error.status_code, HTTPStatus(error.status_code).name.lower()),
        detail=detail,
        request_id=request_id_of(request),
    )
    request.scope["problem_code"] = problem.code
    return ProblemResponse(problem, headers)


HANDLERS: dict[Any, Any] = {ProblemError: _on_problem, RequestValidationError: _on_invalid, HTTPException: _on_http}


def install(app: FastAPI) -> None:
    """Makes every failure of ``app`` a problem document; crashes are answered by observability.RequestContext."""
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)


def _example(kind: type[ProblemError]) -> dict[str, Any]:
    problem = Problem(
        title=HTTPStatus(kind.status).phrase,
        status=kind.status,
        code=kind.code,
        detail=kind.example,
        request_id=EXAMPLE_REQUEST_ID,
        retry_after=2 if kind.status in _RETRIED else None,
    )
    return problem.model_dump(exclude_none=True)


def responses(*kinds: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the problems of a route; 500 is always among them."""
    by_status: dict[int | str, dict[str, Any]] = {}
    every: tuple[type[ProblemError], ...] = (*kinds, InternalError)
    for kind in every:
        entry = by_status.setdefault(
            kind.status,
            {"codes": [], "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}}},
        )
        entry["codes"].append(kind.code)
        entry["content"][MEDIA_TYPE]["examples"][kind.code] = {"value": _example(kind)}
        if kind.status in _RETRIED:
            entry["headers"] = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
    for status, entry in by_status.items():
        codes = entry.pop("codes")
        entry["description"] = f"{HTTPStatus(int(status)).phrase}: " + ", ".join(f"`{code}`" for code in codes)
    return by_status

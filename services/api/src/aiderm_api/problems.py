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

from aiderm_core.imaging import ImageError

MEDIA_TYPE = "application/problem+json"
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
                "detail": "Received: a PDF document. Allowed: JPEG, PNG, WebP, BMP, TIFF or GIF.",
                "request_id": "5f2c0c1c8b7a4a5f9a3a0d4c1b2e3f40",
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


class MalformedMultipart(ProblemError):
    status, code = 400, "malformed_multipart"


class MissingFile(ProblemError):
    status, code = 400, "missing_file"


class NotFound(ProblemError):
    status, code = 404, "not_found"


class UnknownModel(ProblemError):
    status, code = 404, "unknown_model"


class TooLarge(ProblemError):
    status, code = 413, "too_large"


class UnsupportedType(ProblemError):
    status, code = 415, "unsupported_type"


class EmptyFile(ProblemError):
    status, code = 422, "empty_file"


class Undecodable(ProblemError):
    status, code = 422, "undecodable"


class Truncated(ProblemError):
    status, code = 422, "truncated"


class TooSmall(ProblemError):
    status, code = 422, "too_small"


class TooManyPixels(ProblemError):
    status, code = 422, "too_many_pixels"


class InvalidParameter(ProblemError):
    status, code = 422, "invalid_parameter"


class ClientClosedRequest(ProblemError):
    """The client hung up; nobody reads this answer, it is for the log and the metrics."""

    status, code = 499, "client_closed_request"

    def problem(self, request_id: str) -> Problem:
        """499 is nginx's number, which Python's table of statuses lacks."""
        return Problem(title="Client Closed Request", status=499, code=self.code, detail=self.detail, request_id=request_id)


class Overloaded(ProblemError):
    status, code = 503, "overloaded"


class NoModel(ProblemError):
    status, code = 503, "no_model"


class DeadlineExceeded(ProblemError):
    status, code = 504, "deadline"


class InternalError(ProblemError):
    status, code = 500, "internal_error"

    def __init__(self) -> None:
        super().__init__("The service failed to answer. The cause is in its log under this request_id.")


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


def responses(*kinds: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of the problems of a route; 500 is always among them."""
    by_status: dict[int | str, dict[str, Any]] = {}
    every: tuple[type[ProblemError], ...] = (*kinds, InternalError)
    for kind in every:
        entry = by_status.setdefault(
            kind.status,
            {"codes": [], "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}},
        )
        entry["codes"].append(kind.code)
        if kind.status == 503:
            entry["headers"] = {"Retry-After": {"description": "seconds to wait", "schema": {"type": "integer"}}}
    for status, entry in by_status.items():
        codes = entry.pop("codes")
        entry["description"] = f"{HTTPStatus(int(status)).phrase}: " + ", ".join(f"`{code}`" for code in codes)
    return by_status

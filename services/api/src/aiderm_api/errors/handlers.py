"""Turns exceptions into problem documents: those of the core and of serving, the framework's, and ``ProblemError`` itself."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from aiderm_api.errors import problems
from aiderm_api.errors.problems import Problem, ProblemError, ProblemResponse, request_id_of
from aiderm_api.serving import exceptions as serving
from aiderm_core.imaging.errors import ImageError

log = structlog.get_logger(__name__)

_IMAGE_PROBLEMS: dict[str, type[ProblemError]] = {
    kind.code: kind
    for kind in (
        problems.EmptyFile,
        problems.UnsupportedType,
        problems.Undecodable,
        problems.Truncated,
        problems.TooSmall,
        problems.TooManyPixels,
        problems.TooLarge,
    )
}
_SERVING_PROBLEMS: dict[type[serving.ServingError], type[ProblemError]] = {
    serving.OverloadedError: problems.Overloaded,
    serving.DeadlineExceededError: problems.DeadlineExceeded,
    serving.AbandonedError: problems.ClientClosedRequest,
    serving.UnknownModelError: problems.UnknownModel,
    serving.ModelUnavailableError: problems.NoModel,
    serving.OptionNotOfferedError: problems.InvalidParameter,
}
# Codes for requests that the framework itself refuses.
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_type"}


def as_problem(error: Exception) -> ProblemError:
    """Returns the problem that reports ``error`` to a client, with the error's own text if that was written for clients."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ImageError):
        return from_image_error(error)
    kind = _SERVING_PROBLEMS.get(type(error)) if isinstance(error, serving.ServingError) else None
    if kind is None:
        return problems.InternalError()
    return kind(str(error), retry_after=getattr(error, "retry_after", None))


def from_image_error(error: ImageError) -> ProblemError:
    """The problem for an image that the core refused."""
    kind = _IMAGE_PROBLEMS.get(error.code, problems.Undecodable)
    return kind(error.detail)


def install(app: FastAPI) -> None:
    """Makes ``app`` answer every failure with a problem document; RequestContext answers crashes."""
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def _on_expected(request: Request, error: Exception) -> ProblemResponse:
    failure = as_problem(error)
    cause = error.__cause__ if error.__cause__ is not None or failure is error else error
    if cause is not None and failure.status != 503:
        log.info("cause", request_id=request_id_of(request), code=failure.code, cause=repr(cause))
    return _respond(request, failure)


async def _on_invalid(request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    parts = []
    for item in error.errors():
        where = " ".join(str(part) for part in item["loc"])
        parts.append(f"{where}: {item['msg']}. Received: {str(item.get('input'))[:100]!r}")
    return _respond(request, problems.InvalidParameter("; ".join(parts)))


async def _on_http(request: Request, error: Exception) -> ProblemResponse:
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 404:
        detail = f"There is nothing at this address. Received: {request.url.path[:200]!r}"
    elif error.status_code == 405:
        allowed = {method.strip() for method in headers.get("Allow", headers.get("allow", "GET")).split(",")}
        if "GET" in allowed:
            allowed.add("HEAD")  # RequestContext answers it for every GET
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


def _respond(request: Request, failure: ProblemError) -> ProblemResponse:
    request.scope["problem_code"] = failure.code  # RequestContext logs and counts it
    return failure.response(request_id_of(request))


HANDLERS: dict[Any, Any] = {
    ProblemError: _on_expected,
    serving.ServingError: _on_expected,
    ImageError: _on_expected,
    RequestValidationError: _on_invalid,
    HTTPException: _on_http,
}

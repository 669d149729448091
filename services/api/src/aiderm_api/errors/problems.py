# ruff: noqa: D101, N818  (a class is its status and code, and is named after the code)
"""Failures as RFC 9457 problem documents: one exception class for each status and code.

Texts for clients name what was received and what is allowed; causes go to the log only.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import ClassVar

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict
from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "application/problem+json"
EXAMPLE_REQUEST_ID = "5f2c0c1c8b7a4a5f9a3a0d4c1b2e3f40"


EXAMPLE: JsonDict = {
    "type": "about:blank",
    "title": "Unsupported Media Type",
    "status": 415,
    "code": "unsupported_type",
    "detail": "Received a PDF document; allowed: JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM.",
    "request_id": EXAMPLE_REQUEST_ID,
}


class Problem(BaseModel):
    """An RFC 9457 problem document with a stable ``code`` for programs."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    retry_after: int | None = None


class ProblemError(Exception):
    """Base class of all failures that are reported to a client.

    Args:
        detail: what was received and what is allowed.
        retry_after: seconds after which another attempt makes sense; rounded up.
        headers: additional headers of the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    example: ClassVar[str] = ""
    """A detail as the service writes it, for the OpenAPI document; every problem that a route declares has one."""

    def __init__(self, detail: str, *, retry_after: float | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))
        self.headers = headers

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

    def response(self, request_id: str) -> ProblemResponse:
        """The HTTP response for this failure."""
        return ProblemResponse(self.problem(request_id), self.headers)


class MalformedRequest(ProblemError):
    status, code = 400, "malformed_request"
    example = "Received: a path with control characters, '/predict\\n'. Allowed: a path without them."


class MalformedMultipart(ProblemError):
    status, code = 400, "malformed_multipart"
    example = "Received: multipart/form-data without a boundary parameter. Allowed: one with it."


class MalformedTensors(ProblemError):
    status, code = 400, "malformed_tensors"


class MissingFile(ProblemError):
    status, code = 400, "missing_file"
    example = "Received: no parts. Allowed: a file part named 'file' with a filename."


class Unauthorized(ProblemError):
    status, code = 401, "unauthorized"
    example = "Received: no Authorization header. Allowed: 'Authorization: Bearer KEY' with a key from this service's operator."


class CrossSite(ProblemError):
    status, code = 403, "cross_site"
    example = (
        "Received: a request from a page of another site ('https://other.example'). Allowed: pages of this service, and of the "
        "origins that its operator has named in AIDERM_CORS_ORIGINS."
    )


class NotFound(ProblemError):
    status, code = 404, "not_found"
    example = "melanoma 1 has no report."


class UnknownModel(ProblemError):
    status, code = 404, "unknown_model"
    example = "Received: model 'moles'. Allowed: melanoma."


class NotAcceptable(ProblemError):
    status, code = 406, "not_acceptable"
    example = "Received: a PNG file and 'Accept: application/dicom'. Allowed: a DICOM file, which such a report refers to."


class RequestTimeout(ProblemError):
    status, code = 408, "request_timeout"


class TooLarge(ProblemError):
    status, code = 413, "too_large"
    example = "Received: a file of more than 20,000,000 bytes. Allowed: 20,000,000 bytes (20 MB)."


class UnsupportedType(ProblemError):
    status, code = 415, "unsupported_type"
    example = "Received a PDF document; allowed: JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM."


class UnknownHost(ProblemError):
    status, code = 421, "unknown_host"


class EmptyFile(ProblemError):
    status, code = 422, "empty_file"
    example = "Received an empty file; allowed: JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM."


class Undecodable(ProblemError):
    status, code = 422, "undecodable"
    example = (
        "The TIFF file has samples of 32 bits of sample format 3; allowed: 8 or 16 bits unsigned. "
        "Received 57,794 bytes; allowed: a complete JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM."
    )


class Truncated(ProblemError):
    status, code = 422, "truncated"
    example = "Received a JPEG file that is incomplete or damaged (12,000 bytes); send the original file again."


class TooSmall(ProblemError):
    status, code = 422, "too_small"
    example = "Received 80 x 60 pixels; allowed: a shorter side of at least 100."


class TooManyPixels(ProblemError):
    status, code = 422, "too_many_pixels"
    example = "Received 30000 x 30000 = 900,000,000 pixels; allowed: at most 50,000,000."


class InvalidParameter(ProblemError):
    status, code = 422, "invalid_parameter"
    example = "query explain: Input should be a valid boolean, unable to interpret input. Received: 'perhaps'"


class HeadersTooLarge(ProblemError):
    status, code = 431, "headers_too_large"


class ClientClosedRequest(ProblemError):
    """The client disconnected. Nobody reads this answer; it is for the log and the metrics."""

    status, code = 499, "client_closed_request"

    def problem(self, request_id: str) -> Problem:
        """The document for this failure; 499 is nginx's status code, which ``HTTPStatus`` lacks."""
        return Problem(title="Client Closed Request", status=499, code=self.code, detail=self.detail, request_id=request_id)


class RateLimited(ProblemError):
    status, code = 429, "rate_limited"
    example = "Received: more images with this key than it may send. Allowed: 5 a second, and up to 20 at once after a pause."


class Overloaded(ProblemError):
    status, code = 503, "overloaded"
    example = "The queue is full. Received: one image more than the 128 that may wait."


class NoModel(ProblemError):
    status, code = 503, "no_model"
    example = "The model 'melanoma' is not being served at present; /health says why."


class DeadlineExceeded(ProblemError):
    status, code = 504, "deadline"
    example = "No answer within 15 s. Try again in a moment."


class InternalError(ProblemError):
    status, code = 500, "internal_error"
    example = "The service failed to answer. The cause is in its log under this request_id."

    def __init__(self) -> None:
        super().__init__(self.example)


class ProblemResponse(JSONResponse):
    """Answers with a problem document; under /v2 in the form of the Open Inference Protocol, ``{"error": "..."}``."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        extra = dict(headers or {})
        if problem.retry_after is not None:
            extra["Retry-After"] = str(problem.retry_after)
        self.problem = problem
        super().__init__(problem.model_dump(exclude_none=True), status_code=problem.status, headers=extra)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if is_open_inference(scope):
            self.body = self.render({"error": self.problem.detail})
            self.headers["content-length"], self.headers["content-type"] = str(len(self.body)), "application/json"
        await super().__call__(scope, receive, send)


def is_open_inference(scope: Scope) -> bool:
    """Whether a request is for a path of the Open Inference Protocol, version 2."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == "/v2" or path.startswith("/v2/")


def request_id_of(request: Request) -> str:
    """The id that the middleware gave this request."""
    return str(request.scope.get("request_id", ""))

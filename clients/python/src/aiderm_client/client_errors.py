# ruff: noqa: D101, N818  (a class is its code, and is named after it)
"""Exceptions: no answer, an answer that is not from this API, or a problem with a stable code."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """The RFC 9457 document with which the service reports a failure."""

    model_config = ConfigDict(frozen=True)

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    retry_after: int | None = None


class AidermError(Exception):
    """Base class of all errors of this package."""


class ConnectionFailed(AidermError):
    """No answer came; ``__cause__`` says why."""


class TimedOut(ConnectionFailed):
    """No answer came in time. Raise ``timeout``, or send fewer images at once."""


class UnexpectedAnswer(AidermError):
    """The answer did not come from this API but, for example, from a proxy or an unknown version."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"status {status}: {reason}")
        self.status = status


class ProblemError(AidermError):
    """The service refused or failed, and said why.

    Attributes:
        problem: the document; its ``request_id`` finds the request in the service's log.
        retry_after: seconds after which another try may succeed, if the service named them.
    """

    code: ClassVar[str] = ""
    _kinds: ClassVar[dict[str, type[ProblemError]]] = {}

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.status} {problem.code}: {problem.detail} (request {problem.request_id})")
        self.problem = problem
        self.retry_after = problem.retry_after if retry_after is None else retry_after

    def __init_subclass__(cls) -> None:
        ProblemError._kinds[cls.code] = cls

    @staticmethod
    def of(problem: Problem, retry_after: float | None = None) -> ProblemError:
        """The error for this problem's code; plain ``ProblemError`` for a code that this version does not know."""
        return ProblemError._kinds.get(problem.code, ProblemError)(problem, retry_after)


class MalformedRequest(ProblemError):
    code = "malformed_request"


class MalformedMultipart(ProblemError):
    code = "malformed_multipart"


class MissingFile(ProblemError):
    code = "missing_file"


class CrossSite(ProblemError):
    code = "cross_site"


class UnknownHost(ProblemError):
    code = "unknown_host"


class RequestTimeout(ProblemError):
    code = "request_timeout"


class HeadersTooLarge(ProblemError):
    code = "headers_too_large"


class Unauthorized(ProblemError):
    code = "unauthorized"


class NotFound(ProblemError):
    code = "not_found"


class UnknownModel(ProblemError):
    code = "unknown_model"


class MethodNotAllowed(ProblemError):
    code = "method_not_allowed"


class NotAcceptable(ProblemError):
    code = "not_acceptable"


class TooLarge(ProblemError):
    code = "too_large"


class UnsupportedType(ProblemError):
    code = "unsupported_type"


class EmptyFile(ProblemError):
    code = "empty_file"


class Undecodable(ProblemError):
    code = "undecodable"


class Truncated(ProblemError):
    code = "truncated"


class TooSmall(ProblemError):
    code = "too_small"


class TooManyPixels(ProblemError):
    code = "too_many_pixels"


class InvalidParameter(ProblemError):
    code = "invalid_parameter"


class RateLimited(ProblemError):
    code = "rate_limited"


class InternalError(ProblemError):
    code = "internal_error"


class Overloaded(ProblemError):
    code = "overloaded"


class NoModel(ProblemError):
    code = "no_model"


class Deadline(ProblemError):
    code = "deadline"

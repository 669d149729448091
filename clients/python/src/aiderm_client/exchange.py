"""Runs one call from the first attempt to the answer, without any input or output: both clients drive this generator."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

import httpx
from pydantic import ValidationError

from aiderm_client.calls import ApiCall
from aiderm_client.client_errors import AidermError, ConnectionFailed, Problem, ProblemError, TimedOut, UnexpectedAnswer
from aiderm_client.retry import CONNECTION_FAILURES, STATUSES, Retry, retry_after_of

T = TypeVar("T")
Outcome = httpx.Response | httpx.TransportError


def exchange(call: ApiCall[T], retry: Retry) -> Generator[float, Outcome, T]:
    """Yields the seconds to wait before an attempt, is sent that attempt's outcome, and returns the answer.

    Raises:
        AidermError: there is no answer, and there will be no further attempt.
    """
    attempt, pause = 0, 0.0
    while True:
        outcome = yield pause
        attempt += 1
        if isinstance(outcome, httpx.TransportError):
            next_pause = retry.pause(attempt) if isinstance(outcome, CONNECTION_FAILURES) else None
            if next_pause is None:
                raise _no_answer(outcome, attempt) from outcome
        elif call.answered_by(outcome):
            return _read(call, outcome)
        else:
            error = _failure(outcome)
            asked = error.retry_after if isinstance(error, ProblemError) else retry_after_of(outcome.headers)
            next_pause = retry.pause(attempt, asked) if outcome.status_code in STATUSES else None
            if next_pause is None:
                raise error
        pause = next_pause


def _no_answer(error: httpx.TransportError, attempts: int) -> ConnectionFailed:
    kind = TimedOut if isinstance(error, httpx.TimeoutException) else ConnectionFailed
    return kind(f"no answer after {attempts} attempt(s): {type(error).__name__}: {error}")


def _read(call: ApiCall[T], response: httpx.Response) -> T:
    try:
        return call.read(response)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnexpectedAnswer(
            response.status_code, f"not what this version knows, first at {where!r}: {first['msg']}"
        ) from error


def _failure(response: httpx.Response) -> AidermError:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        received = response.headers.get("content-type", "no content type")
        return UnexpectedAnswer(response.status_code, f"expected JSON of the AI Dermatologist. Received: {received}")
    return ProblemError.of(problem, retry_after_of(response.headers))

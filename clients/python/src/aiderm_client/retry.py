"""Decides when to retry, and how long to wait first."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

STATUSES = frozenset({429, 503, 504})
# The server did not get the whole request, or did not send the whole answer: the connection was closed or never opened.
# Read timeouts are not included: the server is only slow, and would be given the same work twice.
CONNECTION_FAILURES = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)


@dataclass(frozen=True)
class Retry:
    """Retries of 429, 503, 504 and connection failures. Every call may be repeated: a prediction changes nothing.

    Attributes:
        attempts: how often a request is sent at most; 1 never repeats it.
        first_pause: seconds before the second attempt; doubled for each one after it.
        longest_pause: upper limit of that pause in seconds.
        longest_wait: the longest ``Retry-After`` in seconds that is waited for; a longer one is left to the caller, as
            ``retry_after`` of the error, because trying earlier than the service asked would only add to its load.
        jitter: returns numbers from 0 to 1, so that clients that failed together do not come back together.
    """

    attempts: int = 4
    first_pause: float = 0.5
    longest_pause: float = 8.0
    longest_wait: float = 60.0
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1. Received: {self.attempts}")
        for name in ("first_pause", "longest_pause", "longest_wait"):
            if not getattr(self, name) >= 0:  # also refuses NaN
                raise ValueError(f"{name} must be 0 or more seconds. Received: {getattr(self, name)}")

    def pause(self, attempt: int, retry_after: float | None = None) -> float | None:
        """Seconds to wait before the next attempt; None if there is no further one.

        Args:
            attempt: 1-based number of the attempt that failed.
            retry_after: seconds that the service asked for.
        """
        if attempt >= self.attempts:
            return None
        if retry_after is not None:
            return None if retry_after > self.longest_wait else retry_after + self.first_pause * self.jitter()
        grown = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt - 1, 64))
        return grown * (1 + self.jitter()) / 2


def retry_after_of(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds in a ``Retry-After`` header, which holds a number or an HTTP date; None if it holds neither.

    Args:
        headers: headers of the answer. A date is compared with the answer's ``Date``, so that wrong clocks do not matter.
        now: time to compare with if ``Date`` is missing; by default that of the local clock.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    date = _date(value)
    if date is None:
        return None
    return max(0.0, (date - (_date(headers.get("date", "")) or now or datetime.now(UTC))).total_seconds())


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)

"""Rate limits: token buckets that limit how many images a key may have assessed."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiderm_api.auth.keys import ApiKey, Rate

Clock = Callable[[], float]


class TokenBucket:
    """Holds up to ``burst`` tokens and fills at ``per_second``; an image costs one.

    The images of a batch can only be counted once it has arrived. By then it is admitted, so it is charged afterwards, and the
    balance may become negative.
    """

    def __init__(self, rate: Rate, clock: Clock = time.monotonic) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = float(rate.burst)
        self._filled = clock()

    def take(self) -> float:
        """Takes one token and returns 0; without a token, returns the seconds until there will be one."""
        self._fill()
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate.per_second

    def charge(self, count: int) -> None:
        """Takes ``count`` tokens, even if the balance becomes negative."""
        self._fill()
        self._tokens -= count

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(float(self.rate.burst), self._tokens + (now - self._filled) * self.rate.per_second)
        self._filled = now


class RateLimits:
    """One bucket for each key, in this process; several processes each count for themselves.

    Args:
        default: rate of keys that do not set their own.
    """

    def __init__(self, default: Rate, clock: Clock = time.monotonic) -> None:
        self._default = default
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}

    def bucket(self, key: ApiKey) -> TokenBucket | None:
        """Returns the key's bucket, a new one if its rate has changed; None for a key without a limit."""
        if key.rate == "unlimited":
            return None
        rate = key.rate or self._default
        bucket = self._buckets.get(key.id)
        if bucket is None or bucket.rate != rate:
            bucket = self._buckets[key.id] = TokenBucket(rate, self._clock)
        return bucket

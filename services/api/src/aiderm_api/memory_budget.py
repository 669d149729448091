"""Limits the bytes of uploads that all requests together hold in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiderm_api.errors.problems import Overloaded

RETRY_AFTER = 2.0


class MemoryBudget:
    """Bytes of uploads that all requests together may hold."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.taken = 0
        """Total bytes taken since the start."""

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Yields a share of the budget; the bytes taken through it are given back at the end."""
        lease = Lease(self)
        try:
            yield lease
        finally:
            self.held -= lease.taken


class Lease:
    """One request's share of a MemoryBudget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.taken = 0

    def take(self, count: int) -> None:
        """Reserves ``count`` bytes.

        Raises:
            Overloaded: all requests together hold too much already.
        """
        if self._budget.held + count > self._budget.limit:
            raise Overloaded("Too many uploads at once. Try again in a moment.", retry_after=RETRY_AFTER)
        self._budget.held += count
        self._budget.taken += count
        self.taken += count

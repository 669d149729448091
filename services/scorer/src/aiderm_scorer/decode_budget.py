"""Shares the budget of decoded bytes among the worker processes, of which there is one per core."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiderm_core.imaging.budget import DecodeBudget, default_limit
from aiderm_core.runtime.cores import usable_cores

_LOCKED = Path(__file__)  # any file that all workers of a machine see


class SharedBudget(DecodeBudget):
    """A budget that worker processes share: each has its part, and only one at a time decodes an image that exceeds it.

    The lock for such images is released when the process that holds it ends, for whatever reason.

    Args:
        processes: number that share it; one per core by default.
        limit: bytes that one image may cost; a quarter of the memory by default.
    """

    def __init__(self, processes: int | None = None, limit: int | None = None) -> None:
        super().__init__(default_limit() if limit is None else limit)
        self._part = self.limit // (processes or usable_cores())

    @contextmanager
    def admit(self, cost: int, deadline: float | None = None) -> Iterator[None]:
        """See ``DecodeBudget.admit``; waiting for other processes has no deadline, because the worker's supervisor has one."""
        with super().admit(cost, deadline):
            if cost <= self._part:
                yield
                return
            with _LOCKED.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

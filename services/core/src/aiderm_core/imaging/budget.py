"""Limits the memory for decoded images in the whole process: an image waits until its estimated cost fits into the budget."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
# Decoding may use one part in four of the memory; the rest holds models, the runtime's buffers, uploads and the interpreter.
_SHARE = 4
_SMALL_PART = 6  # one part in six of a divided budget is for small images


class BudgetTimeoutError(TimeoutError):
    """The deadline passed before there was room in the budget."""


class Budget(Protocol):
    """Admits work according to the bytes that it holds."""

    @property
    def largest(self) -> int:
        """The highest cost that can ever fit."""

    def admit(self, cost: int, deadline: float | None = None) -> AbstractContextManager[None]:
        """Holds ``cost`` bytes while the block runs; see ``DecodeBudget.admit``."""


class DecodeBudget:
    """Admits work in order of arrival while the sum of the costs stays within a limit. Thread-safe.

    Args:
        limit: bytes that decoding may hold at once.
        clock: seconds, as ``time.monotonic`` counts them; the deadlines of ``admit`` are times of this clock.

    Raises:
        ValueError: ``limit`` is not positive.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        if limit <= 0:
            raise ValueError(f"the limit must be at least 1 byte. Received: {limit}")
        self.limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._used = 0
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    @property
    def largest(self) -> int:
        """The highest cost that can ever fit."""
        return self.limit

    @property
    def used(self) -> int:
        """Bytes that are currently admitted."""
        with self._lock:
            return self._used

    @property
    def waiting(self) -> int:
        """Number of callers that wait for room."""
        with self._lock:
            return len(self._waiting)

    @contextmanager
    def admit(self, cost: int, deadline: float | None = None) -> Iterator[None]:
        """Holds ``cost`` bytes of the budget while the block runs; first waits for them, after earlier callers.

        Args:
            cost: bytes.
            deadline: when to give up waiting; None waits indefinitely.

        Raises:
            BudgetTimeoutError: the deadline passed before there was room.
            ValueError: ``cost`` is negative, or exceeds the limit and would never fit.
        """
        if not 0 <= cost <= self.limit:
            raise ValueError(f"the cost must lie within 0..{self.limit:,} bytes. Received: {cost:,}")
        self._acquire(cost, deadline)
        try:
            yield
        finally:
            self._release(cost)

    def _release(self, cost: int) -> None:
        with self._lock:
            self._used -= cost
            self._admit_next()

    def _acquire(self, cost: int, deadline: float | None) -> None:
        admitted = threading.Event()
        entry = (cost, admitted)
        with self._lock:
            self._waiting.append(entry)
            self._admit_next()
        if admitted.is_set():
            return
        try:
            in_time = admitted.wait(None if deadline is None else max(0.0, deadline - self._clock()))
        except BaseException:
            if self._withdraw(entry):
                self._release(cost)
            raise
        if not in_time and not self._withdraw(entry):
            raise BudgetTimeoutError(f"No room to decode {cost:,} bytes within the deadline; at most {self.limit:,} at once.")

    def _withdraw(self, entry: tuple[int, threading.Event]) -> bool:
        """Takes a caller out of the queue; returns True if it was admitted in the meantime."""
        with self._lock:
            if entry[1].is_set():
                return True
            self._waiting.remove(entry)
            self._admit_next()  # the caller may have been the first in the queue and blocked the others
            return False

    def _admit_next(self) -> None:
        while self._waiting and self._used + self._waiting[0][0] <= self.limit:
            cost, admitted = self._waiting.popleft()
            self._used += cost
            admitted.set()


class DividedBudget:
    """A budget of two parts, so that small images never wait for memory that large ones hold. Thread-safe.

    Args:
        limit: bytes that decoding may hold at once, in both parts together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._small = DecodeBudget(max(1, limit // _SMALL_PART))
        self._large = DecodeBudget(max(1, limit - self._small.limit))
        self.small = self._small.limit // 2
        """The highest cost of a small image."""

    @property
    def largest(self) -> int:
        """See ``DecodeBudget.largest``; the limit of the part for large images."""
        return self._large.limit

    @property
    def used(self) -> int:
        """See ``DecodeBudget.used``."""
        return self._small.used + self._large.used

    @property
    def waiting(self) -> int:
        """See ``DecodeBudget.waiting``."""
        return self._small.waiting + self._large.waiting

    @contextmanager
    def admit(self, cost: int, deadline: float | None = None) -> Iterator[None]:
        """See ``DecodeBudget.admit``."""
        with (self._small if cost <= self.small else self._large).admit(cost, deadline):
            yield


def default_limit(processes: int = 1, proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Default budget in bytes for each of ``processes``, which together get a quarter of the memory that they may use.

    That memory is the machine's, or the limit of the control group (version 1 or 2) or of one of its parents.
    """
    return max(1, memory_limit(proc, cgroup) // (_SHARE * processes))


def memory_limit(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Bytes of memory that this process shares with the others on the machine or in its control group."""
    limits = [_physical(proc)]
    for folder, name in _cgroup_folders(proc, cgroup):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if text.isdecimal():  # "max" means no limit
            limits.append(int(text))
    return min(limit for limit in limits if limit > 0)


def _physical(proc: Path) -> int:
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{proc / 'meminfo'} must hold a line MemTotal")


def _cgroup_folders(proc: Path, cgroup: Path) -> Iterator[tuple[Path, str]]:
    """Yields the folders of this process's group and its parents, each with the name of the file that holds the limit."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in ["0::/", "0:memory:/", *lines]:  # in a container the group's own path is often not mounted, but its root is
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = cgroup, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroup / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = root / path.lstrip("/")
        while True:
            yield folder, name
            if folder == root or root not in folder.parents:
                break
            folder = folder.parent

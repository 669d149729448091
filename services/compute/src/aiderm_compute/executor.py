"""The ``Executor`` protocol: runs calls and yields their results as they finish. ``LocalProcesses`` runs them on this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from aiderm_compute.parent_watch import end_with_parent

_CALLS_A_WORKER = 12  # then it is replaced, which frees memory that TensorFlow keeps


class ExecutionError(ValueError):
    """Work that cannot go on."""


@dataclass(frozen=True)
class Call:
    """Work for one process.

    Attributes:
        name: identifies the call; unique in a run.
        function: defined in a module, so that another process can import it.
        arguments: passed to the function.
        threads: number of threads that the call keeps busy.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    threads: int


@dataclass(frozen=True)
class Done:
    """The outcome of a call.

    Attributes:
        name: of the call.
        value: that its function returned.
        error: what it raised, or what happened to its process; None if it returned.
        node: address of the machine that ran it, if there are several.
    """

    name: str
    value: Any = None
    error: str | None = None
    node: str | None = None


FindMissing = Callable[[], str | None]
"""Returns what the machine that calls it lacks for the work, or None. It is pickled, so a module must define it."""


class Executor(Protocol):
    """Runs calls."""

    def check(self, find_missing: FindMissing) -> None:
        """Checks that what the work needs is available on every machine that will run it.

        Raises:
            ValueError: something is missing somewhere; the text names the place and what is missing.
        """

    def run(self, calls: Sequence[Call]) -> Iterator[Done]:
        """Runs all calls and yields each as it ends, in any order; a failed call does not stop the others.

        Raises:
            ValueError: the work cannot go on at all.
        """


def attempt(call: Call, node: str | None = None) -> Done:
    """Runs a call in this process; an exception becomes an error message."""
    try:
        return Done(call.name, call.function(*call.arguments), node=node)
    except Exception as error:
        return Done(call.name, error=f"{type(error).__name__}: {error}", node=node)


def spawned(jobs: int) -> Pool:
    """A pool of processes that share no memory with this one and end with it."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=end_with_parent)


class LocalProcesses:
    """A pool of processes on this machine, each of which runs several calls."""

    def __init__(self, jobs: int, pool: Callable[[int], Pool]) -> None:
        self._jobs, self._make = jobs, pool
        self._pool: Pool | None = None
        self._taken = 0

    def check(self, find_missing: FindMissing) -> None:
        """Nothing to check: the processes see what this process sees."""

    def run(self, calls: Sequence[Call]) -> Iterator[Done]:
        """See ``Executor``."""
        chunk = _CALLS_A_WORKER * self._jobs
        for start in range(0, len(calls), chunk):
            if self._taken >= chunk:
                self.close()
            self._pool = self._pool or self._make(self._jobs)
            names = {self._pool.submit(attempt, call): call.name for call in calls[start : start + chunk]}
            self._taken += len(names)
            for future in as_completed(names):
                try:
                    yield future.result()
                except BrokenProcessPool as error:
                    raise ExecutionError(
                        f"a process ended during {names[future]} (killed, or out of memory). Run the command again to resume"
                    ) from error

    def close(self) -> None:
        """Waits for the running calls and starts no others."""
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._taken = None, 0


@contextmanager
def local_processes(jobs: int = 1, pool: Callable[[int], Pool] = spawned) -> Iterator[LocalProcesses]:
    """Yields an executor of ``jobs`` processes; once the block ends, for whatever reason, no further call is started."""
    processes = LocalProcesses(jobs, pool)
    try:
        yield processes
    finally:
        processes.close()

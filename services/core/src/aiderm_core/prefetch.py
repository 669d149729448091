"""Prepares the next items, such as decoded images, while the current one is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def prefetch(function: Callable[[T], R], items: Iterable[T], *, workers: int, ahead: int) -> Iterator[R]:
    """Yields ``function(item)`` for each item, in order, computed by threads.

    Args:
        function: must allow calls from several threads at once.
        items: consumed no faster than needed.
        workers: number of threads.
        ahead: number of results, finished or not, that exist in addition to the one in use; bounds the memory.

    Raises:
        Exception: whatever ``function`` raises, in place of its result; calls that have not begun by then are cancelled.
    """
    if workers < 1 or ahead < 1:
        raise ValueError(f"workers and ahead must be at least 1. Received: {workers}, {ahead}")
    upcoming = iter(items)
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix=getattr(function, "__name__", "prefetch")) as pool:

        def submit_next() -> bool:
            for item in upcoming:
                waiting.append(pool.submit(function, item))
                return True
            return False

        try:
            while len(waiting) < ahead and submit_next():
                pass
            while waiting:
                result = waiting.popleft().result()
                submit_next()
                yield result
        finally:
            for future in waiting:
                future.cancel()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yields consecutive items in lists of ``size``; the last list may be shorter."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

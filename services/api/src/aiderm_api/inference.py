"""A bounded queue before a small pool of threads; items that can no longer be answered in time are dropped."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from aiderm_api.problems import ClientClosedRequest, DeadlineExceeded, Overloaded

T = TypeVar("T")
Clock = Callable[[], float]


class Ticket:
    """One item on its way through the pool; jobs ask it between their stages whether to go on."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._clock = clock
        self.seconds = seconds
        self.submitted = clock()
        self.started = self.submitted
        self.deadline = self.submitted + seconds
        self.abandoned = False

    @property
    def queued_ms(self) -> float:
        """Time spent waiting for a worker."""
        return (self.started - self.submitted) * 1000

    def check(self) -> None:
        """Stops a job whose answer nobody will read.

        Raises:
            DeadlineExceeded: the time is over.
            ClientClosedRequest: the client has gone.
        """
        if self.abandoned:
            raise ClientClosedRequest("The client hung up.")
        if self._clock() >= self.deadline:
            raise self.late()

    def late(self) -> DeadlineExceeded:
        """The problem of an item whose time is over."""
        return DeadlineExceeded(f"No answer within {self.seconds:g} s. Try again in a moment.", retry_after=1)


class _Item:
    def __init__(self, job: Callable[[Ticket], Any], ticket: Ticket, future: asyncio.Future[Any]) -> None:
        self.job = job
        self.ticket = ticket
        self.future = future
        self.loop = future.get_loop()


class InferencePool:
    """Threads that take jobs from a bounded queue.

    Args:
        workers: threads; each engine gives every thread an inference request of its own.
        queue_size: items that may wait; more are refused at once.
        deadline_seconds: from submission to answer.
    """

    def __init__(self, workers: int, queue_size: int, deadline_seconds: float, clock: Clock = time.monotonic) -> None:
        self.workers = workers
        self.queue_size = queue_size
        self.deadline_seconds = deadline_seconds
        self._clock = clock
        self._waiting: deque[_Item] = deque()
        self._running = 0
        self._closed = False
        self._seconds_per_item = 0.05  # a moving average, for Retry-After
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"inference-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Items that wait for a worker."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Items that a worker has in hand."""
        return self._running

    async def run(self, job: Callable[[Ticket], T]) -> T:
        """Runs ``job`` in a worker thread. Cancelling the caller gives its place in the queue back.

        Raises:
            Overloaded: the queue is full, or the pool is closing.
            DeadlineExceeded: no answer in time.
        """
        ticket = Ticket(self.deadline_seconds, self._clock)
        item = _Item(job, ticket, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closed:
                raise Overloaded("The service is shutting down. Try again in a moment.", retry_after=2)
            if len(self._waiting) >= self.queue_size:
                wait = self._seconds_per_item * self.queue_size / self.workers
                raise Overloaded(f"Received: one picture more than the {self.queue_size} that may wait.", retry_after=wait)
            self._waiting.append(item)
            self._changed.notify()
        try:
            async with asyncio.timeout(self.deadline_seconds):
                result: T = await item.future
                return result
        except TimeoutError as error:
            raise ticket.late() from error
        finally:
            self._abandon(item)

    def _abandon(self, item: _Item) -> None:
        item.ticket.abandoned = True
        with self._changed:
            if item in self._waiting:
                self._waiting.remove(item)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                item = self._waiting.popleft()
                self._running += 1
            started = item.ticket.started = self._clock()
            result: Any = None
            failure: Exception | None = None
            try:
                item.ticket.check()
                result = item.job(item.ticket)
            except Exception as error:  # whatever a job raises belongs to its caller, and the worker lives on
                failure = error
            with self._changed:
                self._running -= 1
                self._seconds_per_item += 0.1 * (self._clock() - started - self._seconds_per_item)
            _deliver(item, result, failure)
            del item, result, failure  # an idle worker must not hold the last picture

    def close(self, seconds: float) -> None:
        """Takes nothing new, finishes what waits, and returns when that is done or ``seconds`` have passed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = self._clock() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - self._clock()))


def _deliver(item: _Item, result: object, failure: Exception | None) -> None:
    def settle() -> None:
        if item.future.done():
            return
        if failure is None:
            item.future.set_result(result)
        else:
            item.future.set_exception(failure)

    try:
        item.loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop has been closed: nobody waits any more
        return

"""A bounded queue in front of a small pool of threads; items that can no longer be answered in time are dropped unstarted."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from aiderm_api.serving.exceptions import AbandonedError, DeadlineExceededError, OverloadedError
from aiderm_core.runtime import Hint

T = TypeVar("T")
Clock = Callable[[], float]

FIRST_GUESS_SECONDS = 0.05
SMOOTHING = 0.1  # of the moving average of an item's time


class Ticket:
    """One item on its way through the pool; jobs ask it between their stages whether, and how, to go on."""

    def __init__(self, pool: InferencePool, seconds: float, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self.seconds = seconds
        self.submitted = clock()
        self.started = self.submitted
        self.deadline = self.submitted + seconds
        self.abandoned = False

    @property
    def queued_ms(self) -> float:
        """Milliseconds spent waiting for a worker."""
        return (self.started - self.submitted) * 1000

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.deadline - self._clock()

    @property
    def hint(self) -> Hint:
        """How to use the cores now: all of them for an item that is alone, else one core for each item."""
        pool = self._pool
        alone = pool.running <= 1 and not pool.depth
        return "latency" if alone or pool.workers == 1 else "throughput"

    def check(self, needed: float = 0.0) -> None:
        """Stops a job whose answer nobody will read.

        Args:
            needed: seconds that the job still takes.

        Raises:
            DeadlineExceededError: the deadline has passed, or too little time is left before it.
            AbandonedError: the client has disconnected.
        """
        if self.abandoned:
            raise AbandonedError("The client disconnected.")
        if self._clock() + needed >= self.deadline:
            raise self.late()

    def late(self) -> DeadlineExceededError:
        """The error for an item whose deadline has passed."""
        text = f"No answer within {self.seconds:g} s. Try again in a moment."
        return DeadlineExceededError(text, retry_after=self._pool.wait_seconds)


class _Item:
    def __init__(self, job: Callable[[Ticket], Any], ticket: Ticket, future: asyncio.Future[Any]) -> None:
        self.job = job
        self.ticket = ticket
        self.future = future
        self.loop = future.get_loop()


class InferencePool:
    """Threads that take jobs from a bounded queue.

    Args:
        workers: threads; each decodes and infers one item at a time.
        queue_size: items that may wait; further ones are refused at once.
        deadline_seconds: from submission to answer; an item that would wait longer is refused at once as well.
    """

    def __init__(self, workers: int, queue_size: int, deadline_seconds: float, clock: Clock = time.monotonic) -> None:
        self.workers = workers
        self.queue_size = queue_size
        self.deadline_seconds = deadline_seconds
        self._clock = clock
        self._waiting: deque[_Item] = deque()
        self._running = 0
        self.finished = 0
        """Items that a worker has processed, whatever came of it."""
        self._closed = False
        self._seconds_per_item = FIRST_GUESS_SECONDS  # a moving average
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
        """Items that a worker is processing."""
        return self._running

    @property
    def wait_seconds(self) -> float:
        """How long an item that arrived now would wait for its answer, by the moving average of earlier items."""
        return self._seconds_per_item * (1 + (self.depth + self._running) / self.workers)

    def refusal(self) -> OverloadedError | None:
        """Why an item that arrived now would be refused; None when there is room and time for it."""
        if self._closed:
            return OverloadedError("The service is shutting down. Try again in a moment.", retry_after=2)
        waiting = self.depth
        if waiting >= self.queue_size:
            return OverloadedError(
                f"The queue is full. Received: one image more than the {self.queue_size} that may wait.",
                retry_after=self.wait_seconds,
            )
        # With an empty queue an item is always admitted: its time corrects the average, should that be far off.
        if waiting and self.wait_seconds > self.deadline_seconds:
            return OverloadedError(
                f"{waiting} images are waiting already, more than can be answered within {self.deadline_seconds:g} s.",
                retry_after=self.wait_seconds - self.deadline_seconds,
            )
        return None

    async def run(self, job: Callable[[Ticket], T]) -> T:
        """Runs ``job`` in a worker thread. Cancelling the caller frees its place in the queue.

        Raises:
            OverloadedError: the queue is full, or too long for the deadline, or the pool is closing.
            DeadlineExceededError: no answer in time.
        """
        ticket = Ticket(self, self.deadline_seconds, self._clock)
        item = _Item(job, ticket, asyncio.get_running_loop().create_future())
        with self._changed:
            refused = self.refusal()
            if refused is not None:
                raise refused
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
        if item.future.done() and not item.future.cancelled():
            return  # answered, so it is not in the queue any more
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
                # Never more than half of the deadline: an average that is far off must not drop everything.
                item.ticket.check(min(self._seconds_per_item, self.deadline_seconds / 2))
                result = item.job(item.ticket)
            except Exception as error:  # whatever a job raises belongs to its caller, and the worker lives on
                _release_locals(error)
                failure = error
            with self._changed:
                self._running -= 1
                self.finished += 1
                if failure is None:  # dropped and refused items say nothing about the time that an answer takes
                    self._seconds_per_item += SMOOTHING * (self._clock() - started - self._seconds_per_item)
            _deliver(item, result, failure)
            del item, result, failure  # an idle worker must not hold the last image

    def close(self, seconds: float) -> None:
        """Accepts nothing new, finishes what waits, and returns when that is done or ``seconds`` have passed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = self._clock() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - self._clock()))


def _release_locals(error: BaseException | None) -> None:
    """Frees what the frames of a failed job hold: the error outlives them, and its traceback would keep decoded images alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


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
    except RuntimeError:  # the event loop has been closed: nobody waits any more
        return

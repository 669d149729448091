"""A bounded queue for a small pool of threads; items that can no longer be answered in time are dropped before they start.

Quick and slow items wait in separate lanes. Slow items never take all workers or all places (unless there is only one), and quick
items go first unless a slow one was submitted more than ``PATIENCE_SECONDS`` earlier.
"""

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
FIRST_GUESS_SLOW_SECONDS = 1.0
SMOOTHING = 0.1  # of the moving average of an item's time
PATIENCE_SECONDS = 2.0
GRACE_SECONDS = 5.0
"""Longest wait for a job that still runs at its deadline; it ends with its current stage, which is short."""


class Ticket:
    """One item on its way through the pool; between stages, jobs ask it whether to go on and how to use the cores."""

    def __init__(self, pool: InferencePool, seconds: float, clock: Clock, slow: bool = False) -> None:
        self._pool = pool
        self._slow = slow
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
    def hint(self) -> Hint:
        """How to use the cores now: all of them for an item that is alone, else one core for each item."""
        pool = self._pool
        alone = pool.running <= 1 and not pool.depth
        return "latency" if alone or pool.workers == 1 else "throughput"

    def check(self, needed: float = 0.0) -> None:
        """Stops a job whose answer nobody will read.

        Args:
            needed: seconds that the job still needs.

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
        return DeadlineExceededError(text, retry_after=self._pool.wait_seconds(self._slow))


class _Item:
    def __init__(self, job: Callable[[Ticket], Any], ticket: Ticket, future: asyncio.Future[Any]) -> None:
        self.job = job
        self.ticket = ticket
        self.future = future
        self.loop = future.get_loop()
        self.timer: asyncio.TimerHandle | None = None
        self.overdue = False

    def settle(self, result: object, failure: Exception | None) -> None:
        """Delivers the outcome to the caller; runs in the event loop."""
        if self.overdue:
            failure = self.ticket.late()
        if self.future.done():
            return
        if failure is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(failure)


class _Lane:
    """One lane of the queue: the quick items, or the slow ones.

    Args:
        workers: number of workers that may process its items at once.
        places: number of items that may wait.
        seconds: first guess of the time per item.
    """

    def __init__(self, workers: int, places: int, seconds: float) -> None:
        self.workers = workers
        self.places = places
        self.waiting: deque[_Item] = deque()
        self.running = 0
        self.seconds_per_item = seconds  # a moving average

    @property
    def first_submitted(self) -> float | None:
        """When the first waiting item was submitted; None if no item waits or may run now."""
        return self.waiting[0].ticket.submitted if self.waiting and self.running < self.workers else None

    def finish(self, seconds: float, *, failed: bool) -> None:
        """Counts an item that ran for ``seconds``; for a failed item that is only a lower bound of the time for an answer."""
        self.running -= 1
        if not failed or seconds > self.seconds_per_item:
            self.seconds_per_item += SMOOTHING * (seconds - self.seconds_per_item)


class InferencePool:
    """Threads that take jobs from a bounded queue.

    Args:
        workers: threads; each decodes and infers one item at a time. All but one of them may be busy with slow items.
        queue_size: items that may wait, at most half of them slow ones; further ones are refused at once.
        deadline_seconds: from submission to answer; an item that would wait longer is refused at once as well.
    """

    def __init__(self, workers: int, queue_size: int, deadline_seconds: float, clock: Clock = time.monotonic) -> None:
        self.workers = workers
        self.queue_size = queue_size
        self.deadline_seconds = deadline_seconds
        self._clock = clock
        self._quick = _Lane(workers, queue_size, FIRST_GUESS_SECONDS)
        self._slow = _Lane(max(1, workers - 1), max(1, queue_size // 2), FIRST_GUESS_SLOW_SECONDS)
        self.finished = 0
        """Items that a worker has processed, with or without success."""
        self._closed = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"inference-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def _lane(self, slow: bool) -> _Lane:
        return self._slow if slow else self._quick

    @property
    def depth(self) -> int:
        """Items that wait for a worker."""
        return len(self._quick.waiting) + len(self._slow.waiting)

    @property
    def running(self) -> int:
        """Items that a worker is processing."""
        return self._quick.running + self._slow.running

    def wait_seconds(self, slow: bool = False) -> float:
        """Estimates, from the moving average of earlier items, how long an item that arrived now would wait for its answer."""
        lane = self._lane(slow)
        workers = lane.workers if slow else max(1, self.workers - self._slow.running)
        return lane.seconds_per_item * (1 + (len(lane.waiting) + lane.running) / workers)

    def refusal(self, slow: bool = False) -> OverloadedError | None:
        """Returns the reason to refuse an item that arrived now; None if there is room and time for it."""
        if self._closed:
            return OverloadedError("The service is shutting down. Try again in a moment.", retry_after=2)
        lane = self._lane(slow)
        waiting, wait_seconds = len(lane.waiting), self.wait_seconds(slow)
        if waiting >= lane.places or self.depth >= self.queue_size:
            what = f"the {lane.places} large ones that may wait" if slow else f"the {self.queue_size} that may wait"
            return OverloadedError(f"The queue is full. Received: one image more than {what}.", retry_after=wait_seconds)
        # An empty queue always admits an item: if the average is far off, the item's time corrects it.
        if waiting and wait_seconds > self.deadline_seconds:
            return OverloadedError(
                f"{waiting} images are waiting already, more than can be answered within {self.deadline_seconds:g} s.",
                retry_after=wait_seconds - self.deadline_seconds,
            )
        return None

    async def run(self, job: Callable[[Ticket], T], *, slow: bool = False) -> T:
        """Runs ``job`` in a worker thread. Cancelling the caller frees its place in the queue.

        Args:
            job: the work; it checks its ticket between stages, so that it ends soon after the deadline.
            slow: whether the job takes so long that quick ones go first.

        Raises:
            OverloadedError: the queue is full, or too long for the deadline, or the pool is closing.
            DeadlineExceededError: no answer in time; the job has ended, or was given up after ``GRACE_SECONDS``.
        """
        ticket = Ticket(self, self.deadline_seconds, self._clock, slow)
        item = _Item(job, ticket, asyncio.get_running_loop().create_future())
        with self._changed:
            refused = self.refusal(slow)
            if refused is not None:
                try:
                    raise refused
                finally:
                    del refused, item, job  # the error keeps this frame and its uploads alive
            self._lane(slow).waiting.append(item)
            self._changed.notify()
        item.timer = item.loop.call_later(self.deadline_seconds, self._expire, item)
        try:
            result: T = await item.future
            return result
        finally:
            item.timer.cancel()
            ticket.abandoned = True
            self._withdraw(item)
            if not item.future.cancel() and not item.future.cancelled():
                item.future.exception()  # read, so that asyncio does not log an error that came too late
            del item, job  # the future's error refers to this frame: the cycle would keep the upload until a collection

    def _expire(self, item: _Item) -> None:
        item.overdue = True
        if self._withdraw(item):
            item.settle(None, None)
        else:  # it is running, and its memory stays in use until it ends
            item.timer = item.loop.call_later(GRACE_SECONDS, item.settle, None, None)

    def _withdraw(self, item: _Item) -> bool:
        """Removes an item from the queue; returns False if it no longer waits there."""
        if item.future.done() and not item.future.cancelled():
            return False
        with self._changed:
            for lane in (self._quick, self._slow):
                if item in lane.waiting:
                    lane.waiting.remove(item)
                    self._changed.notify_all()  # closing may wait for the last one
                    return True
        return False

    def _next_lane(self) -> _Lane | None:
        """Returns the lane whose first item runs next; None if none may run."""
        quick, slow = self._quick.first_submitted, self._slow.first_submitted
        if slow is not None and (quick is None or slow + PATIENCE_SECONDS < quick):
            return self._slow
        return None if quick is None else self._quick

    def _work(self) -> None:
        while True:
            with self._changed:
                while (lane := self._next_lane()) is None:
                    if self._closed and not self.depth:
                        return
                    self._changed.wait()
                item = lane.waiting.popleft()
                lane.running += 1
            started = item.ticket.started = self._clock()
            result: Any = None
            failure: Exception | None = None
            try:
                # At most half of the deadline: an average that is far off must not drop everything.
                item.ticket.check(min(lane.seconds_per_item, self.deadline_seconds / 2))
                result = item.job(item.ticket)
            except Exception as error:  # the caller gets whatever the job raises; the worker goes on
                _release_locals(error)
                failure = error
            with self._changed:
                lane.finish(self._clock() - started, failed=failure is not None)
                self.finished += 1
                self._changed.notify_all()  # a slow item may be waiting for its turn, and a closing pool for the last item
            _deliver(item, result, failure)
            del item, result, failure  # an idle worker must not keep the last image in memory

    def close(self, seconds: float) -> None:
        """Refuses new items, finishes the waiting ones, and returns when they are done or after ``seconds``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = self._clock() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - self._clock()))


def _release_locals(error: BaseException | None) -> None:
    """Clears the frames of a failed job: the error outlives them, and its traceback would keep decoded images alive."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _deliver(item: _Item, result: object, failure: Exception | None) -> None:
    try:
        item.loop.call_soon_threadsafe(item.settle, result, failure)
    except RuntimeError:  # the event loop has been closed: nobody waits any more
        return

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

from aiderm_api.serving.exceptions import AbandonedError, DeadlineExceededError, OverloadedError
from aiderm_api.serving.queue import PATIENCE_SECONDS, InferencePool


@pytest.fixture
def make_pool():
    pools = []

    def make(workers=1, queue_size=4, deadline_seconds=10.0, **options):
        pools.append(InferencePool(workers, queue_size, deadline_seconds, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close(5)


async def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_results_and_errors_reach_their_callers(make_pool):
    pool = make_pool(workers=3, queue_size=100)

    async def run():
        def job(n):
            def work(ticket):
                if n % 5 == 0:
                    raise KeyError(n)
                return n * n

            return work

        return await asyncio.gather(*(pool.run(job(n)) for n in range(50)), return_exceptions=True)

    for n, result in enumerate(asyncio.run(run())):
        assert result == n * n if n % 5 else isinstance(result, KeyError)


def test_jobs_leave_the_event_loop_free(make_pool):
    pool, gate = make_pool(), threading.Event()

    async def run():
        task = asyncio.create_task(pool.run(lambda _: gate.wait(10)))
        await until(lambda: pool.running == 1)
        gate.set()  # never reached if the job blocked the event loop
        return await task

    assert asyncio.run(run()) is True


def test_the_queue_is_bounded(make_pool):
    pool, gate = make_pool(workers=1, queue_size=2), threading.Event()

    async def run():
        tasks = [asyncio.create_task(pool.run(lambda _: gate.wait(10)))]
        await until(lambda: pool.running == 1)
        tasks += [asyncio.create_task(pool.run(lambda _: True)) for _ in range(2)]
        await until(lambda: pool.depth == 2)
        with pytest.raises(OverloadedError) as caught:
            await pool.run(lambda _: True)
        assert caught.value.retry_after > 0
        gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [True] * 3


def test_items_that_are_too_late_are_dropped_unrun(make_pool):
    pool, gate, ran = make_pool(deadline_seconds=0.2), threading.Event(), []

    async def run():
        first = asyncio.create_task(pool.run(lambda _: gate.wait(10)))
        await until(lambda: pool.running == 1)
        with pytest.raises(DeadlineExceededError):
            await pool.run(lambda _: ran.append(1))
        assert pool.depth == 0
        gate.set()
        with pytest.raises(DeadlineExceededError):
            await first

    asyncio.run(run())
    assert ran == []


def test_cancelling_frees_the_place_and_stops_the_job(make_pool):
    pool, gate, stopped = make_pool(queue_size=1), threading.Event(), []

    def long_job(ticket):
        gate.wait(10)
        try:
            ticket.check()
        except AbandonedError:
            stopped.append(True)
            raise

    async def run():
        running = asyncio.create_task(pool.run(long_job))
        await until(lambda: pool.running == 1)
        waiting = asyncio.create_task(pool.run(lambda _: None))
        await until(lambda: pool.depth == 1)
        for task in (waiting, running):
            task.cancel()
        await asyncio.gather(waiting, running, return_exceptions=True)
        assert pool.depth == 0
        gate.set()
        await until(lambda: pool.running == 0)

    asyncio.run(run())
    assert stopped == [True]


def test_idle_workers_hold_no_picture(make_pool):
    pool = make_pool()

    class Picture:
        pass

    async def run():
        picture = Picture()
        await pool.run(lambda _, kept=picture: None)
        return weakref.ref(picture)

    reference = asyncio.run(run())
    end = time.monotonic() + 5
    while reference() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert reference() is None


def test_closing_finishes_what_waits_and_takes_nothing_new(make_pool):
    pool, gate = make_pool(), threading.Event()

    async def run():
        tasks = [asyncio.create_task(pool.run(lambda _: gate.wait(10))) for _ in range(3)]
        await until(lambda: pool.depth == 2)
        closing = asyncio.create_task(asyncio.to_thread(pool.close, 10))
        await asyncio.sleep(0.05)
        with pytest.raises(OverloadedError):
            await pool.run(lambda _: None)
        gate.set()
        await closing
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [True] * 3


def hints_in(make_pool, workers, jobs):
    """The performance hints that jobs get when all are submitted before the first one finishes."""
    pool, gate, hints = make_pool(workers=workers), threading.Event(), []

    def job(ticket):
        gate.wait(10)
        hints.append(ticket.hint)

    async def run():
        tasks = [asyncio.create_task(pool.run(job)) for _ in range(jobs)]
        await until(lambda: (pool.running, pool.depth) == (min(jobs, workers), max(jobs - workers, 0)))
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    return hints


def test_a_lone_item_gets_all_cores_and_a_full_pool_one_each(make_pool):
    assert hints_in(make_pool, workers=2, jobs=1) == ["latency"]
    assert hints_in(make_pool, workers=2, jobs=3)[0] == "throughput"


def test_one_worker_alone_never_leaves_cores_idle(make_pool):
    assert hints_in(make_pool, workers=1, jobs=3) == ["latency"] * 3


class Hand:
    """A clock that stands still until a test moves it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_what_could_not_be_answered_in_time_is_refused_at_once(make_pool):
    clock = Hand()
    pool, gate = make_pool(workers=1, queue_size=1000, deadline_seconds=10.0, clock=clock), threading.Event()

    def slow(_):
        clock.now += 8.0

    async def run():
        for _ in range(8):  # the moving average rises to more than half of the deadline
            await pool.run(slow)
        running = asyncio.create_task(pool.run(lambda _: gate.wait(10)))
        await until(lambda: pool.running == 1)
        first = asyncio.create_task(pool.run(lambda _: True))  # the queue is empty, so it is admitted whatever the average is
        await until(lambda: pool.depth == 1)
        with pytest.raises(OverloadedError, match="1 images are waiting already") as caught:
            await pool.run(lambda _: True)
        assert caught.value.retry_after >= 1
        gate.set()
        await asyncio.gather(running, first)
        assert await pool.run(lambda _: "again") == "again"

    asyncio.run(run())


def test_an_item_without_time_left_for_it_is_dropped_before_it_runs(make_pool):
    clock, ran = Hand(), []
    pool, gate = make_pool(workers=1, deadline_seconds=10.0, clock=clock), threading.Event()

    async def run():
        for _ in range(8):
            await pool.run(lambda _: setattr(clock, "now", clock.now + 8.0))
        running = asyncio.create_task(pool.run(lambda _: gate.wait(10)))
        await until(lambda: pool.running == 1)
        late = asyncio.create_task(pool.run(lambda _: ran.append(True)))
        await until(lambda: pool.depth == 1)
        clock.now += 7.0  # three seconds are left, and an item takes about five
        gate.set()
        await running
        with pytest.raises(DeadlineExceededError):
            await late

    asyncio.run(run())
    assert ran == []


def test_a_quick_item_never_waits_for_slow_ones(make_pool):
    pool, gate = make_pool(workers=3, queue_size=20), threading.Event()

    async def run():
        slow = [asyncio.create_task(pool.run(lambda _: gate.wait(10), slow=True)) for _ in range(6)]
        await until(lambda: pool.running == 2 and pool.depth == 4)
        assert await pool.run(lambda _: "quick") == "quick"
        assert (pool.running, pool.depth) == (2, 4)
        gate.set()
        return await asyncio.gather(*slow)

    assert asyncio.run(run()) == [True] * 6


def test_quick_items_go_before_slow_ones_until_those_have_waited_long(make_pool):
    clock, order, gates = Hand(), [], [threading.Event() for _ in range(2)]
    pool = make_pool(workers=1, queue_size=20, deadline_seconds=60.0, clock=clock)

    async def run():
        running = asyncio.create_task(pool.run(lambda _: gates[0].wait(10)))
        await until(lambda: pool.running == 1)
        tasks = [asyncio.create_task(pool.run(lambda _: order.append("slow"), slow=True))]
        await until(lambda: pool.depth == 1)
        clock.now += PATIENCE_SECONDS - 0.5
        tasks.append(asyncio.create_task(pool.run(lambda _: order.append("soon"))))
        await until(lambda: pool.depth == 2)
        clock.now += 1.0
        tasks.append(asyncio.create_task(pool.run(lambda _: order.append("late"))))
        await until(lambda: pool.depth == 3)
        gates[0].set()
        await asyncio.gather(running, *tasks)

    asyncio.run(run())
    assert order == ["soon", "slow", "late"]


def test_slow_items_leave_half_of_the_places_to_quick_ones(make_pool):
    pool, gate = make_pool(workers=2, queue_size=4), threading.Event()

    async def run():
        tasks = [asyncio.create_task(pool.run(lambda _: gate.wait(10), slow=True))]
        await until(lambda: pool.running == 1)
        tasks += [asyncio.create_task(pool.run(lambda _: gate.wait(10), slow=True)) for _ in range(2)]
        await until(lambda: pool.depth == 2)
        with pytest.raises(OverloadedError, match="the 2 large ones that may wait"):
            await pool.run(lambda _: None, slow=True)
        assert pool.refusal() is None
        assert await pool.run(lambda _: "quick") == "quick"
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())


def test_no_answer_before_the_work_has_ended(make_pool):
    pool, ended = make_pool(deadline_seconds=0.1), []

    def overrun(_):
        time.sleep(0.4)
        ended.append(True)

    async def run():
        with pytest.raises(DeadlineExceededError):
            await pool.run(overrun)
        return list(ended)

    assert asyncio.run(run()) == [True]


def test_slow_items_that_fail_late_count_as_long_ones(make_pool):
    clock = Hand()
    pool = make_pool(workers=2, deadline_seconds=15.0, clock=clock)

    def overrun(ticket):
        clock.now += 14.0
        raise ticket.late()

    async def run():
        before = pool.wait_seconds(slow=True)
        for _ in range(10):
            with pytest.raises(DeadlineExceededError):
                await pool.run(overrun, slow=True)
        assert pool.wait_seconds(slow=True) > 5 * before
        assert pool.wait_seconds() < 0.1

    asyncio.run(run())


@pytest.mark.parametrize("fate", ["fails", "is refused", "is late"])
def test_an_error_keeps_no_upload_alive(make_pool, fate):
    """Uploads in reference cycles would pile up under load until the next garbage collection."""
    pool, gate = make_pool(workers=1, queue_size=1, deadline_seconds=0.3 if fate == "is late" else 10.0), threading.Event()

    class Upload:
        pass

    async def send(kept):
        def job(_, kept=kept):
            raise KeyError(str(kept))

        await pool.run(job)

    async def run():
        others = []
        if fate != "fails":
            others.append(asyncio.create_task(pool.run(lambda _: gate.wait(10))))
            await until(lambda: pool.running == 1)
        if fate == "is refused":
            others.append(asyncio.create_task(pool.run(lambda _: None)))
            await until(lambda: pool.depth == 1)
        upload = Upload()
        reference = weakref.ref(upload)
        gc.collect()
        gc.disable()
        try:
            with pytest.raises((KeyError, OverloadedError, DeadlineExceededError)) as caught:
                await send(upload)
            del caught, upload
            await asyncio.sleep(0.05)
            alive = reference() is not None
        finally:
            gc.enable()
            gate.set()
        await asyncio.gather(*others, return_exceptions=True)
        return alive

    assert asyncio.run(run()) is False

"""Results come in order, and no more are computed ahead than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from aiderm_core.prefetch import batched, prefetch


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (1, 5), (4, 1), (4, 9)])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_results_come_in_order(workers: int, ahead: int, count: int) -> None:
    def slowly(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(prefetch(slowly, range(count), workers=workers, ahead=ahead)) == [number**2 for number in range(count)]


def test_items_are_taken_no_faster_than_needed() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    results = prefetch(lambda number: number, items(), workers=2, ahead=3)
    assert next(results) == 0
    assert taken == 4  # the one in use, and three ahead of it
    next(results)
    assert taken == 5
    results.close()
    assert taken == 5


def test_an_error_comes_in_the_place_of_its_result_and_cancels_the_rest() -> None:
    done = []

    def fail_at_two(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        done.append(number)
        return number

    results = prefetch(fail_at_two, range(100), workers=1, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert len(done) < 10


def test_other_threads_work_while_a_result_is_in_use() -> None:
    started = threading.Event()

    def tell(number: int) -> int:
        if number == 1:
            started.set()
        return number

    results = prefetch(tell, range(3), workers=1, ahead=1)
    next(results)
    assert started.wait(10)
    results.close()


def test_no_room_is_refused() -> None:
    for workers, ahead in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            next(prefetch(str, range(2), workers=workers, ahead=ahead))


def test_batches() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched([], 3)) == []

"""Token buckets, with a clock that the tests control."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiderm_api.auth.keys import Rate, new_key
from aiderm_api.auth.rate_limits import RateLimits, TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate():
    clock = Clock()
    bucket = TokenBucket(Rate(per_second=2, burst=3), clock)
    assert [bucket.take() for _ in range(3)] == [0, 0, 0]
    assert bucket.take() == pytest.approx(0.5)
    clock.now += 0.25
    assert bucket.take() == pytest.approx(0.25)
    clock.now += 0.25
    assert bucket.take() == 0
    clock.now += 100  # saves up one burst at most
    assert [bucket.take() for _ in range(4)][:3] == [0, 0, 0]
    assert bucket.take() > 0


def test_a_batch_is_paid_for_afterwards():
    clock = Clock()
    bucket = TokenBucket(Rate(per_second=1, burst=4), clock)
    assert bucket.take() == 0
    bucket.charge(15)
    assert bucket.take() == pytest.approx(13)
    clock.now += 13
    assert bucket.take() == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 16)), max_size=60), st.floats(0.1, 20), st.integers(1, 30))
def test_no_pattern_gets_more_than_burst_and_rate(calls, per_second, burst):
    """The last batch that was admitted is left out: it may put the bucket into debt by its size."""
    clock = Clock()
    bucket = TokenBucket(Rate(per_second=per_second, burst=burst), clock)
    admitted, last = 0, 0
    for pause, pictures in calls:
        clock.now += pause
        wait = bucket.take()
        if wait == 0:
            bucket.charge(pictures - 1)
            admitted, last = admitted + pictures, pictures
        else:
            clock.now += wait + 1e-6
            assert bucket.take() == 0, "who waits as long as was said is let in"
            admitted, last = admitted + 1, 1
        assert admitted - last <= burst + per_second * (clock.now - 1000.0) + 1e-6


def test_each_key_has_a_bucket_of_its_own_until_its_rate_changes():
    limits = RateLimits(Rate(per_second=1, burst=2), Clock())
    first, _ = new_key("first")
    second, _ = new_key("second", rate=Rate(per_second=5, burst=7))
    free, _ = new_key("free", rate="unlimited")
    assert limits.bucket(first) is limits.bucket(first)
    assert limits.bucket(first).rate == Rate(per_second=1, burst=2)
    assert limits.bucket(second).rate.burst == 7
    assert limits.bucket(free) is None
    changed = first.model_copy(update={"rate": Rate(per_second=9, burst=9)})
    assert limits.bucket(changed).rate.burst == 9

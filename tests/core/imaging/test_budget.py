"""Decoding waits for room in the process's memory budget, in order of arrival, but not beyond its deadline."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aiderm_core.imaging.budget import BudgetTimeoutError, DecodeBudget, DividedBudget, default_limit, memory_limit
from aiderm_core.imaging.cost import decoding_bytes
from aiderm_core.imaging.decode import decoding
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.headers import read_header


def encode(width: int, height: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)).save(buffer, form)
    return buffer.getvalue()


PNG = encode(600, 500)
COST = decoding_bytes(read_header(PNG, "png"), len(PNG))


def wait_until(true: object) -> None:
    end = time.monotonic() + 10
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.002)


def test_costs_are_held_and_given_back() -> None:
    budget = DecodeBudget(100)
    with budget.admit(60), budget.admit(40):
        assert budget.used == 100
        with pytest.raises(BudgetTimeoutError, match="at most 100"), budget.admit(1, time.monotonic() - 1):
            pass
        assert budget.waiting == 0
    assert budget.used == 0
    with pytest.raises(KeyError), budget.admit(100):
        raise KeyError
    assert budget.used == 0


def test_what_never_fits_does_not_wait() -> None:
    with pytest.raises(ValueError, match="101"), DecodeBudget(100).admit(101):
        pass
    with pytest.raises(ValueError, match="Received: 0"):
        DecodeBudget(0)


def test_first_come_first_served_even_when_a_later_one_would_fit() -> None:
    budget, order = DecodeBudget(100), []
    release = threading.Event()

    def work(name: str, cost: int) -> None:
        with budget.admit(cost):
            order.append(name)
            release.wait(10)

    threads = [threading.Thread(target=work, args=each) for each in (("first", 80), ("large", 90), ("small", 10))]
    for count, thread in enumerate(threads):
        thread.start()
        wait_until(lambda count=count: budget.used == 80 and budget.waiting == max(0, count))
    assert order == ["first"]
    release.set()
    for thread in threads:
        thread.join(10)
    assert order[0] == "first"
    assert set(order) == {"first", "large", "small"}
    assert budget.used == 0


def test_one_that_gives_up_lets_those_behind_it_pass() -> None:
    budget = DecodeBudget(100)
    admitted = threading.Event()

    def small() -> None:
        with budget.admit(10):
            admitted.set()

    def impatient() -> None:
        with contextlib.suppress(BudgetTimeoutError), budget.admit(90, time.monotonic() + 0.3):
            pass

    with budget.admit(80):
        waiting = threading.Thread(target=impatient)
        waiting.start()
        wait_until(lambda: budget.waiting == 1)
        behind = threading.Thread(target=small)
        behind.start()
        wait_until(lambda: budget.waiting == 2)
        assert admitted.wait(10)
        waiting.join(10)
        behind.join(10)


def test_never_more_than_the_limit_under_many_threads() -> None:
    budget = DecodeBudget(100)
    peak, lock, held = 0, threading.Lock(), 0

    def work(seed: int) -> None:
        nonlocal peak, held
        rng = np.random.default_rng(seed)
        for cost in rng.integers(1, 100, 50).tolist():
            try:
                with budget.admit(cost, time.monotonic() + float(rng.random()) * 0.01):
                    with lock:
                        held += cost
                        peak = max(peak, held)
                    with lock:
                        held -= cost
            except BudgetTimeoutError:
                pass

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert 0 < peak <= 100
    assert budget.used == budget.waiting == 0


def test_decoding_holds_the_budget_until_the_pixels_are_used() -> None:
    budget = DecodeBudget(COST)
    with decoding(PNG, budget=budget) as image:
        assert image.pixels.shape == (500, 600, 3)
        assert budget.used == COST
        with pytest.raises(BudgetTimeoutError), decoding(PNG, budget=budget, deadline=time.monotonic() + 0.01):
            pass
    assert budget.used == 0
    with decoding(PNG, budget=budget) as image:
        assert image.width == 600
    assert budget.used == 0


def test_an_image_that_never_fits_is_refused_by_its_size() -> None:
    refused = pytest.raises(ImageError, match=rf"600 x 500 pixels.*allowed: at most {COST - 1:,}")
    with refused as caught, decoding(PNG, budget=DecodeBudget(COST - 1)):
        pass
    assert caught.value.code == "too_many_pixels"


def test_a_failed_decoding_gives_its_bytes_back() -> None:
    budget = DecodeBudget(COST)
    with pytest.raises(ImageError), decoding(PNG[:200] + bytes(20) + PNG[220:], budget=budget):
        pass
    assert budget.used == 0


def test_a_reduced_jpeg_costs_less() -> None:
    header = read_header(encode(2000, 2000, "JPEG"), "jpeg")
    assert decoding_bytes(header, 0, 2) * 3 < decoding_bytes(header, 0)


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/", {"memory.max": "2000000000"}, 2_000_000_000),
        ("0::/", {"memory.max": "max"}, 8 * 2**30),
        ("0::/a/b", {"a/memory.max": "500000000", "a/b/memory.max": "max"}, 500_000_000),
        ("5:cpu,memory:/x", {"memory/memory.limit_in_bytes": "300000000"}, 300_000_000),
        ("5:memory:/x", {"memory/x/memory.limit_in_bytes": "9223372036854771712"}, 8 * 2**30),
        ("3:cpu:/x", {}, 8 * 2**30),
        ("0::/../outside", {"memory.max": "700000000"}, 700_000_000),
    ],
)
def test_memory_limit_of_the_control_group(tmp_path: Path, group: str, files: dict[str, str], expected: int) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: {8 * 2**20} kB\nMemFree: 1 kB\n")
    (proc / "self/cgroup").write_text(group + "\n")
    for name, text in files.items():
        (cgroup / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroup / name).write_text(text + "\n")
    assert memory_limit(proc, cgroup) == expected
    assert default_limit(2, proc, cgroup) == expected // 8


def test_small_images_do_not_wait_for_large_ones() -> None:
    budget = DividedBudget(600)
    assert (budget.small, budget.largest) == (50, 500)
    with budget.admit(500), budget.admit(50), budget.admit(50):
        assert budget.used == budget.limit
        with pytest.raises(BudgetTimeoutError), budget.admit(51, time.monotonic() + 0.01):
            pass
        with pytest.raises(BudgetTimeoutError), budget.admit(1, time.monotonic() + 0.01):
            pass
    assert (budget.used, budget.waiting) == (0, 0)


def test_what_is_too_large_for_its_part_never_fits() -> None:
    budget = DividedBudget(6 * COST)
    with decoding(PNG, budget=budget) as image:
        assert image.width == 600
    with pytest.raises(ImageError, match="takes"), decoding(PNG, budget=DividedBudget(COST)):
        pass

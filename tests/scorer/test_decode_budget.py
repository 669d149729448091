"""Worker processes share one decoding budget."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest

from aiderm_scorer.decode_budget import SharedBudget


def hold(connection: Connection) -> None:
    with SharedBudget(4, 1000).admit(600):
        connection.send("held")
        time.sleep(600)


def test_large_images_are_decoded_by_one_process_at_a_time_and_a_kill_lets_go() -> None:
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(there,))
    process.start()
    assert here.poll(60)
    budget = SharedBudget(4, 1000)
    with budget.admit(250):  # within the process's own share
        pass
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(decode, budget)
        time.sleep(0.3)
        assert not waiting.done()
        process.kill()
        process.join()
        assert waiting.result(60) == "decoded"


def decode(budget: SharedBudget) -> str:
    with budget.admit(251):
        return "decoded"


def test_what_never_fits() -> None:
    with pytest.raises(ValueError, match="1,001"), SharedBudget(4, 1000).admit(1001):
        pass

"""Runs a fuzz target with limits: an input must not crash it, take too long or use too much memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import atheris

MOST_SECONDS = 0.1
MOST_BYTES = 50_000_000
_WARM = 1_000  # number of inputs after which all modules are loaded
_PAGE = resource.getpagesize()


def fuzz(target: Callable[[bytes], None], seeds: list[bytes]) -> None:
    """Runs ``target`` under libFuzzer with the command line's arguments; the seeds go to the last one, the corpus folder."""
    corpus = Path(sys.argv[-1])
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    counted = 0

    def one_input(data: bytes) -> None:
        nonlocal counted
        counted += 1
        if counted >= _WARM:
            limit_memory()
        start = time.thread_time()
        target(data)
        if time.thread_time() - start > MOST_SECONDS:
            again = time.thread_time()
            target(data)  # garbage collection may have interfered
            if time.thread_time() - again > MOST_SECONDS:
                raise TimeoutError(f"an input of {len(data)} bytes takes {time.thread_time() - again:.3f} s")

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


def limit_memory() -> None:
    """Lets the next input allocate at most ``MOST_BYTES`` more; beyond that a MemoryError counts as a crash."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * _PAGE + MOST_BYTES, resource.RLIM_INFINITY))

"""What every fuzz target holds to: no crash, and no input that takes longer or more memory than it may."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import atheris

MOST_SECONDS = 0.1
MOST_BYTES = 50_000_000
_WARM = 1_000  # inputs after which every module is loaded
_PAGE = resource.getpagesize()


def fuzz(target: Callable[[bytes], None], seeds: list[bytes]) -> None:
    """Runs ``target`` under libFuzzer with its arguments; the last one is a folder for the corpus, which gets the seeds first."""
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
            target(data)  # a garbage collection may have come in between
            if time.thread_time() - again > MOST_SECONDS:
                raise TimeoutError(f"an input of {len(data)} bytes takes {time.thread_time() - again:.3f} s")

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


def limit_memory() -> None:
    """Lets the next input allocate ``MOST_BYTES`` beyond what the process has; more is a MemoryError, which is a crash."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * _PAGE + MOST_BYTES, resource.RLIM_INFINITY))

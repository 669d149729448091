"""Sends hostile and honest images to a real process of the service, and measures statuses, response times and memory."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

MODELS = Path(__file__).parents[1] / "models"
_KCMP = {"x86_64": 312, "aarch64": 272}.get(platform.machine())  # the number of the system call
_KCMP_VM = 1
RATE = 5.0
"""Images per second, like the rate limit of nginx for one address."""


@dataclass
class Memory:
    """Memory of the service and its decoder processes, with each shared page counted once; sampled while it is watched."""

    pid: int
    peak: int = 0

    def now(self) -> int:
        """The current memory, in bytes.

        A child that has just been started shares the whole memory of its parent until it runs its own program (vfork). Both then
        report the same pages in full, so such a child is left out.
        """
        found = proportional(self.pid)
        return found + sum(proportional(pid) for pid in children(self.pid) if not same_memory(self.pid, pid))

    def own(self) -> int:
        """The memory of the service without its decoder processes, in bytes."""
        return proportional(self.pid)

    @contextmanager
    def watched(self) -> Iterator[None]:
        over = threading.Event()

        def sample() -> None:
            while not over.wait(0.05):
                self.peak = max(self.peak, self.now())

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def settled(self, limit: float, seconds: float = 60) -> int:
        """Waits until the memory is at most ``limit`` bytes, or for ``seconds``; returns the bytes."""
        end = time.monotonic() + seconds
        while (now := self.now()) > limit and time.monotonic() < end:
            time.sleep(0.5)
        return now


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += [int(each) for each in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def same_memory(one: int, other: int) -> bool:
    """Whether two processes share one address space; False if the system cannot tell."""
    return _KCMP is not None and ctypes.CDLL(None).syscall(_KCMP, one, other, _KCMP_VM, 0, 0) == 0


def proportional(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has just ended
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


@contextmanager
def service(models: Path = MODELS, **settings: str) -> Iterator[tuple[str, Memory]]:
    """Runs the service with its shipped settings in a separate process; yields its address and its memory."""
    environment = os.environ | {
        "AIDERM_MODELS_DIR": str(models),
        "AIDERM_PORT": "0",
        "AIDERM_LOG_FORMAT": "json",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **settings,
    }
    process = subprocess.Popen([sys.executable, "-m", "aiderm_api"], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r'"url": "(http://[^"]+)"', line):
            break
    else:
        raise RuntimeError("the service did not start")
    lines: deque[str] = deque(maxlen=50)
    log = threading.Thread(target=lines.extend, args=(process.stderr,))
    log.start()
    try:
        yield found[1], Memory(process.pid)
    finally:
        ended = process.poll()
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
        log.join()
        process.stderr.close()
        if ended is not None or code not in (0, -signal.SIGTERM):  # raised even if another error occurred
            raise RuntimeError(f"the service ended with {code}:\n{''.join(lines)}")


def post(url: str, *images: bytes) -> int:
    """Sends images in one request; returns the status."""
    if len(images) == 1:
        return httpx.post(f"{url}/predict", files={"file": images[0]}, timeout=120, trust_env=False).status_code
    files = [("files", data) for data in images]
    return httpx.post(f"{url}/predict/batch", files=files, timeout=120, trust_env=False).status_code


@dataclass
class Answers:
    """The statuses of hostile images, and the statuses and response times of honest ones."""

    hostile: Counter[int] = field(default_factory=Counter)
    honest: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        return max(self.seconds)

    @property
    def median(self) -> float:
        return sorted(self.seconds)[len(self.seconds) // 2]

    def __str__(self) -> str:
        return (
            f"hostile {dict(self.hostile)}, honest {dict(self.honest)}, median {self.median:.2f} s, slowest {self.slowest:.2f} s"
        )


def flood(url: str, batches: list[list[bytes]], honest: list[bytes], rate: float | None) -> Answers:
    """Sends all batches, at ``rate`` or all at once, and meanwhile honest images, one after the other.

    Args:
        url: the service's address.
        batches: the images of each request; an empty batch sends nothing but takes its turn.
        honest: images that are sent in turn, at most three per second.
        rate: requests per second; None sends all at once.
    """
    answers, over = Answers(), threading.Event()

    def send_honest_images() -> None:
        turn = 0
        while not over.is_set():
            started = time.monotonic()
            answers.honest[post(url, honest[turn % len(honest)])] += 1
            answers.seconds.append(time.monotonic() - started)
            turn += 1
            over.wait(max(0.0, 0.33 - answers.seconds[-1]))

    with ThreadPoolExecutor(len(batches) + 1) as pool:
        meanwhile = pool.submit(send_honest_images)
        jobs = []
        for batch in batches:
            if batch:
                jobs.append(pool.submit(post, url, *batch))
            if rate is not None:
                time.sleep(1 / rate)
        answers.hostile.update(job.result() for job in jobs)
        over.set()
        meanwhile.result()
    return answers

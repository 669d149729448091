"""128 hostile images at once against a real process: its memory stays below 1 GB and returns to idle."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

MODELS = Path(__file__).parents[2] / "models"
AT_ONCE = 128
MOST_BYTES = 1_000_000_000
ALLOWED = {200, 413, 415, 422, 503, 504}

pytestmark = [pytest.mark.ci, pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")]


def encoded(mode: str, width: int, height: int, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), tuple([90, 60, 120, 255][: len(mode)])).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff_with_a_giant_tile() -> bytes:
    """200 x 200 pixels whose only tile measures 26,752 x 26,752."""
    tags = [
        *((256, 4, 200), (257, 4, 200), (258, 3, 8), (259, 3, 5), (262, 3, 2), (277, 3, 3)),
        *((322, 4, 26_752), (323, 4, 26_752), (324, 4, 200), (325, 4, 40)),
    ]
    directory = b"".join(
        struct.pack("<HHIHH" if kind == 3 else "<HHII", tag, kind, 1, value, *([0] * (kind == 3))) for tag, kind, value in tags
    )
    return (struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory + bytes(4)).ljust(200, b"\0") + bytes(40)


def bmp_with_run_lengths() -> bytes:
    """50 megapixels of deltas that skip everything."""
    head = struct.pack("<IiiHHIIiiII", 40, 7000, 7000, 1, 8, 1, 1000, 2835, 2835, 256, 0)
    body = bytes(1024) + b"\0\2\xff\xff" * 250 + b"\0\1"
    return struct.pack("<2sIHHI", b"BM", 14 + len(head) + len(body), 0, 0, 14 + len(head) + 1024) + head + body


@pytest.fixture(scope="module")
def hostile() -> list[bytes]:
    """The most expensive inputs of each kind: at the budget's edge, beyond it, and lying about what they hold."""
    return [
        encoded("RGB", 4200, 4000, "WEBP", lossless=True, quality=0, method=0),
        encoded("RGB", 7100, 7000, "WEBP", lossless=True, quality=0, method=0),
        encoded("RGBA", 5000, 4900, "PNG", compress_level=1),
        encoded("RGB", 7000, 5400, "PNG", compress_level=1),
        encoded("RGB", 7100, 7000, "PNG", compress_level=1),
        encoded("RGB", 7100, 7000, "JPEG", progressive=True),
        encoded("L", 7000, 7000, "GIF"),
        encoded("L", 7000, 7000, "TIFF", compression="packbits"),
        tiff_with_a_giant_tile(),
        bmp_with_run_lengths(),
    ]


@pytest.fixture(scope="module")
def server():
    """The service as it is shipped, in a process of its own: its address and pid."""
    environment = os.environ | {
        "AIDERM_MODELS_DIR": str(MODELS),
        "AIDERM_PORT": "0",
        "AIDERM_LOG_FORMAT": "json",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = subprocess.Popen([sys.executable, "-m", "aiderm_api"], stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stderr:
        if found := re.search(r'"url": "(http://[^"]+)"', line):
            break
    else:
        raise RuntimeError("the service did not start")
    log = threading.Thread(target=process.stderr.read)
    log.start()
    yield found[1], process.pid
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (0, -signal.SIGTERM)
    log.join()
    process.stderr.close()


def report(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        sys.stderr.write(f"\n{text}\n")


def memory(pid: int, field: str) -> int:
    return int(re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def post(url: str, *images: bytes) -> httpx.Response:
    if len(images) == 1:
        return httpx.post(f"{url}/predict", files={"file": images[0]}, timeout=120, trust_env=False)
    return httpx.post(f"{url}/predict/batch", files=[("files", data) for data in images], timeout=120, trust_env=False)


def test_memory_under_hostile_images(server, hostile, pictures, capsys):
    url, pid = server
    for _ in range(3):
        assert post(url, pictures["jpeg"]).status_code == 200
    idle = memory(pid, "VmRSS")
    flood_over, honest = threading.Event(), []

    def send_honest_images() -> None:
        while not flood_over.is_set():
            started = time.monotonic()
            honest.append((post(url, pictures["jpeg"]).status_code, time.monotonic() - started))
            time.sleep(0.2)

    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        meanwhile = pool.submit(send_honest_images)
        jobs = [pool.submit(post, url, hostile[index % len(hostile)]) for index in range(AT_ONCE - 8)]
        jobs += [pool.submit(post, url, *hostile[: 3 + index % 4]) for index in range(8)]
        answers = [job.result() for job in jobs]
        flood_over.set()
        meanwhile.result()

    assert {answer.status_code for answer in answers} <= ALLOWED
    peak = memory(pid, "VmHWM")
    assert peak < MOST_BYTES, f"{peak / 1e6:.0f} MB"
    end = time.monotonic() + 30
    while (after := memory(pid, "VmRSS")) > 1.1 * idle and time.monotonic() < end:
        time.sleep(0.5)
    assert after <= 1.1 * idle, f"idle {idle / 1e6:.0f} MB, afterwards {after / 1e6:.0f} MB"
    assert {status for status, _ in honest} <= {200, 503, 504}
    assert post(url, pictures["jpeg"]).status_code == 200
    slowest = max((seconds for status, seconds in honest if status == 200), default=0.0)
    report(
        capsys,
        f"idle {idle / 1e6:.0f} MB, peak {peak / 1e6:.0f}, afterwards {after / 1e6:.0f}; "
        f"slowest of {len(honest)} honest answers {slowest:.2f} s",
    )


def test_an_honest_image_among_hostile_ones_at_the_rate_limit(server, hostile, pictures, capsys):
    """Five a second, as nginx lets one address send: how fast honest images are answered is shown, not asserted."""
    url, _ = server
    with ThreadPoolExecutor(64) as pool:
        jobs, honest = [], []
        for index in range(40):
            jobs.append(pool.submit(post, url, hostile[index % len(hostile)]))
            if index % 4 == 3:
                started = time.monotonic()
                answered = post(url, pictures["jpeg"]).status_code == 200
                honest.append(time.monotonic() - started if answered else float("inf"))
            time.sleep(0.2)
        assert {job.result().status_code for job in jobs} <= ALLOWED
    assert min(honest) < float("inf")
    assert post(url, pictures["jpeg"]).status_code == 200
    report(capsys, f"honest answers: median {sorted(honest)[len(honest) // 2]:.2f} s, slowest {max(honest):.2f} s")

"""The API's container with its real memory limit: the worst legal images in all workers and a full queue kill no process."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import cv2
import httpx
import pytest
from PIL import Image

from aiderm_trainer.data import synthetic

from .conftest import another, docker, running

if TYPE_CHECKING:
    from .conftest import Stack

pytestmark = pytest.mark.containers

# Sides of square images: 50 megapixels, the maximum, and sizes that the default decoding budget of 440 MB admits.
MOST, PNG_RGB, PNG_RGBA, WEBP = 7_070, 6_100, 4_900, 4_150
AT_ONCE = 128
# Kinds of which at least some are decoded, so that their full memory is used.
ADMITTED = {"png-rgb", "png-rgba", "webp", "jpeg"}
# The statuses that an image may get if it is refused or waits too long; the connection must never break.
ALLOWED = {200, 413, 415, 422, 429, 503, 504}


def png(channels: int, side: int) -> bytes:
    """A black PNG, compressed to a thousandth of its pixels' size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    packer = zlib.compressobj(6)
    row = bytes(1 + side * channels)
    rows = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    header = struct.pack(">IIBBBBB", side, side, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(form: str, side: int = MOST, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, form, **options)
    return buffer.getvalue()


def webp_animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (MOST, MOST), (shade, 0, 0)) for shade in (0, 9)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True, method=0)
    return buffer.getvalue()


def tiff_with_a_tile_larger_than_the_image() -> bytes:
    """A TIFF of 200 x 200 pixels in one tile of 26,752 x 26,752, which is almost empty."""
    side = 26_752
    tags = {256: 200, 257: 200, 258: 8, 259: 5, 262: 2, 277: 3, 322: side, 323: side, 324: 0, 325: 8}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[324] = start
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + b"\x80\x00\x20\x10\x08\x04\x02\x01"


def bmp_of_jumps() -> bytes:
    """A run-length encoded BMP that only skips pixels."""
    header = struct.pack("<IiiHHIIiiII", 40, MOST, MOST, 1, 8, 1, 0, 2835, 2835, 2, 0)
    data = b"\0\x02\xff\xff" * 20 + b"\0\1"
    return b"BM" + struct.pack("<IHHI", 14 + 40 + 8 + len(data), 0, 0, 14 + 40 + 8) + header + bytes(8) + data


MAKERS: dict[str, Callable[[], bytes]] = {
    "png-rgb": lambda: png(3, PNG_RGB),
    "png-rgba": lambda: png(4, PNG_RGBA),
    "webp": lambda: encoded("WEBP", WEBP, lossless=True, method=0),
    "png-rgba-most": lambda: png(4, MOST),
    "webp-animation": webp_animation,
    "jpeg": lambda: encoded("JPEG", quality=30),
    "gif": lambda: encoded("GIF"),
    "bmp-run-lengths": bmp_of_jumps,
    "tiff-lzw": lambda: encoded("TIFF", PNG_RGBA, compression="tiff_lzw"),
    "tiff-tile": tiff_with_a_tile_larger_than_the_image,
}


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    return {name: make() for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def small(project: Stack) -> Iterator[Stack]:
    """The stack with its shipped limits, except those of nginx for clients."""
    with running(another(project, "memory")) as started:
        yield started


# Reads version 2 of the control groups, or version 1.
STATISTICS = """
cd /sys/fs/cgroup
if [ -e memory.peak ]; then cat memory.peak memory.events
else cat memory/memory.max_usage_in_bytes memory/memory.oom_control; fi
"""


def statistics(stack: Stack) -> dict[str, int]:
    """The kernel's statistics for the container: ``peak`` in bytes, and counts of events such as ``oom_kill``."""
    peak, *events = stack.execute("api", "sh", "-c", STATISTICS).splitlines()
    return {"peak": int(peak), **{name: int(count) for name, count in map(str.split, events)}}


def send(stack: Stack, data: bytes) -> tuple[int, str]:
    """Sends an image; returns the status and the problem's code, or 0 and the error if the connection broke."""
    try:
        answer = httpx.post(f"{stack.url}/api/predict", files={"file": ("a", data)}, timeout=180, trust_env=False)
    except httpx.TransportError as error:
        return 0, repr(error)
    return answer.status_code, "" if answer.status_code == 200 else str(json.loads(answer.text).get("code"))


def test_the_worst_legal_images_fit_into_the_containers_memory(small: Stack, images: dict[str, bytes]) -> None:
    lesion = cv2.imencode(".png", synthetic.lesion(7, malignant=True, size=300)[..., ::-1])[1].tobytes()
    assert send(small, lesion)[0] == 200
    container = small.container("api")
    before = statistics(small)
    for name, data in images.items():
        with ThreadPoolExecutor(AT_ONCE) as clients:
            answers = Counter(clients.map(lambda _, data=data: send(small, data), range(AT_ONCE)))
        after = statistics(small)
        print(f"{name}: {len(data)} bytes, {dict(answers)}, peak {after['peak'] >> 20} MiB")  # noqa: T201  (the figures)
        assert {status for status, _ in answers} <= ALLOWED, f"{name}: {answers}"
        assert after["oom_kill"] == before["oom_kill"] == 0, f"{name}: {after}"
        assert 200 in {status for status, _ in answers} or name not in ADMITTED, f"{name}: {answers}"
        assert send(small, lesion)[0] == 200, f"after {name}"
    limit = int(docker("inspect", "--format", "{{.HostConfig.Memory}}", container))
    assert statistics(small)["peak"] < limit
    state = small.inspect("api")
    assert (state["State"]["Running"], state["State"]["OOMKilled"], state["RestartCount"]) == (True, False, 0)
    assert small.container("api") == container

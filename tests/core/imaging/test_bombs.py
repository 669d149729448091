"""Small files that claim, or decompress to, a lot of data: each is refused, or costs no more to decode than its pixels."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 150, 120
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))
MEGABYTE = 1_000_000
# Writing 5 to clear_refs resets the peak of resident memory (VmHWM) on Linux.
WATCH = """
import json, sys, time, warnings
from pathlib import Path
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import ImageError

def held(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024

warnings.simplefilter("ignore")
found = {}
for file in sorted(Path(sys.argv[1]).iterdir()):
    data = file.read_bytes()
    Path("/proc/self/clear_refs").write_text("5")
    before, start = held("VmRSS"), time.process_time()
    try:
        answer = decode_image(data, size=224).format
    except ImageError as error:
        answer = error.code
    found[file.name] = {"answer": answer, "grown": held("VmHWM") - before, "seconds": time.process_time() - start}
print(json.dumps(found))
"""


def encode(form: str, image: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@cache
def zeros() -> bytes:
    """150 megabytes of zeros, compressed to a thousandth of that."""
    squeeze = zlib.compressobj(6)
    return b"".join([*(squeeze.compress(bytes(MEGABYTE)) for _ in range(150)), squeeze.flush()])


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes) -> bytes:
    whole = encode("PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def png_of_texts() -> bytes:
    text = zlib.compress(bytes(900_000))
    return png_with(*(chunk(b"zTXt", b"a%d\0\0" % number + text) for number in range(200)))


def bmp_palette() -> bytes:
    whole = encode("BMP")
    return whole[:46] + struct.pack("<I", 2**31) + whole[50:]


def png_unfolding() -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zeros()) + chunk(b"IEND", b"")


def tiff(strips: bytes, compression: int, behind: int | None = None, **changes: int) -> bytes:
    """A little-endian RGB TIFF with one strip; ``behind`` is the offset of its next directory."""
    tags = {256: WIDTH, 257: HEIGHT, 258: 8, 259: compression, 262: 2, 273: 0, 277: 3, 278: HEIGHT, 279: len(strips)}
    tags |= {int(tag.removeprefix("tag")): value for tag, value in changes.items()}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = start
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", behind or 0) + strips


def tiff_with_long_tag() -> bytes:
    whole = bytearray(tiff(PICTURE.tobytes(), 1, tag270=0))
    at = whole.index(struct.pack("<HHI", 270, 4, 1))
    whole[at : at + 8] = struct.pack("<HHI", 270, 2, 2**31)
    return bytes(whole)


def gif_with(blocks: bytes) -> bytes:
    whole = encode("GIF")
    at = 13 + (3 << (whole[10] & 7) + 1)
    return whole[:at] + blocks + whole[at:]


def jpeg_of_scans() -> bytes:
    whole = encode("JPEG", Image.new("RGB", (4000, 4000)), progressive=True, quality=10)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + whole[last:-2] * 1000 + whole[-2:]


def frames(form: str, count: int) -> bytes:
    small = [Image.new("RGB", (WIDTH, HEIGHT), (number % 256, number // 256, 0)) for number in range(count)]
    return encode(form, small[0], save_all=True, append_images=small[1:])


BOMBS: dict[str, tuple[Any, set[str], int]] = {
    # name: how to make it, allowed outcomes, megabytes that it may cost
    "png picture": (png_unfolding, {"png"}, 20),
    "png text": (lambda: png_with(chunk(b"zTXt", b"a\0\0" + zeros())), {"png", "undecodable"}, 20),
    "png texts": (png_of_texts, {"png", "undecodable"}, 90),
    "png international text": (lambda: png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + zeros())), {"png", "undecodable"}, 20),
    "png profile": (lambda: png_with(chunk(b"iCCP", b"a\0\0" + zeros())), {"png"}, 20),
    "tiff deflate": (lambda: tiff(zeros(), 8), {"truncated", "undecodable"}, 20),
    "tiff rows a strip": (lambda: tiff(PICTURE.tobytes(), 1, tag278=2**32 - 1), {"tiff"}, 20),
    "tiff strip of gigabytes": (lambda: tiff(PICTURE.tobytes(), 1, tag279=2**32 - 1), {"truncated"}, 20),
    "tiff samples a pixel": (lambda: tiff(PICTURE.tobytes(), 1, tag277=65535), {"undecodable"}, 20),
    "tiff long tag": (tiff_with_long_tag, {"tiff", "undecodable"}, 20),
    "tiff that comes back": (lambda: tiff(PICTURE.tobytes(), 1, behind=8), {"tiff"}, 20),
    "gif comments": (lambda: gif_with((b"\x21\xfe" + b"\xff" + bytes(255) + b"\0") * 20_000), {"gif", "undecodable"}, 40),
    "gif comment": (lambda: gif_with(b"\x21\xfe" + (b"\xff" + bytes(255)) * 40_000 + b"\0"), {"gif", "undecodable"}, 60),
    "gif frames": (lambda: frames("GIF", 200), {"gif"}, 20),
    "webp frames": (lambda: frames("WEBP", 100), {"webp"}, 20),
    "bmp palette": (bmp_palette, {"bmp", "undecodable", "truncated"}, 20),
    "jpeg scans": (jpeg_of_scans, {"undecodable"}, 20),
    "jpeg profile": (lambda: encode("JPEG", icc_profile=bytes(10 * MEGABYTE)), {"jpeg"}, 60),
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The cost of decoding each bomb; ordinary files are decoded first, to load the decoders."""
    folder = tmp_path_factory.mktemp("bombs")
    for number, form in enumerate(("PNG", "TIFF", "GIF", "WEBP", "BMP", "JPEG")):
        (folder / f" {number}").write_bytes(encode(form))
    for name, (make, _, _) in BOMBS.items():
        data = make()
        assert len(data) < 20 * MEGABYTE
        (folder / name).write_bytes(data)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(folder)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


@pytest.mark.parametrize("name", BOMBS)
def test_it_costs_what_its_picture_costs(name: str, found: dict[str, Any]) -> None:
    _, allowed, megabytes = BOMBS[name]
    cost = found[name]
    assert cost["answer"] in allowed, cost
    assert cost["grown"] < megabytes * MEGABYTE, cost
    assert cost["seconds"] < 10, cost  # CPU time; detects a hang, and is not a benchmark

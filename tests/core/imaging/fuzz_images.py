"""Mutates images of every format and decodes them: `python tests/core/imaging/fuzz_images.py FIRST COUNT REPORT [dicom]`.

It is a separate process, so that a crash of a decoder does not end the tests. REPORT always holds the number of the current
mutation. A number gives the same mutation on every machine, so FIRST=N COUNT=1 repeats it. A mutation that takes more than
DEADLINE seconds of CPU time ends the process. At the end REPORT holds the outcomes and the growth of memory, also that of the
decoder processes.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms
from tests import dicom_files

from aiderm_core.imaging import processes
from aiderm_core.imaging.decode import decode_image
from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.limits import Limits

DEADLINE = 5.0
LIMITS = Limits(max_pixels=1_000_000, min_side=20)
SIZE = 96
CODES = {"empty_file", "unsupported_type", "undecodable", "truncated", "too_small", "too_many_pixels", "too_large"}
PNG = b"\x89PNG\r\n\x1a\n"
NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def corpus() -> dict[str, bytes]:
    """Valid images, one for each combination of format, compression, colour space and frame count that decodes differently."""
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (12, 15, 3), np.uint8), (60, 48), interpolation=cv2.INTER_CUBIC)
    rgb = Image.fromarray(pixels)
    grey = rgb.convert("L")
    rgba = rgb.copy()
    rgba.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    other = Image.fromarray(pixels[::-1].copy())
    large = Image.fromarray(cv2.resize(pixels, (900, 904), interpolation=cv2.INTER_LINEAR))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = Image.Exif()
    turned[274] = 6
    exif = turned.tobytes()
    found = {
        "jpeg": encode(rgb, "JPEG"),
        "jpeg progressive": encode(rgb, "JPEG", progressive=True, exif=exif),
        "jpeg restart": encode(rgb, "JPEG", restart_marker_rows=1, subsampling=0),
        "jpeg grey": encode(grey, "JPEG"),
        "jpeg cmyk": encode(rgb.convert("CMYK"), "JPEG", icc_profile=profile),
        "jpeg profile": encode(rgb, "JPEG", icc_profile=profile),
        "jpeg large": encode(large, "JPEG", quality=40),
        "jpeg large profile": encode(large, "JPEG", quality=40, icc_profile=profile),
        "png": encode(rgb, "PNG", icc_profile=profile, exif=exif),
        "png alpha": encode(rgba, "PNG"),
        "png palette": encode(rgb.quantize(16), "PNG", transparency=1),
        "png bits": encode(grey.convert("1"), "PNG"),
        "png deep": encode(deep, "PNG"),
        "png animated": encode(rgb, "PNG", save_all=True, append_images=[other]),
        "webp": encode(rgb, "WEBP", exif=exif, icc_profile=profile),
        "webp lossless": encode(rgba, "WEBP", lossless=True),
        "webp alpha": encode(rgba, "WEBP"),
        "webp animated": encode(rgb, "WEBP", save_all=True, append_images=[other]),
        "gif": encode(rgb, "GIF"),
        "gif animated": encode(rgb, "GIF", save_all=True, append_images=[other], transparency=0),
        "bmp": encode(rgb, "BMP"),
        "bmp palette": encode(rgb.quantize(200), "BMP"),
        "bmp bits": encode(grey.convert("1"), "BMP"),
        "tiff": encode(rgb, "TIFF", exif=exif),
        "tiff big": encode(rgb, "TIFF", big_tiff=True),
        "tiff pages": encode(rgb, "TIFF", save_all=True, append_images=[other]),
        "tiff deep": encode(deep, "TIFF"),
        "tiff cmyk": encode(rgb.convert("CMYK"), "TIFF"),
        "tiff lab": encode(rgb.convert("LAB"), "TIFF"),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found[f"tiff {compression}"] = encode(rgb, "TIFF", compression=compression)
    found["tiff group4"] = encode(grey.convert("1"), "TIFF", compression="group4")
    return found


def mutated(files: list[bytes], seed: int) -> bytes:
    rng = random.Random(seed)
    data = bytearray(rng.choice(files))
    for _ in range(rng.choice([1, 1, 1, 2, 3, 5, 9])):
        if not data:
            break
        # Headers and directories are at the start or, in a TIFF, at the end.
        where = rng.random()
        if where < 0.55:
            at = rng.randrange(min(len(data), 400))
        elif where < 0.7:
            at = len(data) - 1 - rng.randrange(min(len(data), 400))
        else:
            at = rng.randrange(len(data))
        kind = rng.randrange(9)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)])
        elif kind in (2, 3):
            number = rng.choice([*NUMBERS, rng.randrange(2**32), len(data)])
            form = rng.choice(["<H", ">H", "<I", ">I"])
            body = struct.pack(form, number & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
            data[at : at + len(body)] = body
        elif kind == 4:
            data[at:at] = rng.randbytes(rng.choice([1, 2, 4, 50]))
        elif kind == 5:
            del data[at : at + rng.choice([1, 2, 4, 100])]
        elif kind == 6:
            start = rng.randrange(len(data))
            data[at:at] = data[start : start + rng.choice([4, 16, 200])]
        elif kind == 7:
            other = rng.choice(files)
            start = rng.randrange(len(other))
            data[at : at + 100] = other[start : start + rng.choice([20, 100, 2000])]
        else:
            del data[max(at, 1) :]
    if data.startswith(PNG) and rng.random() < 0.7:
        return with_sums(bytes(data))
    return bytes(data)


def with_sums(data: bytes) -> bytes:
    """Corrects the checksums of a PNG's chunks, so that the mutation gets past them."""
    out, at = [PNG], len(PNG)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        body = data[at + 4 : at + 8 + length]
        out.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join([*out, data[at:]])


def check(data: bytes) -> str:
    """Decodes a file and returns the outcome; anything but a valid image or an ImageError with a known code raises."""
    try:
        image = decode_image(data, LIMITS, SIZE)
    except ImageError as error:
        if error.code not in CODES or not error.detail.endswith("."):
            raise AssertionError(f"odd refusal {error}") from error
        return error.code
    pixels = image.pixels
    sound = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.flags.c_contiguous
    whole = image.width * image.height <= LIMITS.max_pixels and min(image.width, image.height) >= LIMITS.min_side
    if not sound or not whole or len(pixels) > image.height:
        raise AssertionError(f"odd picture {pixels.dtype} {pixels.shape} of {image.width} x {image.height}")
    return "decoded"


def memory(line: str) -> int:
    """Bytes from a line of /proc/self/status; getrusage would include the peak of the process that started this one."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(each.split()[1]) * 1024 for each in status if each.startswith(line))


def main(first: int, count: int, report: Path, dicom: bool = False) -> None:
    files = dicom_files.corpus() if dicom else list(corpus().values())
    answers = dict.fromkeys(["decoded", *sorted(CODES)], 0)
    for data in files:
        if check(data) != "decoded":
            raise AssertionError("a picture of the corpus is refused")
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process even inside a decoder
    handle = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    start = memory("VmRSS")
    settled = start
    for number in range(count):
        os.pwrite(handle, b"%-20d" % (first + number), 0)
        signal.setitimer(signal.ITIMER_PROF, DEADLINE)
        answers[check(dicom_files.mutated(first + number) if dicom else mutated(files, first + number))] += 1
        if number == count // 10:
            settled = memory("VmRSS")
    signal.setitimer(signal.ITIMER_PROF, 0)
    os.close(handle)
    found = {"start": start, "settled": settled, "end": memory("VmRSS"), "peak": memory("VmHWM")}
    processes.shared().close()
    found["decoders"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    report.write_text(json.dumps({"answers": answers, "memory": found}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), dicom="dicom" in sys.argv[4:])

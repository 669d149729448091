"""Decodes PNG with Pillow, and large images with OpenCV, which needs half the memory. Decoders get only the chunks for pixels.

libpng, and so OpenCV, also decompresses data after the last pixel, where one megabyte can expand to a gigabyte. Pillow stops.
"""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
from PIL import PngImagePlugin

from aiderm_core.imaging.colour import from_pillow, on_white, to_srgb
from aiderm_core.imaging.decoders.pillow import refusing, to_8_bit
from aiderm_core.imaging.errors import undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers.png import GREY, PALETTE, RGB, RGBA, SIGNATURE, PngHeader
from aiderm_core.imaging.icc import gamma_profile

_PART = 1 << 17  # bytes that are decompressed at once
# Adam7: for each pass, the first row and column, and the steps down and across.
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def decode(data: bytes, header: PngHeader, notes: list[str]) -> Pixels:
    """Decodes the image that every viewer shows; for an animated file too.

    Raises:
        ImageError: truncated or undecodable.
    """
    if header.more_frames:
        notes.append("first_frame")
    if header.bad_profile:
        notes.append("icc_ignored")
    profile = header.profile or gamma_profile(header.gamma, header.chromaticities)
    # Without the other chunks, no decoder decompresses texts, profiles or further frames.
    plain = data if header.only_pixels else SIGNATURE + b"".join(data[at : at + size] for at, size in header.pixels)
    if header.large and header.bits == 8 and not header.transparent and header.colour in (GREY, RGB, PALETTE, RGBA):
        if _holds_more(data, header):
            raise undecodable(data, "png", "holds more data than its size implies")
        return _decode_common(plain, header, profile, notes)
    with refusing(data, "png"), PngImagePlugin.PngImageFile(io.BytesIO(plain)) as image:
        image.load()
        return from_pillow(to_8_bit(image, 16 if image.mode.startswith("I;16") else 8, notes), profile, notes)


def _decode_common(data: bytes, header: PngHeader, profile: bytes | None, notes: list[str]) -> Pixels:
    flag = {GREY: cv2.IMREAD_GRAYSCALE, RGBA: cv2.IMREAD_UNCHANGED}.get(header.colour, cv2.IMREAD_COLOR_RGB)
    samples = imdecode(data, flag)
    channels = {GREY: 1, RGBA: 4}.get(header.colour, 3)
    if samples is None or samples.size != header.width * header.height * channels:
        raise undecodable(data, "png")
    if header.colour == GREY:
        return to_srgb(samples, "L", profile, notes)
    if header.colour != RGBA:
        return to_srgb(samples, "RGB", profile, notes)
    alpha = samples[..., 3]
    return on_white(to_srgb(np.asarray(cv2.cvtColor(samples, cv2.COLOR_BGRA2RGB), np.uint8), "RGB", profile, notes), alpha, notes)


def _holds_more(data: bytes, header: PngHeader) -> bool:
    """Whether there is data after the last pixel; decompresses no further than needed to tell."""
    unpacked = zlib.decompressobj()
    left = _unpacked_size(header)
    try:
        for at, size in header.pixels:
            if data[at + 4 : at + 8] != b"IDAT":
                continue
            part = data[at + 8 : at + size - 4]
            while part and left >= 0 and not unpacked.eof:
                left -= len(unpacked.decompress(part, _PART))
                part = unpacked.unconsumed_tail
    except zlib.error:
        return False  # damaged; the decoder reports that better
    return left < 0


def _unpacked_size(header: PngHeader) -> int:
    """Bytes of all rows, including the byte in front of each that names its filter."""
    passes = _PASSES if header.interlaced else ((0, 0, 1, 1),)
    sizes = [(len(range(top, header.height, down)), len(range(left, header.width, across))) for top, left, down, across in passes]
    return sum(rows * (1 + (columns * header.channels * header.bits + 7) // 8) for rows, columns in sizes if columns)


def imdecode(data: bytes, flag: int) -> Pixels | None:
    """Decodes with OpenCV; returns None instead of raising."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except (cv2.error, MemoryError):
        return None

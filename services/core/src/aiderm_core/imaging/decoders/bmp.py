"""Decodes BMP: Pillow decodes plain pixels; run lengths are decoded here, in one step per command."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin

from aiderm_core.imaging.colour import from_pillow, to_srgb
from aiderm_core.imaging.decoders.pillow import refusing
from aiderm_core.imaging.errors import truncated, undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers.bmp import RLE4, RLE8, BmpHeader


def decode(data: bytes, header: BmpHeader, notes: list[str]) -> Pixels:
    """Decodes a bitmap. An alpha channel of zeros, which clipboards and old cameras write, is ignored.

    Raises:
        ImageError: truncated or undecodable.
    """
    if header.compression in (RLE8, RLE4):
        return to_srgb(_palette(data, header)[_indices(data, header)], "RGB", None, notes)
    with refusing(data, "bmp"), BmpImagePlugin.BmpImageFile(io.BytesIO(data)) as image:
        image.load()
        if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            return from_pillow(image.convert("RGB"), None, notes)
        return from_pillow(image, None, notes)


def _palette(data: bytes, header: BmpHeader) -> NDArray[np.uint8]:
    """RGB of all indices; black beyond the declared ones."""
    most = 256 if header.compression == RLE8 else 16
    count = min(header.colours or most, most)
    body = data[header.palette : header.palette + count * header.entry]
    if len(body) < count * header.entry:
        raise truncated(data, "bmp")
    palette = np.zeros((256, 3), np.uint8)
    palette[:count] = np.frombuffer(body, np.uint8).reshape(count, header.entry)[:, 2::-1]
    return palette


def _indices(data: bytes, header: BmpHeader) -> NDArray[np.uint8]:
    """Indices ``[H, W]``; pixels that are skipped have index 0."""
    width, height = header.width, header.height
    canvas = np.zeros((height, width), np.uint8)
    four = header.compression == RLE4
    at, x, y, end = header.start, 0, 0, len(data)
    while True:
        if at + 2 > end:
            raise truncated(data, "bmp")
        count, value = data[at], data[at + 1]
        at += 2
        if count == 0 and value == 0:  # end of the row
            x, y = 0, y + 1
            continue
        if count == 0 and value == 1:  # end of the bitmap
            break
        if count == 0 and value == 2:  # move right and up
            if at + 2 > end:
                raise truncated(data, "bmp")
            x, y, at = x + data[at], y + data[at + 1], at + 2
            if x > width or y > height:
                raise undecodable(data, "bmp", "leaves its rows")
            continue
        if count == 0:  # uncompressed pixels, padded to 16 bits
            count, size = value, (value + 1) // 2 if four else value
            body = np.frombuffer(data, np.uint8, size, at) if at + size <= end else None
            at += size + size % 2
            if body is None:
                raise truncated(data, "bmp")
            run = np.stack([body >> 4, body & 15], -1).ravel()[:count] if four else body
        else:
            run = np.resize(np.array([value >> 4, value & 15], np.uint8), count) if four else np.uint8(value)  # type: ignore[assignment]
        # Encoders write a row's padding as pixels; a run that goes further beyond its row is an error.
        if y >= height or x + count > width + 3:
            raise undecodable(data, "bmp", "leaves its rows")
        length = min(count, width - x)
        if length > 0:
            canvas[y, x : x + length] = run if run.ndim == 0 else run[:length]
        x += count
    return canvas[::-1] if header.bottom_up else canvas

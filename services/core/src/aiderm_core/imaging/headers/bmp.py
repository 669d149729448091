"""Reads BMP headers: BITMAPCOREHEADER, and BITMAPINFOHEADER with its later versions."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aiderm_core.imaging.headers.model import Header, HeaderError, sized

UNCOMPRESSED, RLE8, RLE4, BIT_FIELDS, ALPHA_BIT_FIELDS = 0, 1, 2, 3, 6


@dataclass(frozen=True)
class BmpHeader(Header):
    """A BMP file.

    Attributes:
        compression: 0 none, 1 and 2 run lengths of 8 and 4 bits, 3 and 6 bit fields.
        start: offset of the pixels.
        palette: offset of the palette.
        colours: number of colours in the palette, as declared; 0 means all.
        entry: bytes per colour in the palette, 3 or 4.
        bottom_up: the last row comes first.
    """

    compression: int = UNCOMPRESSED
    start: int = 0
    palette: int = 0
    colours: int = 0
    entry: int = 4
    bottom_up: bool = True


def read(data: bytes) -> BmpHeader:
    """Reads a BMP file's header; raises HeaderError if it breaks the format."""
    start, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, colours, entry = UNCOMPRESSED, 0, 3
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        compression, colours = (struct.unpack_from("<I", data, at)[0] if size >= 40 else 0 for at in (30, 46))
        entry = 4
    if width <= 0 or height == 0:
        raise HeaderError(f"The BMP header declares {width} x {height} pixels.")
    with sized("BMP", width, abs(height)):
        _check(width, abs(height), bits, compression, len(data) - start)
    return BmpHeader(
        width, abs(height), channels=4 if bits == 32 else 3 if bits > 8 else 1, bits=bits if bits < 8 else 8,
        compression=compression, start=start, palette=14 + size, colours=colours, entry=entry, bottom_up=height > 0,
    )  # fmt: skip


def _check(width: int, height: int, bits: int, compression: int, stored: int) -> None:
    if bits not in (1, 2, 4, 8, 16, 24, 32) or compression not in (UNCOMPRESSED, RLE8, RLE4, BIT_FIELDS, ALPHA_BIT_FIELDS):
        raise HeaderError(f"The BMP file has {bits} bits a pixel and compression {compression}; allowed: none, or run lengths.")
    runs = compression in (RLE8, RLE4)
    if runs and bits != (8 if compression == RLE8 else 4):
        raise HeaderError(f"The BMP file has run lengths of {bits} bits a pixel.")
    if runs:
        # At worst every pixel is a separate run, and every row has an end mark.
        if stored > 2 * (width + 2) * (height + 1):
            raise HeaderError("The BMP file holds more run lengths than its size implies.")
    elif stored < (width * bits + 31) // 32 * 4 * height:
        raise HeaderError("The BMP file ends before its pixels do.", truncated=True)

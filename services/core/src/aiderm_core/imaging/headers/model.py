"""What every header reader returns and raises."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAX_SEGMENTS = 20_000
"""Segments or chunks of one file: images hold up to a few thousand; millions of empty ones would cost seconds."""
BEYOND_THE_END = (struct.error, IndexError, OverflowError)
"""What reading behind the end of the bytes raises; OverflowError for the 64-bit offsets of a BigTIFF."""


class HeaderError(ValueError):
    """A header that breaks its format; ``truncated`` when the file ends inside it."""

    def __init__(self, detail: str, *, truncated: bool = False) -> None:
        super().__init__(detail)
        self.truncated = truncated


@dataclass(frozen=True)
class Header:
    """A picture as its header declares it, before orientation.

    Attributes:
        orientation: EXIF orientation 1..8 of a JPEG or TIFF; other formats keep it where their decoder finds it.
        channels: samples of a pixel as they are stored, alpha included.
        bits: of a sample.
        progressive: a JPEG of several scans, which its decoder holds in full.
        plain: 8-bit grey or YCbCr JPEG without a colour profile, for which the fast decoder is exact.
        complete: False when the file ends before its picture does.
        more_frames: a TIFF with further pages.
    """

    width: int
    height: int
    orientation: int = 1
    channels: int = 3
    bits: int = 8
    progressive: bool = False
    plain: bool = False
    complete: bool = True
    more_frames: bool = False

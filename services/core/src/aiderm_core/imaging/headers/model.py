"""What every header reader returns and raises."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_SEGMENTS = 20_000
"""Segments, chunks or blocks of one file: images hold up to a few thousand; millions of empty ones would cost seconds."""
BEYOND_THE_END = (struct.error, IndexError, OverflowError)
"""What reading behind the end of the bytes raises; OverflowError for the 64-bit offsets of a BigTIFF."""


class HeaderError(ValueError):
    """A header that breaks its format or declares what is not supported; ``truncated`` when bytes are missing or damaged.

    ``size`` is the width and height that it declares, where they are known.
    """

    def __init__(self, detail: str, *, truncated: bool = False, size: tuple[int, int] | None = None) -> None:
        super().__init__(detail)
        self.truncated = truncated
        self.size = size


@contextmanager
def sized(name: str, width: int, height: int) -> Iterator[None]:
    """Adds the declared size to whatever is found wrong behind it, so that a size beyond the limits is named first.

    Raises:
        HeaderError: with its ``size``.
    """
    try:
        yield
    except HeaderError as error:
        error.size = error.size or (width, height)
        raise
    except BEYOND_THE_END:
        raise HeaderError(f"The {name} file ends inside its header.", truncated=True, size=(width, height)) from None


@dataclass(frozen=True)
class Header:
    """An image as its header declares it, before orientation.

    Attributes:
        width: in pixels.
        height: in pixels.
        orientation: EXIF orientation 1..8.
        channels: samples of a pixel as they are stored, alpha included.
        bits: of a sample.
        profile: ICC profile, where the file holds one.
        complete: False when the file ends before its image does.
        more_frames: the file holds further frames or pages.
    """

    width: int
    height: int
    orientation: int = 1
    channels: int = 3
    bits: int = 8
    profile: bytes | None = None
    complete: bool = True
    more_frames: bool = False

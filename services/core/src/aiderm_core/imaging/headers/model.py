"""Defines what every header reader returns and raises."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_SEGMENTS = 20_000
"""Most segments, chunks or blocks of one file: images have up to a few thousand; millions of empty ones would take seconds."""
BEYOND_THE_END = (struct.error, IndexError, OverflowError)
"""Exceptions raised by reading beyond the end of the bytes; OverflowError for the 64-bit offsets of a BigTIFF."""


class HeaderError(ValueError):
    """A header breaks its format or declares something unsupported; ``truncated`` if bytes are missing or damaged.

    ``size`` is the declared width and height, if known.
    """

    def __init__(self, detail: str, *, truncated: bool = False, size: tuple[int, int] | None = None) -> None:
        super().__init__(detail)
        self.truncated = truncated
        self.size = size


@contextmanager
def sized(name: str, width: int, height: int) -> Iterator[None]:
    """Adds the declared size to errors in the rest of the header, so that a size beyond the limits can be reported first.

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
        channels: samples per pixel as stored, alpha included.
        bits: bits per sample.
        profile: ICC profile, if the file holds one.
        complete: False if the file ends before its image does.
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

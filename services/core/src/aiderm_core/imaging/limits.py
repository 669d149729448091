"""The size limits that every image must keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits for one image.

    Attributes:
        max_bytes: bytes of the file.
        max_pixels: width times height.
        min_side: pixels of the shorter side.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    min_side: int = 100


DEFAULT_LIMITS = Limits()

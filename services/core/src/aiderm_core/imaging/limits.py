"""Defines the size limits that apply to every image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits for one image.

    Attributes:
        max_bytes: most bytes of the file.
        max_pixels: most pixels, width times height.
        min_side: least pixels on the shorter side.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    min_side: int = 100


DEFAULT_LIMITS = Limits()

"""Turns the pixels of an upright image into the model's input."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_FLIPS = {2: 1, 4: 0}
_TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class Region:
    """A rectangle of the upright image, in pixels."""

    x: int
    y: int
    width: int
    height: int


def assessed_region(width: int, height: int, geometry: str = "center_square") -> Region:
    """The part of a ``width`` x ``height`` image that the model assesses: its largest centred square.

    Raises:
        ValueError: the geometry is unknown or the image is empty.
    """
    if geometry != "center_square":
        raise ValueError(f"geometry must be center_square. Received: {geometry!r}")
    if width < 1 or height < 1:
        raise ValueError(f"an image must have pixels. Received: {width} x {height}")
    side = min(width, height)
    return Region((width - side) // 2, (height - side) // 2, side, side)


def crop(pixels: Pixels, region: Region) -> Pixels:
    """Returns a view of ``region`` in ``pixels`` ``[H, W, 3]``.

    Raises:
        ValueError: the region is empty or leaves the image.
    """
    height, width = pixels.shape[:2]
    inside = region.x >= 0 and region.y >= 0 and region.x + region.width <= width and region.y + region.height <= height
    if not inside or region.width < 1 or region.height < 1:
        raise ValueError(f"the region must lie inside {width} x {height} pixels. Received: {region}")
    return pixels[region.y : region.y + region.height, region.x : region.x + region.width]


def to_model_input(pixels: Pixels, size: int, geometry: str = "center_square") -> Pixels:
    """Cuts the assessed region out of uint8 ``[H, W, 3]`` and scales it to uint8 ``[size, size, 3]``.

    Shrinking averages areas, which avoids aliasing; enlarging interpolates.
    """
    height, width = pixels.shape[:2]
    region = assessed_region(width, height, geometry)
    square = crop(pixels, region)
    if region.width == size:
        return square.copy()
    method = cv2.INTER_AREA if region.width > size else cv2.INTER_LINEAR
    # OpenCV supports a view's row stride, so the square need not be copied first.
    return np.asarray(cv2.resize(square, (size, size), interpolation=method), np.uint8)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Applies an EXIF orientation 1..8 to uint8 ``[H, W, 3]``."""
    if orientation in (5, 7):  # mirrored along a diagonal, which equals a flip and then a quarter turn
        pixels = np.asarray(cv2.flip(pixels, 1), np.uint8)
        orientation = {5: 8, 7: 6}[orientation]
    if orientation in _FLIPS:
        return np.asarray(cv2.flip(pixels, _FLIPS[orientation]), np.uint8)
    if orientation in _TURNS:
        return np.asarray(cv2.rotate(pixels, _TURNS[orientation]), np.uint8)
    return pixels

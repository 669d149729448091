"""From the pixels of an upright image to the model's input."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# OpenCV averages areas fast by whole numbers only; by another ratio that takes longer than decoding a JPEG. At ratios around 2,
# as from 450 pixels to 224, the mean of four interpolated samples is the mean of the area: both weigh a pixel that the area's
# edge cuts by its part inside. Farther off, the difference is more than rounding and changes decisions (benchmarks/decoding).
_TWO_STEPS = (1.9, 2.15)
# Up to here areas hold hardly more than a pixel, and their mean is an interpolation.
_HARDLY_SMALLER = 1.03
_FRACTION = np.uint16(128)  # levels between two levels; rounded twice, a pixel in nine would be another
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
        ValueError: an unknown geometry or an empty image.
    """
    if geometry != "center_square":
        raise ValueError(f"geometry must be center_square. Received: {geometry!r}")
    if width < 1 or height < 1:
        raise ValueError(f"an image must have pixels. Received: {width} x {height}")
    side = min(width, height)
    return Region((width - side) // 2, (height - side) // 2, side, side)


def crop(pixels: Pixels, region: Region) -> Pixels:
    """A view of ``region`` in ``pixels`` ``[H, W, 3]``.

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

    Shrinking averages areas, so that a large image leaves no aliasing; enlarging interpolates. Only the region is read, through a
    view, and every pixel of it once.
    """
    height, width = pixels.shape[:2]
    region = assessed_region(width, height, geometry)
    square = crop(pixels, region)
    if region.width == size:
        return square.copy()
    # OpenCV reads a view with its own row stride, so the square is not copied first.
    ratio = region.width / size
    if ratio != 2 and _TWO_STEPS[0] <= ratio <= _TWO_STEPS[1]:
        finer = np.multiply(square, _FRACTION, dtype=np.uint16)
        twice = cv2.resize(finer, (2 * size, 2 * size), interpolation=cv2.INTER_LINEAR)
        small = cv2.resize(twice, (size, size), interpolation=cv2.INTER_AREA)
        return np.asarray((small + _FRACTION // 2) // _FRACTION, np.uint8)
    method = cv2.INTER_AREA if ratio > _HARDLY_SMALLER else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=method), np.uint8)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Applies an EXIF orientation 1..8 to uint8 ``[H, W, 3]``."""
    if orientation in (5, 7):  # mirrored along a diagonal: a transposition is a quarter turn after a flip
        pixels = np.asarray(cv2.flip(pixels, 1), np.uint8)
        orientation = {5: 8, 7: 6}[orientation]
    if orientation in _FLIPS:
        return np.asarray(cv2.flip(pixels, _FLIPS[orientation]), np.uint8)
    if orientation in _TURNS:
        return np.asarray(cv2.rotate(pixels, _TURNS[orientation]), np.uint8)
    return pixels

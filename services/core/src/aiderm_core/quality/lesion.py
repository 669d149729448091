"""Locates the lesion roughly, for the quality measurements only: no output of the model depends on it.

It thresholds the colour distance from the surrounding skin (Otsu 1979, doi:10.1109/TSMC.1979.4310076). That only works if the
lesion stands out, so ``find_lesion`` checks its result and returns None in case of doubt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 56
"""Side in pixels at which the lesion is located: its position matters, not its outline."""

# Criteria for a lesion that stands out, from dermoscopic images with hand-drawn outlines.
_SEPARATION = 0.75  # share of the distances' variance that lies between lesion and skin
_CONTRAST = 10.0  # CIELAB units between their means
_SHARE = 0.9  # share of the pixels that stand out that must form one piece
_AREA = (0.01, 0.55)  # share of the disc
_RIM = 0.1  # share of the disc's rim that it may cover


_LEVELS = np.arange(256)
# Squares in CIELAB units of differences of -255 to 255 levels, for lightness, a and b.
_SQUARES = [np.square(np.arange(-255, 256, dtype=np.float32) * np.float32(unit)) for unit in (100 / 255, 1, 1)]


class _Places(NamedTuple):
    """Flat indices of the searched disc, of its outer ring (mostly skin) and of its rim; and the disc as a mask of 0 and 1."""

    disc: NDArray[np.intp]
    ring: NDArray[np.intp]
    rim: NDArray[np.intp]
    inside: NDArray[np.float32]


@dataclass(frozen=True)
class Lesion:
    """A lesion that stands out from its skin.

    Attributes:
        mask: bool ``[SIDE, SIDE]``.
        offset: distance of its centroid from the middle, as a share of the side.
    """

    mask: NDArray[np.bool_]
    offset: float


def find_lesion(square: NDArray[np.uint8]) -> Lesion | None:
    """The lesion in a square uint8 ``[S, S, 3]`` RGB; None if none stands out clearly."""
    half = square if len(square) == 2 * SIDE else cv2.resize(square, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.medianBlur(cv2.resize(half, (SIDE, SIDE), interpolation=cv2.INTER_AREA), 3)
    places = _places()
    levels = np.minimum(_away(small, places) * 2, 255).astype(np.uint8)
    inside = levels.ravel().take(places.disc)
    limit, _ = cv2.threshold(inside[:, None], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    counts = np.bincount(inside, minlength=256)
    count, among = len(inside), int(counts[int(limit) + 1 :].sum())
    if not 0 < among < count:
        return None
    sums = counts * _LEVELS
    share, above, total = among / count, int(sums[int(limit) + 1 :].sum()), int(sums.sum())
    step = above / among - (total - above) / (count - among)
    variance = int(sums @ _LEVELS) / count - (total / count) ** 2
    separation = share * (1 - share) * step**2 / variance
    if separation < _SEPARATION or step < 2 * _CONTRAST:
        return None
    candidates = (levels > limit) & (places.inside > 0)
    _, pieces, stats, centroids = cv2.connectedComponentsWithStats(candidates.view(np.uint8))
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    area, mask = int(stats[largest, cv2.CC_STAT_AREA]), pieces == largest
    if area < _SHARE * among or not _AREA[0] <= area / count <= _AREA[1]:
        return None
    if np.count_nonzero(mask.ravel().take(places.rim)) > _RIM * len(places.rim):
        return None
    x, y = centroids[largest]
    return Lesion(mask, math.hypot(x - (SIDE - 1) / 2, y - (SIDE - 1) / 2) / SIDE)


def _away(small: NDArray[np.uint8], places: _Places) -> NDArray[np.float32]:
    """Distance of each pixel's colour from the skin's, in CIELAB units, smoothed; float32 ``[SIDE, SIDE]``."""
    middle, squares = len(places.ring) // 2, []
    for plane, table in zip(cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2LAB)), _SQUARES, strict=True):
        skin = int(np.partition(plane.ravel().take(places.ring), middle)[middle])
        squares.append(cv2.LUT(plane, table[255 - skin : 511 - skin]))
    away = cv2.sqrt(cv2.add(cv2.add(squares[0], squares[1]), squares[2]))
    # Zero outside the disc: a dark rim is not a lesion.
    return np.asarray(cv2.GaussianBlur(cv2.multiply(away, places.inside), (0, 0), 1.5), np.float32)


@cache
def _places() -> _Places:
    y, x = np.ogrid[:SIDE, :SIDE]
    radius = np.hypot(x - (SIDE - 1) / 2, y - (SIDE - 1) / 2) / SIDE
    disc, ring, rim = (np.flatnonzero((radius > least) & (radius <= 0.46)) for least in (-1.0, 0.38, 0.44))
    return _Places(disc, ring, rim, (radius <= 0.46).astype(np.float32))

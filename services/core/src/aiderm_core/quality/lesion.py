"""Locates the lesion roughly, for the quality measurements only: no output of the model depends on it.

A threshold on the colour distance from the surrounding skin (Otsu 1979, doi:10.1109/TSMC.1979.4310076). It is right where a
lesion stands out and nowhere else, so it checks itself and says nothing when in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 56
"""Side in pixels at which the lesion is sought: its place is wanted, not its outline."""

# What a lesion that stands out looks like, from dermoscopic images with an outline drawn by hand.
_SEPARATION = 0.75  # share of the distances' variance that lies between lesion and skin
_CONTRAST = 10.0  # CIELAB units between their means
_SHARE = 0.9  # of what stands out, in one piece
_AREA = (0.01, 0.55)  # of the disc
_RIM = 0.1  # share of the disc's rim that it may reach


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
    """The lesion in a square uint8 ``[S, S, 3]`` RGB; None where none stands out clearly."""
    half = cv2.resize(square, (2 * SIDE, 2 * SIDE), interpolation=cv2.INTER_AREA)
    small = cv2.medianBlur(cv2.resize(half, (SIDE, SIDE), interpolation=cv2.INTER_AREA), 3)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 0] *= 100 / 255
    disc, ring, rim = _places()
    around = lab.reshape(-1, 3)[ring]
    lab -= np.partition(around, len(around) // 2, axis=0)[len(around) // 2]
    away = np.zeros((SIDE, SIDE), np.float32)  # nothing outside the disc: a dark rim is not a lesion
    away.ravel()[disc] = np.sqrt(np.einsum("yxc,yxc->yx", lab, lab)).ravel()[disc]
    away = cv2.GaussianBlur(away, (0, 0), 1.5)
    levels = np.minimum(away * 2, 255).astype(np.uint8)
    inside = levels.ravel()[disc]
    limit, _ = cv2.threshold(inside[:, None], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    apart = inside > limit
    count, among = len(inside), int(np.count_nonzero(apart))
    if not 0 < among < count:
        return None
    share, above, total = among / count, int(inside[apart].sum()), int(inside.sum())
    step = above / among - (total - above) / (count - among)
    variance = int(np.square(inside, dtype=np.uint32).sum()) / count - (total / count) ** 2
    separation = share * (1 - share) * step**2 / variance
    if separation < _SEPARATION or step < 2 * _CONTRAST:
        return None
    candidates = np.zeros(SIDE * SIDE, np.uint8)
    candidates[disc[apart]] = 1
    _, pieces, stats, centroids = cv2.connectedComponentsWithStats(candidates.reshape(SIDE, SIDE))
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    area, mask = int(stats[largest, cv2.CC_STAT_AREA]), pieces == largest
    if area < _SHARE * among or not _AREA[0] <= area / len(inside) <= _AREA[1] or mask.ravel()[rim].mean() > _RIM:
        return None
    return Lesion(mask, float(np.hypot(*(centroids[largest] - (SIDE - 1) / 2)) / SIDE))


@cache
def _places() -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Flat indices of the disc that is searched, of its outer ring, which is mostly skin, and of its rim."""
    y, x = np.ogrid[:SIDE, :SIDE]
    radius = np.hypot(x - (SIDE - 1) / 2, y - (SIDE - 1) / 2).ravel() / SIDE
    disc, ring, rim = (np.flatnonzero((radius > least) & (radius <= 0.46)) for least in (-1.0, 0.38, 0.44))
    return disc, ring, rim

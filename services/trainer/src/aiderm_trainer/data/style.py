"""Shows an image in another camera's colours, so that colour says nothing about the camera that took it.

Reinhard et al., "Color Transfer between Images" (IEEE CG&A 2001), with two changes: statistics are taken from the skin
around the lesion, never from the lesion, and the spread is moved only part of the way, so the lesion keeps its contrast.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

DARK = 60  # of 255 in L: darker pixels of the outer ring are border, not skin
INNER, OUTER = 0.72, 0.98  # radii of the skin ring, as shares of half the side
SPREAD = (0.8, 1.25)  # limits of the factor on the deviations


def skin_style(image: Image) -> NDArray[np.float32] | None:
    """Median and standard deviation of L, a and b in the skin ring: float32 ``[2, 3]`` in 0..255.

    Args:
        image: uint8 ``[S, S, 3]`` RGB.

    Returns:
        None if the ring shows too little skin.
    """
    ring = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[_ring(image.shape[0])].astype(np.float32)
    skin = ring[ring[:, 0] > DARK]
    if len(skin) < 0.1 * len(ring):
        return None
    return np.stack([np.median(skin, axis=0), np.maximum(skin.std(axis=0), 1.0)]).astype(np.float32)


def restyle(image: Image, own: NDArray[np.float32], other: NDArray[np.float32], strength: float) -> Image:
    """Moves an image's colours towards those of another image's skin.

    Args:
        image: uint8 ``[S, S, 3]`` RGB.
        own: ``skin_style`` of the image.
        other: ``skin_style`` of the image whose camera is imitated.
        strength: 0 leaves the image as it is, 1 gives its skin the other's colour.

    Returns:
        uint8 ``[S, S, 3]`` RGB.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    factor = np.clip(other[1] / own[1], *SPREAD) ** (0.5 * strength)
    levels = np.arange(256, dtype=np.float32)[:, None]
    table = (levels - own[0]) * factor + own[0] + strength * (other[0] - own[0])
    # What is black stays black: a dark border belongs to the dermatoscope, not to the skin's colour.
    table[:, 0] = np.where(levels[:, 0] < DARK, levels[:, 0] * max(table[DARK, 0], 1.0) / DARK, table[:, 0])
    return np.asarray(cv2.cvtColor(cv2.LUT(lab, np.clip(table, 0, 255).astype(np.uint8)[None]), cv2.COLOR_LAB2RGB), np.uint8)


@cache
def _ring(side: int) -> NDArray[np.bool_]:
    """The skin ring as a mask ``[side, side]``."""
    y, x = np.ogrid[:side, :side]
    radius = np.hypot(y - side / 2 + 0.5, x - side / 2 + 0.5) / (side / 2)
    ring: NDArray[np.bool_] = (radius > INNER) & (radius < OUTER)
    ring.flags.writeable = False
    return ring

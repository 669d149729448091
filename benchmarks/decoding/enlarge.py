"""Makes large photographs from archives of small images: enlarges an image and adds detail that the small one cannot show.

Enlarging alone gives an image without fine detail, for which all ways of shrinking agree. The missing octave is therefore
synthesised from the finest one present: its strength is extrapolated from the loss between the second finest and the finest
octave, and it is placed where the image has texture. Shrinking the result by area averaging gives the image back.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_NEIGHBOURHOOD = 4.0  # pixels over which the strength of detail is averaged


def enlarge(square: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """uint8 ``[S, S, 3]`` -> uint8 ``[side, side, 3]``, at about twice the size, whose area averages give ``square``."""
    small = square.astype(np.float32)
    finest, coarser = _octave(small), _octave(_resized(small, len(small) // 2))
    tile = np.concatenate([np.concatenate([finest, finest[:, ::-1]], 1), np.concatenate([finest[::-1], finest[::-1, ::-1]], 1)])
    tile = np.tile(tile, (2, 2, 1))[:side, :side]
    wanted = cv2.resize(_strength(finest), (side, side), interpolation=cv2.INTER_LINEAR)
    detail = tile * (wanted / (_strength(tile) + 1e-3))[..., None] * loss(square, finest, coarser)
    large = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC) + detail
    for _ in range(3):
        large += cv2.resize(small - _resized(large, len(small)), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(np.round(large), 0, 255).astype(np.uint8)


def loss(square: NDArray[np.uint8], finest: Floats | None = None, coarser: Floats | None = None) -> float:
    """The contrast of the finest octave as a share of the next coarser one's; the missing octave is expected to keep as much."""
    small = square.astype(np.float32)
    finest = _octave(small) if finest is None else finest
    coarser = _octave(_resized(small, len(small) // 2)) if coarser is None else coarser
    return float(min(1.0, finest.std() / max(coarser.std(), 1e-3)))


def _resized(image: Floats, side: int) -> Floats:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _octave(image: Floats) -> Floats:
    """The detail that an image loses at half its size."""
    side = len(image)
    return image - np.asarray(cv2.resize(_resized(image, side // 2), (side, side), interpolation=cv2.INTER_LINEAR), np.float32)


def _strength(detail: Floats) -> Floats:
    return np.asarray(np.sqrt(cv2.GaussianBlur(np.square(detail).mean(axis=2), (0, 0), _NEIGHBOURHOOD)), np.float32)

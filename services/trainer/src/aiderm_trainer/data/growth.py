"""Enlarges the lesion in an image by a known amount, and simulates taking the image again from another camera position."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_BAND: Final = 0.8  # width of the skin around the lesion that gives way, in radii of the lesion
_RIM: Final = 0.6  # width of the rim that grows while the middle stays, in radii of the lesion


def grown(image: Image, lesion: Mask, growth: float, *, rim: bool) -> Image:
    """Enlarges the lesion in an image smoothly; skin far from the lesion stays where it was.

    Args:
        image: uint8 ``[S, S, 3]``.
        lesion: bool ``[S, S]``, True inside the lesion.
        growth: increase of the lesion's area; 0.2 adds a fifth.
        rim: whether only the lesion's outer part grows, as in most lesions, instead of the whole lesion evenly.

    Raises:
        ValueError: the lesion is empty, or cannot grow that much inside the image.
    """
    if growth == 0:
        return image
    area = float(np.count_nonzero(lesion))
    if not area:
        raise ValueError("the lesion must not be empty")
    radius, inside = np.sqrt(area / np.pi), lesion.astype(np.uint8)
    away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5) - cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    away = cv2.GaussianBlur(away, (0, 0), len(image) / 75)
    beyond = np.clip((away - radius * (np.sqrt(1 + growth) - 1)) / (_BAND * radius), 0, 1)
    within = np.clip(-away / (_RIM * radius), 0, 1) if rim else np.zeros_like(beyond)
    weight = np.cos(np.maximum(beyond, within) * np.pi / 2) ** 2
    centre = np.argwhere(lesion).mean(axis=0)[::-1]
    x, y = np.meshgrid(*(np.arange(len(image)) - each for each in centre))

    def sampled(drawn: NDArray[np.generic], strength: float, method: int) -> NDArray[np.float32]:
        # Each pixel shows a point closer to the centre. Points keep their order, as the weight falls outwards or rises slowly.
        maps = [np.float32(each / (1 + strength * weight) + at) for each, at in zip((x, y), centre, strict=True)]
        return np.asarray(cv2.remap(drawn, maps[0], maps[1], method, borderMode=cv2.BORDER_REFLECT_101))

    low, high = 0.0, 2.0
    for _ in range(24):
        middle = (low + high) / 2
        reached = float(sampled(lesion.astype(np.float32), middle, cv2.INTER_LINEAR).sum()) >= area * (1 + growth)
        low, high = (low, middle) if reached else (middle, high)
    if high == 2.0:
        raise ValueError(f"the lesion cannot grow by {growth:.0%} inside the image")
    return np.asarray(sampled(image, high, cv2.INTER_CUBIC), np.uint8)


def taken_again(image: Image, rng: np.random.Generator, zoom: float = 1.18, shift: float = 0.06) -> Image:
    """The image as a camera would take it again: rotated by any angle, zoomed by up to ``zoom`` and shifted by up to ``shift``.

    The shift is a share of the side. Unlike ``augment.warp``, this does not mirror or stretch the image, because no camera does.
    """
    side = len(image)
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), rng.uniform(0, 360), zoom ** rng.uniform(-1, 1))
    matrix[:, 2] += rng.uniform(-shift, shift, 2) * side
    return np.asarray(cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))

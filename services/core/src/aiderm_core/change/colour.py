"""Measures how the colour of a lesion has changed relative to the skin around it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.outline import PRESENT, colour_shares

_LEVELS: Final = np.arange(256) / 255
_LINEAR: Final = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)


def in_light_of(skin: NDArray[np.uint8], other: NDArray[np.uint8], pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Adapts pixels of one image to the light of another: scales each channel so that the medians of the skin agree.

    This is von Kries adaptation in linear light, as in grey-world corrections of dermoscopic images (Barata et al., IEEE J.
    Biomed. Health Inform. 19, 1146-1152, 2015).

    Args:
        skin: skin of the image that provides the light, uint8 ``[K, 3]`` sRGB.
        other: skin of the image to adapt, uint8 ``[L, 3]``.
        pixels: pixels of the image to adapt, uint8 ``[M, 3]``.

    Returns:
        uint8 ``[M, 3]``.
    """
    gains = skin_light(skin) / np.maximum(skin_light(other), 1e-3)
    light = np.clip(_LINEAR[pixels] * gains, 0, 1)
    coded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(coded * 255), np.uint8)


def skin_light(skin: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Median of each channel of uint8 ``[K, 3]`` in linear light, 0..1."""
    return np.median(_LINEAR[skin], axis=0).astype(np.float64)


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Distance in CIELAB (CIE 1976) between the mean colours of pixels uint8 ``[K, 3]`` and ``[L, 3]``, sRGB."""
    means = [cv2.cvtColor(np.float32(each[None] / 255), cv2.COLOR_RGB2LAB)[0].mean(axis=0) for each in (first, second)]
    return float(np.hypot.reduce(means[0] - means[1]))


def appeared(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[str, ...]:
    """The colours that cover at least twice ``PRESENT`` of the second lesion and less than half of it in the first."""
    before, after = colour_shares(first), colour_shares(second)
    return tuple(name for name in after if after[name] >= 2 * PRESENT and before[name] < PRESENT / 2)

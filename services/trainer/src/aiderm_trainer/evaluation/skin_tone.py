"""Estimates skin tone from the image itself: the individual typology angle (ITA) of the skin around the lesion.

ITA = arctan((L* - 50) / b*) in degrees (Chardon, Cretois, Hourseau 1991, doi:10.1111/j.1467-2494.1991.tb00561.x), computed
from the median of the skin in CIELAB, in the bands that Kinyanjui et al. used for dermoscopic sets (2019, arXiv:1910.13268). A
dermatoscope's light and exposure are not calibrated, so the angle orders images roughly and says nothing about a person.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Flags = NDArray[np.bool_]

# Lower bound of the angle in degrees and name, from dark to light.
BANDS: Final = (
    (-math.inf, "dark"),
    (-30.0, "brown"),
    (10.0, "tan"),
    (28.0, "intermediate"),
    (41.0, "light"),
    (55.0, "very light"),
)
WORKING_SIZE: Final = 128
MIN_SKIN: Final = 0.05  # share of the image: with less a median is unreliable
_DISC = 0.47  # radius as a share of the side: corners may hold the dermatoscope's round border
_BORDER_LIGHTNESS = 15.0  # L* of the dark border; the darkest skin lies above it in every public set
_GLARE_LIGHTNESS = 97.0
_HAIR_CONTRAST = 20  # of the black-hat transform on 0..255: skin lines lie below it
_MARGIN = 0.04  # share of the side: covers the lesion's fading rim


def band(angle: float) -> str:
    """Name of the band that an angle in degrees falls into.

    Raises:
        ValueError: the angle is not within -90..90.
    """
    if not -90.0 <= angle <= 90.0:
        raise ValueError(f"the angle must lie in -90..90 degrees. Received: {angle}")
    return [name for low, name in BANDS if angle >= low][-1]


def typology_angle(lightness: float, yellow: float) -> float:
    """Returns the ITA in degrees for L* and any b*; bluish casts (b* below 0) are mirrored to yellowish ones."""
    return math.degrees(math.atan2(lightness - 50.0, max(abs(yellow), 1e-6)))


def measure(pixels: Pixels, outline: Flags | None = None) -> float | None:
    """Measures the ITA of the skin around the lesion.

    Args:
        pixels: uint8 ``[H, W, 3]`` RGB, the assessed region.
        outline: ``[H, W]``, True inside the lesion; estimated by Otsu's threshold (1979) when None.

    Returns:
        Degrees, -90..90; None if less than ``MIN_SKIN`` of the image is skin.

    Raises:
        ValueError: an array of the wrong shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 [H, W, 3]. Received: {pixels.dtype} {list(pixels.shape)}")
    if outline is not None and outline.shape != pixels.shape[:2]:
        raise ValueError(f"the outline must be {list(pixels.shape[:2])}. Received: {list(outline.shape)}")
    size = (WORKING_SIZE, WORKING_SIZE)
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    usable = _disc() & (lab[..., 0] > _BORDER_LIGHTNESS) & (lab[..., 0] < _GLARE_LIGHTNESS) & ~_hair(small)
    if outline is None:
        lesion = _darker(lab[..., 0], usable)
    else:
        lesion = cv2.resize(outline.astype(np.uint8), size, interpolation=cv2.INTER_LINEAR) > 0
    skin = usable & ~_grown(lesion, _MARGIN)
    if skin.mean() < MIN_SKIN:
        return None
    lightness, yellow = np.median(lab[skin][:, [0, 2]], axis=0)
    return typology_angle(float(lightness), float(yellow))


def _darker(lightness: NDArray[np.float32], usable: Flags) -> Flags:
    """The darker side of Otsu's threshold on the usable pixels: the lesion, and shadows."""
    smooth = cv2.GaussianBlur(lightness, (0, 0), WORKING_SIZE / 64)
    levels = np.clip(smooth * 2.55, 0, 255).astype(np.uint8)
    if not usable.any():
        return np.zeros_like(usable)
    cut, _ = cv2.threshold(levels[usable].reshape(1, -1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(levels <= cut, np.bool_)


def _hair(pixels: Pixels) -> Flags:
    """Thin dark lines: the black-hat of Lee et al., DullRazor (1997), doi:10.1016/S0010-4825(97)00020-6."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    hat = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9)))
    return np.asarray(cv2.dilate(hat, np.ones((3, 3), np.uint8)) > _HAIR_CONTRAST, np.bool_)


def _grown(flags: Flags, margin: float) -> Flags:
    reach = round(margin * WORKING_SIZE)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(flags.astype(np.uint8), kernel) > 0, np.bool_)


@cache
def _disc() -> Flags:
    y, x = np.ogrid[:WORKING_SIZE, :WORKING_SIZE]
    middle = (WORKING_SIZE - 1) / 2
    disc: Flags = np.hypot(x - middle, y - middle) <= _DISC * WORKING_SIZE
    disc.flags.writeable = False
    return disc

"""What a picture is worth as evidence, as numbers: sharpness, exposure, contrast, glare, resolution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.imaging import to_model_input
from aiderm_core.manifest import QualityLimit

WORKING_SIZE = 224
"""Side in pixels at which all metrics but resolution are taken, so that cameras compare."""

METRICS: dict[str, Literal["low", "high"]] = {
    "sharpness": "low",
    "brightness": "low",
    "contrast": "low",
    "underexposed": "high",
    "overexposed": "high",
    "glare": "high",
    "resolution": "low",
}
"""Each metric and the side on which it is worse."""

_TEXTS = {
    "sharpness": "The picture is blurred. Hold the dermatoscope still on the skin, let the camera focus, and take it again.",
    "brightness": "The picture is very dark. Switch on the dermatoscope's light, or add light, and take it again.",
    "contrast": "The picture shows hardly any difference between light and dark. Place the lesion in the middle and focus on it.",
    "underexposed": "Much of the picture is black. Add light, and check that nothing covers the lens.",
    "overexposed": "Much of the picture is pure white. Lower the exposure or the light, and take it again.",
    "glare": "Reflections cover part of the picture. Use polarised light or a contact fluid, or tilt the light away.",
    "resolution": "The picture has few pixels. Send the original file, and bring the lesion closer so that it fills the picture.",
}

# Near-black and near-white on 0..255, after the usual clipping checks of photography.
_NEAR_BLACK = 16
_NEAR_WHITE = 250
# A reflection is brighter than its surroundings and colourless (Arnold et al. 2010, doi:10.1155/2010/814319).
_GLARE_EXCESS = 40
_GLARE_VALUE = 180
_GLARE_SATURATION = 64
_GLARE_WINDOW = 9  # at a quarter of the working size: 36 pixels, larger than a reflection
# Below this share of the disc nothing is hidden, whatever the tail of the training images.
_SHARE_FLOOR = 0.01
_TAIL = 0.005
# Sharpness is a variance: half the amplitude is a quarter of it.
_REJECT_DIVISOR = {"sharpness": 4.0}


@dataclass(frozen=True)
class QualityWarning:
    """A metric beyond its limit: its name, and a sentence that says what is wrong and what to do."""

    code: str
    text: str


def measure(pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Measures a judged region at a working size of 224 pixels, inside its central disc.

    The corners do not count: the dark round border of a dermatoscope is no underexposure, its edge no sharpness.

    Args:
        pixels: uint8 ``[H, W, 3]`` RGB, the region already cropped.

    Returns:
        For each of ``METRICS``: sharpness, variance of the Laplacian of the luminance on 0..255 (Pech-Pacheco et al. 2000,
        doi:10.1109/ICPR.2000.903548); brightness, mean luminance 0..1; contrast, root mean square contrast 0..1 (Peli
        1990, doi:10.1364/JOSAA.7.002032); underexposed, overexposed and glare, shares of the disc 0..1; resolution, the
        shorter side in pixels.

    Raises:
        ValueError: another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"pixels must be uint8 [H, W, 3]. Received: {pixels.dtype} {list(pixels.shape)}")
    resolution = min(pixels.shape[:2])
    square = to_model_input(pixels, WORKING_SIZE)
    disc = _disc()
    luminance = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    inside = luminance[disc]
    laplacian = cv2.Laplacian(luminance, cv2.CV_32F, ksize=1)[disc]
    red, green, blue = cv2.split(square)
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    glare = (
        (cv2.subtract(luminance, _surroundings(luminance)) > _GLARE_EXCESS)
        & (brightest > _GLARE_VALUE)
        & (cv2.subtract(brightest, darkest) < _GLARE_SATURATION)
    )
    return {
        "sharpness": float(laplacian.var(dtype=np.float64)),
        "brightness": float(inside.mean(dtype=np.float64) / 255),
        "contrast": float(inside.std(dtype=np.float64) / 255),
        "underexposed": float((brightest[disc] < _NEAR_BLACK).mean()),
        "overexposed": float((darkest[disc] > _NEAR_WHITE).mean()),
        "glare": float(glare[disc].mean()),
        "resolution": float(resolution),
    }


def warnings(measures: Mapping[str, float], limits: Mapping[str, QualityLimit]) -> tuple[QualityWarning, ...]:
    """The warnings for a picture with these measures, in the order of ``METRICS``."""
    return tuple(
        QualityWarning(metric, _TEXTS[metric])
        for metric in METRICS
        if metric in measures and metric in limits and limits[metric].beyond(measures[metric], limits[metric].warn)
    )


def derive_limits(samples: Sequence[Mapping[str, float]]) -> dict[str, QualityLimit]:
    """Limits from the measures of real training images.

    A warning stands beyond the 0.5% tail. A rejection stands far beyond everything seen: at half of the lowest value
    (sharpness, a variance: a quarter), or half-way between the highest share and the whole disc.

    Raises:
        ValueError: no samples, or a metric that is missing or no finite number in one of them.
    """
    if not samples:
        raise ValueError("limits need the measures of at least one image. Received: none")
    limits: dict[str, QualityLimit] = {}
    for metric, worse in METRICS.items():
        values = np.array([sample.get(metric, math.nan) for sample in samples], np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"every sample must hold a finite {metric}. Received: {int((~np.isfinite(values)).sum())} without")
        if worse == "low":
            warn, reject = float(np.quantile(values, _TAIL)), float(values.min()) / _REJECT_DIVISOR.get(metric, 2.0)
        else:
            warn = max(float(np.quantile(values, 1 - _TAIL)), _SHARE_FLOOR)
            reject = (max(float(values.max()), warn) + 1) / 2
        limits[metric] = QualityLimit(worse=worse, warn=_rounded(warn), reject=_rounded(reject))
    return limits


def _surroundings(luminance: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The local median; taken at a quarter of the size, where it costs a tenth."""
    small = cv2.resize(luminance, (WORKING_SIZE // 4, WORKING_SIZE // 4), interpolation=cv2.INTER_AREA)
    median = cv2.medianBlur(small, _GLARE_WINDOW)
    return np.asarray(cv2.resize(median, (WORKING_SIZE, WORKING_SIZE), interpolation=cv2.INTER_LINEAR), np.uint8)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


@cache
def _disc() -> NDArray[np.bool_]:
    """The disc of 0.45 sides: inside the border that round dermatoscope pictures leave dark."""
    y, x = np.ogrid[:WORKING_SIZE, :WORKING_SIZE]
    middle = (WORKING_SIZE - 1) / 2
    disc: NDArray[np.bool_] = np.hypot(x - middle, y - middle) <= 0.45 * WORKING_SIZE
    disc.flags.writeable = False
    return disc

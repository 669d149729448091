"""Measures image quality: sharpness, exposure, glare, resolution, occlusion and the position of the lesion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from aiderm_core.bundle.manifest import QualityLimit
from aiderm_core.imaging.decode import QUALITY_SIDE
from aiderm_core.imaging.geometry import to_model_input
from aiderm_core.quality.artefacts import hair_cover, ink_cover, ruler_contrast
from aiderm_core.quality.lesion import find_lesion

WORKING_SIZE = QUALITY_SIDE
"""Side in pixels at which all metrics except resolution are measured, so that cameras can be compared."""

METRICS: dict[str, Literal["low", "high"]] = {
    "sharpness": "low",
    "brightness": "low",
    "contrast": "low",
    "underexposed": "high",
    "overexposed": "high",
    "glare": "high",
    "resolution": "low",
    "hair": "high",
    "ruler": "high",
    "ink": "high",
    "off_centre": "high",
}
"""Each metric and the side on which it is worse."""

ADVISORY = frozenset({"hair", "ruler", "ink", "off_centre"})
"""Metrics that only cause warnings, which help to take a better image; models are trained to cope with these flaws."""

_TEXTS = {
    "sharpness": "The picture is blurred. Hold the dermatoscope still on the skin, let the camera focus, and take it again.",
    "brightness": "The picture is very dark. Switch on the dermatoscope's light, or add light, and take it again.",
    "contrast": "The picture shows hardly any difference between light and dark. Place the lesion in the middle and focus on it.",
    "underexposed": "Much of the picture is black. Add light, and check that nothing covers the lens.",
    "overexposed": "Much of the picture is pure white. Lower the exposure or the light, and take it again.",
    "glare": "Reflections cover part of the picture. Use polarised light or a contact fluid, or tilt the light away.",
    "resolution": "The picture has few pixels. Send the original file, and bring the lesion closer so that it fills the picture.",
    "hair": "Hair lies over part of the picture. Part it or press it flat, with contact fluid if you use one, and take it again.",
    "ruler": "A ruler seems to lie in the picture. Keep it out of the part that is assessed, and take it again.",
    "ink": "Pen marks or another colour seem to lie beside the lesion. Wipe them off or keep them out, and take it again.",
    "off_centre": "The lesion lies far off the middle of the part that was assessed. Place it in the middle, and take it again.",
}

# Near-black and near-white on 0..255, as in the usual clipping checks of photography.
_NEAR_BLACK = 16
_NEAR_WHITE = 250
# A reflection is brighter than its surroundings and colourless (Arnold et al. 2010, doi:10.1155/2010/814319).
_GLARE_EXCESS = 40
_GLARE_VALUE = 180
_GLARE_SATURATION = 64
_GLARE_WINDOW = 9  # at a quarter of the working size: 36 pixels, larger than a reflection
# The square around the disc, with one more pixel on each side for the Laplacian; slicing does not copy the pixels.
_WITHIN = (slice(10, WORKING_SIZE - 10), slice(10, WORKING_SIZE - 10))
# Lower bounds for warning limits, whatever the training images show: below them nothing is hidden or, for a ruler, visible.
_FLOOR = {"hair": 0.02, "ruler": 0.08, "ink": 0.005, "off_centre": 0.15}
_SHARE_FLOOR = 0.01
# Shares of training images beyond a warning's limit. The advisory share is larger because many of those images show hair, rulers
# and ink: with a far smaller share, obvious cases would cause no warning.
_TAIL = 0.005
_ADVISORY_TAIL = 0.05
# Sharpness is a variance: half the amplitude is a quarter of it.
_REJECT_DIVISOR = {"sharpness": 4.0}


@dataclass(frozen=True)
class QualityWarning:
    """A metric beyond its limit: its name, and a sentence that says what is wrong and what to do.

    An ``advisory`` warning is only shown; any other rules out a low suspicion.
    """

    code: str
    text: str
    advisory: bool = False


def measure(
    pixels: NDArray[np.uint8], working: NDArray[np.uint8] | None = None, resolution: int | None = None
) -> dict[str, float]:
    """Measures an assessed region at a working size of 224 pixels, inside its central disc.

    The corners count only for ``ruler``: a dermatoscope's dark round border is not underexposure, and its edge is not sharpness.

    Args:
        pixels: uint8 ``[H, W, 3]`` RGB, the region already cropped.
        working: the region scaled to the working size, uint8 ``[224, 224, 3]``, if the caller has it already.
        resolution: the region's shorter side in the full-size image, if ``pixels`` were decoded at a smaller scale.

    Returns:
        For each of ``METRICS``: sharpness, variance of the Laplacian of the luminance on 0..255 (Pech-Pacheco et al. 2000,
        doi:10.1109/ICPR.2000.903548); brightness, mean luminance 0..1; contrast, root mean square contrast 0..1 (Peli
        1990, doi:10.1364/JOSAA.7.002032); underexposed, overexposed and glare, shares of the disc 0..1; resolution, the
        shorter side in pixels; hair and ink, shares of the disc and of the whole round image, and ruler, the contrast of
        evenly spaced ticks 0..1 (see ``artefacts``); off_centre, the distance of the lesion's centroid from the middle as a
        share of the side, 0 if no lesion stands out (see ``lesion``).

    Raises:
        ValueError: ``pixels`` have another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"pixels must be uint8 [H, W, 3]. Received: {pixels.dtype} {list(pixels.shape)}")
    resolution = resolution or min(pixels.shape[:2])
    square = to_model_input(pixels, WORKING_SIZE) if working is None else working
    luminance = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    within = luminance[_WITHIN]
    brightness, contrast = _mean_and_deviation(within)
    _, edges = _mean_and_deviation(cv2.Laplacian(within, cv2.CV_16S, ksize=1))
    half = cv2.resize(square, (WORKING_SIZE // 2, WORKING_SIZE // 2), interpolation=cv2.INTER_AREA)
    lesion = find_lesion(half)
    red, green, blue = (channel[_WITHIN] for channel in cv2.split(square))
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    return {
        "sharpness": edges**2,
        "brightness": brightness / 255,
        "contrast": contrast / 255,
        "underexposed": _share(brightest < _NEAR_BLACK),
        "overexposed": _share(darkest > _NEAR_WHITE),
        "glare": _glare(luminance, brightest, darkest),
        "resolution": float(resolution),
        "hair": hair_cover(luminance),
        "ruler": ruler_contrast(luminance),
        "ink": ink_cover(half, lesion),
        "off_centre": 0.0 if lesion is None else lesion.offset,
    }


def warm_up() -> None:
    """Measures a black square, so that the first image does not wait for tables that OpenCV fills at their first use.

    The tables for CIELAB colours take a tenth of a second.
    """
    square = np.zeros((WORKING_SIZE, WORKING_SIZE, 3), np.uint8)
    measure(square, square)


def warnings(measures: Mapping[str, float], limits: Mapping[str, QualityLimit]) -> tuple[QualityWarning, ...]:
    """Returns the warnings for an image with these measures, in the order of ``METRICS``."""
    known = [(metric, measures[metric], limits[metric]) for metric in METRICS if metric in measures and metric in limits]
    return tuple(
        QualityWarning(metric, _TEXTS[metric], advisory=not limit.beyond(value, limit.doubt))
        for metric, value, limit in known
        if limit.beyond(value, limit.warn)
    )


def derive_limits(samples: Sequence[Mapping[str, float]]) -> dict[str, QualityLimit]:
    """Derives limits from the measures of real training images.

    A warning is given for the worst 0.5% of the images, and it rules out a low suspicion. For sharpness, low suspicion is ruled
    out only beyond the geometric mean of the limits for warning and rejection: models trained on blurred images lose little
    before that. The limit for rejection lies far beyond all images: at half of the lowest value (sharpness, a variance: a
    quarter), or half-way between the highest share and the whole disc. Metrics that only advise (``ADVISORY``) warn for the
    worst 5%.

    Raises:
        ValueError: there are no samples, or one of them lacks a finite value for a metric.
    """
    if not samples:
        raise ValueError("limits need the measures of at least one image. Received: none")
    limits: dict[str, QualityLimit] = {}
    for metric, worse in METRICS.items():
        values = np.array([sample.get(metric, math.nan) for sample in samples], np.float64)
        if not np.isfinite(values).all():
            raise ValueError(f"every sample must hold a finite {metric}. Received: {int((~np.isfinite(values)).sum())} without")
        if metric in ADVISORY:
            warn = max(float(np.quantile(values, 1 - _ADVISORY_TAIL)), _FLOOR[metric])
            limits[metric] = QualityLimit(worse=worse, warn=_rounded(warn), doubt=None)
            continue
        if worse == "low":
            warn, reject = float(np.quantile(values, _TAIL)), float(values.min()) / _REJECT_DIVISOR.get(metric, 2.0)
        else:
            warn = max(float(np.quantile(values, 1 - _TAIL)), _SHARE_FLOOR)
            reject = (max(float(values.max()), warn) + 1) / 2
        doubt = math.sqrt(warn * reject) if metric == "sharpness" else warn
        limits[metric] = QualityLimit(worse=worse, warn=_rounded(warn), doubt=_rounded(doubt), reject=_rounded(reject))
    return limits


def _glare(luminance: NDArray[np.uint8], brightest: NDArray[np.uint8], darkest: NDArray[np.uint8]) -> float:
    """Share of the disc, 0..1, that is brighter than the local median and colourless.

    The median is computed at a quarter of the size, which takes a tenth of the time.

    Args:
        luminance: uint8 ``[224, 224]``.
        brightest, darkest: highest and lowest channel of each pixel inside ``_WITHIN``.
    """
    colourless = (cv2.subtract(brightest, darkest) < _GLARE_SATURATION) & (brightest > _GLARE_VALUE)
    if not colourless.any():
        return 0.0
    small = luminance
    for _ in range(2):  # OpenCV is fast at halving
        small = cv2.resize(small, (len(small) // 2, len(small) // 2), interpolation=cv2.INTER_AREA)
    median = cv2.medianBlur(small, _GLARE_WINDOW)
    around = cv2.resize(median, luminance.shape, interpolation=cv2.INTER_LINEAR)
    return _share((cv2.subtract(luminance, around)[_WITHIN] > _GLARE_EXCESS) & colourless)


def _mean_and_deviation(values: NDArray[np.uint8] | NDArray[np.int16]) -> tuple[float, float]:
    """Mean and standard deviation of values ``_WITHIN`` inside the disc.

    Zeroing the values outside and summing all takes a third of the time that OpenCV needs with a mask.
    """
    inside = cv2.bitwise_and(values, _disc() if values.dtype == np.uint8 else _disc_16())
    count = _disc_pixels()
    mean = cv2.sumElems(inside)[0] / count
    return mean, math.sqrt(max(0.0, cv2.norm(inside, cv2.NORM_L2SQR) / count - mean**2))


def _share(where: NDArray[np.bool_]) -> float:
    """Share of the disc, 0..1, that a mask ``_WITHIN`` covers."""
    return cv2.countNonZero(cv2.bitwise_and(where.view(np.uint8), _disc())) / _disc_pixels()


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


@cache
def _disc() -> NDArray[np.uint8]:
    """A mask ``_WITHIN``, 0 or 255, of a disc of radius 0.45 sides, inside the dark border of round dermatoscope images."""
    y, x = np.ogrid[:WORKING_SIZE, :WORKING_SIZE]
    middle = (WORKING_SIZE - 1) / 2
    disc = np.where(np.hypot(x - middle, y - middle) <= 0.45 * WORKING_SIZE, 255, 0).astype(np.uint8)[_WITHIN]
    disc.flags.writeable = False
    return disc


@cache
def _disc_16() -> NDArray[np.int16]:
    return np.where(_disc() > 0, -1, 0).astype(np.int16)


@cache
def _disc_pixels() -> int:
    return cv2.countNonZero(_disc())

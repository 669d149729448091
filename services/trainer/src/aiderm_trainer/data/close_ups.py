"""Simulates clinical close-ups from dermoscopic images: the same lesions as an ordinary camera would show them.

A clinical photograph differs from a dermoscopic image in what lies between skin and lens. The camera stands further away, so
the lesion is small and skin surrounds it; no contact fluid or polariser removes the reflections of the surface; the room's
light colours the image and falls unevenly; and the focus is often off. Real close-ups are not available, so the novelty score
learns from these. Fitting and evaluation use different skin, light and ranges, so that the evaluation does not measure the
simulator's own signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
# Linear RGB gains of common lights, relative to daylight: tungsten, warm and cold fluorescent, shade.
LIGHTS: Final = ((1.25, 1.0, 0.68), (1.12, 1.02, 0.85), (0.95, 1.05, 0.95), (0.9, 1.0, 1.15))


@dataclass(frozen=True)
class CloseUp:
    """Ranges of the simulation, each (low, high).

    Attributes:
        scale: side of the dermoscopic image in the close-up, as a share of the close-up's side.
        blur: standard deviation of the defocus, as a share of the side.
        light: strength of the light's colour: 0 is daylight, 1 is the full colour of one of ``LIGHTS``.
        relief: strength of the skin's relief, in grey levels.
        glare: a quarter of the number of highlights.
        shade: how much the light falls off across the image.
        skin: how the skin's relief is drawn: noise of several scales, or the cells between skin lines.
    """

    scale: tuple[float, float]
    blur: tuple[float, float]
    light: tuple[float, float]
    relief: tuple[float, float]
    glare: tuple[int, int]
    shade: tuple[float, float]
    skin: Literal["noise", "cells"]


FITTING: Final = CloseUp((0.2, 0.9), (0.0, 0.012), (0.0, 0.9), (3.0, 16.0), (0, 24), (0.0, 0.5), "noise")
EVALUATION: Final = CloseUp((0.25, 0.7), (0.0, 0.009), (0.2, 1.0), (4.0, 12.0), (4, 40), (0.1, 0.4), "cells")


def close_up(image: Image, rng: np.random.Generator, how: CloseUp = FITTING) -> Image:
    """Simulates one close-up.

    Args:
        image: a dermoscopic image, uint8 ``[S, S, 3]`` RGB.
        rng: source of all randomness.
        how: ranges.

    Returns:
        uint8 ``[S, S, 3]`` RGB.
    """
    side = image.shape[0]
    scene: NDArray[Any] = _from_afar(image, rng, how)
    relief = (_noise if how.skin == "noise" else _cells)(side, rng)
    scene = scene + relief[..., None] * rng.uniform(*how.relief)
    scene = scene + _highlights(relief, rng, int(rng.integers(*how.glare, endpoint=True)))[..., None]
    scene = _lit(scene, rng, how)
    if (sigma := rng.uniform(*how.blur) * side) > 0.3:
        scene = cv2.GaussianBlur(scene, (0, 0), sigma)
    scene = scene + rng.normal(0, rng.uniform(0.5, 4.0), scene.shape)
    taken = np.clip(scene, 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", taken, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)


def _from_afar(image: Image, rng: np.random.Generator, how: CloseUp) -> Floats:
    """Places the reduced lesion on plain skin of the colour that surrounds it: float32 ``[S, S, 3]``."""
    side = image.shape[0]
    small = max(24, int(side * rng.uniform(*how.scale)))
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA).astype(np.float32)
    skin = _skin_colour(image)
    # Without contact fluid the surface scatters white light, so the image is paler and the lesion contrasts less with the skin.
    pale = rng.uniform(0.05, 0.35)
    shrunk, skin = (part * (1 - pale) + 255 * pale * 0.75 for part in (shrunk, skin))
    y, x = np.mgrid[:small, :small].astype(np.float32) / max(1, small - 1) * 2 - 1
    angle = np.arctan2(y, x)
    wobble = sum(rng.normal(0, 0.05) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 5))
    edge = np.clip((rng.uniform(0.7, 0.95) + wobble - np.hypot(x, y)) / rng.uniform(0.15, 0.5) + 0.5, 0, 1)[..., None]
    out = np.full((side, side, 3), skin, np.float32)
    mottled = rng.normal(0, 5, (4, 4, 1)) + rng.normal(0, 2, (4, 4, 3))
    out += cv2.resize(mottled.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    top, left = (round(float((side - small) * np.clip(0.5 + rng.normal(0, 0.12), 0, 1))) for _ in range(2))
    window = out[top : top + small, left : left + small]
    window[:] = shrunk * edge + window * (1 - edge)
    return out


def _skin_colour(image: Image) -> Floats:
    """Median colour of the brighter part of a ring that is most likely skin; this leaves out dark corners and the lesion."""
    side = image.shape[0]
    y, x = np.mgrid[:side, :side] / (side - 1) * 2 - 1
    ring = image[(np.hypot(x, y) > 0.6) & (np.hypot(x, y) < 0.9)]
    grey = ring.mean(axis=1)
    bright = ring[(grey >= np.quantile(grey, 0.5)) & (grey <= np.quantile(grey, 0.95))]
    return np.asarray(np.median(bright if len(bright) else ring, axis=0), np.float32)


def _noise(side: int, rng: np.random.Generator) -> Floats:
    """Relief as noise of several scales, stretched along one direction as skin is: about -1 to 1."""
    total = np.zeros((side, side), np.float32)
    for cells in (side // 2, side // 4, side // 8):
        grain = rng.normal(0, 1, (cells, max(2, int(cells * rng.uniform(0.4, 1.0))))).astype(np.float32)
        total += cv2.resize(grain, (side, side), interpolation=cv2.INTER_CUBIC) * rng.uniform(0.3, 1.0)
    return _turned(total / max(1e-6, float(total.std()) * 2), rng)


def _cells(side: int, rng: np.random.Generator) -> Floats:
    """Relief as skin lines between cells (Worley noise): darker in the furrows, about -1 to 1."""
    pitch = side * rng.uniform(0.02, 0.07)
    count = max(16, int((side / pitch) ** 2))
    points = (rng.uniform(0, side, (count, 2))).astype(int)
    seeds = np.full((side, side), 255, np.uint8)
    seeds[points[:, 1], points[:, 0]] = 0
    distance = cv2.distanceTransform(seeds, cv2.DIST_L2, 3)
    relief = 1 - 2 * np.minimum(distance / (pitch * 0.9), 1.0)
    return _turned(relief.astype(np.float32), rng)


def _turned(relief: Floats, rng: np.random.Generator) -> Floats:
    side = relief.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.uniform(0, 180)), 1.45)
    return np.asarray(cv2.warpAffine(relief, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101), np.float32)


def _highlights(relief: Floats, rng: np.random.Generator, count: int) -> Floats:
    """Reflections of a lamp on the ridges of the relief, in grey levels: they gather where the surface faces the light."""
    side = relief.shape[0]
    center = rng.uniform(0.2, 0.8, 2) * side
    spread = rng.uniform(0.05, 0.25) * side
    points = np.clip(center + rng.normal(0, spread, (4 * count, 2)), 0, side - 1).astype(int)
    glints = np.zeros((side, side), np.float32)
    glints[points[:, 1], points[:, 0]] = np.maximum(relief[points[:, 1], points[:, 0]], 0) * rng.uniform(0.2, 1.0)
    sigma = rng.uniform(0.003, 0.012) * side
    glints = cv2.GaussianBlur(glints, (0, 0), sigma) * (2 * np.pi * sigma**2) * rng.uniform(40, 140)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    sheen = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * (2 * spread) ** 2))
    return np.asarray(glints + sheen * np.maximum(relief, 0) * rng.uniform(0, 40), np.float32)


def _lit(scene: Floats, rng: np.random.Generator, how: CloseUp) -> Floats:
    """Applies the light's colour, its fall-off across the image, and the exposure."""
    side = scene.shape[0]
    colour = np.array(LIGHTS[int(rng.integers(len(LIGHTS)))]) ** rng.uniform(*how.light)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side] / (side - 1) - 0.5
    fall = 1 - rng.uniform(*how.shade) * (x * np.cos(angle) + y * np.sin(angle) + 0.5)
    exposure = rng.uniform(0.75, 1.15)
    return np.asarray(scene * fall[..., None] * colour * exposure, np.float32)

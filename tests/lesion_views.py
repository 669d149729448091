"""Synthetic photographs of one lesion on the same skin: photographed again, or grown."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SAMPLES = Path(__file__).parents[1] / "frontend" / "public" / "img" / "samples"
SIDE = 448
CENTRE = np.array([224, 243])  # centre of the lesion, whose radius is about 105 pixels
Pixels = NDArray[np.uint8]


def encoded(pixels: Pixels, form: str = ".jpg") -> bytes:
    return bytes(cv2.imencode(form, pixels)[1])


def photograph(name: str, seed: int = 0) -> Pixels:
    """A synthetic lesion seen from farther away, on textured skin."""
    small = cv2.resize(cv2.imread(str(SAMPLES / f"{name}.jpg")), (336, 336), interpolation=cv2.INTER_AREA)
    framed = cv2.copyMakeBorder(small, 56, 56, 56, 56, cv2.BORDER_REFLECT_101)
    grain = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), (0, 0), 2)
    return np.clip(framed + 3 * grain[..., None] / grain.std(), 0, 255).astype(np.uint8)


def view(pixels: Pixels) -> Pixels:
    """Another photograph of the same skin: turned by 8 degrees, 4% nearer, shifted, and a little brighter."""
    matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), 8, 1.04)
    matrix[:, 2] += (9, -6)
    moved = cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.clip(moved * 1.03, 0, 255).astype(np.uint8)


def grown(pixels: Pixels, factor: float) -> Pixels:
    """The same skin with the lesion enlarged by ``factor`` in each direction; beyond 150 pixels nothing has moved."""
    offset = np.mgrid[:SIDE, :SIDE][::-1].transpose(1, 2, 0) - CENTRE
    share = np.clip((150 - np.hypot(*offset.transpose(2, 0, 1))) / 38, 0, 1)
    source = (offset * (1 + share * (1 / factor - 1))[..., None] + CENTRE).astype(np.float32)
    return cv2.remap(pixels, source, None, cv2.INTER_CUBIC)

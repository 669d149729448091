"""Converts stored samples of any colour space to 8-bit sRGB on white, band by band to avoid a second copy of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.icc import is_srgb, lab_transform, srgb_transform

_BAND_PIXELS = 1 << 18


def to_srgb(samples: NDArray[np.uint8], mode: str, profile: bytes | None, notes: list[str]) -> Pixels:
    """Converts samples to sRGB with their profile.

    Args:
        samples: uint8 ``[H, W]`` for mode L, ``[H, W, 3]`` for RGB and LAB, ``[H, W, 4]`` for CMYK; RGB may be changed in place.
        mode: Pillow's name of the mode.
        profile: an ICC profile; None: sRGB, grey with sRGB's curve, Lab, or Pillow's conversion of CMYK.
        notes: receives ``icc_converted``, ``icc_ignored`` or ``cmyk_converted``.
    """
    if profile is not None and not (mode == "RGB" and is_srgb(profile)):
        transform = srgb_transform(mode, profile)
        if transform is not None:
            notes.append("icc_converted")
            return _in_bands(samples, mode, lambda band: ImageCms.applyTransform(band, transform))
        notes.append("icc_ignored")
    if mode == "RGB":
        return samples
    if mode == "L":
        return np.asarray(cv2.cvtColor(samples, cv2.COLOR_GRAY2RGB), np.uint8)
    if mode == "LAB":
        from_lab = lab_transform()
        return _in_bands(samples, mode, lambda band: ImageCms.applyTransform(band, from_lab))
    notes.append("cmyk_converted")
    return _in_bands(samples, mode, lambda band: band.convert("RGB"))


def on_white(pixels: Pixels, alpha: NDArray[np.uint8], notes: list[str]) -> Pixels:
    """Blends ``pixels`` ``[H, W, 3]`` with white according to ``alpha`` ``[H, W]``, in place."""
    if int(alpha.min()) == 255:
        return pixels
    notes.append("alpha_flattened")
    for rows in _bands(*alpha.shape):
        opacity = alpha[rows, :, np.newaxis].astype(np.uint16)
        blended = pixels[rows] * opacity + (255 * (255 - opacity) + 128)
        pixels[rows] = ((blended >> 8) + blended) >> 8  # divides by 255, rounded
    return pixels


def from_pillow(image: Image.Image, profile: bytes | None, notes: list[str]) -> Pixels:
    """Converts an image in any Pillow mode except the 16-bit ones to sRGB on white."""
    alpha: NDArray[np.uint8] | None = None
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        samples = np.asarray(image)
        alpha, samples = samples[..., 3], np.ascontiguousarray(samples[..., :3])
        mode = "RGB"
    else:
        if image.mode not in ("L", "RGB", "CMYK", "LAB"):
            image = image.convert("RGB")
        samples, mode = np.array(image), image.mode
    pixels = to_srgb(samples, mode, profile, notes)
    return pixels if alpha is None else on_white(pixels, alpha, notes)


def _in_bands(samples: NDArray[np.uint8], mode: str, convert: Callable[[Image.Image], Any]) -> Pixels:
    height, width = samples.shape[:2]
    pixels = samples if mode == "RGB" else np.empty((height, width, 3), np.uint8)
    for rows in _bands(height, width):
        pixels[rows] = np.asarray(convert(_as_image(samples[rows], mode)))
    return pixels


def _as_image(samples: NDArray[np.uint8], mode: str) -> Image.Image:
    # Pillow keeps Lab's a and b as signed bytes in memory but with an offset in files; frombytes takes the form in memory.
    height, width = samples.shape[:2]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(samples).tobytes())


def _bands(height: int, width: int) -> Iterator[slice]:
    rows = max(1, _BAND_PIXELS // width)
    return (slice(start, start + rows) for start in range(0, height, rows))

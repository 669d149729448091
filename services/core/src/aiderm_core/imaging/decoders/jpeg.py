"""Decodes JPEG by libjpeg-turbo through simplejpeg, which reports corrupt data, unlike OpenCV and Pillow."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from aiderm_core.imaging.colour import to_srgb
from aiderm_core.imaging.errors import ImageError, truncated, undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers.jpeg import JpegHeader

_SPACES = {1: ("GRAY", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK")}
# libjpeg's warnings (jerror.h: JWRN_...) about data that are damaged or missing.
_CORRUPT = ("corrupt", "premature", "inconsistent progression", "arithmetic")


def decode(data: bytes, header: JpegHeader, scale: int, notes: list[str]) -> Pixels:
    """Decodes a JPEG at 1/``scale`` of each side.

    Raises:
        ImageError: truncated or undecodable.
    """
    space, mode = _SPACES[header.channels]
    if mode == "L" and header.profile is None:
        space, mode = "RGB", "RGB"
    samples = samples_of(data, header.width, header.height, space, scale)
    if mode == "CMYK" and header.adobe:
        np.subtract(255, samples, out=samples)
    return to_srgb(samples[..., 0] if mode == "L" else samples, mode, header.profile, notes)


def samples_of(data: bytes, width: int, height: int, space: str, scale: int = 1, name: str = "jpeg") -> NDArray[np.uint8]:
    """Samples uint8 ``[H, W, C]`` of a JPEG stream of ``width`` x ``height`` in the colour space ``space``.

    Raises:
        ImageError: truncated or undecodable.
    """
    shape = (-(-height // scale), -(-width // scale))
    refusal: ImageError
    try:
        samples = simplejpeg.decode_jpeg(
            data, space, fastdct=False, fastupsample=False, min_height=shape[0], min_width=shape[1], strict=True
        )
    except (ValueError, MemoryError) as error:
        corrupt = any(sign in str(error).lower() for sign in _CORRUPT)
        refusal = truncated(data, name) if corrupt else undecodable(data, name)
    else:
        if samples.shape[:2] == shape:
            return np.asarray(samples, np.uint8)
        refusal = undecodable(data, name)
    try:
        raise refusal
    finally:
        del refusal  # its traceback would keep this frame, and so the file, alive

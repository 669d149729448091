"""Converts colours by ICC profiles (ICC.1:2022) with Little CMS through Pillow; profiles are checked before they are read."""

from __future__ import annotations

import io
import math
import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_MAX_TAGS = 100  # real profiles hold about ten to thirty
# Largest difference, on 0..255, at which a profile counts as sRGB: rounding and the versions of sRGB differ by no more.
_SAME = 2
_CACHED_BYTES = 65_536
_D50 = np.array([0.9642, 1.0, 0.8249])
# Chromatic adaptation by Bradford's cone responses (ICC.1:2022, annex E).
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# PNG files that mean sRGB declare 1 / 2.2, because gAMA cannot describe its curve.
_SRGB_GAMMA, _SRGB_GAMMA_TOLERANCE = 0.45455, 0.01


def srgb_transform(mode: str, profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Builds the transform from Pillow mode ``mode`` (L, RGB, CMYK or LAB) with ``profile`` to sRGB; None if it is unusable."""
    if not _sound(profile):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:  # the image is usable without a broken profile; Pillow raises OSError, PyCMSError, TypeError ...
        return None


def is_srgb(profile: bytes) -> bool:
    """Whether an RGB profile gives the colours of sRGB; its values count, not its description."""
    return _is_srgb_cached(profile) if len(profile) <= _CACHED_BYTES else _is_srgb(profile)


def _is_srgb(profile: bytes) -> bool:
    transform = srgb_transform("RGB", profile)
    if transform is None:
        return False
    probe = _probe()
    converted = ImageCms.applyTransform(Image.fromarray(probe), transform)
    return converted is not None and int(np.abs(np.asarray(converted, np.int16) - probe).max()) <= _SAME


_is_srgb_cached = lru_cache(maxsize=32)(_is_srgb)


def lab_transform() -> ImageCms.ImageCmsTransform:
    """Builds the transform from CIELAB to sRGB."""
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def gamma_profile(gamma: float | None, chromaticities: tuple[float, ...] | None) -> bytes | None:
    """Builds an RGB profile from what a PNG's gAMA and cHRM declare; None if that is sRGB, or not a valid colour space.

    Args:
        gamma: exponent from light to samples, 0.45455 for a display of gamma 2.2. None: sRGB's curve.
        chromaticities: x and y of white, red, green and blue. None: those of sRGB.
    """
    if gamma is None and chromaticities is None:
        return None
    usual_gamma = gamma is None or abs(gamma - _SRGB_GAMMA) <= _SRGB_GAMMA_TOLERANCE
    points = _SRGB_CHROMATICITIES if chromaticities is None else chromaticities
    if usual_gamma and max(abs(a - b) for a, b in zip(points, _SRGB_CHROMATICITIES, strict=True)) < 0.002:
        return None
    x, y = np.array(points[::2]), np.array(points[1::2])
    if not (y > 0).all() or (gamma is not None and not 0.05 <= gamma <= 5):
        return None
    white, primaries = np.array([x[0] / y[0], 1, (1 - x[0] - y[0]) / y[0]]), np.stack([x / y, np.ones(4), (1 - x - y) / y])[:, 1:]
    try:
        scaled = primaries * np.linalg.solve(primaries, white)
    except np.linalg.LinAlgError:
        return None
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white)) @ _BRADFORD
    return _matrix_profile(adapt @ scaled, None if usual_gamma else 1 / float(gamma or 1))


def _matrix_profile(matrix: NDArray[np.float64], exponent: float | None) -> bytes:
    """Builds a version 4 display profile from the primaries' XYZ for D50 and one curve; exponent None means sRGB's curve."""

    def fixed(*values: float) -> bytes:
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    def text(words: str) -> bytes:
        body = words.encode("utf-16-be")
        return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(body), 28) + body

    if exponent is None:
        curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    else:
        curve = b"para" + bytes(4) + struct.pack(">HH", 0, 0) + fixed(exponent)
    tags = {b"desc": text("gAMA and cHRM"), b"cprt": text("none"), b"wtpt": b"XYZ " + bytes(4) + fixed(*_D50)}
    tags |= {name: b"XYZ " + bytes(4) + fixed(*matrix[:, column]) for column, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, bodies, start = b"", b"", 132 + 12 * len(tags)
    for name, body in tags.items():
        body += bytes(-len(body) % 4)
        table += struct.pack(">4sII", name, start + len(bodies), len(body))
        bodies += body
    size = start + len(bodies)
    head = struct.pack(
        ">I4sI4s4s4s12s4s4sIIIQI", size, b"lcms", 0x04000000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp", b"", 0, 0, 0, 0, 1
    )
    return head + fixed(*_D50) + bytes(48) + struct.pack(">I", len(tags)) + table + bodies


@lru_cache(maxsize=1)
def _probe() -> NDArray[np.uint8]:
    """A grid of colours over the whole RGB cube, ``[729, 1, 3]``."""
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 1, 3)


def _sound(profile: bytes) -> bool:
    """Whether all tags lie inside the profile and are as long as they declare.

    Little CMS allocates what a tag declares before it reads: 600 bytes that claim millions of entries would take 200 MB.
    """
    try:
        count = struct.unpack_from(">I", profile, 128)[0]
        if count > _MAX_TAGS:
            return False
        for number in range(count):
            _, offset, size = struct.unpack_from(">III", profile, 132 + 12 * number)
            if offset + size > len(profile) or _declared(profile[offset : offset + size]) > size:
                return False
    except (struct.error, IndexError):
        return False
    return True


def _declared(tag: bytes) -> int:
    """Bytes that a tag needs for the entries that it declares; 0 for types that declare no number."""
    kind = tag[:4]
    if kind == b"mluc":
        return 16 + 12 * int(struct.unpack_from(">I", tag, 8)[0])
    if kind == b"curv":
        return 12 + 2 * int(struct.unpack_from(">I", tag, 8)[0])
    if kind in (b"mft1", b"mft2"):
        inputs, outputs, grid = tag[8:11]
        return int((kind[3] - ord("0")) * outputs * grid ** min(inputs, 16))
    if kind in (b"mAB ", b"mBA "):
        inputs, outputs = tag[8:10]
        table = int(struct.unpack_from(">I", tag, 24)[0])
        if table:
            return table + 20 + tag[table + 16] * outputs * math.prod(tag[table : table + min(inputs, 16)])
    return 0

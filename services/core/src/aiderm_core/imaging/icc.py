"""Colour profiles (ICC.1:2022): a picture with one -> sRGB, by Little CMS through Pillow."""

from __future__ import annotations

import io
import math
import struct

from PIL import Image, ImageCms

_MAX_TAGS = 100  # real profiles hold about ten to thirty


def through_profile(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """``picture`` in sRGB; itself when its profile says that it is; None when the profile cannot be used."""
    if not _sound(profile):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if picture.mode == "RGB" and "srgb" in (source.profile.profile_description or "").lower():
            return picture
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            picture.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return ImageCms.applyTransform(picture, transform)
    except Exception:  # a broken profile must not cost the picture; Pillow raises OSError, PyCMSError, TypeError ...
        return None


def lab_to_rgb(picture: Image.Image) -> Image.Image:
    """CIELAB -> sRGB."""
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(picture, transform)
    if converted is None:
        raise ValueError("the Lab picture could not be converted")
    return converted


def _sound(profile: bytes) -> bool:
    """Whether its tags lie inside it and hold what they declare.

    Little CMS reserves what a tag declares before it reads: 600 bytes that claim millions of entries would cost 200 MB.
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
    """Bytes that a tag needs for what it declares, where that is a number that it names."""
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

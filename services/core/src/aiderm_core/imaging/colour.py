"""Any mode of a Pillow image -> 8-bit RGB in sRGB on white."""

from __future__ import annotations

import numpy as np
from PIL import Image

from aiderm_core.imaging.errors import ImageError
from aiderm_core.imaging.icc import lab_to_rgb, through_profile


def to_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Any mode -> 8-bit RGB in sRGB on white."""
    profile = image.info.get("icc_profile")
    image = _to_8_bit(image, notes)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("RGB")
    converted = through_profile(image, profile) if profile else None
    if profile and converted is not image:
        notes.append("icc_ignored" if converted is None else "icc_converted")
    if converted is None:
        if image.mode == "CMYK":
            notes.append("cmyk_converted")
        converted = lab_to_rgb(image) if image.mode == "LAB" else image.convert("RGB")
    if alpha is None or alpha.getextrema() == (255, 255):
        return converted
    notes.append("alpha_flattened")
    white = Image.new("RGB", converted.size, (255, 255, 255))
    return Image.composite(converted, white, alpha)


def _to_8_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    bits = _sample_bits(image)
    if image.mode.startswith("I;16"):
        samples = np.asarray(image)
        # Twelve-bit TIFF samples arrive unscaled in sixteen.
        samples = samples >> (bits - 8 if 8 < bits < 16 else 8)
        if _white_is_zero(image):
            samples = 255 - samples
        notes.append("reduced_to_8_bit")
        return Image.fromarray(samples.astype(np.uint8), "L")
    if image.mode in ("I", "F"):
        raise ImageError(
            "undecodable",
            f"Received samples of {bits or 32} bits in a format without a fixed range; allowed: 8 or 16 bits unsigned.",
        )
    if bits == 16:  # Pillow keeps the high byte of 16-bit RGB
        notes.append("reduced_to_8_bit")
    return image


def _sample_bits(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", None)
    if tags is not None:
        value = tags.get(258, 8)
        return int(value[0] if isinstance(value, tuple) else value)
    return 16 if image.mode.startswith("I;16") else 8


def _white_is_zero(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(262) == 0

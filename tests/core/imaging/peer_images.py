"""Generates valid images of every format and variant that Pillow and OpenCV can write; a number always gives the same file."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageCms

from aiderm_core.imaging.icc import gamma_profile

_ADOBE_RGB = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_DISPLAY_P3 = (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
_ORIENTATION = 274


@dataclass(frozen=True)
class PeerImage:
    """A file, and the pixels and options that it was made from."""

    name: str
    data: bytes
    mode: str
    profile: str


def _profiles() -> dict[str, bytes | None]:
    return {
        "none": None,
        "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "linear": gamma_profile(1.0, None),
        "gamma 1.8": gamma_profile(1 / 1.8, None),
        "Adobe RGB": gamma_profile(1 / 2.2, _ADOBE_RGB),
        "Display P3": gamma_profile(None, _DISPLAY_P3),
    }


def _pixels(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """uint8 ``[H, W, 3]`` with all levels and structure at several scales."""
    layers = [cv2.resize(rng.normal(0, 60, (n, n, 3)).astype(np.float32), (width, height)) for n in (3, 12)]
    return np.clip(128 + sum(layers) + rng.normal(0, 2, (height, width, 3)), 0, 255).astype(np.uint8)


def _format_options(choice: random.Random, image: Image.Image, form: str, mode: str) -> dict[str, Any]:
    """Options of Pillow's writers, chosen at random."""
    options: dict[str, Any] = {}
    if form == "JPEG":
        options |= {"quality": choice.randrange(60, 98), "progressive": choice.random() < 0.4}
        if mode == "RGB":
            options["subsampling"] = choice.choice([0, 1, 2])
        if choice.random() < 0.3:
            options["restart_marker_rows"] = choice.choice([1, 3])
    elif form == "WEBP":
        options |= {"lossless": True} if choice.random() < 0.5 else {"quality": choice.randrange(60, 98)}
        if choice.random() < 0.2:
            options |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}
    elif form == "GIF":
        if choice.random() < 0.5:
            options |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}
        if mode == "P" and choice.random() < 0.5:
            options["transparency"] = 1
        options["interlace"] = choice.randrange(2)
    elif form == "PNG" and mode == "P" and choice.random() < 0.5:
        options["transparency"] = 2
    elif form == "TIFF":
        compressions = ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"]
        if mode == "1":
            compressions.append("group4")
        if mode in ("RGB", "L"):
            compressions.append("jpeg")
        options |= {"compression": choice.choice(compressions), "big_tiff": choice.random() < 0.2}
        if choice.random() < 0.2:
            options |= {"save_all": True, "append_images": [image.transpose(Image.Transpose.ROTATE_180)]}
    return options


def peer_image(number: int) -> PeerImage:
    """Makes the file with this number."""
    choice = random.Random(number)
    rng = np.random.default_rng(number)
    width, height = choice.randrange(101, 260), choice.randrange(101, 260)
    rgb = Image.fromarray(_pixels(rng, width, height))
    form = choice.choice(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PNG16"])
    options: dict[str, Any] = {}
    if form == "PNG16":
        deep = np.asarray(rgb).astype(np.uint16) * 257 + rng.integers(0, 120, (height, width, 3), np.uint16)
        channels = choice.choice([1, 3])
        done, encoded = cv2.imencode(".png", np.minimum(deep, 65535)[..., :channels].astype(np.uint16))
        assert done
        return PeerImage(
            f"{number}: PNG of 16 bits, {channels} channel(s)", encoded.tobytes(), "I;16" if channels == 1 else "RGB", "none"
        )
    modes = {
        "JPEG": ["RGB", "RGB", "L", "CMYK"],
        "PNG": ["RGB", "RGB", "L", "RGBA", "LA", "P", "1"],
        "WEBP": ["RGB", "RGBA"],
        "GIF": ["P", "L"],
        "BMP": ["RGB", "P", "L", "1"],
        "TIFF": ["RGB", "RGB", "L", "RGBA", "P", "1", "CMYK", "LAB"],
    }
    mode = choice.choice(modes[form])
    image = rgb.quantize(choice.choice([16, 200])) if mode == "P" else rgb.convert("RGBA" if mode == "LA" else mode)
    if mode in ("RGBA", "LA"):
        opacity = cv2.resize(rng.integers(0, 256, (4, 4), np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
        image.putalpha(Image.fromarray(opacity))
        image = image.convert(mode)
    profile = "none"
    if form != "GIF" and form != "BMP" and mode in ("RGB", "RGBA"):
        profile = choice.choice(list(_profiles()))
        if (icc := _profiles()[profile]) is not None:
            options["icc_profile"] = icc
    orientation = choice.choice([1, 1, *range(1, 9)]) if form in ("JPEG", "PNG", "WEBP", "TIFF") else 1
    if orientation != 1:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        options["exif"] = exif.tobytes()
    options |= _format_options(choice, image, form, mode)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    written = {key: value for key, value in options.items() if key not in ("icc_profile", "exif", "append_images")}
    return PeerImage(
        f"{number}: {form} {mode}, profile {profile}, orientation {orientation}, {written}",
        buffer.getvalue(),
        mode,
        profile,
    )

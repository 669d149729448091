"""PNG: OpenCV where it is exact, Pillow for the rest. Only the chunks of pixels reach a decoder."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import PngImagePlugin

from aiderm_core.imaging.colour import from_pillow, on_white, to_srgb
from aiderm_core.imaging.decoders.pillow import refusing, to_8_bit
from aiderm_core.imaging.errors import undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers.png import GREY, PALETTE, RGB, RGBA, SIGNATURE, PngHeader
from aiderm_core.imaging.icc import gamma_profile


def decode(data: bytes, header: PngHeader, notes: list[str]) -> Pixels:
    """Decodes the image that every viewer shows, also of an animated file.

    Raises:
        ImageError: truncated or undecodable.
    """
    if header.more_frames:
        notes.append("first_frame")
    if header.bad_profile:
        notes.append("icc_ignored")
    profile = header.profile or gamma_profile(header.gamma, header.chromaticities)
    # Neither compressed texts nor profiles nor further frames are unpacked by a decoder.
    plain = data if header.only_pixels else SIGNATURE + b"".join(data[at : at + size] for at, size in header.pixels)
    if header.bits == 8 and not header.transparent and header.colour in (GREY, RGB, PALETTE, RGBA):
        return _decode_common(plain, header, profile, notes)
    with refusing(data, "png"), PngImagePlugin.PngImageFile(io.BytesIO(plain)) as image:
        image.load()
        return from_pillow(to_8_bit(image, 16 if image.mode.startswith("I;16") else 8, notes), profile, notes)


def _decode_common(data: bytes, header: PngHeader, profile: bytes | None, notes: list[str]) -> Pixels:
    flag = {GREY: cv2.IMREAD_GRAYSCALE, RGBA: cv2.IMREAD_UNCHANGED}.get(header.colour, cv2.IMREAD_COLOR_RGB)
    samples = imdecode(data, flag)
    channels = {GREY: 1, RGBA: 4}.get(header.colour, 3)
    if samples is None or samples.size != header.width * header.height * channels:
        raise undecodable(data, "png")
    if header.colour == GREY:
        return to_srgb(samples, "L", profile, notes)
    if header.colour != RGBA:
        return to_srgb(samples, "RGB", profile, notes)
    alpha = samples[..., 3]
    return on_white(to_srgb(np.asarray(cv2.cvtColor(samples, cv2.COLOR_BGRA2RGB), np.uint8), "RGB", profile, notes), alpha, notes)


def imdecode(data: bytes, flag: int) -> Pixels | None:
    """OpenCV's decoder without its exceptions: None for whatever it refuses."""
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except (cv2.error, MemoryError):
        return None

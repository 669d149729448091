"""Decodes WebP by libwebp through OpenCV: only the first frame, and only if it is complete."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from aiderm_core.imaging.colour import on_white, to_srgb
from aiderm_core.imaging.decoders.png import imdecode
from aiderm_core.imaging.errors import truncated, undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers.webp import WebpHeader

# A frame without its last bytes must not decode; if it does, damage has shifted the meaning of the bytes before them.
_TAIL = 16


def decode(data: bytes, header: WebpHeader, notes: list[str]) -> Pixels:
    """Decodes the first frame, placed on its canvas.

    WebP has no checksums. Damaged data still decode to the full number of pixels, but from more or fewer bytes. So a frame is
    accepted only if decoding needs its last bytes.

    Raises:
        ImageError: truncated or undecodable.
    """
    if header.more_frames:
        notes.append("first_frame")
    view = memoryview(data)
    image, alpha = (view[at : at + size] for at, size in (header.image, header.alpha))
    # Tiny frames have a single colour, so damage cannot go unnoticed.
    whole = len(image) <= 2 * _TAIL or imdecode(_still(header, image[:-_TAIL], alpha), cv2.IMREAD_COLOR_RGB) is None
    flag = cv2.IMREAD_UNCHANGED if header.channels == 4 else cv2.IMREAD_COLOR_RGB
    samples = imdecode(_still(header, image, alpha), flag) if whole else None
    if samples is None:
        raise truncated(data, "webp")
    if samples.shape[:2] != (header.frame_height, header.frame_width):
        raise undecodable(data, "webp")
    if header.channels == 3:
        return to_srgb(samples, "RGB", header.profile, notes)
    if samples.shape[2] == 3:
        samples = np.asarray(cv2.cvtColor(samples, cv2.COLOR_BGR2BGRA), np.uint8)
    if samples.shape[:2] != (header.height, header.width):
        canvas = np.zeros((header.height, header.width, 4), np.uint8)
        canvas[header.top : header.top + header.frame_height, header.left : header.left + header.frame_width] = samples
        samples = canvas
    pixels = np.asarray(cv2.cvtColor(samples, cv2.COLOR_BGRA2RGB), np.uint8)
    return on_white(to_srgb(pixels, "RGB", header.profile, notes), samples[..., 3], notes)


def _still(header: WebpHeader, image: memoryview, alpha: memoryview) -> bytes:
    """Builds a file of the first frame only."""
    parts: list[bytes | memoryview] = [*_chunk(b"VP8L" if header.lossless else b"VP8 ", image)]
    if alpha:
        size = (header.frame_width - 1).to_bytes(3, "little") + (header.frame_height - 1).to_bytes(3, "little")
        parts = [*_chunk(b"VP8X", memoryview(b"\x10\0\0\0" + size)), *_chunk(b"ALPH", alpha), *parts]
    # Joined only once, because a file may have 20 MB.
    return b"".join([b"RIFF", struct.pack("<I", 4 + sum(map(len, parts))), b"WEBP", *parts])


def _chunk(kind: bytes, body: memoryview) -> tuple[bytes, bytes, memoryview, bytes]:
    return kind, struct.pack("<I", len(body)), body, bytes(len(body) % 2)

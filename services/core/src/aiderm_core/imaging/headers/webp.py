"""Reads WebP headers (RFC 9649): the chunks of the RIFF container, and the first frame's size."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from aiderm_core.imaging.headers.exif import exif_orientation
from aiderm_core.imaging.headers.model import MAX_SEGMENTS, Header, HeaderError

_ANIMATED, _ALPHA = 0x02, 0x10


@dataclass(frozen=True)
class WebpHeader(Header):
    """A WebP file.

    Attributes:
        image: offset and length of the body of the first frame's chunk ``VP8 `` or ``VP8L``.
        lossless: that chunk is ``VP8L``.
        alpha: offset and length of the body of the frame's chunk ``ALPH``; (0, 0) if unused or absent.
        left, top, frame_width, frame_height: position and size of the first frame on the canvas.
    """

    image: tuple[int, int] = (0, 0)
    lossless: bool = False
    alpha: tuple[int, int] = (0, 0)
    left: int = 0
    top: int = 0
    frame_width: int = 0
    frame_height: int = 0


def read(data: bytes) -> WebpHeader:
    """Reads a WebP file's chunks; raises HeaderError if they break the format."""
    end = struct.unpack_from("<I", data, 4)[0] + 8
    complete = end <= len(data)
    end = min(end, len(data))
    canvas: tuple[int, int] | None = None
    alpha, image, lossless, position, frames = (0, 0), (0, 0), False, (0, 0), 0
    exif: list[bytes] = []
    profile: bytes | None = None
    for kind, start, length in _chunks(data, 12, end):
        if kind == b"VP8X":
            width, height = (int.from_bytes(data[start + at : start + at + 3], "little") + 1 for at in (4, 7))
            if length < 10 or start + 10 > len(data):
                raise HeaderError("The WebP file ends inside its header.", truncated=True)
            canvas = (width, height)
        elif kind == b"ANMF":
            frames += 1
            if frames == 1:
                left, top = (2 * int.from_bytes(data[start + at : start + at + 3], "little") for at in (0, 3))
                position = (left, top)
                for inner, inside, size in _chunks(data, start + 16, min(start + length, end)):
                    if inner == b"ALPH" and not image[1]:
                        alpha = (inside, size)
                    elif inner in (b"VP8 ", b"VP8L") and not image[1]:
                        image, lossless = (inside, size), inner == b"VP8L"
        elif kind == b"ALPH" and not image[1]:
            alpha = (start, length)
        elif kind in (b"VP8 ", b"VP8L") and not image[1]:
            image, lossless = (start, length), kind == b"VP8L"
        elif kind == b"EXIF":
            exif.append(data[start : start + length])
        elif kind == b"ICCP" and profile is None:
            profile = data[start : start + length]
    if not image[1]:
        if canvas is None:
            raise HeaderError("The WebP file holds no image where it should.", truncated=not complete or len(data) < 16)
        return WebpHeader(*canvas, complete=False)
    frame = _lossless_size(data, image[0]) if lossless else _lossy_size(data, image[0])
    canvas = canvas or frame
    if position[0] + frame[0] > canvas[0] or position[1] + frame[1] > canvas[1]:
        raise HeaderError(
            f"The WebP file's frame of {frame[0]} x {frame[1]} pixels leaves its canvas of {canvas[0]} x {canvas[1]}."
        )
    complete &= image[0] + image[1] <= len(data)
    has_alpha = alpha[1] > 0 or (lossless and bool(data[image[0] + 4] & 0x10)) or frame != canvas
    return WebpHeader(
        *canvas, exif_orientation(exif), channels=4 if has_alpha else 3, profile=profile, complete=complete,
        more_frames=frames > 1,
        image=image, lossless=lossless, alpha=alpha if not lossless else (0, 0), left=position[0], top=position[1],
        frame_width=frame[0], frame_height=frame[1],
    )  # fmt: skip


def _chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields type, offset and length of the bodies of the chunks between ``at`` and ``end``."""
    for _ in range(MAX_SEGMENTS):
        if at + 8 > end:
            return
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, length
        at += 8 + length + length % 2
    raise HeaderError(f"The WebP file holds more than {MAX_SEGMENTS} chunks.")


def _lossless_size(data: bytes, at: int) -> tuple[int, int]:
    if data[at] != 0x2F:
        raise HeaderError("The WebP file's lossless image does not begin as one.", truncated=True)
    bits = struct.unpack_from("<I", data, at + 1)[0]
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _lossy_size(data: bytes, at: int) -> tuple[int, int]:
    if data[at + 3 : at + 6] != b"\x9d\x01\x2a":
        raise HeaderError("The WebP file's image does not begin as one.", truncated=True)
    width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, at + 6))
    return width, height

"""Reads GIF headers (GIF89a specification): the screen and the blocks up to the end of the first frame."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from aiderm_core.imaging.headers.model import MAX_SEGMENTS, Header, HeaderError

_EXTENSION, _FRAME, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9


@dataclass(frozen=True)
class GifHeader(Header):
    """A GIF file.

    Attributes:
        control: offset and length of the first frame's graphic control extension; (0, 0) without one.
        frame: offset and length of the first frame, from its descriptor to the end of its data.
        left, top, frame_width, frame_height: position and size of the first frame on the screen.
        code_bits: LZW minimum code size.
        codes: offset and length of each sub-block of the first frame's data.
        palette_end: offset after the global palette.
    """

    control: tuple[int, int] = (0, 0)
    frame: tuple[int, int] = (0, 0)
    left: int = 0
    top: int = 0
    frame_width: int = 0
    frame_height: int = 0
    code_bits: int = 8
    codes: tuple[tuple[int, int], ...] = ()
    palette_end: int = 13


def read(data: bytes) -> GifHeader:
    """Reads a GIF file up to the end of its first frame; raises HeaderError if it breaks the format."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    if width <= 0 or height <= 0:
        raise HeaderError(f"The GIF header declares {width} x {height} pixels.")
    at = palette_end = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    control = (0, 0)
    blocks = 0
    while True:
        kind = data[at]
        if kind == _FRAME:
            break
        if kind != _EXTENSION:
            raise HeaderError("The GIF file holds no frame.", truncated=kind == _TRAILER)
        start, label, at = at, data[at + 1], at + 2
        while data[at]:
            at += 1 + data[at]
            blocks += 1
            if blocks > MAX_SEGMENTS:
                raise HeaderError(f"The GIF file holds more than {MAX_SEGMENTS} blocks before its first frame.")
        at += 1
        if label == _GRAPHIC_CONTROL:
            control = (start, at - start)
    start = at
    left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, at + 1)
    if left + frame_width > width or top + frame_height > height or frame_width < 1 or frame_height < 1:
        raise HeaderError(
            f"The GIF file's first frame of {frame_width} x {frame_height} pixels leaves its {width} x {height}.",
            size=(frame_width, frame_height),
        )
    at += 10 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    code_bits = data[at]
    at += 1
    # Codes take at most 12 bits per pixel, in blocks of 255 bytes; some encoders write shorter blocks.
    most_blocks, most_bytes = 1000 + frame_width * frame_height // 32, 10_000 + 2 * frame_width * frame_height
    codes: list[tuple[int, int]] = []
    held = 0
    while data[at]:
        codes.append((at + 1, data[at]))
        held += data[at]
        at += 1 + data[at]
        if len(codes) > most_blocks or held > most_bytes:
            raise HeaderError("The GIF file's first frame holds more data than its size implies.")
    end = at + 1
    return GifHeader(
        width, height, channels=1, more_frames=_another_frame(data, end), control=control, frame=(start, end - start), left=left,
        top=top, frame_width=frame_width, frame_height=frame_height, code_bits=code_bits, codes=tuple(codes),
        palette_end=palette_end,
    )  # fmt: skip


def _another_frame(data: bytes, at: int) -> bool:
    """Whether a frame follows ``at``, after at most ``MAX_SEGMENTS`` steps through extensions."""
    inside = False  # inside an extension, whose sub-blocks end with an empty one
    try:
        for _ in range(MAX_SEGMENTS):
            if inside:
                inside = data[at] != 0
                at += 1 + data[at]
            elif data[at] == _EXTENSION:
                inside = True
                at += 2
            else:
                return data[at] == _FRAME
    except IndexError:
        pass
    return False

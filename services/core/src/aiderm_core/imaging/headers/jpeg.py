"""Reads JPEG headers (ITU-T T.81): the segments before and between the scans."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from aiderm_core.imaging.headers.exif import PREFIX, exif_orientation
from aiderm_core.imaging.headers.model import MAX_SEGMENTS, Header, HeaderError

# In entropy-coded data 0xff is followed by a stuffed zero or a restart marker; anything else is the next marker.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_MARKER_AFTER_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
# Each scan of a progressive JPEG costs a pass over all pixels; encoders write about ten.
_MAX_SCANS = 32
# About one byte in 256 of entropy-coded data is 0xff, and restart markers are few; each is a step of the search below.
_MAX_MARKER_BYTES = 2_000_000
# AC scans of a progressive JPEG code empty blocks as runs, so a stretch of zeros means that part of the file was lost.
_ZEROS = bytes(64)
_PROFILE = b"ICC_PROFILE\x00"


@dataclass(frozen=True)
class JpegHeader(Header):
    """A JPEG file.

    Attributes:
        scans: number of passes over the pixels; with several, all coefficients stay in memory during decoding.
        adobe: the file has Adobe's marker; Adobe stores inks inverted.
    """

    scans: int = 1
    adobe: bool = False


def read(data: bytes) -> JpegHeader:
    """Reads a JPEG file's header; raises HeaderError if it breaks the format."""
    width = height = 0
    scans, complete, adobe = 0, False, False
    precision, components = 8, 3
    exif: list[bytes] = []
    profile: dict[int, bytes] = {}
    refining: int | None = None  # offset of the data of an AC scan
    for marker, body, end in _segments(data):
        if refining is not None and data.find(_ZEROS, refining, end) >= 0:
            raise HeaderError("The JPEG file holds a block of zeros in place of details.", truncated=True)
        refining = end if marker == 0xDA and len(body) >= 3 and body[-3] > 0 else None
        if marker in _FRAMES:
            if width:
                raise HeaderError("The JPEG file declares its size twice.")
            precision, height, width, components = struct.unpack_from(">BHHB", body)
        elif marker == 0xE1 and body.startswith(PREFIX):
            exif.append(body)
        elif marker == 0xE2 and body.startswith(_PROFILE) and len(body) > 14:
            profile.setdefault(body[12], body[14:])
        elif marker == 0xEE and body.startswith(b"Adobe"):
            adobe = True
        elif marker == 0xDA:
            scans += 1
            if not width:
                raise HeaderError("The JPEG file holds pixels before it declares their number.")
            if scans > _MAX_SCANS:
                raise HeaderError(f"The JPEG file holds more than {_MAX_SCANS} scans.")
        elif marker == 0xD9:
            complete = scans > 0
    if not width:
        raise HeaderError("The JPEG file ends before it declares its size.", truncated=True)
    if precision != 8 or components not in (1, 3, 4):
        raise HeaderError(f"The JPEG file has {components} components of {precision} bits; allowed: 1, 3 or 4 of 8 bits.")
    joined = b"".join(profile[number] for number in sorted(profile)) or None
    return JpegHeader(
        width, height, exif_orientation(exif), components, precision, joined, complete=complete, scans=scans, adobe=adobe
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yields marker, body and end of each segment up to the end of the image, in the way a JPEG decoder finds them."""
    at, pattern = 2, _MARKER
    if len(data) > _MAX_MARKER_BYTES and data.count(0xFF) > _MAX_MARKER_BYTES:
        raise HeaderError(f"The JPEG file holds more than {_MAX_MARKER_BYTES:,} bytes that begin markers.")
    for _ in range(MAX_SEGMENTS):
        found = pattern.search(data, at)
        if not found:
            return
        marker, at, pattern = found[1][0], found.end(), _MARKER
        if marker == 0xD9:
            yield marker, b"", at
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        if marker == 0xD8:
            raise HeaderError("The JPEG file begins a second time inside itself.")
        if at + 2 > len(data):
            return
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2:
            raise HeaderError("The JPEG file holds a segment without a length.")
        yield marker, data[at + 2 : at + length], at + length
        at += length
        if marker == 0xDA:
            pattern = _MARKER_AFTER_SCAN
    raise HeaderError(f"The JPEG file holds more than {MAX_SEGMENTS} segments.")

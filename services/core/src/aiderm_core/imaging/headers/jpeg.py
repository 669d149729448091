"""JPEG headers (ITU-T T.81): the segments before and between the scans."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from aiderm_core.imaging.headers.model import MAX_SEGMENTS, Header, HeaderError
from aiderm_core.imaging.headers.tiff import tiff_orientation

# In entropy-coded data 0xff is followed by a stuffed zero or a restart marker; anything else is the next marker.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])")
_JPEG_MARKER_AFTER_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
# Each scan of a progressive JPEG costs a pass over all pixels; encoders write about ten.
_MAX_JPEG_SCANS = 32


def read(data: bytes) -> Header:
    """Reads a JPEG file's header; HeaderError where it breaks the format."""
    width = height = 0
    orientation, scans, complete = 1, 0, False
    precision, components, profile, odd_colours = 8, 3, False, False
    for marker, body in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            if width:
                raise HeaderError("The JPEG file declares its size twice.")
            precision, height, width, components = struct.unpack_from(">BHHB", body)
        elif marker == 0xE1 and body.startswith(b"Exif\x00\x00"):
            orientation = tiff_orientation(body)
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\x00"):
            profile = True
        elif marker == 0xEE and body.startswith(b"Adobe"):
            odd_colours = components not in (1, 3)
        elif marker == 0xDA:
            scans += 1
            if not width:
                raise HeaderError("The JPEG file holds pixels before it declares their number.")
            if scans > _MAX_JPEG_SCANS:
                raise HeaderError(f"The JPEG file holds more than {_MAX_JPEG_SCANS} scans.")
        elif marker == 0xD9:
            complete = scans > 0
    if not width:
        raise HeaderError("The JPEG file ends before it declares its size.", truncated=True)
    plain = precision == 8 and components in (1, 3) and not profile and not odd_colours
    return Header(
        width, height, orientation, channels=components, bits=precision, progressive=scans > 1, plain=plain, complete=complete
    )


_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields marker and body of each segment up to the end of the image, as a JPEG decoder walks them."""
    at, pattern = 2, _JPEG_MARKER
    for _ in range(MAX_SEGMENTS):
        found = pattern.search(data, at)
        if not found:
            return
        marker, at, pattern = found[1][0], found.end(), _JPEG_MARKER
        if marker == 0xD9:
            yield marker, b""
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
        yield marker, data[at + 2 : at + length]
        at += length
        if marker == 0xDA:
            pattern = _JPEG_MARKER_AFTER_SCAN
    raise HeaderError(f"The JPEG file holds more than {MAX_SEGMENTS} segments.")

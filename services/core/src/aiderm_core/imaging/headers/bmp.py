"""BMP headers: BITMAPCOREHEADER, and BITMAPINFOHEADER with its later versions."""

from __future__ import annotations

import struct

from aiderm_core.imaging.headers.model import Header


def read(data: bytes) -> Header:
    """Reads a BMP file's header; HeaderError where it breaks the format."""
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header(width, abs(height))  # negative: rows from top to bottom

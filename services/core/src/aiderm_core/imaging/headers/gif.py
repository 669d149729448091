"""GIF headers (GIF89a specification): the screen and the blocks before the first frame."""

from __future__ import annotations

import struct

from aiderm_core.imaging.headers.model import Header


def read(data: bytes) -> Header:
    """Reads a GIF file's header; HeaderError where it breaks the format."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    palette = 3 << (flags & 7) + 1 if flags & 0x80 else 0
    return Header(width, height, complete=len(data) > 13 + palette)

"""WebP headers (RFC 9649): the chunks of the RIFF container."""

from __future__ import annotations

import struct

from aiderm_core.imaging.headers.model import Header, HeaderError


def read(data: bytes) -> Header:
    """Reads a WebP file's header; HeaderError where it breaks the format."""
    complete = struct.unpack_from("<I", data, 4)[0] + 8 <= len(data)
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        if len(data) < 30:
            raise HeaderError("The WebP file ends inside its header.", truncated=True)
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise HeaderError("The WebP file holds no picture where it should.", truncated=len(data) < 16)
    return Header(width, height, complete=complete)

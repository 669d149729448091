"""PNG headers (PNG specification, third edition): the chunks around the pixels."""

from __future__ import annotations

import struct

from aiderm_core.imaging.headers.model import MAX_SEGMENTS, Header, HeaderError

# Samples of a pixel by colour type: grey, RGB, palette, grey and alpha, RGB and alpha.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def read(data: bytes) -> Header:
    """Reads a PNG file's header; HeaderError where it breaks the format."""
    if data[12:16] != b"IHDR":
        raise HeaderError("The PNG file does not begin with its size.", truncated=len(data) < 16)
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if colour not in _CHANNELS:
        raise HeaderError(f"The PNG file declares colour type {colour}.")
    at = 8
    for _ in range(MAX_SEGMENTS):
        if data[at + 4 : at + 8] == b"IEND":
            return Header(width, height, channels=_CHANNELS[colour], bits=bits)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
        if at >= len(data):
            return Header(width, height, channels=_CHANNELS[colour], bits=bits, complete=False)
    raise HeaderError(f"The PNG file holds more than {MAX_SEGMENTS} chunks.")

"""Decodes GIF: gives Pillow a file of the first frame only, after checking that its codes yield exactly its pixels."""

from __future__ import annotations

import io

from PIL import GifImagePlugin

from aiderm_core.imaging.colour import from_pillow
from aiderm_core.imaging.decoders.lzw import unpacked_length
from aiderm_core.imaging.decoders.pillow import refusing
from aiderm_core.imaging.errors import truncated, undecodable
from aiderm_core.imaging.geometry import Pixels
from aiderm_core.imaging.headers.gif import GifHeader


def decode(data: bytes, header: GifHeader, notes: list[str]) -> Pixels:
    """Decodes the first frame, placed on its screen.

    Raises:
        ImageError: truncated or undecodable.
    """
    if header.more_frames:
        notes.append("first_frame")
    codes = b"".join(data[at : at + size] for at, size in header.codes)
    pixels = header.frame_width * header.frame_height
    if not 1 <= header.code_bits <= 8:
        raise undecodable(data, "gif")
    try:
        found = unpacked_length(codes, header.code_bits, tiff=False, most=pixels)
    except ValueError:
        raise truncated(data, "gif") from None
    # Some encoders leave out the end code, so it is not required; damaged data yield more or fewer pixels.
    if found != pixels:
        raise truncated(data, "gif")
    parts = (header.control, header.frame)
    plain = data[: header.palette_end] + b"".join(data[at : at + size] for at, size in parts) + b";"
    with refusing(data, "gif"), GifImagePlugin.GifImageFile(io.BytesIO(plain)) as image:
        image.load()
        return from_pillow(image, None, notes)

"""Reads image headers without decoding a pixel."""

from __future__ import annotations

from aiderm_core.imaging.headers import bmp, dicom, gif, jpeg, png, tiff, webp
from aiderm_core.imaging.headers.model import BEYOND_THE_END, Header, HeaderError

__all__ = ["Header", "HeaderError", "read_header"]

_READERS = {
    "jpeg": jpeg.read,
    "png": png.read,
    "gif": gif.read,
    "bmp": bmp.read,
    "webp": webp.read,
    "tiff": tiff.read,
    "dicom": dicom.read,
}


def read_header(data: bytes, name: str) -> Header:
    """Reads what the header of a file of format ``name`` declares.

    Raises:
        HeaderError: the header breaks its format or is cut off.
    """
    try:
        header = _READERS[name](data)
    except BEYOND_THE_END as error:
        raise HeaderError(f"The {name.upper()} file ends inside its header.", truncated=True) from error
    if header.width <= 0 or header.height <= 0:
        raise HeaderError(f"The {name.upper()} header declares {header.width} x {header.height} pixels.")
    return header
